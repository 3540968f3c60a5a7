"""Deliveries and withdrawals over the wire: what collectors send is stored whole, once, or not at all."""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from platforms import (
    BIN,
    Done,
    LivePlatform,
    Row,
    advertiser,
    assertion,
    first_line,
    grants,
    operator,
    program,
    write_csv,
)
from raw_client import RawClient, connected, fails, issued, load
from signed import add_issuer, batch_rows, signed_rows

from purposematch.client import deliver
from purposematch.client import delivery as delivery_module
from purposematch.protocol.delivery import COLUMNS, MAX_CELL_BYTES
from purposematch.protocol.errors import InputError, NotAuthorizedError, UnavailableError
from purposematch.server import enrollment_service
from purposematch.server.pki import Role
from purposematch.v1 import enrollment_pb2 as v1

INVALID = grpc.StatusCode.INVALID_ARGUMENT
REFUSED = grpc.StatusCode.FAILED_PRECONDITION
COLLECTOR = "signup-app"


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(tmp_path_factory.mktemp("village"))
    permit(platform, COLLECTOR, "signup", "two_factor")
    platform.enroll(grants(5))
    platform.publish()
    with platform.serving():
        yield platform


def permit(platform: LivePlatform, source: str, *origins: str) -> None:
    policy = platform.data_dir / "policy.toml"
    policy.write_text(
        policy.read_text().replace("[sources]\n", f"[sources]\n{source} = {json.dumps(origins)}\n")
    )


@pytest.fixture(scope="module")
def collector(village: LivePlatform) -> Path:
    """The credentials of a collector."""
    out = village.folder / COLLECTOR
    added = operator(
        "collector", "add", COLLECTOR, "--data-dir", village.data_dir, "--out", out, "--json"
    ).document
    assert added["origins"] == ["signup", "two_factor"]
    return out


@pytest.fixture(scope="module")
def raw(village: LivePlatform) -> Iterator[RawClient]:
    """The same collector, message by message."""
    with connected(
        village.address, load(village.admit("acme")), issued(village, Role.COLLECTOR, COLLECTOR)
    ) as one:
        yield one


@pytest.fixture
def before(village: LivePlatform) -> int:
    return stored(village)


def stored(platform: LivePlatform) -> int:
    """How many assertions there are."""
    ((count,),) = platform.rows("SELECT coalesce(sum(assertions), 0) FROM delivery")
    return int(count)


def send(platform: LivePlatform, file: Path | str, credentials: Path, *options: str, **how: Any) -> Done:
    return advertiser(
        "deliver",
        file,
        "--platform",
        platform.address,
        "--credentials",
        credentials,
        "--json",
        *options,
        **how,
    )


def header(number: int = 0, **more: Any) -> v1.EnrollRequest:
    return v1.EnrollRequest(
        header=v1.DeliveryHeader(
            delivery_id=os.urandom(16) if not number else number.to_bytes(16, "big"), **more
        )
    )


def rows(said: Sequence[Row], columns: Sequence[str] = COLUMNS) -> v1.EnrollRequest:
    cells = [v1.Column(name=name, cells=[row[name] for row in said]) for name in columns]
    return v1.EnrollRequest(rows=v1.Rows(columns=cells))


def end(count: int) -> v1.EnrollRequest:
    return v1.EnrollRequest(end=v1.DeliveryEnd(rows=count))


