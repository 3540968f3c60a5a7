"""Steps on bit planes: 512 slots side by side, one bit of each in a plane of eight words.

Statement: slot 8 i + w of a column is bit i of word w of each of its planes. A vector holds LANES words of a
plane, so a column is one *half* with AVX-512 and two with AVX2. Steps: turn rows (the blocks of slots) into
planes and back, expand a tree into its planes, and apply a public binary matrix to planes by tables of five.

Source: the expansion is that of SoftSpokenOT (ePrint 2022/192): a leaf r_x is stretched to a stream, block t
being MMO_stream(r_x + t), t in the low word; u is the XOR of all streams and plane b of V the XOR of
those whose x has bit b. The tables are the method of the four Russians.

Semi-honest, experimental, no published proof. The time does not depend on secrets; nothing is looked up by
them.
"""

from typing import Any, Final

from llvmlite import ir

from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.vole.blocks import (
    broadcast,
    constant,
    encrypt,
    load,
    load_keys,
    shuffle,
    store,
    words_at,
)
from purposematch.protocol.vole.parameters import COLUMN, LEAVES, TREE_DEPTH

__all__ = [
    "COLUMN_WORDS",
    "FOLDED",
    "HALVES",
    "TABLE",
    "clear",
    "expand_known",
    "expand_own",
    "fold",
    "read_rows",
    "tabulate",
    "transpose",
    "write_rows",
]

COLUMN_WORDS: Final = COLUMN // 64
"""Words of a plane of a column."""
HALVES: Final = COLUMN_WORDS // LANES
"""Vectors of a plane of a column."""
TABLE: Final = LEAVES * LANES
"""Words of a table of all sums of five planes."""
FOLDED: Final = 4
"""Tables that are folded into sums at a time."""
_BITS: Final = 64
_WORD = ir.IntType(64)


@step(2)
def transpose(lanes: Lanes, target: Any, source: Any) -> None:
    """Transposes the 64 x 64 bits in each lane of 64 vectors: bit b of vector i is then bit i of vector b."""
    rows = [lanes.load(source, i) for i in range(_BITS)]
    distance = _BITS // 2
    while distance:
        mask = sum(1 << bit for bit in range(_BITS) if not bit & distance)
        for i in range(_BITS):
            if not i & distance:
                low, high = rows[i], rows[i + distance]
                swapped = ((low >> distance) ^ high) & mask
                rows[i], rows[i + distance] = low ^ (swapped << distance), high ^ swapped
        distance //= 2
    for i, row in enumerate(rows):
        lanes.store(target, i, row)


@step(1, 2)
def read_rows(lanes: Lanes, target: Any, rows: Any, half: Any) -> None:
    """Rows of a column, from an address, as 64 vectors of low words and 64 of high words behind a pointer."""

    def body(index: Any, state: list[Vector]) -> list[Vector]:
        first, second = (load(lanes, words_at(lanes, rows, place)) for place in _places(lanes, index, half))
        at = lanes.builder.mul(index, ir.Constant(_WORD, LANES))
        for side in (0, 1):
            words = shuffle(lanes, first, second, range(side, 2 * LANES, 2))
            offset = lanes.builder.add(at, ir.Constant(_WORD, side * _BITS * LANES))
            store(lanes, lanes.builder.gep(target, [offset]), words)
        return state

    lanes.loop(_BITS, [], body)


