"""What a match would cost: bytes each way and time, for given sizes, and who learns what.

Bytes are counted from the messages of the wire themselves, built with empty content of the right length. The
time is what each side computes, from measured rates, and what a line of some width takes; these overlap in a
match, so that the longest decides. `EXCHANGES` says which engines run which disclosure; one more engine is
one more row of it.

Not protected against: estimates. Segments that are in the cache are not fetched, reading a list and looking
up take time of their own, and the signed documents of a session differ by some hundred bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from purposematch.client.rates import Rates, Step
from purposematch.client.wire import MAX_COMMIT_ENTRIES
from purposematch.protocol.agreement import (
    DEFAULT_IDENTIFIERS_PER_SUBJECT,
    DEFAULT_RELEASE_EPSILON,
    LATEST_EXPIRY,
    Agreement,
    Disclosure,
)
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, PROOF_LENGTH, TAG_LENGTH
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.index import segment_bits
from purposematch.protocol.label import LABEL_LENGTH
from purposematch.protocol.leak_sheet import who_learns
from purposematch.protocol.messages import COMMIT_ID_LENGTH, MAC_LENGTH, SESSION_ID_LENGTH
from purposematch.protocol.point_segments import MAX_POINT_SEGMENTS, PLANTED_COUNT
from purposematch.protocol.purpose import DEFAULT_PURPOSE
from purposematch.v1 import matching_pb2 as v1
from purposematch.v1 import set_matching_pb2 as sets_v1

__all__ = ["EXCHANGES", "Exchange", "Plan", "Sizes", "plan_match"]

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


class _Traffic:
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


@dataclass(frozen=True, slots=True)
class Exchange:
    """How an engine runs a disclosure.

    Attributes:
        disclosure: who learns what.
        engine: what computes.
        traffic: adds up what a session sends, but for its opening and its end.
        work: elements that each step of `Rates` is done for.
        segments: entries of segments in its manifest.
    """

    disclosure: Disclosure
    engine: str
    traffic: Callable[["_Traffic", Sizes], None]
    work: Callable[[Sizes], Mapping[Step, int]]
    segments: Callable[[Sizes], int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a match would cost.

    Attributes:
        disclosure, engine: as of its `Exchange`.
        bytes_sent, bytes_received: by the advertiser, TLS included.
        advertiser_seconds, platform_seconds: what each computes.
        transfer_seconds: what the busier direction of the line takes.
        advertiser_learns, platform_learns: as the leak sheet says it, under an agreement with defaults.
    """

    disclosure: Disclosure
    engine: str
    bytes_sent: int
    bytes_received: int
    advertiser_seconds: float
    platform_seconds: float
    transfer_seconds: float
    advertiser_learns: tuple[str, ...]
    platform_learns: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """The longest of what overlaps."""
        return max(self.advertiser_seconds, self.platform_seconds, self.transfer_seconds)

    def to_mapping(self) -> dict[str, object]:
        """An entry of `plan --json`."""
        return {
            "disclosure": self.disclosure.value,
            "engine": self.engine,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "seconds": round(self.seconds, 3),
            "advertiser_seconds": round(self.advertiser_seconds, 3),
            "platform_seconds": round(self.platform_seconds, 3),
            "transfer_seconds": round(self.transfer_seconds, 3),
            "advertiser_learns": list(self.advertiser_learns),
            "platform_learns": list(self.platform_learns),
        }


def plan_match(exchange: Exchange, sizes: Sizes, rates: Rates, bits_per_second: float) -> Plan:
    """What a match of these sizes would cost.

    Args:
        exchange: an entry of `EXCHANGES`.
        sizes: how much is matched.
        rates: how fast a machine computes; both sides are taken to have one like it.
        bits_per_second: of the line, in each direction.
    """
    traffic = _Traffic()
    _opening(traffic, exchange, sizes)
    exchange.traffic(traffic, sizes)
    _closing(traffic)
    sent, received = traffic.bytes
    work = exchange.work(sizes)
    advertiser, platform = (
        sum(count / side[step] for step, count in work.items()) for side in (rates.advertiser, rates.platform)
    )
    learned = who_learns(_agreement(exchange.disclosure), sizes.list_size)
    transfer = max(sent, received) * 8 / bits_per_second
    return Plan(
        exchange.disclosure, exchange.engine, sent, received, advertiser, platform, transfer, *learned
    )


def _agreement(disclosure: Disclosure) -> Agreement:
    """One with defaults, to say who learns what."""
    return Agreement(
        platform_id="platform",
        advertiser="advertiser",
        legal_entity="advertiser",
        number=1,
        purpose=DEFAULT_PURPOSE,
        profile=Profile.PLAIN,
        disclosure=disclosure,
        expires_at=LATEST_EXPIRY,
        release_epsilon=DEFAULT_RELEASE_EPSILON if disclosure.noisy else None,
        identifiers_per_subject=(DEFAULT_IDENTIFIERS_PER_SUBJECT if disclosure is Disclosure.COUNT else None),
    )


