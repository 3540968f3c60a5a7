"""What takes a permission away is in force at once: for an open session, too, whatever matches it."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from platforms import LivePlatform, advertiser, customers, grants, operator, read_csv, write_csv
from raw_client import connected, email_inputs, fails, load
from raw_set_client import RawSetSession, set_stub

from purposematch.server.publish_lock import publishing_alone

LISTED = [f"user{i}@example.com" for i in range(1_000)]
LEFT = 6


@pytest.fixture
def town(tmp_path: Path) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(tmp_path / "town")
    platform.enroll([dict(row, notice_id=f"notice-{row['subject_id']}") for row in grants(20)])
    platform.publish()
    yield platform
    audited = operator("audit", "--data-dir", platform.data_dir)
    assert audited.code == 0, audited.stderr


def they_leave(town: LivePlatform) -> None:
    """`s0` to `s5`, each another way."""
    people = write_csv(town.folder / "people.csv", [{"subject_id": "s2"}])
    for arguments in (
        ("withdraw", "--subject-id", "s0"),
        ("object", "--identifier", "User1@example.com"),
        ("withdraw", people),
        ("correct", "--notice", "notice-s3", "--origin", "two_factor", "--apply"),
        ("erase", "--subject-id", "s4", "--apply"),
        ("erase", "--identifier", "user5@example.com", "--apply"),
    ):
        assert town.operate(*arguments)["pairs"] == 1


STAYED = sorted(f"s{i}" for i in range(LEFT, 20))


def test_who_leaves_while_a_session_is_open_is_not_committed(town: LivePlatform) -> None:
    credentials = town.admit("acme")
    with town.serving(), connected(town.address, load(credentials)) as client:
        session = client.open()
        tags, tokens = session.run(email_inputs(LISTED))
        they_leave(town)
        document = session.commit(session.entries(tags, tokens, range(20)), b"c" * 16)
        # As many as were sent: who left is not shown.
        assert session.receipt(document).received == 20
        session.close()
        assert town.audience(session.id.hex()) == STAYED


@pytest.mark.parametrize("disclosure", ["platform", "count"])
def test_who_leaves_while_a_set_exchange_runs_is_in_no_audience(town: LivePlatform, disclosure: str) -> None:
    credentials = town.admit("acme", disclosure)
    with (
        town.serving(),
        connected(town.address, load(credentials)) as client,
        set_stub(town.address, client.credentials) as stub,
    ):
        session = RawSetSession(client, stub, email_inputs(LISTED))
        session.send(session.own())
        session.give_back(session.returned(session.points()))
        they_leave(town)
        session.finish()
        session.close()
        assert town.audience(session.id.hex()) == (STAYED if disclosure == "platform" else [])
        exact = town.rows('SELECT matched FROM "commit" WHERE session = ?', session.id.hex())
        # Under `count` nobody knows who matched: who left is one of those that the noise hides.
        assert exact == [(len(STAYED) if disclosure == "platform" else 20,)]


def test_who_leaves_is_in_no_export_and_no_new_session(town: LivePlatform, tmp_path: Path) -> None:
    credentials = town.admit("acme")
    export = ("audience", "export", "--advertiser", "acme", "--output", tmp_path / "ads.csv")
    listed, output = customers(tmp_path / "list.csv"), tmp_path / "out.csv"
    with town.serving():
        assert town.match(listed, output, credentials).document["matched_rows"] == 20
        they_leave(town)
        done = operator(*export, "--data-dir", town.data_dir, "--json").document
        # Who was erased is no member any more.
        assert (done["exported"], done["left_out"]) == (len(STAYED), LEFT - 2)
        assert [row["subject_id"] for row in read_csv(tmp_path / "ads.csv")] == STAYED
        again = tmp_path / "again.csv"
        assert town.match(listed, again, credentials).document["matched_rows"] == len(STAYED)
        (waiting,) = town.operate("removals")["open"]
        assert waiting["open_tags"] == LEFT
        arguments = ("removals", output, again, "--platform", town.address, "--credentials", credentials)
        assert advertiser(*arguments, "--json").document["rows_removed"] == LEFT
        assert town.operate("removals")["open"] == []
    assert output.read_text() == again.read_text()


def test_no_session_opens_on_a_generation_from_before(town: LivePlatform) -> None:
    credentials = town.admit("acme")
    with town.serving(), connected(town.address, load(credentials)) as client, town.opened() as platform:
        client.open().close()
        # Somebody else publishes, and is not done.
        with publishing_alone(platform, wait=True):
            town.operate("withdraw", "--subject-id", "s0")
            with fails(grpc.StatusCode.UNAVAILABLE):
                client.open()
        session = client.open()
        assert session.manifest.count == 19
        session.close()
