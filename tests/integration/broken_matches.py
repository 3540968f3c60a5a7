"""Matches that break off: run until they are done, and what both sides must hold then."""

import json
import random
import signal
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from platforms import BIN, Done, LivePlatform, advertiser, customers, first_line, grants, operator, read_csv

__all__ = [
    "BROKEN_OFF",
    "CANARIES",
    "ENROLLED",
    "FIRST",
    "LISTED",
    "Scene",
    "broken_platform",
    "finished",
    "kill_client",
    "kill_server",
    "quota_is_exact",
]

ENROLLED = 1_200
FIRST = 400
"""The list holds `user400` to `user1399`: the first 800 are enrolled."""
LISTED = 1_000
CANARIES = 64
ATTEMPTS = 12
BROKEN_OFF = 75
DAY_MICROSECONDS = 86_400_000_000


class Proxy(Protocol):
    """What stands between the two sides."""

    address: str

    def turn_to(self, target: str) -> None:
        """Passes on to another server from now on."""


@dataclass
class Scene:
    """A served platform, an advertiser, and what is between them.

    Attributes:
        known: the sessions whose commit the advertiser knows of.
        told: what runs that failed said.
    """

    platform: LivePlatform
    proxy: Proxy
    credentials: Path
    folder: Path
    known: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)

    def arguments(self, output: Path, patience: float) -> list[str | Path]:
        """The arguments of a match through the proxy."""
        return [
            *("match", self.folder / "list.csv", "--platform", self.proxy.address, "--yes", "--json"),
            *("--credentials", self.credentials, "--output", output, "--patience", str(patience)),
        ]

    def match(self, output: Path, patience: float) -> Done:
        """Runs a match through the proxy in this process."""
        return advertiser(*self.arguments(output, patience))


@contextmanager
def broken_platform(folder: Path, batch: int, **limits: int) -> Iterator[tuple[LivePlatform, Path]]:
    """A served platform and credentials for it; `audit` must pass in the end, and the quota be exact."""
    platform = LivePlatform.create(folder, max_batch_elements=batch, batches_in_flight=2, **limits)
    platform.enroll(grants(ENROLLED))
    platform.publish()
    credentials = platform.admit("acme", "both", "--daily-elements", "100000000")
    customers(folder / "list.csv", LISTED, first=FIRST)
    with platform.serving():
        yield platform, credentials
    quota_is_exact(platform)
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.code == 0, audited.stderr


