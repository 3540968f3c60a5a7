"""The calls of the matching service and of the log (gRPC), with values of the protocol in and out.

Every error of gRPC becomes one of purposematch, see `refusals`. No call is bounded in length, only in
silence: a platform that owes an answer must send something within so many seconds.

Not protected against: what is sent is handed on unverified unless it says otherwise.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from purposematch.client.connection import connected
from purposematch.client.credentials import Credentials
from purposematch.client.reconnect import SILENCE_SECONDS
from purposematch.client.refusals import CallStatus, status_of, translate, translated
from purposematch.client.streams import Batches, Ending, Evaluations, parts
from purposematch.client.wire import (
    audience_change,
    batch_number,
    commit_request,
    evaluate_reply,
    evaluate_request,
    exchange_answer,
    exchange_begin,
    exchange_chunk,
    own_request,
    received,
    returned_request,
    session_proof,
    signed_document,
    wanted_engine,
)
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.delegation import OnBehalf
from purposematch.protocol.errors import DecodeError, NotFoundError, UnavailableError, VerificationError
from purposematch.protocol.index import Segment
from purposematch.protocol.log.proofs import Proof, decode_proof
from purposematch.protocol.log.session_proof import SessionProof
from purposematch.protocol.match_engine import EngineChoice
from purposematch.protocol.messages import CommitEntries
from purposematch.protocol.removals import RemovalList
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.vole.party import Chunk
from purposematch.telemetry import propagation
from purposematch.v1 import log_pb2 as log_v1
from purposematch.v1 import matching_pb2 as v1
from purposematch.v1 import one_shot_matching_pb2 as one_shot_v1
from purposematch.v1 import set_matching_pb2 as sets_v1
from purposematch.v1.log_pb2_grpc import LogServiceStub
from purposematch.v1.matching_pb2_grpc import MatchingServiceStub
from purposematch.v1.one_shot_matching_pb2_grpc import OneShotMatchingServiceStub
from purposematch.v1.set_matching_pb2_grpc import SetMatchingServiceStub

if TYPE_CHECKING:
    from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
    from purposematch.v1.log_pb2_grpc import LogServiceAsyncStub
    from purposematch.v1.matching_pb2_grpc import MatchingServiceAsyncStub
    from purposematch.v1.one_shot_matching_pb2_grpc import OneShotMatchingServiceAsyncStub
    from purposematch.v1.set_matching_pb2_grpc import SetMatchingServiceAsyncStub

__all__ = [
    "Attempt",
    "CommitLostError",
    "OpenedSession",
    "PlatformChannel",
    "open_channel",
]

CLOSE_SECONDS: Final = 5.0
"""How long closing a session may take before it is left to the platform."""


Attempt = Batches[Chunk | None, Chunk | SignedDocument]
"""The stream of an attempt at an exchange by VOLE; None begins it."""


class CommitLostError(UnavailableError):
    """The connection broke off while a commit was on its way: whether it was stored is not known yet."""


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """What the platform says a new session is, signed and not yet verified."""

    grant: SignedDocument
    manifest: SignedDocument
    proof: SessionProof


@asynccontextmanager
async def open_channel(
    address: str, credentials: Credentials, silence_seconds: float = SILENCE_SECONDS
) -> AsyncIterator["PlatformChannel"]:
    """Connects to a platform, to match.

    Args:
        address: HOST:PORT.
        credentials: of this advertiser.
        silence_seconds: see `Patience`.

    Raises:
        InputError: the address is malformed.
        UnavailableError: nobody answers there, or not the platform of these credentials.
    """
    async with connected(address, credentials) as channel:
        stubs = (
            MatchingServiceStub(channel),
            SetMatchingServiceStub(channel),
            OneShotMatchingServiceStub(channel),
            LogServiceStub(channel),
        )
        yield PlatformChannel(*stubs, silence_seconds)


class PlatformChannel:
    """The calls of one connection; made by `open_channel`.

    Args:
        stub: the generated stub.
        sets: that of set exchanges.
        one_shot: that of matches by VOLE.
        log: that of the log.
        silence_seconds: how long the platform may say nothing while it owes an answer.
    """

    def __init__(
        self,
        stub: "MatchingServiceAsyncStub",
        sets: "SetMatchingServiceAsyncStub",
        one_shot: "OneShotMatchingServiceAsyncStub",
        log: "LogServiceAsyncStub",
        silence_seconds: float,
    ) -> None:
        self._stub = stub
        self._sets = sets
        self._one_shot = one_shot
        self._log = log
        self._silence = silence_seconds

    async def open_session(
        self,
        agreement: bytes,
        list_size: int,
        on_behalf: OnBehalf | None = None,
        label: bytes = b"",
        audience: AudienceChange = USUAL_CHANGE,
        engine: EngineChoice = EngineChoice.OPRF,
        cached: int = 0,
    ) -> OpenedSession | SignedDocument:
        """Opens a session under the agreement of this digest: its signed documents, unverified.

        Under a noisy disclosure, where the list of this label was answered before, the noisy report instead.

        Args:
            agreement: its digest, 32 bytes.
            list_size: distinct identifiers in the list.
            on_behalf: for whom a partner opens it.
            label: under a noisy disclosure what this side calls the list, 32 bytes.
            audience: what the session is to do to which audience.
            engine: what it is to be computed with.
            cached: tags, or points, that this side has kept.
        """
        request = v1.OpenSessionRequest(agreement_digest=agreement, list_size=list_size, label=label)
        if on_behalf is not None:
            request.on_behalf.delegation_digest = on_behalf.delegation.digest
            request.on_behalf.list_name = on_behalf.list_name
        if audience != USUAL_CHANGE:
            request.audience.CopyFrom(audience_change(audience))
        if engine is not EngineChoice.OPRF:
            request.engine, request.cached = wanted_engine(engine), cached
        with translated("opening the session"):
            answer = await self._stub.OpenSession(
                request,
                timeout=self._silence,
                metadata=propagation(),
            )
        answer = received(answer)
        if label and answer.HasField("report"):
            return signed_document(answer.report)
        return OpenedSession(
            signed_document(answer.grant), signed_document(answer.manifest), session_proof(answer.proof)
        )

    async def fetch_segment(self, session: bytes, segment: Segment) -> bytes:
        """The bytes of a segment, unverified but not longer than they should be.

        Raises:
            VerificationError: the platform sends more bytes than the segment has.
        """
        length = segment.size_bytes
        content = bytearray()
        call = self._stub.FetchSegment(
            v1.FetchSegmentRequest(session_id=session, sha256=segment.sha256), metadata=propagation()
        )
        async with aclosing(parts(call, "fetching the index", self._silence)) as coming:
            async for part in coming:
                content += part.content
                if len(content) > length:
                    raise VerificationError("an index segment is longer than the signed manifest says")
        return bytes(content)

    def evaluations(self, session: bytes) -> "Evaluations":
        """Begins to evaluate a list."""
        call = self._stub.Evaluate(metadata=propagation())
        encode = partial(evaluate_request, session)
        return Evaluations(call, encode, evaluate_reply, "evaluating the list", self._silence)

    def attempt(self, session: bytes, commit: bytes) -> "Attempt":
        """Begins an attempt at an exchange by VOLE.

        Args:
            session: the session's id.
            commit: the commit's id, 16 bytes, the same for every attempt.
        """
        call = self._one_shot.Exchange(metadata=propagation())

        def encode(part: "Chunk | None") -> one_shot_v1.ExchangeRequest:
            return exchange_begin(session, commit) if part is None else exchange_chunk(part)

        return Batches(call, encode, exchange_answer, "matching by VOLE", self._silence)

    def own_batches(self, session: bytes) -> "Batches[OwnBatch, int]":
        """Begins to send a list's elements in a set exchange; the answers are numbers of batches."""
        call = self._sets.SendElements(metadata=propagation())
        return Batches(call, partial(own_request, session), batch_number, "sending the list", self._silence)

    def returned_batches(self, session: bytes) -> "Batches[ReturnedBatch, int]":
        """Begins to give the platform's points back in a set exchange; as `own_batches`."""
        call = self._sets.ReturnPoints(metadata=propagation())
        encode = partial(returned_request, session)
        return Batches(call, encode, batch_number, "giving the points back", self._silence)

    async def finish_exchange(self, session: bytes, commit: bytes) -> SignedDocument:
        """Has a set exchange finished: the signed noisy report, unverified.

        Raises:
            CommitLostError: the connection broke off; the same call tells what became of it.
        """
        try:
            with translated("finishing the exchange"):
                answer = await self._sets.FinishExchange(
                    sets_v1.FinishExchangeRequest(session_id=session, commit_id=commit),
                    timeout=self._silence,
                    metadata=propagation(),
                )
        except UnavailableError as error:
            raise CommitLostError(str(error)) from None
        return signed_document(received(answer).report)

    async def commit(self, session: bytes, commit: bytes, entries: Iterable[CommitEntries]) -> SignedDocument:
        """Commits entries and gives the receipt, unverified.

        Args:
            session: the session's id.
            commit: the commit's id, 16 bytes.
            entries: ascending by tag over all parts, at most `MAX_COMMIT_ENTRIES` in one.

        Raises:
            CommitLostError: the connection broke off; `find_commit` tells what became of it.
        """

        doing, clock = "committing the matches", asyncio.get_running_loop().time
        silence = asyncio.timeout(self._silence)

        async def messages() -> AsyncIterator[v1.CommitRequest]:
            # In a thread, because the first part is there when all of them are in order.
            rest = iter(entries)
            while (part := await asyncio.to_thread(next, rest, None)) is not None:
                # A part is asked for when the last one is on its way.
                silence.reschedule(clock() + self._silence)
                yield commit_request(session, commit, part)

        call = self._stub.Commit(messages(), metadata=propagation())
        ending = Ending(call)
        try:
            async with silence:
                answer = await call
        except TimeoutError:
            raise CommitLostError(
                str(translate(CallStatus(grpc.StatusCode.DEADLINE_EXCEEDED), doing))
            ) from None
        except grpc.aio.AioRpcError:
            reason = translate(await ending.status(), doing)
            if isinstance(reason, UnavailableError):
                raise CommitLostError(str(reason)) from None
            raise reason from None
        try:
            return signed_document(received(answer).receipt)
        except UnavailableError as error:
            # It may be stored all the same.
            raise CommitLostError(f"{doing}: {error}") from None

    async def find_commit(self, session: bytes, commit: bytes) -> SignedDocument | None:
        """The stored receipt of a commit, unverified; None if there is none."""
        try:
            answer = await self._stub.GetCommit(
                v1.GetCommitRequest(session_id=session, commit_id=commit),
                timeout=self._silence,
                metadata=propagation(),
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise translate(status_of(error), "asking for the commit") from None
        return signed_document(received(answer).receipt)

    async def fetch_removals(self, epoch: int, identity_key: bytes) -> tuple[RemovalList, bytes]:
        """The list of removals of a key epoch, its signature verified, and its tags, not yet verified.

        Raises:
            NotFoundError: the platform has none of this epoch.
            VerificationError: the signature does not hold, or there are more tags than were signed.
            DecodeError: the stream does not begin with a list, or its list is malformed.
        """
        doing, listed = "fetching the removals", None
        content = bytearray()
        try:
            call = self._stub.FetchRemovals(v1.FetchRemovalsRequest(epoch=epoch), metadata=propagation())
            async with aclosing(parts(call, doing, self._silence)) as coming:
                async for part in coming:
                    if listed is None:
                        listed = RemovalList.open(signed_document(part.list), identity_key)
                    content += part.tags
                    if len(content) > listed.count * TAG_LENGTH:
                        raise VerificationError("there are more removed tags than the platform signed")
        except NotFoundError:
            raise NotFoundError(f"{doing}: the platform has no list of key epoch {epoch}") from None
        if listed is None:
            raise DecodeError("the platform sent no list of removals")
        return listed, bytes(content)

    async def acknowledge_removals(self, epoch: int, sha256: bytes) -> None:
        """Says that the list of a key epoch with these tags was applied."""
        with translated("acknowledging the removals"):
            answer = await self._stub.AcknowledgeRemovals(
                v1.AcknowledgeRemovalsRequest(epoch=epoch, sha256=sha256),
                timeout=self._silence,
                metadata=propagation(),
            )
        received(answer)

    async def consistency_proof(self, old: int, new: int) -> Proof:
        """Asks for the proof that the log of `old` leaves is the beginning of that of `new`; unverified.

        Raises:
            NotFoundError: the platform says that its log has not so many leaves.
            DecodeError: what it answers is no proof.
        """
        with translated("asking for a proof of the log"):
            answer = await self._log.GetConsistencyProof(
                log_v1.GetConsistencyProofRequest(old_size=old, new_size=new),
                timeout=self._silence,
                metadata=propagation(),
            )
        return decode_proof(received(answer).hashes)

    async def close_session(self, session: bytes) -> SessionProof | None:
        """Closes a session, and gives what the log holds of it, unverified.

        None if the platform cannot be reached or does not answer: a session that is left open ends by itself.

        Raises:
            DecodeError: what it answers is malformed.
        """
        with suppress(grpc.aio.AioRpcError):
            request = v1.CloseSessionRequest(session_id=session)
            answer = await self._stub.CloseSession(request, timeout=CLOSE_SECONDS, metadata=propagation())
            return session_proof(received(answer).proof)
        return None
