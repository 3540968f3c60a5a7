"""The calls of the matching service and of the log over TLS (gRPC), with values of the protocol in and out.

The server's certificate must be signed by the authority in the credentials and carry the pinned name,
whatever address is dialled; the client shows its own certificate. Every error of gRPC becomes one of
purposematch, see `refusals`.

Not protected against: an authority that signs a second server. What such a server sends fails at the
pinned identity key, which is not the authority's.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import grpc
import grpc.aio

from purposematch.client.credentials import Credentials, MemberCredentials
from purposematch.client.refusals import CallStatus, status_of, translate, translated
from purposematch.client.wire import (
    commit_request,
    evaluate_reply,
    evaluate_request,
    session_proof,
    signed_document,
)
from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.errors import (
    DecodeError,
    InputError,
    NotFoundError,
    StateError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.index import Segment
from purposematch.protocol.log.proofs import Proof, decode_proof
from purposematch.protocol.log.session_proof import SessionProof
from purposematch.protocol.messages import CommitEntries, EvaluateReply, EvaluateRequest
from purposematch.protocol.removals import RemovalList
from purposematch.protocol.secret import reveal
from purposematch.protocol.signing import SignedDocument
from purposematch.telemetry import propagation
from purposematch.v1 import log_pb2 as log_v1
from purposematch.v1 import matching_pb2 as v1
from purposematch.v1.log_pb2_grpc import LogServiceStub
from purposematch.v1.matching_pb2_grpc import MatchingServiceStub

if TYPE_CHECKING:
    from purposematch.v1.log_pb2_grpc import LogServiceAsyncStub
    from purposematch.v1.matching_pb2_grpc import MatchingServiceAsyncStub

__all__ = [
    "CommitLostError",
    "Ending",
    "Evaluations",
    "OpenedSession",
    "PlatformChannel",
    "check_address",
    "connected",
    "open_channel",
]

CONNECT_SECONDS: Final = 20.0
"""How long a connection, or coming back to a lost one, may take."""
CALL_SECONDS: Final = 300.0
"""How long the platform may take for one answer; opening a session may have to wait for a publication."""
CLOSE_SECONDS: Final = 5.0
"""How long closing a session may take before it is left to the platform."""
STATUS_SECONDS: Final = 1.0
"""How long to wait for the status of a call that has failed already."""
STATUS_POLLS: Final = 100
MAX_MESSAGE_BYTES: Final = 4 * 2**20
"""The longest message in either direction; a batch has at most 2 MiB and a little."""

_UNKNOWN_ENDING: Final = CallStatus(grpc.StatusCode.INTERNAL)

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


class CommitLostError(UnavailableError):
    """The connection broke off while a commit was on its way: whether it was stored is not known yet."""


def check_address(address: str) -> str:
    """`address` if it has the form HOST:PORT.

    Raises:
        InputError: it has not.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None or not 0 < int(parts[2]) < 65_536:
        raise InputError("the platform's address must be HOST:PORT, such as match.example.com:8443")
    return address


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """What the platform says a new session is, signed and not yet verified."""

    grant: SignedDocument
    manifest: SignedDocument
    proof: SessionProof


@asynccontextmanager
async def open_channel(address: str, credentials: Credentials) -> AsyncIterator["PlatformChannel"]:
    """Connects to a platform, to match.

    Raises:
        InputError: the address is malformed.
        UnavailableError: nobody answers there, or not the platform of these credentials.
    """
    async with connected(address, credentials) as channel:
        yield PlatformChannel(MatchingServiceStub(channel), LogServiceStub(channel))


@asynccontextmanager
async def connected(address: str, credentials: MemberCredentials) -> AsyncIterator[grpc.aio.Channel]:
    """Connects to a platform.

    Raises:
        InputError: the address is malformed.
        UnavailableError: nobody answers there, or not the platform of these credentials.
    """
    tls = grpc.ssl_channel_credentials(
        root_certificates=credentials.authority,
        private_key=reveal(credentials.key),
        certificate_chain=credentials.certificate,
    )
    options = [
        ("grpc.ssl_target_name_override", credentials.pin.server_name),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # A proxy from the environment would see nothing, but it could not tell the pinned name.
        ("grpc.enable_http_proxy", 0),
    ]
    async with grpc.aio.secure_channel(check_address(address), tls, options) as channel:
        await _connect(channel, address)
        yield channel


