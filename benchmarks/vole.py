"""How long a match by the VOLE engine takes, both sides in one process, and what a narrower processor does.

    python -m benchmarks.vole                  # 2^20, AVX2 beside it, and 10^7 items a side: about a minute
    python -m benchmarks.vole --sizes 65536    # another size alone

Processor time of both sides on one thread, the fastest of some rounds; the files, the wire and what one
side waits for the other are not in it. Where the processor has AVX-512, the same runs once more in a process
that is told of AVX2 and AES-NI only. Absolute figures drift from machine to machine; the ratios, of one run,
are what to quote. What an item of 10^7 takes more than one of 2^20 is mostly fresh memory: a gigabyte a side.
"""

import argparse
import os
import resource
import secrets
import subprocess
import sys
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.client.vole_rates import play
from purposematch.protocol.group import default_group
from purposematch.protocol.simd.processor import FEATURES, INSTRUCTIONS
from purposematch.protocol.vole.engine import Engine, open_engine
from purposematch.protocol.vole.parameters import Role, parameters

MILLION: Final = 1 << 20
LARGE: Final = 10_000_000
ROUNDS: Final = {MILLION: 6, LARGE: 2}
NARROW: Final = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+aes"}
"""What LLVM is told of a processor without AVX-512 and VAES."""
BINDING: Final = b"benchmark"


def numbered(first: int, count: int) -> NDArray[np.uint8]:
    """Items that are numbers, (n, 33)."""
    made = np.zeros((count, 33), np.uint8)
    for byte in range(8):
        made[:, 1 + byte] = np.arange(first, first + count) >> 8 * byte & 255
    return made


def match(engine: Engine, own: NDArray[np.uint8], others: NDArray[np.uint8]) -> tuple[int, dict[Role, float]]:
    """One whole match: how many rows matched, and the seconds of each side."""
    sizes = parameters(len(own), len(others))
    receiver = engine.receiver(sizes, own, BINDING, secrets.token_bytes)
    sender = engine.sender(sizes, others, BINDING, secrets.token_bytes)
    spent = play(receiver, sender, time.thread_time)
    return len(receiver.matches().rows), spent


def measured(engine: Engine, count: int) -> float:
    """Prints the fastest round of matches of this size, half of it in common; its seconds."""
    own, others = numbered(0, count), numbered(count // 2, count)
    rounds = []
    for _ in range(ROUNDS.get(count, 3)):
        found, spent = match(engine, own, others)
        if found != count - count // 2:
            raise AssertionError(f"{found} rows matched, and not {count - count // 2}")
        rounds.append((sum(spent.values()), spent))
    best, spent = min(rounds, key=lambda each: each[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sides = ", ".join(f"{role.value} {seconds:.3f}" for role, seconds in spent.items())
    lanes = INSTRUCTIONS.value if INSTRUCTIONS else "no lanes"
    print(
        f"{lanes}, {count:,} x {count:,}: {best:.3f} s ({sides}), {best / max(count, 1) * 1e9:.0f} ns an "
        f"item, both sides within {peak:.1f} GiB",
        flush=True,
    )
    return best


def narrow(count: int) -> float:
    """The same in a process of its own that has AVX2 only; prints what that prints."""
    command = [sys.executable, "-m", "benchmarks.vole", "--sizes", str(count)]
    environ = {**os.environ, **NARROW, "PURPOSEMATCH_GROUP": ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)  # noqa: S603 - ourselves
    print(done.stdout, end="")
    return float(done.stdout.split(": ")[1].split(" s")[0])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="How long a match by the VOLE engine takes.")
    parser.add_argument("--sizes", type=int, nargs="+", help="items a side, in place of 2^20 and 10^7")
    chosen: list[int] | None = parser.parse_args().sizes
    engine = open_engine(default_group(1, os.environ), os.environ)
    engine.prepare()
    if chosen:
        for count in chosen:
            measured(engine, count)
        return
    million = measured(engine, MILLION)
    if "avx512f" in FEATURES:
        print(f"AVX2 takes {narrow(MILLION) / million:.2f} times as long")
    print(
        f"an item of 10^7 takes {measured(engine, LARGE) / LARGE / (million / MILLION):.2f} times one of 2^20"
    )


if __name__ == "__main__":
    main()