def enroll(client: RawClient, *messages: v1.EnrollRequest) -> v1.EnrollResponse:
    answer: v1.EnrollResponse = client.enrollment.Enroll(iter(messages), timeout=60)
    return answer


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", "stdin", "stdin-parquet"])
def test_every_kind_of_file_is_delivered(
    village: LivePlatform, collector: Path, before: int, tmp_path: Path, suffix: str
) -> None:
    said = [
        *grants(3, first=100),
        assertion("tf", "phone", "+15551234567", "two_factor"),
        assertion("x", "email", "?"),
    ]
    table = pa.table({name: [row[name] for row in said] for name in COLUMNS}).append_column(
        "city", pa.array(["x"] * 5)
    )
    file = tmp_path / f"accounts{suffix}"
    if "parquet" in suffix:
        pq.write_table(table, file)
    else:
        delimiter = "\t" if suffix == ".tsv" else ","
        pa_csv.write_csv(table, file, pa_csv.WriteOptions(delimiter=delimiter))
    arguments = ("--platform", village.address, "--credentials", collector, "--json")
    if suffix.startswith("stdin"):
        done = program("purposematch", "deliver", "-", *arguments, stdin=file.read_bytes())
    else:
        done = advertiser("deliver", file, *arguments)
    report = done.document
    assert len(bytes.fromhex(report.pop("delivery_id"))) == 16
    assert report == {
        "read": 5,
        "enrolled": 3,
        "refused": {"INVALID_IDENTIFIER": 1, "ORIGIN_NOT_PERMITTED": 1},
    }
    assert stored(village) == before + 5
    ((source,),) = village.rows("SELECT source FROM delivery ORDER BY id DESC LIMIT 1")
    assert source == COLLECTOR


def test_a_large_file_goes_in_many_messages(
    village: LivePlatform, collector: Path, before: int, tmp_path: Path
) -> None:
    long = "n" * MAX_CELL_BYTES
    said = [assertion(f"l{i}", "email", f"l{i}@example.com", notice_id=long) for i in range(6_000)]
    done = send(village, write_csv(tmp_path / "large.csv", said), collector)
    assert done.document["enrolled"] == 6_000
    assert stored(village) == before + 6_000


def test_a_source_that_the_policy_does_not_list_permits_nothing(
    village: LivePlatform, tmp_path: Path
) -> None:
    out = tmp_path / "stranger"
    added = operator(
        "collector", "add", "stranger", "--data-dir", village.data_dir, "--out", out, "--json"
    ).document
    assert added["origins"] == []
    done = send(village, write_csv(tmp_path / "a.csv", grants(2, first=400)), out)
    assert done.document["refused"] == {"SOURCE_NOT_PERMITTED": 2}


def test_the_source_of_files_without_one_is_nobodys_name(
    village: LivePlatform, raw: RawClient, tmp_path: Path
) -> None:
    done = operator("collector", "add", "default", "--data-dir", village.data_dir, "--out", tmp_path / "x")
    assert done.code == 1
    assert "another name" in done.stderr
    shown = issued(village, Role.COLLECTOR, "default")
    with (
        connected(village.address, raw.credentials, shown) as other,
        fails(grpc.StatusCode.PERMISSION_DENIED),
    ):
        enroll(other, header(), rows(grants(1)), end(1))


def test_a_delivery_is_stored_once_however_often_it_is_sent(
    village: LivePlatform, raw: RawClient, before: int
) -> None:
    said = grants(4, first=500)
    first = enroll(raw, header(1), rows(said), end(4))
    # Cut into other messages, it is the same delivery.
    again = enroll(raw, header(1), rows(said[:1]), rows(said[1:]), end(4))
    assert first == again
    assert (again.read, again.enrolled) == (4, 4)
    assert stored(village) == before + 4
    for other in (
        (header(1), rows(grants(4, first=501)), end(4)),
        (header(1), rows(said[:3]), end(3)),
        (header(1, region="DE"), rows(said), end(4)),
    ):
        with fails(REFUSED) as told:
            enroll(raw, *other)
        assert "another delivery came under this id" in told[0]
    assert stored(village) == before + 4
    # Ids are a collector's own.
    with connected(
        village.address, raw.credentials, issued(village, Role.COLLECTOR, "other-app")
    ) as other_app:
        enroll(other_app, header(1), rows(said), end(4))
    assert stored(village) == before + 8


