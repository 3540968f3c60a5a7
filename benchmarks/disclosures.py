"""Matches the same two lists under every disclosure, over TLS on loopback, and compares their times.

    python -m benchmarks.disclosures --size 100000 --rounds 3

A match is the command `purposematch match` from its start to its end: reading the list, the session with its
proofs, and writing the output. The generation is published before, index and lists. The disclosures take
turns, so that what drifts on the machine falls on all of them. Every match fetches all segments, and has a
label of its own, so that no answer is known before. The ratio to `both`, the POPRF exchange with its commit,
is of the same run: of the shortest time of each, and of the least processor time of both sides together,
which other work on the machine changes less. Absolute times are of this machine at this moment.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import loopback

DISCLOSURES: Final = ("both", "advertiser", "platform", "count")


class _Match(NamedTuple):
    """One match: the client's process, and processor seconds of the server meanwhile."""

    client: loopback.Measured
    server: float


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000, help="identifiers of each list")
    parser.add_argument("--rounds", type=int, default=3, help="matches of each disclosure")
    parser.add_argument(
        "--disclosures", nargs="*", default=DISCLOSURES, choices=DISCLOSURES, help="which; `both` always"
    )
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
        disclosures = ["both", *(each for each in options.disclosures if each != "both")]
        for disclosure in disclosures:
            _admit(folder, disclosure)
        # What is evaluated already is not evaluated again: this is the cost of both lists.
        lists = loopback.publish(folder, environment).seconds
        print(
            f"{options.size:,} x {options.size:,}: published in {before:.2f} s, both lists in {lists:.2f} s"
        )
        measured: dict[str, list[_Match]] = {each: [] for each in disclosures}
        with loopback.serving(folder, environment) as server:
            # The first match of all pays for what is loaded once.
            for round_ in range(options.rounds + 1):
                for disclosure in disclosures:
                    before = _processor_seconds(server)
                    one = _match(folder, disclosure, server.address, environment)
                    loopback.check_answer(one.answer, common)
                    if round_:
                        measured[disclosure].append(_Match(one, _processor_seconds(server) - before))
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


def _processor_seconds(server: loopback.Server) -> float:
    """What a running server has used so far."""
    # The name of the command, in parentheses, may hold anything; user and system time are fields 14 and 15.
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _report(measured: dict[str, list[_Match]]) -> None:
    seconds = {name: min(one.client.seconds for one in of) for name, of in measured.items()}
    processor = {name: min(one.client.processor + one.server for one in of) for name, of in measured.items()}
    print("| disclosure | seconds | to `both` | processor, s | to `both` | client's | its peak, MiB |")
    print("|---|---|---|---|---|---|---|")
    for name, of in measured.items():
        clients = min(one.client.processor for one in of)
        peak = max(one.client.peak for one in of)
        ratios = seconds[name] / seconds["both"], processor[name] / processor["both"]
        print(
            f"| `{name}` | {seconds[name]:.2f} | {ratios[0]:.2f} | {processor[name]:.2f} | {ratios[1]:.2f} "
            f"| {clients:.2f} | {peak:.0f} |"
        )


if __name__ == "__main__":
    main()
