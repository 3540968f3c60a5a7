"""Byte strings in lanes: 64-bit little-endian words cut into limbs, and limbs put together to words."""

from collections.abc import Sequence

from purposematch.protocol.simd.lanes import Vector

__all__ = ["limbs_of", "positions", "to_limbs", "to_words"]

WORD_BITS = 64


def positions(widths: Sequence[int]) -> list[int]:
    """The bit at which each limb begins."""
    return [sum(widths[:i]) for i in range(len(widths))]


def limbs_of(value: int, widths: Sequence[int]) -> list[int]:
    """The limbs of a constant."""
    return [(value >> at) & ((1 << width) - 1) for at, width in zip(positions(widths), widths, strict=True)]


def to_limbs(words: Sequence[Vector], widths: Sequence[int]) -> list[Vector]:
    """Limbs of these widths, in bits, from the least significant; bits after the last one are dropped."""
    limbs = []
    for at, width in zip(positions(widths), widths, strict=True):
        word, shift = divmod(at, WORD_BITS)
        limb = words[word] >> shift
        if shift + width > WORD_BITS and word + 1 < len(words):
            limb = limb | (words[word + 1] << (WORD_BITS - shift))
        limbs.append(limb & ((1 << width) - 1))
    return limbs


def to_words(limbs: Sequence[Vector], widths: Sequence[int], count: int) -> list[Vector]:
    """The lowest `count` words of limbs that are not wider than their widths."""
    parts: list[list[Vector]] = [[] for _ in range(count + 1)]
    for limb, at, width in zip(limbs, positions(widths), widths, strict=True):
        word, shift = divmod(at, WORD_BITS)
        if word < count:
            parts[word].append(limb << shift)
            if shift + width > WORD_BITS:
                parts[word + 1].append(limb >> (WORD_BITS - shift))
    words = []
    for first, *others in parts[:count]:
        for other in others:
            first = first | other
        words.append(first)
    return words