async def _connect(channel: grpc.aio.Channel, address: str) -> None:
    state = channel.get_state(try_to_connect=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    if state is not grpc.ChannelConnectivity.READY:
        raise UnavailableError(
            f"no connection to {address}: nobody answers there, or not the platform that these credentials "
            "are for; check the address, the network, and that the credentials are this platform's"
        )


class PlatformChannel:
    """The calls of one connection; made by `open_channel`.

    Args:
        stub: the generated stub.
        log: that of the log.
    """

    def __init__(self, stub: "MatchingServiceAsyncStub", log: "LogServiceAsyncStub") -> None:
        self._stub = stub
        self._log = log

    async def open_session(self, agreement: bytes, list_size: int) -> OpenedSession:
        """Opens a session under the agreement of this digest: its signed documents, unverified."""
        with translated("opening the session"):
            answer = await self._stub.OpenSession(
                v1.OpenSessionRequest(agreement_digest=agreement, list_size=list_size),
                timeout=CALL_SECONDS,
                metadata=propagation(),
            )
        return OpenedSession(
            signed_document(answer.grant), signed_document(answer.manifest), session_proof(answer.proof)
        )

    async def fetch_segment(self, session: bytes, segment: Segment) -> bytes:
        """The bytes of a segment, unverified but not longer than they should be.

        Raises:
            VerificationError: the platform sends more bytes than the segment has.
        """
        length = segment.count * TAG_LENGTH
        content = bytearray()
        with translated("fetching the index"):
            call = self._stub.FetchSegment(
                v1.FetchSegmentRequest(session_id=session, sha256=segment.sha256),
                timeout=CALL_SECONDS,
                metadata=propagation(),
            )
            async for part in call:
                content += part.content
                if len(content) > length:
                    call.cancel()
                    raise VerificationError("an index segment is longer than the signed manifest says")
        return bytes(content)

    def evaluations(self, session: bytes) -> "Evaluations":
        """Begins to evaluate a list."""
        return Evaluations(session, self._stub.Evaluate(metadata=propagation()))

    async def commit(self, session: bytes, commit: bytes, parts: Iterable[CommitEntries]) -> SignedDocument:
        """Commits entries and gives the receipt, unverified.

        Args:
            session: the session's id.
            commit: the commit's id, 16 bytes.
            parts: the entries, ascending by tag over all parts, at most `MAX_COMMIT_ENTRIES` in one.

        Raises:
            CommitLostError: the connection broke off; `find_commit` tells what became of it.
        """

        async def messages() -> AsyncIterator[v1.CommitRequest]:
            # In a thread, because the MACs of a part are computed when it is asked for.
            rest = iter(parts)
            while (part := await asyncio.to_thread(next, rest, None)) is not None:
                yield commit_request(session, commit, part)

        call = self._stub.Commit(messages(), timeout=CALL_SECONDS, metadata=propagation())
        ending = Ending(call)
        try:
            answer = await call
        except grpc.aio.AioRpcError:
            reason = translate(await ending.status(), "committing the matches")
            if isinstance(reason, UnavailableError):
                raise CommitLostError(str(reason)) from None
            raise reason from None
        return signed_document(answer.receipt)

    async def find_commit(self, session: bytes, commit: bytes) -> SignedDocument | None:
        """The stored receipt of a commit, unverified; None if there is none. Reconnects if need be."""
        try:
            answer = await self._stub.GetCommit(
                v1.GetCommitRequest(session_id=session, commit_id=commit),
                timeout=CONNECT_SECONDS,
                wait_for_ready=True,
                metadata=propagation(),
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise translate(status_of(error), "asking for the commit") from None
        return signed_document(answer.receipt)

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
            with translated(doing):
                call = self._stub.FetchRemovals(
                    v1.FetchRemovalsRequest(epoch=epoch), timeout=CALL_SECONDS, metadata=propagation()
                )
                async for part in call:
                    if listed is None:
                        listed = RemovalList.open(signed_document(part.list), identity_key)
                    content += part.tags
                    if len(content) > listed.count * TAG_LENGTH:
                        call.cancel()
                        raise VerificationError("there are more removed tags than the platform signed")
        except NotFoundError:
            raise NotFoundError(f"{doing}: the platform has no list of key epoch {epoch}") from None
        if listed is None:
            raise DecodeError("the platform sent no list of removals")
        return listed, bytes(content)

    async def acknowledge_removals(self, epoch: int, sha256: bytes) -> None:
        """Says that the list of a key epoch with these tags was applied."""
        with translated("acknowledging the removals"):
            await self._stub.AcknowledgeRemovals(
                v1.AcknowledgeRemovalsRequest(epoch=epoch, sha256=sha256),
                timeout=CALL_SECONDS,
                metadata=propagation(),
            )

    async def consistency_proof(self, old: int, new: int) -> Proof:
        """Asks for the proof that the log of `old` leaves is the beginning of that of `new`; unverified.

        Raises:
            NotFoundError: the platform says that its log has not so many leaves.
            DecodeError: what it answers is no proof.
        """
        with translated("asking for a proof of the log"):
            answer = await self._log.GetConsistencyProof(
                log_v1.GetConsistencyProofRequest(old_size=old, new_size=new),
                timeout=CALL_SECONDS,
                metadata=propagation(),
            )
        return decode_proof(answer.hashes)

    async def close_session(self, session: bytes) -> SessionProof | None:
        """Closes a session, and gives what the log holds of it, unverified.

        None if the platform cannot be reached or does not answer: a session that is left open ends by itself.

        Raises:
            DecodeError: what it answers is malformed.
        """
        with suppress(grpc.aio.AioRpcError):
            request = v1.CloseSessionRequest(session_id=session)
            answer = await self._stub.CloseSession(request, timeout=CLOSE_SECONDS, metadata=propagation())
            return session_proof(answer.proof)
        return None


class Ending:
    """Remembers how a call with a stream of requests ended.

    When a write fails because the call has ended, gRPC calls that INTERNAL, before or after the status that
    the platform gave, and keeps only the later of the two.

    Args:
        call: the call, not yet ended.
    """

    def __init__(self, call: grpc.aio.Call) -> None:
        self._call = call
        self._first = _UNKNOWN_ENDING
        call.add_done_callback(self._note_first)

    def _note_first(self, call: grpc.aio.Call) -> None:
        # The status is there already, so asking for it does not wait and the coroutine ends at once.
        try:
            _status(call).send(None)
        except StopIteration as answer:
            self._first = answer.value

    async def status(self) -> CallStatus:
        """The platform's status, INTERNAL if it gives none."""
        for _ in range(STATUS_POLLS):
            for ending in (self._first, await _status(self._call)):
                if ending.code is not grpc.StatusCode.INTERNAL:
                    return ending
            await asyncio.sleep(STATUS_SECONDS / STATUS_POLLS)
        return _UNKNOWN_ENDING


async def _status(call: grpc.aio.Call) -> CallStatus:
    return CallStatus.of(await call.code(), await call.details(), await call.trailing_metadata() or ())


class Evaluations:
    """One stream of batches; one task may send while another receives.

    Args:
        session: the session's id.
        call: the gRPC call.
    """

    def __init__(
        self, session: bytes, call: "grpc.aio.StreamStreamCall[v1.EvaluateRequest, v1.EvaluateResponse]"
    ) -> None:
        self._session = session
        self._call = call
        self._ending = Ending(call)

    async def send(self, request: EvaluateRequest) -> bool:
        """Sends a batch; False if the stream has ended, of which `receive` tells the reason."""
        try:
            await self._call.write(evaluate_request(self._session, request))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        return True

    async def receive(self) -> EvaluateReply:
        """The next answer, to whichever batch.

        Raises:
            StateError: the platform ended the stream.
            UnavailableError: the platform is silent for too long.
        """
        try:
            async with asyncio.timeout(CALL_SECONDS):
                message = await self._call.read()
        except TimeoutError:
            raise translate(CallStatus(grpc.StatusCode.DEADLINE_EXCEEDED), "evaluating the list") from None
        except grpc.aio.AioRpcError:
            message = grpc.aio.EOF
        if message is not grpc.aio.EOF:
            return evaluate_reply(cast(v1.EvaluateResponse, message))
        status = await self._ending.status()
        if status.code is not grpc.StatusCode.OK:
            raise translate(status, "evaluating the list")
        raise StateError("the end of the stream", "an answer to every batch")

    def cancel(self) -> None:
        """Ends the stream, whatever is still on its way."""
        self._call.cancel()
