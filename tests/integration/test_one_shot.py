"""Matches by VOLE through the command lines, over TLS: results, what is told, paid and refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from platforms import LivePlatform, advertiser, assertion, customers, grants, operator, read_csv, write_csv

from purposematch.client.credentials import Credentials
from purposematch.client.receipt import SessionReceipt
from purposematch.protocol.log.checkpoint import log_origin
from purposematch.protocol.match_engine import EXPERIMENTAL, MatchEngine
from purposematch.protocol.messages import Receipt, SessionGrant
from purposematch.protocol.vole.engine import why_unavailable

pytestmark = pytest.mark.skipif(why_unavailable(os.environ) is not None, reason="no VOLE engine here")

ENROLLED = 1_500
VOLE = ("--engine", "vole")


@pytest.fixture(scope="module")
def reef(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """Enrolled are user0 to user1499, some people twice, and a number that one of two gave for two-factor."""
    platform = LivePlatform.create(
        tmp_path_factory.mktemp("reef"), min_list_elements=1, max_batch_elements=300
    )
    platform.enroll(grants(ENROLLED))
    platform.enroll([assertion(f"s{i}", "email", f"second{i}@example.com") for i in range(10)])
    platform.enroll([assertion("t0", "email", "family@example.com", "two_factor")])
    platform.enroll([assertion("s0", "email", "family@example.com")])
    platform.publish()
    with platform.serving():
        yield platform
    audited = operator("audit", "--data-dir", platform.data_dir)
    assert audited.code == 0, audited.stderr


@pytest.fixture(scope="module")
def admitted(reef: LivePlatform) -> dict[str, Path]:
    """Credentials by disclosure, under agreements that allow the engine."""
    options = ("--allow-experimental", "--min-list", "1")
    credentials = {name: reef.admit(f"x-{name}", name, *options) for name in ("advertiser", "both")}
    # The budget must last for all tests.
    credentials["platform"] = reef.admit("x-platform", "platform", *options, "--release-epsilon", "0.01")
    return credentials


def listed(path: Path, values: list[str]) -> Path:
    return write_csv(path, [{"email": value} for value in values])


def mixed() -> list[str]:
    """700 who match, a family, a second address, and 500 strangers."""
    own = [f"user{i}@example.com" for i in range(800, ENROLLED)]
    others = [f"stranger{i}@example.com" for i in range(500)]
    return [*own, "family@example.com", "second3@example.com", *others]


def matched(output: Path) -> set[str]:
    return {row["email"] for row in read_csv(output) if row["matched"] == "true"}


def expected_audience(values: set[str]) -> list[str]:
    subjects = {f"s{value[4:-12]}" for value in values if value.startswith("user")}
    subjects |= {f"s{value[6:-12]}" for value in values if value.startswith("second")}
    if "family@example.com" in values:
        subjects.add("s0")
    return sorted(subjects)


@pytest.mark.parametrize("disclosure", ["advertiser", "both"])
def test_the_advertiser_learns_the_plain_intersection(
    reef: LivePlatform, admitted: dict[str, Path], tmp_path: Path, disclosure: str
) -> None:
    values, output = mixed(), tmp_path / "out.csv"
    expected = set(values[:702])
    done = reef.match(listed(tmp_path / "list.csv", values), output, admitted[disclosure], *VOLE)
    told = done.document
    assert (told["engine"], told["matched_identifiers"]) == ("vole", len(expected))
    assert matched(output) == expected
    assert EXPERIMENTAL in done.stderr
    audience = expected_audience(expected) if disclosure == "both" else []
    assert reef.audience(told["session"]) == audience
    # The list is paid for once, in one batch.
    batches = reef.rows("SELECT number, charged FROM batch WHERE session = ?", told["session"])
    assert batches == [(0, len(values))]
    # Grant, log and receipt say what computed.
    held = Credentials.load(admitted[disclosure])
    receipt = SessionReceipt.load(output.with_name("out.csv.receipt"))
    opened = receipt.open(log_origin(held.pin.platform_id), held.pin.identity_key)
    assert SessionGrant.parse(receipt.grant.content).engine is MatchEngine.VOLE
    assert opened.session.fields["engine"] == "vole"
    if receipt.commit is not None:
        assert Receipt.open(receipt.commit, held.pin.identity_key).engine is MatchEngine.VOLE


def test_the_platform_learns_the_plain_intersection_and_the_advertiser_a_noisy_count(
    reef: LivePlatform, admitted: dict[str, Path], tmp_path: Path
) -> None:
    values, output = mixed(), tmp_path / "report.json"
    expected = expected_audience(set(values[:702]))
    done = reef.match(listed(tmp_path / "list.csv", values), output, admitted["platform"], *VOLE)
    told = done.document
    assert (told["engine"], told["unit"], told["paid"]) == ("vole", "subjects", True)
    # Scale 100: beyond 2,500 with a probability of e^-25.
    assert told["value"] - len(expected) <= 2_505
    assert reef.audience(told["session"]) == expected
    assert reef.rows('SELECT matched FROM "commit" WHERE session = ?', told["session"]) == [(len(expected),)]
    assert sorted(path.name for path in tmp_path.glob("report*")) == ["report.json", "report.json.receipt"]
    # The same question is answered again without a session, whatever would compute.
    again = reef.match(
        listed(tmp_path / "list.csv", values), tmp_path / "again.json", admitted["platform"], *VOLE
    )
    assert (again.document["session"], again.document["value"]) == (None, told["value"])


@pytest.mark.parametrize(
    "values",
    [
        ["stranger@example.com"],
        ["user7@example.com"],
        ["user7@example.com", "stranger@example.com"],
        [f"stranger{i}@example.com" for i in range(50)],
        [f"user{i}@example.com" for i in range(ENROLLED)],
    ],
    ids=["nobody", "one", "one of two", "nothing", "everything"],
)
def test_sizes_at_the_edges(
    reef: LivePlatform, admitted: dict[str, Path], tmp_path: Path, values: list[str]
) -> None:
    expected = {value for value in values if value.startswith("user")}
    path = listed(tmp_path / "list.csv", values)
    for disclosure in ("advertiser", "both"):
        output = tmp_path / f"{disclosure}.csv"
        told = reef.match(path, output, admitted[disclosure], *VOLE).document
        assert matched(output) == expected
        if disclosure == "both":
            assert reef.audience(told["session"]) == expected_audience(expected)
    told = reef.match(path, tmp_path / "report.json", admitted["platform"], *VOLE).document
    assert reef.audience(told["session"]) == expected_audience(expected)


def test_an_agreement_must_allow_it(reef: LivePlatform, tmp_path: Path) -> None:
    credentials = reef.admit("plain-acme")
    path = customers(tmp_path / "list.csv")
    refused = reef.match(path, tmp_path / "out.csv", credentials, *VOLE)
    assert refused.code == 1
    assert "does not allow the VOLE engine" in refused.stderr
    assert not (tmp_path / "out.csv").exists()
    told = reef.match(path, tmp_path / "out.csv", credentials).document
    assert told["engine"] == "oprf"


def test_auto_takes_the_cheaper_engine_where_it_may(
    reef: LivePlatform, admitted: dict[str, Path], tmp_path: Path
) -> None:
    """Of a short list the start of a match by VOLE takes longer than all the rest of the other."""
    path = customers(tmp_path / "list.csv", 40_000)
    told = reef.match(path, tmp_path / "out.csv", admitted["advertiser"], "--engine", "auto").document
    assert told["engine"] == "vole"
    assert told["matched_rows"] == ENROLLED
    path = customers(tmp_path / "short.csv", 1_000)
    told = reef.match(path, tmp_path / "short-out.csv", admitted["advertiser"]).document
    assert told["engine"] == "oprf"
    assert told["matched_rows"] == 1_000


def test_an_engine_that_is_not_to_be_had_here(
    reef: LivePlatform, admitted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURPOSEMATCH_GROUP", "sodium")
    path = customers(tmp_path / "list.csv", 1_000)
    refused = reef.match(path, tmp_path / "out.csv", admitted["both"], *VOLE)
    assert refused.code == 1
    assert "PURPOSEMATCH_GROUP is sodium" in refused.stderr
    told = reef.match(path, tmp_path / "out.csv", admitted["both"], "--engine", "auto").document
    assert (told["engine"], told["matched_rows"]) == ("oprf", 1_000)


def test_removals_take_people_out_of_results(
    reef: LivePlatform, admitted: dict[str, Path], tmp_path: Path
) -> None:
    reef.enroll(grants(3, first=90_000))
    reef.publish()
    path, output = customers(tmp_path / "list.csv", 3, first=90_000), tmp_path / "out.csv"
    assert reef.match(path, output, admitted["advertiser"], *VOLE).document["matched_rows"] == 3
    reef.operate("withdraw", "--subject-id", "s90001")
    arguments = ("removals", output, "--platform", reef.address, "--credentials", admitted["advertiser"])
    told = advertiser(*arguments, "--json").document
    assert (told["rows_removed"], told["acknowledged"]) == (1, True)
    assert matched(output) == {"user90000@example.com", "user90002@example.com"}


def test_who_withdrew_is_in_no_audience(
    reef: LivePlatform, admitted: dict[str, Path], tmp_path: Path
) -> None:
    reef.enroll(grants(200, first=80_000))
    reef.publish()
    reef.operate("withdraw", "--subject-id", "s80007")
    path = customers(tmp_path / "list.csv", 200, first=80_000)
    told = reef.match(path, tmp_path / "report.json", admitted["platform"], *VOLE).document
    assert reef.audience(told["session"]) == sorted(f"s{i}" for i in range(80_000, 80_200) if i != 80_007)


def test_impact_and_subject_know_the_session(
    reef: LivePlatform, admitted: dict[str, Path], tmp_path: Path
) -> None:
    reef.enroll([assertion("impact-1", "email", "impact1@example.com", notice_id="vole-1")])
    reef.publish()
    path, output = listed(tmp_path / "list.csv", ["impact1@example.com"]), tmp_path / "out.csv"
    both = reef.match(path, output, admitted["both"], *VOLE).document["session"]
    reef.match(path, output, admitted["advertiser"], *VOLE)
    found = reef.operate("impact", "--notice", "vole-1")
    assert (found["subjects_in_audiences"], found["subjects_advertisers_may_have_learned_of"]) == (1, 1)
    assert set(found["advertisers"]) >= {"x-both", "x-advertiser"}
    assert both in json.dumps(reef.operate("subject", "--subject-id", "impact-1"))
