"""Backup and restore: a copy taken while the server works is whole, and an old one is noticed."""

import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from platforms import LivePlatform, admitted_peer, customers, grants, operator, program
from raw_client import connected, email_inputs, load

from purposematch.protocol.errors import ConfigurationError, IntegrityError
from purposematch.server.audit import audit
from purposematch.server.backup import back_up
from purposematch.server.checkpoints import last_checkpoint, sign_checkpoint
from purposematch.server.matching import Matching
from purposematch.server.platform import Platform
from purposematch.server.publish import publish
from purposematch.server.publish_lock import publishing_alone
from purposematch.server.publisher import Publisher
from purposematch.server.registry import log
from purposematch.server.registry.agreements import agreement_in_force

ENROLLED = 1_100


@pytest.fixture
def hamlet(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path / "hamlet")
    platform.enroll(grants(ENROLLED))
    platform.publish()
    platform.admit("acme")
    return platform


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this user remembers of logs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def _restored(platform: LivePlatform, backup: Path, folder: Path) -> LivePlatform:
    """As the pages say: the copy in the place of the data directory, and the root key back."""
    folder.mkdir()
    shutil.copytree(backup, folder / "platform")
    shutil.copy(platform.data_dir / "keys" / "root.key", folder / "platform" / "keys" / "root.key")
    return LivePlatform(folder)


def _tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*")}


def test_a_copy_taken_while_the_server_works_is_audited_and_serves(
    hamlet: LivePlatform, tmp_path: Path
) -> None:
    acme, backup = hamlet.folder / "credentials-acme", tmp_path / "backup"
    listed = customers(tmp_path / "list.csv", 1_500)
    ended = threading.Event()
    failures: list[str] = []

    def keep_busy() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            arguments = ("--data-dir", hamlet.data_dir, "--subject-id", f"s{number}")
            done = program("purposematch-platform", "withdraw", *arguments)
            failures.extend([done.stderr] * (done.code != 0))

    with hamlet.serving(), connected(hamlet.address, load(acme)) as client:
        session = client.open()
        session.run(email_inputs([f"user{i}@example.com" for i in range(1_000)]))
        busy = threading.Thread(target=keep_busy)
        busy.start()
        try:
            done = operator("backup", backup, "--data-dir", hamlet.data_dir, "--json")
        finally:
            ended.set()
            busy.join()
        assert failures == []
        assert done.code == 0, done.stderr
        # The server notices nothing.
        session.close()
        assert hamlet.match(listed, tmp_path / "out.csv", acme).code == 0
    document = done.document
    assert document["root_key_is_at"] == "file:keys/root.key"
    assert document["files"] == sum(path.is_file() for path in backup.rglob("*"))
    restored = _restored(hamlet, backup, tmp_path / "restored")
    with restored.opened() as platform:
        found = audit(platform)
        assert last_checkpoint(platform).size == document["log_size"]
        with platform.registry.reading() as connection:
            assert log.size(connection) >= document["log_size"]
    assert found.to_mapping()["sessions"] == 1
    # It was open when the copy was made, and so it is in the copy.
    assert restored.operate("status")["sessions"]["open"] == 1


def test_the_copy_has_everything_but_the_root_key_and_nothing_is_open_to_others(
    hamlet: LivePlatform, tmp_path: Path
) -> None:
    backup = tmp_path / "deep" / "backup"
    hamlet.operate("backup", backup)
    left_out = {"keys/root.key", "publish.lock", "policy.lock", "registry.sqlite-wal", "registry.sqlite-shm"}
    original = _tree(hamlet.data_dir)
    assert _tree(backup) == {name: mode for name, mode in original.items() if name not in left_out}
    assert backup.stat().st_mode & 0o777 == 0o700
    done = operator("status", "--data-dir", backup)
    assert done.code == 1
    assert "root.key is missing" in done.stderr
    secret = (hamlet.data_dir / "keys" / "root.key").read_bytes().strip()
    assert all(secret not in path.read_bytes() for path in backup.rglob("*") if path.is_file())


def test_a_root_key_in_any_place_stays_behind(hamlet: LivePlatform, tmp_path: Path) -> None:
    moved = hamlet.data_dir / "tls" / "root.key"
    (hamlet.data_dir / "keys" / "root.key").rename(moved)
    settings = hamlet.data_dir / "platform.toml"
    settings.write_text(settings.read_text().replace("file:keys/root.key", "file:tls/root.key"))
    assert hamlet.operate("backup", tmp_path / "backup")["root_key_is_at"] == "file:tls/root.key"
    assert not list((tmp_path / "backup").rglob("root.key"))
    assert (tmp_path / "backup" / "tls" / "ca.key").exists()


