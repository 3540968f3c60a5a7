"""The exchange of a session: the list goes out in blinded batches, what comes back is looked up.

Blinding the next batch and checking the last answer run in two threads at the same time, and at most the
grant's window of batches is unanswered, so memory does not grow with the list: kept are one byte for each
identifier, 24 bytes for each match, and 32 more where it is to be committed.

Not protected against: an observer of the traffic sees the list's size and when batches go out.
"""

import asyncio
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from purposematch.client.channel import Evaluations, PlatformChannel
from purposematch.client.customer_list import CustomerList
from purposematch.client.growing import Growing
from purposematch.client.progress import Advance
from purposematch.client.segment_cache import SegmentCache
from purposematch.client.wire import MAX_COMMIT_ENTRIES
from purposematch.protocol.advertiser import AdvertiserSession
from purposematch.protocol.ciphersuite import TAG_LENGTH, TOKEN_LENGTH
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import Index, Segment, order_by_tag
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import CommitEntries, EvaluateReply
from purposematch.protocol.secret import SecretArray, reveal_array

__all__ = ["Exchange", "fetch_index"]


async def fetch_index(
    channel: PlatformChannel,
    session: bytes,
    manifest: Manifest,
    cache: SegmentCache,
    advance: Advance,
) -> Index:
    """All segments of the session's generation, whatever the list, from the cache or the platform.

    Args:
        channel: the connection.
        session: the session's id.
        manifest: verified.
        cache: where segments are kept.
        advance: called with the number of segments that are there since its last call.

    Raises:
        VerificationError: a segment is not the one that the manifest names.
    """

    async def obtain(segments: tuple[Segment, ...]) -> list[Bytes]:
        obtained = []
        for segment in segments:
            tags = await asyncio.to_thread(cache.load, segment)
            if tags is None:
                content = await channel.fetch_segment(session, segment)
                tags = await asyncio.to_thread(cache.store, segment, content)
            obtained.append(tags)
            advance(1)
        return obtained

    base = await obtain(manifest.segments)
    additions = await obtain(manifest.additions)
    cache.trim()
    return await asyncio.to_thread(Index, base, additions)


class Exchange:
    """What one session makes of one list.

    Args:
        session: the protocol's state.
        customers: the list.
        index: of the session's generation.
        keep: whether tokens of matches are kept for a commit.

    Attributes:
        found: `(m,)` bool, which distinct identifiers of the list are in the index.
        numbers: `(k,)` int64, the number of the identifier of each match, after `run`; in no order.
        tags: `(k, 16)` uint8, of the same matches.
    """

    def __init__(self, session: AdvertiserSession, customers: CustomerList, index: Index, keep: bool) -> None:
        self._session = session
        self._customers = customers
        self._index = index
        self._keep = keep
        self._numbers = Growing(np.int64)
        self._tags = Growing(np.uint8, TAG_LENGTH)
        self._tokens = Growing(np.uint8, TOKEN_LENGTH)
        self.found: NDArray[np.bool_] = np.zeros(len(customers), np.bool_)
        self.numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self.tags: Bytes = np.empty((0, TAG_LENGTH), np.uint8)

    async def run(self, stream: Evaluations, window: int, advance: Advance) -> None:
        """Has the whole list and the canaries evaluated.

        Args:
            stream: where to.
            window: batches that may be unanswered.
            advance: called with the number of identifiers that are done since its last call.

        Raises:
            PeerError: an answer does not hold, or a canary is missing.
            RefusedError, UnavailableError: the platform ended the stream.
        """
        unanswered = asyncio.Semaphore(window)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(stream, unanswered))
                tasks.create_task(self._receive(stream, unanswered, advance))
        except BaseExceptionGroup as failures:
            # The first failure ended the other task, so the group holds that one alone.
            raise failures.exceptions[0] from None
        finally:
            stream.cancel()
        self._session.close_list()
        self.numbers, self.tags = self._numbers.take(), self._tags.take()

    async def _send(self, stream: Evaluations, unanswered: asyncio.Semaphore) -> None:
        for number in range(self._session.batches):
            await unanswered.acquire()
            request = await asyncio.to_thread(self._session.request, number, self._inputs(number))
            if not await stream.send(request):
                return

    async def _receive(self, stream: Evaluations, unanswered: asyncio.Semaphore, advance: Advance) -> None:
        for _ in range(self._session.batches):
            reply = await stream.receive()
            unanswered.release()
            advance(await asyncio.to_thread(self._take, reply))

    def _inputs(self, number: int) -> Bytes:
        """The private inputs of a batch; the canaries come behind the list."""
        first, stop = self._session.bounds(number)
        size = len(self._customers)
        own = self._customers.inputs(min(first, size), min(stop, size))
        canaries = self._session.canaries[max(first - size, 0) : max(stop - size, 0)]
        return np.concatenate([own, canaries]) if len(canaries) else own

    def _take(self, reply: EvaluateReply) -> int:
        """Checks an answer and notes its matches; the number of identifiers of the list in it."""
        evaluation = self._session.reply(reply)
        found = self._session.matches(evaluation, self._index)
        self.found[evaluation.first : evaluation.first + len(found)] = found
        rows = np.flatnonzero(found)
        self._numbers.append(rows + evaluation.first)
        self._tags.append(evaluation.tags[rows])
        if self._keep:
            self._tokens.append(reveal_array(evaluation.tokens)[rows])
        return len(found)

    def commit_parts(self) -> Iterator[CommitEntries]:
        """The proof of all matches, once: ascending by tag, in parts of a message each, at least one part."""
        tags, tokens = self.tags, self._tokens.take()
        order = order_by_tag(tags)
        try:
            for start in range(0, max(len(order), 1), MAX_COMMIT_ENTRIES):
                rows = order[start : start + MAX_COMMIT_ENTRIES]
                yield self._session.commit(tags[rows], SecretArray(tokens[rows]))
        finally:
            SecretArray(tokens).wipe()
