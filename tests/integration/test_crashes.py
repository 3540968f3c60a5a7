"""kill -9 in the middle of commands: what was acknowledged stays, nothing is half-done, the audit passes.

Every command is killed before each of its steps (see `crash_driver`) and after random times, and then run
again on what is left.
"""

import contextlib
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from crashes import Driver, Run, driver
from platforms import LivePlatform, assertion, customers, grants, operator, write_csv
from signed import add_issuer, batch_rows, signed_rows

NEW = 25
"""Rows of the delivery that is interrupted."""
MISLABELLED = [assertion(f"m{i}", "email", f"m{i}@example.com", notice_id="join-4") for i in range(5)]
GRANTED = 1_000
NAMES = (
    "enroll",
    "enroll-signed",
    "enroll-batch",
    "withdraw",
    "withdraw-file",
    "publish",
    "epoch",
    "correct",
    "erase",
    "policy",
    "issuer",
    "rotate",
    "expire",
    "agreement",
    "certificate",
)
DELIVERS_ONCE = frozenset({"enroll", "enroll-signed", "enroll-batch", "withdraw", "withdraw-file"})
"""What stores one delivery and everything else in one transaction."""
DONE_ALREADY = {
    "erase": "nothing is stored of it",
    "issuer": "is revoked from",
    "expire": "has no audience default",
    "agreement": "has ended agreement 1",
    "certificate": "was revoked already",
}
"""What says so when it is asked for again, and had stored everything in one transaction or one file."""
LOGGED_FIRST = {"issuer": {"policy", "log_leaf", "log_tile"}}
"""What stores something before its file is in its place: only in these tables."""