def test_two_attempts_at_a_time_store_once(village: LivePlatform, raw: RawClient, before: int) -> None:
    said, answers = grants(2_000, first=10_000), []
    messages = (header(7), *(rows(said[i : i + 100]) for i in range(0, 2_000, 100)), end(2_000))
    threads = [threading.Thread(target=lambda: answers.append(enroll(raw, *messages))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.enrolled for answer in answers] == [2_000, 2_000]
    assert stored(village) == before + 2_000


GRANT = assertion("bad", "email", "bad@example.com")
BAD: dict[str, list[v1.EnrollRequest]] = {
    "nothing": [],
    "no header": [rows([GRANT]), end(1)],
    "only a header": [header()],
    "no end": [header(), rows([GRANT])],
    "an empty message": [header(), v1.EnrollRequest(), end(0)],
    "two headers": [header(), header(), end(0)],
    "after the end": [header(), rows([GRANT]), end(1), rows([GRANT])],
    "two ends": [header(), rows([GRANT]), end(1), end(1)],
    "more than its end says": [header(), rows([GRANT]), end(0)],
    "less than its end says": [header(), rows([GRANT]), end(2)],
    "a short id": [v1.EnrollRequest(header=v1.DeliveryHeader(delivery_id=bytes(15))), rows([GRANT]), end(1)],
    "no id": [v1.EnrollRequest(header=v1.DeliveryHeader()), rows([GRANT]), end(1)],
    "evidence that is none": [header(batch_evidence=b"{}"), rows([GRANT]), end(1)],
    "long evidence": [header(batch_evidence=b" " * 5_000), rows([GRANT]), end(1)],
    "a lacking column": [header(), rows([GRANT], COLUMNS[1:]), end(1)],
    "a column twice": [header(), rows([GRANT], [*COLUMNS, "kind"]), end(1)],
    "an unknown column": [header(), rows([{**GRANT, "city": "x"}], [*COLUMNS, "city"]), end(1)],
    "other columns later": [
        header(),
        rows([GRANT]),
        rows([{**GRANT, "hash_profile": ""}], [*COLUMNS, "hash_profile"]),
        end(2),
    ],
    "no rows": [header(), rows([]), end(0)],
    "no columns": [header(), v1.EnrollRequest(rows=v1.Rows()), end(0)],
    "columns of different lengths": [
        header(),
        v1.EnrollRequest(
            rows=v1.Rows(
                columns=[v1.Column(name=name, cells=["x"] * (1 + (name == "kind"))) for name in COLUMNS]
            )
        ),
        end(1),
    ],
    "a NUL": [header(), rows([{**GRANT, "notice_id": "a\0b"}]), end(1)],
    "a long cell": [header(), rows([{**GRANT, "notice_id": "é" * MAX_CELL_BYTES}]), end(1)],
}


@pytest.mark.parametrize("what", list(BAD))
def test_a_malformed_delivery_stores_nothing(
    village: LivePlatform, raw: RawClient, before: int, what: str
) -> None:
    with fails(INVALID) as told:
        enroll(raw, *BAD[what])
    assert told == ["a field of the message is malformed"]
    assert stored(village) == before


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"status": "withdrawn", "subject_id": "", "value": "nonsense"}, "row 2 refuses"),
        ({"notice_id": "a\nb"}, "row 2 has a line break in notice_id"),
    ],
)
def test_the_collector_hears_which_row_stops_a_delivery(
    village: LivePlatform, raw: RawClient, collector: Path, before: int, row: Row, words: str, tmp_path: Path
) -> None:
    said = [GRANT, {**GRANT, "subject_id": "planted-77", **row}]
    with fails(REFUSED) as told:
        enroll(raw, header(), rows(said), end(2))
    assert words in told[0]
    assert "planted" not in told[0]
    assert "bad@example.com" not in told[0]
    done = send(village, write_csv(tmp_path / "bad.csv", said), collector)
    assert done.code == 1
    assert words in done.stderr
    assert stored(village) == before


def test_too_much_is_refused(village: LivePlatform, raw: RawClient, before: int) -> None:
    many = v1.EnrollRequest(
        rows=v1.Rows(columns=[v1.Column(name=name, cells=[""] * 65_537) for name in COLUMNS])
    )
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
        enroll(raw, header(), many, end(65_537))
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
        # One message that is longer than any may be.
        enroll(raw, header(), rows([{**GRANT, "notice_id": "n" * 2**21}]), end(1))
    full = [rows([dict.fromkeys(COLUMNS, "")] * 30_000)] * 17
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED) as told:
        enroll(raw, header(), *full, end(510_000))
    assert told == ["a limit of the session was passed"]
    assert stored(village) == before


