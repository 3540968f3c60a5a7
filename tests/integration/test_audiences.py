"""Audiences on a real server: what sessions do to them, exports, their end, and what the log says of it."""

import asyncio
import json
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest
from fault_proxy import Action, Fault, Side, fault_proxy
from noisy_sessions import begin_exchange, open_session
from platforms import (
    Done,
    LivePlatform,
    admitted_peer,
    assertion,
    customers,
    grants,
    operator,
    read_csv,
    write_csv,
)
from raw_client import connected, fails, load

from purposematch.protocol.audience import AudienceMode
from purposematch.protocol.errors import InputError, IntegrityError
from purposematch.server.audiences import end_due, export_audience
from purposematch.server.audit import audit
from purposematch.server.open_sessions import OpenSessions
from purposematch.server.operator_queries import Query, record_query
from purposematch.server.platform import Platform
from purposematch.server.publisher import Publisher
from purposematch.server.registry.audiences import AudienceName, add_change
from purposematch.server.set_matching import SetMatching
from purposematch.v1 import matching_pb2 as v1

ENROLLED = 1_500
DAY = 24 * 3_600 * 1_000_000
DAYS = 30


def people(first: int, last: int) -> list[str]:
    """The subjects with the numbers `first` to `last`, as they are sorted."""
    return sorted(f"s{i}" for i in range(first, last))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A served platform with s0 to s1499, s0 to s9 with a second address; audited at the end."""
    platform = LivePlatform.create(
        tmp_path_factory.mktemp("port"), max_batch_elements=512, audience_days=DAYS
    )
    platform.enroll(grants(ENROLLED))
    platform.enroll([assertion(f"s{i}", "email", f"second{i}@example.com") for i in range(10)])
    platform.publish()
    with platform.serving():
        yield platform
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.code == 0, audited.stderr
    assert audited.document["audience_expiries"] > 0
    assert audited.document["audience_exports"] > 0


class Shop:
    """An advertiser, its lists, and its audiences as the platform exports them."""

    def __init__(self, platform: LivePlatform, name: str, disclosure: str, folder: Path) -> None:
        self.platform = platform
        self.name = name
        self.folder = folder
        # Every test asks more than a month's questions.
        cheap = ("--release-epsilon", "0.05") if disclosure == "platform" else ()
        self.credentials = platform.admit(name, disclosure, *cheap)
        self._runs = 0

    def match(self, first: int, count: int, *options: str) -> Done:
        """Matches so many of the enrolled from `first` on, and strangers up to the smallest list."""
        rows = [{"email": f"user{i}@example.com"} for i in range(first, first + count)]
        rows += [{"email": f"stranger{i}@example.com"} for i in range(max(0, 1_000 - count))]
        return self.match_rows(rows, *options)

    def match_rows(self, rows: list[dict[str, str]], *options: str) -> Done:
        self._runs += 1
        listed = write_csv(self.folder / f"list-{self._runs}.csv", rows)
        done = self.platform.match(listed, self.folder / f"out-{self._runs}.csv", self.credentials, *options)
        assert done.code == 0, done.stderr
        return done

    def export(self, name: str = "default", suffix: str = "csv") -> list[str]:
        """The subjects of an audience."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = Path(folder) / f"audience.{suffix}"
            done = self.operate("export", name, "--output", str(path))
            found = (
                [row["subject_id"] for row in read_csv(path)]
                if suffix == "csv"
                else pq.read_table(path)["subject_id"].to_pylist()
            )
            assert done["exported"] == len(found)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert [each.name for each in Path(folder).iterdir()] == [path.name]
        return found

    def operate(self, command: str, name: str, *options: str) -> Any:
        return self.platform.operate("audience", command, name, "--advertiser", self.name, *options)

    def subjects(self) -> dict[str, int]:
        """How many subjects each of its audiences has, as the platform lists them."""
        listed = self.platform.operate("audience", "list", "--advertiser", self.name)["audiences"]
        return {each["audience"]: each["subjects"] for each in listed}


