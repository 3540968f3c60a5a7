"""The binary code that stretches the values of the key-value store: a shortened, extended BCH code.

Statement: `parity_rows(l, d)` gives the parity part of a systematic generator matrix of a linear code of l
message bits whose words differ in at least d places. Message i is bit i of a value; a code word is the l
message bits, then r bits of the BCH code, then one bit that makes the weight even.

Source: narrow-sense primitive BCH codes of length 255 (Bose, Ray-Chaudhuri 1960; Hocquenghem 1959) over
GF(2^8) with x^8 + x^4 + x^3 + x^2 + 1; their use in place of repetition is from OOS (ePrint 2016/933) and
PaXoS (ePrint 2020/193). The BCH bound gives an odd distance 2t + 1, the parity bit one more, and shortening
loses nothing. Parameters: see `purposematch.protocol.vole.parameters`.

Semi-honest, experimental, no published proof. Everything here is public.
"""

from functools import cache
from typing import Final

__all__ = ["LENGTH", "check_bits", "generator_polynomial", "parity_rows"]

LENGTH: Final = 255
"""Bits of a word of the code before it is shortened and extended."""
_REDUCTION: Final = 0x11D
"""x^8 + x^4 + x^3 + x^2 + 1, of which x is a primitive root."""


def _powers() -> list[int]:
    powers = [1]
    for _ in range(LENGTH - 1):
        doubled = powers[-1] << 1
        powers.append(doubled ^ _REDUCTION if doubled >> 8 else doubled)
    return powers


_POWERS: Final = _powers()
_LOGARITHMS: Final = {power: exponent for exponent, power in enumerate(_POWERS)}


def _times(a: int, b: int) -> int:
    return _POWERS[(_LOGARITHMS[a] + _LOGARITHMS[b]) % LENGTH] if a and b else 0


def _minimal_polynomial(coset: list[int]) -> int:
    """The product of x + alpha^j over a cyclotomic coset; its coefficients are bits."""
    coefficients = [1]
    for exponent in coset:
        longer = [0, *coefficients]
        for degree, coefficient in enumerate(coefficients):
            longer[degree] ^= _times(coefficient, _POWERS[exponent])
        coefficients = longer
    return sum(bit << degree for degree, bit in enumerate(coefficients))


@cache
def generator_polynomial(errors: int) -> int:
    """The generator of the code that corrects so many errors; bit b is the coefficient of x^b."""
    seen: set[int] = set()
    generator = 1
    for root in range(1, 2 * errors, 2):
        coset = [root]
        while (following := 2 * coset[-1] % LENGTH) != root:
            coset.append(following)
        if min(coset) in seen:
            continue
        seen.add(min(coset))
        factor, product = _minimal_polynomial(coset), 0
        for degree in range(factor.bit_length()):
            if factor >> degree & 1:
                product ^= generator << degree
        generator = product
    return generator


def check_bits(distance: int) -> int:
    """Bits that the code adds to a message, for an even minimum distance."""
    if distance % 2:
        raise ValueError("the distance of an extended code is even")
    return generator_polynomial(distance // 2 - 1).bit_length()


@cache
def parity_rows(bits: int, distance: int) -> tuple[int, ...]:
    """The check bits of each unit message, bit b of a row being check bit b.

    Args:
        bits: bits of a message.
        distance: in how many places two words differ at least; even.

    Raises:
        ValueError: there is no such code of length 255.
    """
    width = check_bits(distance)
    degree = width - 1
    if bits + degree > LENGTH:
        raise ValueError("so long a message has no word in this code")
    generator = generator_polynomial(distance // 2 - 1)
    rows = []
    remainder = generator ^ 1 << degree
    for _ in range(bits):
        rows.append(remainder | (1 + remainder.bit_count()) % 2 << degree)
        remainder <<= 1
        if remainder >> degree:
            remainder ^= generator
    return tuple(rows)
