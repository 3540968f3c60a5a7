"""The shape of one set exchange: which elements are in which batch, on both sides.

The advertiser's batches hold `max_batch_elements` each: its own elements, then the canaries. The canaries
stand at the end and in their order, because the platform must find each of them: they tell nothing of the
list. What comes back has a batch for every segment of the list, as long as that segment.

Not protected against: it is arithmetic only.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.errors import LimitError
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SessionGrant

__all__ = ["Shape"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of one set exchange.

    Attributes:
        list_size: distinct identifiers of the advertiser.
        batch: elements in one of its batches at most.
        segments: the number of points in every segment of the platform's list.
    """

    list_size: int
    batch: int
    segments: tuple[int, ...]

    @classmethod
    def of(cls, grant: SessionGrant, manifest: Manifest, name: str) -> Self:
        """The shape of a session.

        Args:
            grant: of the session.
            manifest: of its generation.
            name: of the list that the agreement asks for.

        Raises:
            LimitError: the generation has no such list.
        """
        if name not in manifest.point_lists:
            raise LimitError(f"the generation has no list {name}")
        segments = tuple(segment.count for segment in manifest.point_lists[name])
        return cls(grant.list_size, grant.max_batch_elements, segments)

    @property
    def own_elements(self) -> int:
        """Elements of the advertiser, canaries included."""
        return self.list_size + CANARY_COUNT

    @property
    def own_batches(self) -> int:
        """Batches of the advertiser's own elements."""
        return -(-self.own_elements // self.batch)

    @property
    def points(self) -> int:
        """Points of the platform's list."""
        return sum(self.segments)

    def own_bounds(self, number: int) -> tuple[int, int]:
        """The elements of a batch: first, and one past the last; canaries count on after the list.

        Raises:
            LimitError: there is no such batch.
        """
        if not 0 <= number < self.own_batches:
            raise LimitError(f"there is no batch {number}")
        first = number * self.batch
        return first, min(first + self.batch, self.own_elements)

    def returned_bounds(self, number: int) -> tuple[int, int]:
        """The places in the list of the points of a segment: first, and one past the last.

        Raises:
            LimitError: there is no such segment.
        """
        if not 0 <= number < len(self.segments):
            raise LimitError(f"there is no segment {number}")
        ends = np.cumsum(self.segments[: number + 1])
        return int(ends[-1]) - self.segments[number], int(ends[-1])

    def charged(self, number: int) -> int:
        """Elements of a batch that the quota counts: all but the canaries."""
        first, stop = self.own_bounds(number)
        return min(stop, self.list_size) - min(first, self.list_size)
