"""The exchange of a session: the list goes out in blinded batches, what comes back is looked up.

Blinding the next batch and checking the last answer run in two threads at the same time, and at most the
grant's window of batches is unanswered, so memory does not grow with the list, but for what `FoundMatches`
keeps. The MAC that commits a match is made as soon as the token is known, so that no token outlives its
batch.

A connection that breaks off loses nothing but what was not answered: `run` goes on with another one, and
`restore` in another process.

Not protected against: an observer of the traffic sees the list's size and when batches go out.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from purposematch.client.channel import PlatformChannel
from purposematch.client.customer_list import CustomerList
from purposematch.client.found_matches import FoundMatches
from purposematch.client.progress import Advance
from purposematch.client.reconnect import Reconnect
from purposematch.client.saved_session import BatchResult
from purposematch.client.segment_cache import SegmentCache
from purposematch.client.streams import Evaluations
from purposematch.client.threads import to_its_end
from purposematch.protocol.advertiser import AdvertiserSession
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import Index, Segment
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import MAC_LENGTH, EvaluateReply
from purposematch.protocol.secret import SecretArray, reveal_array

__all__ = ["Exchange", "fetch_index"]


async def fetch_index(
    channel: PlatformChannel,
    session: bytes,
    manifest: Manifest,
    cache: SegmentCache,
    reconnect: Reconnect,
    advance: Advance,
) -> Index:
    """All segments of the session's generation, whatever the list, from the cache or the platform.

    Args:
        channel: the connection.
        session: the session's id.
        manifest: verified.
        cache: where segments are kept.
        reconnect: makes calls again.
        advance: called with the number of segments that are there since its last call.

    Raises:
        VerificationError: a segment is not the one that the manifest names.
    """

    async def obtain(segments: tuple[Segment, ...]) -> list[Bytes]:
        obtained = []
        for segment in segments:
            tags = await asyncio.to_thread(cache.load, segment)
            if tags is None:
                content = await reconnect.run(partial(channel.fetch_segment, session, segment))
                tags = await asyncio.to_thread(cache.store, segment, content)
            obtained.append(tags)
            advance(1)
        return obtained

    base = await obtain(manifest.segments)
    additions = await obtain(manifest.additions)
    cache.trim()
    return await asyncio.to_thread(Index, base, additions)


class Exchange(FoundMatches):
    """What one session makes of one list.

    Args:
        session: the protocol's state.
        customers: the list.
        commits: whether matches are to be committed.
        keep: called in a worker thread with what every answered batch gave, one after the other.
    """

    def __init__(
        self,
        session: AdvertiserSession,
        customers: CustomerList,
        commits: bool,
        keep: Callable[[BatchResult], object],
    ) -> None:
        super().__init__(len(customers))
        self._session = session
        self._customers = customers
        self._commits = commits
        self._keep = keep

    def restore(self, results: Iterable[BatchResult]) -> int:
        """Takes over batches that were answered before this process began; returns their identifiers of
        the list.

        Raises:
            StateError: a batch comes twice, or is none of the session.
            DecodeError: a match is outside of its batch.
        """
        restored = 0
        for result in results:
            self._session.restore(result.number, result.canaries)
            first, stop = self._session.bounds(result.number)
            own = max(0, min(stop, len(self._customers)) - first)
            if len(result.places) and int(result.places.max()) >= own:
                raise DecodeError("a match is outside of its batch")
            self.note(first, result)
            restored += own
        return restored

    @property
    def complete(self) -> bool:
        """Whether every batch was answered."""
        return not self._session.unanswered

    @property
    def answered(self) -> int:
        """Batches that were answered."""
        return self._session.batches - len(self._session.unanswered)

    async def run(self, index: Index, stream: Evaluations, window: int, advance: Advance) -> None:
        """Has the rest of the list and the canaries evaluated; after an `UnavailableError` it may go on.

        Args:
            index: of the session's generation.
            stream: where to.
            window: batches that may be unanswered.
            advance: called with the number of identifiers that are done since its last call.

        Raises:
            PeerError: an answer does not hold.
            RefusedError, UnavailableError: the platform ended the stream, or is not there any more.
            InputError: a result cannot be kept.
        """
        self._session.disconnected()
        unanswered = asyncio.Semaphore(window)
        numbers = self._session.unanswered
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(numbers, stream, unanswered))
                tasks.create_task(self._receive(numbers, index, stream, unanswered, advance))
        except BaseExceptionGroup as failures:
            # The first failure ended the other task, so the group holds that one alone.
            raise failures.exceptions[0] from None
        finally:
            stream.cancel()

    def close(self) -> None:
        """Demands that the whole list was answered and every canary found; sets `numbers` and `tags`.

        Raises:
            StateError: batches are missing.
            VerificationError: a canary is missing.
        """
        self._session.close_list()
        self.take_all()

    async def _send(self, numbers: list[int], stream: Evaluations, unanswered: asyncio.Semaphore) -> None:
        for number in numbers:
            await unanswered.acquire()
            request = await to_its_end(self._session.request, number, self._inputs(number))
            if not await stream.send(request):
                return

    async def _receive(
        self,
        numbers: list[int],
        index: Index,
        stream: Evaluations,
        unanswered: asyncio.Semaphore,
        advance: Advance,
    ) -> None:
        for _ in numbers:
            reply = await stream.receive()
            unanswered.release()
            advance(await to_its_end(self._take, reply, index))

    def _inputs(self, number: int) -> Bytes:
        """The private inputs of a batch; the canaries come behind the list."""
        first, stop = self._session.bounds(number)
        size = len(self._customers)
        own = self._customers.inputs(min(first, size), min(stop, size))
        canaries = self._session.canaries[max(first - size, 0) : max(stop - size, 0)]
        return np.concatenate([own, canaries]) if len(canaries) else own

    def _take(self, reply: EvaluateReply, index: Index) -> int:
        """Checks an answer and notes its matches; the number of identifiers of the list in it."""
        evaluation = self._session.reply(reply)
        before = self._session.canaries_found
        found = self._session.matches(evaluation, index)
        rows = np.flatnonzero(found)
        tags, macs = evaluation.tags[rows], np.empty((0, MAC_LENGTH), np.uint8)
        if self._commits:
            macs = self._session.commit(tags, SecretArray(reveal_array(evaluation.tokens)[rows])).macs
        evaluation.tokens.wipe()
        canaries = self._session.canaries_found - before
        result = BatchResult(reply.number, canaries, rows.astype(np.uint16), tags, macs)
        self.note(evaluation.first, result)
        self._keep(result)
        return len(found)
