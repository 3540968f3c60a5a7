"""Arithmetic modulo p = 2^255 - 19 in lanes, with bounds that are proved while code is generated.

A `Field` value is one field element in each lane, in limbs that may be larger than their nominal width. It
knows for every limb the largest and the smallest value that any input can give it. Additions and
subtractions only move these bounds; a multiplication or a store first carries its operands, if and only if
a bound asks for it. A bound that does not hold stops code generation with `BoundError`, so what runs is
correct for all inputs, not for those that were tested.

The two radices are in `field51` and `field25`; here is what they share. Everything is constant-time: masks
instead of branches. Masks have all bits of a lane set, or none.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from purposematch.protocol.simd.lanes import Lanes, Vector
from purposematch.protocol.simd.words import limbs_of, positions, to_limbs, to_words

__all__ = ["PRIME", "BoundError", "Field"]

PRIME = 2**255 - 19
LANE = 2**64
"""What a lane must stay below."""
WORDS = 4
"""64-bit words of an encoded field element."""


class BoundError(Exception):
    """A limb could overflow for some input; raised while code is generated."""


class Field(ABC):
    """A field element in each lane.

    Args:
        lanes: the code that is being written.
        limbs: a vector for each limb.
        upper: the largest value of each limb.
        lower: the smallest value of each limb; zero if not given.
    """

    WIDTHS: ClassVar[list[int]]
    """Nominal bits of each limb."""
    STORED: ClassVar[list[int]]
    """The largest limbs of an element in memory."""
    FACTOR: ClassVar[list[int]]
    """The largest limbs that a multiplication can read."""

    __slots__ = ("lanes", "limbs", "lower", "upper")

    def __init__(
        self, lanes: Lanes, limbs: Sequence[Vector], upper: Sequence[int], lower: Sequence[int] | None = None
    ) -> None:
        """Checks the bounds.

        Raises:
            BoundError: a lane could overflow.
        """
        self.lanes = lanes
        self.limbs = list(limbs)
        self.upper = list(upper)
        self.lower = [0] * len(self.limbs) if lower is None else list(lower)
        if max(self.upper) >= LANE:
            raise BoundError("a lane can overflow")

    # What a radix brings.

    @abstractmethod
    def multiply(self, other: Self, cover: Sequence[int] | None = None) -> Self:
        """The product.

        Args:
            other: the other factor.
            cover: where it costs nothing, a multiple of p whose limbs are at least these is added, so that
                what has these bounds can be subtracted from the product as it is.
        """

    @abstractmethod
    def square(self, cover: Sequence[int] | None = None) -> Self:
        """The square; `cover` as in `multiply`."""

    @abstractmethod
    def _carry(self) -> None:
        """Moves what exceeds the widths of the limbs to the next limb, once."""

    # Constants and memory.

    @classmethod
    def constant(cls, lanes: Lanes, value: int) -> Self:
        """The same element in every lane."""
        limbs = limbs_of(value % PRIME, cls.WIDTHS)
        return cls(lanes, [lanes.constant(limb) for limb in limbs], limbs)

    @classmethod
    def load(cls, lanes: Lanes, pointer: Any, slot: int = 0, bound: Sequence[int] | None = None) -> Self:
        """Reads element number `slot`; whoever stored it has kept `bound`, which is `STORED` if not given."""
        count = len(cls.WIDTHS)
        limbs = [lanes.load(pointer, slot * count + i) for i in range(count)]
        return cls(lanes, limbs, cls.STORED if bound is None else bound)

    def store(self, pointer: Any, slot: int = 0, bound: Sequence[int] | None = None) -> None:
        """Writes element number `slot`, carried to `bound`."""
        self.carry_to(self.STORED if bound is None else bound)
        for i, limb in enumerate(self.limbs):
            self.lanes.store(pointer, slot * len(self.limbs) + i, limb)

    @classmethod
    def from_words(cls, lanes: Lanes, words: Sequence[Vector]) -> Self:
        """The low 255 bits of four words."""
        return cls(lanes, to_limbs(words, cls.WIDTHS), [(1 << width) - 1 for width in cls.WIDTHS])

    def words(self) -> list[Vector]:
        """The canonical value in four words."""
        return to_words(self.freeze().limbs, self.WIDTHS, WORDS)

    # Arithmetic.

    def __add__(self, other: Self) -> Self:
        self._make_room(other, lambda: [a + b for a, b in zip(self.upper, other.upper, strict=True)])
        return self._zip(
            lambda a, b: a + b,
            other,
            [a + b for a, b in zip(self.upper, other.upper, strict=True)],
            [a + b for a, b in zip(self.lower, other.lower, strict=True)],
        )

    def __sub__(self, other: Self) -> Self:
        if all(a >= b for a, b in zip(self.lower, other.upper, strict=True)):
            lower = [a - b for a, b in zip(self.lower, other.upper, strict=True)]
            return self._zip(lambda a, b: a - b, other, self.upper, lower)
        self._make_room(
            other, lambda: [a + b for a, b in zip(self.upper, self._cover(other.upper), strict=True)]
        )
        cover = self._cover(other.upper)
        limbs = [a + c - b for a, b, c in zip(self.limbs, other.limbs, cover, strict=True)]
        return type(self)(self.lanes, limbs, [a + c for a, c in zip(self.upper, cover, strict=True)])

    def __neg__(self) -> Self:
        cover = self._cover(self.upper)
        limbs = [self.lanes.constant(c) - a for a, c in zip(self.limbs, cover, strict=True)]
        return type(self)(self.lanes, limbs, cover)

    def __mul__(self, other: Self) -> Self:
        return self.multiply(other)

    def double(self) -> Self:
        """Twice the element."""
        return self + self

    def carry_to(self, bound: Sequence[int]) -> Self:
        """Carries until no limb exceeds `bound`. The value is the same, so this changes the element itself.

        Raises:
            BoundError: carrying does not get there.
        """
        for _ in range(4):
            if all(high <= most for high, most in zip(self.upper, bound, strict=True)):
                return self
            self._carry()
            self.lower = [0] * len(self.limbs)
        raise BoundError("carrying does not reach the bound")

    def freeze(self) -> Self:
        """The canonical value, below p.

        Raises:
            BoundError: the value could be 2p or more.
        """
        self.carry_to(self.STORED)
        if sum(high << at for high, at in zip(self.upper, positions(self.WIDTHS), strict=True)) >= 2 * PRIME:
            raise BoundError("a value can be 2p or more")
        # The carry out of value + 19 is 1 where value >= p; there value - p is value + 19 - 2^255.
        carry = self.lanes.constant(19)
        for limb, width in zip(self.limbs, self.WIDTHS, strict=True):
            carry = (limb + carry) >> width
        carry = carry + (carry << 1) + (carry << 4)
        limbs = []
        for limb, width in zip(self.limbs, self.WIDTHS, strict=True):
            total = limb + carry
            limbs.append(total & ((1 << width) - 1))
            carry = total >> width
        return type(self)(self.lanes, limbs, [(1 << width) - 1 for width in self.WIDTHS])

    # Masks.

    def select(self, other: Self, mask: Vector) -> Self:
        """`other` in the lanes of the mask, this element elsewhere."""
        upper = [max(a, b) for a, b in zip(self.upper, other.upper, strict=True)]
        return self._zip(lambda a, b: a ^ ((a ^ b) & mask), other, upper, None)

    def negate_if(self, mask: Vector) -> Self:
        """The negative in the lanes of the mask."""
        self.carry_to(self.STORED)
        return self.select(-self, mask)

    def absolute(self) -> Self:
        """The one of x and -x that is not negative (RFC 9496 section 4.1)."""
        return self.negate_if(self.is_negative())

    def is_negative(self) -> Vector:
        """The mask of canonical values that are odd (RFC 9496 section 4.1)."""
        return self.lanes.constant(0) - (self.freeze().limbs[0] & 1)

    def is_zero(self) -> Vector:
        """The mask of zeros."""
        return self.freeze().is_canonical(0)

    def is_canonical(self, value: int) -> Vector:
        """The mask of lanes with this constant; this element must come from `freeze`."""
        constant = limbs_of(value % PRIME, self.WIDTHS)
        first, *others = [limb ^ part for limb, part in zip(self.limbs, constant, strict=True)]
        for difference in others:
            first = first | difference
        return first.equals(0)

    def _zip(
        self,
        combine: Callable[[Vector, Vector], Vector],
        other: Self,
        upper: Sequence[int],
        lower: Sequence[int] | None,
    ) -> Self:
        limbs = [combine(a, b) for a, b in zip(self.limbs, other.limbs, strict=True)]
        return type(self)(self.lanes, limbs, upper, lower)

    def _make_room(self, other: Self, result: Callable[[], Sequence[int]]) -> None:
        """Carries the larger operand while the result could overflow."""
        while max(result()) >= LANE:
            larger = self if max(self.upper) >= max(other.upper) else other
            larger.carry_to(larger.STORED)

    @classmethod
    def _cover(cls, bound: Sequence[int]) -> list[int]:
        """The limbs of the least multiple of p that are at least `bound`, limb by limb."""
        prime = limbs_of(PRIME, cls.WIDTHS)
        times = max(-(-high // limb) for high, limb in zip(bound, prime, strict=True))
        return [times * limb for limb in prime]
