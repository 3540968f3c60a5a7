"""The fast back end of the group: batches in vector lanes, several elements at a time on every core.

Elements are kept as coordinates, so nothing is decoded or encoded between two operations. What comes out of
a multiplication is kept as the *half* of the element: the half of a scalar modulo the group order costs
nothing, and the encoding of twice a point needs no square root (`purposematch.protocol.simd.points`), which
makes encoding a whole batch seven times cheaper. Sums and further multiplications are as cheap with halves.

Chunks of a batch are shared by threads; the kernels release the GIL. Scratch that has held secrets is
overwritten after use. Not protected against: an observer of memory while a batch is computed; what the
processor's registers, LLVM's spills and the coordinates of results (which depend on the scalar in their
projective scale) keep.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, SCALAR_LENGTH, WIDE_LENGTH
from purposematch.protocol.errors import ConfigurationError, DecodeError
from purposematch.protocol.group.interface import Bytes, Elements, Group, SecretScalar
from purposematch.protocol.secret import SecretArray, reveal, reveal_array
from purposematch.protocol.simd import kernels
from purposematch.protocol.simd.kernel import prepare
from purposematch.protocol.simd.points import POINT
from purposematch.protocol.simd.processor import INSTRUCTIONS, LANES

__all__ = ["SimdGroup"]

CHUNK_ELEMENTS: Final = kernels.CHUNK_BLOCKS * LANES
"""Elements that one thread takes at a time: about 3 ms of work."""
GENERATOR: Final = bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")
"""The encoded generator (RFC 9496 section 4)."""

_Result = TypeVar("_Result")
_Words = NDArray[np.uint64]


@final
class _SimdElements(Elements):
    """Elements as coordinates, in blocks of one element a lane.

    Args:
        blocks: (blocks, POINT).
        first: the lane of the first element.
        count: how many elements there are; other lanes hold elements that do not matter.
        halves: whether each point is half of its element.
        encoded: the encodings, where they are known.
    """

    __slots__ = ("blocks", "count", "encoded", "first", "halves")

    def __init__(
        self, blocks: _Words, first: int, count: int, halves: bool, encoded: Bytes | None = None
    ) -> None:
        self.blocks = blocks
        self.first = first
        self.count = count
        self.halves = halves
        self.encoded = encoded

    def __len__(self) -> int:
        return self.count

    def rows(self, start: int, stop: int) -> Self:
        start, stop, _ = slice(start, stop).indices(self.count)
        stop = max(start, stop)
        begin, end = self.first + start, self.first + stop
        blocks = self.blocks[begin // LANES : -(-end // LANES)] if stop > start else self.blocks[:0]
        encoded = None if self.encoded is None else self.encoded[start:stop]
        return type(self)(blocks, begin % LANES, stop - start, self.halves, encoded)

    def point(self, index: int) -> _Words:
        """The coordinates of one element, (POINT / LANES,)."""
        block, lane = divmod(self.first + index, LANES)
        return self.blocks[block].reshape(-1, LANES)[:, lane]


class SimdGroup(Group):
    """ristretto255 in vector lanes.

    Args:
        threads: how many threads share a batch; all cores by default.
        cache: the folder for compiled kernels (`purposematch.protocol.simd.kernel.cache_folder`); None
            compiles them anew in every process.
        announce: called once if kernels have to be compiled, before that begins.
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
        self.threads = threads or os.cpu_count() or 1
        self._cache = cache
        self._announce = announce
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="simd")
        self._workspaces: deque[_Words] = deque()

    def prepare(self) -> None:
        """See `Group.prepare`: compiles the kernels, or loads them."""
        prepare(self._cache, self._announce)

    def decode(self, encoded: Bytes) -> Elements:
        """See `Group.decode`."""
        rows = _rows(encoded, ELEMENT_LENGTH).copy()
        blocks = _blocks(len(rows))

        def run(begin: int, end: int, workspace: _Words) -> bool:
            part = rows[begin * LANES : end * LANES]
            return bool(kernels.decode(part, blocks[begin:end], workspace))

        if not all(self._over_chunks(run, len(blocks))):
            raise DecodeError("an element is not canonical, or is the identity")
        return _SimdElements(blocks, 0, len(rows), False, _bytes(rows))

    def encode(self, elements: Elements) -> Bytes:
        """See `Group.encode`."""
        own = _own(elements)
        if own.encoded is None:
            kernel = kernels.double_encode if own.halves else kernels.encode
            rows = np.empty((own.count, ELEMENT_LENGTH // 8), np.uint64)

            def run(begin: int, end: int, workspace: _Words) -> None:
                part, first, _ = _part(own, rows, begin, end)
                kernel(own.blocks[begin:end], first, part, workspace)

            self._over_chunks(run, len(own.blocks))
            own.encoded = _bytes(rows)
        return own.encoded

    def map_to_group(self, uniform: Bytes) -> Elements:
        """See `Group.map_to_group`."""
        rows = _rows(uniform, WIDE_LENGTH)
        blocks = _blocks(len(rows))

        def run(begin: int, end: int, workspace: _Words) -> None:
            kernels.map_to_group(rows[begin * LANES : end * LANES], blocks[begin:end], workspace)

        self._over_chunks(run, len(blocks))
        return _SimdElements(blocks, 0, len(rows), False)

    def multiply(self, elements: Elements, scalar: SecretScalar) -> Elements:
        """See `Group.multiply`."""
        factor = np.frombuffer(reveal(scalar), np.uint64).reshape(1, -1).copy()
        product = self._multiply(_own(elements), factor)
        factor[:] = 0
        return product

    def multiply_each(self, elements: Elements, scalars: SecretArray) -> Elements:
        """See `Group.multiply_each`."""
        own = _own(elements)
        return self._multiply(own, _factors(reveal_array(scalars), own.count))

    def multiply_generator(self, scalar: SecretScalar) -> Elements:
        """See `Group.multiply_generator`."""
        return self.multiply(self._generator(), scalar)

    def public_multiply_add(self, a: Bytes, x: Elements, b: Bytes, y: Elements | None = None) -> Elements:
        """See `Group.public_multiply_add`."""
        left = self._multiply(_own(x), _factors(a.reshape(1, -1), 1))
        right = self._multiply(_own(self._generator() if y is None else y), _factors(b.reshape(1, -1), 1))
        terms = _blocks(2)
        terms[0].reshape(-1, LANES)[:, 0] = left.point(0)
        terms[0].reshape(-1, LANES)[:, 1] = right.point(0)
        one = np.zeros((2, SCALAR_LENGTH), np.uint8)
        one[:, 0] = 1
        return self.public_sum_of_products(_SimdElements(terms, 0, 2, True), one)

    def public_sum_of_products(self, elements: Elements, scalars: Bytes) -> Elements:
        """See `Group.public_sum_of_products`."""
        own = _own(elements)
        factors = _factors(scalars, own.count)
        if not own.count:
            raise DecodeError("a sum is the identity")

        def run(begin: int, end: int, workspace: _Words) -> _Words:
            part, first, _ = _part(own, factors, begin, end)
            total = np.empty((1, POINT), np.uint64)
            if not kernels.sum_of_products(own.blocks[begin:end], part, first, total, workspace):
                raise DecodeError("a product is the identity")
            return total

        totals = np.concatenate(self._over_chunks(run, len(own.blocks)))
        total = np.empty((1, POINT), np.uint64)
        with_workspace = self._with_workspace
        with_workspace(lambda workspace: kernels.add_points(totals, total, workspace))
        result = _SimdElements(total, 0, 1, own.halves)
        if not self.encode(result).any():
            raise DecodeError("a sum is the identity")
        return result

    def reduce(self, wide: Bytes) -> Bytes:
        """See `Group.reduce`."""
        rows = _rows(wide, WIDE_LENGTH)
        out = np.empty((len(rows), SCALAR_LENGTH // 8), np.uint64)

        def run(begin: int, end: int, workspace: _Words) -> None:
            part = slice(begin * LANES, end * LANES)
            kernels.reduce(rows[part], out[part], workspace)

        self._over_chunks(run, -(-len(rows) // LANES))
        return _bytes(out)

    def invert(self, scalars: SecretArray) -> SecretArray:
        """See `Group.invert`."""
        rows = _rows(reveal_array(scalars), SCALAR_LENGTH)
        out = np.empty_like(rows)

        def run(begin: int, end: int, workspace: _Words) -> bool:
            part = slice(begin * LANES, end * LANES)
            return bool(kernels.invert(rows[part], out[part], workspace))

        if not all(self._over_chunks(run, -(-len(rows) // LANES))):
            raise DecodeError("a scalar is zero")
        return SecretArray(_bytes(out))

    def _multiply(self, own: _SimdElements, factors: _Words) -> _SimdElements:
        """Multiplies by one factor, or by one for each element; the result is kept as halves."""
        products = np.empty_like(own.blocks)

        def run(begin: int, end: int, workspace: _Words) -> bool:
            part, first, count = _part(own, factors, begin, end)
            return bool(
                kernels.multiply_points(
                    own.blocks[begin:end],
                    factors if len(factors) == 1 else part,
                    first,
                    count,
                    0 if own.halves else 1,
                    products[begin:end],
                    workspace,
                )
            )

        if not all(self._over_chunks(run, len(own.blocks))):
            raise DecodeError("a product is the identity")
        return _SimdElements(products, own.first, own.count, True)

    def _generator(self) -> Elements:
        return self.decode(np.frombuffer(GENERATOR, np.uint8).reshape(1, -1))

    def _over_chunks(self, run: Callable[[int, int, _Words], _Result], blocks: int) -> Sequence[_Result]:
        """Runs a kernel over ranges of blocks, each with a workspace of its own."""
        self.prepare()
        step = kernels.CHUNK_BLOCKS
        bounds = [(begin, min(begin + step, blocks)) for begin in range(0, blocks, step)]

        def one(bound: tuple[int, int]) -> _Result:
            return self._with_workspace(lambda workspace: run(*bound, workspace))

        if self.threads == 1 or len(bounds) < 2:
            return [one(bound) for bound in bounds]
        return list(self._pool.map(one, bounds))

    def _with_workspace(self, run: Callable[[_Words], _Result]) -> _Result:
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = _aligned(kernels.WORKSPACE)
        try:
            return run(workspace)
        finally:
            self._workspaces.append(workspace)


def _part(own: _SimdElements, rows: _Words, begin: int, end: int) -> tuple[_Words, int, int]:
    """The rows of a range of blocks, the lane of the first of them, and their number."""
    start = max(0, begin * LANES - own.first)
    stop = min(own.count, end * LANES - own.first)
    return rows[start:stop], own.first if begin == 0 else 0, stop - start


def _rows(content: Bytes, width: int) -> _Words:
    """Byte strings as rows of words."""
    if content.ndim != 2 or content.shape[1] != width or content.dtype != np.uint8:
        raise DecodeError(f"a batch has shape {content.shape}, not (n, {width})")
    rows: _Words = np.ascontiguousarray(content).view(np.uint64)
    # Kernels take arrays that are aligned and, whether they write to them or not, writable.
    return np.require(rows, requirements=["C", "A", "W"])


def _bytes(rows: _Words) -> Bytes:
    return rows.view(np.uint8)


def _factors(scalars: Bytes, count: int) -> _Words:
    if len(scalars) != count:
        raise ValueError(f"{len(scalars)} scalars do not fit {count} elements")
    return _rows(scalars, SCALAR_LENGTH)


def _blocks(count: int) -> _Words:
    return np.empty((-(-count // LANES), POINT), np.uint64)


def _aligned(words: int) -> _Words:
    """Zeros that begin at a multiple of 64 bytes: vectors across two cache lines are slow."""
    spare = 64 // 8
    content: _Words = np.zeros(words + spare, np.uint64)
    begin = -content.ctypes.data // 8 % spare
    return content[begin : begin + words]


def _own(elements: Elements) -> _SimdElements:
    if not isinstance(elements, _SimdElements):
        raise TypeError("these elements belong to another back end of the group")
    return elements
