"""The loops over batches: what the `simd` back end of the group calls.

A batch of points is an array of blocks, (blocks, POINT) uint64, a block being one point in each lane. Byte
strings come and go as rows of 64-bit words. Rows and lanes need not begin together: row i of a batch is in
lane (first + i) % LANES of block (first + i) // LANES, so that a part of a batch is a view.

All scratch is in one workspace a thread, which is mapped below. What depended on secrets is overwritten with
zeros before a kernel returns; registers and what LLVM spills to the stack are not.
"""

from typing import Any, Final

import numpy as np
from numba import njit

from purposematch.protocol.simd.kernel import kernel
from purposematch.protocol.simd.points import (
    ELEMENT,
    MASK_SLOT,
    MASKS,
    PAIR,
    POINT,
    RECORD,
    TABLE_ENTRIES,
    add,
    add_ready,
    add_ready_again,
    cache,
    choose,
    copy,
    decode_begin,
    decode_end,
    double,
    double_encode_begin,
    double_encode_end,
    double_ready,
    encode_begin,
    encode_end,
    extend,
    find_identity,
    map_begin,
    map_end,
    multiply,
    multiply_pair,
    square_pair,
    start,
)
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.scalars import (
    DIGIT_BITS,
    ORDER,
    SCALAR,
    SCALAR_WORDS,
    WINDOWS,
    choice,
    copy_scalar,
    from_montgomery,
    montgomery,
    recode,
    reduce_wide,
    to_montgomery,
)

__all__ = [
    "CHUNK_BLOCKS",
    "WORKSPACE",
    "add_points",
    "decode",
    "double_encode",
    "encode",
    "invert",
    "map_to_group",
    "multiply_points",
    "reduce",
    "sum_of_products",
]

CHUNK_BLOCKS: Final = 64
"""The most blocks that one call works on: so much fits into the workspace."""
GROUP_BLOCKS: Final = 32
"""Blocks of a sum of products that share their doublings; their tables should fit into the second cache."""

# The workspace, in 64-bit words. Everything is a multiple of a vector.
_TABLE: Final = TABLE_ENTRIES * POINT
_WORDS: Final = 0
"""Byte strings of one block, up to 64 bytes a lane."""
_MASKS: Final = _WORDS + 8 * LANES
_FLAG: Final = _MASKS + MASKS * LANES
_BASE: Final = _FLAG + LANES
"""The power chain: what is raised, the result, and temporaries."""
_POWER: Final = _BASE + PAIR * ELEMENT
_T0: Final = _POWER + PAIR * ELEMENT
_T1: Final = _T0 + PAIR * ELEMENT
_T2: Final = _T1 + PAIR * ELEMENT
_T3: Final = _T2 + PAIR * ELEMENT
_CHOSEN: Final = _T3 + PAIR * ELEMENT
_POINT: Final = _CHOSEN + POINT
_SUM: Final = _POINT + POINT
_DIGITS: Final = _SUM + POINT
_SCALAR_A: Final = _DIGITS + GROUP_BLOCKS * SCALAR_WORDS * LANES
_SCALAR_B: Final = _SCALAR_A + SCALAR
_CHUNK: Final = _SCALAR_B + SCALAR
"""From here on, what there is for every block of a chunk: records and running products, or tables."""
WORKSPACE: Final = _CHUNK + max(CHUNK_BLOCKS * (RECORD + ELEMENT), GROUP_BLOCKS * _TABLE)
"""64-bit words of a workspace, which should begin at a multiple of 64 bytes."""

_EXPONENT: Final = np.array([(ORDER - 2) >> bit & 1 for bit in range(252, -1, -1)], np.uint8)

_inner = njit(nogil=True, error_model="numpy", boundscheck=False)


@_inner
def _gather(workspace: Any, at: int, rows: Any, row: int, count: int, otherwise: int) -> None:
    """The first `count` words of LANES rows, lane by lane; where there is no row, the number `otherwise`."""
    for lane in range(LANES):
        i = row + lane
        inside = 0 <= i < rows.shape[0]
        for word in range(count):
            workspace[at + word * LANES + lane] = (
                rows[i, word] if inside else np.uint64(otherwise if word == 0 else 0)
            )


