"""Real platforms for tests: a data directory, the server as a process of its own, and both command lines.

Commands run in this process where only their outcome matters, which saves a second each, and as programs
where a test says so; both go through the same `run`.
"""

import contextlib
import csv
import io
import json
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from purposematch.client import cli as advertiser_cli
from purposematch.console import run
from purposematch.server import cli as platform_cli
from purposematch.server.certificates import store_certificate
from purposematch.server.credentials import ClientCertificate
from purposematch.server.pki import CLIENT_VALIDITY, PeerIdentity, Role
from purposematch.server.platform import Platform, open_platform
from purposematch.server.registry.certificates import certificates
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.members import load_members
from purposematch.server.times import moment

BIN = Path(sys.executable).parent
START_SECONDS = 60
"""How long a server may take to say that it serves, on a busy machine."""
STOP_SECONDS = 30
PROGRAM_SECONDS = 120

PURPOSE = "marketing.advertising.third_party.targeted"
PLATFORM_ID = "birdsite"
WATCHFUL = """
import sys
from purposematch.server import program, publisher, served_certificate

publisher.CHECK_SECONDS = served_certificate.LOOK_SECONDS = 0.5
sys.exit(program.main())
"""
"""`purposematch-platform` that looks more often after what it has to notice by itself."""
ASSERTION_COLUMNS = (
    *("subject_id", "kind", "value", "value_format", "purposes", "origin", "status"),
    *("notice_id", "not_before", "expires_at"),
)

Row = Mapping[str, str]


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout of a command that succeeded."""
        assert self.code == 0, self.stderr
        return json.loads(self.stdout)


def program(name: str, *arguments: str | Path, stdin: bytes | None = None) -> Done:
    """Runs an installed program to its end."""
    done = subprocess.run(
        [str(BIN / name), *map(str, arguments)],
        input=stdin if stdin is not None else b"",
        capture_output=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def advertiser(*arguments: str | Path) -> Done:
    """Runs `purposematch` in this process."""
    return _in_process(advertiser_cli.app, arguments)


def operator(*arguments: str | Path) -> Done:
    """Runs `purposematch-platform` in this process."""
    return _in_process(platform_cli.app, arguments)


_OUTPUT = threading.Lock()


def _in_process(app: typer.Typer, arguments: Iterable[str | Path]) -> Done:
    out, err = io.StringIO(), io.StringIO()
    # What a process writes is redirected for all its threads at once: a second command would write into this
    # one's answer. A test that wants two at a time runs one of them as a program.
    assert _OUTPUT.acquire(blocking=False), "a command runs in this process already"
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(app, list(map(str, arguments)))
    finally:
        _OUTPUT.release()
    return Done(code, out.getvalue(), err.getvalue())


def assertion(subject: str, kind: str, value: str, origin: str = "signup", **other: str) -> Row:
    """A row of an account file: a grant for advertising unless something else is said."""
    row = dict.fromkeys(ASSERTION_COLUMNS, "") | {
        "subject_id": subject,
        "kind": kind,
        "value": value,
        "value_format": "raw",
        "purposes": PURPOSE,
        "origin": origin,
        "status": "granted",
    }
    assert other.keys() <= {*ASSERTION_COLUMNS, "hash_profile"}
    return row | other


def grants(count: int, *, first: int = 0) -> list[Row]:
    """Grants of subjects `s<i>` for `user<i>@example.com`."""
    return [assertion(f"s{i}", "email", f"user{i}@example.com") for i in range(first, first + count)]


def write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str] | None = None) -> Path:
    """Writes rows with the columns of the first one, or those given."""
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def customers(path: Path, count: int = 1_000, *, first: int = 0) -> Path:
    """A list of `user<i>@example.com`."""
    return write_csv(path, [{"email": f"user{i}@example.com"} for i in range(first, first + count)])


@dataclass
class LivePlatform:
    """One platform below `folder`; its server, a process, runs while `serving` is entered."""

    folder: Path
    address: str = ""
    server: int = 0
    _deliveries: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    @property
    def data_dir(self) -> Path:
        """Where the platform keeps everything."""
        return self.folder / "platform"

    @property
    def log(self) -> Path:
        """What the server wrote on stderr."""
        return self.folder / "server.log"

    @classmethod
    def create(cls, folder: Path, *, profile: str = "plain-v1", **limits: int) -> "LivePlatform":
        """A new platform, with settings of its `[limits]` changed."""
        folder.mkdir(parents=True, exist_ok=True)
        platform = cls(folder)
        platform.operate("init", "--platform-id", PLATFORM_ID, "--profile", profile)
        config = platform.data_dir / "platform.toml"
        lines = config.read_text().splitlines()
        for name, value in limits.items():
            (at,) = (i for i, line in enumerate(lines) if line.startswith(f"{name} = "))
            lines[at] = f"{name} = {value}"
        config.write_text("\n".join(lines) + "\n")
        return platform

    def operate(self, command: str, *arguments: str | Path) -> Any:
        """Runs a command of the platform that must succeed; its JSON document."""
        return operator(command, *arguments, "--data-dir", self.data_dir, "--json").document

    def enroll(self, rows: Sequence[Row], *options: str) -> Any:
        """Enrolls rows from a file; the report."""
        path = write_csv(self.folder / f"accounts-{next(self._deliveries)}.csv", rows)
        return self.operate("enroll", path, *options)

    def publish(self) -> Any:
        """Publishes a generation; the report."""
        return self.operate("publish")

    def admit(self, name: str, disclosure: str = "both", *options: str) -> Path:
        """Adds an advertiser; its credentials folder."""
        out = self.folder / f"credentials-{name}"
        # Many tests leave sessions open, or run in years to come; the last of two options counts.
        many = ("--daily-sessions", "100000", "--concurrent", "10000", "--expires", "2999-01-01")
        done = operator(
            *("advertiser", "add", name, "--data-dir", self.data_dir, "--disclosure", disclosure),
            *("--out", out, *many, *options),
        )
        assert done.code == 0, done.stderr
        return out

    @contextmanager
    def serving(self, *, watchful: bool = False) -> Iterator["LivePlatform"]:
        """Runs `purposematch-platform serve`; it must end with exit code 0 on SIGTERM."""
        command = [sys.executable, "-c", WATCHFUL] if watchful else [str(BIN / "purposematch-platform")]
        with (
            self.log.open("ab") as log,
            subprocess.Popen(
                [*command, "serve", "--data-dir", str(self.data_dir), "--listen", "127.0.0.1:0"],
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONFAULTHANDLER": "1"},
            ) as server,
        ):
            try:
                self.address = first_line(server).removeprefix("serving on ")
                self.server = server.pid
                yield self
                # One line, and nothing after it.
                server.send_signal(signal.SIGTERM)
                rest, _ = server.communicate(timeout=STOP_SECONDS)
                assert rest == b""
            finally:
                if server.poll() is None:
                    # With this signal Python says in the log where every thread was.
                    server.send_signal(signal.SIGABRT)
        assert server.returncode == 0, self.log.read_text()

    def match(self, listed: Path, output: Path, credentials: Path, *options: str | Path) -> Done:
        """Runs `purposematch match` in this process."""
        return advertiser(*self.match_arguments(listed, output, credentials), *options)

    def match_arguments(self, listed: Path | str, output: Path, credentials: Path) -> list[str | Path]:
        """The arguments of `purposematch match` for this platform."""
        return [
            *("match", listed, "--platform", self.address, "--credentials", credentials),
            *("--output", output, "--yes", "--json"),
            # A platform that is away on purpose is waited for as long as it takes to notice.
            *("--patience", "3"),
        ]

    @contextmanager
    def opened(self, **changes: Any) -> Iterator[Platform]:
        """The platform's data directory as the server opens it."""
        with open_platform(self.data_dir, **changes) as platform:
            yield platform

    def rows(self, question: str, *values: object) -> list[Any]:
        """Asks the registry's database itself."""
        with contextlib.closing(sqlite3.connect(self.data_dir / "registry.sqlite")) as database:
            return database.execute(question, values).fetchall()

    def audience(self, session: str) -> list[str]:
        """The subjects in the audience of a session, sorted, without those who were erased."""
        changes = self.rows("SELECT number FROM audience_change WHERE session = ?", session)
        if not changes:
            return []
        with self.opened() as platform, platform.registry.reading() as connection:
            _, admitted = load_chunks(connection, load_members(connection, *changes[0]))
        return sorted(set(admitted["subject"].drop_null().to_pylist()))