@step(1, 2)
def write_rows(lanes: Lanes, source: Any, rows: Any, half: Any) -> None:
    """The reverse of `read_rows`."""
    mixed = [i // 2 + i % 2 * LANES for i in range(2 * LANES)]

    def body(index: Any, state: list[Vector]) -> list[Vector]:
        at = lanes.builder.mul(index, ir.Constant(_WORD, LANES))
        low, high = (
            load(lanes, lanes.builder.gep(source, [lanes.builder.add(at, ir.Constant(_WORD, offset))]))
            for offset in (0, _BITS * LANES)
        )
        for part, place in enumerate(_places(lanes, index, half)):
            block = shuffle(lanes, low, high, mixed[part * LANES :][:LANES])
            store(lanes, words_at(lanes, rows, place), block)
        return state

    lanes.loop(_BITS, [], body)


def _places(lanes: Lanes, index: Any, half: Any) -> list[Any]:
    """Where the two vectors of rows are that bit `index` of the words of a half stands for."""
    builder = lanes.builder
    row = builder.mul(index, ir.Constant(_WORD, 2 * COLUMN_WORDS))
    begin = builder.add(row, builder.mul(half, ir.Constant(_WORD, 2 * LANES)))
    return [begin, builder.add(begin, ir.Constant(_WORD, LANES))]


def _expanded(
    lanes: Lanes, keys: Any, leaves: Any, counter: Any, *, whole: bool
) -> tuple[list[Vector], Vector]:
    """The planes of V, and u if it is asked for, of one tree, four leaves at a time."""
    round_keys = load_keys(lanes, keys)
    count = lanes.splat(counter) & constant(lanes, [(1 << 64) - 1, 0] * (LANES // 2))
    counters = count + constant(lanes, [lane // 2 if lane % 2 == 0 else 0 for lane in range(LANES)])
    zero = lanes.constant(0)
    planes, total = [zero] * TREE_DEPTH, zero
    for first in range(0, LEAVES, 4):
        seeds = [
            broadcast(lanes, words_at(lanes, leaves, 2 * leaf)) ^ counters for leaf in range(first, first + 4)
        ]
        encrypted = encrypt(lanes, round_keys, seeds)
        a, b, c, d = (one ^ seed for one, seed in zip(encrypted, seeds, strict=True))
        high = c ^ d
        planes[0] = planes[0] ^ b ^ d
        planes[1] = planes[1] ^ high
        together = a ^ b ^ high
        for bit in range(2, TREE_DEPTH):
            if first >> bit & 1:
                planes[bit] = planes[bit] ^ together
        if whole:
            total = total ^ together
    return planes, total


def _tabulate(lanes: Lanes, table: Any, planes: list[Vector]) -> None:
    """All 32 sums of five planes."""
    sums = [lanes.constant(0)]
    for plane in planes:
        sums += [one ^ plane for one in sums]
    for i, one in enumerate(sums):
        lanes.store(table, i, one)


@step(2, 4)
def expand_own(
    lanes: Lanes, table: Any, word: Any, keys: Any, leaves: Any, counter: Any, corrections: Any
) -> None:
    """Expands a tree whose leaves are all known: stores the table of V and the correction u + word."""
    planes, total = _expanded(lanes, keys, leaves, counter, whole=True)
    store(lanes, words_at(lanes, corrections), total ^ load(lanes, word))
    _tabulate(lanes, table, planes)


@step(1, 5)
def expand_known(
    lanes: Lanes, table: Any, keys: Any, leaves: Any, counter: Any, corrections: Any, symbol: Any
) -> None:
    """Expands a tree but for one leaf, in place 0: stores the table of W, corrections added.

    The symbol is at an address, a word of ones or zeros for each of its bits.
    """
    planes, _ = _expanded(lanes, keys, leaves, counter, whole=False)
    correction = load(lanes, words_at(lanes, corrections))
    for bit in range(TREE_DEPTH):
        mask = lanes.splat(lanes.builder.load(words_at(lanes, symbol, bit)))
        planes[bit] = planes[bit] ^ (correction & mask)
    _tabulate(lanes, table, planes)


@step(2)
def tabulate(lanes: Lanes, table: Any, planes: Any) -> None:
    """The table of five planes that stand behind a pointer."""
    _tabulate(lanes, table, [lanes.load(planes, i) for i in range(TREE_DEPTH)])


@step(2, 2)
def fold(lanes: Lanes, sums: Any, tables: Any, masks: Any, outputs: Any) -> None:
    """Adds to each of some sums one entry of each of four tables; the masks say which, four bytes a sum."""
    builder = lanes.builder
    octet = ir.IntType(8)

    def body(index: Any, state: list[Vector]) -> list[Vector]:
        place = builder.gep(sums, [builder.mul(index, ir.Constant(_WORD, LANES))])
        total = load(lanes, place)
        mask = builder.inttoptr(masks, octet.as_pointer())
        for table in range(FOLDED):
            at = builder.add(builder.mul(index, ir.Constant(_WORD, FOLDED)), ir.Constant(_WORD, table))
            entry = builder.zext(builder.load(builder.gep(mask, [at])), _WORD)
            words = builder.add(
                builder.mul(entry, ir.Constant(_WORD, LANES)), ir.Constant(_WORD, table * TABLE)
            )
            total = total ^ load(lanes, builder.gep(tables, [words]))
        store(lanes, place, total)
        return state

    lanes.loop(outputs, [], body)


@step(1, 1)
def clear(lanes: Lanes, target: Any, vectors: Any) -> None:
    """Stores zeros."""

    def body(index: Any, state: list[Vector]) -> list[Vector]:
        place = lanes.builder.gep(target, [lanes.builder.mul(index, ir.Constant(_WORD, LANES))])
        store(lanes, place, lanes.constant(0))
        return state

    lanes.loop(vectors, [], body)
