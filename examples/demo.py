"""The whole job on two files: a platform and an advertiser, each a process of its own on this machine.

    make demo
    python examples/demo.py --help

Writes made-up files (see demo_data.py), creates a platform, enrolls the accounts, publishes, serves over TLS
on a free loopback port, and runs the advertiser's match. Ends by checking the output, row by row, against a
truth that was known before; exit code 1 if they differ.
"""

import argparse
import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from demo_data import Truth, write_demo_data
from rich.console import Console
from rich.text import Text

from purposematch.console import report_facts
from purposematch.protocol.simd.choice import CACHE_VARIABLE, cache_root

BIN = Path(sys.executable).parent
STOP_SECONDS = 20
"""How long the server may take to stop."""

_console = Console(highlight=False)


def main() -> int:
    """Runs the demo and returns the exit code."""
    options = _options()
    began = time.monotonic()
    folder: Path = options.folder
    clear(folder)
    # The advertiser's cache of index segments, and what it remembers of logs, stay inside the demo, not in
    # the user's home; the kernels for this processor are no part of the demo.
    os.environ[CACHE_VARIABLE] = cache_root(os.environ)
    os.environ["XDG_CACHE_HOME"] = str(folder.resolve() / "cache")
    os.environ["XDG_STATE_HOME"] = str(folder.resolve() / "state")
    # The commands print into a pipe, and their bars are no ASCII.
    os.environ["PYTHONIOENCODING"] = "utf-8"
    _heading("Two files")
    truth = write_demo_data(
        folder,
        seed=options.seed,
        accounts=options.accounts,
        customers=options.customers,
        now=datetime.now(UTC).replace(microsecond=0),
    )
    report_facts(
        f"written to {folder}",
        {"accounts.csv": f"{options.accounts:,} assertions", "customers.csv": f"{options.customers:,} rows"},
    )

    _heading("The platform")
    data_dir = ("--data-dir", str(folder / "platform"))
    _run("purposematch-platform", "init", *data_dir, "--platform-id", "demo-platform")
    accounts = str(folder / "accounts.csv")
    _run("purposematch-platform", "enroll", *data_dir, accounts, "--region", "US")
    enrolled = _number("count", _run("purposematch-platform", "publish", *data_dir))
    credentials = str(folder / "credentials")
    _run(
        *("purposematch-platform", "advertiser", "add", "shoe-shop", *data_dir),
        *("--disclosure", "both", "--daily-elements", "1000000", "--out", credentials),
    )

    output = folder / "matched.csv"
    with _serving("purposematch-platform", "serve", *data_dir, "--listen", "127.0.0.1:0") as address:
        _heading("The advertiser")
        report = _run(
            *("purposematch", "match", str(folder / "customers.csv"), "--platform", address),
            *("--credentials", credentials, "--output", str(output)),
            *("--email-column", "email", "--phone-column", "phone"),
            *("--email-sha256-column", "email_sha256", "--phone-sha256-column", "phone_sha256"),
            *("--region", "US", "--yes"),
        )
    matched = _number("matched identifiers", report)
    _heading("What is left of the agreement")
    _run("purposematch-platform", "agreement", "show", "shoe-shop", *data_dir)
    report_facts(
        "What the advertiser learned",
        {
            "of its own rows": "which of them match",
            "of the platform": f"that {enrolled:,} identifiers are enrolled; of no other one which",
        },
    )
    report_facts(
        "What the platform learned",
        {
            "of its own subjects": f"who stands behind {matched:,} matched identifiers",
            "of the list": f"that it has {len(truth.listed()):,} identifiers; of no other one which",
        },
    )

    _heading("The proof")
    holds = prove(truth, output, matched)
    _console.print(f"{time.monotonic() - began:.0f} seconds in all", style="dim")
    return 0 if holds else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Matches an advertiser's list against a platform, both on this machine.",
        epilog="example: python examples/demo.py --accounts 20000 --customers 5000",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("demo-data"), help="is removed first (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=2019, help="of the made-up files (%(default)s)")
    parser.add_argument("--accounts", type=int, default=100_000, help="assertions (%(default)s)")
    parser.add_argument(
        "--customers", type=int, default=20_000, help="rows of the customer list (%(default)s)"
    )
    return parser.parse_args()


