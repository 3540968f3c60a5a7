"""The answer service on gRPC: `subject`, `impact` and `audit` for operators and auditors.

The documents are those of the commands, made by the same functions.

Not protected against: an operator or auditor who asks for the wrong person.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import grpc

from purposematch.protocol.errors import (
    DecodeError,
    InputError,
    IntegrityError,
    RefusedError,
    UnavailableError,
)
from purposematch.server.answers import answer_impact, answer_subject, parse_kind, selection_of
from purposematch.server.audit import audit
from purposematch.server.operator_queries import Query, record_query
from purposematch.server.peer import admit, peer_of
from purposematch.server.pki import Role
from purposematch.server.platform import Platform
from purposematch.server.statuses import aborting
from purposematch.server.wire import format_json
from purposematch.v1 import answers_pb2 as pb
from purposematch.v1 import answers_pb2_grpc

__all__ = ["AnswerService"]

PART_BYTES: Final = 262_144
"""Bytes of a document in one message."""

_Result = TypeVar("_Result")
_Context = grpc.aio.ServicerContext[Any, Any]


class AnswerService(answers_pb2_grpc.AnswerServiceServicer):
    """Serves `purposematch.v1.AnswerService`.

    Args:
        platform: the open platform.
        pool: where questions are answered.
    """

    def __init__(self, platform: Platform, pool: ThreadPoolExecutor) -> None:
        self._platform = platform
        self._pool = pool
        self._auditing = False

    async def GetSubject(
        self, request: pb.GetSubjectRequest, context: _Context
    ) -> AsyncIterator[pb.GetSubjectResponse]:
        """Tells everything about somebody, in parts."""
        async with aborting(context, "GetSubject"):
            document = await self._run(self._subject, await self._asker(context), request)
            for start in range(0, len(document), PART_BYTES):
                yield pb.GetSubjectResponse(content=document[start : start + PART_BYTES])

    async def GetImpact(self, request: pb.GetImpactRequest, context: _Context) -> pb.GetImpactResponse:
        """Says who was enrolled through assertions."""
        async with aborting(context, "GetImpact"):
            document = await self._run(self._impact, await self._asker(context), request)
            return pb.GetImpactResponse(document=document)
        raise AssertionError("aborting always raises")

    async def Audit(self, request: pb.AuditRequest, context: _Context) -> pb.AuditResponse:
        """Verifies everything, once at a time."""
        async with aborting(context, "Audit"):
            asker = await self._asker(context)
            if self._auditing:
                raise UnavailableError("an audit is under way")
            self._auditing = True
            # An audit whose asker has gone ends by itself, and until then no other begins.
            running = asyncio.ensure_future(self._run(self._audit, asker))
            running.add_done_callback(self._audited)
            return await asyncio.shield(running)
        raise AssertionError("aborting always raises")

    async def _asker(self, context: _Context) -> str:
        peer = peer_of(context)
        await self._run(admit, self._platform, peer, Role.OPERATOR, Role.AUDITOR)
        return f"certificate:{peer.role}:{peer.name}"

    def _subject(self, asker: str, request: pb.GetSubjectRequest) -> bytes:
        subject_id, value, kind, region = None, None, None, None
        match request.WhichOneof("who"):
            case "subject_id":
                subject_id = request.subject_id
            case "identifier":
                asked = request.identifier
                value, kind, region = asked.value, asked.kind or None, asked.region or None
            case _:
                raise DecodeError("a question about a subject names nobody")
        try:
            found = answer_subject(self._platform, subject_id, value, parse_kind(kind), region, asker)
        except InputError:
            raise DecodeError("the identifier in a question can not be read") from None
        return format_json(found)

    def _impact(self, asker: str, request: pb.GetImpactRequest) -> bytes:
        try:
            selection = selection_of(
                request.origins,
                request.purposes,
                request.notices,
                request.sources,
                request.issuers,
                request.received_from or None,
                request.received_to or None,
            )
            _, document = answer_impact(
                self._platform, selection, request.advertiser or None, request.as_of or None, asker
            )
        except InputError as error:
            raise RefusedError(str(error)) from None
        return format_json(document)

    def _audit(self, asker: str) -> pb.AuditResponse:
        try:
            checked = format_json(audit(self._platform).to_mapping())
        except IntegrityError as error:
            return pb.AuditResponse(passed=False, problem=str(error))
        record_query(self._platform, Query.AUDIT, {}, asker)
        return pb.AuditResponse(passed=True, document=checked)

    def _audited(self, running: "asyncio.Future[pb.AuditResponse]") -> None:
        self._auditing = False
        if not running.cancelled():
            # Nobody else may be there to look at it.
            running.exception()

    async def _run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