@_inner
def _scatter(rows: Any, row: int, workspace: Any, at: int) -> None:
    """Four words from every lane to LANES rows, where there are such rows."""
    for lane in range(LANES):
        i = row + lane
        if 0 <= i < rows.shape[0]:
            for word in range(SCALAR_WORDS):
                rows[i, word] = workspace[at + word * LANES + lane]


@_inner
def _flagged(workspace: Any, at: int, row: int, count: int) -> bool:
    """Whether the mask at `at` is set in a lane that has a row."""
    found = np.uint64(0)
    for lane in range(LANES):
        if 0 <= row + lane < count:
            found |= workspace[at + lane]
    return found != 0


@_inner
def _wipe(workspace: Any, begin: int, end: int) -> None:
    workspace[begin:end] = 0


@_inner
def _power_250(workspace: Any) -> None:
    """POWER = BASE^(2^250 - 1), T0 = BASE^11."""
    square_pair(workspace, _T0, _BASE, 1)
    square_pair(workspace, _T1, _T0, 2)
    multiply_pair(workspace, _T1, _T1, _BASE)
    multiply_pair(workspace, _T0, _T0, _T1)
    square_pair(workspace, _T2, _T0, 1)
    # From here on the exponents are 2^n - 1: two of them make the sum of their n.
    multiply_pair(workspace, _POWER, _T2, _T1)  # 5
    square_pair(workspace, _T2, _POWER, 5)
    multiply_pair(workspace, _T3, _T2, _POWER)  # 10
    square_pair(workspace, _T2, _T3, 10)
    multiply_pair(workspace, _T1, _T2, _T3)  # 20
    square_pair(workspace, _T2, _T1, 20)
    multiply_pair(workspace, _T2, _T2, _T1)  # 40
    square_pair(workspace, _T2, _T2, 10)
    multiply_pair(workspace, _POWER, _T2, _T3)  # 50
    square_pair(workspace, _T2, _POWER, 50)
    multiply_pair(workspace, _T1, _T2, _POWER)  # 100
    square_pair(workspace, _T2, _T1, 100)
    multiply_pair(workspace, _T1, _T2, _T1)  # 200
    square_pair(workspace, _T1, _T1, 50)
    multiply_pair(workspace, _POWER, _T1, _POWER)  # 250


@_inner
def _root_power(workspace: Any) -> None:
    """POWER = BASE^((p - 5) / 8) = BASE^(2^252 - 3)."""
    _power_250(workspace)
    square_pair(workspace, _POWER, _POWER, 2)
    multiply_pair(workspace, _POWER, _POWER, _BASE)


@_inner
def _inverse_power(workspace: Any) -> None:
    """POWER = BASE^(p - 2) = BASE^(2^255 - 21)."""
    _power_250(workspace)
    square_pair(workspace, _POWER, _POWER, 5)
    multiply_pair(workspace, _POWER, _POWER, _T0)


