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
from itertools import chain, product
from typing import Final, Self, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, SCALAR_LENGTH, WIDE_LENGTH
from purposematch.protocol.errors import ConfigurationError, DecodeError
from purposematch.protocol.group.interface import Bytes, Elements, Group, SecretScalar
from purposematch.protocol.secret import SecretArray, reveal, reveal_array
from purposematch.protocol.simd import code_kernels, product_kernels, scalar_kernels, sum_kernels
from purposematch.protocol.simd.kernel import prepare
from purposematch.protocol.simd.points import POINT
from purposematch.protocol.simd.processor import INSTRUCTIONS, LANES
from purposematch.protocol.simd.workspace import BUCKETS, CHUNK_BLOCKS, WORKSPACE

__all__ = ["SimdGroup"]

CHUNK_ELEMENTS: Final = CHUNK_BLOCKS * LANES
"""Elements that one call of a kernel takes at most: about 3 ms of work."""
GENERATOR: Final = bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")
"""The encoded generator (RFC 9496 section 4)."""

_Result = TypeVar("_Result")
_Task = TypeVar("_Task")
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

    @property
    def lanes(self) -> slice:
        """The lanes of these elements, counted over all blocks."""
        return slice(self.first, self.first + self.count)

    def alone(self) -> _Words:
        """A block of the first element, with the identity in the other lanes."""
        limbs = self.blocks[0].reshape(4, -1, LANES)
        block = np.zeros_like(limbs)
        block[1:3, 0] = 1
        block[:, :, self.first] = limbs[:, :, self.first]
        alone: _Words = block.reshape(1, -1)
        return alone


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
        rows = _rows(encoded, ELEMENT_LENGTH)
        blocks = _blocks(len(rows))
        padded = _padded(rows, 0, len(blocks))
        valid = _flags(blocks)

        def run(chunk: slice, lanes: slice, workspace: _Words) -> None:
            code_kernels.decode(padded[lanes], blocks[chunk], valid[lanes], workspace)

        self._over_chunks(run, len(blocks))
        if not valid[: len(rows)].all():
            raise DecodeError("an element is not canonical, or is the identity")
        return _SimdElements(blocks, 0, len(rows), False, _bytes(rows.copy()))

    def encode(self, elements: Elements) -> Bytes:
        """See `Group.encode`."""
        own = _own(elements)
        if own.encoded is None:
            kernel = code_kernels.double_encode if own.halves else code_kernels.encode
            rows = np.empty((len(own.blocks) * LANES, ELEMENT_LENGTH // 8), np.uint64)

            def run(chunk: slice, lanes: slice, workspace: _Words) -> None:
                kernel(own.blocks[chunk], rows[lanes], workspace)

            self._over_chunks(run, len(own.blocks))
            own.encoded = _bytes(rows[own.lanes])
        return own.encoded

    def map_to_group(self, uniform: Bytes) -> Elements:
        """See `Group.map_to_group`."""
        rows = _rows(uniform, WIDE_LENGTH)
        blocks = _blocks(len(rows))
        padded = _padded(rows, 0, len(blocks))

        def run(chunk: slice, lanes: slice, workspace: _Words) -> None:
            code_kernels.map_to_group(padded[lanes], blocks[chunk], workspace)

        self._over_chunks(run, len(blocks))
        return _SimdElements(blocks, 0, len(rows), False)

    def multiply(self, elements: Elements, scalar: SecretScalar) -> Elements:
        """See `Group.multiply`."""
        factor = np.frombuffer(reveal(scalar), np.uint64).reshape(1, -1)
        return self._multiply(_own(elements), factor.repeat(LANES, axis=0))

    def multiply_each(self, elements: Elements, scalars: SecretArray) -> Elements:
        """See `Group.multiply_each`."""
        own = _own(elements)
        factors = _factors(reveal_array(scalars), own.count)
        return self._multiply(own, _padded(factors, own.first, len(own.blocks)).copy())

    def multiply_generator(self, scalar: SecretScalar) -> Elements:
        """See `Group.multiply_generator`."""
        return self.multiply(self._generator(), scalar)

    def public_multiply_add(self, a: Bytes, x: Elements, b: Bytes, y: Elements | None = None) -> Elements:
        """See `Group.public_multiply_add`."""
        left = self.multiply_each(x, SecretArray(a.reshape(1, -1)))
        right = self.multiply_each(self._generator() if y is None else y, SecretArray(b.reshape(1, -1)))
        # Both are halves now.
        return self._sum(np.concatenate([_own(left).alone(), _own(right).alone()]), True)

    def public_sum_of_products(self, elements: Elements, scalars: Bytes) -> Elements:
        """See `Group.public_sum_of_products`."""
        return self.public_sums_of_products([elements], scalars)[0]

    def public_sums_of_products(self, batches: Sequence[Elements], scalars: Bytes) -> list[Elements]:
        """See `Group.public_sums_of_products`: digits and their order are shared."""
        owns = [_own(elements) for elements in batches]
        for own in owns:
            factors = _factors(scalars, own.count)
        if not len(factors):
            raise DecodeError("a sum is the identity")
        self.prepare()
        order = self._order_by_digit(factors)
        rows = [self._tabulate(own) for own in owns]

        def sum_group(task: tuple[int, int], workspace: _Words) -> _Words:
            batch, group = task
            total = _blocks(1)
            sum_kernels.sum_group(rows[batch], order[group], group, total, workspace)
            return total

        tasks = list(product(range(len(owns)), range(sum_kernels.GROUPS)))
        totals = np.concatenate(self._share(sum_group, tasks)).reshape(len(owns), sum_kernels.GROUPS, POINT)
        return [self._sum(part, own.halves) for part, own in zip(totals, owns, strict=True)]

    def _order_by_digit(self, factors: _Words) -> NDArray[np.int64]:
        """For every group of windows, in which order rows are added."""
        count = len(factors)
        padded = _padded(factors, 0, -(-count // LANES))
        zero = _flags(padded[::LANES])
        digits = np.empty((sum_kernels.WINDOWS, len(padded)), np.int16)
        self._with_workspace(lambda workspace: sum_kernels.recode_scalars(padded, digits, zero, workspace))
        if zero[:count].any():
            raise DecodeError("a product is the identity")
        order = np.empty((sum_kernels.GROUPS, LANES, count), np.int64)

        def sort(group: int, _: _Words) -> None:
            ends = np.empty(BUCKETS, np.int64)
            windows = slice(group * LANES, (group + 1) * LANES)
            sum_kernels.order_by_digit(digits[windows], count, order[group], ends)

        self._share(sort, range(sum_kernels.GROUPS))
        return order

    def _tabulate(self, own: _SimdElements) -> _Words:
        """The elements as rows to be added."""
        rows = np.empty((len(own.blocks) * LANES, sum_kernels.ROW), np.uint64)

        def run(chunk: slice, lanes: slice, workspace: _Words) -> None:
            sum_kernels.tabulate(own.blocks[chunk], rows[lanes], workspace)

        self._over_chunks(run, len(own.blocks))
        return rows[own.lanes]

    def reduce(self, wide: Bytes) -> Bytes:
        """See `Group.reduce`."""
        rows = _rows(wide, WIDE_LENGTH)
        padded = _padded(rows, 0, -(-len(rows) // LANES))
        out = np.empty((len(padded), SCALAR_LENGTH // 8), np.uint64)

        def run(_: slice, lanes: slice, workspace: _Words) -> None:
            scalar_kernels.reduce(padded[lanes], out[lanes], workspace)

        self._over_chunks(run, len(padded) // LANES)
        return _bytes(out[: len(rows)])

    def invert(self, scalars: SecretArray) -> SecretArray:
        """See `Group.invert`."""
        rows = _rows(reveal_array(scalars), SCALAR_LENGTH)
        padded = _padded(rows, 0, -(-len(rows) // LANES))
        out = np.empty_like(padded)
        zero = _flags(padded[::LANES])

        def run(_: slice, lanes: slice, workspace: _Words) -> None:
            scalar_kernels.invert(padded[lanes], out[lanes], zero[lanes], workspace)

        self._over_chunks(run, len(padded) // LANES)
        if padded is not rows:
            padded[:] = 0
        if zero[: len(rows)].any():
            raise DecodeError("a scalar is zero")
        return SecretArray(_bytes(out[: len(rows)]))

    def _multiply(self, own: _SimdElements, factors: _Words) -> _SimdElements:
        """Multiplies by the factors of all lanes, or of one block for all, which are wiped.

        The result is kept as halves.
        """
        products = np.empty_like(own.blocks)
        identity = _flags(own.blocks)
        halve = 0 if own.halves else 1

        def run(chunk: slice, lanes: slice, workspace: _Words) -> None:
            part = factors if len(factors) == LANES else factors[lanes]
            product_kernels.multiply_points(
                own.blocks[chunk], part, halve, products[chunk], identity[lanes], workspace
            )

        self._over_chunks(run, len(own.blocks))
        factors[:] = 0
        if identity[own.lanes].any():
            raise DecodeError("a product is the identity")
        return _SimdElements(products, own.first, own.count, True)

    def _sum(self, blocks: _Words, halves: bool) -> _SimdElements:
        """The sum of all lanes of all blocks."""
        total = _blocks(1)
        self._with_workspace(lambda workspace: sum_kernels.add_points(blocks, total, workspace))
        result = _SimdElements(total, 0, 1, halves)
        if not self.encode(result).any():
            raise DecodeError("a sum is the identity")
        return result

    def _generator(self) -> Elements:
        return self.decode(np.frombuffer(GENERATOR, np.uint8).reshape(1, -1))

    def _over_chunks(self, run: Callable[[slice, slice, _Words], None], blocks: int) -> None:
        """Runs a kernel over chunks, given as their blocks and their lanes."""
        chunks = [slice(begin, min(begin + CHUNK_BLOCKS, blocks)) for begin in range(0, blocks, CHUNK_BLOCKS)]
        self._share(
            lambda chunk, workspace: run(chunk, slice(chunk.start * LANES, chunk.stop * LANES), workspace),
            chunks,
        )

    def _share(self, run: Callable[[_Task, _Words], _Result], tasks: Sequence[_Task]) -> list[_Result]:
        """Runs tasks in all threads, each with a workspace that nobody else uses meanwhile."""
        self.prepare()

        def several(own: Sequence[_Task]) -> list[_Result]:
            return self._with_workspace(lambda workspace: [run(task, workspace) for task in own])

        if self.threads == 1 or len(tasks) < 2:
            return several(tasks)
        # Handing over a task costs as much as some kernels take for a chunk: each thread gets one share.
        size = -(-len(tasks) // self.threads)
        shares = [tasks[begin : begin + size] for begin in range(0, len(tasks), size)]
        return list(chain.from_iterable(self._pool.map(several, shares)))

    def _with_workspace(self, run: Callable[[_Words], _Result]) -> _Result:
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = _aligned(WORKSPACE)
        try:
            return run(workspace)
        finally:
            self._workspaces.append(workspace)


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


def _flags(blocks: _Words) -> _Words:
    """A word for every lane of these blocks."""
    return np.empty(len(blocks) * LANES, np.uint64)


def _padded(rows: _Words, first: int, blocks: int) -> _Words:
    """The rows of whole blocks, zero before lane `first` and after the last row."""
    if first == 0 and len(rows) == blocks * LANES:
        return rows
    padded = np.zeros((blocks * LANES, rows.shape[1]), np.uint64)
    padded[first : first + len(rows)] = rows
    return padded


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