def _opening(traffic: _Traffic, exchange: Exchange, sizes: Sizes) -> None:
    label = bytes(LABEL_LENGTH) if exchange.disclosure.noisy else b""
    traffic.call()
    traffic.send(v1.OpenSessionRequest(agreement_digest=bytes(32), list_size=sizes.list_size, label=label))
    manifest = bytes(DOCUMENT_BYTES + SEGMENT_ENTRY_BYTES * exchange.segments(sizes))
    grant = v1.SignedDocument(content=bytes(DOCUMENT_BYTES), signature=bytes(64))
    opened = v1.OpenSessionResponse(
        grant=grant, manifest=v1.SignedDocument(content=manifest, signature=bytes(64))
    )
    opened.proof.checkpoint = bytes(PROOF_BYTES)
    traffic.receive(opened)


def _closing(traffic: _Traffic) -> None:
    traffic.call()
    traffic.send(v1.CloseSessionRequest(session_id=bytes(SESSION_ID_LENGTH)))
    closed = v1.CloseSessionResponse()
    closed.proof.checkpoint = bytes(PROOF_BYTES)
    traffic.receive(closed)


def _fetching(traffic: _Traffic, size: int, segments: int) -> None:
    """So many segments of so many bytes each, of which nothing is in the cache."""
    traffic.call(segments)
    traffic.send(v1.FetchSegmentRequest(session_id=bytes(SESSION_ID_LENGTH), sha256=bytes(32)), segments)
    whole, rest = divmod(size, SEGMENT_PART_BYTES)
    for part, count in ((SEGMENT_PART_BYTES, whole), (rest, 1 if rest else 0)):
        if count:
            traffic.receive(v1.FetchSegmentResponse(content=bytes(part)), count * segments)


def _batches(
    add: Callable[[Any, int], None], elements: int, batch: int, make: Callable[[int, int], Any]
) -> int:
    """Adds a stream of numbered batches; `make` gives the message of a number and a length. How many."""
    whole, rest = divmod(elements, batch)
    # The number's own length grows with it: 128, 16,384 and 2,097,152 need a byte more each.
    bounds = (0, 1, 1 << 7, 1 << 14, 1 << 21, 1 << 28)
    for first, stop in pairwise(bounds):
        count = min(stop, whole) - min(first, whole)
        if count:
            add(make(first, batch), count)
    if rest:
        add(make(whole, rest), 1)
    return whole + (1 if rest else 0)


def _oprf_traffic(traffic: _Traffic, sizes: Sizes) -> None:
    tags = sizes.enrolled + CANARY_COUNT
    segments = _oprf_segments(sizes)
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


def _committing_traffic(traffic: _Traffic, sizes: Sizes) -> None:
    _oprf_traffic(traffic, sizes)
    ids = {"session_id": bytes(SESSION_ID_LENGTH), "commit_id": bytes(COMMIT_ID_LENGTH)}
    traffic.call()
    whole, rest = divmod(sizes.matching, MAX_COMMIT_ENTRIES)
    for entries, count in ((MAX_COMMIT_ENTRIES, whole), (rest, 1 if rest or not whole else 0)):
        if count:
            content = bytes(entries * (TAG_LENGTH + MAC_LENGTH))
            traffic.send(v1.CommitRequest(entries=content, **ids), count)
    receipt = v1.SignedDocument(content=bytes(DOCUMENT_BYTES), signature=bytes(64))
    traffic.receive(v1.CommitResponse(receipt=receipt))


def _set_traffic(traffic: _Traffic, sizes: Sizes, points: int, proof: bytes) -> None:
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
    report = v1.SignedDocument(content=bytes(DOCUMENT_BYTES), signature=bytes(64))
    traffic.receive(sets_v1.FinishExchangeResponse(report=report))


def _point_segment(points: int, batch: int) -> int:
    """Points in a segment, see `cut_points`."""
    return max(batch, -(-points // MAX_POINT_SEGMENTS))


def _oprf_segments(sizes: Sizes) -> int:
    return 1 << segment_bits(sizes.enrolled + CANARY_COUNT)


def _platform_points(sizes: Sizes) -> int:
    return sizes.enrolled + CANARY_COUNT


def _count_points(sizes: Sizes) -> int:
    """At most: of a subject with many identifiers only some are in the list."""
    return sizes.enrolled + CANARY_COUNT + PLANTED_COUNT


EXCHANGES: Final = (
    Exchange(
        Disclosure.BOTH,
        "oprf",
        _committing_traffic,
        lambda sizes: {Step.EVALUATE: sizes.own},
        _oprf_segments,
    ),
    Exchange(
        Disclosure.ADVERTISER,
        "oprf",
        _oprf_traffic,
        lambda sizes: {Step.EVALUATE: sizes.own},
        _oprf_segments,
    ),
    Exchange(
        Disclosure.PLATFORM,
        "commutative",
        lambda traffic, sizes: _set_traffic(traffic, sizes, _platform_points(sizes), bytes(PROOF_LENGTH)),
        lambda sizes: {Step.OWN: sizes.own, Step.RETURN_PROVED: _platform_points(sizes)},
        lambda sizes: -(-_platform_points(sizes) // _point_segment(_platform_points(sizes), sizes.batch)),
    ),
    Exchange(
        Disclosure.COUNT,
        "commutative",
        lambda traffic, sizes: _set_traffic(traffic, sizes, _count_points(sizes), b""),
        lambda sizes: {Step.OWN_AGAIN: sizes.own, Step.RETURN: _count_points(sizes)},
        lambda sizes: -(-_count_points(sizes) // _point_segment(_count_points(sizes), sizes.batch)),
    ),
)
"""Which engine runs which disclosure, and what that takes: a row for each of the two together."""
