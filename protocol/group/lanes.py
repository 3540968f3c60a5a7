"""What lanes compute with public values: decoding, encoding, and sums with public scalars.

Both back ends use it: `purposematch.protocol.group.simd` adds what touches secrets, and
`purposematch.protocol.group.sodium` has long sums of public products computed here. Those kernels need no
instruction set of their own (`purposematch.protocol.simd.processor`).

Elements are kept as coordinates, so nothing is decoded or encoded between two operations. Chunks of a batch
are shared by threads; the kernels release the GIL.

Not protected against: the time and the memory accesses of a sum depend on its elements and scalars.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, product
from typing import Final, Self, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, SCALAR_LENGTH
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group.interface import Bytes, Elements
from purposematch.protocol.simd import code_kernels, sum_kernels
from purposematch.protocol.simd.kernel import Kernel, prepare
from purposematch.protocol.simd.points import POINT
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.workspace import CHUNK_BLOCKS, WORKSPACE

__all__ = [
    "LaneElements",
    "PublicLanes",
    "Words",
    "bytes_of",
    "factors_of",
    "new_blocks",
    "new_flags",
    "own_elements",
    "padded_rows",
    "rows_of",
]

KERNELS: Final = (
    code_kernels.decode,
    code_kernels.encode,
    sum_kernels.add_points,
    sum_kernels.order_by_digit,
    sum_kernels.recode_scalars,
    sum_kernels.sum_group,
    sum_kernels.tabulate,
)
"""All that sums of public products need."""

_Result = TypeVar("_Result")
_Task = TypeVar("_Task")
Words = NDArray[np.uint64]
"""64-bit words, as kernels take them."""


@final
class LaneElements(Elements):
    """Elements as coordinates, in blocks of one element a lane.

    Args:
        blocks: (blocks, POINT).
        first: the lane of the first element.
        count: how many elements there are; other lanes hold elements that do not matter.
        halves: whether each point is half of its element.
        encoded: the encodings, where they are known.

    Attributes:
        table: the multiples of a batch of one (`purposematch.protocol.simd.fixed_kernels`), once needed.
    """

    __slots__ = ("blocks", "count", "encoded", "first", "halves", "table")

    def __init__(
        self, blocks: Words, first: int, count: int, halves: bool, encoded: Bytes | None = None
    ) -> None:
        self.blocks = blocks
        self.first = first
        self.count = count
        self.halves = halves
        self.encoded = encoded
        self.table: Words | None = None

    def __len__(self) -> int:
        return self.count

    def rows(self, start: int, stop: int) -> Self:
        """See `Elements.rows`."""
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

    @property
    def coordinates(self) -> Words:
        """The limbs of the first point's X, Y, Z and T, (4, limbs)."""
        limbs: Words = self.blocks[0].reshape(4, -1, LANES)[:, :, self.first]
        return limbs

    def alone(self) -> Words:
        """A block of the first element, with the identity in the other lanes."""
        limbs = self.blocks[0].reshape(4, -1, LANES)
        block = np.zeros_like(limbs)
        block[1:3, 0] = 1
        block[:, :, self.first] = limbs[:, :, self.first]
        alone: Words = block.reshape(1, -1)
        return alone


