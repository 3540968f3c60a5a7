"""How much memory that was freed a server keeps, on systems with the GNU C library.

Its allocator keeps freed memory in arenas, one for every few threads, and learns from the first large array
that is freed to keep all of them there: a server of a hundred sessions then seems to need more and more. If
on the other hand every array of a batch goes back to the system, the system has to clear and to map memory
for each of the next batch. So arrays of batches stay, within fixed bounds; arrays of whole lists come from
the system and go back to it.

Not protected against: other C libraries, which have their own ways; nothing is changed there.
"""

import ctypes
from typing import Final

__all__ = ["bound_kept_memory"]

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""Parameters of mallopt(3)."""

LARGE_BYTES: Final = 4 << 20
"""Blocks from this size on come from the system: arrays of long lists, and none of a batch."""
KEPT_BYTES: Final = 64 << 20
"""Free memory at the end of an arena that is kept."""
ARENAS: Final = 2
"""Arenas of all others; threads that hold the interpreter lock hardly ever allocate at the same time."""


def bound_kept_memory() -> bool:
    """Sets it for this process, before it has threads; returns whether the system knows how."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    bounds = {_TRIM_THRESHOLD: KEPT_BYTES, _MMAP_THRESHOLD: LARGE_BYTES, _ARENA_MAX: ARENAS}
    return all(mallopt(parameter, value) for parameter, value in bounds.items())
