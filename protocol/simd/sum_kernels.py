"""Kernels for sums of points, with public scalars: they take time, and read memory, that depends on them.

Source: Pippenger's bucket method, as in Bernstein, Doumen, Lange, Oosterwijk 2012 ("Faster batch forgery
identification"), section 4. A scalar is 32 signed digits of eight bits. For each of these 32 windows the
points are sorted by the size of their digit, and added up where sizes agree; then bucket d counts d times. A
lane is a window here: all lanes walk as many points, each in an order of its own, so none waits for another.
"""

from typing import Any, Final

import numpy as np

from purposematch.protocol.simd.kernel import kernel
from purposematch.protocol.simd.points import POINT, add, cache, cache_negative, double, extend
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.scalars import (
    PUBLIC_DIGIT_BIAS,
    PUBLIC_DIGIT_BITS,
    SCALAR_WORDS,
    recode_public,
)
from purposematch.protocol.simd.workspace import (
    AT_CHOSEN,
    AT_CHUNK,
    AT_DIGITS,
    AT_FLAG,
    AT_POINT,
    AT_SUM,
    AT_WORDS,
    gather,
    inner,
    read,
    report,
    scatter,
    write,
)

__all__ = ["BUCKETS", "ROW", "SUM_BLOCKS", "SUM_ELEMENTS", "add_points", "sum_of_products"]

BUCKETS: Final = PUBLIC_DIGIT_BIAS + 1
"""Sizes of a digit; nothing becomes of what has size zero."""
GROUPS: Final = 256 // PUBLIC_DIGIT_BITS // LANES
"""Blocks that the windows fill."""
LIMBS: Final = POINT // LANES
"""Words of one point."""
COORDINATE: Final = LIMBS // 4
"""Words of one coordinate."""
ROW: Final = 5 * COORDINATE
"""Words of a point to be added: Y+X, Y-X, 2Z, 2dT and -2dT."""
SUM_ELEMENTS: Final = 2_048
"""Points that one call adds up at most: more would share the work on buckets, but leave the second cache."""
SUM_BLOCKS: Final = SUM_ELEMENTS // LANES
"""Their blocks."""


@inner
def _set_identity(workspace: Any, at: int, lane: int) -> None:
    """Makes one lane of a point the identity."""
    for limb in range(LIMBS):
        one = limb in (COORDINATE, 2 * COORDINATE)
        workspace[at + limb * LANES + lane] = 1 if one else 0


@inner
def _prepare(points: Any, scalars: Any, rows: Any, digits: Any, zero: Any, workspace: Any) -> None:
    """The points as rows to be added, and the digits of the scalars."""
    for block in range(points.shape[0]):
        gather(workspace, AT_WORDS, scalars, block, SCALAR_WORDS)
        recode_public(workspace, AT_DIGITS, AT_FLAG, AT_WORDS)
        scatter(digits, block, workspace, AT_DIGITS)
        report(zero, block, workspace, AT_FLAG)
        read(workspace, AT_POINT, points, block)
        # What follows CHOSEN is POINT, which is read no more.
        cache(workspace, AT_CHOSEN, AT_POINT)
        cache_negative(workspace, AT_CHOSEN + POINT, AT_CHOSEN)
        for lane in range(LANES):
            for limb in range(ROW):
                rows[block * LANES + lane, limb] = workspace[AT_CHOSEN + limb * LANES + lane]