def test_a_cut_stream_stores_nothing(village: LivePlatform, raw: RawClient, before: int) -> None:
    sent = threading.Event()

    def messages() -> Iterator[v1.EnrollRequest]:
        yield header()
        yield rows(grants(100, first=700))
        sent.set()
        time.sleep(0.3)
        yield end(100)

    call = raw.enrollment.Enroll.future(messages(), timeout=60)
    assert sent.wait(10)
    call.cancel()
    time.sleep(0.5)
    assert stored(village) == before


def test_places_for_deliveries_are_few_and_given_back(village: LivePlatform, raw: RawClient) -> None:
    go_on = threading.Event()

    def waiting() -> Iterator[v1.EnrollRequest]:
        yield header()
        yield rows(grants(1, first=800))
        go_on.wait(30)
        yield end(1)

    calls = [
        raw.enrollment.Enroll.future(waiting(), timeout=60)
        for _ in range(enrollment_service.DELIVERIES_AT_A_TIME)
    ]
    # Two threads of gRPC begin them; a delivery that comes before both is taken.
    time.sleep(0.5)
    with fails(grpc.StatusCode.UNAVAILABLE):
        enroll(raw, header(), rows(grants(1, first=801)), end(1))
    go_on.set()
    assert [call.result().enrolled for call in calls] == [1] * len(calls)
    assert enroll(raw, header(), rows(grants(1, first=802)), end(1)).enrolled == 1


def test_withdrawals_are_in_force_and_stored_once(
    village: LivePlatform, collector: Path, raw: RawClient
) -> None:
    send(village, write_csv(village.folder / "w.csv", grants(3, first=900)), collector)
    arguments = ("--platform", village.address, "--credentials", collector, "--json")
    id_ = "ab" * 16
    first = advertiser("withdraw", "--subject-id", "s900", "--delivery-id", id_, *arguments).document
    assert (first["status"], first["assertions"], first["pairs"]) == ("withdrawn", 1, 1)
    count = stored(village)
    again = advertiser("withdraw", "--subject-id", "s900", "--delivery-id", id_, *arguments).document
    assert {**again, "checkpoint": ""} == {**first, "checkpoint": ""}
    assert stored(village) == count
    other = advertiser("withdraw", "--subject-id", "s901", "--delivery-id", id_, *arguments)
    assert other.code == 1
    assert "another delivery" in other.stderr
    # The same words under another id are said again: a `renewed` may have come between.
    later = advertiser("withdraw", "--subject-id", "s900", *arguments).document
    assert later["delivery"] > first["delivery"]
    listed = write_csv(
        village.folder / "o.csv", [{"subject_id": "s901", "why": "x"}, {"subject_id": "s902", "why": "y"}]
    )
    objected = advertiser("withdraw", listed, "--object", *arguments).document
    assert (objected["status"], objected["assertions"]) == ("objected", 2)
    phone = advertiser(
        "withdraw", "--identifier", "user3@example.com", "--kind", "email", *arguments
    ).document
    assert phone["pairs"] == 1
    assert advertiser("withdraw", "--identifier", "user3@example.com", *arguments).code == 1
    assert advertiser("withdraw", *arguments).code == 2
    shown = advertiser("withdraw", "--subject-id", "s902", *arguments[:-1]).stdout
    assert "log leaf" in shown
    assert "{" not in shown


def test_operators_withdraw_too(village: LivePlatform, raw: RawClient) -> None:
    named = v1.Rows(columns=[v1.Column(name="subject_id", cells=["s4"])])
    request = v1.WithdrawRequest(delivery_id=bytes(16), refusal=v1.REFUSAL_OBJECTED, named=named)
    with connected(village.address, raw.credentials, issued(village, Role.OPERATOR, "ops")) as ops:
        receipt = json.loads(ops.enrollment.Withdraw(request).receipt)
        # In another region the same cells may name other people: that is not the same withdrawal again.
        request.region = "BR"
        with fails(grpc.StatusCode.FAILED_PRECONDITION):
            ops.enrollment.Withdraw(request)
    assert receipt["status"] == "objected"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"delivery_id": b""}, INVALID),
        ({"refusal": v1.REFUSAL_UNSPECIFIED}, INVALID),
        ({"named": v1.Rows()}, INVALID),
        ({"named": v1.Rows(columns=[v1.Column(name="origin", cells=["signup"])])}, INVALID),
        ({"named": v1.Rows(columns=[v1.Column(name="kind", cells=["email"])])}, INVALID),
        (
            {"named": v1.Rows(columns=[v1.Column(name="subject_id", cells=["s"] * 10_001)])},
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
        ({"named": v1.Rows(columns=[v1.Column(name="subject_id", cells=[""])])}, REFUSED),
        ({"purpose": "no.such.use"}, REFUSED),
    ],
)
def test_a_bad_withdrawal_stores_nothing(
    village: LivePlatform, raw: RawClient, before: int, changes: dict[str, Any], code: grpc.StatusCode
) -> None:
    good = {
        "delivery_id": os.urandom(16),
        "refusal": v1.REFUSAL_WITHDRAWN,
        "named": v1.Rows(columns=[v1.Column(name="subject_id", cells=["s4"])]),
    }
    with fails(code):
        raw.enrollment.Withdraw(v1.WithdrawRequest(**(good | changes)))
    assert stored(village) == before


