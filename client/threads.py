"""Work in threads that is waited for whatever happens.

Not protected against: work that never ends.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["to_its_end"]

_Result = TypeVar("_Result")


async def to_its_end(function: Callable[..., _Result], *arguments: object) -> _Result:
    """Runs a function in a thread, and waits for its end also when cancelled: it changes what comes after."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
