"""Answers the messages of a stream, a bounded number of them at a time, in their order.

Not protected against: an answer that takes for ever holds up those behind it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from purposematch.server.ended import look_at
from purposematch.server.silence import heard

__all__ = ["OwnSessions", "answered"]

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class OwnSessions:
    """The sessions that a stream is about, each checked once: nobody takes turns for one that is not its own.

    Args:
        demand: checks one, and raises where it is not open or not the client's.
    """

    def __init__(self, demand: Callable[[bytes], Awaitable[object]]) -> None:
        self._demand = demand
        self._known: set[bytes] = set()

    async def demand(self, session_id: bytes) -> None:
        """Raises what `demand` raises, for a session that was not checked before."""
        if session_id not in self._known:
            await self._demand(session_id)
            self._known.add(session_id)


async def answered(
    requests: AsyncIterator[_Request],
    answer: Callable[[_Request], Awaitable[_Response]],
    at_a_time: int,
    silence_seconds: float,
) -> AsyncGenerator[_Response, None]:
    """The answers in the order of the requests.

    Args:
        requests: of a client.
        answer: gives the answer to one of them.
        at_a_time: answers under way, or waiting to be taken.
        silence_seconds: how long the client may say nothing while it owes a message.

    Raises:
        UnavailableError: the client was silent for too long; and whatever `answer` raises.
    """
    waiting: asyncio.Queue[asyncio.Future[_Response] | None] = asyncio.Queue(at_a_time)
    owed: set[asyncio.Future[_Response]] = set()

    async def read() -> None:
        try:
            async for message in heard(requests, silence_seconds, lambda: bool(owed)):
                task = asyncio.ensure_future(answer(message))
                owed.add(task)
                task.add_done_callback(owed.discard)
                task.add_done_callback(look_at)
                await waiting.put(task)
        finally:
            await waiting.put(None)

    reader = asyncio.create_task(read())
    reader.add_done_callback(look_at)
    try:
        while (task := await waiting.get()) is not None:
            yield await task
        await reader
    finally:
        unfinished: list[asyncio.Future[Any]] = [reader, *owed]
        for each in unfinished:
            each.cancel()
        # The reader says in the end that it has ended, and must have room for that.
        while not waiting.empty():
            waiting.get_nowait()
