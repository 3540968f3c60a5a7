"""Exact removal of duplicates from a column of digests, by sorting.

Digests are sorted by their first 32 bits only, which is many times faster than sorting 32 bytes. Those that
begin alike are then compared whole; where they differ, which some do by chance and all of a pre-hashed list
may, all four words of those are sorted.

Not protected against: timing. The list stays in the process of its owner.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct_rows"]

_COMPARE_ROWS = 65_536
"""Rows that are compared whole at a time."""


def distinct_rows(digests: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Numbers equal digests alike, in the order in which they first appear.

    Args:
        digests: `(n, 32)` uint8, C-contiguous, n below 2^31.

    Returns:
        The number of every digest, `(n,)` int32, counted from 0, and the distinct digests by that
        number, `(m, 32)` uint8: `digests` itself where all of them are.
    """
    words = digests.view(np.uint64)
    rows = np.arange(len(words), dtype=np.int32)
    heads, others = _alike(digests)
    differ = _differ(words, heads, others)
    leaders = rows.copy()
    leaders[others] = heads
    if differ.any():
        # What begins like two different digests is told apart anew, all of it.
        mixed = np.isin(heads, heads[differ])
        members = np.union1d(heads[mixed], others[mixed])
        # Equal digests keep their order, so that the first of them still leads.
        order = members[np.lexsort(words.take(members, axis=0).T[::-1])]
        begins = np.append(True, _differ(words, order[:-1], order[1:]))
        leaders[order] = order[begins][np.cumsum(begins) - 1]
    first = leaders == rows
    if first.all():
        return rows, digests
    return np.cumsum(first, dtype=np.int32)[leaders] - np.int32(1), digests.take(
        np.flatnonzero(first), axis=0
    )


def _alike(digests: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first row of those that begin alike, for each of the others, and these others."""
    # Words of 16 bits are sorted by counting, and equal ones keep their order.
    order = np.lexsort(np.ascontiguousarray(digests.view(np.uint16)[:, :2].T))
    beginnings = np.ascontiguousarray(digests.view(np.uint32)[:, 0])[order]
    places = np.flatnonzero(beginnings[1:] == beginnings[:-1]) + 1
    # Where the place before is none of these, the row there is the first of its run.
    begins = np.diff(places, prepend=-1) != 1
    return order[(places[begins] - 1)[np.cumsum(begins) - 1]], order[places]


def _differ(
    words: NDArray[np.uint64], some: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether whole rows differ, pair by pair."""
    differ = np.empty(len(some), np.bool_)
    for start in range(0, len(some), _COMPARE_ROWS):
        part = slice(start, start + _COMPARE_ROWS)
        unequal = words.take(some[part], axis=0) != words.take(others[part], axis=0)
        # Four truths, one for each word, are looked at as one number.
        differ[part] = unequal.view(np.uint32)[:, 0] != 0
    return differ