def test_the_registry_is_one_snapshot_whoever_writes_meanwhile(
    hamlet: LivePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purposematch.server.backup.PAGES_AT_A_TIME", 1)
    calls = 0
    with hamlet.opened() as platform:
        with platform.registry.reading() as connection:
            before = log.size(connection)

        def write_between(copied: int) -> None:
            nonlocal calls
            calls += 1
            assert copied >= 0
            if calls % 10 == 1:
                hamlet.operate("withdraw", "--subject-id", f"s{calls}")

        done = back_up(platform, tmp_path / "backup", write_between)
        with platform.registry.reading() as connection:
            assert log.size(connection) > before
    assert calls > 20
    restored = _restored(hamlet, tmp_path / "backup", tmp_path / "restored")
    with restored.opened() as platform, platform.registry.reading() as connection:
        assert log.size(connection) == before >= done.log_size
    with restored.opened() as platform:
        audit(platform)


def test_a_publication_under_way_is_waited_for(hamlet: LivePlatform, tmp_path: Path) -> None:
    published = threading.Event()

    def copy() -> bool:
        back_up(platform, tmp_path / "backup", lambda _: None)
        return published.is_set()

    with hamlet.opened() as platform, ThreadPoolExecutor(1) as pool:
        with publishing_alone(platform):
            copying = pool.submit(copy)
            with pytest.raises(TimeoutError):
                copying.result(0.3)
            published.set()
        assert copying.result(30)


def test_a_copy_that_fails_leaves_nothing_behind(hamlet: LivePlatform, tmp_path: Path) -> None:
    out = tmp_path / "backup"
    with hamlet.opened() as platform:
        inside = platform.data_dir.root / "backup"
        with pytest.raises(ConfigurationError, match="elsewhere"):
            back_up(platform, inside, lambda _: None)
        assert not inside.exists()

        def fail(_copied: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            back_up(platform, out, fail)
        assert not out.exists()
        out.mkdir()
        (out / "letter.txt").write_text("mine")
        with pytest.raises(ConfigurationError, match="not empty"):
            back_up(platform, out, lambda _: None)
        assert [path.name for path in out.iterdir()] == ["letter.txt"]


@pytest.fixture
def outdated(hamlet: LivePlatform, tmp_path: Path) -> Path:
    """A backup, after which an advertiser matched: the log went on, and somebody saw it."""
    backup = tmp_path / "backup"
    hamlet.operate("backup", backup)
    customers(hamlet.folder / "list.csv")
    with hamlet.serving():
        done = hamlet.match(
            hamlet.folder / "list.csv", tmp_path / "out.csv", hamlet.folder / "credentials-acme"
        )
        assert done.code == 0, done.stderr
    return backup


def test_an_old_registry_under_the_present_checkpoint_is_refused(
    hamlet: LivePlatform, outdated: Path
) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{hamlet.data_dir / 'registry.sqlite'}{suffix}").unlink(missing_ok=True)
    shutil.copy(outdated / "registry.sqlite", hamlet.data_dir / "registry.sqlite")
    with hamlet.opened() as platform:
        with pytest.raises(IntegrityError):
            sign_checkpoint(platform)
        with pytest.raises(IntegrityError):
            publish(platform)
        # A server that runs meanwhile adds no session to it, and its health service says that none can open.
        with platform.registry.reading() as connection:
            agreement = agreement_in_force(connection, "acme", platform.clock())
        with pytest.raises(IntegrityError, match="does not extend"):
            Matching(platform, lambda: bytes(32)).opening.open(
                admitted_peer(platform, "acme"), agreement.digest, ENROLLED
            )
        assert hamlet.rows("SELECT count(*) FROM session") == [(0,)]
        with pytest.raises(IntegrityError, match="does not extend"):
            asyncio.run(_refreshed(platform, problems := []))
        assert "does not extend" in problems[0]
    for command in ("publish", "serve"):
        done = program("purposematch-platform", command, "--data-dir", hamlet.data_dir)
        assert (done.code, done.stdout) == (1, "")
        assert "Backup and restore in docs/operations.md" in done.stderr
    (problem,) = hamlet.operate("status")["problems"]
    assert "Backup and restore" in problem["remedy"]


async def _refreshed(platform: Platform, problems: list[str]) -> None:
    async def note(problem: str) -> None:
        problems.append(problem)

    with ThreadPoolExecutor(1) as pool:
        await Publisher(platform, pool, note).refresh()


def test_without_the_last_checkpoint_nothing_is_built_or_served(hamlet: LivePlatform) -> None:
    (hamlet.data_dir / "log.checkpoint").unlink()
    for command in ("publish", "serve", "audit"):
        done = program("purposematch-platform", command, "--data-dir", hamlet.data_dir)
        assert (done.code, done.stdout) == (1, "")
        assert "log.checkpoint is missing: put back the note" in done.stderr


def test_an_old_copy_with_its_own_checkpoint_is_found_by_who_matched_since(
    hamlet: LivePlatform, outdated: Path, tmp_path: Path
) -> None:
    restored = _restored(hamlet, outdated, tmp_path / "restored")
    restored.publish()
    assert restored.operate("status")["problems"] == []
    with restored.serving():
        done = restored.match(
            hamlet.folder / "list.csv", tmp_path / "again.csv", hamlet.folder / "credentials-acme"
        )
    assert done.code == 1
    assert "fork" in done.stderr
    assert not (tmp_path / "again.csv").exists()


def test_a_copy_that_nothing_happened_since_serves_on(hamlet: LivePlatform, tmp_path: Path) -> None:
    listed, acme = customers(tmp_path / "list.csv", 1_500), hamlet.folder / "credentials-acme"
    with hamlet.serving():
        assert hamlet.match(listed, tmp_path / "out.csv", acme).code == 0
    hamlet.operate("backup", tmp_path / "backup")
    restored = _restored(hamlet, tmp_path / "backup", tmp_path / "restored")
    with restored.serving():
        done = restored.match(listed, tmp_path / "again.csv", acme)
    assert done.document["matched_rows"] == ENROLLED
