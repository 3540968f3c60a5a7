"""Matches under `platform` and `count` through the command lines: what each side learns."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from platforms import LivePlatform, advertiser, assertion, customers, grants, operator, write_csv

from purposematch.client.credentials import Credentials
from purposematch.client.documents import mapped_document
from purposematch.protocol.noisy_report import NoisyReport

MATCHING = 1_200


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """Enrolled are user0 to user1499; s0 to s9 have a second address each."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("port"), max_batch_elements=300)
    platform.enroll(grants(1_500))
    platform.enroll([assertion(f"s{i}", "email", f"second{i}@example.com") for i in range(10)])
    platform.enroll([assertion("t0", "email", "family@example.com", "two_factor")])
    platform.enroll([assertion("s0", "email", "family@example.com")])
    platform.publish()
    with platform.serving():
        yield platform


@pytest.fixture(scope="module")
def listed(port: LivePlatform) -> Path:
    """1,200 that match, ten second addresses of the same people, a family's, and 800 strangers."""
    rows = [{"email": f"user{i}@example.com"} for i in range(MATCHING)]
    rows += [{"email": f"second{i}@example.com"} for i in range(10)]
    rows += [{"email": "family@example.com"}]
    rows += [{"email": f"stranger{i}@example.com"} for i in range(800)]
    return write_csv(port.folder / "list.csv", rows)


def test_platform_learns_who_matches_and_the_advertiser_a_noisy_count(
    port: LivePlatform, listed: Path, tmp_path: Path
) -> None:
    credentials = port.admit("mill", "platform")
    output = tmp_path / "report.json"
    done = port.match(listed, output, credentials)
    told = done.document
    assert (told["status"], told["disclosure"], told["unit"]) == ("done", "platform", "subjects")
    assert (told["rows"], told["identifiers"], told["paid"]) == (2_011, 2_011, True)
    # Scale 4: beyond 100 with a probability of e^-25.
    assert abs(told["value"] - MATCHING) <= 105
    assert told["value"] % 10 == 0
    # The audience is exact: people once each, through their own consent alone.
    assert port.audience(told["session"]) == sorted(f"s{i}" for i in range(MATCHING))
    written = json.loads(output.read_text())
    assert written["unit"] == "subjects"
    loaded = Credentials.load(credentials)
    report = NoisyReport.open(mapped_document(written["report"]), loaded.pin.identity_key)
    assert report.value == told["value"]
    # No row-wise file, no resume file; a receipt.
    files = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert files == ["report.json", "report.json.receipt"]
    assert oct(output.stat().st_mode)[-3:] == "600"
    assert "matched" not in done.stdout
    assert operator("audit", "--data-dir", port.data_dir).code == 0


def test_count_tells_both_a_number_and_stores_nobody(
    port: LivePlatform, listed: Path, tmp_path: Path
) -> None:
    credentials = port.admit("well", "count")
    done = port.match(listed, tmp_path / "report.json", credentials)
    told = done.document
    assert (told["disclosure"], told["unit"], told["paid"]) == ("count", "identifiers", True)
    # s0 has three identifiers of which two are counted; the others of the ten have two.
    assert abs(told["value"] - (MATCHING + 10)) <= 205
    assert port.audience(told["session"]) == []
    # The platform knows the exact number, too.
    assert port.rows('SELECT matched FROM "commit" WHERE session = ?', told["session"]) == [(MATCHING + 10,)]
    assert operator("audit", "--data-dir", port.data_dir).code == 0


def test_the_same_list_is_answered_again_without_a_session(
    port: LivePlatform, listed: Path, tmp_path: Path
) -> None:
    credentials = port.admit("farm", "platform")
    first = port.match(listed, tmp_path / "one.json", credentials).document
    sessions = port.rows("SELECT count(*) FROM session")
    again = port.match(listed, tmp_path / "two.json", credentials).document
    assert again["session"] is None
    assert not again["paid"]
    assert again["value"] == first["value"]
    assert port.rows("SELECT count(*) FROM session") == sessions
    assert json.loads((tmp_path / "one.json").read_text()) == json.loads((tmp_path / "two.json").read_text())


def test_what_was_uploaded_is_gone_when_a_session_ends(
    port: LivePlatform, listed: Path, tmp_path: Path
) -> None:
    credentials = port.admit("barn", "platform")
    assert port.match(listed, tmp_path / "report.json", credentials).code == 0
    assert port.rows("SELECT count(*) FROM exchange_part") == [(0,)]
    assert port.rows("SELECT count(*) FROM exchange") == [(0,)]


def test_nobody_who_matches_is_told_as_below_a_hundred(port: LivePlatform, tmp_path: Path) -> None:
    credentials = port.admit("pier", "platform")
    strangers = customers(tmp_path / "strangers.csv", 1_000, first=50_000)
    told = port.match(strangers, tmp_path / "report.json", credentials).document
    assert (told["count"], told["value"], told["rate"]) == ("below 100", 0, "")
    assert port.audience(told["session"]) == []


def test_another_back_end_finds_the_same(
    port: LivePlatform, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has the fastest back end, and here the client has libsodium."""
    monkeypatch.setenv("PURPOSEMATCH_GROUP", "sodium")
    credentials = port.admit("reed", "platform")
    told = port.match(listed, tmp_path / "report.json", credentials).document
    assert port.audience(told["session"]) == sorted(f"s{i}" for i in range(MATCHING))


def test_impact_counts_audiences_and_nobody_that_an_advertiser_learned_of(
    port: LivePlatform, listed: Path, tmp_path: Path
) -> None:
    credentials = port.admit("cove", "platform")
    assert port.match(listed, tmp_path / "report.json", credentials).code == 0
    found = port.operate("impact", "--origin", "signup", "--advertiser", "cove")
    assert found["subjects_in_audiences"] == MATCHING
    assert found["subjects_advertisers_may_have_learned_of"] == 0


def test_who_withdrew_since_is_in_no_audience_and_not_counted(port: LivePlatform, tmp_path: Path) -> None:
    """The gate is asked again at the end, and the next generation has another list."""
    credentials = port.admit("lake", "platform")
    listed = customers(tmp_path / "list.csv", 1_000, first=100)
    port.enroll([assertion("s100", "email", "user100@example.com", status="withdrawn")])
    told = port.match(listed, tmp_path / "report.json", credentials).document
    audience = port.audience(told["session"])
    assert "s100" not in audience
    assert len(audience) == 999


def test_people_read_a_report(port: LivePlatform, listed: Path, tmp_path: Path) -> None:
    credentials = port.admit("quay", "platform")
    arguments = port.match_arguments(listed, tmp_path / "report.json", credentials)
    done = advertiser(*[each for each in arguments if each != "--json"])
    assert done.code == 0, done.stderr
    assert "Counted, disclosure platform" in done.stdout
    assert "with noise" in done.stdout
    assert "noisy count of the subjects" in done.stderr