def test_what_is_wrong_with_a_file_ends_the_delivery(
    village: LivePlatform, collector: Path, before: int, tmp_path: Path
) -> None:
    said = grants(9_000, first=20_000)
    file = write_csv(tmp_path / "cut.csv", said)
    # The last row lacks cells: earlier ones are on their way already.
    file.write_text(file.read_text() + "a,b\n")
    done = send(village, file, collector)
    assert done.code == 1
    assert "cells where the header has" in done.stderr
    long = write_csv(tmp_path / "long.csv", [{**GRANT, "notice_id": "n" * (MAX_CELL_BYTES + 1)}])
    assert "a cell of more than" in send(village, long, collector).stderr
    lacking = write_csv(tmp_path / "lacking.csv", [{"subject_id": "s"}])
    assert "missing" in send(village, lacking, collector).stderr
    assert "hexadecimal" in send(village, file, collector, "--delivery-id", "xyz").stderr
    assert "32 hexadecimal digits" in send(village, file, collector, "--delivery-id", "abcd").stderr
    assert stored(village) == before


def test_a_delivery_that_is_too_large_is_not_sent(
    village: LivePlatform, collector: Path, before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "MAX_DELIVERY_ROWS", 5)
    with pytest.raises(InputError, match="deliver the file in parts"):
        deliver(write_csv(tmp_path / "a.csv", grants(6)), platform=village.address, credentials=collector)
    assert stored(village) == before


