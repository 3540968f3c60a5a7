"""The service of matches by VOLE on gRPC: chunks in, the platform's party in worker threads, chunks out.

Nothing is decided here. A stream reads the next chunk when the party has taken the last one, and makes the
next one when the last one is on its way; so nothing piles up that the declared sizes do not say. What parties
hold grows with the lists, and so only so many items are held at a time, by all streams together.

Not protected against: a step of a party, such as sorting a long list, is one turn at the processor, and one
that needs what is being prepared holds a second turn while it waits for that. An advertiser that declares
much and sends little now and then holds its room as long as its session may last.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from threading import Event
from typing import Any, Final, TypeVar

import grpc

from purposematch.protocol.errors import BusyError, DecodeError, UnavailableError
from purposematch.protocol.vole.party import Chunk, Turn
from purposematch.server import one_shot_wire
from purposematch.server.calls import called_session
from purposematch.server.ended import look_at
from purposematch.server.metrics import Metrics
from purposematch.server.one_shot_matching import Attempt, OneShotMatching
from purposematch.server.peer import peer_of
from purposematch.server.pki import PeerIdentity
from purposematch.server.processor import Processor
from purposematch.server.silence import heard, tell
from purposematch.server.statuses import aborting
from purposematch.telemetry import span
from purposematch.v1 import one_shot_matching_pb2 as pb
from purposematch.v1 import one_shot_matching_pb2_grpc

__all__ = ["OneShotMatchingService"]

MAX_ITEMS: Final = 40_000_000
"""Items of both sides in all attempts under way, about; one attempt is always let in, and a second one of
the same advertiser only into the first half. An item takes up to 100 bytes."""
RETRY_SECONDS: Final = 10
"""When whoever finds no room may try again."""

_Result = TypeVar("_Result")
_Context = grpc.aio.ServicerContext[Any, Any]
_Requests = AsyncGenerator[pb.ExchangeRequest, None]
_log = logging.getLogger("purposematch.server")


class OneShotMatchingService(one_shot_matching_pb2_grpc.OneShotMatchingServiceServicer):
    """Serves `purposematch.v1.OneShotMatchingService`.

    Args:
        matching: what decides and computes.
        pool: where sessions are looked up.
        metrics: counts elements.
        processor: where parties compute.
        silence_seconds: how long a client may say nothing in a stream while it owes a message, or read
            nothing of what it is owed.
    """

    def __init__(
        self,
        matching: OneShotMatching,
        pool: ThreadPoolExecutor,
        metrics: Metrics,
        processor: Processor,
        *,
        silence_seconds: float,
    ) -> None:
        self._matching = matching
        self._pool = pool
        self._metrics = metrics
        self._processor = processor
        self._silence_seconds = silence_seconds
        self._held: Counter[str] = Counter()
        self._under_way: dict[bytes, asyncio.Task[None]] = {}

    # The bindings know handlers that yield; these write for themselves, so that they see who does not read.
    async def Exchange(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ExchangeRequest], context: _Context
    ) -> None:
        """Runs one attempt at an exchange."""
        async with aborting(context, "Exchange"):
            peer = peer_of(context)
            with self._processor.capacity.serving(peer.name):
                answers = self._attempted(peer, request_iterator)
                running = asyncio.create_task(tell(context, answers, self._silence_seconds))
                running.add_done_callback(look_at)
                try:
                    await asyncio.wait({running})
                finally:
                    running.cancel()
                if running.cancelled():
                    raise UnavailableError("another stream tries this session")
                running.result()

    async def _attempted(
        self, peer: PeerIdentity, requests: AsyncIterator[pb.ExchangeRequest]
    ) -> AsyncGenerator[pb.ExchangeResponse, None]:
        async with aclosing(heard(requests, self._silence_seconds)) as messages:
            session, commit = one_shot_wire.parse_begin(await _next(messages))
            session = called_session(session)
            items = await self._run(self._matching.declared, peer, session)
            async with self._alone(session):
                with self._room(peer.name, items):
                    begin = (self._matching.begin, peer, session, commit)
                    attempt = await self._compute(peer, session, items, *begin)
                    async with self._loading(attempt):
                        with span("exchange", elements=attempt.grant.list_size):
                            async with aclosing(self._exchanged(attempt, messages)) as answers:
                                async for answer in answers:
                                    yield answer

    async def _exchanged(
        self, attempt: Attempt, messages: _Requests
    ) -> AsyncGenerator[pb.ExchangeResponse, None]:
        party, size = attempt.party, attempt.grant.list_size
        while party.turn is not Turn.DONE:
            if party.turn is Turn.LISTEN:
                chunk = one_shot_wire.parse_chunk(await _next(messages))
                await self._of(attempt, attempt.take, chunk)
                continue
            async with aclosing(self._spoken(attempt)) as chunks:
                async for chunk in chunks:
                    if chunk.number == attempt.first_result:
                        await self._run(self._matching.pay, attempt)
                        self._metrics.count_elements("evaluated", size)
                    yield one_shot_wire.format_chunk(chunk)
            await self._of(attempt, attempt.prepare)
        if attempt.first_result is None:
            report = await self._of(attempt, self._matching.finish, attempt)
            self._metrics.count_elements("evaluated", size)
            yield one_shot_wire.format_report(report)
        _log.info("exchanged a list by VOLE")

    async def _spoken(self, attempt: Attempt) -> AsyncGenerator[Chunk, None]:
        """The chunks of the platform's next messages."""
        chunks = attempt.party.outgoing()
        try:
            while (chunk := await self._of(attempt, next, chunks, None)) is not None:
                yield chunk
        finally:
            # Where a thread is still at it, the iterator goes with the thread.
            with suppress(ValueError):
                chunks.close()

    @asynccontextmanager
    async def _alone(self, session: bytes) -> AsyncIterator[None]:
        """Of several attempts at one session the latest goes on: whoever lost a connection comes back before
        its old one is seen to be dead."""
        own = asyncio.current_task()
        if own is None:
            raise RuntimeError("an attempt runs in a task")
        earlier, self._under_way[session] = self._under_way.get(session), own
        try:
            if earlier is not None:
                earlier.cancel()
                # What it held is free then.
                await asyncio.wait({earlier})
            yield
        finally:
            if self._under_way.get(session) is own:
                del self._under_way[session]

    @asynccontextmanager
    async def _loading(self, attempt: Attempt) -> AsyncIterator[None]:
        """What the platform brings is loaded while the exchange begins, and prepared while it goes on.

        That is never taken back, as the party may be waiting for it. So whoever begins and breaks off keeps
        its session and its room until it has ended, and has no list loaded for each of many attempts.
        """
        loading = self._pool.submit(attempt.load)
        # A server that stops drops what has not begun.
        loading.add_done_callback(lambda done: attempt.own.cancel() if done.cancelled() else None)
        over = Event()
        ended = asyncio.create_task(self._loaded(attempt, asyncio.wrap_future(loading), over))
        try:
            yield
        finally:
            over.set()
            while not ended.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({ended})

    async def _loaded(self, attempt: Attempt, loading: asyncio.Future[None], over: Event) -> None:
        def prepare() -> None:
            # An attempt that broke off meanwhile needs nothing any more, and the next one waits for its end.
            if not over.is_set():
                attempt.prepare()

        await asyncio.wait({loading})
        # Whatever it raises is raised again where the exchange needs it.
        with suppress(Exception):
            await self._of(attempt, prepare)

    @contextmanager
    def _room(self, peer: str, items: int) -> Iterator[None]:
        # Whoever has an attempt already leaves half of the room to the others.
        most = MAX_ITEMS // 2 if self._held[peer] else MAX_ITEMS
        held = self._held.total()
        if held and held + items > most:
            raise BusyError(f"attempts by VOLE hold {held:,} items", RETRY_SECONDS)
        self._held[peer] += items
        try:
            yield
        finally:
            self._held[peer] -= items
            self._held += Counter()  # forgets whoever is at zero

    async def _of(self, attempt: Attempt, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Runs a step of an attempt when it is its session's turn."""
        return await self._compute(attempt.peer, attempt.session_id, 0, function, *arguments)

    async def _compute(
        self,
        peer: PeerIdentity,
        session: bytes,
        items: int,
        function: Callable[..., _Result],
        *arguments: object,
    ) -> _Result:
        run = self._processor.run
        return await run(peer.name, session, items, function, *arguments, measured=False)

    async def _run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


async def _next(messages: _Requests) -> pb.ExchangeRequest:
    """The client's next message.

    Raises:
        DecodeError: it has ended its side of the stream.
    """
    message = await anext(messages, None)
    if message is None:
        raise DecodeError("an exchange ended before its last chunk")
    return message