@dataclass(frozen=True)
class Town:
    """A platform with a past, copied for every case.

    Attributes:
        original: never changed.
        commands: by name, without the data directory.
        ending: how many identifiers the next generation has when the command was done, by name.
        driver: runs them.
        folder: where copies are.
    """

    original: Path
    commands: dict[str, list[str | Path]]
    ending: dict[str, int]
    driver: Driver
    folder: Path

    def copy(self, name: str) -> Path:
        """A fresh copy, as the command of this name wants to find it."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.original, copy)
        if name == "epoch":
            # What ends an epoch early: its key is gone, and a new one is made.
            (copy / "keys" / "epoch-1.sealed").unlink()
        return copy

    def run(self, name: str, data_dir: Path, **killing: Any) -> Run:
        """Runs a command on a copy."""
        return self.driver.run([*self.commands[name], "--data-dir", data_dir, "--json"], **killing)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    platform = LivePlatform.create(folder)
    add_issuer(platform)
    platform.enroll([*grants(GRANTED), *MISLABELLED])
    platform.publish()
    credentials = platform.admit("acme")
    with platform.serving():
        listed = customers(folder / "list.csv", GRANTED)
        assert platform.match(listed, folder / "matched.csv", credentials).code == 0
    platform.operate("withdraw", "--subject-id", "s0")
    platform.enroll([assertion("late", "email", "late@example.com")])
    commands: dict[str, list[str | Path]] = {
        "enroll": ["enroll", write_csv(folder / "new.csv", grants(NEW, first=5_000))],
        "enroll-signed": ["enroll", write_csv(folder / "signed.csv", signed_rows(NEW))],
        "withdraw": ["withdraw", "--subject-id", "s1"],
        "withdraw-file": [
            "withdraw",
            write_csv(folder / "who.csv", [{"subject_id": f"s{i}"} for i in (1, 2)]),
        ],
        "publish": ["publish"],
        "epoch": ["publish"],
        "correct": ["correct", "--notice", "join-4", "--origin", "two_factor", "--apply"],
    }
    batch, rows = batch_rows(NEW)
    (folder / "batch.json").write_bytes(batch.to_bytes())
    commands["enroll-batch"] = [
        *("enroll", write_csv(folder / "batch.csv", rows), "--evidence", folder / "batch.json")
    ]
    policy = (platform.data_dir / "policy.toml").read_text()
    (folder / "new.toml").write_text(policy.replace("strict_origins = false", "strict_origins = true"))
    ((shown,),) = platform.rows("SELECT hex(fingerprint) FROM certificate WHERE role = 'advertiser'")
    commands |= {
        "erase": ["erase", "--subject-id", "s1", "--apply"],
        "policy": ["policy", "publish", folder / "new.toml"],
        "issuer": ["issuer", "revoke", "screens", "--compromised-since", "2020-01-01T00:00:00Z"],
        "rotate": ["epoch", "rotate"],
        "expire": ["audience", "expire", "default", "--advertiser", "acme"],
        "agreement": ["agreement", "end", "acme"],
        "certificate": ["certificate", "revoke", shown, "--reason", "superseded"],
    }
    # s0 has withdrawn, and `late` came.
    now = GRANTED + len(MISLABELLED)
    change = {"enroll": NEW, "enroll-signed": NEW, "enroll-batch": NEW, "withdraw": -1, "withdraw-file": -2}
    change |= {"erase": -1}
    ending = {name: now + change.get(name, 0) for name in NAMES} | {"correct": now - len(MISLABELLED)}
    with driver(folder / "driver") as started:
        yield Town(platform.data_dir, commands, ending, started, folder)


def counts(data_dir: Path) -> Counter[str]:
    """The rows of every table; looking repairs what was interrupted, as the next command does."""
    with contextlib.closing(sqlite3.connect(data_dir / "registry.sqlite")) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return Counter(
            {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}
        )


def audited(data_dir: Path) -> None:
    done = operator("audit", "--data-dir", data_dir, "--json")
    assert done.code == 0, done.stderr


def in_service(data_dir: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(data_dir / "registry.sqlite")) as database:
        return {name for (name,) in database.execute("SELECT id FROM generation")}


def check_after(town: Town, name: str, data_dir: Path, run: Run, before: Counter[str]) -> None:
    """What must hold when a command was killed, and when it was run again."""
    # An audit that passes is a leaf of the log itself.
    now = counts(data_dir)
    audited(data_dir)
    again = town.run(name, data_dir)
    if name in DONE_ALREADY and again.code == 1:
        assert DONE_ALREADY[name] in again.stderr
    else:
        # Whatever was said to be done was not lost.
        changed = {table for table in now if now[table] != before[table]}
        assert name not in DONE_ALREADY or (run.document is None and changed <= LOGGED_FIRST.get(name, set()))
        assert again.code == 0, again.stderr
    if name in DELIVERS_ONCE:
        stored = now["delivery"] == before["delivery"] + 1
        assert stored or now == before
        if run.document is not None:
            assert stored
    elif run.document is not None and name not in DONE_ALREADY:
        assert run.document["generation"] in in_service(data_dir)
        assert now["correction"] == before["correction"] + (name == "correct")
    published = again.document if name in ("publish", "epoch") else town.run("publish", data_dir).document
    assert published["count"] == town.ending[name]
    audited(data_dir)
    # Nobody finds a generation that was never in service, nor half a file.
    folders = {path.name for path in (data_dir / "generations").iterdir()} - {"segments"}
    assert folders == in_service(data_dir)
    assert not list((data_dir / "generations" / "segments").glob(".*"))


def each_killed(town: Town, name: str, choose: Callable[[int], Sequence[int]], **how: bool) -> None:
    """Kills a command before each of the chosen steps of all that it takes."""
    whole = town.run(name, town.copy(name), **how)
    assert whole.code == 0, whole.stderr
    for step in choose(whole.steps):
        data_dir = town.copy(name)
        before = counts(data_dir)
        run = town.run(name, data_dir, step=step, **how)
        assert run.killed, (name, step, run.stderr)
        try:
            check_after(town, name, data_dir, run, before)
        except AssertionError as error:
            error.add_note(f"{name} was killed before step {step} of {whole.steps}")
            raise


def some(steps: int) -> list[int]:
    """A few of many steps, the same ones in every run, the last one among them."""
    return [*sorted(random.Random(steps).sample(range(1, steps), min(3, steps - 1))), steps]


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_killed_before_some_of_its_steps(town: Town, name: str) -> None:
    each_killed(town, name, some)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_killed_before_each_of_its_steps(town: Town, name: str) -> None:
    each_killed(town, name, lambda steps: range(1, steps + 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_killed_before_each_statement(town: Town, name: str) -> None:
    each_killed(town, name, lambda steps: range(1, steps + 1, 7), statements=True)


def at_random_times(town: Town, name: str, times: int) -> None:
    seconds = town.run(name, town.copy(name)).seconds
    chance = random.Random(f"{name} {times}")
    for number in range(times):
        data_dir = town.copy(name)
        before = counts(data_dir)
        # The last of them come when everything is done and said.
        run = town.run(name, data_dir, seconds=seconds * 1.1 * (number + chance.random()) / times)
        try:
            check_after(town, name, data_dir, run, before)
        except AssertionError as error:
            error.add_note(f"{name} was killed after {run.seconds:.4f} s of {seconds:.4f} s")
            raise


@pytest.mark.parametrize("name", ["enroll-signed", "withdraw", "publish", "correct"])
def test_a_command_is_killed_at_random_times(town: Town, name: str) -> None:
    at_random_times(town, name, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_killed_at_many_random_times(town: Town, name: str) -> None:
    at_random_times(town, name, 25)


def test_a_checkpoint_may_be_behind_the_log_and_never_ahead(town: Town, tmp_path: Path) -> None:
    data_dir = town.copy("publish")
    registry, checkpoint = data_dir / "registry.sqlite", data_dir / "log.checkpoint"
    older, signed = tmp_path / "registry.sqlite", checkpoint.read_bytes()
    shutil.copy(registry, older)
    assert town.run("publish", data_dir).code == 0
    assert checkpoint.read_bytes() != signed
    newer = checkpoint.read_bytes()
    # Killed after the transaction and before the checkpoint: the log is longer than what was signed.
    checkpoint.write_bytes(signed)
    audited(data_dir)
    assert town.run("publish", data_dir).code == 0
    # A database that lost what was signed.
    shutil.copy(older, registry)
    checkpoint.write_bytes(newer)
    for command in (["audit"], ["publish"]):
        done = operator(*command, "--data-dir", data_dir)
        assert done.code == 1
        assert "log" in done.stderr
        assert checkpoint.read_bytes() == newer


def test_the_driver_kills_where_it_is_told_to_and_nowhere_else(town: Town) -> None:
    data_dir = town.copy("enroll")
    whole = town.run("enroll", data_dir)
    assert not whole.killed
    assert whole.document["read"] == NEW
    killed = town.run("enroll", town.copy("enroll"), step=whole.steps)
    assert killed.killed
    assert killed.document is None
