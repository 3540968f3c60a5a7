"""Blocks of 128 bits in vector lanes, two lanes a block: what the engine's steps are written with.

Statement: `encrypt` emits AES-128 of every block of some vectors under one key (FIPS 197); the others emit
loads, stores and shuffles. With VAES the processor encrypts all blocks of a register at once; without it,
a vector is split into its blocks, for which AES-NI is enough. The bytes are the same.

A block is two little-endian 64-bit words, in memory the 16 bytes of the AES state. Addresses are integers in
kernels, because a step knows one array only; nothing checks them. Semi-honest, experimental, no published
proof. Not protected against: other users of the processor's caches; AES itself takes the same time always.
"""

from collections.abc import Sequence
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from purposematch.protocol.simd.lanes import Lanes, Vector
from purposematch.protocol.simd.processor import FEATURES, LANES

__all__ = [
    "BLOCKS",
    "ROUND_KEYS",
    "WORD_BYTES",
    "broadcast",
    "constant",
    "encrypt",
    "load",
    "load_keys",
    "shuffle",
    "store",
    "trailing_zeros",
    "words_at",
]

BLOCKS: Final = LANES // 2
"""Blocks of a vector."""
ROUND_KEYS: Final = 11
WORD_BYTES: Final = 8
_WORD = ir.IntType(64)
_INDEX = ir.IntType(32)
_PAIR = ir.VectorType(_WORD, 2)
_WIDE_AES: Final = "vaes" in FEATURES


def words_at(lanes: Lanes, address: Any, offset: Any = 0) -> Any:
    """A pointer to words, `offset` words behind an address."""
    pointer = lanes.builder.inttoptr(address, _WORD.as_pointer())
    if isinstance(offset, int):
        offset = ir.Constant(_WORD, offset)
    return lanes.builder.gep(pointer, [offset])


def load(lanes: Lanes, pointer: Any) -> Vector:
    """The vector behind a pointer; words need be aligned only."""
    return lanes.load(pointer)


def store(lanes: Lanes, pointer: Any, vector: Vector) -> None:
    """Stores a vector behind a pointer."""
    lanes.store(pointer, 0, vector)


def constant(lanes: Lanes, words: Sequence[int]) -> Vector:
    """A vector of these words."""
    return Vector(lanes, ir.Constant(lanes.type, list(words)))


def shuffle(lanes: Lanes, a: Vector, b: Vector, places: Sequence[int]) -> Vector:
    """Words of two vectors side by side, by their place there."""
    mask = ir.Constant(ir.VectorType(_INDEX, len(places)), list(places))
    return Vector(lanes, lanes.builder.shuffle_vector(a.value, b.value, mask))


def broadcast(lanes: Lanes, pointer: Any) -> Vector:
    """The block behind a pointer, in every block of a vector."""
    block = lanes.builder.load(lanes.builder.bitcast(pointer, _PAIR.as_pointer()), align=8)
    everywhere = ir.Constant(ir.VectorType(_INDEX, lanes.count), [0, 1] * (lanes.count // 2))
    return Vector(lanes, lanes.builder.shuffle_vector(block, block, everywhere))


def load_keys(lanes: Lanes, address: Any) -> list[Vector]:
    """The 11 round keys behind an address."""
    return [broadcast(lanes, words_at(lanes, address, 2 * i)) for i in range(ROUND_KEYS)]


def encrypt(lanes: Lanes, keys: Sequence[Vector], blocks: Sequence[Vector]) -> list[Vector]:
    """AES-128 of every block; several vectors side by side hide the latency of a round."""
    states = [block ^ keys[0] for block in blocks]
    for key in keys[1:-1]:
        states = [_round(lanes, "aesenc", state, key) for state in states]
    return [_round(lanes, "aesenclast", state, keys[-1]) for state in states]


def _round(lanes: Lanes, name: str, state: Vector, key: Vector) -> Vector:
    if _WIDE_AES:
        return lanes.call(f"llvm.x86.aesni.{name}.{64 * lanes.count}", state, key)
    builder, parts = lanes.builder, []
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_PAIR, [_PAIR, _PAIR]), f"llvm.x86.aesni.{name}"
    )
    for block in range(lanes.count // 2):
        pick = ir.Constant(ir.VectorType(_INDEX, 2), [2 * block, 2 * block + 1])
        operands = [builder.shuffle_vector(one.value, one.value, pick) for one in (state, key)]
        parts.append(builder.call(function, operands))
    while len(parts) > 1:
        width = 2 * parts[0].type.count
        joined = ir.Constant(ir.VectorType(_INDEX, width), list(range(width)))
        parts = [builder.shuffle_vector(*parts[i : i + 2], joined) for i in range(0, len(parts), 2)]
    return Vector(lanes, parts[0])


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(context: Any, word: Any) -> Any:
    """How many zero bits a word other than zero ends with."""

    def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(_WORD, [_WORD, ir.IntType(1)])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.cttz.i64")
        return builder.call(function, [values[0], ir.Constant(ir.IntType(1), 1)])

    return types.uint64(types.uint64), generate