def admitted_peer(platform: Platform, name: str, role: Role = Role.ADVERTISER) -> PeerIdentity:
    """Somebody as TLS would show them with the certificate that was recorded last.

    Where a test's clock is past the end of it, another one is recorded.
    """
    platform_id, now = platform.config.platform_id, platform.clock()
    with platform.registry.writing() as connection:
        recorded = certificates(connection, role, name)[-1]
        if now < recorded.not_after:
            return PeerIdentity(platform_id, role, name, recorded.fingerprint)
        peer = PeerIdentity(platform_id, role, name, platform.random_bytes(32))
        store_certificate(platform, connection, ClientCertificate(peer, moment(now) + CLIENT_VALIDITY, b""))
    return peer


def first_line(server: "subprocess.Popen[bytes]") -> str:
    """What a server says when it is ready."""
    assert server.stdout is not None
    line, deadline = b"", time.monotonic() + START_SECONDS
    # It may come in pieces.
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([server.stdout], [], [], deadline - time.monotonic())
        part = os.read(server.stdout.fileno(), 4096) if ready else b""
        assert part, f"the server did not start: {line!r}"
        line += part
    assert re.fullmatch(rb"serving on 127\.0\.0\.1:[0-9]+\n", line)
    return line.decode().strip()


def iso(seconds_from_now: float) -> str:
    """A time in ISO 8601 with offset."""
    moment = datetime.fromtimestamp(datetime.now(UTC).timestamp() + seconds_from_now, UTC)
    return moment.isoformat(timespec="milliseconds")
