"""The kernel that multiplies points by secret scalars, in constant time.

Signed digits of four bits choose among eight multiples of the point: 252 doublings, 63 additions and 64
choices from a table that is read whole. A scalar is recoded in the kernel.
"""

from typing import Any

from purposematch.protocol.simd.kernel import kernel
from purposematch.protocol.simd.points import (
    DIGIT_BITS,
    POINT,
    TABLE_ENTRIES,
    add,
    add_ready,
    cache,
    choose,
    double,
    double_ready,
    extend,
    find_identity,
    start,
)
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.scalars import SCALAR_WORDS, WINDOWS, choice, recode
from purposematch.protocol.simd.workspace import (
    AT_CHOSEN,
    AT_CHUNK,
    AT_DIGITS,
    AT_FLAG,
    AT_MASKS,
    AT_POINT,
    AT_SUM,
    AT_WORDS,
    gather,
    inner,
    read,
    report,
    wipe,
    write,
)

__all__ = ["multiply_points"]


@inner
def _tabulate(workspace: Any, table: int) -> None:
    """The cached multiples 1 to 8 of POINT, which is lost."""
    cache(workspace, table, AT_POINT)
    for entry in range(1, TABLE_ENTRIES):
        add(workspace, AT_POINT, table)
        cache(workspace, table + entry * POINT, AT_POINT)


@inner
def _choose(workspace: Any, table: int, digits: int, window: int) -> None:
    """CHOSEN = the entry of a table that the digits ask for in this window."""
    bit = window * DIGIT_BITS
    choice(workspace, AT_MASKS, digits + (bit // 64) * LANES, bit % 64)
    choose(workspace, AT_CHOSEN, table, AT_MASKS)


@kernel("void(uint64[:, ::1], uint64[:, ::1], intp, uint64[:, ::1], uint64[::1], uint64[::1])")
def multiply_points(
    points: Any, scalars: Any, halve: int, products: Any, identity: Any, workspace: Any
) -> None:
    """Multiplies every point by a secret scalar.

    Args:
        points: the blocks.
        scalars: rows of 4 words; only one block of them to use it for all blocks.
        halve: 1 to multiply by half the scalar modulo l instead.
        products: the blocks of the results.
        identity: flags the products that are the identity.
        workspace: see the module.
    """
    for block in range(points.shape[0]):
        gather(workspace, AT_WORDS, scalars, block if scalars.shape[0] > LANES else 0, SCALAR_WORDS)
        recode(workspace, AT_DIGITS, AT_FLAG, AT_WORDS, halve)
        read(workspace, AT_POINT, points, block)
        _tabulate(workspace, AT_CHUNK)
        _choose(workspace, AT_CHUNK, AT_DIGITS, WINDOWS - 1)
        start(workspace, AT_SUM, AT_CHOSEN)
        for window in range(WINDOWS - 2, -1, -1):
            for _ in range(DIGIT_BITS - 1):
                double(workspace, AT_SUM)
            double_ready(workspace, AT_SUM)
            _choose(workspace, AT_CHUNK, AT_DIGITS, window)
            add_ready(workspace, AT_SUM, AT_CHOSEN)
        extend(workspace, AT_POINT, AT_SUM)
        find_identity(workspace, AT_FLAG, AT_POINT)
        report(identity, block, workspace, AT_FLAG)
        write(products, block, workspace, AT_POINT)
    wipe(workspace, 0, AT_CHUNK + TABLE_ENTRIES * POINT)