def quota_is_exact(platform: LivePlatform) -> None:
    """What counts against the quota is what was evaluated: of every session as much as was declared, without
    the canaries behind it, each batch once; and every session that was opened."""
    elements: Counter[tuple[str, int]] = Counter()
    opened: Counter[tuple[str, int]] = Counter()
    sent: Counter[str] = Counter()
    for name, at in platform.rows("SELECT advertiser, opened_at FROM session"):
        opened[name, at // DAY_MICROSECONDS] += 1
    declared = dict(platform.rows("SELECT id, elements FROM session"))
    owners = dict(platform.rows("SELECT id, advertiser FROM session"))
    # A batch is stored in the transaction that counts it, so the order of rows is the one of counting.
    for session, count, at in platform.rows(
        "SELECT session, elements, received_at FROM batch ORDER BY rowid"
    ):
        before = sent[session]
        sent[session] += count
        counted = min(sent[session], declared[session]) - min(before, declared[session])
        elements[owners[session], at // DAY_MICROSECONDS] += counted
    assert all(sent[session] <= declared[session] + CANARIES for session in sent)
    usage = platform.rows("SELECT advertiser, day, elements, sessions FROM usage")
    assert {(name, day): count for name, day, count, _ in usage if count} == +elements
    assert {(name, day): count for name, day, _, count in usage if count} == +opened


def finished(scene: Scene, output: Path, done: Done, patience: float = 5) -> list[int]:
    """Goes on with a match until it is done, and checks what both sides hold; the exit codes."""
    codes = [done.code]
    resume = output.with_name(f"{output.name}.resume")
    while done.code != 0:
        scene.told.append(done.stderr)
        assert len(codes) < ATTEMPTS, (codes, done.stderr)
        assert not output.exists()
        if done.code == BROKEN_OFF:
            document = json.loads(done.stdout)
            assert document["status"] in ("interrupted", "unknown")
            assert document["resume"] == str(resume)
            assert stat.S_IMODE(resume.stat().st_mode) == 0o600
        else:
            # A clear error: of one line, and either nothing was begun or a killed process left its file.
            assert done.code in (1, -signal.SIGKILL)
            assert done.code != 1 or (done.stderr.splitlines()[-1].startswith("error: "), done.stderr)[0]
        done = scene.match(output, patience)
        codes.append(done.code)
    document = done.document
    assert document["status"] == "done"
    assert not resume.exists()
    session = document["session"]
    matched = {row["email"] for row in read_csv(output) if row["matched"] == "true"}
    assert matched == {f"user{i}@example.com" for i in range(FIRST, ENROLLED)}
    assert document["matched_identifiers"] == ENROLLED - FIRST
    batches = scene.platform.rows("SELECT number, elements FROM batch WHERE session = ?", session)
    assert sorted(number for number, _ in batches) == list(range(len(batches)))
    assert sum(elements for _, elements in batches) == LISTED + CANARIES
    ((stored,),) = scene.platform.rows('SELECT receipt FROM "commit" WHERE session = ?', session)
    own = json.loads(output.with_name(f"{output.name}.receipt").read_bytes())
    assert own["commit"]["content"] == json.loads(stored)
    assert scene.platform.audience(session) == sorted(f"s{i}" for i in range(FIRST, ENROLLED))
    scene.known.add(session)
    quota_is_exact(scene.platform)
    return codes


def killed_client(scene: Scene, output: Path, seconds: float) -> Done:
    """A client of its own process, killed after so long unless it was done."""
    command = [str(BIN / "purposematch"), *map(str, scene.arguments(output, 5))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        resume = output.with_name(f"{output.name}.resume")
        # Until the session is open nothing can be lost.
        deadline = time.monotonic() + 60
        while process.poll() is None and not resume.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(seconds)
        process.kill()
        out, err = process.communicate()
    return Done(process.returncode, out.decode(), err.decode())


def kill_client(scene: Scene, output: Path, seed: int) -> None:
    """One seeded run of a client that dies, and of the one that goes on."""
    done = killed_client(scene, output, random.Random(seed).uniform(0, 0.3))
    if done.code == 0:
        # It was too late: then it is a match like any other, and again nothing to go on with.
        assert not output.with_name(f"{output.name}.resume").exists()
    if output.exists():
        own = json.loads(output.with_name(f"{output.name}.receipt").read_bytes())
        scene.known.add(own["commit"]["content"]["session"])
        output.unlink()
    finished(scene, output, done if done.code != 0 else scene.match(output, 5))


def kill_server(scene: Scene, output: Path, seed: int) -> None:
    """One seeded run with a server that dies, while another one takes over."""
    platform = scene.platform
    command = [str(BIN / "purposematch-platform"), "serve", "--data-dir", str(platform.data_dir)]
    with platform.log.open("ab") as log:
        dying = subprocess.Popen([*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=log)
        try:
            scene.proxy.turn_to(first_line(dying).removeprefix("serving on "))
            client = subprocess.Popen(
                [str(BIN / "purposematch"), *map(str, scene.arguments(output, 20))],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            resume = output.with_name(f"{output.name}.resume")
            deadline = time.monotonic() + 60
            while client.poll() is None and not resume.exists() and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(random.Random(seed).uniform(0, 0.3))
        finally:
            dying.kill()
            dying.communicate()
        # The other server of the same platform knows all that this one knew.
        scene.proxy.turn_to(platform.address)
        out, err = client.communicate(timeout=60)
    finished(scene, output, Done(client.returncode, out.decode(), err.decode()))
