"""How the library tells how far it is, without knowing who watches.

Not protected against: the descriptions name the list's and the output's files.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

__all__ = ["Advance", "Progress", "silent"]

Advance = Callable[[int], object]
"""Called with the amount of work done since its last call, from any thread."""

Progress = Callable[[str, int | None, str], AbstractContextManager[Advance]]
"""Begins a piece of work: gets its description, the total amount and what that counts.

`purposematch.console.progress` is one, which draws a bar."""


def silent(description: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
    """Shows nothing."""
    return nullcontext(lambda amount: None)
