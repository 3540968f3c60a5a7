"""What a match sends each way: counted from the messages of the wire, built with empty content.

Each engine has one function here that adds up its exchange; `plan` says which disclosure takes which. The
chunks of a match by VOLE are those of `Parameters.messages`, so they are exact.

Not protected against: estimates. Segments that are in the cache are not fetched, a stream that breaks off is
sent again, and the signed documents of a session differ by some hundred bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from purposematch.client.wire import MAX_COMMIT_ENTRIES
from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, PROOF_LENGTH, TAG_LENGTH
from purposematch.protocol.index import segment_bits
from purposematch.protocol.label import LABEL_LENGTH
from purposematch.protocol.messages import COMMIT_ID_LENGTH, MAC_LENGTH, SESSION_ID_LENGTH
from purposematch.protocol.one_shot import receives, sizes_for
from purposematch.protocol.point_segments import MAX_POINT_SEGMENTS, PLANTED_COUNT
from purposematch.protocol.vole.parameters import Role
from purposematch.v1 import matching_pb2 as v1
from purposematch.v1 import one_shot_matching_pb2 as one_shot_v1
from purposematch.v1 import set_matching_pb2 as sets_v1

__all__ = [
    "DEFAULT_BATCH",
    "Sizes",
    "Traffic",
    "committing_traffic",
    "count_points",
    "one_shot_traffic",
    "oprf_segments",
    "oprf_traffic",
    "platform_points",
    "point_segments",
    "session_traffic",
    "set_traffic",
]

DEFAULT_BATCH: Final = 8_192
"""Elements of a batch, as platforms have it unless they say otherwise."""

FRAME_BYTES: Final = 16_384
"""Bytes of a message in one frame of HTTP/2, and in one record of TLS."""
FRAME_HEAD: Final = 9 + 5 + 17
"""Bytes around that: of HTTP/2 (RFC 9113 section 4.1) and of TLS 1.3 (RFC 8446 section 5.2)."""
MESSAGE_HEAD: Final = 5
"""Bytes that gRPC puts before a message."""
SEGMENT_PART_BYTES: Final = 1_048_576
"""Bytes of a segment in one message."""
DOCUMENT_BYTES: Final = 900
"""A signed document of a session, about: a grant, a manifest without segments, a receipt."""
SEGMENT_ENTRY_BYTES: Final = 91
"""A segment in a manifest."""
PROOF_BYTES: Final = 2_600
"""What the platform shows of its log when a session opens or closes, about."""
CALL_BYTES: Final = (220, 110)
"""Heads of a call: what the client sends, and what it receives."""
CONNECTION_BYTES: Final = (2_600, 2_400)
"""The handshake of TLS with a certificate on each side, and the settings of HTTP/2."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is matched.

    Attributes:
        list_size: distinct identifiers of the list.
        enrolled: of the platform.
        matching: in both.
        batch: elements in one batch.
    """

    list_size: int
    enrolled: int
    matching: int
    batch: int = DEFAULT_BATCH

    @property
    def own(self) -> int:
        """Elements of the list, canaries included."""
        return self.list_size + CANARY_COUNT


class Traffic:
    """Adds up what the client sends and receives on one connection."""

    def __init__(self) -> None:
        self.bytes = list(CONNECTION_BYTES)

    def call(self, count: int = 1) -> None:
        """So many calls begin."""
        for way, head in enumerate(CALL_BYTES):
            self.bytes[way] += count * head

    def send(self, message: Any, count: int = 1) -> None:
        """The client sends so many messages of that size."""
        self._add(0, message.ByteSize(), count)

    def receive(self, message: Any, count: int = 1) -> None:
        """It receives them."""
        self._add(1, message.ByteSize(), count)

    def _add(self, way: int, size: int, count: int) -> None:
        size += MESSAGE_HEAD
        self.bytes[way] += count * (size + -(-size // FRAME_BYTES) * FRAME_HEAD)


def session_traffic(traffic: Traffic, sizes: Sizes, segments: int, *, noisy: bool) -> None:
    """The opening of a session and its end.

    Args:
        traffic: is added to.
        sizes: how much is matched.
        segments: entries of segments in the manifest.
        noisy: whether the disclosure is.
    """
    label = bytes(LABEL_LENGTH) if noisy else b""
    traffic.call(2)
    traffic.send(v1.OpenSessionRequest(agreement_digest=bytes(32), list_size=sizes.list_size, label=label))
    manifest = bytes(DOCUMENT_BYTES + SEGMENT_ENTRY_BYTES * segments)
    opened = v1.OpenSessionResponse(
        grant=_document(), manifest=v1.SignedDocument(content=manifest, signature=bytes(64))
    )
    opened.proof.checkpoint = bytes(PROOF_BYTES)
    traffic.receive(opened)

    traffic.send(v1.CloseSessionRequest(session_id=bytes(SESSION_ID_LENGTH)))
    closed = v1.CloseSessionResponse()
    closed.proof.checkpoint = bytes(PROOF_BYTES)
    traffic.receive(closed)


def _document() -> v1.SignedDocument:
    return v1.SignedDocument(content=bytes(DOCUMENT_BYTES), signature=bytes(64))


def _fetching(traffic: Traffic, size: int, segments: int) -> None:
    """So many segments of so many bytes each, of which nothing is in the cache."""
    traffic.call(segments)
    traffic.send(v1.FetchSegmentRequest(session_id=bytes(SESSION_ID_LENGTH), sha256=bytes(32)), segments)
    whole, rest = divmod(size, SEGMENT_PART_BYTES)
    for part, count in ((SEGMENT_PART_BYTES, whole), (rest, 1 if rest else 0)):
        if count:
            traffic.receive(v1.FetchSegmentResponse(content=bytes(part)), count * segments)


def _batches(
    add: Callable[[Any, int], None],
    elements: int,
    batch: int,
    make: Callable[[int, int], Any],
    begin: int = 0,
) -> int:
    """Adds a stream of batches, numbered from `begin`; `make` gives the message of a number and a length.

    Returns:
        The number of the batch that would come next.
    """
    whole, rest = divmod(elements, batch)
    end = begin + whole
    # The number's own length grows with it: 128, 16,384 and 2,097,152 need a byte more each.
    bounds = (0, 1, 1 << 7, 1 << 14, 1 << 21, 1 << 28)
    for first, stop in pairwise(bounds):
        count = min(stop, end) - max(first, begin)
        if count > 0:
            add(make(first, batch), count)
    if rest:
        add(make(end, rest), 1)
    return end + (1 if rest else 0)


def oprf_traffic(traffic: Traffic, sizes: Sizes) -> None:
    """Segments and batches of an exchange by POPRF."""
    tags = sizes.enrolled + CANARY_COUNT
    segments = oprf_segments(sizes)
    share, more = divmod(tags, segments)
    for count, of in ((share + 1, more), (share, segments - more)):
        _fetching(traffic, count * TAG_LENGTH, of)
    traffic.call()
    _batches(
        traffic.send,
        sizes.own,
        sizes.batch,
        lambda number, count: v1.EvaluateRequest(
            session_id=bytes(SESSION_ID_LENGTH),
            batch_number=number,
            blinded_elements=bytes(count * ELEMENT_LENGTH),
        ),
    )
    _batches(
        traffic.receive,
        sizes.own,
        sizes.batch,
        lambda number, count: v1.EvaluateResponse(
            batch_number=number,
            evaluated_elements=bytes(count * ELEMENT_LENGTH),
            proof=bytes(PROOF_LENGTH),
        ),
    )


def committing_traffic(traffic: Traffic, sizes: Sizes) -> None:
    """The commit of disclosure `both`, whatever the engine."""
    ids = {"session_id": bytes(SESSION_ID_LENGTH), "commit_id": bytes(COMMIT_ID_LENGTH)}
    traffic.call()
    whole, rest = divmod(sizes.matching, MAX_COMMIT_ENTRIES)
    for entries, count in ((MAX_COMMIT_ENTRIES, whole), (rest, 1 if rest or not whole else 0)):
        if count:
            content = bytes(entries * (TAG_LENGTH + MAC_LENGTH))
            traffic.send(v1.CommitRequest(entries=content, **ids), count)
    traffic.receive(v1.CommitResponse(receipt=_document()))


def one_shot_traffic(traffic: Traffic, sizes: Sizes, disclosure: Disclosure) -> None:
    """One attempt at the exchange of a session by VOLE.

    Raises:
        LimitError: a list is too large for it.
        RefusedError: the disclosure can not be matched by VOLE.
    """
    ids = {"session_id": bytes(SESSION_ID_LENGTH), "commit_id": bytes(COMMIT_ID_LENGTH)}
    traffic.call()
    traffic.send(one_shot_v1.ExchangeRequest(begin=one_shot_v1.ExchangeBegin(**ids)))
    own = Role.RECEIVER if receives(disclosure) else Role.SENDER
    next_number = dict.fromkeys(Role, 0)
    for message in sizes_for(disclosure, sizes.list_size, sizes.enrolled).messages:
        add, kind = (
            (traffic.send, one_shot_v1.ExchangeRequest)
            if message.speaker is own
            else (traffic.receive, one_shot_v1.ExchangeResponse)
        )

        def make(number: int, length: int, kind: Callable[..., Any] = kind) -> Any:
            return kind(chunk=one_shot_v1.ExchangeChunk(number=number, content=bytes(length)))

        begin = next_number[message.speaker]
        next_number[message.speaker] = _batches(add, message.length, message.chunk, make, begin)
    if own is Role.SENDER:
        traffic.receive(one_shot_v1.ExchangeResponse(report=_document()))


def set_traffic(traffic: Traffic, sizes: Sizes, points: int, proof: bytes) -> None:
    """A set exchange, with its end.

    Args:
        traffic: is added to.
        sizes: how much is matched.
        points: in the platform's list.
        proof: of a batch; empty where there is none.
    """
    session = bytes(SESSION_ID_LENGTH)
    share = _point_segment(points, sizes.batch)
    whole, rest = divmod(points, share)
    _fetching(traffic, share * ELEMENT_LENGTH, whole)
    _fetching(traffic, rest * ELEMENT_LENGTH, 1 if rest else 0)
    traffic.call(2)
    _batches(
        traffic.send,
        sizes.own,
        sizes.batch,
        lambda number, count: sets_v1.SendElementsRequest(
            session_id=session,
            batch_number=number,
            exponent=bytes(ELEMENT_LENGTH),
            elements=bytes(count * ELEMENT_LENGTH),
        ),
    )
    _batches(
        traffic.send,
        points,
        share,
        lambda number, count: sets_v1.ReturnPointsRequest(
            session_id=session,
            batch_number=number,
            elements=bytes(count * ELEMENT_LENGTH),
            proof=proof,
        ),
    )
    for elements, batch in ((sizes.own, sizes.batch), (points, share)):
        _batches(
            traffic.receive,
            elements,
            batch,
            lambda number, _: sets_v1.SendElementsResponse(batch_number=number),
        )
    traffic.call()
    traffic.send(sets_v1.FinishExchangeRequest(session_id=session, commit_id=bytes(COMMIT_ID_LENGTH)))
    traffic.receive(sets_v1.FinishExchangeResponse(report=_document()))


def _point_segment(points: int, batch: int) -> int:
    """Points in a segment, see `cut_points`."""
    return max(batch, -(-points // MAX_POINT_SEGMENTS))


def point_segments(points: int, batch: int) -> int:
    """Segments of a list of points."""
    return -(-points // _point_segment(points, batch))


def oprf_segments(sizes: Sizes) -> int:
    """Segments of the index."""
    return 1 << segment_bits(sizes.enrolled + CANARY_COUNT)


def platform_points(sizes: Sizes) -> int:
    """Points in the list of disclosure `platform`."""
    return sizes.enrolled + CANARY_COUNT


def count_points(sizes: Sizes) -> int:
    """Points in a list of disclosure `count`, at most: of a subject with many identifiers only some are."""
    return sizes.enrolled + CANARY_COUNT + PLANTED_COUNT
