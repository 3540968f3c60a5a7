"""The workspace of a kernel: its map, and how what kernels are given gets in and out.

A batch of points is an array of blocks, (blocks, POINT) uint64, a block being one point in each lane. Byte
strings come and go as rows of 64-bit words, LANES rows a block. What is found out about single elements is
told in flags, one word a row: all bits set or none. Kernels know nothing of batches that end inside a block.

All scratch of a thread is in one workspace, a one-dimensional array of uint64. What depended on secrets is
overwritten with zeros before a kernel returns; registers and what LLVM spills to the stack are not.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from numba import njit

from purposematch.protocol.simd.points import ELEMENT, MASKS, PAIR, POINT, TABLE_ENTRIES
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.ristretto import RECORD
from purposematch.protocol.simd.scalars import SCALAR, SCALAR_WORDS, WIDE_BITS, digit_bias

__all__ = [
    "AT_BASE",
    "AT_CHOSEN",
    "AT_CHUNK",
    "AT_DIGITS",
    "AT_FLAG",
    "AT_MASKS",
    "AT_POINT",
    "AT_POWER",
    "AT_SCALAR_A",
    "AT_SCALAR_B",
    "AT_SUM",
    "AT_T0",
    "AT_T1",
    "AT_T2",
    "AT_T3",
    "AT_WORDS",
    "BUCKETS",
    "CHUNK_BLOCKS",
    "WORKSPACE",
    "gather",
    "inner",
    "read",
    "report",
    "scatter",
    "wipe",
    "write",
]

CHUNK_BLOCKS: Final = 64
"""The most blocks that one call works on, unless a kernel says otherwise: so many fit into the workspace."""

AT_WORDS: Final = 0
"""Byte strings of one block, up to 64 bytes a lane."""
AT_MASKS: Final = AT_WORDS + 8 * LANES
AT_FLAG: Final = AT_MASKS + MASKS * LANES
AT_BASE: Final = AT_FLAG + LANES
"""The power chain: what is raised, the result, and temporaries; a pair each."""
AT_POWER: Final = AT_BASE + PAIR * ELEMENT
AT_T0: Final = AT_POWER + PAIR * ELEMENT
AT_T1: Final = AT_T0 + PAIR * ELEMENT
AT_T2: Final = AT_T1 + PAIR * ELEMENT
AT_T3: Final = AT_T2 + PAIR * ELEMENT
AT_CHOSEN: Final = AT_T3 + PAIR * ELEMENT
AT_POINT: Final = AT_CHOSEN + POINT
AT_SUM: Final = AT_POINT + POINT
AT_DIGITS: Final = AT_SUM + POINT
AT_SCALAR_A: Final = AT_DIGITS + SCALAR_WORDS * LANES
AT_SCALAR_B: Final = AT_SCALAR_A + SCALAR
AT_CHUNK: Final = AT_SCALAR_B + SCALAR
"""From here on, what there is for every block of a chunk (records and running products), or a table, or the
buckets of a sum."""
BUCKETS: Final = digit_bias(WIDE_BITS) + 1
"""The most sizes of a public digit; nothing becomes of what has size zero."""
WORKSPACE: Final = AT_CHUNK + max(CHUNK_BLOCKS * (RECORD + ELEMENT), TABLE_ENTRIES * POINT, BUCKETS * POINT)
"""64-bit words of a workspace, which should begin at a multiple of 64 bytes."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def inner(function: _Function) -> _Function:
    """Makes a function that becomes part of every kernel that calls it: so each compiles its steps once."""
    options = {"inline": "always", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made: _Function = njit(nogil=True, error_model="numpy", boundscheck=False, **options)(function)
    return made


@inner
def gather(workspace: Any, at: int, rows: Any, block: int, words: int) -> None:
    """The first words of the rows of a block, lane by lane."""
    for word in range(words):
        for lane in range(LANES):
            workspace[at + word * LANES + lane] = rows[block * LANES + lane, word]


@inner
def scatter(rows: Any, block: int, workspace: Any, at: int) -> None:
    """Four words from every lane to the rows of a block."""
    for lane in range(LANES):
        for word in range(SCALAR_WORDS):
            rows[block * LANES + lane, word] = workspace[at + word * LANES + lane]


@inner
def report(flags: Any, block: int, workspace: Any, at: int) -> None:
    """Copies a mask to the flags of a block."""
    for lane in range(LANES):
        flags[block * LANES + lane] = workspace[at + lane]


@inner
def read(workspace: Any, at: int, points: Any, block: int) -> None:
    """Copies a block of points to the workspace. Loops compile faster than assignments to slices."""
    for i in range(POINT):
        workspace[at + i] = points[block, i]


@inner
def write(points: Any, block: int, workspace: Any, at: int) -> None:
    """Copies a block of points from the workspace."""
    for i in range(POINT):
        points[block, i] = workspace[at + i]


@inner
def wipe(workspace: Any, begin: int, end: int) -> None:
    """Overwrites a part of the workspace with zeros."""
    for i in range(begin, end):
        workspace[i] = 0
