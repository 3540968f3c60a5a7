"""Whether a match by VOLE finds the same rows as SecretFlow's RR22 on the same files.

    make -C benchmarks/peers same-rows
    python -m benchmarks.same_rows --size 1048576

Both run as processes on lists in files; row by row, what one finds the other must find.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

from benchmarks.end_to_end import PEERS, peer_python, run_match
from benchmarks.loopback import end_cleanly, measure, write_lists


def main() -> int:
    """Runs both, compares and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.same_rows", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--size", type=int, default=100_000, help="identifiers on each side (%(default)s)")
    size: int = parser.parse_args().size
    if not peer_python("secretflow-rr22").exists():
        print("run `make -C benchmarks/peers secretflow` first", file=sys.stderr)
        return 1
    end_cleanly()
    with tempfile.TemporaryDirectory(prefix="purposematch-") as scratch:
        folder = Path(scratch)
        common = write_lists(folder, enrolled=size, listed=size)
        run_match(folder, "platform", "default", "advertiser", "vole")
        with (folder / "platform" / "matched.csv").open(newline="", encoding="utf-8") as file:
            ours = [row["email"] for row in csv.DictReader(file) if row["matched"] == "true"]
        theirs = _peer(folder)
    # Its output has an order of its own, and no list has an identifier twice.
    same = sorted(ours) == sorted(theirs) and len(ours) == common
    print(f"{len(ours):,} rows here, {len(theirs):,} there: {'the same' if same else 'NOT the same'}")
    return 0 if same else 1


def _peer(folder: Path) -> list[str]:
    """The lines that RR22 matched."""
    lists = (str(folder / "accounts.txt"), str(folder / "customers.txt"))
    output = folder / "theirs.txt"
    script = (str(peer_python("secretflow-rr22")), str(PEERS / "secretflow.py"), "rr22")
    measure(*script, *lists, "--output", str(output))
    return [line.strip('"') for line in output.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    raise SystemExit(main())
