"""SHA-512 in lanes: steps that read a block of every lane's message, absorb it, and store the digests.

Source: FIPS 180-4 section 6.4; `begin_again` serves the second hash of expand_message_xmd (RFC 9380
section 5.3.1), whose message is the first hash followed by constants.
"""

from typing import Any, Final

from llvmlite import ir

from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.sha2 import (
    BLOCK_WORDS,
    SHA512,
    STATE_WORDS,
    address_of,
    compress,
    load_rows,
    store_rows,
)

__all__ = [
    "BLOCK",
    "BLOCK_WORDS",
    "LANES",
    "STATE",
    "STATE_WORDS",
    "absorb",
    "begin",
    "begin_again",
    "finish",
    "read_constant",
    "read_rows",
    "resume",
]

STATE: Final = STATE_WORDS * LANES
"""64-bit words of the state of all lanes."""
BLOCK: Final = BLOCK_WORDS * LANES
"""64-bit words of a block of all lanes."""


@step(1)
def begin(lanes: Lanes, state: Any) -> None:
    """The state before the first block."""
    for i, word in enumerate(SHA512.initial):
        lanes.store(state, i, lanes.constant(word))


@step(2)
def resume(lanes: Lanes, state: Any, from_state: Any) -> None:
    """Copies a state."""
    for i in range(STATE_WORDS):
        lanes.store(state, i, lanes.load(from_state, i))


@step(2)
def absorb(lanes: Lanes, state: Any, block: Any) -> None:
    """Absorbs one block of every lane: 16 vectors of words."""
    before = [lanes.load(state, i) for i in range(STATE_WORDS)]
    words = [lanes.load(block, i) for i in range(BLOCK_WORDS)]
    for i, word in enumerate(compress(lanes, SHA512, before, words)):
        lanes.store(state, i, word)


@step(2, 1)
def read_rows(lanes: Lanes, block: Any, messages: Any, stride: Any) -> None:
    """A block of the messages of all lanes, which are `stride` 64-bit words apart."""
    builder = lanes.builder
    first = builder.bitcast(messages, ir.IntType(8).as_pointer())
    stride = builder.shl(stride, ir.Constant(stride.type, 3))
    rows = [builder.gep(first, [builder.mul(stride, ir.Constant(stride.type, i))]) for i in range(LANES)]
    for i, word in enumerate(load_rows(lanes, rows)):
        lanes.store(block, i, word.reverse_bytes())


@step(2)
def read_constant(lanes: Lanes, block: Any, words: Any) -> None:
    """The same block, 16 big-endian words, in every lane."""
    for i in range(BLOCK_WORDS):
        lanes.store(block, i, _shared(lanes, words, i))


@step(3)
def begin_again(lanes: Lanes, block: Any, state: Any, ending: Any) -> None:
    """A block of the digest so far and eight constant big-endian words, and the first state again."""
    for i in range(STATE_WORDS):
        lanes.store(block, i, lanes.load(state, i))
        lanes.store(block, STATE_WORDS + i, _shared(lanes, ending, i))
        lanes.store(state, i, lanes.constant(SHA512.initial[i]))


@step(2)
def finish(lanes: Lanes, state: Any, addresses: Any) -> None:
    """Stores the digest of each lane, 64 bytes, at its address."""
    words = [lanes.load(state, i).reverse_bytes() for i in range(STATE_WORDS)]
    store_rows(lanes, [address_of(lanes, addresses, lane) for lane in range(LANES)], words)


def _shared(lanes: Lanes, pointer: Any, index: int) -> Vector:
    place = lanes.builder.gep(pointer, [ir.Constant(ir.IntType(64), index)])
    return lanes.splat(lanes.builder.load(place)).reverse_bytes()
