"""Messages of `purposematch.v1` to and from the values of the protocol, on the advertiser's side.

Every function is one message; what came over the wire is parsed by the strict parsers of the protocol.

Not protected against: nothing is verified here. Signatures and proofs are checked by whoever uses the
values.
"""

from typing import Final, TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.rpc import error_details_pb2, status_pb2

from purposematch.protocol.audience import AudienceChange, AudienceMode
from purposematch.protocol.errors import DecodeError, UnavailableError
from purposematch.protocol.log.events import Opening
from purposematch.protocol.log.proofs import decode_proof
from purposematch.protocol.log.session_proof import LeafProof, SessionProof
from purposematch.protocol.match_engine import EngineChoice
from purposematch.protocol.messages import CommitEntries, EvaluateReply, EvaluateRequest
from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.vole.party import Chunk
from purposematch.v1 import log_pb2 as log_v1
from purposematch.v1 import matching_pb2 as v1
from purposematch.v1 import one_shot_matching_pb2 as one_shot_v1
from purposematch.v1 import set_matching_pb2 as sets_v1

__all__ = [
    "MAX_COMMIT_ENTRIES",
    "STATUS_DETAILS",
    "audience_change",
    "batch_number",
    "commit_request",
    "evaluate_reply",
    "evaluate_request",
    "exchange_answer",
    "exchange_begin",
    "exchange_chunk",
    "own_request",
    "received",
    "retry_seconds",
    "returned_request",
    "session_proof",
    "signed_document",
    "wanted_engine",
]

_Message = TypeVar("_Message")

MAX_COMMIT_ENTRIES: Final = 16_384
"""Entries of one `CommitRequest` at most."""

_ENGINES: Final = {
    EngineChoice.OPRF: v1.ENGINE_OPRF,
    EngineChoice.VOLE: v1.ENGINE_VOLE,
    EngineChoice.AUTO: v1.ENGINE_AUTO,
}
STATUS_DETAILS: Final = "grpc-status-details-bin"
"""The trailing metadata in which gRPC carries a google.rpc.Status."""

_MODES: Final = {
    AudienceMode.REPLACE: v1.AUDIENCE_MODE_REPLACE,
    AudienceMode.ADD: v1.AUDIENCE_MODE_ADD,
    AudienceMode.REMOVE: v1.AUDIENCE_MODE_REMOVE,
}


def audience_change(change: AudienceChange) -> v1.AudienceChange:
    """What a session is to do to which audience."""
    return v1.AudienceChange(name=change.name, mode=_MODES[change.mode])


def evaluate_request(session: bytes, request: EvaluateRequest) -> v1.EvaluateRequest:
    """The message for a batch of blinded elements."""
    return v1.EvaluateRequest(
        session_id=session, batch_number=request.number, blinded_elements=request.blinded.tobytes()
    )


def evaluate_reply(message: v1.EvaluateResponse) -> EvaluateReply:
    """The answer to a batch.

    Raises:
        DecodeError: the lengths are wrong, or the proof is malformed.
    """
    return EvaluateReply.decode(message.batch_number, message.evaluated_elements, message.proof)


def own_request(session: bytes, batch: OwnBatch) -> sets_v1.SendElementsRequest:
    """The message for a batch of the advertiser's own elements."""
    return sets_v1.SendElementsRequest(
        session_id=session,
        batch_number=batch.number,
        exponent=batch.exponent,
        elements=batch.elements.tobytes(),
    )


def returned_request(session: bytes, batch: ReturnedBatch) -> sets_v1.ReturnPointsRequest:
    """The message for a batch of returned points."""
    return sets_v1.ReturnPointsRequest(
        session_id=session,
        batch_number=batch.number,
        elements=batch.elements.tobytes(),
        proof=b"" if batch.proof is None else batch.proof.encode(),
    )


def batch_number(message: sets_v1.SendElementsResponse | sets_v1.ReturnPointsResponse) -> int:
    """The number of a batch that the platform has stored."""
    return message.batch_number


def exchange_begin(session: bytes, commit: bytes) -> one_shot_v1.ExchangeRequest:
    """The message that begins an attempt at an exchange by VOLE."""
    return one_shot_v1.ExchangeRequest(begin=one_shot_v1.ExchangeBegin(session_id=session, commit_id=commit))


def exchange_chunk(chunk: Chunk) -> one_shot_v1.ExchangeRequest:
    """The message for a chunk of an exchange by VOLE."""
    return one_shot_v1.ExchangeRequest(
        chunk=one_shot_v1.ExchangeChunk(number=chunk.number, content=chunk.content)
    )


def exchange_answer(message: one_shot_v1.ExchangeResponse) -> Chunk | SignedDocument:
    """The platform's next chunk of an exchange by VOLE, or the noisy report, not yet verified.

    Raises:
        DecodeError: it is neither.
    """
    match message.WhichOneof("part"):
        case "chunk":
            return Chunk(message.chunk.number, message.chunk.content)
        case "report":
            return signed_document(message.report)
    raise DecodeError("the platform sent a message of an exchange with nothing in it")


def wanted_engine(choice: EngineChoice) -> v1.Engine.ValueType:
    """What a match is to be computed with."""
    return _ENGINES[choice]


def commit_request(session: bytes, commit: bytes, entries: CommitEntries) -> v1.CommitRequest:
    """The message for one part of a commit."""
    return v1.CommitRequest(session_id=session, commit_id=commit, entries=entries.encode())


def received(message: _Message | None) -> _Message:
    """A message that came.

    Raises:
        UnavailableError: the call ended well and without one, or with bytes that are none, for which gRPC
            gives None. Something on the way may have spoiled it, so it is asked for again.
    """
    if message is None:
        raise UnavailableError("the platform sent no answer, or bytes that are no message; try again later")
    return message


def session_proof(message: log_v1.SessionProof) -> SessionProof:
    """What the platform shows of its log for a session, not yet verified.

    Raises:
        DecodeError: the lengths are wrong.
    """
    return SessionProof(message.checkpoint, _leaf_proof(message.session), _leaf_proof(message.manifest))


def _leaf_proof(message: log_v1.LeafProof) -> LeafProof:
    return LeafProof(message.index, Opening(message.salt, message.event), decode_proof(message.hashes))


def signed_document(message: v1.SignedDocument) -> SignedDocument:
    """A signed document, not yet verified."""
    return SignedDocument(message.content, message.signature)


def retry_seconds(details: bytes) -> int | None:
    """The seconds of the RetryInfo in a google.rpc.Status; None if there is none that can be read."""
    status, retry = status_pb2.Status(), error_details_pb2.RetryInfo()
    try:
        status.ParseFromString(details)
        for detail in status.details:
            if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry) and retry.retry_delay.seconds >= 0:
                return int(retry.retry_delay.seconds)
    except ProtobufDecodeError:
        # It is a help for the reader of an error, which is told without it.
        pass
    return None
