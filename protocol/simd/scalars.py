"""Arithmetic modulo the group order l = 2^252 + 27742317777372353535851937790883648493, as steps in lanes.

Montgomery's multiplication with R = 2^260, in five limbs of 52 bits (AVX-512 IFMA) or ten of 26 bits. A value
between two steps is below 2 l; multiplications keep that, since 4 l < R. Everything is constant-time,
including the recoding of a scalar into the signed digits that choose from a table.
"""

from collections.abc import Sequence
from typing import Any, Final

from purposematch.protocol.simd.field import BoundError
from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.points import DIGIT_BITS, MASKS, TABLE_ENTRIES
from purposematch.protocol.simd.processor import IFMA, LANES
from purposematch.protocol.simd.words import limbs_of, to_limbs, to_words

__all__ = [
    "NARROW_BITS",
    "ORDER",
    "SCALAR",
    "SCALAR_WORDS",
    "WIDE_BITS",
    "WINDOWS",
    "choice",
    "copy_scalar",
    "digit_bias",
    "from_montgomery",
    "montgomery",
    "public_digits",
    "recode",
    "recode_odd",
    "recode_public",
    "reduce_wide",
    "to_montgomery",
]

ORDER: Final = 2**252 + 27742317777372353535851937790883648493
BITS: Final = 52 if IFMA else 26
WIDTHS: Final = [BITS] * (260 // BITS)
R: Final = 2**260
SCALAR: Final = len(WIDTHS) * LANES
"""Words of one stored scalar, all lanes."""
SCALAR_WORDS: Final = 4
"""64-bit words of an encoded scalar."""
WINDOWS: Final = 64
"""Digits of a scalar."""
BIAS: Final = sum(TABLE_ENTRIES << (DIGIT_BITS * i) for i in range(WINDOWS))
"""Added to a scalar, it makes every digit four plain bits, 8 too large. A scalar is below 2^253, so the sum
is below 2^256."""
WIDE_BITS: Final = 11
"""Bits of a digit of a public scalar, in long sums."""
NARROW_BITS: Final = 8
"""The same in short sums, which have fewer points than wide digits have sizes."""
SCALAR_BITS: Final = 253
"""Bits of a scalar."""

_Limbs = list[Vector]


def _multiply(lanes: Lanes, a: Sequence[Vector], b: Sequence[Vector]) -> _Limbs:
    """a * b / R, below 2 l if a * b is below R * l; limbs of a and b must obey their width."""
    zero = lanes.constant(0)
    order = limbs_of(ORDER, WIDTHS)
    (inverse, *_) = limbs_of(-pow(ORDER, -1, R) % R, WIDTHS)
    columns = [zero] * (len(WIDTHS) + 1)
    upper = [0] * len(columns)
    most = (1 << BITS) - 1

    def accumulate(j: int, x: Vector, y: Vector) -> None:
        if IFMA:
            columns[j] = columns[j].multiply_add_low(x, y)
            columns[j + 1] = columns[j + 1].multiply_add_high(x, y)
            upper[j] += most
            upper[j + 1] += most
        else:
            columns[j] = columns[j] + x.multiply_halves(y)
            upper[j] += most * most

    for limb in a:
        for j, other in enumerate(b):
            accumulate(j, limb, other)
        if IFMA:
            quotient = zero.multiply_add_low(columns[0], lanes.constant(inverse))
        else:
            quotient = (columns[0] & most).multiply_halves(inverse) & most
        for j, part in enumerate(order):
            if part:
                accumulate(j, quotient, lanes.constant(part))
        # The lowest column is now a multiple of 2^BITS: only its carry goes on.
        columns[1] = columns[1] + (columns[0] >> BITS)
        upper[1] += upper[0] >> BITS
        columns, upper = [*columns[1:], zero], [*upper[1:], 0]
        if max(upper) >= 2**64:
            raise BoundError("a column of a scalar can overflow")
    return _carried(columns[: len(WIDTHS)])


def _carried(limbs: Sequence[Vector]) -> _Limbs:
    """Limbs within their width; the value must be below R."""
    done: _Limbs = []
    for limb in limbs:
        total = limb + (done[-1] >> BITS) if done else limb
        if done:
            done[-1] = done[-1] & ((1 << BITS) - 1)
        done.append(total)
    return done


def _subtract(limbs: Sequence[Vector], times: int) -> _Limbs:
    """Subtracts times * l in the lanes where the value is not below it."""
    lanes = limbs[0].lanes
    difference: _Limbs = []
    borrow = lanes.constant(0)
    for limb, part in zip(limbs, limbs_of(times * ORDER, WIDTHS), strict=True):
        total = limb - part - borrow
        borrow = total >> 63
        difference.append(total & ((1 << BITS) - 1))
    below = lanes.constant(0) - borrow
    return [new ^ ((new ^ old) & below) for new, old in zip(difference, limbs, strict=True)]


def _constant(lanes: Lanes, value: int) -> _Limbs:
    return [lanes.constant(limb) for limb in limbs_of(value, WIDTHS)]


def _load_limbs(lanes: Lanes, pointer: Any) -> _Limbs:
    return [lanes.load(pointer, i) for i in range(len(WIDTHS))]


def _load_words(lanes: Lanes, pointer: Any, count: int) -> list[Vector]:
    return [lanes.load(pointer, i) for i in range(count)]


def _store(lanes: Lanes, pointer: Any, vectors: Sequence[Vector]) -> None:
    for i, vector in enumerate(vectors):
        lanes.store(pointer, i, vector)


def _is_zero(limbs: Sequence[Vector]) -> Vector:
    first, *others = limbs
    for other in others:
        first = first | other
    return first.equals(0)


@step(2)
def copy_scalar(lanes: Lanes, target: Any, source: Any) -> None:
    """Copies a scalar."""
    _store(lanes, target, _load_limbs(lanes, source))


@step(3)
def montgomery(lanes: Lanes, target: Any, a: Any, b: Any) -> None:
    """a * b / R of two scalars below 2 l."""
    _store(lanes, target, _multiply(lanes, _load_limbs(lanes, a), _load_limbs(lanes, b)))


@step(3)
def to_montgomery(lanes: Lanes, target: Any, zero: Any, words: Any) -> None:
    """Four words times R, and the mask of those that are zero modulo l, where a one takes their place."""
    limbs = to_limbs(_load_words(lanes, words, SCALAR_WORDS), WIDTHS)
    scalar = _multiply(lanes, limbs, _constant(lanes, R * R % ORDER))
    is_zero = _is_zero(_subtract(scalar, 1))
    lanes.store(zero, 0, is_zero)
    one = _constant(lanes, R % ORDER)
    _store(lanes, target, [a ^ ((a ^ b) & is_zero) for a, b in zip(scalar, one, strict=True)])


@step(2)
def from_montgomery(lanes: Lanes, words: Any, scalar: Any) -> None:
    """A scalar divided by R, canonical, as four words."""
    limbs = _subtract(_multiply(lanes, _load_limbs(lanes, scalar), _constant(lanes, 1)), 1)
    _store(lanes, words, to_words(limbs, WIDTHS, SCALAR_WORDS))


@step(2)
def reduce_wide(lanes: Lanes, words: Any, wide: Any) -> None:
    """Eight words modulo l, canonical, as four words."""
    limbs = to_limbs(_load_words(lanes, wide, 2 * SCALAR_WORDS), WIDTHS * 2)
    low = _multiply(lanes, limbs[: len(WIDTHS)], _constant(lanes, R % ORDER))
    high = _multiply(lanes, limbs[len(WIDTHS) :], _constant(lanes, R * R % ORDER))
    # Each half is below 2 l.
    total = _carried([a + b for a, b in zip(low, high, strict=True)])
    reduced = _subtract(_subtract(total, 2), 1)
    _store(lanes, words, to_words(reduced, WIDTHS, SCALAR_WORDS))


def _canonical(lanes: Lanes, words: Any) -> _Limbs:
    """Four words modulo l. The highest bit is ignored, as libsodium does."""
    given = _load_words(lanes, words, SCALAR_WORDS)
    given[-1] = given[-1] & (2**63 - 1)
    return _subtract(_multiply(lanes, to_limbs(given, WIDTHS), _constant(lanes, R % ORDER)), 1)


def _half(limbs: Sequence[Vector]) -> _Limbs:
    """Half of a value modulo l: an odd one has l added, which is odd, too."""
    lanes = limbs[0].lanes
    nothing = lanes.constant(0)
    odd = nothing - (limbs[0] & 1)
    even = _carried([a + (b & odd) for a, b in zip(limbs, _constant(lanes, ORDER), strict=True)])
    above = [*even[1:], nothing]
    return [(a >> 1) | ((b & 1) << (BITS - 1)) for a, b in zip(even, above, strict=True)]


@step(3, 1)
def recode(lanes: Lanes, digits: Any, zero: Any, words: Any, halve: Any) -> None:
    """Four words to digits, 16 a word, each four bits and 8 too large; and the mask of zeros modulo l.

    With `halve`, which is 1 or 0 and public, the digits are those of half the scalar modulo l.
    """
    limbs = _canonical(lanes, words)
    lanes.store(zero, 0, _is_zero(limbs))
    wanted = lanes.constant(0) - lanes.splat(halve)
    scalar = [a ^ ((a ^ b) & wanted) for a, b in zip(limbs, _half(limbs), strict=True)]
    biased = _carried([a + b for a, b in zip(scalar, _constant(lanes, BIAS), strict=True)])
    _store(lanes, digits, to_words(biased, WIDTHS, SCALAR_WORDS))


@step(3, 1)
def recode_odd(lanes: Lanes, digits: Any, zero: Any, words: Any, negate: Any) -> None:
    """Four words to odd digits, 16 a word: four bits n each, which stand for 2n - 15; and the mask of zeros.

    The digits n make a number N with 2N - (2^256 - 1) = scalar modulo l, and all of them count, so none is a
    zero that would need an entry of its own. With `negate`, which is 1 or 0 and public, they are those of the
    scalar's negative: 15 - n for n.
    """
    limbs = _canonical(lanes, words)
    lanes.store(zero, 0, _is_zero(limbs))
    shifted = _carried([a + b for a, b in zip(limbs, _constant(lanes, (2**256 - 1) % ORDER), strict=True)])
    flip = lanes.constant(0) - lanes.splat(negate)
    # The sum is below 2 l, so its half is below 1.5 l and fits the 64 digits.
    _store(lanes, digits, [word ^ flip for word in to_words(_half(shifted), WIDTHS, SCALAR_WORDS)])


def digit_bias(bits: int) -> int:
    """What is added to a digit of a public scalar, so that it has no sign: half of its range."""
    return 1 << (bits - 1)


def public_digits(bits: int) -> int:
    """Digits of a public scalar. The last has no sign and no bias, and is not larger than half of the range.

    For wide digits that is so because a scalar from 2^252 on has zeros from bit 125 to 251, so nothing is
    carried there.
    """
    return -(-SCALAR_BITS // bits)


def _all_biases(bits: int) -> int:
    return sum(digit_bias(bits) << (bits * i) for i in range(public_digits(bits) - 1))


@step(3, 1)
def recode_public(lanes: Lanes, digits: Any, zero: Any, words: Any, narrow: Any) -> None:
    """Four words to digits side by side, each but the last `digit_bias` too large; the mask of zeros.

    With `narrow`, which is 1 or 0, they have NARROW_BITS, else WIDE_BITS.
    """
    limbs = _canonical(lanes, words)
    lanes.store(zero, 0, _is_zero(limbs))
    wanted = lanes.constant(0) - lanes.splat(narrow)
    pairs = zip(
        _constant(lanes, _all_biases(WIDE_BITS)), _constant(lanes, _all_biases(NARROW_BITS)), strict=True
    )
    bias = [wide ^ ((wide ^ short) & wanted) for wide, short in pairs]
    biased = _carried([a + b for a, b in zip(limbs, bias, strict=True)])
    _store(lanes, digits, to_words(biased, WIDTHS, SCALAR_WORDS))


@step(2, 1)
def choice(lanes: Lanes, masks: Any, word: Any, shift: Any) -> None:
    """The masks by which `points.choose` takes the digit at bit `shift` of a word of digits."""
    digit = (lanes.load(word) >> lanes.splat(shift)) & ((1 << DIGIT_BITS) - 1)
    lanes.store(masks, 0, digit.equals(TABLE_ENTRIES))
    for entry in range(1, TABLE_ENTRIES + 1):
        mask = digit.equals(TABLE_ENTRIES - entry)
        if TABLE_ENTRIES + entry < 1 << DIGIT_BITS:
            mask = mask | digit.equals(TABLE_ENTRIES + entry)
        lanes.store(masks, entry, mask)
    negative = ~(digit >> (DIGIT_BITS - 1)) & 1
    lanes.store(masks, MASKS - 1, lanes.constant(0) - negative)