def clear(folder: Path) -> None:
    """Makes `folder` empty. One that the demo did not make is left alone."""
    mark = folder / ".made-by-demo"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise SystemExit(f"{folder} is not empty and was not made by the demo: choose another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mark.touch()


def _heading(text: str) -> None:
    _console.print()
    _console.rule(Text(text, style="bold"), align="left")


def _show(command: tuple[str, ...]) -> list[str]:
    """Prints a command line as one would type it, and returns it with the full path of its program."""
    _console.print(Text(f"$ {shlex.join(command)}", style="green"), soft_wrap=True)
    return [str(BIN / command[0]), *command[1:]]


def _run(*command: str) -> str:
    """Runs a command, shows what it prints, and returns that; what it says on stderr is shown as it comes."""
    done = subprocess.run(_show(command), stdout=subprocess.PIPE, encoding="utf-8", check=False)  # noqa: S603 - the project's own commands
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} {command[1]} failed")
    return done.stdout


def _number(name: str, report: str) -> int:
    """The number that a report gives for `name`."""
    found = re.search(rf"^{name} +([0-9,]+)", report, re.MULTILINE)
    if found is None:
        raise SystemExit(f"there is no {name} in what was printed")
    return int(found[1].replace(",", ""))


@contextmanager
def _serving(*command: str) -> Iterator[str]:
    """A running server, and the address that it says it serves on."""
    log = (Path(command[command.index("--data-dir") + 1]).parent / "server.log").open("w", encoding="utf-8")
    with log, subprocess.Popen(_show(command), stdout=subprocess.PIPE, stderr=log, text=True) as server:  # noqa: S603
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line.startswith("serving on "):
                raise SystemExit(f"the server did not start; see {log.name}")
            _console.print(line.strip())
            yield line.split()[-1]
        finally:
            server.terminate()
            server.wait(STOP_SECONDS)
    if server.returncode:
        raise SystemExit(f"the server stopped with exit code {server.returncode}; see {log.name}")


def prove(truth: Truth, output: Path, identifiers: int) -> bool:
    """Compares the advertiser's output file with the truth; prints and returns whether all of it holds.

    Args:
        truth: what was known before.
        output: the advertiser's file.
        identifiers: how many matched, as `match` reported.
    """
    with output.open(encoding="utf-8", newline="") as file:
        matched = [row["matched"] for row in csv.DictReader(file)]
    expected = truth.matched()
    given = truth.two_factor_only & truth.listed()
    alone = [
        answer
        for row, answer in zip(truth.rows, matched, strict=False)
        if row.identifiers and given.issuperset(row.identifiers)
    ]
    permitted = truth.permitted & truth.listed()
    claims = (
        (
            f"{len(given):,} identifiers of the list were given for two-factor authentication alone. "
            f"{len(alone):,} rows hold nothing else; {alone.count('true'):,} of them matched.",
            len(given) > 0 and len(alone) > 0 and set(alone) == {"false"},
        ),
        (
            f"{len(permitted):,} identifiers of the list were permitted, {len(given & permitted):,} of them "
            f"for two-factor authentication alone; {identifiers:,} matched.",
            given.isdisjoint(permitted) and identifiers == len(permitted),
        ),
        (
            f"{expected.count('true'):,} rows are in the plain intersection with what was permitted; "
            f"the same {matched.count('true'):,} matched.",
            matched == expected,
        ),
    )
    for claim, holds in claims:
        verdict = Text("holds  ", style="bold green") if holds else Text("FAILS  ", style="bold red")
        _console.print(verdict + Text(claim))
    return all(holds for _, holds in claims)


if __name__ == "__main__":
    raise SystemExit(main())
