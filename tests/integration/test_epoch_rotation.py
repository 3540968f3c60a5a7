"""`epoch rotate`: a session that is open across it finishes, later ones use the new key, the old key dies."""

import secrets
import time
from pathlib import Path

import numpy as np
import pytest
from platforms import LivePlatform, advertiser, customers, grants, operator, read_csv
from raw_client import connected, email_inputs, load

from purposematch.server.audit import audit
from purposematch.server.publisher import CHECK_SECONDS

LISTED = [f"user{i}@example.com" for i in range(900, 1_900)]
ENROLLED = range(300)
"""The rows of `LISTED` that are enrolled: 900 to 1199."""


@pytest.fixture
def hamlet(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path / "hamlet", max_batch_elements=256)
    platform.enroll(grants(1_200))
    platform.publish()
    return platform


def test_a_session_that_is_open_across_a_rotation_finishes(hamlet: LivePlatform, tmp_path: Path) -> None:
    acme, keys = hamlet.admit("acme"), hamlet.data_dir / "keys"
    with hamlet.serving(watchful=True), connected(hamlet.address, load(acme)) as client:
        session = client.open()
        document = hamlet.operate("epoch", "rotate")
        assert (document["epoch"], document["count"]) == (2, 1_200)
        assert document["open_sessions_of_ended_epochs"] == 1
        assert {path.name for path in keys.glob("epoch-*")} == {"epoch-1.sealed", "epoch-2.sealed"}
        # The open one: batches, segments and commit, all under the old key.
        for segment in session.manifest.all_segments:
            segment.check(memoryview(client.parts(session.id, segment.sha256)))
        tags, tokens = session.run(email_inputs(LISTED))
        entries = session.entries(tags, tokens, ENROLLED)
        receipt = session.receipt(session.commit(entries, secrets.token_bytes(16)))
        assert receipt.received == len(ENROLLED)
        assert len(hamlet.audience(session.id.hex())) == len(ENROLLED)
        # A new one uses the new key, and finds the same people under other tags.
        later = client.open()
        assert later.manifest.scope.epoch == 2
        assert later.manifest.public_key != session.manifest.public_key
        new_tags, _ = later.run(email_inputs(LISTED))
        assert not (np.sort(new_tags, axis=None) == np.sort(tags, axis=None)).all()
        assert not {row.tobytes() for row in new_tags} & {row.tobytes() for row in tags}
        later.close()
        session.close()
        # Nobody publishes: the server destroys the key by itself, and says so in the log.
        deadline = time.monotonic() + 3 * CHECK_SECONDS
        while (keys / "epoch-1.sealed").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        matched = hamlet.match(customers(tmp_path / "list.csv", 1_300), tmp_path / "out.csv", acme)
    assert matched.document["matched_rows"] == 1_200
    assert len(read_csv(tmp_path / "out.csv")) == 1_300
    with hamlet.opened() as platform:
        audit(platform)
    assert "destroyed the keys" in hamlet.log.read_text()


def test_removals_of_the_old_epoch_are_closed_and_its_outputs_are_told_to_match_again(
    hamlet: LivePlatform, tmp_path: Path
) -> None:
    acme, output = hamlet.admit("acme"), tmp_path / "out.csv"
    with hamlet.serving():
        hamlet.match(customers(tmp_path / "list.csv"), output, acme)
        hamlet.operate("withdraw", "--subject-id", "s7")
        hamlet.operate("epoch", "rotate")
        removals = ("removals", output, "--platform", hamlet.address, "--credentials", acme, "--json")
        done = advertiser(*removals)
    assert done.code == 0, done.stderr
    assert read_csv(output)[7]["matched"] == "false"
    assert sum(row["matched"] == "true" for row in read_csv(output)) == 999
    with hamlet.opened() as platform:
        audit(platform)


def test_every_rotation_begins_another_epoch_and_its_life_anew(hamlet: LivePlatform) -> None:
    ends = [hamlet.operate("epoch", "rotate")["epoch_ends"] for _ in range(3)]
    assert ends == sorted(ends)
    assert hamlet.rows("SELECT epoch FROM generation ORDER BY number") == [(1,), (2,), (3,), (4,)]
    # Without a session on them, the old keys are gone at once.
    assert [path.name for path in (hamlet.data_dir / "keys").glob("epoch-*")] == ["epoch-4.sealed"]
    assert hamlet.publish()["scope"]["epoch"] == 4
    with hamlet.opened() as platform:
        audit(platform)


def test_without_a_generation_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    empty = LivePlatform.create(tmp_path / "empty")
    done = operator("epoch", "rotate", "--data-dir", empty.data_dir)
    assert done.code == 1
    assert done.stderr == (
        "error: nothing is published yet, so there is no key epoch to rotate: run publish\n"
    )
    assert not list((empty.data_dir / "keys").glob("epoch-*"))
