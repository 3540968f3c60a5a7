"""Kernels that decode, encode and map: loops over blocks around the formulas of `ristretto`."""

from typing import Any

from purposematch.protocol.simd.kernel import kernel
from purposematch.protocol.simd.points import (
    ELEMENT,
    PAIR,
    POINT,
    add,
    cache,
    copy,
    multiply,
    multiply_pair,
    square_pair,
)
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.ristretto import (
    MASK_SLOT,
    RECORD,
    decode_begin,
    decode_end,
    double_encode_begin,
    double_encode_end,
    encode_begin,
    encode_end,
    map_begin,
    map_end,
)
from purposematch.protocol.simd.scalars import SCALAR_WORDS
from purposematch.protocol.simd.workspace import (
    AT_BASE,
    AT_CHOSEN,
    AT_CHUNK,
    AT_POINT,
    AT_POWER,
    AT_SUM,
    AT_T0,
    AT_T1,
    AT_T2,
    AT_T3,
    AT_WORDS,
    CHUNK_BLOCKS,
    gather,
    inner,
    read,
    report,
    scatter,
    write,
)

__all__ = ["decode", "double_encode", "encode", "inverse_power", "map_to_group"]


@inner
def _power_250(workspace: Any) -> None:
    """POWER = BASE^(2^250 - 1), T0 = BASE^11."""
    square_pair(workspace, AT_T0, AT_BASE, 1)
    square_pair(workspace, AT_T1, AT_T0, 2)
    multiply_pair(workspace, AT_T1, AT_T1, AT_BASE)
    multiply_pair(workspace, AT_T0, AT_T0, AT_T1)
    square_pair(workspace, AT_T2, AT_T0, 1)
    # From here on the exponents are 2^n - 1: two of them make the sum of their n.
    multiply_pair(workspace, AT_POWER, AT_T2, AT_T1)  # 5
    square_pair(workspace, AT_T2, AT_POWER, 5)
    multiply_pair(workspace, AT_T3, AT_T2, AT_POWER)  # 10
    square_pair(workspace, AT_T2, AT_T3, 10)
    multiply_pair(workspace, AT_T1, AT_T2, AT_T3)  # 20
    square_pair(workspace, AT_T2, AT_T1, 20)
    multiply_pair(workspace, AT_T2, AT_T2, AT_T1)  # 40
    square_pair(workspace, AT_T2, AT_T2, 10)
    multiply_pair(workspace, AT_POWER, AT_T2, AT_T3)  # 50
    square_pair(workspace, AT_T2, AT_POWER, 50)
    multiply_pair(workspace, AT_T1, AT_T2, AT_POWER)  # 100
    square_pair(workspace, AT_T2, AT_T1, 100)
    multiply_pair(workspace, AT_T1, AT_T2, AT_T1)  # 200
    square_pair(workspace, AT_T1, AT_T1, 50)
    multiply_pair(workspace, AT_POWER, AT_T1, AT_POWER)  # 250


@inner
def _root_power(workspace: Any) -> None:
    """POWER = BASE^((p - 5) / 8) = BASE^(2^252 - 3)."""
    _power_250(workspace)
    square_pair(workspace, AT_POWER, AT_POWER, 2)
    multiply_pair(workspace, AT_POWER, AT_POWER, AT_BASE)


@inner
def inverse_power(workspace: Any) -> None:
    """POWER = BASE^(p - 2) = BASE^(2^255 - 21)."""
    _power_250(workspace)
    square_pair(workspace, AT_POWER, AT_POWER, 5)
    multiply_pair(workspace, AT_POWER, AT_POWER, AT_T0)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1], uint64[::1])")