@kernel("boolean(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def decode(rows: Any, points: Any, workspace: Any) -> bool:
    """Decodes (n, 4) words into blocks; false if one of them is not canonical or is the identity."""
    blocks = points.shape[0]
    invalid = False
    for begin in range(0, blocks, PAIR):
        for half in range(PAIR):
            record = _CHUNK + half * RECORD
            _gather(workspace, _WORDS, rows, (begin + half) * LANES, SCALAR_WORDS, 0)
            decode_begin(workspace, record, _WORDS)
            copy(workspace, _BASE + half * ELEMENT, record + 6 * ELEMENT)
        _root_power(workspace)
        for half in range(min(PAIR, blocks - begin)):
            record = _CHUNK + half * RECORD
            decode_end(workspace, _POINT, record, _POWER + half * ELEMENT)
            points[begin + half] = workspace[_POINT : _POINT + POINT]
            valid = record + MASK_SLOT * ELEMENT
            for lane in range(LANES):
                workspace[_FLAG + lane] = ~workspace[valid + lane]
            invalid |= _flagged(workspace, _FLAG, (begin + half) * LANES, rows.shape[0])
    return not invalid


@kernel("void(uint64[:, ::1], intp, uint64[:, ::1], uint64[::1])")
def encode(points: Any, first: int, rows: Any, workspace: Any) -> None:
    """Encodes blocks to (n, 4) words."""
    blocks = points.shape[0]
    for begin in range(0, blocks, PAIR):
        for half in range(PAIR):
            point, record = _POINT + half * POINT, _CHUNK + half * RECORD
            workspace[point : point + POINT] = points[min(begin + half, blocks - 1)]
            encode_begin(workspace, record, point)
            copy(workspace, _BASE + half * ELEMENT, record + 4 * ELEMENT)
        _root_power(workspace)
        for half in range(min(PAIR, blocks - begin)):
            point, record = _POINT + half * POINT, _CHUNK + half * RECORD
            encode_end(workspace, _WORDS, point, record, _POWER + half * ELEMENT)
            _scatter(rows, (begin + half) * LANES - first, workspace, _WORDS)


@kernel("void(uint64[:, ::1], intp, uint64[:, ::1], uint64[::1])")
def double_encode(points: Any, first: int, rows: Any, workspace: Any) -> None:
    """Encodes twice every point of at most CHUNK_BLOCKS blocks to (n, 4) words.

    One inversion serves all blocks (Montgomery's trick, in every lane by itself).
    """
    blocks = points.shape[0]
    products = _CHUNK + CHUNK_BLOCKS * RECORD
    for block in range(blocks):
        record = _CHUNK + block * RECORD
        workspace[_POINT : _POINT + POINT] = points[block]
        double_encode_begin(workspace, record, _POINT)
        if block:
            previous = products + (block - 1) * ELEMENT
            multiply(workspace, products + block * ELEMENT, previous, record + 6 * ELEMENT)
        else:
            copy(workspace, products, record + 6 * ELEMENT)
    for half in range(PAIR):
        copy(workspace, _BASE + half * ELEMENT, products + (blocks - 1) * ELEMENT)
    _inverse_power(workspace)
    for block in range(blocks - 1, -1, -1):
        record = _CHUNK + block * RECORD
        if block:
            multiply(workspace, _T1, _POWER, products + (block - 1) * ELEMENT)
            multiply(workspace, _POWER, _POWER, record + 6 * ELEMENT)
        else:
            copy(workspace, _T1, _POWER)
        double_encode_end(workspace, _WORDS, record, _T1)
        _scatter(rows, block * LANES - first, workspace, _WORDS)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def map_to_group(rows: Any, points: Any, workspace: Any) -> None:
    """Maps (n, 8) words to points: the sum of two MAPs each (RFC 9496 section 4.3.4)."""
    for block in range(points.shape[0]):
        _gather(workspace, _WORDS, rows, block * LANES, 2 * SCALAR_WORDS, 0)
        for half in range(PAIR):
            record = _CHUNK + half * RECORD
            map_begin(workspace, record, _WORDS + half * SCALAR_WORDS * LANES)
            copy(workspace, _BASE + half * ELEMENT, record + 5 * ELEMENT)
        _root_power(workspace)
        map_end(workspace, _SUM, _CHUNK, _POWER)
        map_end(workspace, _POINT, _CHUNK + RECORD, _POWER + ELEMENT)
        cache(workspace, _CHOSEN, _POINT)
        add(workspace, _SUM, _CHOSEN)
        points[block] = workspace[_SUM : _SUM + POINT]


@_inner
def _tabulate(workspace: Any, table: int) -> None:
    """The cached multiples 1 to 8 of POINT, which is lost."""
    cache(workspace, table, _POINT)
    for entry in range(1, TABLE_ENTRIES):
        add(workspace, _POINT, table)
        cache(workspace, table + entry * POINT, _POINT)


@_inner
def _choose(workspace: Any, table: int, digits: int, window: int) -> None:
    """CHOSEN = the entry of a table that the digits ask for in this window."""
    bit = window * DIGIT_BITS
    choice(workspace, _MASKS, digits + (bit // 64) * LANES, bit % 64)
    choose(workspace, _CHOSEN, table, _MASKS)


@kernel("boolean(uint64[:, ::1], uint64[:, ::1], intp, intp, intp, uint64[:, ::1], uint64[::1])")
def multiply_points(
    points: Any, scalars: Any, first: int, count: int, halve: int, products: Any, workspace: Any
) -> bool:
    """Multiplies every point by a secret scalar; false if a product of the batch is the identity.

    Args:
        points: the blocks.
        scalars: (count, 4) words, or (1, 4) for the same scalar everywhere.
        first: the lane of the first row.
        count: how many points there are.
        halve: 1 to multiply by half the scalar modulo l instead.
        products: the blocks of the results.
        workspace: see the module.
    """
    identity = False
    for block in range(points.shape[0]):
        row = block * LANES - first
        if scalars.shape[0] == 1:
            for lane in range(LANES):
                for word in range(SCALAR_WORDS):
                    workspace[_WORDS + word * LANES + lane] = scalars[0, word]
        else:
            _gather(workspace, _WORDS, scalars, row, SCALAR_WORDS, 1)
        recode(workspace, _DIGITS, _FLAG, _WORDS, halve)
        workspace[_POINT : _POINT + POINT] = points[block]
        _tabulate(workspace, _CHUNK)
        _choose(workspace, _CHUNK, _DIGITS, WINDOWS - 1)
        start(workspace, _SUM, _CHOSEN)
        for window in range(WINDOWS - 2, -1, -1):
            for _ in range(DIGIT_BITS - 1):
                double(workspace, _SUM)
            double_ready(workspace, _SUM)
            _choose(workspace, _CHUNK, _DIGITS, window)
            add_ready(workspace, _SUM, _CHOSEN)
        extend(workspace, _POINT, _SUM)
        find_identity(workspace, _FLAG, _POINT)
        identity |= _flagged(workspace, _FLAG, row, count)
        products[block] = workspace[_POINT : _POINT + POINT]
    _wipe(workspace, 0, _CHUNK + _TABLE)
    return not identity


@kernel("boolean(uint64[:, ::1], uint64[:, ::1], intp, uint64[:, ::1], uint64[::1])")
def sum_of_products(points: Any, scalars: Any, first: int, total: Any, workspace: Any) -> bool:
    """Adds up scalar i times point i, every lane by itself (Straus); false if a scalar is zero.

    Args:
        points: the blocks.
        scalars: (n, 4) words, a row a point.
        first: the lane of the first row.
        total: one block: the sums of the lanes.
        workspace: see the module.
    """
    blocks = points.shape[0]
    zero = False
    for begin in range(0, blocks, GROUP_BLOCKS):
        group = min(GROUP_BLOCKS, blocks - begin)
        for i in range(group):
            row = (begin + i) * LANES - first
            # Points that the batch has on either side count zero times.
            _gather(workspace, _WORDS, scalars, row, SCALAR_WORDS, 0)
            recode(workspace, _DIGITS + i * SCALAR_WORDS * LANES, _FLAG, _WORDS, 0)
            zero |= _flagged(workspace, _FLAG, row, scalars.shape[0])
            workspace[_POINT : _POINT + POINT] = points[begin + i]
            _tabulate(workspace, _CHUNK + i * _TABLE)
        for window in range(WINDOWS - 1, -1, -1):
            if window == WINDOWS - 1:
                # Nothing is chosen here: all masks but that of the identity are zero.
                _wipe(workspace, _MASKS, _MASKS + MASKS * LANES)
                workspace[_MASKS : _MASKS + LANES] = ~np.uint64(0)
                choose(workspace, _CHOSEN, _CHUNK, _MASKS)
                start(workspace, _SUM, _CHOSEN)
                double_ready(workspace, _SUM)
            else:
                for _ in range(DIGIT_BITS - 1):
                    double(workspace, _SUM)
                double_ready(workspace, _SUM)
            for i in range(group):
                _choose(workspace, _CHUNK + i * _TABLE, _DIGITS + i * SCALAR_WORDS * LANES, window)
                if i + 1 < group:
                    add_ready_again(workspace, _SUM, _CHOSEN)
                else:
                    add_ready(workspace, _SUM, _CHOSEN)
        extend(workspace, _POINT, _SUM)
        if begin:
            cache(workspace, _CHOSEN, _POINT)
            workspace[_POINT : _POINT + POINT] = total[0]
            add(workspace, _POINT, _CHOSEN)
        total[0] = workspace[_POINT : _POINT + POINT]
    return not zero


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def add_points(points: Any, total: Any, workspace: Any) -> None:
    """Adds up all points: first the blocks, then the lanes; the sum is in every lane of `total`."""
    workspace[_SUM : _SUM + POINT] = points[0]
    for block in range(1, points.shape[0]):
        workspace[_POINT : _POINT + POINT] = points[block]
        cache(workspace, _CHOSEN, _POINT)
        add(workspace, _SUM, _CHOSEN)
    distance = LANES // 2
    while distance:
        for i in range(POINT):
            lane = i % LANES
            workspace[_POINT + i] = workspace[_SUM + i - lane + (lane + distance) % LANES]
        cache(workspace, _CHOSEN, _POINT)
        add(workspace, _SUM, _CHOSEN)
        distance //= 2
    total[0] = workspace[_SUM : _SUM + POINT]


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def reduce(wide: Any, rows: Any, workspace: Any) -> None:
    """(n, 8) words modulo the group order, (n, 4)."""
    for row in range(0, wide.shape[0], LANES):
        _gather(workspace, _WORDS, wide, row, 2 * SCALAR_WORDS, 0)
        reduce_wide(workspace, _DIGITS, _WORDS)
        _scatter(rows, row, workspace, _DIGITS)
    _wipe(workspace, 0, _CHUNK)


@kernel("boolean(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def invert(scalars: Any, rows: Any, workspace: Any) -> bool:
    """Inverts at most CHUNK_BLOCKS * LANES scalars modulo the group order; false if one is zero.

    One inversion, by Fermat's theorem, serves each lane (Montgomery's trick).
    """
    blocks = (scalars.shape[0] + LANES - 1) // LANES
    products = _CHUNK + CHUNK_BLOCKS * SCALAR
    zero = False
    for block in range(blocks):
        scalar, product = _CHUNK + block * SCALAR, products + block * SCALAR
        _gather(workspace, _WORDS, scalars, block * LANES, SCALAR_WORDS, 1)
        to_montgomery(workspace, scalar, _FLAG, _WORDS)
        zero |= _flagged(workspace, _FLAG, block * LANES, scalars.shape[0])
        if block:
            montgomery(workspace, product, product - SCALAR, scalar)
        else:
            copy_scalar(workspace, product, scalar)
    # The leading bit of the exponent, which is public, is one.
    copy_scalar(workspace, _SCALAR_A, products + (blocks - 1) * SCALAR)
    for bit in _EXPONENT[1:]:
        montgomery(workspace, _SCALAR_A, _SCALAR_A, _SCALAR_A)
        if bit:
            montgomery(workspace, _SCALAR_A, _SCALAR_A, products + (blocks - 1) * SCALAR)
    for block in range(blocks - 1, -1, -1):
        scalar, product = _CHUNK + block * SCALAR, products + block * SCALAR
        if block:
            montgomery(workspace, _SCALAR_B, _SCALAR_A, product - SCALAR)
            montgomery(workspace, _SCALAR_A, _SCALAR_A, scalar)
        else:
            copy_scalar(workspace, _SCALAR_B, _SCALAR_A)
        from_montgomery(workspace, _DIGITS, _SCALAR_B)
        _scatter(rows, block * LANES, workspace, _DIGITS)
    _wipe(workspace, 0, products + CHUNK_BLOCKS * SCALAR)
    return not zero
