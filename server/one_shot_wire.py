"""Messages of matches by VOLE on the wire as values of the protocol; the platform's side.

Not protected against: nothing is verified here but what kind of message it is, and how long it may be.
"""

from purposematch.protocol.errors import DecodeError, LimitError
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.vole.parameters import MAX_CHUNK
from purposematch.protocol.vole.party import Chunk
from purposematch.server import wire
from purposematch.v1 import one_shot_matching_pb2 as pb

__all__ = ["format_chunk", "format_report", "parse_begin", "parse_chunk"]


def parse_begin(message: pb.ExchangeRequest) -> tuple[bytes, bytes]:
    """The session and the commit's id, 16 bytes each, in the first message of a stream.

    Raises:
        DecodeError: it is another message, or an id has another length.
    """
    if message.WhichOneof("part") != "begin":
        raise DecodeError("an exchange begins without its beginning")
    begin = message.begin
    return wire.parse_session_id(begin.session_id), wire.parse_commit_id(begin.commit_id)


def parse_chunk(message: pb.ExchangeRequest) -> Chunk:
    """The advertiser's next chunk.

    Raises:
        DecodeError: it is another message.
        LimitError: it is longer than any chunk.
    """
    if message.WhichOneof("part") != "chunk":
        raise DecodeError("an exchange goes on with something else than a chunk")
    if len(message.chunk.content) > MAX_CHUNK:
        raise LimitError("a chunk is too long")
    return Chunk(message.chunk.number, message.chunk.content)


def format_chunk(chunk: Chunk) -> pb.ExchangeResponse:
    """The platform's next chunk."""
    return pb.ExchangeResponse(chunk=pb.ExchangeChunk(number=chunk.number, content=chunk.content))


def format_report(report: SignedDocument) -> pb.ExchangeResponse:
    """The signed noisy report."""
    return pb.ExchangeResponse(report=wire.format_document(report))
