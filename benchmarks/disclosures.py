"""Matches the same two lists under every disclosure, over TLS on loopback, and compares their times.

    python -m benchmarks.disclosures --size 100000 --rounds 3

The disclosures take turns, so that what drifts on the machine falls on all of them. Every match fetches all
segments, and has a label of its own, so that no answer is known before. The ratio to `both`, the POPRF
exchange with its commit, is of the same run; absolute times are of this machine at this moment.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks import loopback

DISCLOSURES: Final = ("both", "advertiser", "platform", "count")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000, help="identifiers of each list")
    parser.add_argument("--rounds", type=int, default=3, help="matches of each disclosure")
    parser.add_argument("--group", default="", help="back end of the group; the fastest by default")
    options = parser.parse_args()
    loopback.end_cleanly()
    environment = {"PURPOSEMATCH_GROUP": options.group} if options.group else {}
    with tempfile.TemporaryDirectory(prefix="purposematch-disclosures-") as name:
        folder = Path(name)
        common = loopback.write_lists(folder, enrolled=options.size, listed=options.size)
        loopback.initialize(folder)
        loopback.enroll(folder, environment)
        before = loopback.publish(folder, environment).seconds
        for disclosure in DISCLOSURES:
            _admit(folder, disclosure)
        # What is evaluated already is not evaluated again: this is the cost of both lists.
        lists = loopback.publish(folder, environment).seconds
        print(
            f"{options.size:,} x {options.size:,}: published in {before:.2f} s, both lists in {lists:.2f} s"
        )
        measured: dict[str, list[loopback.Measured]] = {each: [] for each in DISCLOSURES}
        with loopback.serving(folder, environment) as server:
            # The first match of all pays for what is loaded once.
            for round_ in range(options.rounds + 1):
                for disclosure in DISCLOSURES:
                    one = _match(folder, disclosure, server.address, environment)
                    loopback.check_answer(one.answer, common)
                    if round_:
                        measured[disclosure].append(one)
        _report(measured)


def _admit(folder: Path, disclosure: str) -> None:
    own = folder / f"of-{disclosure}"
    own.mkdir()
    (own / "customers.csv").symlink_to(folder / "customers.csv")
    add = ["advertiser", "add", disclosure, "--disclosure", disclosure, "--out", str(own / "credentials")]
    add += ["--daily-elements", "1000000000000", "--daily-sessions", "1000000"]
    if disclosure in ("platform", "count"):
        # The budget must last for all rounds.
        add += ["--release-epsilon", "0.01"]
    command = [loopback.PLATFORM, *add, "--data-dir", str(folder / "platform")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - the project's own command


def _match(folder: Path, disclosure: str, address: str, environment: dict[str, str]) -> loopback.Measured:
    own = folder / f"of-{disclosure}"
    shutil.rmtree(own / "cache", ignore_errors=True)
    (own / "credentials" / "label.key").unlink(missing_ok=True)
    return loopback.match(own, address, environment)


def _report(measured: dict[str, list[loopback.Measured]]) -> None:
    seconds = {name: statistics.median(one.seconds for one in of) for name, of in measured.items()}
    print("| disclosure | seconds | to `both` | client's processor, s | client's peak, MiB |")
    print("|---|---|---|---|---|")
    for name, of in measured.items():
        processor = statistics.median(one.processor for one in of)
        peak = max(one.peak for one in of)
        ratio = seconds[name] / seconds["both"]
        print(f"| `{name}` | {seconds[name]:.2f} | {ratio:.2f} | {processor:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
