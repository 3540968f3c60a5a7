"""An array that grows at its end in place, for reading a list whose length is not known before.

Growing moves pages instead of copying rows, so that the peak is little above the result. Joining a list
of blocks at the end would hold everything twice.

Not protected against: two owners of one array. `take` hands the array over; nothing may grow afterwards.
"""

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Growing"]

Item = TypeVar("Item", bound=np.generic)

_FIRST_ROWS = 65_536
"""Rows of the smallest array."""


class Growing(Generic[Item]):
    """Rows of one dtype: `(n,)` where `width` is None, `(n, width)` otherwise."""

    def __init__(self, dtype: type[Item], width: int | None = None) -> None:
        """Starts empty."""
        self._tail = () if width is None else (width,)
        self._rows: NDArray[Item] = np.empty((0, *self._tail), dtype)
        self._count = 0

    def __len__(self) -> int:
        """The number of rows so far."""
        return self._count

    def append(self, rows: NDArray[Item]) -> None:
        """Adds rows of the same width at the end."""
        stop = self._count + len(rows)
        if stop > len(self._rows):
            self._resize(max(stop, _FIRST_ROWS, len(self._rows) * 5 // 4))
        self._rows[self._count : stop] = rows
        self._count = stop

    def take(self) -> NDArray[Item]:
        """All rows, without a copy; this object must not be used afterwards."""
        self._resize(self._count)
        return self._rows

    def _resize(self, rows: int) -> None:
        # No view of the array has left this object before `take`, so moving it is safe.
        self._rows.resize((rows, *self._tail), refcheck=False)
