"""A whole match, measured from outside and beside its peers: processes, over TLS on loopback.

    python -m benchmarks.end_to_end              # 100,000 x 100,000, beside all peers
    python -m benchmarks.end_to_end --size 1048576 --peers secretflow-ecdh secretflow-rr22
    python -m benchmarks.end_to_end --memory     # the client's peak memory at 1,000,000 rows
    python -m benchmarks.end_to_end --engine vole --size 1048576 --peers secretflow-rr22 --repeats 3

Half of the advertiser's list is enrolled. Publishing and matching count, each from the start of its process
to its end, proofs, TLS and the reading and writing of files included; enrolling is shown beside them. The
peers (make -C benchmarks/peers) run on the same lists in the same run; their seconds leave out the start of
Python and making the connection, which favours them. They have no gate and no proofs to pay for, and nothing
that they compute serves the next match.

What is published already is so for every match, and a match by VOLE has no other use for it than to know what
may be matched: the column `match` counts the client's process alone, from its start to its end, and `started`
leaves out the start of Python and the loading of libraries and kernels, as the peers' seconds do: what
`purposematch warm-up` takes in the same run. The platform's server has started before, as a server has.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.back_end import add_group_flag, environment, make_group
from benchmarks.loopback import (
    ADVERTISER,
    Measured,
    check_answer,
    check_matched,
    end_cleanly,
    enroll,
    initialize,
    installed,
    match,
    measure,
    publish,
    serving,
    write_lists,
)
from purposematch.console import emit_json, progress, report_facts

PEERS = Path(__file__).resolve().parent / "peers"
SCRIPTS = {
    "openmined": ("openmined",),
    "secretflow-ecdh": ("secretflow", "ecdh"),
    "secretflow-rr22": ("secretflow", "rr22"),
}
"""The script of each peer, which is also the name of its environment, and its first arguments."""
MEMORY_ROWS = 1_000_000
MEMORY_ENROLLED = 100_000


class Match(NamedTuple):
    """The processes of a match. The server's processor seconds and peak (MiB) are of this match alone."""

    enroll: Measured
    publish: Measured
    match: Measured
    server_processor: float
    server_peak: float
    start: float
    """Seconds that the client's program takes to start and to load its libraries and kernels."""

    @property
    def with_publishing(self) -> float:
        """Seconds of publishing and matching."""
        return self.publish.seconds + self.match.seconds

    @property
    def processor(self) -> float:
        """Processor seconds of publishing and matching, both sides."""
        return self.publish.processor + self.match.processor + self.server_processor


def main() -> int:
    """Measures and prints."""
    options = _options()
    end_cleanly()
    with tempfile.TemporaryDirectory(prefix="purposematch-") as scratch:
        folder = Path(scratch)
        if options.memory:
            _measure_memory(folder, options.group)
            return 0
        return _compare(folder, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.end_to_end",
        description="Measures a whole match over TLS loopback, and peers on the same lists.",
        epilog="example: python -m benchmarks.end_to_end --size 20000 --peers secretflow-ecdh --repeats 3",
    )
    parser.add_argument("--size", type=int, default=100_000, help="identifiers on each side (%(default)s)")
    parser.add_argument(
        "--peers", nargs="*", choices=SCRIPTS, default=list(SCRIPTS), metavar="PEER", help=", ".join(SCRIPTS)
    )
    parser.add_argument(
        "--engine",
        choices=["oprf", "vole"],
        default="oprf",
        help="what matches are computed with (%(default)s)",
    )
    parser.add_argument(
        "--disclosure",
        choices=["both", "advertiser", "platform"],
        default="both",
        help="of the agreement (%(default)s)",
    )
    parser.add_argument(
        "--repeats", type=int, default=1, help="rounds of everything; the fastest counts (%(default)s)"
    )
    add_group_flag(parser)
    parser.add_argument("--memory", action="store_true", help="measure the client's memory at 1,000,000 rows")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats is 1 at least")
    return options


def _compare(folder: Path, options: argparse.Namespace) -> int:
    missing = sorted({SCRIPTS[peer][0] for peer in options.peers if not peer_python(peer).exists()})
    if missing:
        print(f"run `make -C benchmarks/peers {' '.join(missing)}` first", file=sys.stderr)
        return 1
    common = write_lists(folder, enrolled=options.size, listed=options.size)
    ours: list[Match] = []
    theirs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in options.peers}
    with progress("Measuring", options.repeats * (1 + len(theirs)), "matches") as advance:
        for number in range(options.repeats):
            # A platform of its own each time: publishing again would reuse what was evaluated.
            ours.append(
                run_match(folder, f"platform-{number}", options.group, options.disclosure, options.engine)
            )
            check_answer(ours[-1].match.answer, common)
            advance(1)
            for peer, answers in theirs.items():
                answers.append(run_peer(folder, peer))
                check_matched(answers[-1]["matched"], common)
                advance(1)
    best = fastest(ours)
    peers = [min(answers, key=lambda answer: answer["seconds"]) for answers in theirs.values()]
    heading = (
        f"{options.size:,} x {options.size:,}, {common:,} in common, group "
        f"{make_group(options.group, 1).name}, engine {options.engine}, disclosure {options.disclosure}, "
        f"{os.cpu_count()} cores, fastest of {options.repeats}"
    )
    if options.json:
        emit_json({"run": heading, "purposematch": facts(best), "peers": [beside(best, p) for p in peers]})
        return 0
    report_facts(heading, facts(best))
    Console(highlight=False).print(ratios(best, peers))
    return 0


