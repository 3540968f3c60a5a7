"""Many sessions at once for some minutes: right answers, flat memory, and throughput beside one big session.

    python -m benchmarks.soak                   # 50 sessions at a time for three minutes
    python -m benchmarks.soak --minutes 30 --json

Ten advertisers match lists of 2,000 to 200,000 identifiers, sizes spread evenly over the orders of magnitude,
five sessions of each at a time, against one server process, over TLS on loopback. Whoever has finished a list
takes the next of the pile, so that every size comes equally often.
Every result is compared with what the lists have in common. The rate, in identifiers a second from the first
to the last complete session, is set beside that of one session of a million identifiers before and one after,
from the same client; the memory of the server at its peak in the last half beside that in the first.

It ends with exit code 1 if a result was wrong or a session failed. It decides nothing about the ratios.
"""

import argparse
import asyncio
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Final

from benchmarks.back_end import add_group_flag, environment, make_group
from benchmarks.loopback import (
    PLATFORM,
    SEED,
    Server,
    check_matched,
    end_cleanly,
    enroll,
    initialize,
    publish,
    resident_mebibytes,
    serving,
    write_lists,
    write_range,
)
from purposematch.client import MatchClient
from purposematch.console import emit_json, report_facts
from purposematch.protocol.group import Group

ENROLLED: Final = 100_000
BIG: Final = 1_000_000
SMALLEST, LARGEST = 2_000, 200_000
ADVERTISERS: Final = 10
SAMPLE_SECONDS: Final = 0.5


@dataclass
class Soak:
    """What happened."""

    began: float
    sessions: int = 0
    elements: int = 0
    ended: float = 0.0
    seconds: list[float] = field(default_factory=list)

    def note(self, elements: int, seconds: float) -> None:
        """A session was complete."""
        self.sessions += 1
        self.elements += elements
        self.ended = time.monotonic()
        self.seconds.append(seconds)

    @property
    def rate(self) -> float:
        """Identifiers a second."""
        return self.elements / (self.ended - self.began)


class Memory:
    """Samples what a server process has in memory, in a thread, while it is entered.

    Args:
        server: whose.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.samples: list[float] = []

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.samples.append(resident_mebibytes(self._server))

    def peaks(self) -> tuple[float, float]:
        """MiB at most in the first half of the time, and in the second."""
        half = max(1, len(self.samples) // 2)
        return max(self.samples[:half]), max(self.samples[half:] or self.samples)


def main() -> int:
    """Runs and prints."""
    options = _options()
    end_cleanly()
    with tempfile.TemporaryDirectory(prefix="purposematch-") as scratch:
        folder = Path(scratch)
        os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
        sizes = _prepare(folder, options.sessions)
        with serving(folder, environment(options.group)) as server:
            document = asyncio.run(_run(folder, server, sizes, options))
    report_facts("Soak", document) if not options.json else emit_json(document)
    return 0


def _prepare(folder: Path, sessions: int) -> list[int]:
    """Lists, platform and advertisers; the size of each session's list."""
    write_lists(folder, enrolled=ENROLLED, listed=BIG)
    initialize(folder)
    for number in range(ADVERTISERS):
        add = [
            "advertiser",
            "add",
            f"soak-{number}",
            "--disclosure",
            "both",
            "--out",
            f"{folder}/soak-{number}",
        ]
        add += ["--daily-elements", "1000000000000", "--daily-sessions", "1000000"]
        add += ["--concurrent", str(sessions), "--data-dir", f"{folder}/platform"]
        subprocess.run([PLATFORM, *add], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    enroll(folder, {})
    publish(folder, {})
    steps = max(1, sessions - 1)
    sizes = [round(SMALLEST * (LARGEST / SMALLEST) ** (number / steps)) for number in range(sessions)]
    random.Random(SEED).shuffle(sizes)  # noqa: S311 - which advertiser has which list
    for number, size in enumerate(sizes):
        write_range(folder / f"list-{number}.csv", _first(size), size)
    return sizes


def _first(size: int) -> int:
    """Where a list begins, so that half of it is enrolled, or half of what is."""
    return ENROLLED - min(ENROLLED, size) // 2


async def _run(
    folder: Path, server: Server, sizes: Sequence[int], options: argparse.Namespace
) -> dict[str, object]:
    group = make_group(options.group, os.cpu_count() or 1)
    before = await _big(folder, server, group)
    soak = Soak(time.monotonic())
    with Memory(server) as memory:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    MatchClient(server.address, folder / f"soak-{number}", group=group)
                )
                for number in range(ADVERTISERS)
            ]
            until = soak.began + 60 * options.minutes
            pile = cycle(enumerate(sizes))
            lanes: list[Awaitable[None]] = [
                _lane(clients[lane % ADVERTISERS], folder, lane, pile, soak, until)
                for lane in range(len(sizes))
            ]
            await asyncio.gather(*lanes)
    after = await _big(folder, server, group)
    early, late = memory.peaks()
    soak.seconds.sort()
    return {
        "sessions at a time": len(sizes),
        "sessions": soak.sessions,
        "identifiers": soak.elements,
        "minutes": round((soak.ended - soak.began) / 60, 1),
        "identifiers a second": round(soak.rate),
        "of one big session": f"{soak.rate / ((before + after) / 2):.2f}",
        "seconds of a session, median": round(soak.seconds[len(soak.seconds) // 2], 1),
        "seconds of a session, longest": round(soak.seconds[-1], 1),
        "server memory, first half, MiB": round(early),
        "server memory, second half": f"{late / early:.2f} of that",
    }


async def _big(folder: Path, server: Server, group: Group) -> float:
    """Identifiers a second of one big session, alone."""
    began = time.monotonic()
    async with MatchClient(server.address, folder / "credentials", group=group) as client:
        done = await client.match(folder / "customers.csv", output=folder / "big.csv")
    check_matched(done.matched_identifiers, ENROLLED // 2)
    return BIG / (time.monotonic() - began)


async def _lane(
    client: MatchClient, folder: Path, lane: int, pile: Iterator[tuple[int, int]], soak: Soak, until: float
) -> None:
    """One session after the other; what is under way at the end is finished."""
    while (began := time.monotonic()) < until:
        number, size = next(pile)
        done = await client.match(folder / f"list-{number}.csv", output=folder / f"out-{lane}.csv")
        check_matched(done.matched_identifiers, min(ENROLLED, size) // 2)
        soak.note(size, time.monotonic() - began)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="how long new sessions are opened")
    parser.add_argument("--sessions", type=int, default=50, help="how many at a time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_group_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
