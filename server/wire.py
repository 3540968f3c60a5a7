"""Messages of the wire as values of the protocol, and back; the platform's side."""

import json
from collections.abc import Iterator, Mapping

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from purposematch.protocol.audience import AudienceChange, AudienceMode
from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.delegation import DelegatedList
from purposematch.protocol.errors import DecodeError, NotFoundError
from purposematch.protocol.group import Bytes
from purposematch.protocol.log.session_proof import LeafProof, SessionProof
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.match_engine import EngineChoice
from purposematch.protocol.messages import (
    COMMIT_ID_LENGTH,
    MAC_LENGTH,
    SESSION_ID_LENGTH,
    EvaluateReply,
    EvaluateRequest,
)
from purposematch.protocol.scope import LARGEST_EPOCH
from purposematch.protocol.signing import SignedDocument
from purposematch.v1 import administration_pb2, log_pb2, matching_pb2

__all__ = [
    "COMMIT_ENTRY_BYTES",
    "STATUS_DETAILS",
    "format_document",
    "format_generation",
    "format_json",
    "format_reply",
    "format_retry",
    "format_segment",
    "format_session_proof",
    "parse_audience",
    "parse_commit_id",
    "parse_digest",
    "parse_engine",
    "parse_epoch",
    "parse_evaluate",
    "parse_on_behalf",
    "parse_session_id",
]

COMMIT_ENTRY_BYTES = TAG_LENGTH + MAC_LENGTH
"""Bytes of one entry of a commit."""
SEGMENT_PART_BYTES = 1_048_576
"""Bytes of a segment in one message."""
_ENGINES = {
    matching_pb2.ENGINE_UNSPECIFIED: EngineChoice.OPRF,
    matching_pb2.ENGINE_OPRF: EngineChoice.OPRF,
    matching_pb2.ENGINE_VOLE: EngineChoice.VOLE,
    matching_pb2.ENGINE_AUTO: EngineChoice.AUTO,
}
STATUS_DETAILS = "grpc-status-details-bin"
"""The trailing metadata in which gRPC carries a google.rpc.Status."""
_MODES = {
    matching_pb2.AUDIENCE_MODE_REPLACE: AudienceMode.REPLACE,
    matching_pb2.AUDIENCE_MODE_ADD: AudienceMode.ADD,
    matching_pb2.AUDIENCE_MODE_REMOVE: AudienceMode.REMOVE,
}


def parse_session_id(value: bytes) -> bytes:
    """Checks a session id.

    Raises:
        DecodeError: it is not 16 bytes long.
    """
    return _fixed(value, SESSION_ID_LENGTH, "session id")


def parse_commit_id(value: bytes) -> bytes:
    """Checks a commit id.

    Raises:
        DecodeError: it is not 16 bytes long.
    """
    return _fixed(value, COMMIT_ID_LENGTH, "commit id")


def parse_digest(value: bytes) -> bytes:
    """Checks a SHA-256 digest.

    Raises:
        DecodeError: it is not 32 bytes long.
    """
    return _fixed(value, 32, "digest")


def parse_on_behalf(message: matching_pb2.OpenSessionRequest) -> DelegatedList | None:
    """For whom a partner opens a session; None where nothing is said.

    Raises:
        DecodeError: the digest has another length.
    """
    if not message.HasField("on_behalf"):
        return None
    return DelegatedList(parse_digest(message.on_behalf.delegation_digest), message.on_behalf.list_name)


def parse_audience(message: matching_pb2.OpenSessionRequest) -> AudienceChange | None:
    """What a session is to do to which audience; None where nothing is said.

    Raises:
        DecodeError: the name is not of its form, or the mode is not known.
    """
    if not message.HasField("audience"):
        return None
    mode = _MODES.get(message.audience.mode)
    if mode is None:
        raise DecodeError("the mode of an audience is not known")
    return AudienceChange(message.audience.name, mode)


def parse_engine(message: matching_pb2.OpenSessionRequest) -> EngineChoice:
    """What the client wants its match computed with.

    Raises:
        DecodeError: it is nothing that is known.
    """
    choice = _ENGINES.get(message.engine)
    if choice is None:
        raise DecodeError("a session asks for an engine that is none")
    return choice


def parse_epoch(value: int) -> int:
    """Checks the number of a key epoch.

    Raises:
        NotFoundError: no epoch can have it; the database can not be asked about such a number.
    """
    if value > LARGEST_EPOCH:
        raise NotFoundError("there is no such epoch")
    return value


def parse_evaluate(message: matching_pb2.EvaluateRequest) -> EvaluateRequest:
    """One batch.

    Raises:
        DecodeError: the elements are not whole.
        LimitError: the number or the count of elements is out of range.
    """
    return EvaluateRequest.decode(message.batch_number, message.blinded_elements)


def format_reply(reply: EvaluateReply) -> matching_pb2.EvaluateResponse:
    """The answer to one batch."""
    return matching_pb2.EvaluateResponse(
        batch_number=reply.number,
        evaluated_elements=reply.evaluated.tobytes(),
        proof=reply.proof.encode(),
    )


def format_document(document: SignedDocument) -> matching_pb2.SignedDocument:
    """A signed document."""
    return matching_pb2.SignedDocument(content=document.content, signature=document.signature)


def format_session_proof(proof: SessionProof) -> log_pb2.SessionProof:
    """What a session's advertiser is shown of the log."""
    return log_pb2.SessionProof(
        checkpoint=proof.checkpoint,
        session=_format_leaf(proof.session),
        manifest=_format_leaf(proof.manifest),
    )


def format_segment(tags: Bytes) -> Iterator[matching_pb2.FetchSegmentResponse]:
    """A segment in parts."""
    content = tags.reshape(-1)
    for start in range(0, len(content), SEGMENT_PART_BYTES):
        part = content[start : start + SEGMENT_PART_BYTES]
        yield matching_pb2.FetchSegmentResponse(content=part.tobytes())


def format_generation(manifest: Manifest) -> administration_pb2.Generation:
    """What an operator is told of a generation."""
    return administration_pb2.Generation(
        id=manifest.name,
        purpose=manifest.scope.purpose,
        profile=str(manifest.scope.profile),
        epoch=manifest.scope.epoch,
        count=manifest.count,
        published_at=manifest.published_at,
        valid_until=manifest.valid_until,
    )


def format_json(document: Mapping[str, object]) -> bytes:
    """A stable document of a command, in UTF-8."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _format_leaf(leaf: LeafProof) -> log_pb2.LeafProof:
    opening = leaf.opening
    return log_pb2.LeafProof(index=leaf.index, salt=opening.salt, event=opening.content, hashes=leaf.hashes)


def _fixed(value: bytes, length: int, what: str) -> bytes:
    if len(value) != length:
        raise DecodeError(f"a {what} is {length} bytes long, not {len(value)}")
    return value


def format_retry(code: int, text: str, retry_seconds: int) -> bytes:
    """The google.rpc.Status of a call that may be tried again after some seconds."""
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=retry_seconds)))
    status = status_pb2.Status(code=code, message=text, details=[packed])
    return bytes(status.SerializeToString())
