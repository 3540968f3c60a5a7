"""What a match would cost: bytes each way and time, for given sizes, and who learns what.

Bytes are those of the wire, see `plan_traffic`. The time is what each side computes, from measured rates, and
what a line of some width takes. On the curve these overlap, so that the longest decides; by VOLE the two
sides wait for each other, and what they compute adds up. `EXCHANGES` says which engines run which disclosure;
one more engine is one more row of it.

Not protected against: estimates. Reading a list, looking up and the platform's own files take time besides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from purposematch.client.one_shot import engine_to_ask_for
from purposematch.client.plan_traffic import (
    Sizes,
    Traffic,
    committing_traffic,
    count_points,
    one_shot_traffic,
    oprf_segments,
    oprf_traffic,
    platform_points,
    point_segments,
    session_traffic,
    set_traffic,
)
from purposematch.client.rates import Rates, Step
from purposematch.client.vole_rates import VoleStep
from purposematch.protocol.agreement import (
    DEFAULT_IDENTIFIERS_PER_SUBJECT,
    DEFAULT_RELEASE_EPSILON,
    LATEST_EXPIRY,
    Agreement,
    Disclosure,
)
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import PROOF_LENGTH
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.leak_sheet import who_learns
from purposematch.protocol.match_engine import EXPERIMENTAL, EngineChoice, MatchEngine
from purposematch.protocol.one_shot import auto_engine, receives, sizes_for, why_too_large
from purposematch.protocol.purpose import DEFAULT_PURPOSE
from purposematch.protocol.vole.parameters import Role

__all__ = ["EXCHANGES", "Exchange", "Plan", "chosen_by_auto", "plan_match"]

_Step = TypeVar("_Step", Step, VoleStep)


@dataclass(frozen=True, slots=True)
class Exchange:
    """How an engine runs a disclosure.

    Attributes:
        disclosure: who learns what.
        engine: what computes.
        traffic: adds up what a session sends, but for its opening and its end.
        work: elements that each step of `Rates` is done for; None by VOLE, where the parameters say it.
        segments: entries of segments in its manifest.
    """

    disclosure: Disclosure
    engine: MatchEngine
    traffic: Callable[[Traffic, Sizes], None]
    work: Callable[[Sizes], Mapping[Step, int]] | None
    segments: Callable[[Sizes], int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a match would cost.

    Attributes:
        disclosure, engine: as of its `Exchange`.
        advertiser_learns, platform_learns: as the leak sheet says it, under an agreement with defaults.
        bytes_sent, bytes_received: by the advertiser, TLS included; None if there can be no such match.
        transfer_seconds: what the busier direction of the line takes; None as well.
        advertiser_seconds, platform_seconds: what each computes; None if there is no rate either.
        missing: why something is None, as a sentence for people.
    """

    disclosure: Disclosure
    engine: MatchEngine
    advertiser_learns: tuple[str, ...]
    platform_learns: tuple[str, ...]
    bytes_sent: int | None = None
    bytes_received: int | None = None
    transfer_seconds: float | None = None
    advertiser_seconds: float | None = None
    platform_seconds: float | None = None
    missing: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long the match takes; None if that is not known."""
        advertiser, platform, transfer = self.advertiser_seconds, self.platform_seconds, self.transfer_seconds
        if advertiser is None or platform is None or transfer is None:
            return None
        in_turns = self.engine is MatchEngine.VOLE
        return max(transfer, advertiser + platform if in_turns else max(advertiser, platform))

    @property
    def warning(self) -> str | None:
        """What must be said of the engine, if anything."""
        return EXPERIMENTAL if self.engine is MatchEngine.VOLE else None

    def to_mapping(self) -> dict[str, object]:
        """An entry of `plan --json`."""
        return {
            "disclosure": self.disclosure.value,
            "engine": self.engine.value,
            "warning": self.warning,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "seconds": _rounded(self.seconds),
            "advertiser_seconds": _rounded(self.advertiser_seconds),
            "platform_seconds": _rounded(self.platform_seconds),
            "transfer_seconds": _rounded(self.transfer_seconds),
            "missing": self.missing,
            "advertiser_learns": list(self.advertiser_learns),
            "platform_learns": list(self.platform_learns),
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def plan_match(exchange: Exchange, sizes: Sizes, rates: Rates, bits_per_second: float) -> Plan:
    """What a match of these sizes would cost.

    Args:
        exchange: an entry of `EXCHANGES`.
        sizes: how much is matched.
        rates: how fast a machine computes; both sides are taken to have one like it.
        bits_per_second: of the line, in each direction.
    """
    disclosure, engine = exchange.disclosure, exchange.engine
    by_vole = engine is MatchEngine.VOLE
    plan = Plan(
        disclosure,
        engine,
        *who_learns(_agreement(disclosure, allow_experimental=by_vole), sizes.list_size),
        missing=why_too_large(disclosure, sizes.list_size, sizes.enrolled) if by_vole else None,
    )
    if plan.missing is not None:
        return plan
    traffic = Traffic()
    session_traffic(traffic, sizes, exchange.segments(sizes), noisy=disclosure.noisy)
    exchange.traffic(traffic, sizes)
    sent, received = traffic.bytes
    transfer = max(sent, received) * 8 / bits_per_second
    plan = replace(plan, bytes_sent=sent, bytes_received=received, transfer_seconds=transfer)
    computed = _computed(exchange, sizes, rates)
    if isinstance(computed, str):
        return replace(plan, missing=computed)
    return replace(plan, advertiser_seconds=computed[0], platform_seconds=computed[1])


def _computed(exchange: Exchange, sizes: Sizes, rates: Rates) -> tuple[float, float] | str:
    """The seconds of advertiser and platform, or why they are not known."""
    if exchange.work is not None:
        work = exchange.work(sizes)
        return _seconds(work, rates.advertiser), _seconds(work, rates.platform)
    if isinstance(rates.vole, str):
        return rates.vole
    steps = _vole_work(exchange.disclosure, sizes)
    receiver, sender = (_seconds(steps, rates.vole[role]) for role in (Role.RECEIVER, Role.SENDER))
    return (receiver, sender) if receives(exchange.disclosure) else (sender, receiver)


def _seconds(work: Mapping[_Step, int], rates: Mapping[_Step, float]) -> float:
    return sum(count / rates[step] for step, count in work.items())


def _vole_work(disclosure: Disclosure, sizes: Sizes) -> dict[VoleStep, int]:
    """How often each step of a match by VOLE is done."""
    parameters = sizes_for(disclosure, sizes.list_size, sizes.enrolled)
    labelled = parameters.label_length > 0
    return {
        VoleStep.START: 1,
        VoleStep.RECEIVER_ITEM: parameters.n_receiver,
        VoleStep.SENDER_ITEM: parameters.n_sender,
        VoleStep.LABEL: parameters.n_sender if labelled else 0,
        VoleStep.OPENED: sizes.matching + CANARY_COUNT if labelled else 0,
    }


def chosen_by_auto(
    disclosure: Disclosure, sizes: Sizes, environ: Mapping[str, str], *, allow_experimental: bool
) -> MatchEngine:
    """What `match --engine auto` would be computed with, by a platform that has every engine.

    Args:
        disclosure: who learns what.
        sizes: how much is matched; nothing of it is in the cache.
        environ: the environment of the process, which says what is to be had here.
        allow_experimental: whether the agreement has it; one of disclosure `count` cannot.
    """
    agreement = _agreement(disclosure, allow_experimental=allow_experimental)
    if engine_to_ask_for(EngineChoice.AUTO, agreement, environ) is EngineChoice.OPRF:
        return MatchEngine.OPRF
    return auto_engine(agreement, sizes.list_size, sizes.enrolled, cached=0)


def _agreement(disclosure: Disclosure, *, allow_experimental: bool) -> Agreement:
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
        allow_experimental=allow_experimental and disclosure is not Disclosure.COUNT,
    )


def _then_commit(exchanged: Callable[[Traffic, Sizes], None]) -> Callable[[Traffic, Sizes], None]:
    def traffic(traffic: Traffic, sizes: Sizes) -> None:
        exchanged(traffic, sizes)
        committing_traffic(traffic, sizes)

    return traffic


def _platform_segments(sizes: Sizes) -> int:
    return point_segments(platform_points(sizes), sizes.batch)


EXCHANGES: Final = (
    Exchange(
        Disclosure.BOTH,
        MatchEngine.OPRF,
        _then_commit(oprf_traffic),
        lambda sizes: {Step.EVALUATE: sizes.own},
        oprf_segments,
    ),
    Exchange(
        Disclosure.BOTH,
        MatchEngine.VOLE,
        _then_commit(partial(one_shot_traffic, disclosure=Disclosure.BOTH)),
        None,
        oprf_segments,
    ),
    Exchange(
        Disclosure.ADVERTISER,
        MatchEngine.OPRF,
        oprf_traffic,
        lambda sizes: {Step.EVALUATE: sizes.own},
        oprf_segments,
    ),
    Exchange(
        Disclosure.ADVERTISER,
        MatchEngine.VOLE,
        partial(one_shot_traffic, disclosure=Disclosure.ADVERTISER),
        None,
        oprf_segments,
    ),
    Exchange(
        Disclosure.PLATFORM,
        MatchEngine.OPRF,
        lambda traffic, sizes: set_traffic(traffic, sizes, platform_points(sizes), bytes(PROOF_LENGTH)),
        lambda sizes: {Step.OWN: sizes.own, Step.RETURN_PROVED: platform_points(sizes)},
        _platform_segments,
    ),
    Exchange(
        Disclosure.PLATFORM,
        MatchEngine.VOLE,
        partial(one_shot_traffic, disclosure=Disclosure.PLATFORM),
        None,
        _platform_segments,
    ),
    Exchange(
        Disclosure.COUNT,
        MatchEngine.OPRF,
        lambda traffic, sizes: set_traffic(traffic, sizes, count_points(sizes), b""),
        lambda sizes: {Step.OWN_AGAIN: sizes.own, Step.RETURN: count_points(sizes)},
        lambda sizes: point_segments(count_points(sizes), sizes.batch),
    ),
)
"""Which engine runs which disclosure, and what that takes: a row for each of the two together."""
