"""What people and policies change after publishing takes effect by itself, at the next session or commit."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from platforms import PURPOSE, LivePlatform, assertion, customers, grants, iso, operator, read_csv, write_csv
from raw_client import connected, email_inputs, fails, load
from signed import add_issuer, signed_rows

LISTED = [f"user{i}@example.com" for i in range(1_000)]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """`user0` to `user199` are enrolled; every test has its own few of them to change."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("town"))
    add_issuer(platform)
    platform.enroll(grants(200))
    platform.publish()
    with platform.serving():
        yield platform


@pytest.fixture(scope="module")
def acme(town: LivePlatform) -> Path:
    return town.admit("acme")


def _withdraw(subject: int, status: str = "withdrawn", **other: str) -> dict[str, str]:
    return dict(assertion(f"s{subject}", "email", f"user{subject}@example.com", status=status, **other))


def _matched(town: LivePlatform, acme: Path, folder: Path) -> list[str]:
    """Who matches now, and is then in the audience."""
    output = folder / "out.csv"
    done = town.match(customers(folder / "list.csv"), output, acme)
    matched = [row["email"] for row in read_csv(output) if row["matched"] == "true"]
    assert len(matched) == done.document["matched_rows"]
    assert len(town.audience(done.document["session"])) == len(matched)
    return matched


def _generations(town: LivePlatform) -> int:
    return int(town.rows("SELECT count(*) FROM generation")[0][0])


def test_the_next_session_opens_only_on_a_generation_without_who_withdrew(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    assert "user3@example.com" in _matched(town, acme, tmp_path)
    before = _generations(town)
    town.enroll([_withdraw(3)])
    matched = _matched(town, acme, tmp_path)
    assert "user3@example.com" not in matched
    assert "user4@example.com" in matched
    assert _generations(town) == before + 1


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(_withdraw(5, "objected"), id="objected"),
        pytest.param(_withdraw(5, "refused"), id="refused"),
        pytest.param(_withdraw(5, purposes="marketing"), id="an ancestor of the use"),
        pytest.param(_withdraw(5, purposes="no.such.purpose"), id="an unknown purpose"),
        pytest.param(_withdraw(5, purposes=""), id="no purpose"),
        pytest.param(_withdraw(5, origin="nobody knows"), id="an unknown origin"),
        pytest.param(_withdraw(5) | {"value": ""}, id="the whole subject"),
        pytest.param(_withdraw(5) | {"subject_id": ""}, id="the identifier for all subjects"),
    ],
)
def test_every_way_of_refusing_is_in_force_at_the_next_session(tmp_path: Path, row: dict[str, str]) -> None:
    platform = LivePlatform.create(tmp_path / "p")
    platform.enroll(grants(20))
    assert platform.publish()["count"] == 20
    platform.enroll([row])
    assert platform.publish()["count"] == 19


def test_a_withdrawal_between_opening_and_commit_keeps_the_subject_out_and_shows_nothing(
    town: LivePlatform, acme: Path
) -> None:
    with connected(town.address, load(acme)) as client:
        session = client.open()
        tags, tokens = session.run(email_inputs(LISTED))
        town.enroll([_withdraw(10)])
        # The index of the session still holds the tag, so an honest client commits it.
        document = session.commit(session.entries(tags, tokens, [10, 11, 12]), b"c" * 16)
        assert session.receipt(document).received == 3
        assert town.audience(session.id.hex()) == ["s11", "s12"]
        session.close()


