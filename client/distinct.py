"""Exact removal of duplicates from a column of digests, by sorting.

Digests are sorted by their first 64 bits only, which is several times faster than sorting 32 bytes, and
then compared whole. Where two different digests share those bits, which honest SHA-256 does not show
but a pre-hashed list may, all four words are sorted.

Not protected against: timing. The list stays in the process of its owner.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct_rows"]

_COMPARE_ROWS = 65_536
"""Rows that are compared whole at a time."""


def distinct_rows(digests: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Numbers equal digests alike.

    Args:
        digests: `(n, 32)` uint8, C-contiguous, n below 2^31.

    Returns:
        The number of every digest, `(n,)` int32, counted from 0, and the distinct digests by that
        number, `(m, 32)` uint8.
    """
    words = digests.view(np.uint64)
    heads = np.ascontiguousarray(words[:, 0])
    order = np.argsort(heads)
    heads = heads[order]
    differ = np.ones(len(order), np.bool_)
    np.not_equal(heads[1:], heads[:-1], out=differ[1:])
    del heads
    # Where heads differ, so do the digests: what is left to compare are duplicates, in an honest list.
    alike = np.flatnonzero(~differ)
    differ[alike] = _differ_from_previous(words, order, alike)
    if differ[alike].any():
        order = np.lexsort(words.T[::-1])
        differ[1:] = _differ_from_previous(words, order, np.arange(1, len(order)))
    numbers = np.empty(len(digests), np.int32)
    # The first row of the order differs from nothing before it, so counting starts at 0.
    numbers[order] = np.cumsum(differ, dtype=np.int32) - np.int32(1)
    return numbers, digests[order[differ]]


def _differ_from_previous(
    words: NDArray[np.uint64], order: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Of some places of `order`, none the first: does the row there differ from the one before?"""
    differ = np.empty(len(places), np.bool_)
    for start in range(0, len(places), _COMPARE_ROWS):
        some = places[start : start + _COMPARE_ROWS]
        differ[start : start + len(some)] = (words[order[some]] != words[order[some - 1]]).any(axis=1)
    return differ
