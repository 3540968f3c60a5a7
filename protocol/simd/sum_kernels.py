"""Kernels for sums of points, with public scalars: they take time, and read memory, that depends on them.

Source: Pippenger's bucket method, as in Bernstein, Doumen, Lange, Oosterwijk 2012 ("Faster batch forgery
identification"), section 4. A scalar is 23 signed digits of eleven bits, which three groups of eight windows
hold. For each window the points are sorted by the size of their digit, and added up where sizes agree; then
bucket d counts d times. A lane is a window here: all lanes walk as many points, each in an order of its own,
so none waits for another. The order depends on the scalars alone: sums with the same scalars share it.
"""

from typing import Any, Final

import numpy as np

from purposematch.protocol.simd.kernel import kernel
from purposematch.protocol.simd.points import POINT, add, add_row, cache, double, extend
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.scalars import (
    PUBLIC_DIGIT_BIAS,
    PUBLIC_DIGIT_BITS,
    PUBLIC_DIGITS,
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
    BUCKETS,
    gather,
    inner,
    read,
    report,
    write,
)

__all__ = [
    "BUCKETS",
    "GROUPS",
    "ROW",
    "WINDOWS",
    "add_points",
    "order_by_digit",
    "recode_scalars",
    "sum_group",
    "tabulate",
]

