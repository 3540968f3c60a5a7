"""The enrollment service on gRPC: what collecting systems deliver, and withdrawals.

A delivery is read message by message in worker threads, so that raw values are there for one message at a
time; the next message is asked for when the one before was read, which is what makes a quick sender wait.

Not protected against: a collector that keeps its place with a row a minute; their number is bounded.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import grpc
import pyarrow as pa

from purposematch.protocol.delivery import MAX_WITHDRAWN_ROWS, NAMING_COLUMNS
from purposematch.protocol.errors import (
    DecodeError,
    InputError,
    NotAuthorizedError,
    PolicyError,
    RefusedError,
    UnavailableError,
)
from purposematch.protocol.evidence import BatchEvidence
from purposematch.protocol.policy import DEFAULT_SOURCE
from purposematch.protocol.purpose import Status
from purposematch.server.enroll import Enrollment, EnrollReport
from purposematch.server.peer import admit, peer_of
from purposematch.server.pki import PeerIdentity, Role
from purposematch.server.platform import Platform
from purposematch.server.received import Received, parse_delivery_id, parse_rows
from purposematch.server.statuses import aborting
from purposematch.server.wire import format_json
from purposematch.server.withdraw import WithdrawalReceipt, withdraw
from purposematch.v1 import enrollment_pb2 as pb
from purposematch.v1 import enrollment_pb2_grpc

__all__ = ["EnrollmentService", "parts_in_time"]

DELIVERIES_AT_A_TIME: Final = 2
"""Deliveries under way at most; each may take some hundred megabytes."""

SILENCE_SECONDS: Final = 60.0
"""A delivery of which nothing comes for this long is given up."""

_NAME: Final = "the delivery"
_STATUSES: Final = {pb.REFUSAL_WITHDRAWN: Status.WITHDRAWN, pb.REFUSAL_OBJECTED: Status.OBJECTED}

_Result = TypeVar("_Result")
_Context = grpc.aio.ServicerContext[Any, Any]


class EnrollmentService(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """Serves `purposematch.v1.EnrollmentService`.

    Args:
        platform: the open platform.
        pool: where rows are read and the database is written.
    """

    def __init__(self, platform: Platform, pool: ThreadPoolExecutor) -> None:
        self._platform = platform
        self._pool = pool
        self._under_way = 0

    async def Enroll(
        self, request_iterator: AsyncIterator[pb.EnrollRequest], context: _Context
    ) -> pb.EnrollResponse:
        """Takes a delivery."""
        async with aborting(context, "Enroll"):
            peer = await self._peer(context, Role.COLLECTOR)
            with self._place():
                report = await self._enroll(peer, parts_in_time(request_iterator))
            refused = {reason.name: count for reason, count in report.refused.items()}
            return pb.EnrollResponse(read=report.read, enrolled=report.enrolled, refused=refused)
        raise AssertionError("aborting always raises")

    async def Withdraw(self, request: pb.WithdrawRequest, context: _Context) -> pb.WithdrawResponse:
        """Records withdrawals and objections."""
        async with aborting(context, "Withdraw"):
            peer = await self._peer(context, Role.COLLECTOR, Role.OPERATOR)
            receipt = await self._run(self._withdraw, peer.name, request)
            return pb.WithdrawResponse(receipt=format_json(receipt.to_mapping()))
        raise AssertionError("aborting always raises")

    async def _peer(self, context: _Context, *roles: Role) -> PeerIdentity:
        peer = peer_of(context)
        await self._run(admit, self._platform, peer, *roles)
        if peer.role is Role.COLLECTOR and peer.name == DEFAULT_SOURCE:
            raise NotAuthorizedError("a collector can not have the name of files without a source")
        return peer

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._under_way == DELIVERIES_AT_A_TIME:
            raise UnavailableError("as many deliveries are under way as may be")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _enroll(self, peer: PeerIdentity, parts: AsyncIterator[pb.EnrollRequest]) -> EnrollReport:
        first = await anext(parts, None)
        if first is None or first.WhichOneof("part") != "header":
            raise DecodeError("a delivery does not begin with its header")
        request = parse_delivery_id(first.header.delivery_id)
        enrollment = await self._run(self._begin, peer.name, first.header)
        received, ended = Received(first.header), False
        async for message in parts:
            if ended:
                raise DecodeError("a delivery goes on after its end")
            match message.WhichOneof("part"):
                case "rows":
                    await self._run(_read, enrollment, received, message.rows)
                case "end":
                    received.end(message.end)
                    ended = True
                case _:
                    raise DecodeError("a message of a delivery is neither rows nor the end")
        if not ended:
            # A connection that broke off looks like a stream that is complete.
            raise DecodeError("a delivery was cut before its end")
        # A delivery takes its time, and its collector may have been shut out meanwhile.
        await self._run(admit, self._platform, peer, Role.COLLECTOR)
        return await self._run(self._store, enrollment, received, request)

    def _begin(self, source: str, header: pb.DeliveryHeader) -> Enrollment:
        evidence = BatchEvidence.from_bytes(header.batch_evidence) if header.batch_evidence else None
        platform = self._platform
        return Enrollment(
            platform.registry,
            platform.policy(),
            platform.taxonomy,
            platform_id=platform.config.platform_id,
            name=_NAME,
            source=source,
            region=header.region or platform.config.region,
            evidence=evidence,
        )

    def _store(self, enrollment: Enrollment, received: Received, request: bytes) -> EnrollReport:
        platform = self._platform
        with _told():
            return enrollment.store(received.sha256, platform.clock, platform.random_bytes, request)

    def _withdraw(self, source: str, request: pb.WithdrawRequest) -> WithdrawalReceipt:
        status = _STATUSES.get(request.refusal)
        if status is None:
            raise DecodeError("a withdrawal does not say whether it is an objection")
        rows = parse_rows(request.named, NAMING_COLUMNS, MAX_WITHDRAWN_ROWS)
        if "subject_id" not in rows.schema.names and not {"kind", "value", "value_format"} <= {
            *rows.schema.names
        }:
            raise DecodeError("a withdrawal has no column that names anybody")
        nothing = pa.repeat("", len(rows))
        named = {name: rows[name] if name in rows.schema.names else nothing for name in NAMING_COLUMNS}
        with _told():
            return withdraw(
                self._platform,
                pa.table(named),
                status,
                purpose=request.purpose or None,
                source=source,
                region=request.region or self._platform.config.region,
                name=_NAME,
                request=parse_delivery_id(request.delivery_id),
            )

    async def _run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


async def parts_in_time(messages: AsyncIterator[pb.EnrollRequest]) -> AsyncIterator[pb.EnrollRequest]:
    """The messages of a delivery, as long as they come.

    Raises:
        UnavailableError: none came for `SILENCE_SECONDS`.
    """
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                message = await anext(messages, None)
        except TimeoutError:
            raise UnavailableError("nothing came of a delivery for too long") from None
        if message is None:
            return
        yield message


def _read(enrollment: Enrollment, received: Received, rows: pb.Rows) -> None:
    with _told():
        enrollment.read(received.take(rows))


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with rows is the collector's to know: rows and columns are named, never a value."""
    try:
        yield
    except PolicyError:
        raise
    except InputError as error:
        raise RefusedError(str(error)) from None
