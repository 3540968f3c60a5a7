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
    order = np.argsort(words[:, 0])
    differ, same_head = _differ_from_previous(words, order)
    if (differ & same_head).any():
        order = np.lexsort(words.T[::-1])
        differ, _ = _differ_from_previous(words, order)
    numbers = np.empty(len(digests), np.int32)
    # The first row of the order differs from nothing before it, so counting starts at 0.
    numbers[order] = np.cumsum(differ, dtype=np.int32) - np.int32(1)
    return numbers, digests[order[differ]]


def _differ_from_previous(
    words: NDArray[np.uint64], order: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For every place of `order`: does its row differ from the one before, and do their heads agree."""
    differ = np.ones(len(order), np.bool_)
    same_head = np.zeros(len(order), np.bool_)
    for start in range(1, len(order), _COMPARE_ROWS):
        rows = words[order[start - 1 : start + _COMPARE_ROWS]]
        equal = rows[1:] == rows[:-1]
        differ[start : start + _COMPARE_ROWS] = ~equal.all(axis=1)
        same_head[start : start + _COMPARE_ROWS] = equal[:, 0]
    return differ, same_head
