"""The set exchange of a session: the list's elements go out, then the platform's points go back multiplied.

Both go in numbered batches, of which at most the grant's window is unanswered while two more are being made.
For `platform` the points are multiplied segment by segment as they are fetched; for `count` they go back in
an order of their own over the whole list, picked from the segments where the cache has mapped them: then 8
bytes are held for each point, 16 while the order is made. Of the list 8 bytes are held for each identifier.

A connection that breaks off loses nothing but what was not answered: `run` goes on with another one, and
`restore` in another process.

Not protected against: an observer of the traffic sees the sizes of both lists and when batches go out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np

from purposematch.client.channel import PlatformChannel
from purposematch.client.customer_list import CustomerList
from purposematch.client.progress import Advance
from purposematch.client.reconnect import Reconnect
from purposematch.client.saved_session import BatchResult
from purposematch.client.segment_cache import SegmentCache
from purposematch.client.streams import Batches
from purposematch.client.threads import made_ahead, to_its_end
from purposematch.protocol.errors import StateError
from purposematch.protocol.group import Bytes
from purposematch.protocol.point_segments import PointSegment
from purposematch.protocol.set_exchange.advertiser import AdvertiserExchange
from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch

__all__ = ["PointSource", "SetExchange"]

_Batch = TypeVar("_Batch")


class PointSource:
    """The segments of the session's list, from the cache or the platform.

    Args:
        channel: the connection.
        session: the session's id.
        segments: of the list, as the verified manifest names them.
        cache: where segments are kept.
        reconnect: makes calls again.
    """

    def __init__(
        self,
        channel: PlatformChannel,
        session: bytes,
        segments: Sequence[PointSegment],
        cache: SegmentCache,
        reconnect: Reconnect,
    ) -> None:
        self._channel = channel
        self._session = session
        self._segments = segments
        self._cache = cache
        self._reconnect = reconnect
        self._starts = np.cumsum([0, *(segment.count for segment in segments)])
        self._held: dict[int, Bytes] = {}

    async def segment(self, number: int) -> Bytes:
        """The points of one segment, (n, 32), verified.

        Raises:
            VerificationError: it is not the one that the manifest names.
        """
        segment = self._segments[number]
        points = await asyncio.to_thread(self._cache.load, segment)
        if points is None:
            call = partial(self._channel.fetch_segment, self._session, segment)
            content = await self._reconnect.run(call)
            points = await asyncio.to_thread(self._cache.store, segment, content)
        return points

    async def hold_all(self) -> None:
        """Obtains every segment, mapped where there is a cache, for `pick`."""
        for number in range(len(self._segments)):
            if number not in self._held:
                self._held[number] = await self.segment(number)

    def pick(self, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Bytes:
        """The points at some places of the list, (n, 32); after `hold_all`."""
        picked = np.empty((len(places), PointSegment.WIDTH), np.uint8)
        of = np.searchsorted(self._starts, places, "right") - 1
        order = np.argsort(of, kind="stable")
        bounds = np.flatnonzero(np.diff(of[order], prepend=-1, append=-1))
        for first, stop in pairwise(bounds):
            rows = order[first:stop]
            number = int(of[rows[0]])
            picked[rows] = self._held[number][places[rows] - self._starts[number]]
        return picked


class SetExchange:
    """What one session makes of one list in a set exchange.

    Args:
        exchange: the protocol's state.
        customers: the list.
        points: the platform's list.
        in_order: whether points go back in their order.
        keep: called with every batch that was answered, one after the other.
    """

    def __init__(
        self,
        exchange: AdvertiserExchange,
        customers: CustomerList,
        points: PointSource,
        in_order: bool,
        keep: Callable[[BatchResult], object],
    ) -> None:
        self._exchange = exchange
        self._customers = customers
        self._points = points
        self._in_order = in_order
        self._keep = keep
        self._own_left = set(range(exchange.shape.own_batches))
        self._points_left = set(range(len(exchange.shape.segments)))

    def restore(self, results: Iterable[BatchResult]) -> int:
        """Takes over batches that were answered before this process began; returns their elements.

        Own batches are kept under their numbers, those of points count on behind them.

        Raises:
            StateError: a batch comes twice, or is none of the session.
        """
        restored = 0
        for result in results:
            number, left = self._side(result.number)
            if number not in left:
                raise StateError(f"batch {result.number} again", "every batch once")
            left.remove(number)
            restored += self._elements(number, left)
        return restored

    @property
    def complete(self) -> bool:
        """Whether every batch was answered."""
        return not self._own_left and not self._points_left

    @property
    def answered(self) -> int:
        """Batches that were answered."""
        shape = self._exchange.shape
        left = len(self._own_left) + len(self._points_left)
        return shape.own_batches + len(shape.segments) - left

    async def run(self, channel: PlatformChannel, session: bytes, window: int, advance: Advance) -> None:
        """Sends what is left of both lists; after an `UnavailableError` it may go on.

        Args:
            channel: the connection.
            session: the session's id.
            window: batches that may be unanswered.
            advance: called with the number of elements that are done since its last call.

        Raises:
            PeerError: a segment or an answer does not hold.
            RefusedError, UnavailableError: the platform ended a stream, or is not there any more.
            InputError: it cannot be kept that a batch was answered.
        """
        if self._own_left:
            stream = channel.own_batches(session)
            await self._send_all(self._own_left, self._own, stream, window, advance)
        if self._points_left:
            if not self._in_order:
                await self._points.hold_all()
            back = channel.returned_batches(session)
            await self._send_all(self._points_left, self._returned, back, window, advance)

    async def _own(self, number: int) -> OwnBatch:
        return await to_its_end(self._make_own, number)

    def _make_own(self, number: int) -> OwnBatch:
        numbers = self._exchange.own_numbers(number)
        inputs = self._customers.inputs_of(numbers)
        return self._exchange.own(number, np.concatenate([inputs, self._exchange.own_canaries(number)]))

    async def _returned(self, number: int) -> ReturnedBatch:
        if self._in_order:
            points = await self._points.segment(number)
        else:
            points = await to_its_end(self._points.pick, self._exchange.returned_places(number))
        return await to_its_end(self._exchange.give_back, number, points)

    async def _send_all(
        self,
        left: set[int],
        make: Callable[[int], Awaitable[_Batch]],
        stream: Batches[_Batch, int],
        window: int,
        advance: Advance,
    ) -> None:
        """Makes and sends the batches that are left, while answers to earlier ones come in."""
        numbers, unanswered = sorted(left), asyncio.Semaphore(window)

        async def send() -> None:
            async with aclosing(made_ahead(make, numbers)) as batches:
                async for batch in batches:
                    await unanswered.acquire()
                    if not await stream.send(batch):
                        return

        async def receive() -> None:
            for _ in numbers:
                number = await stream.receive()
                unanswered.release()
                if number not in left:
                    raise StateError(f"an answer to batch {number}", "an answer to a waiting batch")
                left.remove(number)
                await to_its_end(self._note, number, left)
                advance(self._elements(number, left))

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(send())
                tasks.create_task(receive())
        except BaseExceptionGroup as failures:
            # The first failure ended the other task, so the group holds that one alone.
            raise failures.exceptions[0] from None
        finally:
            stream.cancel()

    def _side(self, kept: int) -> tuple[int, set[int]]:
        """The number of a batch that was kept, and its side."""
        own = self._exchange.shape.own_batches
        return (kept, self._own_left) if kept < own else (kept - own, self._points_left)

    def _elements(self, number: int, left: set[int]) -> int:
        shape = self._exchange.shape
        bounds = shape.own_bounds if left is self._own_left else shape.returned_bounds
        first, stop = bounds(number)
        return stop - first

    def _note(self, number: int, left: set[int]) -> None:
        behind = 0 if left is self._own_left else self._exchange.shape.own_batches
        self._keep(BatchResult.acknowledged(behind + number))
