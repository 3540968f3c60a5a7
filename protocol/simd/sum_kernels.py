"""Kernels for sums of points, with public scalars: they take time, and read memory, that depends on them.

Source: Pippenger's bucket method, as in Bernstein, Doumen, Lange, Oosterwijk 2012 ("Faster batch forgery
identification"), section 4. A scalar is 23 signed digits of eleven bits, which three groups of eight windows
hold, or 32 of eight bits in four groups where there are few points. Groups in which all digits are zero are
left out: scalars of 126 bits are two groups of narrow digits. For each window the points are sorted by
the size of their digit, and added up where sizes agree; then bucket d counts d times. A lane is a window
here: all lanes walk as many points, each in an order of its own, so none waits for another. The order depends
on the scalars alone: sums with the same scalars share it.
"""

from typing import Any, Final

import numpy as np

from purposematch.protocol.simd.code_kernels import inverse_power
from purposematch.protocol.simd.kernel import kernel
from purposematch.protocol.simd.points import (
    AFFINE_SLOTS,
    ELEMENT,
    PAIR,
    POINT,
    ROW,
    add,
    add_row,
    affine,
    cache,
    cache_ready,
    copy,
    double,
    extend,
    leave_ready,
    multiply,
)
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.scalars import (
    NARROW_BITS,
    SCALAR_WORDS,
    WIDE_BITS,
    digit_bias,
    public_digits,
    recode_public,
)
from purposematch.protocol.simd.workspace import (
    AT_BASE,
    AT_CHOSEN,
    AT_CHUNK,
    AT_DIGITS,
    AT_FLAG,
    AT_POINT,
    AT_POWER,
    AT_SUM,
    AT_T1,
    AT_WORDS,
    CHUNK_BLOCKS,
    gather,
    inner,
    read,
    report,
    write,
)

__all__ = [
    "ROW",
    "SHORT_WORDS",
    "add_points",
    "buckets",
    "digit_bits",
    "groups",
    "order_by_digit",
    "recode_scalars",
    "sum_group",
    "tabulate",
]

NARROW_BELOW: Final = 8_192
"""Points below which narrow digits are faster: each group has 128 buckets to weigh then, instead of 1,024.
From 7,000 to 12,000 points both take as long."""
SHORT_WORDS: Final = 2
"""Words of a short scalar, whose narrow digits are in no more groups of eight windows than wide ones."""
WIDE_DIGITS: Final = public_digits(WIDE_BITS)
NARROW_DIGITS: Final = public_digits(NARROW_BITS)
LIMBS: Final = POINT // LANES
"""Words of one point."""
COORDINATE: Final = LIMBS // 4
"""Words of one coordinate."""


def digit_bits(count: int, short: bool) -> int:
    """Bits of a digit in a sum of `count` points, with scalars of `SHORT_WORDS` words or longer ones."""
    return NARROW_BITS if short or count < NARROW_BELOW else WIDE_BITS