@pytest.mark.parametrize("disclosure", ["both", "platform"])
def test_sessions_replace_add_and_remove(port: LivePlatform, tmp_path: Path, disclosure: str) -> None:
    shop = Shop(port, f"modes-{disclosure}", disclosure, tmp_path)
    told = shop.match(0, 600).document["audience"]
    assert (told["name"], told["mode"]) == ("default", "replace")
    assert ("status" in told) == (disclosure == "platform")
    assert shop.export() == people(0, 600)
    # Another audience of the same advertiser is another one.
    shop.match(0, 300, "--audience", "loyal", "--mode", "add")
    shop.match(200, 300, "--audience", "loyal", "--mode", "add")
    assert shop.export("loyal") == people(0, 500)
    shop.match(100, 50, "--audience", "loyal", "--mode", "remove")
    assert shop.export("loyal") == sorted({*people(0, 100), *people(150, 500)})
    # Who was taken out may come back, and leaves by whichever identifier.
    shop.match(100, 10, "--audience", "loyal", "--mode", "add")
    rows = [{"email": f"second{i}@example.com"} for i in range(10)]
    rows += [{"email": f"stranger{i}@example.com"} for i in range(990)]
    shop.match_rows(rows, "--audience", "loyal", "--mode", "remove")
    assert shop.export("loyal") == sorted({*people(10, 110), *people(150, 500)})
    shop.match(1_000, 400, "--audience", "loyal", "--mode", "replace")
    assert shop.export("loyal") == people(1_000, 1_400)
    assert shop.export() == people(0, 600)
    assert shop.subjects() == {"default": 600, "loyal": 400}
    # A list of strangers leaves an audience of nobody.
    shop.match(ENROLLED, 1_000)
    assert shop.export() == []
    assert shop.subjects() == {"default": 0, "loyal": 400}
    shown = shop.operate("show", "loyal")
    modes = [each["mode"] for each in shown["changes"]]
    assert modes == ["add", "add", "remove", "add", "remove", "replace"]
    assert [each["count"] for each in shown["exports"]] == [500, 450, 450, 400]
    assert {each["format"] for each in shown["exports"]} == {"csv"}
    assert all(each["by"].startswith("user:") for each in shown["exports"])


def test_an_export_is_the_plain_intersection_in_both_formats(port: LivePlatform, tmp_path: Path) -> None:
    shop = Shop(port, "formats", "platform", tmp_path)
    shop.match(900, 1_000)
    assert shop.export() == shop.export(suffix="parquet") == people(900, ENROLLED)
    shown = shop.operate("show", "default")["exports"]
    assert [(each["format"], each["count"]) for each in shown] == [("csv", 600), ("parquet", 600)]
    leaf = shown[-1]["log_leaf"]
    ((kind, content),) = port.rows('SELECT kind, content FROM log_leaf WHERE "index" = ?', leaf)
    assert kind == "audience_export"
    event = json.loads(content)
    said = {name: event[name] for name in ("advertiser", "partner", "audience", "count", "format", "by")}
    expected = {"advertiser": "formats", "partner": None, "audience": "default", "count": 600}
    assert said == {**expected, "format": "parquet", "by": shown[-1]["by"]}


def test_an_export_that_can_not_be_written_leaves_nothing(port: LivePlatform, tmp_path: Path) -> None:
    shop = Shop(port, "nowhere", "both", tmp_path)
    shop.match(0, 1_000)
    leaves = port.rows("SELECT count(*) FROM log_leaf WHERE kind = 'audience_export'")
    arguments = ("--advertiser", "nowhere", "--data-dir", port.data_dir)
    for name, output, said in (
        ("default", tmp_path / "none" / "a.csv", "cannot be written"),
        ("default", tmp_path / "a.xlsx", "must end with one of"),
        ("other", tmp_path / "a.csv", "nowhere has no audience other"),
    ):
        done = operator("audience", "export", name, *arguments, "--output", output)
        assert (done.code, said in done.stderr) == (1, True), done.stderr
        assert not output.exists()
    done = operator("audience", "export", "default", *arguments, "--partner", "x", "--output", "a.csv")
    assert "no audience default brought by x" in done.stderr
    assert port.rows("SELECT count(*) FROM log_leaf WHERE kind = 'audience_export'") == leaves


def with_a_second_address(folder: Path) -> LivePlatform:
    """1,000 people are enrolled, and the first of them through two addresses."""
    platform = LivePlatform.create(folder / "own")
    platform.enroll(grants(1_000))
    platform.enroll([assertion("s0", "email", "second0@example.com")])
    platform.publish()
    return platform


