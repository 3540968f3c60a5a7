"""Gives memory back that batches have used, on systems with the GNU C library.

Its allocator keeps freed memory in arenas, one for every few threads, and learns from the first large array
that is freed to keep all of them there: a server of a hundred sessions then seems to need more and more. With
fixed bounds, arrays of whole batches come from the system and go back to it.

Not protected against: other C libraries, which have their own ways; nothing is changed there.
"""

import ctypes
from typing import Final

__all__ = ["return_large_blocks"]

_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""Parameters of mallopt(3)."""

LARGE_BYTES: Final = 128 * 1024
"""Blocks from this size on come from the system: arrays of batches are larger, all small things smaller."""
ARENAS: Final = 2
"""Arenas of small blocks; threads that hold the interpreter lock hardly ever allocate at the same time."""


def return_large_blocks() -> bool:
    """Sets it for this process, before it has threads; returns whether the system knows how."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_ARENA_MAX, ARENAS))