def test_renewed_brings_back_who_withdrew_and_nobody_who_objected(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    town.enroll([_withdraw(20), _withdraw(21, "objected"), _withdraw(22)])
    town.publish()
    out = {"user20@example.com", "user21@example.com", "user22@example.com"}
    assert out.isdisjoint(_matched(town, acme, tmp_path))
    time.sleep(0.05)
    after = iso(0)
    time.sleep(0.05)
    report = town.enroll(
        [
            _withdraw(20, "renewed", not_before=after),
            _withdraw(21, "renewed", not_before=after),
            # Said to be from before the withdrawal.
            _withdraw(22, "renewed", not_before=iso(-3600)),
        ]
    )
    assert report["enrolled"] == 1
    town.publish()
    assert out.intersection(_matched(town, acme, tmp_path)) == {"user20@example.com"}


def test_a_revoked_key_takes_back_what_was_received_since_at_the_commit_and_at_the_next_session(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    rows = signed_rows(3)
    assert town.enroll(rows[:2])["enrolled"] == 2
    time.sleep(0.05)
    since = iso(0)
    time.sleep(0.05)
    assert town.enroll(rows[2:])["enrolled"] == 1
    town.publish()
    signed = [row["value"] for row in rows]
    everybody = [*LISTED[3:], *signed]
    with connected(town.address, load(acme)) as client:
        session = client.open()
        tags, tokens = session.run(email_inputs(everybody))
        town.operate("issuer", "revoke", "screens", "--compromised-since", since)
        document = session.commit(session.entries(tags, tokens, [997, 998, 999]), b"r" * 16)
        assert session.receipt(document).received == 3
        assert town.audience(session.id.hex()) == ["signed0", "signed1"]
        session.close()
    listed = write_csv(tmp_path / "list.csv", [{"email": value} for value in everybody])
    assert town.match(listed, tmp_path / "out.csv", acme).code == 0
    matched = {row["email"] for row in read_csv(tmp_path / "out.csv") if row["matched"] == "true"}
    assert matched & {*signed} == {*signed[:2]}


def test_an_expired_consent_is_not_matched_any_more(town: LivePlatform, acme: Path, tmp_path: Path) -> None:
    before = town.publish()["count"]
    expires = time.monotonic() + 3
    town.enroll([assertion("short", "email", "user900@example.com", expires_at=iso(3))])
    assert town.publish()["count"] == before + 1
    time.sleep(max(0.0, expires - time.monotonic()) + 0.1)
    assert "user900@example.com" not in _matched(town, acme, tmp_path)


def test_a_consent_that_begins_later_does_not_match_yet(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    report = town.enroll([assertion("later", "email", "user901@example.com", not_before=iso(3600))])
    assert report["refused"] == {"NOT_YET_VALID": 1}
    town.publish()
    assert "user901@example.com" not in _matched(town, acme, tmp_path)


def test_a_changed_policy_is_published_before_the_next_session_opens(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    policy = town.data_dir / "policy.toml"
    original = policy.read_text()
    town.enroll([assertion("bought", "email", "user902@example.com", "purchase")])
    town.publish()
    assert "user902@example.com" in _matched(town, acme, tmp_path)
    try:
        policy.write_text(original.replace(', "purchase"]', "]"))
        matched = _matched(town, acme, tmp_path)
        assert "user902@example.com" not in matched
        assert "user50@example.com" in matched
    finally:
        policy.write_text(original)
    assert "user902@example.com" in _matched(town, acme, tmp_path)


def test_a_policy_that_is_refused_stops_sessions_and_touches_nothing(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    policy = town.data_dir / "policy.toml"
    original = policy.read_text()
    before = town.rows("SELECT id, valid_until FROM generation ORDER BY published_at")
    listed, output = customers(tmp_path / "list.csv"), tmp_path / "out.csv"
    try:
        policy.write_text(original.replace('"signup"', '"two_factor"', 1))
        with connected(town.address, load(acme)) as client, fails(grpc.StatusCode.UNAVAILABLE):
            client.open()
        done = town.match(listed, output, acme)
        assert done.code == 1
        assert "error: " in done.stderr
        assert not output.exists()
        done = operator("publish", "--data-dir", town.data_dir)
        assert done.code == 1
        assert "two_factor" in done.stderr
        assert "2019" in done.stderr
        after = town.rows("SELECT id, valid_until FROM generation ORDER BY published_at")
        assert after == before
    finally:
        policy.write_text(original)
    assert town.match(listed, output, acme).code == 0


def test_an_open_session_ends_as_it_began_when_the_policy_changes(town: LivePlatform, acme: Path) -> None:
    policy = town.data_dir / "policy.toml"
    original = policy.read_text()
    with connected(town.address, load(acme)) as client:
        session = client.open()
        tags, tokens = session.run(email_inputs(LISTED))
        try:
            policy.write_text(original.replace('"signup", ', ""))
            document = session.commit(session.entries(tags, tokens, [30, 31]), b"d" * 16)
        finally:
            policy.write_text(original)
        # Everybody here signed up, and that permits no more: the receipt tells nothing of it.
        assert session.receipt(document).received == 2
        assert town.audience(session.id.hex()) == []
        session.close()


def test_a_platform_serves_no_session_for_a_purpose_that_was_not_agreed(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "p")
    other = "marketing.advertising.first_party.targeted"
    platform.enroll([*grants(10), assertion("o", "email", "o@example.com", purposes=other)])
    platform.publish()
    credentials = platform.admit("acme")
    policy = platform.data_dir / "policy.toml"
    policy.write_text(policy.read_text().replace(PURPOSE, other))
    with platform.serving(), connected(platform.address, load(credentials)) as client:
        with fails(grpc.StatusCode.FAILED_PRECONDITION):
            client.open()
        assert platform.rows("SELECT count(*) FROM session") == [(0,)]
