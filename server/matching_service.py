"""The matching service on gRPC: messages in, `Matching` in worker threads, messages out.

Nothing is decided here. Cryptography and the database never run on the event loop. Each stream has a bounded
number of batches under way, and no more are read before their answers were taken: a client that sends without
reading waits, costs no memory, and is given up in the end. Sessions take turns at the processor (`turns`).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import grpc

from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.errors import DecodeError, LimitError, PolicyError, UnavailableError
from purposematch.protocol.messages import CommitEntries, SessionGrant
from purposematch.protocol.signing import SignedDocument
from purposematch.server import wire
from purposematch.server.calls import called_session, note_call_session
from purposematch.server.ended import look_at
from purposematch.server.matching import Matching
from purposematch.server.metrics import Metrics
from purposematch.server.peer import peer_of
from purposematch.server.pipeline import OwnSessions, answered
from purposematch.server.pki import PeerIdentity
from purposematch.server.processor import Processor
from purposematch.server.publisher import Publisher
from purposematch.server.registry.removals import StoredList
from purposematch.server.removals import Removals
from purposematch.server.silence import heard, tell
from purposematch.server.statuses import aborting
from purposematch.telemetry import span
from purposematch.v1 import matching_pb2 as pb
from purposematch.v1 import matching_pb2_grpc

__all__ = ["MatchingService"]

_Result = TypeVar("_Result")
_Context = grpc.aio.ServicerContext[Any, Any]
_log = logging.getLogger("purposematch.server")


class MatchingService(matching_pb2_grpc.MatchingServiceServicer):
    """Serves `purposematch.v1.MatchingService`.

    Args:
        matching: what decides and computes.
        publisher: makes a generation when none is fresh.
        removals: serves who left the index.
        pool: where all other work is done.
        metrics: counts elements.
        processor: where batches are evaluated.
        batches_per_stream: batches of one stream under way at a time.
        silence_seconds: how long a client may say nothing in a stream while it owes a message, or read
            nothing of what it is owed.
    """

    def __init__(
        self,
        matching: Matching,
        publisher: Publisher,
        removals: Removals,
        pool: ThreadPoolExecutor,
        metrics: Metrics,
        processor: Processor,
        *,
        batches_per_stream: int,
        silence_seconds: float,
    ) -> None:
        self._matching = matching
        self._publisher = publisher
        self._removals = removals
        self._pool = pool
        self._metrics = metrics
        self._batches_per_stream = batches_per_stream
        self._silence_seconds = silence_seconds
        self._processor = processor
        self._gathering: dict[bytes, asyncio.Task[Any] | None] = {}

    async def OpenSession(self, request: pb.OpenSessionRequest, context: _Context) -> pb.OpenSessionResponse:
        """Opens a session, publishing first if the generation is not fresh."""
        async with aborting(context, "OpenSession"):
            digest = wire.parse_digest(request.agreement_digest)
            delegated, audience = wire.parse_on_behalf(request), wire.parse_audience(request)
            peer, engine = peer_of(context), wire.parse_engine(request)
            opening = partial(
                self._matching.opening.open,
                *(peer, digest, request.list_size, delegated, request.label, audience),
                engine=engine,
                cached=request.cached,
            )
            self._processor.capacity.demand(peer.name)
            try:
                opened = await self._run(opening)
            except UnavailableError:
                await self._refresh()
                opened = await self._run(opening)
            if isinstance(opened, SignedDocument):
                _log.info("answered a known question")
                return pb.OpenSessionResponse(report=wire.format_document(opened))
            note_call_session(SessionGrant.parse(opened.grant.content).session)
            _log.info("opened a session for %d identifiers", request.list_size)
            return pb.OpenSessionResponse(
                grant=wire.format_document(opened.grant),
                manifest=wire.format_document(opened.manifest),
                proof=wire.format_session_proof(opened.proof),
            )
        raise AssertionError("aborting always raises")

    # The bindings know handlers that yield; these write for themselves, so that they see who does not read.
    async def Evaluate(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.EvaluateRequest], context: _Context
    ) -> None:
        """Evaluates batches as they come, a bounded number at a time."""
        async with aborting(context, "Evaluate"):
            peer = peer_of(context)
            with self._processor.capacity.serving(peer.name):
                await tell(context, self._evaluated(peer, request_iterator), self._silence_seconds)

    def _evaluated(
        self, peer: PeerIdentity, requests: AsyncIterator[pb.EvaluateRequest]
    ) -> AsyncGenerator[pb.EvaluateResponse, None]:
        """The answers to batches, in their order."""
        own = OwnSessions(partial(self._run, self._matching.demand_session, peer))

        async def answer(message: pb.EvaluateRequest) -> pb.EvaluateResponse:
            request = wire.parse_evaluate(message)
            session_id = called_session(message.session_id)
            await own.demand(session_id)
            count = len(request.blinded)
            self._metrics.count_elements("received", count)
            with span("batch", number=request.number, elements=count):
                reply = await self._processor.run(
                    peer.name, session_id, count, self._matching.evaluate, peer, session_id, request
                )
            self._metrics.count_elements("evaluated", count)
            return wire.format_reply(reply)

        return answered(requests, answer, self._batches_per_stream, self._silence_seconds)

    async def FetchSegment(  # type: ignore[override]
        self, request: pb.FetchSegmentRequest, context: _Context
    ) -> None:
        """Sends one segment in parts."""
        async with aborting(context, "FetchSegment"):
            session_id, sha256 = called_session(request.session_id), wire.parse_digest(request.sha256)
            parts = self._segment_parts(peer_of(context), session_id, sha256)
            await tell(context, parts, self._silence_seconds)

    async def _segment_parts(
        self, peer: PeerIdentity, session_id: bytes, sha256: bytes
    ) -> AsyncGenerator[pb.FetchSegmentResponse, None]:
        for part in wire.format_segment(await self._run(self._matching.segment, peer, session_id, sha256)):
            yield part

    async def Commit(
        self, request_iterator: AsyncIterator[pb.CommitRequest], context: _Context
    ) -> pb.CommitResponse:
        """Gathers a commit's entries, never more than its session evaluated, and stores it."""
        async with aborting(context, "Commit"):
            peer = peer_of(context)
            gathering = asyncio.create_task(self._gathered(peer, request_iterator))
            gathering.add_done_callback(look_at)
            try:
                await asyncio.wait({gathering})
            finally:
                gathering.cancel()
            if gathering.cancelled():
                raise UnavailableError("another stream commits this session")
            session_id, commit_id, entries = gathering.result()
            commit = partial(self._matching.commit, peer, session_id, commit_id, entries)
            receipt = await self._processor.run(peer.name, session_id, len(entries), commit, measured=False)
            self._metrics.count_elements("committed", len(entries))
            _log.info("committed %d matches", len(entries))
            return pb.CommitResponse(receipt=wire.format_document(receipt))
        raise AssertionError("aborting always raises")

    async def _gathered(
        self, peer: PeerIdentity, requests: AsyncIterator[pb.CommitRequest]
    ) -> tuple[bytes, bytes, CommitEntries]:
        """Session id, commit id and entries of a commit.

        Of several streams that commit one session the latest goes on, and the others are cancelled: whoever
        lost a connection comes back before its old one is seen to be dead, and nobody gathers the same memory
        twice.
        """
        entries, ids, limit = bytearray(), None, 0
        try:
            async for message in heard(requests, self._silence_seconds):
                found = (called_session(message.session_id), wire.parse_commit_id(message.commit_id))
                if ids is None:
                    limit = await self._run(self._matching.commit_limit, peer, found[0])
                    ids = found
                    if (earlier := self._gathering.get(ids[0])) is not None:
                        earlier.cancel()
                    self._gathering[ids[0]] = asyncio.current_task()
                if found != ids:
                    raise DecodeError("the parts of a commit name different sessions or ids")
                entries += message.entries
                if len(entries) > limit * wire.COMMIT_ENTRY_BYTES:
                    raise LimitError("a commit has more entries than its session evaluated")
        finally:
            if ids is not None and self._gathering.get(ids[0]) is asyncio.current_task():
                del self._gathering[ids[0]]
        if ids is None:
            raise DecodeError("a commit has no message")
        return *ids, CommitEntries.decode(bytes(entries))

    async def GetCommit(self, request: pb.GetCommitRequest, context: _Context) -> pb.GetCommitResponse:
        """Returns a stored receipt."""
        async with aborting(context, "GetCommit"):
            session_id = called_session(request.session_id)
            commit_id = wire.parse_commit_id(request.commit_id)
            receipt = await self._run(self._matching.find_commit, peer_of(context), session_id, commit_id)
            return pb.GetCommitResponse(receipt=wire.format_document(receipt))
        raise AssertionError("aborting always raises")

    async def CloseSession(
        self, request: pb.CloseSessionRequest, context: _Context
    ) -> pb.CloseSessionResponse:
        """Closes a session, and shows the log afterwards."""
        async with aborting(context, "CloseSession"):
            session_id = called_session(request.session_id)
            proof = await self._run(self._matching.close_session, peer_of(context), session_id)
            _log.info("closed a session")
            return pb.CloseSessionResponse(proof=wire.format_session_proof(proof))
        raise AssertionError("aborting always raises")

    async def FetchRemovals(  # type: ignore[override]
        self, request: pb.FetchRemovalsRequest, context: _Context
    ) -> None:
        """Sends a list of removals: what was signed, then the tags in parts.

        Publishes first if the generation is not fresh, so that a withdrawal is on the list at once.
        """
        async with aborting(context, "FetchRemovals"):
            arguments = (peer_of(context), wire.parse_epoch(request.epoch))
            # Nobody makes the platform publish who may not ask.
            await self._run(self._removals.find, *arguments)
            await self._refresh()
            found = await self._run(self._removals.find, *arguments)
            await tell(context, self._removal_parts(found), self._silence_seconds)

    async def _removal_parts(self, found: StoredList) -> AsyncGenerator[pb.FetchRemovalsResponse, None]:
        yield pb.FetchRemovalsResponse(list=wire.format_document(found.document))
        last = b""
        while part := await self._run(self._removals.part, found, last):
            yield pb.FetchRemovalsResponse(tags=part)
            last = part[-TAG_LENGTH:]

    async def AcknowledgeRemovals(
        self, request: pb.AcknowledgeRemovalsRequest, context: _Context
    ) -> pb.AcknowledgeRemovalsResponse:
        """Records that an advertiser applied a list of removals."""
        async with aborting(context, "AcknowledgeRemovals"):
            epoch, sha256 = wire.parse_epoch(request.epoch), wire.parse_digest(request.sha256)
            await self._run(self._removals.acknowledge, peer_of(context), epoch, sha256)
            return pb.AcknowledgeRemovalsResponse()
        raise AssertionError("aborting always raises")

    async def _refresh(self) -> None:
        try:
            await self._publisher.refresh()
        except PolicyError:
            # The advertiser can only wait until the operator has mended it.
            raise UnavailableError("the policy file is refused") from None

    async def _run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
