"""Asks for noisy counts in a process of its own; started by test_releases with a folder, a name and a number.

Prints one line when it is ready, waits for one on stdin, asks, and prints how many were paid for and how many
refused.
"""

import sys
from pathlib import Path

from noisy_sessions import finish, open_session

from purposematch.protocol.errors import BudgetError
from purposematch.server.platform import open_platform


def main() -> None:
    """Runs."""
    folder, name, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with open_platform(folder) as platform:
        opened = [open_session(platform, name) for _ in range(6)]
        print("ready", flush=True)
        sys.stdin.readline()
        paid = refused = 0
        for number, session in enumerate(opened, start=first):
            try:
                assert finish(platform, session, number.to_bytes(32, "big"), 500).new
                paid += 1
            except BudgetError:
                refused += 1
        print(paid, refused, flush=True)


if __name__ == "__main__":
    main()
