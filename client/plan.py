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
        lambda sizes: {Step.OWN: sizes.own, Step.RETURN: _count_points(sizes)},
        lambda sizes: -(-_count_points(sizes) // _point_segment(_count_points(sizes), sizes.batch)),
    ),
)
"""Which engine runs which disclosure, and what that takes: a row for each of the two together."""
