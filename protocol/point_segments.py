"""The lists of points of a generation, for the set exchange: their names, sizes and segments.

`platform` holds everything enrolled. `count-2` holds at most two identifiers of a subject, and 128 points
that the platform planted among them. Both hold the generation's canaries. A list is its points
(`purposematch.protocol.set_exchange.points`), 32 bytes each, ascending, cut into segments of one length but
for the last; their address is their SHA-256. The points that an advertiser gives back come in batches as long
as the segments.

Not protected against: a list whose owner left entries out; see `canary`.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, MAX_PROOF_ELEMENTS
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import Segment

__all__ = [
    "MAX_POINT_LISTS",
    "MAX_POINT_SEGMENTS",
    "PLANTED_COUNT",
    "PointSegment",
    "check_list_name",
    "cut_points",
    "holds_enough",
    "identifiers_in",
    "list_name",
]

PLANTED_COUNT: Final = 128
"""Secret multiples of G in a list for `count`."""
MAX_POINT_SEGMENTS: Final = 2**12
"""Segments of a list at most."""
MAX_POINT_LISTS: Final = 4
"""Lists of a generation at most: with so many, and 10^8 identifiers, the manifest keeps its size."""

_NAME: Final = re.compile(r"platform|count-([1-9]|1[0-6])")


@dataclass(frozen=True, slots=True)
class PointSegment(Segment):
    """What the manifest says of one segment of points."""

    WIDTH: ClassVar[int] = ELEMENT_LENGTH


def list_name(disclosure: Disclosure, identifiers_per_subject: int | None) -> str:
    """The name of the list that a session under this disclosure is matched against.

    Args:
        disclosure: `platform` or `count`.
        identifiers_per_subject: for `count`, how many identifiers of a subject are in the list at most.

    Raises:
        ValueError: the disclosure has no such list.
    """
    if disclosure is Disclosure.PLATFORM and identifiers_per_subject is None:
        return "platform"
    if disclosure is Disclosure.COUNT and identifiers_per_subject is not None:
        return f"count-{identifiers_per_subject}"
    raise ValueError(f"disclosure `{disclosure}` has no such list of points")


def check_list_name(name: object) -> None:
    """Checks the name of a list.

    Raises:
        DecodeError: it is not `platform`, or `count-` and 1 to 16.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise DecodeError("a list of points is named platform, or count- and 1 to 16")


def identifiers_in(name: str) -> int | None:
    """How many identifiers of a subject are in the list of that name at most; None for all."""
    return None if name == "platform" else int(name.removeprefix("count-"))


def holds_enough(name: str, points: int, enrolled: int) -> bool:
    """Whether a list of so many points fits the number of enrolled identifiers."""
    if name == "platform":
        return points == enrolled + CANARY_COUNT
    return CANARY_COUNT + PLANTED_COUNT <= points <= enrolled + CANARY_COUNT + PLANTED_COUNT


def cut_points(points: Bytes, most: int) -> list[Bytes]:
    """Cuts the points of a list into segments.

    Args:
        points: (n, 32), at least one.
        most: points of a segment; more if there would be too many segments.
    """
    length = max(min(most, MAX_PROOF_ELEMENTS), -(-len(points) // MAX_POINT_SEGMENTS))
    return np.split(points, range(length, len(points), length))
