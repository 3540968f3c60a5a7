"""Runs the benchmarks and prints what they measured.

    make bench
    python benchmarks/report.py                 # measure, then print
    python benchmarks/report.py measured.json   # print what pytest wrote with --benchmark-json

Steps are measured in processor time on one thread, so that other work on the machine does not count; what two
threads gain is measured by the clock. Absolute figures still drift from machine to machine: the ratios, which
compare steps of one run, are what to quote.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

BENCHMARKS = Path(__file__).resolve().parent
BAR_CELLS = 32
CLOCK = "clock: "
"""Begins the names of what is measured by the clock."""

Seconds = dict[tuple[str, int], float]
"""The fastest round of each step and size."""

HASHLIB, MAP, MULTIPLY = "bound: hashlib loop", "bound: libsodium map", "bound: libsodium multiply"
RATIOS = (
    ("strings to uniform bytes", (HASHLIB,)),
    *(
        (step, (f"bound: hashlib {step}",))
        for step in ("SHA-256", "expand_message", "HMAC of inputs", "HMAC under tokens", "output hash")
    ),
    ("hash to group", (MAP,)),
    ("blind", (MAP, MULTIPLY)),
    ("evaluate", (MULTIPLY,)),
    ("finalize", (MULTIPLY,)),
    ("enrollment, a signature each", ("bound: libsodium verify",)),
    ("evidence, a signature each", ("bound: libsodium verify",)),
    (f"{CLOCK}evaluate, 2 threads", (f"{CLOCK}evaluate, 1 threads",)),
)
"""A step, and the steps whose sum is divided by it: more than 1 means that it is faster."""
SHARES = (
    ("prove", ("prove", "evaluate")),
    ("verify", ("verify", "blind", "finalize")),
)
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
        flags += ["--benchmark-timer=time.process_time"]
        command = [sys.executable, "-m", "pytest", str(BENCHMARKS), *flags, f"--benchmark-json={measured}"]
        done = subprocess.run(command, check=False)  # noqa: S603 - our own tests
        if done.returncode == 0:
            show(measured.read_bytes())
        return done.returncode


def show(measured: bytes) -> None:
    """Prints the tables for what pytest-benchmark wrote."""
    runs = [(run["extra_info"], run["stats"]["min"]) for run in json.loads(measured)["benchmarks"]]
    seconds: Seconds = {(about["step"], about["size"]): least for about, least in runs if "step" in about}
    singles = {about["single"]: least / about["count"] for about, least in runs if "single" in about}
    sizes = sorted({size for _, size in seconds})
    steps = [step for step in dict.fromkeys(name for name, _ in seconds) if not step.startswith(CLOCK)]
    console = Console()
    console.print(f"Python {platform.python_version()} on {platform.machine()}; group back end sodium\n")
    console.print(_throughput(seconds, steps, sizes))
    console.print(_chart(seconds, steps, sizes[-1]))
    console.print(_ratios(seconds, sizes))
    console.print(_singles(singles))


def _table(title: str, first: str, sizes: list[int]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(first)
    for size in sizes:
        table.add_column(f"of {size:,}", justify="right")
    return table


def _throughput(seconds: Seconds, steps: list[str], sizes: list[int]) -> Table:
    table = _table("Identifiers per second on one thread", "step", sizes)
    for step in steps:
        table.add_row(step, *(f"{size / seconds[step, size]:,.0f}" for size in sizes))
    return table


def _chart(seconds: Seconds, steps: list[str], size: int) -> Table:
    table = Table(title="Microseconds each", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("step")
    table.add_column(f"of {size:,}", justify="right")
    table.add_column("")
    slowest = max(seconds[step, size] for step in steps)
    for step in sorted(steps, key=lambda step: seconds[step, size]):
        bar = "█" * max(1, round(seconds[step, size] / slowest * BAR_CELLS))
        table.add_row(step, f"{seconds[step, size] / size * 1e6:.2f}", bar)
    return table


def _ratios(seconds: Seconds, sizes: list[int]) -> Table:
    table = _table("Ratios within this run", "how many times faster, / than what", sizes)

    def total(names: tuple[str, ...], size: int) -> float:
        return sum(seconds[name, size] for name in names)

    for step, bound in RATIOS:
        against = " + ".join(name.removeprefix("bound: ").removeprefix(CLOCK) for name in bound)
        cells = (f"{total(bound, size) / seconds[step, size]:.2f}x" for size in sizes)
        table.add_row(f"{step.removeprefix(CLOCK)} / {against}", *cells)
    for step, whole in SHARES:
        cells = (f"{seconds[step, size] / total(whole, size):.0%}" for size in sizes)
        table.add_row(f"{step}, share of {' + '.join(whole)}", *cells)
    return table


def _singles(seconds: dict[str, float]) -> Table:
    """What does not depend on a number of identifiers: its name, and the seconds that one takes."""
    table = Table(title="Milliseconds each", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("the log in the registry")
    table.add_column("", justify="right")
    for name, each in seconds.items():
        table.add_row(name, f"{each * 1e3:.2f}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