def test_an_erased_address_brings_nobody_back_whom_it_took_out(tmp_path: Path) -> None:
    platform = with_a_second_address(tmp_path)
    with platform.serving():
        shop = Shop(platform, "acme", "both", tmp_path)
        shop.match(0, 20)
        rows = [
            {"email": "second0@example.com"},
            *({"email": f"stranger{i}@example.com"} for i in range(999)),
        ]
        shop.match_rows(rows, "--mode", "remove")
        assert shop.export() == people(1, 20)
        platform.operate("erase", "--identifier", "second0@example.com", "--apply")
        assert shop.export() == people(1, 20)
        platform.operate("erase", "--subject-id", "s19", "--apply")
        assert shop.export() == people(1, 19)
        assert shop.subjects() == {"default": 18}
        (about,) = platform.operate("subject", "--subject-id", "s0")["subjects"]
        assert {each["member"] for each in about["audiences"]} == {False}
    audited = operator("audit", "--data-dir", platform.data_dir)
    assert audited.code == 0, audited.stderr


def test_who_may_not_be_in_it_any_more_is_left_out(tmp_path: Path) -> None:
    platform = with_a_second_address(tmp_path)
    with platform.serving():
        shop = Shop(platform, "acme", "both", tmp_path)
        shop.match(0, 1_000)
        # One takes everything back, one the only identifier, one another identifier than the matched one.
        platform.operate("withdraw", "--subject-id", "s5")
        platform.operate("object", "--identifier", "user6@example.com")
        platform.operate("withdraw", "--identifier", "second0@example.com")
        platform.operate("erase", "--subject-id", "s7", "--apply")
        (listed,) = platform.operate("audience", "list")["audiences"]
        assert listed["subjects"] == 997
        (about,) = platform.operate("subject", "--subject-id", "s5")["subjects"]
        assert [each["member"] for each in about["audiences"]] == [False]
        done = platform.operate(
            "audience", "export", "--advertiser", "acme", "--output", tmp_path / "ads.csv"
        )
    # Nobody is there of whom it could be said that they left: the one who was erased.
    assert (done["exported"], done["left_out"]) == (997, 2)
    found = [row["subject_id"] for row in read_csv(tmp_path / "ads.csv")]
    assert found == sorted(set(people(0, 1_000)) - {"s5", "s6", "s7"})
    # Under another purpose nothing is exported.
    policy = platform.data_dir / "policy.toml"
    text = policy.read_text()
    assert text.count("third_party.targeted") > 0
    policy.write_text(text.replace("third_party.targeted", "first_party.targeted"))
    arguments = ("--advertiser", "acme", "--data-dir", platform.data_dir, "--output", tmp_path / "b.csv")
    refused = operator("audience", "export", *arguments)
    assert (refused.code, "for another purpose" in refused.stderr) == (1, True), refused.stderr
    policy.write_text(text)
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.code == 0, audited.stderr