def decode(rows: Any, points: Any, valid: Any, workspace: Any) -> None:
    """Decodes rows of 4 words; flags those that are canonical and not the identity."""
    blocks = points.shape[0]
    for begin in range(0, blocks, PAIR):
        for half in range(PAIR):
            record = AT_CHUNK + half * RECORD
            gather(workspace, AT_WORDS, rows, min(begin + half, blocks - 1), SCALAR_WORDS)
            decode_begin(workspace, record, AT_WORDS)
            copy(workspace, AT_BASE + half * ELEMENT, record + 6 * ELEMENT)
        _root_power(workspace)
        for half in range(min(PAIR, blocks - begin)):
            record = AT_CHUNK + half * RECORD
            decode_end(workspace, AT_POINT, record, AT_POWER + half * ELEMENT)
            write(points, begin + half, workspace, AT_POINT)
            report(valid, begin + half, workspace, record + MASK_SLOT * ELEMENT)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def encode(points: Any, rows: Any, workspace: Any) -> None:
    """Encodes points to rows of 4 words."""
    blocks = points.shape[0]
    for begin in range(0, blocks, PAIR):
        for half in range(PAIR):
            point, record = AT_POINT + half * POINT, AT_CHUNK + half * RECORD
            read(workspace, point, points, min(begin + half, blocks - 1))
            encode_begin(workspace, record, point)
            copy(workspace, AT_BASE + half * ELEMENT, record + 4 * ELEMENT)
        _root_power(workspace)
        for half in range(min(PAIR, blocks - begin)):
            point, record = AT_POINT + half * POINT, AT_CHUNK + half * RECORD
            encode_end(workspace, AT_WORDS, point, record, AT_POWER + half * ELEMENT)
            scatter(rows, begin + half, workspace, AT_WORDS)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def double_encode(points: Any, rows: Any, workspace: Any) -> None:
    """Encodes twice every point of at most CHUNK_BLOCKS blocks to rows of 4 words.

    One inversion serves all blocks (Montgomery's trick, in every lane by itself).
    """
    blocks = points.shape[0]
    products = AT_CHUNK + CHUNK_BLOCKS * RECORD
    for block in range(blocks):
        record = AT_CHUNK + block * RECORD
        read(workspace, AT_POINT, points, block)
        double_encode_begin(workspace, record, AT_POINT)
        if block:
            previous = products + (block - 1) * ELEMENT
            multiply(workspace, products + block * ELEMENT, previous, record + 6 * ELEMENT)
        else:
            copy(workspace, products, record + 6 * ELEMENT)
    for half in range(PAIR):
        copy(workspace, AT_BASE + half * ELEMENT, products + (blocks - 1) * ELEMENT)
    inverse_power(workspace)
    for block in range(blocks - 1, -1, -1):
        record = AT_CHUNK + block * RECORD
        if block:
            multiply(workspace, AT_T1, AT_POWER, products + (block - 1) * ELEMENT)
            multiply(workspace, AT_POWER, AT_POWER, record + 6 * ELEMENT)
        else:
            copy(workspace, AT_T1, AT_POWER)
        double_encode_end(workspace, AT_WORDS, record, AT_T1)
        scatter(rows, block, workspace, AT_WORDS)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def map_to_group(rows: Any, points: Any, workspace: Any) -> None:
    """Maps rows of 8 words to points: the sum of two MAPs each (RFC 9496 section 4.3.4)."""
    for block in range(points.shape[0]):
        gather(workspace, AT_WORDS, rows, block, 2 * SCALAR_WORDS)
        for half in range(PAIR):
            record = AT_CHUNK + half * RECORD
            map_begin(workspace, record, AT_WORDS + half * SCALAR_WORDS * LANES)
            copy(workspace, AT_BASE + half * ELEMENT, record + 5 * ELEMENT)
        _root_power(workspace)
        map_end(workspace, AT_SUM, AT_CHUNK, AT_POWER)
        map_end(workspace, AT_POINT, AT_CHUNK + RECORD, AT_POWER + ELEMENT)
        cache(workspace, AT_CHOSEN, AT_POINT)
        add(workspace, AT_SUM, AT_CHOSEN)
        write(points, block, workspace, AT_SUM)
