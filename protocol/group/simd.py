"""The fast back end of the group: batches in vector lanes, several elements at a time on every core.

What is done with public values is in `purposematch.protocol.group.lanes`. What comes out of a multiplication
is kept as the *half* of the element: the half of a scalar modulo the group order costs
nothing, and the encoding of twice a point needs no square root (`purposematch.protocol.simd.points`), which
makes encoding a whole batch seven times cheaper. Sums and further multiplications are as cheap with halves.

Scratch that has held secrets is overwritten after use. Not protected against: an observer of memory while a
batch is computed; what the processor's registers, LLVM's spills and the coordinates of results (which depend
on the scalar in their projective scale) keep.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Final

import numpy as np

from purposematch.protocol.ciphersuite import SCALAR_LENGTH, WIDE_LENGTH
from purposematch.protocol.errors import ConfigurationError, DecodeError
from purposematch.protocol.group.interface import Bytes, Elements, Group, SecretScalar
from purposematch.protocol.group.lanes import (
    LaneElements,
    PublicLanes,
    Words,
    bytes_of,
    factors_of,
    new_blocks,
    new_flags,
    own_elements,
    padded_rows,
    rows_of,
)
from purposematch.protocol.secret import SecretArray, reveal, reveal_array
from purposematch.protocol.simd import code_kernels, fixed_kernels, product_kernels, scalar_kernels
from purposematch.protocol.simd.kernel import kernels
from purposematch.protocol.simd.processor import INSTRUCTIONS, LANES
from purposematch.protocol.simd.workspace import CHUNK_BLOCKS

__all__ = ["SimdGroup"]

CHUNK_ELEMENTS: Final = CHUNK_BLOCKS * LANES
"""Elements that one thread takes at a time: about 3 ms of work."""
GENERATOR: Final = bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")
"""The encoded generator (RFC 9496 section 4)."""
KEPT_TABLES: Final = 8
"""Tables of multiples that are kept: every session of a key epoch computes with the same key."""


class SimdGroup(PublicLanes, Group):
    """ristretto255 in vector lanes.

    Args:
        threads: see `PublicLanes`; so are the others.
        cache: the folder for compiled kernels, or None.
        announce: called before kernels are compiled.
    """

    name = "simd"

    def __init__(
        self,
        threads: int | None = None,
        cache: str | None = None,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """Compiles nothing and starts no thread before the first batch.

        Raises:
            ConfigurationError: LLVM does not compile for any instruction set that the kernels need.
        """
        if INSTRUCTIONS is None:
            raise ConfigurationError("the simd back end needs AVX2 or AVX-512, which is not to be had here")
        self.description = f"{self.name} ({INSTRUCTIONS.value})"
        super().__init__(threads, cache, announce)
        self._table_of = lru_cache(KEPT_TABLES)(self._make_table)

    def prepare(self) -> None:
        """See `Group.prepare`: compiles the kernels of everything that has been imported, or loads them."""
        self.prepare_kernels(kernels())

    def map_to_group(self, uniform: Bytes) -> Elements:
        """See `Group.map_to_group`."""
        rows = rows_of(uniform, WIDE_LENGTH)
        blocks = new_blocks(len(rows))
        padded = padded_rows(rows, 0, len(blocks))

        def run(chunk: slice, lanes: slice, workspace: Words) -> None:
            code_kernels.map_to_group(padded[lanes], blocks[chunk], workspace)

        self.over_chunks(run, len(blocks))
        return LaneElements(blocks, 0, len(rows), False)

    def multiply(self, elements: Elements, scalar: SecretScalar) -> Elements:
        """See `Group.multiply`."""
        factor = np.frombuffer(reveal(scalar), np.uint64).reshape(1, -1)
        return self._multiply(own_elements(elements), factor.repeat(LANES, axis=0))

    def multiply_each(self, elements: Elements, scalars: SecretArray) -> Elements:
        """See `Group.multiply_each`."""
        own = own_elements(elements)
        factors = factors_of(reveal_array(scalars), own.count)
        return self._multiply(own, padded_rows(factors, own.first, len(own.blocks)).copy())

    def add_multiples(
        self, elements: Elements, scalars: SecretArray, base: Elements | None = None, *, negate: bool = False
    ) -> Elements:
        """See `Group.add_multiples`."""
        own, table = self._whole(elements), self._table(self._generator if base is None else base)
        factors = padded_rows(factors_of(reveal_array(scalars), own.count), own.first, len(own.blocks)).copy()
        sums = np.empty_like(own.blocks)
        zero, identity = new_flags(own.blocks), new_flags(own.blocks)

        def run(chunk: slice, lanes: slice, workspace: Words) -> None:
            fixed_kernels.add_multiples(
                *(own.blocks[chunk], factors[lanes], int(negate), table),
                *(sums[chunk], zero[lanes], identity[lanes], workspace),
            )

        self.over_chunks(run, len(own.blocks))
        factors[:] = 0
        if zero[own.lanes].any():
            raise DecodeError("a scalar is zero")
        if identity[own.lanes].any():
            raise DecodeError("a sum is the identity")
        return LaneElements(sums, own.first, own.count, False)

    def multiply_generator(self, scalar: SecretScalar) -> Elements:
        """See `Group.multiply_generator`."""
        return self.multiply(self._generator, scalar)

    def public_multiply_add(self, a: Bytes, x: Elements, b: Bytes, y: Elements | None = None) -> Elements:
        """See `Group.public_multiply_add`."""
        left = self.multiply_each(x, SecretArray(a.reshape(1, -1)))
        right = self.multiply_each(self._generator if y is None else y, SecretArray(b.reshape(1, -1)))
        # Both are halves now.
        return self.add_up(np.concatenate([own_elements(left).alone(), own_elements(right).alone()]), True)

    def reduce(self, wide: Bytes) -> Bytes:
        """See `Group.reduce`."""
        rows = rows_of(wide, WIDE_LENGTH)
        padded = padded_rows(rows, 0, -(-len(rows) // LANES))
        out = np.empty((len(padded), SCALAR_LENGTH // 8), np.uint64)

        def run(_: slice, lanes: slice, workspace: Words) -> None:
            scalar_kernels.reduce(padded[lanes], out[lanes], workspace)

        self.over_chunks(run, len(padded) // LANES)
        return bytes_of(out[: len(rows)])

    def invert(self, scalars: SecretArray) -> SecretArray:
        """See `Group.invert`."""
        rows = rows_of(reveal_array(scalars), SCALAR_LENGTH)
        padded = padded_rows(rows, 0, -(-len(rows) // LANES))
        out = np.empty_like(padded)
        zero = new_flags(padded[::LANES])

        def run(_: slice, lanes: slice, workspace: Words) -> None:
            scalar_kernels.invert(padded[lanes], out[lanes], zero[lanes], workspace)

        self.over_chunks(run, len(padded) // LANES)
        if padded is not rows:
            padded[:] = 0
        if zero[: len(rows)].any():
            raise DecodeError("a scalar is zero")
        return SecretArray(bytes_of(out[: len(rows)]))

    def _multiply(self, own: LaneElements, factors: Words) -> LaneElements:
        """Multiplies by the factors of all lanes, or of one block for all, which are wiped.

        The result is kept as halves.
        """
        products = np.empty_like(own.blocks)
        identity = new_flags(own.blocks)
        halve = 0 if own.halves else 1

        def run(chunk: slice, lanes: slice, workspace: Words) -> None:
            part = factors if len(factors) == LANES else factors[lanes]
            product_kernels.multiply_points(
                own.blocks[chunk], part, halve, products[chunk], identity[lanes], workspace
            )

        self.over_chunks(run, len(own.blocks))
        factors[:] = 0
        if identity[own.lanes].any():
            raise DecodeError("a product is the identity")
        return LaneElements(products, own.first, own.count, True)

    def _whole(self, elements: Elements) -> LaneElements:
        """The same elements, not kept as halves."""
        own = own_elements(elements)
        return own_elements(self.decode(self.encode(own))) if own.halves else own

    def _table(self, base: Elements) -> Words:
        """The multiples of a public element, which are kept with it, and for other copies of it."""
        own = own_elements(base)
        if own.table is None:
            own.table = self._table_of(self.encode(own.rows(0, 1)).tobytes())
        return own.table

    def _make_table(self, encoded: bytes) -> Words:
        base = self.decode(np.frombuffer(encoded, np.uint8).reshape(1, -1))
        return fixed_kernels.table_of(self._whole(base).coordinates)

    @cached_property
    def _generator(self) -> Elements:
        return self.decode(np.frombuffer(GENERATOR, np.uint8).reshape(1, -1))