def test_an_audience_that_was_replaced_is_for_the_purpose_of_that(tmp_path: Path) -> None:
    """What was in it before, matched for another purpose, holds nothing up, and what is over goes."""
    platform = LivePlatform.create(tmp_path / "own", audience_days=DAYS)
    platform.enroll(grants(1_000))
    platform.publish()
    with platform.serving():
        shop = Shop(platform, "acme", "both", tmp_path)
        shop.match(0, 600)
        platform.enroll(grants(1, first=1_000))
        platform.publish()
        shop.match(300, 700, "--mode", "add")
        platform.enroll(grants(1, first=1_001))
        platform.publish()
        shop.match(400, 600)
    with closing(sqlite3.connect(platform.data_dir / "registry.sqlite")) as connection:
        for number, exported in ((1, True), (2, True), (3, False)):
            session = f"(SELECT session FROM audience_change WHERE number = {number})"
            of = f"(SELECT generation FROM session WHERE id = {session})"
            connection.execute(f"UPDATE generation SET purpose = 'another' WHERE id = {of}")
            connection.commit()
            done = operator(
                *("audience", "export", "--advertiser", "acme", "--data-dir", platform.data_dir),
                *("--output", tmp_path / "ads.csv"),
            )
            assert (done.code == 0) is exported, done.stderr
    # It is refused, and what is over is deleted nevertheless.
    with (
        platform.opened(clock=lambda: time.time_ns() // 1_000 + DAYS * DAY) as opened,
        pytest.raises(InputError, match="acme has no audience default"),
    ):
        export_audience(opened, AudienceName("acme", "", "default"), tmp_path / "late.csv", "me")
    assert platform.rows("SELECT count(*) FROM member_chunk") == [(0,)]


def test_a_known_question_changes_no_audience(port: LivePlatform, tmp_path: Path) -> None:
    shop = Shop(port, "known", "platform", tmp_path)
    first = shop.match(0, 1_000).document
    shop.match(200, 1_000)
    assert shop.export() == people(200, 1_200)
    # The answer to the first list is known on this generation: nothing is asked, and the second one stays.
    again = shop.match(0, 1_000).document
    assert (again["session"], again["paid"], again["value"]) == (None, False, first["value"])
    assert shop.export() == people(200, 1_200)
    # The same list for another audience, or to another end, is another question.
    for options in (("--audience", "other"), ("--mode", "add"), ("--audience", "other", "--mode", "remove")):
        assert shop.match(0, 1_000, *options).document["paid"]
        assert not shop.match(0, 1_000, *options).document["paid"]
    assert shop.export() == people(0, 1_200)
    assert shop.export("other") == []


def test_a_status_for_the_advertiser_is_of_the_noisy_value(port: LivePlatform, tmp_path: Path) -> None:
    shop = Shop(port, "sized", "platform", tmp_path)
    large = shop.match(0, 1_000).document
    assert large["audience"] == {"name": "default", "mode": "replace", "status": "enough"}
    small = shop.match(0, 3, "--audience", "tiny").document
    assert (small["value"], small["audience"]["status"]) == (0, "too small")
    # The platform's own numbers are exact.
    assert shop.subjects() == {"default": 1_000, "tiny": 3}


def test_disclosures_without_an_audience_have_none(port: LivePlatform, tmp_path: Path) -> None:
    for disclosure in ("advertiser", "count"):
        shop = Shop(port, f"without-{disclosure}", disclosure, tmp_path)
        assert shop.match(0, 1_000).document["audience"] is None
        assert shop.subjects() == {}
        listed = customers(tmp_path / "again.csv", 1_000)
        refused = port.match(listed, tmp_path / "no.csv", shop.credentials, "--mode", "add")
        assert (refused.code, "keeps no audience" in refused.stderr) == (1, True), refused.stderr
        # The platform refuses it whatever a client does.
        credentials = load(shop.credentials)
        with connected(port.address, credentials) as client, fails(grpc.StatusCode.INVALID_ARGUMENT):
            request = v1.OpenSessionRequest(
                agreement_digest=credentials.agreement.digest, list_size=1_000, label=_label(disclosure)
            )
            request.audience.name, request.audience.mode = "loyal", v1.AUDIENCE_MODE_ADD
            client.stub.OpenSession(request, timeout=60)


def _label(disclosure: str) -> bytes:
    return bytes(32) if disclosure == "count" else b""


@pytest.mark.parametrize(
    ("name", "mode"),
    [("Upper", v1.AUDIENCE_MODE_ADD), ("", v1.AUDIENCE_MODE_ADD), ("x" * 64, 1), ("x", 0), ("x", 9)],
)
def test_what_is_no_change_of_an_audience_is_refused(
    port: LivePlatform, tmp_path: Path, name: str, mode: Any
) -> None:
    folder = port.folder / "credentials-wrong"
    credentials = load(folder if folder.exists() else port.admit("wrong"))
    with connected(port.address, credentials) as client, fails(grpc.StatusCode.INVALID_ARGUMENT):
        request = v1.OpenSessionRequest(agreement_digest=credentials.agreement.digest, list_size=1_000)
        request.audience.CopyFrom(v1.AudienceChange(name=name, mode=mode))
        client.stub.OpenSession(request, timeout=60)
    if name == "Upper":
        listed = customers(tmp_path / "list.csv", 1_000)
        done = port.match(listed, tmp_path / "no.csv", folder, "--audience", name)
        assert (done.code, "--audience: an audience's name is" in done.stderr) == (1, True), done.stderr


def test_an_audience_that_is_ended_is_gone_from_every_answer(port: LivePlatform, tmp_path: Path) -> None:
    shop = Shop(port, "ending", "both", tmp_path)
    session = shop.match(0, 1_000, "--audience", "spring").document["session"]
    shop.match(0, 1_000)

    def told() -> tuple[Any, ...]:
        impact = port.operate("impact", "--source", "default", "--advertiser", "ending")
        (subject,) = port.operate("subject", "--subject-id", "s50")["subjects"]
        audiences = port.operate("status")["audiences"]
        return (
            impact["audiences"],
            {each["audience"]: each["subjects"] for each in impact["by_audience"]},
            [
                (e["audience"], e["mode"], e["member"])
                for e in subject["audiences"]
                if e["advertiser"] == "ending"
            ],
            [each["audience"] for each in audiences if each["advertiser"] == "ending"],
        )

    both = {"default": 1_000, "spring": 1_000}
    members = [("spring", "replace", True), ("default", "replace", True)]
    assert told() == (2, both, members, ["default", "spring"])
    assert shop.operate("expire", "spring") == {"sessions": 1}
    change = "SELECT number FROM audience_change WHERE session = ?"
    assert told() == (1, {"default": 1_000}, members[1:], ["default"])
    assert port.rows(f"SELECT count(*) FROM member_chunk WHERE change = ({change})", session) == [(0,)]
    for command in ("show", "expire"):
        done = operator("audience", command, "spring", "--advertiser", "ending", "--data-dir", port.data_dir)
        assert (done.code, "no audience spring" in done.stderr) == (1, True), done.stderr
    ((content,),) = port.rows(
        "SELECT content FROM log_leaf WHERE kind = 'audience_expiry' AND CAST(content AS TEXT) LIKE ?",
        f"%{session}%",
    )
    assert json.loads(content)["by"].startswith("user:")
    # The next session of the name begins it anew.
    shop.match(500, 1_000, "--audience", "spring", "--mode", "add")
    assert shop.export("spring") == people(500, ENROLLED)


def test_a_member_says_what_became_of_it(port: LivePlatform, tmp_path: Path) -> None:
    shop = Shop(port, "told", "both", tmp_path)
    for mode, first in (("add", 0), ("remove", 0), ("add", 50), ("replace", 60)):
        shop.match(first, 300, "--audience", "told", "--mode", mode)
    about = {}
    for number in (10, 55, 100):
        (subject,) = port.operate("subject", "--subject-id", f"s{number}")["subjects"]
        mine = [each for each in subject["audiences"] if each["advertiser"] == "told"]
        assert all(set(each) == {*mine[0]} for each in mine)
        about[number] = ([each["mode"] for each in mine], {each["member"] for each in mine})
    assert about == {
        10: (["add", "remove"], {False}),
        55: (["add", "remove", "add"], {False}),
        100: (["add", "remove", "add", "replace"], {True}),
    }
    # Whom a session took out is in no audience because of it.
    impact = port.operate("impact", "--source", "default", "--advertiser", "told")
    assert impact["subjects_in_audiences"] == 360


def test_members_go_when_their_time_has_come(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "own", audience_days=DAYS)
    platform.enroll(grants(1_000))
    platform.publish()
    with platform.serving():
        shop = Shop(platform, "acme", "both", tmp_path)
        shop.match(0, 600)
        shop.match(300, 700, "--mode", "add")
        shop.match(0, 100, "--mode", "remove")
    with platform.opened() as opened:
        made = [at for (at,) in platform.rows('SELECT committed_at FROM "commit" ORDER BY committed_at')]
        for moment, ended in ((made[0] + DAYS * DAY - 1, 0), (made[0] + DAYS * DAY, 1)):
            with opened.registry.writing() as connection:
                assert end_due(opened, connection, moment) == ended
    assert shop.subjects() == {"default": 700}
    # Whoever was taken out does not come back with the end of that.
    expiries = [at for (at,) in platform.rows("SELECT expires_at FROM audience_change ORDER BY number")]
    assert expiries == sorted(expiries)
    with platform.opened(clock=lambda: made[1] + DAYS * DAY) as opened:
        # A question is asked of what is kept, whoever looks after the platform.
        record_query(opened, Query.AUDIT, {})
    assert shop.subjects() == {"default": 0}
    assert platform.rows("SELECT sum(length(granting)) FROM member_chunk") == [(100 * 8,)]
    by = {row for (row,) in platform.rows("SELECT ended_by FROM audience_change WHERE ended_at IS NOT NULL")}
    assert by == {"retention"}
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.document["audience_expiries"] == 2


def test_a_running_server_ends_what_is_over(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "own", audience_days=DAYS)
    platform.enroll(grants(1_000))
    platform.publish()
    with platform.serving():
        shop = Shop(platform, "acme", "both", tmp_path)
        shop.match(0, 1_000)
    late = time.time_ns() // 1_000 + DAYS * DAY

    async def look_after(opened: Platform, pool: ThreadPoolExecutor) -> None:
        upkeep = asyncio.create_task(Publisher(opened, pool).run())
        async with asyncio.timeout(60):
            while platform.rows("SELECT count(*) FROM member_chunk") != [(0,)]:
                await asyncio.sleep(0.05)
        upkeep.cancel()

    with ThreadPoolExecutor(1) as pool, platform.opened(clock=lambda: late) as opened:
        asyncio.run(look_after(opened, pool))
    assert shop.subjects() == {}
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.document["audience_expiries"] == 1


def test_what_a_removal_takes_from_ends_no_later_than_it(tmp_path: Path) -> None:
    """The settings were changed meanwhile, so that a removal alone would end first."""
    platform = LivePlatform.create(tmp_path / "own", audience_days=540)
    platform.enroll(grants(1_000))
    platform.publish()
    config = platform.data_dir / "platform.toml"
    with platform.serving():
        shop = Shop(platform, "acme", "both", tmp_path)
        shop.match(0, 1_000)
    config.write_text(config.read_text().replace("audience_days = 540", "audience_days = 1"))
    with platform.serving():
        shop.match(0, 400, "--mode", "remove")
    (added, removed) = platform.rows("SELECT expires_at FROM audience_change ORDER BY number")
    assert added == removed
    assert shop.export() == people(400, 1_000)
    assert operator("audit", "--data-dir", platform.data_dir).code == 0


def test_a_match_that_broke_off_goes_on_with_its_audience_alone(port: LivePlatform, tmp_path: Path) -> None:
    shop = Shop(port, "broken", "both", tmp_path)
    listed, output = customers(tmp_path / "list.csv", 1_000), tmp_path / "out.csv"
    with fault_proxy() as proxy:
        proxy.plan(port.address)
        connect = ("--platform", proxy.address, "--patience", "0")
        change = ("--audience", "loyal", "--mode", "add")
        assert port.match(listed, tmp_path / "whole.csv", shop.credentials, *connect, *change).code == 0
        proxy.plan(port.address, Fault(Side.CLIENT, proxy.counts[Side.CLIENT] // 2, Action.CUT))
        assert port.match(listed, output, shop.credentials, *connect, *change).code == 75
        other = port.match(listed, output, shop.credentials, *connect)
        assert (other.code, "that was to add audience loyal" in other.stderr) == (1, True), other.stderr
        assert port.match(listed, output, shop.credentials, *connect, *change).code == 0
    assert shop.export("loyal") == people(0, 1_000)


def test_people_are_shown_tables(port: LivePlatform, tmp_path: Path) -> None:
    shop = Shop(port, "shown", "both", tmp_path)
    shop.match(0, 1_000, "--audience", "gold")
    listed = operator("audience", "list", "--data-dir", port.data_dir, "--advertiser", "shown")
    assert "gold" in listed.stdout
    shown = operator("audience", "show", "gold", "--data-dir", port.data_dir, "--advertiser", "shown")
    assert "replace" in shown.stdout
    wrong = operator("audience", "expire", "gold", "--data-dir", port.data_dir)
    assert wrong.code == 2
    assert operator("audience", "expire", "--data-dir", port.data_dir).code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"of": AudienceName("acme", "", "other")}, "is not what its session was granted"),
        ({"mode": AudienceMode.ADD}, "is not what its session was granted"),
        ({"expires_at": 2**62}, "is kept for too long"),
        (None, "has not what the commit of session"),
    ],
)
def test_a_change_that_nobody_granted_does_not_pass_the_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any] | None, said: str
) -> None:
    """Stored and logged consistently, by a platform that does something else than it granted."""
    made = LivePlatform.create(tmp_path, min_list_elements=10)
    made.enroll(grants(20))
    made.admit("acme", "platform", "--min-list", "10")
    made.publish()

    def falsified(connection: Any, session: str, of: Any, mode: Any, expires_at: int, granting: Any) -> None:
        if change is not None:
            given = {"of": of, "mode": mode, "expires_at": expires_at, "granting": granting} | change
            add_change(connection, session, **given)

    monkeypatch.setattr("purposematch.server.audience.add_change", falsified)
    with made.opened() as platform:
        session = open_session(platform, "acme", 20)
        begin_exchange(platform, session)
        peer = admitted_peer(platform, "acme")
        SetMatching(platform, OpenSessions(platform)).finish(peer, session, bytes(16))
        with pytest.raises(IntegrityError, match=said):
            audit(platform)