GROUPS: Final = -(-PUBLIC_DIGITS // LANES)
"""Groups of windows, one window a lane."""
WINDOWS: Final = GROUPS * LANES
"""Digits of all lanes of all groups; those after the last one of a scalar are zero."""
LIMBS: Final = POINT // LANES
"""Words of one point."""
COORDINATE: Final = LIMBS // 4
"""Words of one coordinate."""
ROW: Final = 4 * COORDINATE
"""Words of a point to be added: it is cached."""


@inner
def _set_identity(workspace: Any, at: int, lane: int) -> None:
    """Makes one lane of a point the identity."""
    for limb in range(LIMBS):
        one = limb in (COORDINATE, 2 * COORDINATE)
        workspace[at + limb * LANES + lane] = 1 if one else 0


@inner
def _fill(rows: Any, order: Any, workspace: Any) -> None:
    """Adds every point to its bucket, the first of which is CHUNK, for one window in each lane."""
    for lane in range(LANES):
        _set_identity(workspace, AT_SUM, lane)
    for size in range(BUCKETS):
        for i in range(POINT):
            workspace[AT_CHUNK + size * POINT + i] = workspace[AT_SUM + i]
    count, begin = order.shape[1], rows.ctypes.data
    for position in range(count):
        for lane in range(LANES):
            entry = order[lane, position]
            workspace[AT_WORDS + lane] = begin + 8 * ROW * ((entry & 0xFFFFFFFF) >> 1)
            workspace[AT_FLAG + lane] = -(entry & 1)
        add_row(workspace, AT_SUM, AT_WORDS, AT_FLAG)
        for lane in range(LANES):
            size = order[lane, position] >> 32
            if position + 1 == count or order[lane, position + 1] >> 32 != size:
                bucket = AT_CHUNK + size * POINT + lane
                for limb in range(LIMBS):
                    workspace[bucket + limb * LANES] = workspace[AT_SUM + lane + limb * LANES]
                _set_identity(workspace, AT_SUM, lane)


@inner
def _weigh(workspace: Any) -> None:
    """POINT = the sum of d times bucket d, in every lane: the sum of all sums from the top bucket down."""
    for i in range(POINT):
        top = workspace[AT_CHUNK + (BUCKETS - 1) * POINT + i]
        workspace[AT_SUM + i] = top
        workspace[AT_POINT + i] = top
    for size in range(BUCKETS - 2, 0, -1):
        cache(workspace, AT_CHOSEN, AT_CHUNK + size * POINT)
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


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def tabulate(points: Any, rows: Any, workspace: Any) -> None:
    """Blocks of points as rows to be added, (lanes of all blocks, ROW)."""
    for block in range(points.shape[0]):
        read(workspace, AT_POINT, points, block)
        cache(workspace, AT_CHOSEN, AT_POINT)
        for lane in range(LANES):
            for limb in range(ROW):
                rows[block * LANES + lane, limb] = workspace[AT_CHOSEN + limb * LANES + lane]


@kernel("void(uint64[:, ::1], int16[:, ::1], uint64[::1], uint64[::1])")
def recode_scalars(scalars: Any, digits: Any, zero: Any, workspace: Any) -> None:
    """Rows of 4 words as digits, (WINDOWS, n), window by window; flags the scalars that are zero."""
    for block in range(scalars.shape[0] // LANES):
        gather(workspace, AT_WORDS, scalars, block, SCALAR_WORDS)
        recode_public(workspace, AT_DIGITS, AT_FLAG, AT_WORDS)
        report(zero, block, workspace, AT_FLAG)
        for window in range(PUBLIC_DIGITS):
            at = window * PUBLIC_DIGIT_BITS
            word, shift = AT_DIGITS + at // 64 * LANES, np.uint64(at % 64)
            bias = PUBLIC_DIGIT_BIAS if window < PUBLIC_DIGITS - 1 else 0
            for lane in range(LANES):
                plain = workspace[word + lane] >> shift
                if at % 64 + PUBLIC_DIGIT_BITS > 64:
                    plain |= workspace[word + LANES + lane] << (np.uint64(64) - shift)
                digit = np.int64(plain & np.uint64((1 << PUBLIC_DIGIT_BITS) - 1)) - bias
                digits[window, block * LANES + lane] = digit
        for window in range(PUBLIC_DIGITS, WINDOWS):
            for lane in range(LANES):
                digits[window, block * LANES + lane] = 0


@kernel("void(int16[:, ::1], intp, int64[:, ::1], int64[::1])")
def order_by_digit(digits: Any, count: int, order: Any, ends: Any) -> None:
    """Sorts rows by the size of a digit, in each lane by the digit of its window.

    Args:
        digits: (LANES, n), from `recode_scalars`: those of one group.
        count: how many of the n there are.
        order: (LANES, count): what is to be added; an entry is size, row and sign: 32, 31 and 1 bits.
        ends: scratch, (BUCKETS,).
    """
    for lane in range(LANES):
        for size in range(BUCKETS):
            ends[size] = 0
        for row in range(count):
            ends[abs(int(digits[lane, row]))] += 1
        total = 0
        for size in range(BUCKETS):
            begin = total
            total += ends[size]
            ends[size] = begin
        for row in range(count):
            digit = int(digits[lane, row])
            size = abs(digit)
            order[lane, ends[size]] = (size << 32) | (row << 1) | int(digit < 0)
            ends[size] += 1


@kernel("void(uint64[:, ::1], int64[:, ::1], intp, uint64[:, ::1], uint64[::1])")
def sum_group(rows: Any, order: Any, group: int, total: Any, workspace: Any) -> None:
    """Adds up points times the digits of one group of windows, each digit for what it stands for.

    Args:
        rows: (n, ROW), from `tabulate`.
        order: (LANES, n), from `order_by_digit`.
        group: of windows.
        total: one block: the sum in lane 0, the identity in the others.
        workspace: see `workspace`.
    """
    _fill(rows, order, workspace)
    _weigh(workspace)
    distance = LANES // 2
    while distance:
        _rotate(workspace, AT_SUM, AT_POINT, distance)
        _double(workspace, AT_SUM, PUBLIC_DIGIT_BITS * distance)
        cache(workspace, AT_CHOSEN, AT_SUM)
        add(workspace, AT_POINT, AT_CHOSEN)
        distance //= 2
    _double(workspace, AT_POINT, PUBLIC_DIGIT_BITS * LANES * group)
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
