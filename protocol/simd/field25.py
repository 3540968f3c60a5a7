"""The field in radix 2^25.5, ten limbs of 26 and 25 bits in turn, for AVX2 and AVX-512F.

``vpmuludq`` multiplies 32-bit numbers to 64 bits. A product of two odd limbs counts twice, because both begin
half a bit late.
"""

from collections.abc import Sequence
from typing import ClassVar

from purposematch.protocol.simd.field import LANE, BoundError, Field
from purposematch.protocol.simd.lanes import Vector

__all__ = ["Field25"]

LIMBS = 10
HALF = 2**32
"""What an operand of a multiplication must stay below."""


class Field25(Field):
    """A field element in each lane, ten limbs of 26 and 25 bits."""

    WIDTHS: ClassVar[list[int]] = [26, 25] * 5
    STORED: ClassVar[list[int]] = [2**26 + 2**15, 2**25 + 2**15] * 5
    FACTOR: ClassVar[list[int]] = [3 * 2**26 + 2**18, 3 * 2**25 + 2**17] * 5

    __slots__ = ()

    def _carry(self) -> None:
        if max(self.upper) < 2**38:
            self._carry_at_once()
        else:
            # Two chains, which the processor runs side by side, and the ends again.
            for i in (0, 4, 1, 5, 2, 6, 3, 7, 4, 8, 9, 0):
                self._carry_from(i)

    def _carry_at_once(self) -> None:
        carries = [limb >> width for limb, width in zip(self.limbs, self.WIDTHS, strict=True)]
        most = [high >> width for high, width in zip(self.upper, self.WIDTHS, strict=True)]
        kept = [limb & ((1 << width) - 1) for limb, width in zip(self.limbs, self.WIDTHS, strict=True)]
        upper = [min(high, (1 << width) - 1) for high, width in zip(self.upper, self.WIDTHS, strict=True)]
        carries = [carries[-1].multiply_halves(19), *carries[:-1]]
        most = [19 * most[-1], *most[:-1]]
        self.limbs = [limb + carry for limb, carry in zip(kept, carries, strict=True)]
        self.upper = [high + carry for high, carry in zip(upper, most, strict=True)]

    def _carry_from(self, i: int) -> None:
        width, following = self.WIDTHS[i], (i + 1) % LIMBS
        carry, most = self.limbs[i] >> width, self.upper[i] >> width
        if following == 0:
            carry, most = carry + (carry << 1) + (carry << 4), 19 * most
        self.limbs[i] = self.limbs[i] & ((1 << width) - 1)
        self.upper[i] = min(self.upper[i], (1 << width) - 1)
        self.limbs[following] = self.limbs[following] + carry
        self.upper[following] += most
        if self.upper[following] >= LANE:
            raise BoundError("a carry can overflow")

    def multiply(self, other: "Field25", cover: Sequence[int] | None = None) -> "Field25":
        """See `Field.multiply`: 100 multiplications. A cover would cost as much here as it saves."""
        if other is self:
            return self.square(cover)
        a, b = self.carry_to(self.FACTOR), other.carry_to(self.FACTOR)
        twice = [limb + limb for limb in a.limbs]
        nineteen = [limb.multiply_halves(19) for limb in b.limbs]
        if max(19 * high for high in b.upper) >= HALF or max(2 * high for high in a.upper) >= HALF:
            raise BoundError("a factor can overflow")
        limbs, upper = [], []
        for k in range(LIMBS):
            terms, most = [], 0
            for i in range(LIMBS):
                j = (k - i) % LIMBS
                both_odd, wraps = i % 2 and j % 2, i > k
                x = twice[i] if both_odd else a.limbs[i]
                terms.append(x.multiply_halves(nineteen[j] if wraps else b.limbs[j]))
                most += a.upper[i] * b.upper[j] * (2 if both_odd else 1) * (19 if wraps else 1)
            limbs.append(_sum(terms))
            upper.append(most)
        return Field25(self.lanes, limbs, upper)

    def square(self, cover: Sequence[int] | None = None) -> "Field25":
        """See `Field.square`: 55 multiplications; products of two different limbs count twice."""
        a = self.carry_to(self.FACTOR)
        twice = [limb + limb for limb in a.limbs]
        # What wraps round ends in limb 5 or later: 19 times it, and 38 times if it is odd.
        folds = {i: 38 if i % 2 else 19 for i in range(5, LIMBS)}
        folded = {i: a.limbs[i].multiply_halves(times) for i, times in folds.items()}
        if max(times * a.upper[i] for i, times in folds.items()) >= HALF or 2 * max(a.upper) >= HALF:
            raise BoundError("a factor can overflow")
        limbs, upper = [], []
        for k in range(LIMBS):
            terms, most = [], 0
            for i in range(LIMBS):
                j = (k - i) % LIMBS
                if j < i:
                    continue
                times = (1 if i == j else 2) * (2 if i % 2 and j % 2 else 1)
                if i + j == k:
                    x = twice[i] if times > 1 else a.limbs[i]
                    y = twice[j] if times == 4 else a.limbs[j]
                else:
                    times *= 19
                    x, y = (twice if times == 2 * folds[j] else a.limbs)[i], folded[j]
                    if times not in (folds[j], 2 * folds[j]):
                        raise BoundError("a product is not what it should be")
                terms.append(x.multiply_halves(y))
                most += times * a.upper[i] * a.upper[j]
            limbs.append(_sum(terms))
            upper.append(most)
        return Field25(self.lanes, limbs, upper)


def _sum(terms: Sequence[Vector]) -> Vector:
    total, *others = terms
    for term in others:
        total = total + term
    return total
