"""Work in threads that is waited for whatever happens, and work that is begun before it is needed.

Not protected against: work that never ends.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

__all__ = ["beside", "made_ahead", "to_its_end"]

AT_A_TIME: Final = 2
"""Works of `made_ahead` under way: what one does in a single thread, another fills the other cores with."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


async def made_ahead(
    make: Callable[[_Item], Awaitable[_Result]], items: Iterable[_Item]
) -> AsyncGenerator[_Result, None]:
    """What `make` gives for each item, in their order; while one is made the next one is begun.

    Close it (`contextlib.aclosing`): then nothing that was begun goes on.
    """
    begun: deque[asyncio.Future[_Result]] = deque()
    try:
        for item in items:
            begun.append(asyncio.ensure_future(make(item)))
            if len(begun) == AT_A_TIME:
                yield await begun.popleft()
        while begun:
            yield await begun.popleft()
    finally:
        for each in begun:
            each.cancel()
        await asyncio.gather(*begun, return_exceptions=True)


@asynccontextmanager
async def beside(function: Callable[..., _Result], *arguments: object) -> AsyncIterator[Awaitable[_Result]]:
    """Runs a function in a thread beside the body, which may wait for it; it has ended when this is left."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        yield task
    finally:
        # What it came to, nobody may want to know any more.
        await asyncio.gather(task, return_exceptions=True)


async def to_its_end(function: Callable[..., _Result], *arguments: object) -> _Result:
    """Runs a function in a thread, and waits for its end also when cancelled: it changes what comes after."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
