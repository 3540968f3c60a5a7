"""The loops over batches: what the `simd` back end of the group calls.

A batch of points is an array of blocks, (blocks, POINT) uint64, a block being one point in each lane. Byte
strings come and go as rows of 64-bit words, LANES rows a block. What is found out about single elements is
told in flags, one word a row: all bits set or none. Kernels know nothing of batches that end inside a block.

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
    set_identity,
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

# Only kernels are called from Python.
_inner = njit(
    nogil=True, error_model="numpy", boundscheck=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


@_inner
def _gather(workspace: Any, at: int, rows: Any, block: int, words: int) -> None:
    """The first words of the rows of a block, lane by lane."""
    for word in range(words):
        for lane in range(LANES):
            workspace[at + word * LANES + lane] = rows[block * LANES + lane, word]


@_inner
def _scatter(rows: Any, block: int, workspace: Any, at: int) -> None:
    """Four words from every lane to the rows of a block."""
    for lane in range(LANES):
        for word in range(SCALAR_WORDS):
            rows[block * LANES + lane, word] = workspace[at + word * LANES + lane]


@_inner
def _report(flags: Any, block: int, workspace: Any, at: int) -> None:
    """Copies a mask to the flags of a block."""
    for lane in range(LANES):
        flags[block * LANES + lane] = workspace[at + lane]


@_inner
def _read(workspace: Any, at: int, points: Any, block: int) -> None:
    """Copies a block of points to the workspace. Loops compile faster than assignments to slices."""
    for i in range(POINT):
        workspace[at + i] = points[block, i]


@_inner
def _write(points: Any, block: int, workspace: Any, at: int) -> None:
    """Copies a block of points from the workspace."""
    for i in range(POINT):
        points[block, i] = workspace[at + i]


@_inner
def _wipe(workspace: Any, begin: int, end: int) -> None:
    for i in range(begin, end):
        workspace[i] = 0


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


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1], uint64[::1])")
def decode(rows: Any, points: Any, valid: Any, workspace: Any) -> None:
    """Decodes rows of 4 words; flags those that are canonical and not the identity."""
    blocks = points.shape[0]
    for begin in range(0, blocks, PAIR):
        for half in range(PAIR):
            record = _CHUNK + half * RECORD
            _gather(workspace, _WORDS, rows, min(begin + half, blocks - 1), SCALAR_WORDS)
            decode_begin(workspace, record, _WORDS)
            copy(workspace, _BASE + half * ELEMENT, record + 6 * ELEMENT)
        _root_power(workspace)
        for half in range(min(PAIR, blocks - begin)):
            record = _CHUNK + half * RECORD
            decode_end(workspace, _POINT, record, _POWER + half * ELEMENT)
            _write(points, begin + half, workspace, _POINT)
            _report(valid, begin + half, workspace, record + MASK_SLOT * ELEMENT)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def encode(points: Any, rows: Any, workspace: Any) -> None:
    """Encodes points to rows of 4 words."""
    blocks = points.shape[0]
    for begin in range(0, blocks, PAIR):
        for half in range(PAIR):
            point, record = _POINT + half * POINT, _CHUNK + half * RECORD
            _read(workspace, point, points, min(begin + half, blocks - 1))
            encode_begin(workspace, record, point)
            copy(workspace, _BASE + half * ELEMENT, record + 4 * ELEMENT)
        _root_power(workspace)
        for half in range(min(PAIR, blocks - begin)):
            point, record = _POINT + half * POINT, _CHUNK + half * RECORD
            encode_end(workspace, _WORDS, point, record, _POWER + half * ELEMENT)
            _scatter(rows, begin + half, workspace, _WORDS)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def double_encode(points: Any, rows: Any, workspace: Any) -> None:
    """Encodes twice every point of at most CHUNK_BLOCKS blocks to rows of 4 words.

    One inversion serves all blocks (Montgomery's trick, in every lane by itself).
    """
    blocks = points.shape[0]
    products = _CHUNK + CHUNK_BLOCKS * RECORD
    for block in range(blocks):
        record = _CHUNK + block * RECORD
        _read(workspace, _POINT, points, block)
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
        _scatter(rows, block, workspace, _WORDS)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def map_to_group(rows: Any, points: Any, workspace: Any) -> None:
    """Maps rows of 8 words to points: the sum of two MAPs each (RFC 9496 section 4.3.4)."""
    for block in range(points.shape[0]):
        _gather(workspace, _WORDS, rows, block, 2 * SCALAR_WORDS)
        for half in range(PAIR):
            record = _CHUNK + half * RECORD
            map_begin(workspace, record, _WORDS + half * SCALAR_WORDS * LANES)
            copy(workspace, _BASE + half * ELEMENT, record + 5 * ELEMENT)
        _root_power(workspace)
        map_end(workspace, _SUM, _CHUNK, _POWER)
        map_end(workspace, _POINT, _CHUNK + RECORD, _POWER + ELEMENT)
        cache(workspace, _CHOSEN, _POINT)
        add(workspace, _SUM, _CHOSEN)
        _write(points, block, workspace, _SUM)


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
        _gather(workspace, _WORDS, scalars, block if scalars.shape[0] > LANES else 0, SCALAR_WORDS)
        recode(workspace, _DIGITS, _FLAG, _WORDS, halve)
        _read(workspace, _POINT, points, block)
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
        _report(identity, block, workspace, _FLAG)
        _write(products, block, workspace, _POINT)
    _wipe(workspace, 0, _CHUNK + _TABLE)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[:, ::1], uint64[::1], uint64[::1])")
def sum_of_products(points: Any, scalars: Any, total: Any, zero: Any, workspace: Any) -> None:
    """Adds up scalar i times point i, every lane by itself (Straus).

    Args:
        points: the blocks.
        scalars: rows of 4 words.
        total: one block: the sums of the lanes.
        zero: flags the scalars that are zero.
        workspace: see the module.
    """
    blocks = points.shape[0]
    for begin in range(0, blocks, GROUP_BLOCKS):
        group = min(GROUP_BLOCKS, blocks - begin)
        for i in range(group):
            _gather(workspace, _WORDS, scalars, begin + i, SCALAR_WORDS)
            recode(workspace, _DIGITS + i * SCALAR_WORDS * LANES, _FLAG, _WORDS, 0)
            _report(zero, begin + i, workspace, _FLAG)
            _read(workspace, _POINT, points, begin + i)
            _tabulate(workspace, _CHUNK + i * _TABLE)
        set_identity(workspace, _SUM)
        for window in range(WINDOWS - 1, -1, -1):
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
            _read(workspace, _POINT, total, 0)
            add(workspace, _POINT, _CHOSEN)
        _write(total, 0, workspace, _POINT)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def add_points(points: Any, total: Any, workspace: Any) -> None:
    """Adds up all points: first the blocks, then the lanes; the sum is in every lane of `total`."""
    _read(workspace, _SUM, points, 0)
    for block in range(1, points.shape[0]):
        _read(workspace, _POINT, points, block)
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
    _write(total, 0, workspace, _SUM)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def reduce(wide: Any, rows: Any, workspace: Any) -> None:
    """Rows of 8 words modulo the group order, rows of 4 words."""
    for block in range(rows.shape[0] // LANES):
        _gather(workspace, _WORDS, wide, block, 2 * SCALAR_WORDS)
        reduce_wide(workspace, _DIGITS, _WORDS)
        _scatter(rows, block, workspace, _DIGITS)
    _wipe(workspace, 0, _CHUNK)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1], uint64[::1])")
def invert(scalars: Any, rows: Any, zero: Any, workspace: Any) -> None:
    """Inverts rows of at most CHUNK_BLOCKS blocks modulo the group order; flags zeros, whose inverse is 1.

    One inversion, by Fermat's theorem, serves each lane (Montgomery's trick).
    """
    blocks = rows.shape[0] // LANES
    products = _CHUNK + CHUNK_BLOCKS * SCALAR
    for block in range(blocks):
        scalar, product = _CHUNK + block * SCALAR, products + block * SCALAR
        _gather(workspace, _WORDS, scalars, block, SCALAR_WORDS)
        to_montgomery(workspace, scalar, _FLAG, _WORDS)
        _report(zero, block, workspace, _FLAG)
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
        _scatter(rows, block, workspace, _DIGITS)
    _wipe(workspace, 0, products + CHUNK_BLOCKS * SCALAR)