class PublicLanes:
    """Computes with public values in vector lanes.

    Args:
        threads: how many threads share a batch; all cores by default.
        cache: the folder for compiled kernels (`purposematch.protocol.simd.kernel.cache_folder`); None
            compiles them anew in every process.
        announce: called once if kernels have to be compiled, before that begins.
    """

    def __init__(
        self,
        threads: int | None = None,
        cache: str | None = None,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """Compiles nothing and starts no thread before the first batch."""
        self.threads = threads or os.cpu_count() or 1
        self._cache = cache
        self._announce = announce
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="lanes")
        self._workspaces: deque[Words] = deque()

    def prepare(self) -> None:
        """See `Group.prepare`: compiles the kernels, or loads them."""
        self.prepare_kernels(KERNELS)

    def prepare_kernels(self, wanted: Sequence[Kernel]) -> None:
        """Compiles or loads these kernels."""
        prepare(self._cache, self._announce, wanted)

    def decode(self, encoded: Bytes) -> Elements:
        """See `Group.decode`."""
        rows = rows_of(encoded, ELEMENT_LENGTH)
        blocks = new_blocks(len(rows))
        padded = padded_rows(rows, 0, len(blocks))
        valid = new_flags(blocks)

        def run(chunk: slice, lanes: slice, workspace: Words) -> None:
            code_kernels.decode(padded[lanes], blocks[chunk], valid[lanes], workspace)

        self.over_chunks(run, len(blocks))
        if not valid[: len(rows)].all():
            raise DecodeError("an element is not canonical, or is the identity")
        return LaneElements(blocks, 0, len(rows), False, bytes_of(rows.copy()))

    def encode(self, elements: Elements) -> Bytes:
        """See `Group.encode`."""
        own = own_elements(elements)
        if own.encoded is None:
            kernel = code_kernels.double_encode if own.halves else code_kernels.encode
            rows = np.empty((len(own.blocks) * LANES, ELEMENT_LENGTH // 8), np.uint64)

            def run(chunk: slice, lanes: slice, workspace: Words) -> None:
                kernel(own.blocks[chunk], rows[lanes], workspace)

            self.over_chunks(run, len(own.blocks))
            own.encoded = bytes_of(rows[own.lanes])
        return own.encoded

    def public_sum_of_products(self, elements: Elements, scalars: Bytes) -> Elements:
        """See `Group.public_sum_of_products`."""
        return self.public_sums_of_products([elements], scalars)[0]

    def public_sums_of_products(self, batches: Sequence[Elements], scalars: Bytes) -> list[Elements]:
        """See `Group.public_sums_of_products`: digits and their order are shared."""
        owns = [own_elements(elements) for elements in batches]
        for own in owns:
            factors = factors_of(scalars, own.count)
        if not len(factors):
            raise DecodeError("a sum is the identity")
        self.prepare()
        short = not factors[:, sum_kernels.SHORT_WORDS :].any()
        bits = sum_kernels.digit_bits(len(factors), short)
        order = self._order_by_digit(factors, bits)
        groups = len(order)
        rows = [self._tabulate(own) for own in owns]

        def sum_group(task: tuple[int, int], workspace: Words) -> Words:
            batch, group = task
            total = new_blocks(1)
            sum_kernels.sum_group(rows[batch], order[group], group, bits, total, workspace)
            return total

        tasks = list(product(range(len(owns)), range(groups)))
        totals = np.concatenate(self.share(sum_group, tasks)).reshape(len(owns), groups, POINT)
        return [self.add_up(part, own.halves) for part, own in zip(totals, owns, strict=True)]

    def _order_by_digit(self, factors: Words, bits: int) -> NDArray[np.int64]:
        """For every group of windows up to the last that counts, in which order rows are added."""
        count, groups = len(factors), sum_kernels.groups(bits)
        padded = padded_rows(factors, 0, -(-count // LANES))
        zero = new_flags(padded[::LANES])
        digits = np.empty((groups * LANES, len(padded)), np.int16)
        self._with_workspace(
            lambda workspace: sum_kernels.recode_scalars(padded, bits, digits, zero, workspace)
        )
        if zero[:count].any():
            raise DecodeError("a product is the identity")
        groups = int(np.flatnonzero(digits.any(axis=1))[-1]) // LANES + 1
        order = np.empty((groups, LANES, count), np.int64)

        def sort(group: int, _: Words) -> None:
            ends = np.empty(sum_kernels.buckets(bits), np.int64)
            windows = slice(group * LANES, (group + 1) * LANES)
            sum_kernels.order_by_digit(digits[windows], count, order[group], ends)

        self.share(sort, range(groups))
        return order

    def _tabulate(self, own: LaneElements) -> Words:
        """The elements as rows to be added."""
        lanes = len(own.blocks) * LANES
        rows = _aligned(lanes * sum_kernels.ROW).reshape(lanes, sum_kernels.ROW)

        def run(chunk: slice, part: slice, workspace: Words) -> None:
            sum_kernels.tabulate(own.blocks[chunk], rows[part], workspace)

        self.over_chunks(run, len(own.blocks))
        return rows[own.lanes]

    def add_up(self, blocks: Words, halves: bool) -> LaneElements:
        """The sum of all lanes of all blocks."""
        total = new_blocks(1)
        self._with_workspace(lambda workspace: sum_kernels.add_points(blocks, total, workspace))
        result = LaneElements(total, 0, 1, halves)
        if not self.encode(result).any():
            raise DecodeError("a sum is the identity")
        return result

    def over_chunks(self, run: Callable[[slice, slice, Words], None], blocks: int) -> None:
        """Runs a kernel over chunks, given as their blocks and their lanes."""
        chunks = [slice(begin, min(begin + CHUNK_BLOCKS, blocks)) for begin in range(0, blocks, CHUNK_BLOCKS)]
        self.share(
            lambda chunk, workspace: run(chunk, slice(chunk.start * LANES, chunk.stop * LANES), workspace),
            chunks,
        )

    def share(self, run: Callable[[_Task, Words], _Result], tasks: Sequence[_Task]) -> list[_Result]:
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

    def _with_workspace(self, run: Callable[[Words], _Result]) -> _Result:
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = _aligned(WORKSPACE)
        try:
            return run(workspace)
        finally:
            self._workspaces.append(workspace)


def rows_of(content: Bytes, width: int) -> Words:
    """Byte strings as rows of words."""
    if content.ndim != 2 or content.shape[1] != width or content.dtype != np.uint8:
        raise DecodeError(f"a batch has shape {content.shape}, not (n, {width})")
    rows: Words = np.ascontiguousarray(content).view(np.uint64)
    # Kernels take arrays that are aligned and, whether they write to them or not, writable.
    return np.require(rows, requirements=["C", "A", "W"])


def bytes_of(rows: Words) -> Bytes:
    """Rows of words as byte strings."""
    return rows.view(np.uint8)


def factors_of(scalars: Bytes, count: int) -> Words:
    """One scalar for each of `count` elements, as rows of words."""
    if len(scalars) != count:
        raise ValueError(f"{len(scalars)} scalars do not fit {count} elements")
    return rows_of(scalars, SCALAR_LENGTH)


def new_blocks(count: int) -> Words:
    """Room for so many elements."""
    return np.empty((-(-count // LANES), POINT), np.uint64)


def new_flags(blocks: Words) -> Words:
    """A word for every lane of these blocks."""
    return np.empty(len(blocks) * LANES, np.uint64)


def padded_rows(rows: Words, first: int, blocks: int) -> Words:
    """The rows of whole blocks, zero before lane `first` and after the last row."""
    if first == 0 and len(rows) == blocks * LANES:
        return rows
    padded = np.zeros((blocks * LANES, rows.shape[1]), np.uint64)
    padded[first : first + len(rows)] = rows
    return padded


def _aligned(words: int) -> Words:
    """Zeros that begin at a multiple of 64 bytes: vectors across two cache lines are slow."""
    spare = 64 // 8
    content: Words = np.zeros(words + spare, np.uint64)
    begin = -content.ctypes.data // 8 % spare
    return content[begin : begin + words]


def own_elements(elements: Elements) -> LaneElements:
    """Elements that were made here; TypeError for those of another back end."""
    if not isinstance(elements, LaneElements):
        raise TypeError("these elements belong to another back end of the group")
    return elements