@pytest.mark.usefixtures("raw")
def test_other_credentials_do_not_deliver(village: LivePlatform, before: int, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", grants(1))
    operator("auditor", "add", "eve", "--data-dir", village.data_dir, "--out", tmp_path / "eve")
    with pytest.raises(NotAuthorizedError, match="those of a collector"):
        deliver(file, platform=village.address, credentials=tmp_path / "eve")
    with pytest.raises(InputError, match="credentials of the advertiser acme"):
        deliver(file, platform=village.address, credentials=village.folder / "credentials-acme")
    assert stored(village) == before


def test_an_unreachable_platform_names_the_id_to_go_on_with(
    collector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "PAUSE_SECONDS", 0.01)
    file = write_csv(tmp_path / "a.csv", grants(1))
    with pytest.raises(UnavailableError, match=f"--delivery-id {'01' * 16}"):
        deliver(file, platform="127.0.0.1:1", credentials=collector, delivery_id=b"\1" * 16)


def test_a_killed_server_stores_all_of_a_delivery_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 while a delivery is on its way; the client goes on with the next server, under the same id."""
    monkeypatch.setattr(delivery_module, "ATTEMPTS", 1)
    platform = LivePlatform.create(tmp_path / "hamlet")
    permit(platform, COLLECTOR, "signup")
    credentials = tmp_path / "credentials"
    operator("collector", "add", COLLECTOR, "--data-dir", platform.data_dir, "--out", credentials)
    count = 10_000
    file = write_csv(tmp_path / "many.csv", grants(count))
    ids = [bytes([number]) * 16 for number in range(1, 5)]
    acknowledged = set()
    for id_, seconds in zip(ids, (0.05, 0.12, 0.2, 0.3), strict=True):
        with killed(platform, seconds), contextlib.suppress(UnavailableError):
            deliver(file, platform=platform.address, credentials=credentials, delivery_id=id_)
            acknowledged.add(id_)
        assert operator("audit", "--data-dir", platform.data_dir).code == 0
        found = platform.rows("SELECT request, assertions FROM delivery")
        assert {request for request, _ in found} >= acknowledged
        assert {assertions for _, assertions in found} <= {count}
    with platform.serving():
        for id_ in ids:
            again = deliver(file, platform=platform.address, credentials=credentials, delivery_id=id_)
            assert (again.read, again.enrolled) == (count, count)
    assert stored(platform) == count * len(ids)
    assert operator("audit", "--data-dir", platform.data_dir).code == 0


@contextmanager
def killed(platform: LivePlatform, seconds: float) -> Iterator[None]:
    """A server that is killed so long after it began to serve."""
    command = [str(BIN / "purposematch-platform"), "serve", "--data-dir", str(platform.data_dir)]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        platform.address = first_line(server).removeprefix("serving on ")
        killer = threading.Timer(seconds, server.kill)
        killer.start()
        yield
        killer.join()


def test_nothing_of_a_delivery_is_in_the_servers_log(village: LivePlatform, raw: RawClient) -> None:
    planted = assertion("planted-1", "email", "planted-2@example.com", notice_id="planted-3")
    enroll(raw, header(), rows([planted]), end(1))
    for change in ({"notice_id": "planted\n3"}, {"notice_id": "planted\0"}, {"origin": "planted" * 200}):
        with pytest.raises(grpc.RpcError):
            enroll(raw, header(), rows([{**planted, **change}]), end(1))
    written = village.log.read_text()
    assert "Enroll answered FAILED_PRECONDITION" in written
    assert "Enroll answered INVALID_ARGUMENT" in written
    assert "planted" not in written


def test_evidence_travels_with_a_delivery(tmp_path: Path) -> None:
    """A collector's name is part of what is signed: the same rows from another source prove nothing."""
    platform = LivePlatform.create(tmp_path / "strict")
    for source in (COLLECTOR, "other-app"):
        permit(platform, source, "signup")
        operator("collector", "add", source, "--data-dir", platform.data_dir, "--out", tmp_path / source)
    add_issuer(platform)
    policy = platform.data_dir / "policy.toml"
    policy.write_text(policy.read_text().replace("# require_evidence = true", "require_evidence = true"))
    single = write_csv(tmp_path / "single.csv", signed_rows(20, COLLECTOR))
    batch, said = batch_rows(20, COLLECTOR)
    together = write_csv(tmp_path / "together.csv", said)
    evidence = tmp_path / "evidence.json"
    evidence.write_bytes(batch.to_bytes())
    plain = write_csv(tmp_path / "plain.csv", grants(3))
    with platform.serving():
        for file, options, source, refused in (
            (single, (), COLLECTOR, {}),
            (together, ("--evidence", evidence), COLLECTOR, {}),
            (together, (), COLLECTOR, {"EVIDENCE_INVALID": 20}),
            (plain, (), COLLECTOR, {"EVIDENCE_MISSING": 3}),
            (single, (), "other-app", {"EVIDENCE_INVALID": 20}),
            (together, ("--evidence", evidence), "other-app", {"EVIDENCE_INVALID": 20}),
        ):
            assert send(platform, file, tmp_path / source, *map(str, options)).document["refused"] == refused
        assert send(platform, single, tmp_path / COLLECTOR, "--evidence", str(plain)).code == 1
        shown = advertiser(
            "deliver", single, "--platform", platform.address, "--credentials", tmp_path / COLLECTOR
        )
        assert "20 rows delivered" in shown.stdout
        assert "What that means" not in shown.stdout
        shown = advertiser(
            *("deliver", together, "--platform", platform.address),
            *("--credentials", tmp_path / COLLECTOR),
        )
        assert "without its --evidence" in " ".join(shown.stdout.split())
        shown = advertiser(
            *("withdraw", "--subject-id", "signed3", "--platform", platform.address),
            *("--credentials", tmp_path / COLLECTOR),
        )
        assert "in force from now on" in shown.stdout
    assert operator("audit", "--data-dir", platform.data_dir).code == 0
