"""OpenMined PSI on two files of one identifier a line; prints the size of the intersection as JSON.

    python openmined.py SERVER_LIST CLIENT_LIST

Runs in the environment of the Makefile beside it. The exact data structure (RAW) is chosen, since the others
may report what is not there; both parties live in this one process, so that no transport is measured.
"""

import json
import sys
from pathlib import Path

import private_set_intersection.python as psi

UNUSED_FALSE_POSITIVE_RATE = 1e-9
"""Means nothing with RAW, but the call demands it."""


def main() -> None:
    """Reads both lists and intersects them."""
    theirs, ours = (Path(name).read_text(encoding="utf-8").splitlines() for name in sys.argv[1:])
    server = psi.server.CreateWithNewKey(True)
    client = psi.client.CreateWithNewKey(True)
    setup = server.CreateSetupMessage(UNUSED_FALSE_POSITIVE_RATE, len(ours), theirs, psi.DataStructure.RAW)
    response = server.ProcessRequest(client.CreateRequest(ours))
    print(json.dumps({"matched": len(client.GetIntersection(setup, response))}))


if __name__ == "__main__":
    main()
