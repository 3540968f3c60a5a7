"""Ends streams of a client that says nothing more, or takes nothing of what it is told.

A stream may last as long as something moves. A client that owes a message and sends none for so many seconds,
or reads none of what it asked for, is given up, and what the stream held is freed; its session stays for
another stream to go on with.

Not protected against: a client that sends or reads a little now and then. What one stream holds is bounded
anyway.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc

from purposematch.protocol.errors import UnavailableError
from purposematch.server.ended import look_at

__all__ = ["heard", "tell"]

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
        coming.add_done_callback(look_at)
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


async def tell(
    context: grpc.aio.ServicerContext[Any, _Message], messages: AsyncGenerator[_Message, None], seconds: float
) -> None:
    """Sends the messages of a stream, the next one when there is room for it on the way.

    Args:
        context: of the call.
        messages: for the client.
        seconds: how long it may take none.

    Raises:
        UnavailableError: the client read nothing for too long.
    """
    async with aclosing(messages):
        async for message in messages:
            try:
                async with asyncio.timeout(seconds):
                    await context.write(message)
            except TimeoutError:
                raise UnavailableError(f"the client read nothing for {seconds:g} seconds") from None
