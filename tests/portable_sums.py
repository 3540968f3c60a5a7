"""Compiles the kernels of sums anew and compares them with libsodium; fails where they differ.

Run by test_group_sums.py in a process of its own, with the environment that decides what LLVM compiles for.
Prints what it found as JSON.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from samples import rows, uniform

from purposematch.protocol.group import SodiumGroup
from purposematch.protocol.group.lanes import KERNELS, PublicLanes
from purposematch.protocol.group.simd import CHUNK_ELEMENTS
from purposematch.protocol.scalars import GROUP_ORDER
from purposematch.protocol.simd.kernel import kernels
from purposematch.protocol.simd.processor import INSTRUCTIONS

EDGES = [1, 2, 127, 128, 129, 2**128, GROUP_ORDER - 1, GROUP_ORDER + 1, 2**252, 2**255 - 1, 2**256 - 1]
"""Scalars at the ends of their digits, and some that libsodium reduces."""


def compare() -> None:
    """Sums of many lengths, each in lanes and by libsodium."""
    sodium, lanes = SodiumGroup(), PublicLanes(2)
    lanes.prepare()
    count = CHUNK_ELEMENTS + 2
    elements = sodium.map_to_group(uniform(count, 64))
    encoded, scalars = sodium.encode(elements), sodium.reduce(uniform(count, 64, "factors"))
    scalars[3 : 3 + len(EDGES)] = rows(edge.to_bytes(32, "little") for edge in EDGES)
    decoded = lanes.decode(encoded)
    for start, stop in (
        (0, 1),
        (3, 4),
        (0, 7),
        (1, 9),
        (0, 9),
        (3, 14),
        (5, 516),
        (0, 512),
        (0, 513),
        (0, count),
    ):
        own = scalars[start:stop]
        total = lanes.public_sum_of_products(decoded.rows(start, stop), own)
        expected = sodium.public_sum_of_products(elements.rows(start, stop), own)
        if not np.array_equal(lanes.encode(total), sodium.encode(expected)):
            raise AssertionError(f"sums differ: {start} to {stop}")


def main() -> None:
    """Compares, and reads from the code which registers it uses."""
    compare()
    assembly = "".join(code for kernel in KERNELS for code in kernel.dispatcher.inspect_asm().values())
    found = {
        "instructions": INSTRUCTIONS and INSTRUCTIONS.value,
        "compiled": sorted(kernel.name for kernel in kernels() if kernel.ready),
        "wide": bool(re.search(r"%[yz]mm|\sv[a-z0-9]+\s+.*%xmm", assembly)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