def groups(bits: int) -> int:
    """Groups of windows, one window a lane; digits after the last one of a scalar are zero."""
    return -(-public_digits(bits) // LANES)


def buckets(bits: int) -> int:
    """Sizes of a digit; nothing becomes of what has size zero."""
    return digit_bias(bits) + 1


@inner
def _set_identity(workspace: Any, at: int, lane: int, ready: bool) -> None:
    """Makes one lane of an extended or a ready point the identity."""
    for limb in range(LIMBS):
        one = limb in (COORDINATE, 2 * COORDINATE) or (ready and limb == 0)
        workspace[at + limb * LANES + lane] = 1 if one else 0


@inner
def _fill(rows: Any, order: Any, sizes: int, workspace: Any) -> None:
    """Adds every point to its bucket, the first of which is CHUNK, for one window in each lane."""
    for lane in range(LANES):
        _set_identity(workspace, AT_SUM, lane, True)
    for size in range(sizes):
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
                _set_identity(workspace, AT_SUM, lane, True)


@inner
def _weigh(sizes: int, workspace: Any) -> None:
    """POINT = the sum of d times bucket d, in every lane: the sum of all sums from the top bucket down."""
    for i in range(POINT):
        workspace[AT_SUM + i] = workspace[AT_CHUNK + (sizes - 1) * POINT + i]
    leave_ready(workspace, AT_SUM)
    for i in range(POINT):
        workspace[AT_POINT + i] = workspace[AT_SUM + i]
    for size in range(sizes - 2, 0, -1):
        cache_ready(workspace, AT_CHOSEN, AT_CHUNK + size * POINT)
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
    """At most CHUNK_BLOCKS blocks of points as affine ones, row by row, (lanes of all blocks, ROW).

    One inversion serves all blocks (Montgomery's trick, in every lane by itself).
    """
    blocks = points.shape[0]
    products = AT_CHUNK + CHUNK_BLOCKS * ELEMENT
    for block in range(blocks):
        z, done = AT_CHUNK + block * ELEMENT, products + block * ELEMENT
        for i in range(ELEMENT):
            workspace[z + i] = points[block, 2 * ELEMENT + i]
        if block:
            multiply(workspace, done, done - ELEMENT, z)
        else:
            copy(workspace, done, z)
    for half in range(PAIR):
        copy(workspace, AT_BASE + half * ELEMENT, products + (blocks - 1) * ELEMENT)
    inverse_power(workspace)
    for block in range(blocks - 1, -1, -1):
        if block:
            multiply(workspace, AT_T1, AT_POWER, products + (block - 1) * ELEMENT)
            multiply(workspace, AT_POWER, AT_POWER, AT_CHUNK + block * ELEMENT)
        else:
            copy(workspace, AT_T1, AT_POWER)
        read(workspace, AT_POINT, points, block)
        affine(workspace, AT_CHOSEN, AT_POINT, AT_T1)
        for lane in range(LANES):
            for limb in range(AFFINE_SLOTS * COORDINATE):
                rows[block * LANES + lane, limb] = workspace[AT_CHOSEN + limb * LANES + lane]


@kernel("void(uint64[:, ::1], intp, int16[:, ::1], uint64[::1], uint64[::1])")
def recode_scalars(scalars: Any, bits: int, digits: Any, zero: Any, workspace: Any) -> None:
    """Rows of 4 words as digits, (windows of all groups, n), window by window; flags the zeros."""
    last = (NARROW_DIGITS if bits == NARROW_BITS else WIDE_DIGITS) - 1
    mask, bias = np.uint64((1 << bits) - 1), 1 << (bits - 1)
    for block in range(scalars.shape[0] // LANES):
        gather(workspace, AT_WORDS, scalars, block, SCALAR_WORDS)
        recode_public(workspace, AT_DIGITS, AT_FLAG, AT_WORDS, 1 if bits == NARROW_BITS else 0)
        report(zero, block, workspace, AT_FLAG)
        for window in range(last + 1):
            at = window * bits
            word, shift = AT_DIGITS + at // 64 * LANES, np.uint64(at % 64)
            for lane in range(LANES):
                plain = workspace[word + lane] >> shift
                if at % 64 + bits > 64:
                    plain |= workspace[word + LANES + lane] << (np.uint64(64) - shift)
                digit = np.int64(plain & mask) - (bias if window < last else 0)
                digits[window, block * LANES + lane] = digit
        for window in range(last + 1, digits.shape[0]):
            for lane in range(LANES):
                digits[window, block * LANES + lane] = 0


@kernel("void(int16[:, ::1], intp, int64[:, ::1], int64[::1])")
def order_by_digit(digits: Any, count: int, order: Any, ends: Any) -> None:
    """Sorts rows by the size of a digit, in each lane by the digit of its window.

    Args:
        digits: (LANES, n), from `recode_scalars`: those of one group.
        count: how many of the n there are.
        order: (LANES, count): what is to be added; an entry is size, row and sign: 32, 31 and 1 bits.
        ends: scratch, one for each bucket.
    """
    sizes = len(ends)
    for lane in range(LANES):
        for size in range(sizes):
            ends[size] = 0
        for row in range(count):
            ends[abs(int(digits[lane, row]))] += 1
        total = 0
        for size in range(sizes):
            begin = total
            total += ends[size]
            ends[size] = begin
        for row in range(count):
            digit = int(digits[lane, row])
            size = abs(digit)
            order[lane, ends[size]] = (size << 32) | (row << 1) | int(digit < 0)
            ends[size] += 1


@kernel("void(uint64[:, ::1], int64[:, ::1], intp, intp, uint64[:, ::1], uint64[::1])")
def sum_group(rows: Any, order: Any, group: int, bits: int, total: Any, workspace: Any) -> None:
    """Adds up points times the digits of one group of windows, each digit for what it stands for.

    Args:
        rows: (n, ROW), from `tabulate`, aligned like vectors.
        order: (LANES, n), from `order_by_digit`.
        group: of windows.
        bits: of a digit.
        total: one block: the sum in lane 0, the identity in the others.
        workspace: see `workspace`.
    """
    sizes = (1 << (bits - 1)) + 1
    _fill(rows, order, sizes, workspace)
    _weigh(sizes, workspace)
    distance = LANES // 2
    while distance:
        _rotate(workspace, AT_SUM, AT_POINT, distance)
        _double(workspace, AT_SUM, bits * distance)
        cache(workspace, AT_CHOSEN, AT_SUM)
        add(workspace, AT_POINT, AT_CHOSEN)
        distance //= 2
    _double(workspace, AT_POINT, bits * LANES * group)
    for lane in range(1, LANES):
        _set_identity(workspace, AT_POINT, lane, False)
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
