"""A platform that rewrites its log, or shows two of them: refused by name, or found among receipts."""

import asyncio
import json
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from platforms import PLATFORM_ID, Done, LivePlatform, assertion, customers, grants, program

from purposematch.client import MatchClient
from purposematch.client.checkpoints import LastCheckpoint
from purposematch.client.credentials import load_pin
from purposematch.client.receipt import SessionReceipt
from purposematch.protocol.errors import ForkError
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.server.checkpoints import sign_checkpoint
from purposematch.server.registry import log

ENROLLED = 1_050


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    """A platform with three advertisers, not served: every test forks copies of it."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("grown"))
    platform.enroll(grants(ENROLLED))
    platform.publish()
    for name in ("acme", "globex"):
        platform.admit(name)
    platform.admit("alone", "advertiser")
    customers(platform.folder / "list.csv")
    return platform


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What this user remembers of logs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "purposematch" / "logs"


@pytest.fixture
def one(grown: LivePlatform, tmp_path: Path) -> Iterator[LivePlatform]:
    with _copy(grown, tmp_path / "one").serving() as platform:
        yield platform


def _copy(platform: LivePlatform, folder: Path) -> LivePlatform:
    """The same platform once more, with the same keys: from here on it has another history."""
    folder.mkdir()
    shutil.copytree(platform.data_dir, folder / "platform")
    return LivePlatform(folder)


def _credentials(grown: LivePlatform, name: str) -> Path:
    return grown.folder / f"credentials-{name}"


def _match(grown: LivePlatform, at: LivePlatform, name: str, output: Path) -> str:
    """One session; what it failed with, or nothing."""
    done = at.match(grown.folder / "list.csv", output, _credentials(grown, name))
    assert done.code in (0, 1)
    assert (done.code == 0) == output.exists() == Path(f"{output}.receipt").exists()
    return done.stderr.rsplit("\n", 2)[1] if done.code else ""


def _last(grown: LivePlatform, state: Path) -> LastCheckpoint:
    key = load_pin(_credentials(grown, "acme")).identity_key
    return LastCheckpoint(state / key.hex(), log_origin(PLATFORM_ID), key)


def _size(grown: LivePlatform, state: Path) -> int:
    known = _last(grown, state).load()
    return known.checkpoint.size if known else 0


@pytest.mark.parametrize("name", ["acme", "alone"])
def test_a_client_follows_an_honest_log(
    grown: LivePlatform, one: LivePlatform, tmp_path: Path, state: Path, name: str
) -> None:
    before = _last(grown, state)
    assert before.load() is None
    assert not _match(grown, one, name, tmp_path / "a.csv")
    first = _size(grown, state)
    # The last leaf says that the session ended, and the one before that it was committed.
    with one.opened() as platform, platform.registry.reading() as connection:
        assert log.size(connection) == first
    one.enroll([assertion("later", "email", "later@example.com")])
    one.publish()
    assert not _match(grown, one, name, tmp_path / "b.csv")
    assert _size(grown, state) > first
    assert stat.S_IMODE(before.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(before.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in before.path.parent.iterdir()] == ["checkpoint"]
    receipt = json.loads((tmp_path / "b.csv.receipt").read_bytes())
    assert receipt["proof"]["checkpoint"].encode() == before.path.read_bytes()
    assert (receipt["commit"] is None) == (name == "alone")
    assert stat.S_IMODE((tmp_path / "b.csv.receipt").stat().st_mode) == 0o600


def test_processes_at_once_are_all_satisfied_and_the_latest_checkpoint_is_kept(
    grown: LivePlatform, one: LivePlatform, tmp_path: Path, state: Path
) -> None:
    names = ("acme", "globex", "alone")

    def match(name: str) -> Done:
        arguments = one.match_arguments(
            grown.folder / "list.csv", tmp_path / f"{name}.csv", _credentials(grown, name)
        )
        return program("purposematch", *arguments)

    with ThreadPoolExecutor(len(names)) as pool:
        ended = list(pool.map(match, names))
    assert [done.code for done in ended] == [0, 0, 0], [done.stderr for done in ended]
    receipts = [
        SessionReceipt.load(tmp_path / f"{name}.csv.receipt").open(
            log_origin(PLATFORM_ID), load_pin(_credentials(grown, name)).identity_key
        )
        for name in names
    ]
    assert _size(grown, state) == max(receipt.checkpoint.size for receipt in receipts)
    folder = _last(grown, state).path.parent
    assert [path.name for path in folder.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("length", [-2, 0, 9], ids=["shorter", "as long", "longer"])
@pytest.mark.parametrize(("name", "leaves"), [("acme", 3), ("alone", 2)])
def test_a_rewritten_log_is_refused_before_anything_of_the_list_is_sent(
    grown: LivePlatform, one: LivePlatform, tmp_path: Path, state: Path, name: str, leaves: int, length: int
) -> None:
    rewritten = _copy(grown, tmp_path / "two")
    # Something else stands in the places of what was shown; the session adds one leaf.
    for number in range(max(leaves - 1 + length, 0)):
        rewritten.enroll([assertion("other", "email", f"other{number}@example.com")])
    assert not _match(grown, one, name, tmp_path / "a.csv")
    kept = _last(grown, state).path.read_bytes()
    with rewritten.serving():
        failed = _match(grown, rewritten, name, tmp_path / "b.csv")
    assert "the platform's log forked" in failed
    assert "ask the platform" in failed
    batches = "SELECT count(*) FROM batch JOIN session ON session.id = batch.session WHERE advertiser = ?"
    assert rewritten.rows(batches, name) == [(0,)]
    assert rewritten.rows("SELECT count(*) FROM session WHERE state = 'open'") == [(0,)]
    # What was accepted stays what is known, and both notes are there to be shown.
    folder = _last(grown, state).path.parent
    assert (folder / "checkpoint").read_bytes() == kept
    (fork,) = folder.glob("fork-*.json")
    assert str(fork) in failed
    evidence = json.loads(fork.read_bytes())
    assert evidence["known"].encode() == kept
    key = load_pin(_credentials(grown, name)).identity_key
    shown = Checkpoint.open(evidence["shown"].encode(), log_origin(PLATFORM_ID), key)
    known = Checkpoint.open(kept, log_origin(PLATFORM_ID), key)
    assert shown.root != known.root
    assert (shown.size > known.size) == (length > 0)
    assert (shown.size == known.size) == (length == 0)
    # The honest log is still followed.
    assert not _match(grown, one, name, tmp_path / "c.csv")


def test_the_library_raises_it_by_name(grown: LivePlatform, one: LivePlatform, tmp_path: Path) -> None:
    rewritten = _copy(grown, tmp_path / "two")
    assert not _match(grown, one, "acme", tmp_path / "a.csv")

    async def match(address: str) -> None:
        async with MatchClient(address, _credentials(grown, "acme")) as client:
            await client.match(grown.folder / "list.csv", output=tmp_path / "b.csv")

    with rewritten.serving(), pytest.raises(ForkError, match="the platform's log forked"):
        asyncio.run(match(rewritten.address))


def test_a_log_that_forks_during_a_session_is_refused_and_the_commit_is_told(
    grown: LivePlatform, one: LivePlatform, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another process of this user is shown a longer log meanwhile, one that is not this one.
    rewritten = _copy(grown, tmp_path / "two")
    with rewritten.opened() as platform:
        for _ in range(9):
            rewritten.enroll([assertion("other", "email", "other@example.com")])
        note = sign_checkpoint(platform)
    last = _last(grown, state)
    original = LastCheckpoint.replace

    def replaced(self: LastCheckpoint, *arguments: object) -> bool:
        done = original(self, *arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(LastCheckpoint, "replace", original)
        assert original(last, last.load(), last.verified(note))
        return done

    monkeypatch.setattr(LastCheckpoint, "replace", replaced)
    failed = _match(grown, one, "acme", tmp_path / "a.csv")
    assert "the platform's log forked" in failed
    assert "the platform has received all 1,000 matches of session" in failed
    assert "no output was written" in failed
    assert one.rows('SELECT count(*) FROM "commit"') == [(1,)]
