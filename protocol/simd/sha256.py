"""SHA-256 in lanes of 32 bits: steps that absorb a block of every lane's message and store the digests.

Source: FIPS 180-4 section 6.2. Messages lie where they are, in strings of any length; a step reads 64 bytes
from each lane's address, and cuts and pads what it has read. A table tells it where each message stands:
the *feed*, one 64-bit word a lane for each of its columns.

No SHA instruction of the processor is used: in one function with wide vectors they were measured to be a
hundred times slower than by themselves.
"""

from typing import Any, Final

from llvmlite import ir

from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.sha2 import (
    SHA256,
    STATE_WORDS,
    address_of,
    compress,
    lanes_of,
    store_rows,
)

__all__ = [
    "ACTIVE",
    "ADDRESS",
    "BITS",
    "BLOCK_BYTES",
    "COLUMNS",
    "DONE",
    "LANES_256",
    "LEFT",
    "STATE",
    "absorb",
    "begin",
    "finish",
    "resume",
]

LANES_256: Final = 2 * LANES
"""Messages that are hashed together."""
STATE: Final = STATE_WORDS * LANES_256 // 2
"""64-bit words of the state of all lanes."""
BLOCK_BYTES: Final = 64

# The columns of the feed.
ADDRESS: Final = 0
"""Where the 64 bytes of this block are read; all of them must be readable."""
LEFT: Final = 1
"""How many of these bytes belong to the message: 0 to 64, or `DONE`."""
BITS: Final = 2
"""The length of the message in bits if this is its last block, else 0."""
ACTIVE: Final = 3
"""All ones if the message has this block, else 0."""
COLUMNS: Final = 4
DONE: Final = 255
"""In place of LEFT: the message's end is marked already; 64 zeros must be at ADDRESS."""

_END: Final = 0x80
_PLANE: Final = LANES_256 * 4
"""Bytes of one vector."""


@step(1, lanes=LANES_256, bits=32)
def begin(lanes: Lanes, state: Any) -> None:
    """The state before the first block."""
    for i, word in enumerate(SHA256.initial):
        lanes.store(state, i, lanes.constant(word))


@step(2, lanes=LANES_256, bits=32)
def resume(lanes: Lanes, state: Any, from_state: Any) -> None:
    """Copies a state."""
    for i in range(STATE_WORDS):
        lanes.store(state, i, lanes.load(from_state, i))


@step(2, lanes=LANES_256, bits=32)
def absorb(lanes: Lanes, state: Any, feed: Any) -> None:
    """Absorbs one block of every active lane."""
    rows = [[_padded(lanes, feed, lane, part) for part in range(64 // _PLANE)] for lane in range(LANES_256)]
    words = [word.reverse_bytes() for word in lanes_of(lanes, rows)]
    bits = _column(lanes, feed, BITS)
    words[-1] = words[-1] | _narrow(lanes, bits)
    words[-2] = words[-2] | _narrow(lanes, lanes.builder.lshr(bits, ir.Constant(bits.type, [32] * LANES_256)))
    active = _narrow(lanes, _column(lanes, feed, ACTIVE))
    before = [lanes.load(state, i) for i in range(STATE_WORDS)]
    for i, (old, new) in enumerate(zip(before, compress(lanes, SHA256, before, words), strict=True)):
        lanes.store(state, i, old ^ ((old ^ new) & active))


@step(2, lanes=LANES_256, bits=32)
def finish(lanes: Lanes, state: Any, addresses: Any) -> None:
    """Stores the digest of each lane, 32 bytes, at its address."""
    words = [lanes.load(state, i).reverse_bytes() for i in range(STATE_WORDS)]
    store_rows(lanes, [address_of(lanes, addresses, lane) for lane in range(LANES_256)], words)


def _padded(lanes: Lanes, feed: Any, lane: int, part: int) -> Any:
    """One vector of a lane's block: the bytes of the message, then 0x80, then zeros."""
    builder = lanes.builder
    octets = Lanes(builder, _PLANE, 8)
    address = builder.gep(
        address_of(lanes, feed, ADDRESS * LANES_256 + lane), [ir.Constant(ir.IntType(64), part * _PLANE)]
    )
    content = builder.load(builder.bitcast(address, octets.type.as_pointer()), align=1)
    place = ir.Constant(ir.IntType(64), LEFT * LANES_256 + lane)
    left = octets.splat(builder.trunc(builder.load(builder.gep(feed, [place])), ir.IntType(8))).value
    position = ir.Constant(octets.type, [part * _PLANE + i for i in range(_PLANE)])
    zero = octets.constant(0).value
    end = builder.select(builder.icmp_unsigned("==", position, left), octets.constant(_END).value, zero)
    padded = builder.select(builder.icmp_unsigned("<", position, left), content, end)
    return builder.bitcast(padded, lanes.type)


def _column(lanes: Lanes, feed: Any, column: int) -> Any:
    """A column of the feed, as an LLVM vector of 64-bit integers."""
    kind = ir.VectorType(ir.IntType(64), LANES_256)
    place = lanes.builder.gep(feed, [ir.Constant(ir.IntType(64), column * LANES_256)])
    return lanes.builder.load(lanes.builder.bitcast(place, kind.as_pointer()), align=8)


def _narrow(lanes: Lanes, vector: Any) -> Vector:
    return Vector(lanes, lanes.builder.trunc(vector, lanes.type))
