"""The field in radix 2^51, five limbs, for AVX-512 IFMA.

``vpmadd52`` multiplies 52-bit numbers and adds the low or the high half of the product. With limbs of 51 bits
the high half belongs to the next limb, doubled.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from purposematch.protocol.simd.field import LANE, PRIME, BoundError, Field
from purposematch.protocol.simd.lanes import Lanes, Vector
from purposematch.protocol.simd.words import limbs_of

__all__ = ["Field51"]

LIMBS = 5
WIDTH = 51
MULTIPLIER = 2**52
"""What an operand of vpmadd52 must stay below: higher bits are ignored without a sign."""


class _Column:
    """The sum of one limb of a product, and its bound."""

    def __init__(self, lanes: Lanes, start: int = 0) -> None:
        self.vector = lanes.constant(start)
        self.upper = start

    def low(self, x: Vector, y: Vector, bound: int) -> None:
        """Adds the low half of x*y, which is at most `bound`."""
        self._set(self.vector.multiply_add_low(x, y), self.upper + min(bound, MULTIPLIER - 1))

    def high(self, x: Vector, y: Vector, bound: int) -> None:
        """Adds the high half of x*y, which is at most `bound`."""
        self._set(self.vector.multiply_add_high(x, y), self.upper + bound // MULTIPLIER)

    def double(self) -> None:
        """Doubles the sum."""
        self._set(self.vector + self.vector, 2 * self.upper)

    def add(self, vector: Vector, upper: int) -> None:
        """Adds a vector that is at most `upper`."""
        self._set(self.vector + vector, self.upper + upper)

    def _set(self, vector: Vector, upper: int) -> None:
        if upper >= LANE:
            raise BoundError("a column can overflow")
        self.vector, self.upper = vector, upper


class Field51(Field):
    """A field element in each lane, five limbs of 51 bits."""

    WIDTHS: ClassVar[list[int]] = [WIDTH] * LIMBS
    STORED: ClassVar[list[int]] = [2**51 + 2**18] * LIMBS
    FACTOR: ClassVar[list[int]] = [MULTIPLIER - 1] * LIMBS

    __slots__ = ()

    def _carry(self) -> None:
        nominal = (1 << WIDTH) - 1
        carries = [limb >> WIDTH for limb in self.limbs]
        most = [high >> WIDTH for high in self.upper]
        if 19 * most[4] >= MULTIPLIER:
            raise BoundError("a carry can overflow")
        kept = [limb & nominal for limb in self.limbs]
        upper = [min(high, nominal) for high in self.upper]
        first = kept[0].multiply_add_low(carries[4], self.lanes.constant(19))
        self.limbs = [first] + [kept[i] + carries[i - 1] for i in range(1, LIMBS)]
        self.upper = [upper[0] + 19 * most[4]] + [upper[i] + most[i - 1] for i in range(1, LIMBS)]

    def multiply(self, other: "Field51", cover: Sequence[int] | None = None) -> "Field51":
        """See `Field.multiply`: 50 multiply-adds. 2^255 = 19, so column k + 5 goes 19 times into column k."""
        if other is self:
            return self.square(cover)
        a, b = self.carry_to(self.FACTOR), other.carry_to(self.FACTOR)
        lower = _multiple(cover)

        def low(column: _Column, k: int) -> None:
            for i, j in _pairs(k):
                column.low(a.limbs[i], b.limbs[j], a.upper[i] * b.upper[j])

        def high(column: _Column, k: int) -> None:
            for i, j in _pairs(k):
                column.high(a.limbs[i], b.limbs[j], a.upper[i] * b.upper[j])

        upper_half = []
        for k in range(LIMBS, 2 * LIMBS):
            # The cover comes free of charge: it is where the sum starts. 38 times it stays: 2 * 19.
            column = _Column(self.lanes, lower[k - LIMBS] // 38)
            high(column, k - 1)
            column.double()
            low(column, k)
            upper_half.append(column)
        columns = []
        for k, folded in enumerate(upper_half):
            # 19 u + 2 h is u + 2 (9 u + h): the high halves h are doubled on the way.
            column = _Column(self.lanes)
            column.vector = (folded.vector << 3) + folded.vector
            column.upper = 9 * folded.upper
            if k:
                high(column, k - 1)
            column.double()
            column.add(folded.vector, folded.upper)
            low(column, k)
            columns.append(column)
        return self._from_columns(columns, lower)

    def square(self, cover: Sequence[int] | None = None) -> "Field51":
        """See `Field.square`: 30 multiply-adds; products of two different limbs count twice."""
        a = self.carry_to(self.FACTOR)
        lower = _multiple(cover)

        def column_of(k: int, folded: _Column | None) -> _Column:
            """diagonal_low(k) + 2 (cross_low(k) + diagonal_high(k-1) + 2 cross_high(k-1)) + 19 folded."""
            start = lower[k - LIMBS] if folded is None else 0
            column = _Column(self.lanes, start // 76 if k < 2 * LIMBS - 1 else 0)
            if folded is not None:
                column.vector, column.upper = folded.vector << 2, 4 * folded.upper
            for i, j in _pairs(k - 1):
                if i < j:
                    column.high(a.limbs[i], a.limbs[j], a.upper[i] * a.upper[j])
            column.double()
            if k == 2 * LIMBS - 1:
                # Nothing has been added yet: this column has no cross products.
                column.add(self.lanes.constant(start // 38), start // 38)
            if folded is not None:
                column.add(folded.vector, folded.upper)
            for i, j in _pairs(k - 1):
                if i == j:
                    column.high(a.limbs[i], a.limbs[i], a.upper[i] ** 2)
            for i, j in _pairs(k):
                if i < j:
                    column.low(a.limbs[i], a.limbs[j], a.upper[i] * a.upper[j])
            column.double()
            if folded is not None:
                column.add(folded.vector, folded.upper)
            for i, j in _pairs(k):
                if i == j:
                    column.low(a.limbs[i], a.limbs[i], a.upper[i] ** 2)
            return column

        upper_half = [column_of(k, None) for k in range(LIMBS, 2 * LIMBS)]
        return self._from_columns([column_of(k, folded) for k, folded in enumerate(upper_half)], lower)

    def _from_columns(self, columns: Sequence[_Column], lower: Sequence[int]) -> "Field51":
        return Field51(self.lanes, [one.vector for one in columns], [one.upper for one in columns], lower)


def _pairs(k: int) -> Iterator[tuple[int, int]]:
    """The limbs whose product belongs to column k."""
    return ((i, k - i) for i in range(LIMBS) if 0 <= k - i < LIMBS)


def _multiple(cover: Sequence[int] | None) -> list[int]:
    """The limbs of the least multiple of 76 p that are at least `cover`; zeros without a cover."""
    prime = limbs_of(PRIME, [WIDTH] * LIMBS)
    times = max(-(-high // (76 * limb)) for high, limb in zip(cover, prime, strict=True)) if cover else 0
    return [76 * times * limb for limb in prime]
