"""OpenMined PSI on two files of one identifier a line; prints what it took as one JSON document.

    .venv/openmined/bin/python openmined.py SERVER_LIST CLIENT_LIST

Runs in the environment of the Makefile beside it. The exact data structure (RAW) is chosen, since the others
may report what is not there; both parties live in this one process, so that no transport is measured. The
seconds begin before the lists are read and leave out the start of Python.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

PACKAGE = "openmined-psi"
UNUSED_FALSE_POSITIVE_RATE = 1e-9
"""Means nothing with RAW, but the call demands it."""


def main() -> None:
    """Reads both lists and intersects them."""
    try:
        import private_set_intersection.python as psi
    except ImportError as error:
        raise SystemExit(
            f"{PACKAGE} cannot be imported ({error}): run `make -C benchmarks/peers openmined`"
        ) from None
    began, processor = time.perf_counter(), time.process_time()
    theirs, ours = (Path(name).read_text(encoding="utf-8").splitlines() for name in sys.argv[1:])
    server = psi.server.CreateWithNewKey(True)
    client = psi.client.CreateWithNewKey(True)
    setup = server.CreateSetupMessage(UNUSED_FALSE_POSITIVE_RATE, len(ours), theirs, psi.DataStructure.RAW)
    response = server.ProcessRequest(client.CreateRequest(ours))
    matched = len(client.GetIntersection(setup, response))
    print(
        json.dumps(
            {
                "name": "OpenMined PSI",
                "version": version(PACKAGE),
                "seconds": time.perf_counter() - began,
                "processor_seconds": time.process_time() - processor,
                "matched": matched,
            }
        )
    )


if __name__ == "__main__":
    main()
