"""Where the two lists meet: marks of own elements against marks of returned points, exactly.

Returned points come in blocks, so that memory does not grow with the platform's list; own marks are held.

Comparison is exact over 127 bits: two different points share a mark with a probability below 2^-73 for
10^8 against 10^7 points, beside the bound of 2^-40 that tags have to keep.

Not protected against: nothing is decided here about who may enter an audience.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.errors import VerificationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import SortedTags, find, order_by_tag

__all__ = ["Meeting", "check_planted", "meet"]

POINTS_AT_A_TIME: Final = 2**22
"""Marks that are compared with one another at a time, to find repeated ones: 64 MiB. With more than 256 times
as many, 10^9 points, it would be more at a time."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """What both lists have.

    Attributes:
        places: (k,) int64, the places of the returned points that meet an own element, canaries included.
        count: how many of the advertiser's own elements met one, without canaries.
    """

    places: NDArray[np.int64] = field(repr=False)
    count: int


def meet(own: Bytes, returned: Iterable[Bytes]) -> Meeting:
    """Compares everything.

    Args:
        own: (m, 16), the marks of all own elements; those of the canaries are the last 64.
        returned: the marks of all returned points, in blocks (n, 16).

    Raises:
        VerificationError: an own element came twice, or a canary is in only one of the lists: the two sides
            do not match in scope, profile, epoch or generation, or a list is not whole.
    """
    order = order_by_tag(own)
    known, met = SortedTags(own[order]), np.zeros(len(own), np.bool_)
    if known.repeated:
        raise VerificationError("an element of the advertiser came twice")
    places, first = [np.empty(0, np.int64)], 0
    for block in returned:
        rows = known.find(block)
        found = np.flatnonzero(rows >= 0)
        met[order[rows[found]]] = True
        places.append(found + first)
        first += len(block)
    if not met[-CANARY_COUNT:].all():
        raise VerificationError(
            f"only {int(met[-CANARY_COUNT:].sum())} of {CANARY_COUNT} canaries are in both lists: their "
            "scopes, profiles, epochs or generations differ, or a list is not whole"
        )
    return Meeting(np.concatenate(places), int(met[:-CANARY_COUNT].sum()))


def check_planted(planted: Bytes, returned: Callable[[], Iterable[Bytes]], count: int) -> None:
    """Demands for `count` that every planted point came back multiplied by A's exponent, and none twice.

    Args:
        planted: (128, 16), see `PlatformExchange.planted_marks`.
        returned: gives the marks of all returned points, in blocks (n, 16). It is asked as often as
            `POINTS_AT_A_TIME` goes into their number, so that they need not be held.
        count: their number.

    Raises:
        VerificationError: one is missing, or any point came back twice.
    """
    shares = -(-count // POINTS_AT_A_TIME)
    missing, repeated = np.ones(len(planted), np.bool_), False
    for share in range(shares):
        # The second byte varies as a whole, the first one only in seven bits.
        chosen = np.concatenate(
            [block[block[:, 1].astype(np.int64) % shares == share] for block in returned()]
        )
        ordered = chosen[order_by_tag(chosen)]
        repeated = repeated or bool((ordered[1:] == ordered[:-1]).all(axis=1).any())
        missing &= find(ordered, planted) < 0
    if missing.any():
        raise VerificationError(f"{int(missing.sum())} of {len(planted)} planted points did not come back")
    if repeated:
        raise VerificationError("a point came back twice")