def peer_python(peer: str) -> Path:
    """The interpreter of a peer's environment, which may not have been made."""
    return PEERS / ".venv" / SCRIPTS[peer][0] / "bin" / "python"


def run_peer(folder: Path, peer: str) -> dict[str, Any]:
    """Runs a peer on the lists in `folder`; what it printed."""
    script, *arguments = SCRIPTS[peer]
    lists = (str(folder / "accounts.txt"), str(folder / "customers.txt"))
    return measure(str(peer_python(peer)), str(PEERS / f"{script}.py"), *arguments, *lists).answer


def run_match(folder: Path, name: str, group: str, disclosure: str = "both", engine: str = "oprf") -> Match:
    """Enrolls, publishes and matches the lists in `folder`, each in a process of its own.

    Args:
        folder: as `write_lists` left it.
        name: of the folder in it for this platform and its advertiser.
        group: the back end, as --group names it.
        disclosure: of the agreement.
        engine: what computes.
    """
    variables, site = environment(group), folder / name
    site.mkdir()
    for file in ("accounts.csv", "customers.csv"):
        (site / file).symlink_to(folder / file)
    initialize(site, disclosure, engine)
    enrolled, published = enroll(site, variables), publish(site, variables)
    with serving(site, variables) as server:
        matched = match(site, server.address, variables, engine=engine)
    return Match(enrolled, published, matched, server.processor, server.peak, _start())


def _start() -> float:
    """Seconds that the client's program takes to start, and to load its libraries and kernels."""
    began = time.perf_counter()
    subprocess.run(  # noqa: S603 - the project's own command
        [ADVERTISER, "warm-up"], check=True, stdout=subprocess.DEVNULL, env=installed({})
    )
    return time.perf_counter() - began


def fastest(ours: Sequence[Match]) -> Match:
    """Of every process the fastest run; its processor seconds go with it."""
    by_match = min(ours, key=lambda run: run.match.seconds)
    return Match(
        enroll=min((run.enroll for run in ours), key=lambda run: run.seconds),
        publish=min((run.publish for run in ours), key=lambda run: run.seconds),
        match=by_match.match,
        server_processor=by_match.server_processor,
        server_peak=by_match.server_peak,
        start=min(run.start for run in ours),
    )


def facts(ours: Match) -> dict[str, object]:
    """What our side took, in words."""
    return {
        "enroll": f"{ours.enroll.seconds:.1f} s",
        "publish": f"{ours.publish.seconds:.1f} s",
        "match": f"{ours.match.seconds:.2f} s, of which the program's start {ours.start:.2f} s",
        "publish + match": f"{ours.with_publishing:.1f} s",
        "peak memory": f"client {ours.match.peak:.0f} MiB, server {ours.server_peak:.0f} MiB",
        "processor seconds": f"{ours.processor:.1f}: publish {ours.publish.processor:.1f}, "
        f"client {ours.match.processor:.1f}, server {ours.server_processor:.1f}",
    }


def beside(ours: Match, peer: dict[str, Any]) -> dict[str, Any]:
    """What a peer printed, and our times as shares of its times."""
    return {
        **peer,
        "ratio_publish_included": round(ours.with_publishing / peer["seconds"], 3),
        "ratio_publish_excluded": round(ours.match.seconds / peer["seconds"], 3),
        "ratio_start_excluded": round((ours.match.seconds - ours.start) / peer["seconds"], 3),
        "ratio_processor": round(ours.processor / peer["processor_seconds"], 3),
    }


def ratios(ours: Match, peers: Sequence[dict[str, Any]]) -> Table:
    """Every peer beside us; below 1 we are faster."""
    shown = Table(
        title="Our time as a share of the peer's; below 1 we are faster",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    shown.add_column("peer", no_wrap=True)
    for name in ("its seconds", "publish + match", "match", "started", "processor"):
        shown.add_column(name, justify="right")
    for peer in peers:
        row = beside(ours, peer)
        names = ("publish_included", "publish_excluded", "start_excluded", "processor")
        shares = (row[f"ratio_{name}"] for name in names)
        shown.add_row(
            f"{row['name']} {row['version']}",
            f"{row['seconds']:.2f}",
            *(f"{share:.2f}" for share in shares),
        )
    return shown


def _measure_memory(folder: Path, group: str) -> None:
    common = write_lists(folder, enrolled=MEMORY_ENROLLED, listed=MEMORY_ROWS)
    matched = run_match(folder, "platform", group).match
    check_matched(matched.answer["matched_identifiers"], common)
    report_facts(
        f"{MEMORY_ROWS:,} rows against {MEMORY_ENROLLED:,} enrolled identifiers",
        {"match": f"{matched.seconds:.1f} s", "client's peak memory": f"{matched.peak:.0f} MiB"},
    )


if __name__ == "__main__":
    raise SystemExit(main())
