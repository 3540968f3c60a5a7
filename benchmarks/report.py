"""Runs the benchmarks and prints what they measured.

    make bench
    python benchmarks/report.py                 # measure, then print
    python benchmarks/report.py measured.json   # print what pytest wrote with --benchmark-json

Absolute figures drift with the machine and with what else it does. The ratios at the end compare two steps of
one run, and are what to quote.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

BENCHMARKS = Path(__file__).resolve().parent
BAR_CELLS = 16

Seconds = dict[tuple[str, int], float]
"""The fastest round of each step and size."""


class Ratio(NamedTuple):
    """How many times faster `step` is than the sum of what `bound` names."""

    step: str
    bound: tuple[str, ...]


MAP, MULTIPLICATION = "bound: libsodium map", "bound: libsodium multiplication"
RATIOS = (
    Ratio("canonical + SHA-256 + expand_message", ("bound: hashlib loop",)),
    Ratio("SHA-256", ("bound: hashlib SHA-256",)),
    Ratio("expand_message", ("bound: hashlib expand_message",)),
    Ratio("HMAC of inputs", ("bound: hashlib HMAC of inputs",)),
    Ratio("HMAC under tokens", ("bound: hashlib HMAC under tokens",)),
    Ratio("output hash", ("bound: hashlib output hash",)),
    Ratio("hash to group", (MAP,)),
    Ratio("blind", (MAP, MULTIPLICATION)),
    Ratio("evaluate", (MULTIPLICATION,)),
    Ratio("finalize", (MULTIPLICATION,)),
)
SHARES = {
    "proving": ("prove", ("prove", "evaluate")),
    "checking": ("verify", ("verify", "blind", "finalize")),
}
"""What the proofs cost each side: a step, and the steps of which it is a share."""


def main() -> int:
    """Measures, unless a file is named, and prints."""
    parser = argparse.ArgumentParser(description="Runs the benchmarks and prints what they measured.")
    parser.add_argument("measured", type=Path, nargs="?", help="print this file instead of measuring")
    chosen: Path | None = parser.parse_args().measured
    if chosen is not None:
        show(chosen.read_bytes())
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        measured = Path(scratch) / "measured.json"
        flags = ["--benchmark-enable", "--benchmark-only", "--benchmark-quiet", "--quiet"]
        command = [sys.executable, "-m", "pytest", str(BENCHMARKS), *flags, f"--benchmark-json={measured}"]
        done = subprocess.run(command, check=False)  # noqa: S603 - our own tests
        if done.returncode == 0:
            show(measured.read_bytes())
        return done.returncode


def show(measured: bytes) -> None:
    """Prints the tables for what pytest-benchmark wrote."""
    seconds: Seconds = {
        (run["extra_info"]["step"], run["extra_info"]["size"]): run["stats"]["min"]
        for run in json.loads(measured)["benchmarks"]
    }
    sizes = sorted({size for _, size in seconds})
    steps = list(dict.fromkeys(step for step, _ in seconds))
    console = Console()
    console.print(f"Python {platform.python_version()} on {platform.machine()}; group back end sodium")
    console.print(_throughput(seconds, steps, sizes))
    console.print(_ratios(seconds, steps, sizes))


def _throughput(seconds: Seconds, steps: list[str], sizes: list[int]) -> Table:
    largest = sizes[-1]
    slowest = max(seconds[step, largest] for step in steps)
    table = Table(title="identifiers per second, one core unless it says otherwise", title_justify="left")
    table.add_column("step")
    for size in sizes:
        table.add_column(f"of {size:,}", justify="right")
    table.add_column(f"µs each of {largest:,}", justify="right")
    table.add_column("", no_wrap=True)
    for step in steps:
        each = seconds[step, largest] / largest * 1e6
        bar = "█" * max(1, round(seconds[step, largest] / slowest * BAR_CELLS))
        table.add_row(step, *(f"{size / seconds[step, size]:,.0f}" for size in sizes), f"{each:.2f}", bar)
    return table


def _ratios(seconds: Seconds, steps: list[str], sizes: list[int]) -> Table:
    table = Table(title="ratios within this run", title_justify="left")
    table.add_column("what")
    for size in sizes:
        table.add_column(f"of {size:,}", justify="right")

    def total(names: tuple[str, ...], size: int) -> float:
        return sum(seconds[name, size] for name in names)

    for step, bound in RATIOS:
        against = " + ".join(name.removeprefix("bound: ") for name in bound)
        cells = (f"{total(bound, size) / seconds[step, size]:.2f}x" for size in sizes)
        table.add_row(f"{step}, against {against}", *cells)
    for threaded in (step for step in steps if step.startswith("evaluate, ")):
        cells = (f"{seconds['evaluate', size] / seconds[threaded, size]:.2f}x" for size in sizes)
        table.add_row(f"{threaded}, against one", *cells)
    for name, (step, whole) in SHARES.items():
        cells = (f"{seconds[step, size] / total(whole, size):.0%}" for size in sizes)
        table.add_row(f"{name}, share of {' + '.join(whole)}", *cells)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
