"""A match over TLS on loopback, driven from outside: made-up lists, and the installed commands as processes.

Everything lives in one folder: the lists, the platform's data directory, the advertiser's credentials and its
cache. Half of the advertiser's list is enrolled.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from purposematch.protocol.simd.choice import CACHE_VARIABLE, cache_root

__all__ = [
    "Measured",
    "Server",
    "check_answer",
    "check_matched",
    "end_cleanly",
    "enroll",
    "initialize",
    "installed",
    "match",
    "measure",
    "publish",
    "resident_mebibytes",
    "serving",
    "set_limits",
    "write_lists",
    "write_range",
]

BIN = Path(sys.executable).parent
PLATFORM, ADVERTISER = str(BIN / "purposematch-platform"), str(BIN / "purposematch")
SEED = 20_190_927
MOST_NOISE = 20_000
"""How far a noisy count may be from the truth, in subjects: beyond a hundred times the scale of its noise."""


class Measured(NamedTuple):
    """One process: seconds by the clock and of the processor, peak memory in MiB, and what it printed."""

    seconds: float
    processor: float
    peak: float
    answer: dict[str, Any]


@dataclass
class Server:
    """A server process: where it serves, its id; and its processor seconds and peak memory in MiB once it has
    ended."""

    address: str
    pid: int
    processor: float = 0.0
    peak: float = 0.0


def end_cleanly() -> None:
    """A benchmark ended from outside ends its processes and removes its folder, as at the terminal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def write_lists(folder: Path, *, enrolled: int, listed: int) -> int:
    """Writes both lists, as CSV and as bare lines; returns how many identifiers they have in common.

    Nothing large is held: Linux counts the peak memory of a process from that of the one that started it.
    """
    common = min(enrolled, listed) // 2
    theirs = array("I", range(enrolled))
    ours = array("I", range(enrolled - common, enrolled - common + listed))
    for numbers in (theirs, ours):
        random.Random(SEED).shuffle(numbers)  # noqa: S311 - the order of a made-up list
    columns = "subject_id,kind,value,value_format,purposes,origin,status,notice_id,not_before,expires_at"
    granted = "raw,marketing.advertising.third_party.targeted,newsletter,granted,,,"
    _write(folder / "accounts.csv", [columns], (f"u{n},email,{_email(n)},{granted}" for n in theirs))
    _write(folder / "customers.csv", ["email"], map(_email, ours))
    _write(folder / "accounts.txt", [], map(_email, theirs))
    _write(folder / "customers.txt", [], map(_email, ours))
    return common


def write_range(path: Path, first: int, count: int) -> None:
    """Writes a list of consecutive identifiers, in the order of their numbers, as CSV."""
    _write(path, ["email"], map(_email, range(first, first + count)))


def resident_mebibytes(server: Server) -> float:
    """What a server has in memory at this moment, MiB."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def _email(number: int) -> str:
    return f"customer.{number}@example.com"


def _write(path: Path, header: list[str], lines: Iterable[str]) -> None:
    with path.open("w") as file:
        file.writelines(f"{line}\n" for line in chain(header, lines))


def initialize(folder: Path, disclosure: str = "both", engine: str = "oprf") -> None:
    """Creates the platform and one advertiser, whose agreement allows the engine."""
    quietly: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
    data_dir = _data_dir(folder)
    add = ["advertiser", "add", "benchmark", "--disclosure", disclosure]
    add += ["--out", str(folder / "credentials")]
    if engine == "vole":
        add += ["--allow-experimental"]
    # Measuring again and again must not use a quota up.
    add += ["--daily-elements", "1000000000000", "--daily-sessions", "1000000"]
    subprocess.run([PLATFORM, "init", *data_dir], **quietly)  # noqa: S603 - the project's own commands
    subprocess.run([PLATFORM, *add, *data_dir], **quietly)  # noqa: S603


def enroll(folder: Path, environment: Mapping[str, str]) -> Measured:
    """Enrolls the platform's list."""
    return measure(
        PLATFORM, "enroll", *_data_dir(folder), str(folder / "accounts.csv"), "--json", **environment
    )


def publish(folder: Path, environment: Mapping[str, str]) -> Measured:
    """Publishes what is enrolled."""
    return measure(PLATFORM, "publish", *_data_dir(folder), "--json", **environment)


def match(
    folder: Path,
    address: str,
    environment: Mapping[str, str],
    *,
    threads: int | None = None,
    engine: str = "oprf",
) -> Measured:
    """Matches the advertiser's list with the platform that serves at `address`."""
    return measure(
        *(ADVERTISER, "match", str(folder / "customers.csv"), "--platform", address),
        *("--credentials", str(folder / "credentials"), "--output", str(folder / "matched.csv")),
        *(() if threads is None else ("--threads", str(threads))),
        *("--engine", engine, "--yes", "--json"),
        # Segments are fetched anew in every match, and kernels are compiled once for all.
        **{
            **environment,
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_STATE_HOME": str(folder / "state"),
            CACHE_VARIABLE: cache_root(os.environ),
        },
    )


def set_limits(folder: Path, limits: Mapping[str, int]) -> None:
    """Writes limits into the platform's settings; a server that starts later has them."""
    path = folder / "platform" / "platform.toml"
    text = path.read_text(encoding="utf-8")
    for name, value in limits.items():
        text, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        if found != 1:
            raise SystemExit(f"{path} does not set {name} once")
    path.write_text(text, encoding="utf-8")


def check_matched(found: int, expected: int) -> None:
    """Ends everything if a match did not find what it must: its time would mean nothing."""
    if found != expected:
        raise SystemExit(f"{found:,} identifiers matched, not {expected:,}: nothing was measured")


def check_answer(answer: Mapping[str, Any], expected: int) -> None:
    """The same of what a match printed; a noisy count is only about what is expected."""
    if "matched_identifiers" in answer:
        check_matched(answer["matched_identifiers"], expected)
    elif abs(answer["value"] - expected) > MOST_NOISE:
        raise SystemExit(f"{answer['value']:,} were counted, not about {expected:,}: nothing was measured")


def installed(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program as it is when it was installed: it keeps its byte code."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **environment}


def measure(*command: str, **environment: str) -> Measured:
    """Runs a command to its end; what it says on stderr is kept for the case that it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603
            command, stdout=out, stderr=log, env=installed(environment)
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.terminate()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        log.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command[:2])} failed\n{log.read().decode(errors='replace')}")
        # Linux counts ru_maxrss in KiB.
        peak = usage.ru_maxrss / 1024
        return Measured(seconds, usage.ru_utime + usage.ru_stime, peak, json.loads(out.read()))


@contextmanager
def serving(folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """A running server on a free port."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603
            [PLATFORM, "serve", *_data_dir(folder), "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=installed(environment),
        )
        line = process.stdout.readline() if process.stdout else ""
        server = Server(line.split()[-1] if line.startswith("serving on ") else "", process.pid)
        try:
            if not server.address:
                log.seek(0)
                raise SystemExit(f"the server did not start\n{log.read().decode(errors='replace')}")
            yield server
        finally:
            process.terminate()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            server.processor = usage.ru_utime + usage.ru_stime
            server.peak = usage.ru_maxrss / 1024
            if process.stdout:
                process.stdout.close()


def _data_dir(folder: Path) -> tuple[str, str]:
    return "--data-dir", str(folder / "platform")
