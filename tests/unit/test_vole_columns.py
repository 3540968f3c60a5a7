"""The correlation of both sides holds in every slot, for every length of values, and nothing leaks by it."""

import itertools
from functools import reduce
from operator import xor

import numpy as np
import pytest
import slow_vole as slow
from numpy.typing import NDArray

from purposematch.protocol.vole.columns import OwnColumns, PeerColumns, difference_rows
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.outputs import byte_tables
from purposematch.protocol.vole.parameters import COLUMN, Parameters, parameters
from purposematch.protocol.vole.session import Session
from purposematch.protocol.vole.trees import reordered

SIZES = {80: (300, 300), 88: (300, 2**32), 96: (2**24, 2**32)}
NONCES = (b"s" * 32, b"r" * 32)
Words = NDArray[np.uint64]


class Sides:
    """Random leaves, symbols and values, and what both sides make of them."""

    def __init__(self, bits: int, columns: int, first: int = 0) -> None:
        self.sizes = SIZES[bits]
        self.parameters: Parameters = parameters(*self.sizes)
        assert self.parameters.value_bits == bits
        random = np.random.default_rng([bits, columns, first])
        self.session = Session.of(self.parameters, b"binding", *NONCES)
        trees = self.parameters.code_length
        self.leaves: Words = random.integers(2**64, size=(trees, 32, 2), dtype=np.uint64)
        self.symbols = random.integers(32, size=trees, dtype=np.uint8)
        self.values: Words = random.integers(2**64, size=(columns * COLUMN, 2), dtype=np.uint64)
        self.values[:, 1] &= np.uint64(2 ** (bits - 64) - 1)
        self.own, self.peer = self.values.copy(), np.zeros_like(self.values)
        known = self.leaves.copy()
        known[np.arange(trees), self.symbols] = 0
        own = OwnColumns(self.session, self.parameters, self.leaves)
        self.corrections = own.correct(self.own, first)
        peer = PeerColumns(self.session, self.parameters, reordered(known, self.symbols), self.symbols)
        peer.take(self.corrections, first, self.peer)


def integers(blocks: Words) -> list[int]:
    return [int(low) | int(high) << 64 for low, high in blocks]


