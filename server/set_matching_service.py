"""The service of set exchanges on gRPC: messages in, `SetMatching` in worker threads, messages out.

Nothing is decided here. It keeps to the bounds of `matching_service`: batches of a stream under way, and
turns of sessions at the processor.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import grpc

from purposematch.server import set_wire, wire
from purposematch.server.calls import called_session
from purposematch.server.metrics import Metrics
from purposematch.server.peer import peer_of
from purposematch.server.pipeline import OwnSessions, answered
from purposematch.server.processor import Processor
from purposematch.server.set_matching import SetMatching
from purposematch.server.silence import tell
from purposematch.server.statuses import aborting
from purposematch.telemetry import span
from purposematch.v1 import set_matching_pb2 as pb
from purposematch.v1 import set_matching_pb2_grpc

__all__ = ["SetMatchingService"]

_Result = TypeVar("_Result")
_Context = grpc.aio.ServicerContext[Any, Any]
_log = logging.getLogger("purposematch.server")


class SetMatchingService(set_matching_pb2_grpc.SetMatchingServiceServicer):
    """Serves `purposematch.v1.SetMatchingService`.

    Args:
        matching: what decides and computes.
        pool: where sessions are looked up.
        metrics: counts elements.
        processor: where batches, and what finishes an exchange, are computed.
        batches_per_stream: batches of one stream under way at a time.
        silence_seconds: how long a client may say nothing in a stream while it owes a message, or read
            nothing of what it is owed.
    """

    def __init__(
        self,
        matching: SetMatching,
        pool: ThreadPoolExecutor,
        metrics: Metrics,
        processor: Processor,
        *,
        batches_per_stream: int,
        silence_seconds: float,
    ) -> None:
        self._matching = matching
        self._pool = pool
        self._metrics = metrics
        self._processor = processor
        self._batches_per_stream = batches_per_stream
        self._silence_seconds = silence_seconds

    # The bindings know handlers that yield; these write for themselves, so that they see who does not read.
    async def SendElements(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.SendElementsRequest], context: _Context
    ) -> None:
        """Takes batches of own elements as they come."""
        async with aborting(context, "SendElements"):
            peer = peer_of(context)
            own = OwnSessions(partial(self._run, self._matching.demand_session, peer))

            async def answer(message: pb.SendElementsRequest) -> pb.SendElementsResponse:
                batch = set_wire.parse_own(message)
                session_id = called_session(message.session_id)
                await own.demand(session_id)
                count = len(batch.elements)
                self._metrics.count_elements("received", count)
                with span("batch", number=batch.number, elements=count):
                    work = (self._matching.take_own, peer, session_id, batch)
                    await self._processor.run(peer.name, session_id, count, *work)
                self._metrics.count_elements("evaluated", count)
                return pb.SendElementsResponse(batch_number=batch.number)

            with self._processor.capacity.serving(peer.name):
                answers = answered(request_iterator, answer, self._batches_per_stream, self._silence_seconds)
                await tell(context, answers, self._silence_seconds)

    async def ReturnPoints(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ReturnPointsRequest], context: _Context
    ) -> None:
        """Takes batches of returned points as they come."""
        async with aborting(context, "ReturnPoints"):
            peer = peer_of(context)
            own = OwnSessions(partial(self._run, self._matching.demand_session, peer))

            async def answer(message: pb.ReturnPointsRequest) -> pb.ReturnPointsResponse:
                batch = set_wire.parse_returned(message)
                session_id = called_session(message.session_id)
                await own.demand(session_id)
                count = len(batch.elements)
                with span("points", number=batch.number, elements=count):
                    work = (self._matching.take_returned, peer, session_id, batch)
                    await self._processor.run(peer.name, session_id, count, *work)
                self._metrics.count_elements("returned", count)
                return pb.ReturnPointsResponse(batch_number=batch.number)

            with self._processor.capacity.serving(peer.name):
                answers = answered(request_iterator, answer, self._batches_per_stream, self._silence_seconds)
                await tell(context, answers, self._silence_seconds)

    async def FinishExchange(
        self, request: pb.FinishExchangeRequest, context: _Context
    ) -> pb.FinishExchangeResponse:
        """Compares the lists and answers with the noisy report."""
        async with aborting(context, "FinishExchange"):
            session_id = called_session(request.session_id)
            commit_id = wire.parse_commit_id(request.commit_id)
            peer = peer_of(context)
            finish = partial(self._matching.finish, peer, session_id, commit_id)
            report = await self._processor.run(peer.name, session_id, 0, finish, measured=False)
            _log.info("finished a set exchange")
            return pb.FinishExchangeResponse(report=wire.format_document(report))
        raise AssertionError("aborting always raises")

    async def _run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
