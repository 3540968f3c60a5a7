"""A whole match, measured from outside: the installed commands as processes, over TLS on loopback.

    python benchmarks/end_to_end.py                  # 100,000 x 100,000, beside OpenMined PSI
    python benchmarks/end_to_end.py --memory         # the client's peak memory at 1,000,000 rows

Half of the advertiser's list is enrolled. Publishing and matching count, each from the start of its process
to its end, proofs included; enrolling is shown beside them. OpenMined PSI (make -C benchmarks/peers) runs on
the same lists in the same run, on one thread: it has no transport, no gate and no proofs to pay for.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from purposematch.console import report_facts

BIN = Path(sys.executable).parent
PEERS = Path(__file__).resolve().parent / "peers"
SEED = 20_190_927
MEMORY_ROWS = 1_000_000
MEMORY_ENROLLED = 100_000


class Measured(NamedTuple):
    """One process: seconds by the clock and of the processor, peak memory in MiB, and what it printed."""

    seconds: float
    processor: float
    peak: float
    answer: dict[str, Any]


class Match(NamedTuple):
    """The processes of a match. The server's processor seconds are those of this match alone."""

    enroll: Measured
    publish: Measured
    match: Measured
    server_processor: float


@dataclass
class Server:
    """A server process: where it serves, and its processor seconds once it has ended."""

    address: str
    processor: float = 0.0


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measures a whole match over TLS loopback.")
    parser.add_argument("--size", type=int, default=100_000, help="identifiers on each side (%(default)s)")
    parser.add_argument("--memory", action="store_true", help="measure the client's memory at 1,000,000 rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="purposematch-") as scratch:
        folder = Path(scratch)
        if options.memory:
            _measure_memory(folder)
            return 0
        return _compare(folder, options.size)


def _compare(folder: Path, size: int) -> int:
    peer = PEERS / ".venv" / "bin" / "python"
    if not peer.exists():
        print("OpenMined PSI is not there: run `make -C benchmarks/peers` first", file=sys.stderr)
        return 1
    common = write_lists(folder, enrolled=size, listed=size)
    enroll, publish, match, server_processor = run_match(folder)
    openmined = measure(
        str(peer), str(PEERS / "openmined.py"), str(folder / "accounts.txt"), str(folder / "customers.txt")
    )
    _check(match.answer["matched_identifiers"], common)
    _check(openmined.answer["matched"], common)
    ours = publish.seconds + match.seconds
    processor = publish.processor + match.processor + server_processor
    report_facts(
        f"{size:,} x {size:,}, {common:,} in common, on {os.cpu_count()} cores",
        {
            "enroll": f"{enroll.seconds:.1f} s",
            "publish": f"{publish.seconds:.1f} s",
            "match": f"{match.seconds:.1f} s, client's peak memory {match.peak:.0f} MiB",
            "publish + match": f"{ours:.1f} s",
            "processor seconds": f"{processor:.1f}: publish {publish.processor:.1f}, "
            f"client {match.processor:.1f}, server {server_processor:.1f}",
            "OpenMined PSI": f"{openmined.seconds:.1f} s, of the processor {openmined.processor:.1f}, "
            f"peak memory {openmined.peak:.0f} MiB",
            "ratio to OpenMined PSI": f"{ours / openmined.seconds:.2f}; match alone "
            f"{match.seconds / openmined.seconds:.2f}",
        },
    )
    return 0


def _measure_memory(folder: Path) -> None:
    common = write_lists(folder, enrolled=MEMORY_ENROLLED, listed=MEMORY_ROWS)
    match = run_match(folder).match
    _check(match.answer["matched_identifiers"], common)
    report_facts(
        f"{MEMORY_ROWS:,} rows against {MEMORY_ENROLLED:,} enrolled identifiers",
        {"match": f"{match.seconds:.1f} s", "client's peak memory": f"{match.peak:.0f} MiB"},
    )


def _check(found: int, expected: int) -> None:
    if found != expected:
        raise SystemExit(f"{found:,} identifiers matched, not {expected:,}: nothing was measured")


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


def _email(number: int) -> str:
    return f"customer.{number}@example.com"


def _write(path: Path, header: list[str], lines: Iterable[str]) -> None:
    with path.open("w") as file:
        file.writelines(f"{line}\n" for line in chain(header, lines))


def run_match(folder: Path) -> Match:
    """Enrolls, publishes and matches the lists in `folder`, each in a process of its own."""
    platform, data_dir = str(BIN / "purposematch-platform"), ("--data-dir", str(folder / "platform"))
    credentials = str(folder / "credentials")
    quietly: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([platform, "init", *data_dir], **quietly)  # noqa: S603 - the project's own commands
    add = ["advertiser", "add", "benchmark", "--disclosure", "both", "--out", credentials]
    enroll = measure(platform, "enroll", *data_dir, str(folder / "accounts.csv"), "--json")
    publish = measure(platform, "publish", *data_dir, "--json")
    subprocess.run([platform, *add, *data_dir], **quietly)  # noqa: S603
    with _serving(platform, "serve", *data_dir, "--listen", "127.0.0.1:0") as server:
        match = measure(
            *(
                str(BIN / "purposematch"),
                "match",
                str(folder / "customers.csv"),
                "--platform",
                server.address,
            ),
            *("--credentials", credentials, "--output", str(folder / "matched.csv"), "--yes", "--json"),
            XDG_CACHE_HOME=str(folder / "cache"),
        )
    return Match(enroll, publish, match, server.processor)


def measure(*command: str, **environment: str) -> Measured:
    """Runs a command to its end; what it says on stderr is kept for the case that it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603
            command, stdout=out, stderr=log, env={**os.environ, **environment}
        )
        _, status, usage = os.wait4(process.pid, 0)
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
def _serving(*command: str) -> Iterator[Server]:
    """A running server."""
    process = subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    line = process.stdout.readline() if process.stdout else ""
    server = Server(line.split()[-1] if line.startswith("serving on ") else "")
    try:
        if not server.address:
            raise SystemExit("the server did not start")
        yield server
    finally:
        process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        server.processor = usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