@pytest.mark.parametrize("bits", list(SIZES))
def test_every_slot_of_both_sides_differs_by_the_image_of_its_value(vole: Engine, bits: int) -> None:
    sides = Sides(bits, 130, 7)
    tables = byte_tables(difference_rows(sides.session, sides.parameters, sides.symbols))
    content = sides.values.view(np.uint8)[:, : bits // 8]
    expected = np.bitwise_xor.reduce([tables[i, content[:, i]] for i in range(bits // 8)])

    assert np.array_equal(sides.own ^ sides.peer, expected)


@pytest.mark.parametrize("bits", list(SIZES))
def test_columns_are_what_the_slow_implementation_says(vole: Engine, bits: int) -> None:
    sides = Sides(bits, 1, 3)
    session = slow.Session(sides.sizes, b"binding", NONCES)
    leaves = [integers(tree) for tree in sides.leaves]
    symbols = sides.symbols.tolist()
    corrections, own = slow.own_column(session, leaves, integers(sides.values), 3)

    assert b"".join(plane.to_bytes(64, "little") for plane in corrections) == sides.corrections
    assert integers(sides.own) == own
    assert integers(sides.peer) == slow.peer_column(session, leaves, symbols, corrections, 3)
    for value, a, b in zip(integers(sides.values)[:20], sides.own, sides.peer, strict=False):
        assert [slow.difference(session, symbols, value)] == integers((a ^ b).reshape(1, 2))


def test_columns_do_not_depend_on_which_are_computed_together(vole: Engine) -> None:
    together, alone = Sides(80, 2), Sides(80, 2)
    own = OwnColumns(alone.session, alone.parameters, alone.leaves)
    alone.own[:] = alone.values
    parts = [
        own.correct(alone.own[part], column)
        for column, part in enumerate((slice(0, COLUMN), slice(COLUMN, 2 * COLUMN)))
    ]

    assert b"".join(parts) == together.corrections
    assert np.array_equal(alone.own, together.own)


def test_corrections_of_lists_that_are_nothing_alike_look_alike(vole: Engine) -> None:
    """Chi-square over the bytes, with 255 degrees of freedom: 420 has a probability below 10^-9."""
    sides = Sides(80, 64)
    for values in (sides.values, np.zeros_like(sides.values)):
        own = OwnColumns(sides.session, sides.parameters, sides.leaves)
        content = np.frombuffer(own.correct(values.copy(), 0), np.uint8)
        counts = np.bincount(content, minlength=256)
        expected = len(content) / 256
        assert ((counts - expected) ** 2 / expected).sum() < 420


# All of it in small, for every secret there is: k = 2, three trees, a code of distance 2, two bits of value.

MASKS = [[1, 2, 3], [3, 1, 0], [0, 3, 2], [2, 2, 1], [1, 0, 3], [3, 3, 1]]
"""Which bits of the three symbols enter each of six bits of a compressed slot."""
ROWS = {0: [1, 0, 1, 0], 1: [0, 1, 1, 0], 2: [1, 1, 0, 1], 3: [0, 0, 1, 1], 4: [1, 1, 1, 1]}
VALUES = {0: 1, 1: 3, 2: 0, 3: 2, 4: 1}


def toy_word(value: int) -> list[int]:
    return [value & 1, value >> 1, value & 1 ^ value >> 1]


def toy_compressed(symbols: list[int]) -> int:
    parities = [
        sum((mask & symbol).bit_count() for mask, symbol in zip(row, symbols, strict=True)) for row in MASKS
    ]
    return sum((parity & 1) << o for o, parity in enumerate(parities))


def toy_store(chosen: tuple[int, ...]) -> tuple[int, ...] | None:
    for slots in itertools.product(range(4), repeat=4):
        sums = [reduce(xor, [s for bit, s in zip(ROWS[x], slots, strict=True) if bit]) for x in chosen]
        if sums == [VALUES[x] for x in chosen]:
            return slots
    return None


def test_the_toy_is_right_and_uniform_for_every_secret() -> None:
    """For all 64 secrets and all lists of at most two of five items, solvable ones.

    Both sides get the same for what is in both lists, and for each tree and each secret what the sender sees
    of the corrections is uniform, given all that it knows.
    """
    random = np.random.default_rng(3)
    checked = 0
    for chosen in itertools.chain.from_iterable(itertools.combinations(ROWS, size) for size in (0, 1, 2)):
        slots = toy_store(chosen)
        if slots is None:
            continue
        leaves = random.integers(2, size=(3, 4, 4)).tolist()  # tree, leaf, slot
        u = [[reduce(xor, (leaves[j][x][i] for x in range(4))) for i in range(4)] for j in range(3)]
        v = [[reduce(xor, (x * leaves[j][x][i] for x in range(4))) for i in range(4)] for j in range(3)]
        c = [[u[j][i] ^ toy_word(slots[i])[j] for i in range(4)] for j in range(3)]
        own = [toy_compressed([v[j][i] for j in range(3)]) for i in range(4)]
        for secret in itertools.product(range(4), repeat=3):
            w = [
                [
                    reduce(xor, ((x ^ secret[j]) * leaves[j][x][i] for x in range(4) if x != secret[j]))
                    ^ secret[j] * c[j][i]
                    for i in range(4)
                ]
                for j in range(3)
            ]
            for j, i in itertools.product(range(3), range(4)):
                assert w[j][i] == v[j][i] ^ secret[j] * toy_word(slots[i])[j]
            peer = [toy_compressed([w[j][i] for j in range(3)]) for i in range(4)]
            for y, row in ROWS.items():
                known = [s * d for s, d in zip(toy_word(VALUES[y]), secret, strict=True)]
                z = reduce(xor, (peer[i] for i in range(4) if row[i])) ^ toy_compressed(known)
                equal = z == reduce(xor, (own[i] for i in range(4) if row[i]))
                assert equal or y not in chosen
                checked += y in chosen
        for j, hidden in itertools.product(range(3), range(4)):
            rest = [reduce(xor, (leaves[j][x][i] for x in range(4) if x != hidden)) for i in range(4)]
            seen = {
                tuple(bit ^ rest[i] ^ toy_word(slots[i])[j] for i, bit in enumerate(stream))
                for stream in itertools.product(range(2), repeat=4)
            }
            assert len(seen) == 2**4
    assert checked > 1_000
