"""The oblivious key-value store: slots in which every row adds up to its value.

Statement: `encode` finds P, m slots of l bits, with <row(x), P> = value(x) for every item x of a list, the
sum being an XOR; `decode_rows` computes <row, S> for other slots S of 128 bits. Rows are sorted by start.
Elimination: zero bits at the low end of a band are shifted out, the start moving up; where the slot has no
pivot yet, the row becomes its pivot; else the pivot is added, and so on. A row that becomes zero belongs to a
duplicate if its value is zero too; else the encoding fails. Then the slots are computed from the last to the
first; those without pivot stay zero, which is why P never leaves the receiver unmasked.

Source: RB-OKVS (Bienstock, Patel, Seo, Yeo, ePrint 2023/903). Parameters: m = 1.1 n + 256 and bands of 256
bits; failures were measured for bands of up to 88 bits and 2^20 rows and fit -log2(rate) = 0.251 w - 14.3, so
50 at 256 bits; this is an extrapolation. Narrower bands exist for tests of this fit only.

Semi-honest, experimental, no published proof of the whole. Not protected against: what this side's own caches
and timing tell of its own items.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir

from purposematch.protocol.errors import UnavailableError
from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.processor import INSTRUCTIONS, LANES, Instructions
from purposematch.protocol.vole.aes import Words, aligned
from purposematch.protocol.vole.blocks import constant, trailing_zeros, words_at
from purposematch.protocol.vole.kernels import vole_kernel
from purposematch.protocol.vole.parameters import BAND, COLUMN, Parameters
from purposematch.protocol.vole.rows import Rows, expand_bands, start_of
from purposematch.protocol.vole.session import Session

__all__ = ["BAND_BUFFER", "BATCH", "decode_rows", "encode", "slots_for", "value_mask"]

BATCH: Final = 256
"""Rows whose bands are expanded together."""
BAND_BUFFER: Final = (BATCH + LANES) * 4
"""Words that these bands take."""
_ZERO: Final = np.uint64(0)
_WORD = ir.IntType(64)
_PAIR = ir.VectorType(_WORD, 2)
_SUMS: Final = 4
"""Sums side by side, so that none waits for the other."""
_MASKED: Final = INSTRUCTIONS is not Instructions.AVX2
"""Whether the processor adds vectors under a mask."""


def _inner_product(lanes: Lanes, slots: Any, band: Any) -> Any:
    """<band, slots>, as an LLVM pair of words; both are pointers."""
    builder = lanes.builder
    sums = [lanes.constant(0)] * _SUMS
    blocks = LANES // 2
    vector = 0
    for word in range(BAND // 64):
        bits = lanes.splat(builder.load(builder.gep(band, [ir.Constant(_WORD, word)])))
        for first in range(0, 64, blocks):
            mask = constant(lanes, [1 << first + lane // 2 for lane in range(LANES)])
            slot = lanes.load(slots, vector)
            chosen = bits & mask
            place = vector % _SUMS
            if _MASKED:
                truth = builder.icmp_unsigned("!=", chosen.value, lanes.operand(0))
                added = builder.select(truth, (sums[place] ^ slot).value, sums[place].value)
                sums[place] = Vector(lanes, added)
            else:
                sums[place] = sums[place] ^ (chosen.equals(mask) & slot)
            vector += 1
    total = sums[0] ^ sums[1] ^ sums[2] ^ sums[3]
    pairs = []
    for block in range(blocks):
        pick = ir.Constant(ir.VectorType(ir.IntType(32), 2), [2 * block, 2 * block + 1])
        pairs.append(builder.shuffle_vector(total.value, total.value, pick))
    result = pairs[0]
    for pair in pairs[1:]:
        result = builder.xor(result, pair)
    return result


@step(0, 2)
def replace_product(lanes: Lanes, slots: Any, band: Any) -> None:
    """Puts an inner product in place of its first slot; both are addresses."""
    place = words_at(lanes, slots)
    product = _inner_product(lanes, place, words_at(lanes, band))
    lanes.builder.store(product, lanes.builder.bitcast(place, _PAIR.as_pointer()), align=8)


@step(3, 2)
def decode_rows(lanes: Lanes, products: Any, bands: Any, starts: Any, slots: Any, count: Any) -> None:
    """The inner products of at least one row with the slots at an address; `starts` are slot numbers."""
    builder = lanes.builder

    def body(index: Any, state: list[Vector]) -> list[Vector]:
        start = builder.load(builder.gep(starts, [index]))
        place = words_at(lanes, slots, builder.mul(start, ir.Constant(_WORD, 2)))
        band = builder.gep(bands, [builder.mul(index, ir.Constant(_WORD, 4))])
        product = _inner_product(lanes, place, band)
        target = builder.gep(products, [builder.mul(index, ir.Constant(_WORD, 2))])
        builder.store(product, builder.bitcast(target, _PAIR.as_pointer()), align=8)
        return state

    lanes.loop(count, [], body)


@vole_kernel(
    "int64(uint64[:, ::1], intp, uint64, uint64, uint64[::1], uint64[::1], uint64[:, ::1], uint64[:, ::1],"
    " uint64[::1])"
)
def eliminate(
    digests: Any,
    count: Any,
    span: Any,
    high: Any,
    band_mask: Any,
    keys: Any,
    pivots: Any,
    slots: Any,
    workspace: Any,
) -> Any:
    """Turns rows into pivots.

    Args:
        digests: of the rows, by their start.
        count: how many rows there are.
        span: how many starts there are.
        high: a mask, for the high word of a value.
        band_mask: 4 words, all ones outside tests.
        keys: of the bands.
        pivots: for each slot the band of its row from this slot on; zeros to begin with.
        slots: for each slot with a pivot the value of its row; zeros to begin with.
        workspace: BAND_BUFFER words.

    Returns:
        How many rows are not zero, or -1 if the encoding failed.
    """
    found = 0
    for begin in range(0, count, BATCH):
        some = min(BATCH, count - begin)
        expand_bands(workspace, 0, digests.ctypes.data + 32 * begin, keys.ctypes.data, -(-some // LANES))
        for i in range(some):
            row = begin + i
            slot = np.int64(start_of(digests[row, 0], span))
            c0 = workspace[4 * i] & band_mask[0]
            c1 = workspace[4 * i + 1] & band_mask[1]
            c2 = workspace[4 * i + 2] & band_mask[2]
            c3 = workspace[4 * i + 3] & band_mask[3]
            v0 = digests[row, 2]
            v1 = digests[row, 3] & high
            while True:
                while c0 == _ZERO and (c1 | c2 | c3) != _ZERO:
                    c0 = c1
                    c1 = c2
                    c2 = c3
                    c3 = _ZERO
                    slot += 64
                if c0 == _ZERO:
                    if (v0 | v1) != _ZERO:
                        return -1
                    break
                shift = trailing_zeros(c0)
                if shift != _ZERO:
                    back = np.uint64(64) - shift
                    c0 = (c0 >> shift) | (c1 << back)
                    c1 = (c1 >> shift) | (c2 << back)
                    c2 = (c2 >> shift) | (c3 << back)
                    c3 = c3 >> shift
                    slot += np.int64(shift)
                if pivots[slot, 0] == _ZERO:
                    pivots[slot, 0] = c0
                    pivots[slot, 1] = c1
                    pivots[slot, 2] = c2
                    pivots[slot, 3] = c3
                    slots[slot, 0] = v0
                    slots[slot, 1] = v1
                    found += 1
                    break
                c0 ^= pivots[slot, 0]
                c1 ^= pivots[slot, 1]
                c2 ^= pivots[slot, 2]
                c3 ^= pivots[slot, 3]
                v0 ^= slots[slot, 0]
                v1 ^= slots[slot, 1]
    return found


@vole_kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1], intp)")
def substitute(pivots: Any, slots: Any, workspace: Any, count: Any) -> None:
    """Turns values into slots, from the last to the first; there are 256 zeros behind them."""
    for i in range(count):
        slot = count - 1 - i
        if pivots[slot, 0] != _ZERO:
            # The band begins with the slot itself, which holds the value: all that the row adds up to.
            place = slots.ctypes.data + 16 * slot
            replace_product(workspace, place, pivots.ctypes.data + 32 * slot)


def value_mask(parameters: Parameters) -> np.uint64:
    """The bits of a value that are in its second word."""
    return np.uint64((1 << parameters.value_bits - 64) - 1)


def slots_for(parameters: Parameters) -> Words:
    """Room for all slots: whole columns, and what is read behind the last slot; (.., 2) uint64, zeros."""
    return aligned(2 * (parameters.columns * COLUMN + BAND)).reshape(-1, 2)


def encode(
    session: Session, parameters: Parameters, rows: Rows, scratch: Words | None = None, band: int = BAND
) -> Words:
    """P for the rows of the receiver, as `slots_for` has it.

    Args:
        session: for the keys.
        parameters: of the match.
        rows: of all items.
        scratch: room for all bands, (slots, 4) uint64, if there is any already.
        band: bits of a band that are used; fewer than 256 in tests of the rate of failures only.

    Raises:
        UnavailableError: the encoding failed; a match with new randomness will work.
    """
    pivots = np.empty((parameters.slots, BAND // 64), np.uint64) if scratch is None else scratch
    pivots[:] = 0
    slots = slots_for(parameters)
    mask = np.frombuffer(((1 << band) - 1).to_bytes(BAND // 8, "little"), np.uint64).copy()
    span = np.uint64(parameters.slots - BAND + 1)
    high = value_mask(parameters)
    workspace = aligned(BAND_BUFFER)
    found = eliminate(rows.digests, len(rows), span, high, mask, session.band_keys, pivots, slots, workspace)
    if found < 0:
        raise UnavailableError("the encoding of the list failed by chance; try again")
    substitute(pivots, slots, workspace, parameters.slots)
    return slots
