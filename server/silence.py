"""Ends streams of a client that says nothing more.

A stream may last as long as something comes. A client that owes a message and sends none for so many seconds
is given up, and what the stream held is freed; its session stays for another stream to go on with.

Not protected against: a client that sends a little now and then. What one stream holds is bounded anyway.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

from purposematch.protocol.errors import UnavailableError

__all__ = ["heard"]

_Message = TypeVar("_Message")


async def heard(
    messages: AsyncIterator[_Message], seconds: float, busy: Callable[[], bool] = lambda: False
) -> AsyncGenerator[_Message, None]:
    """The messages of a stream, ended when none comes for so long.

    Args:
        messages: of the client.
        seconds: how long it may say nothing.
        busy: whether it is this side that owes something, so that the client may well wait.

    Raises:
        UnavailableError: the client was silent for too long.
    """
    iterator = aiter(messages)
    while True:
        coming = asyncio.ensure_future(anext(iterator))
        try:
            # Waiting leaves the read as it is; a timeout around it would break it off.
            while not (await asyncio.wait({coming}, timeout=seconds))[0]:
                if not busy():
                    raise UnavailableError(f"the client sent nothing for {seconds:g} seconds")
            message = await coming
        except StopAsyncIteration:
            return
        finally:
            coming.cancel()
        yield message