@inner
def _digit(digits: Any, row: int, window: int) -> Any:
    bit = window * PUBLIC_DIGIT_BITS
    plain = (digits[row, bit // 64] >> np.uint64(bit % 64)) & np.uint64((1 << PUBLIC_DIGIT_BITS) - 1)
    return np.int64(plain) - PUBLIC_DIGIT_BIAS


@inner
def _sort(digits: Any, window: int, order: Any, lane: int, ends: Any) -> None:
    """Sorts the points by the size of a digit. An entry is size, row and sign: 32, 31 and 1 bits."""
    for size in range(BUCKETS):
        ends[size] = 0
    for row in range(digits.shape[0]):
        ends[abs(_digit(digits, row, window))] += 1
    total = 0
    for size in range(BUCKETS):
        begin = total
        total += ends[size]
        ends[size] = begin
    for row in range(digits.shape[0]):
        digit = _digit(digits, row, window)
        size = abs(digit)
        order[lane, ends[size]] = (size << 32) | (row << 1) | (1 if digit < 0 else 0)
        ends[size] += 1


@inner
def _take(workspace: Any, lane: int, rows: Any, entry: int) -> None:
    """Puts the point of an entry into a lane of CHOSEN, negated if the entry says so."""
    row, negative = (entry & 0xFFFFFFFF) >> 1, entry & 1
    first, second, last = (1, 0, 4) if negative else (0, 1, 3)
    for limb in range(COORDINATE):
        at = AT_CHOSEN + limb * LANES + lane
        workspace[at] = rows[row, first * COORDINATE + limb]
        workspace[at + COORDINATE * LANES] = rows[row, second * COORDINATE + limb]
        workspace[at + 2 * COORDINATE * LANES] = rows[row, 2 * COORDINATE + limb]
        workspace[at + 3 * COORDINATE * LANES] = rows[row, last * COORDINATE + limb]


@inner
def _fill(buckets: Any, rows: Any, order: Any, workspace: Any) -> None:
    """Adds every point to its bucket, for one window in each lane."""
    for lane in range(LANES):
        _set_identity(workspace, AT_SUM, lane)
    for size in range(BUCKETS):
        write(buckets, size, workspace, AT_SUM)
    count = order.shape[1]
    for position in range(count):
        for lane in range(LANES):
            _take(workspace, lane, rows, order[lane, position])
        add(workspace, AT_SUM, AT_CHOSEN)
        for lane in range(LANES):
            size = order[lane, position] >> 32
            if position + 1 == count or order[lane, position + 1] >> 32 != size:
                for limb in range(LIMBS):
                    buckets[size, limb * LANES + lane] = workspace[AT_SUM + limb * LANES + lane]
                _set_identity(workspace, AT_SUM, lane)


@inner
def _weigh(buckets: Any, workspace: Any) -> None:
    """POINT = the sum of d times bucket d, in every lane: the sum of all sums from the top bucket down."""
    read(workspace, AT_SUM, buckets, BUCKETS - 1)
    read(workspace, AT_POINT, buckets, BUCKETS - 1)
    for size in range(BUCKETS - 2, 0, -1):
        read(workspace, AT_CHUNK, buckets, size)
        cache(workspace, AT_CHOSEN, AT_CHUNK)
        add(workspace, AT_SUM, AT_CHOSEN)
        cache(workspace, AT_CHOSEN, AT_SUM)
        add(workspace, AT_POINT, AT_CHOSEN)


@inner
def _double(workspace: Any, at: int, times: int) -> None:
    """Doubles an extended point."""
    for _ in range(times):
        double(workspace, at)
    extend(workspace, AT_CHUNK, at)
    for i in range(POINT):
        workspace[at + i] = workspace[AT_CHUNK + i]


@inner
def _rotate(workspace: Any, target: int, source: int, distance: int) -> None:
    """Lane i of the target is lane i + distance of the source."""
    for i in range(POINT):
        lane = i % LANES
        workspace[target + i] = workspace[source + i - lane + (lane + distance) % LANES]


@kernel(
    "void(uint64[:, ::1], uint64[:, ::1], uint64[:, ::1], uint64[:, ::1], uint64[:, ::1], int64[:, ::1], "
    "int64[::1], uint64[:, ::1], uint64[::1], uint64[::1])"
)
def sum_of_products(
    points: Any,
    scalars: Any,
    rows: Any,
    digits: Any,
    buckets: Any,
    order: Any,
    ends: Any,
    total: Any,
    zero: Any,
    workspace: Any,
) -> None:
    """Adds up scalar i times point i.

    Args:
        points: blocks.
        scalars: rows of 4 words.
        rows: scratch, (lanes of all blocks, ROW).
        digits: scratch, (lanes of all blocks, 4).
        buckets: scratch, (BUCKETS, POINT).
        order: scratch, (LANES, lanes of all blocks).
        ends: scratch, (BUCKETS,).
        total: one block: the sum in lane 0, the identity in the others.
        zero: flags the scalars that are zero.
        workspace: see `workspace`.
    """
    _prepare(points, scalars, rows, digits, zero, workspace)
    for group in range(GROUPS - 1, -1, -1):
        for lane in range(LANES):
            _sort(digits, group * LANES + lane, order, lane, ends)
        _fill(buckets, rows, order, workspace)
        _weigh(buckets, workspace)
        if group < GROUPS - 1:
            # The group above begins LANES digits higher.
            read(workspace, AT_SUM, total, 0)
            _double(workspace, AT_SUM, PUBLIC_DIGIT_BITS * LANES)
            cache(workspace, AT_CHOSEN, AT_SUM)
            add(workspace, AT_POINT, AT_CHOSEN)
        write(total, 0, workspace, AT_POINT)
    distance = LANES // 2
    while distance:
        _rotate(workspace, AT_SUM, AT_POINT, distance)
        _double(workspace, AT_SUM, PUBLIC_DIGIT_BITS * distance)
        cache(workspace, AT_CHOSEN, AT_SUM)
        add(workspace, AT_POINT, AT_CHOSEN)
        distance //= 2
    for lane in range(1, LANES):
        _set_identity(workspace, AT_POINT, lane)
    write(total, 0, workspace, AT_POINT)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def add_points(points: Any, total: Any, workspace: Any) -> None:
    """Adds up all points: first the blocks, then the lanes; the sum is in every lane of `total`."""
    read(workspace, AT_SUM, points, 0)
    for block in range(1, points.shape[0]):
        read(workspace, AT_POINT, points, block)
        cache(workspace, AT_CHOSEN, AT_POINT)
        add(workspace, AT_SUM, AT_CHOSEN)
    distance = LANES // 2
    while distance:
        _rotate(workspace, AT_POINT, AT_SUM, distance)
        cache(workspace, AT_CHOSEN, AT_POINT)
        add(workspace, AT_SUM, AT_CHOSEN)
        distance //= 2
    write(total, 0, workspace, AT_SUM)
