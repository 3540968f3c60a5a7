"""How fast this machine computes the steps of a match, measured in a second or two, or from a file.

Both sides of every step run here, on made-up elements, one after the other with all threads of the back end;
`vole_rates` has what a match by VOLE takes. A file of rates is JSON; `make tune` writes one beside its other
results. One that was written without rates for VOLE is read as well.

Not protected against: other work on the machine meanwhile, which only makes it look slower.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from purposematch.client.vole_rates import VoleRates, VoleStep, measure_vole
from purposematch.protocol.advertiser import AdvertiserSession
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.errors import InputError
from purposematch.protocol.group import Bytes, Group, RandomBytes
from purposematch.protocol.hashing import one_row
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.index import Segment
from purposematch.protocol.manifest import GENERATION_ID_LENGTH, Manifest
from purposematch.protocol.messages import EvaluateReply, SessionGrant
from purposematch.protocol.platform import PlatformSession
from purposematch.protocol.point_segments import PLANTED_COUNT, PointSegment
from purposematch.protocol.poprf import EvaluationKey, SessionSeed, public_key
from purposematch.protocol.purpose import DEFAULT_PURPOSE
from purposematch.protocol.scalars import random_scalar
from purposematch.protocol.scope import Scope
from purposematch.protocol.set_exchange.advertiser import AdvertiserExchange
from purposematch.protocol.set_exchange.platform import PlatformExchange
from purposematch.protocol.set_exchange.points import MASK_INPUT_LENGTH, EpochSecret, list_secret
from purposematch.protocol.vole.engine import open_engine, why_unavailable
from purposematch.protocol.vole.parameters import Role

__all__ = ["Rates", "Step", "measure_rates"]

FORMAT: Final = "purposematch rates v1"
FIRST_ELEMENTS: Final = 1_024
"""Elements that every step is measured with at first."""
MEASURED_ELEMENTS: Final = 8_192
"""Elements where that is done too soon to be measured well: a batch, as platforms have it."""
ENOUGH_RATE: Final = 20_000
"""Elements a second of the slowest step below which a second look would take long, and tell no more."""
ROUNDS: Final = 3
"""How often the second look is; the fastest counts."""
MAX_FILE_BYTES: Final = 65_536
"""The longest file of rates that is read, in bytes."""
NO_VOLE_RATES: Final = "these rates have none of the VOLE engine"


class Step(StrEnum):
    """What is done for an element, by the advertiser and by the platform; the labels are in files."""

    EVALUATE = "evaluate"
    """POPRF: blind, check and unblind; evaluate and prove."""
    OWN = "own"
    """Set exchange, `platform`: hash and multiply an element of the list; check its encoding."""
    OWN_AGAIN = "own_again"
    """The same for `count`, where the platform multiplies it again."""
    RETURN_PROVED = "return_proved"
    """`platform`: multiply a point of the platform and prove it; check the proof, and take the mask off."""
    RETURN = "return"
    """`count`: the same without proof and mask."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Elements a second of every step, on each side.

    Attributes:
        group: what computed them, in words.
        advertiser, platform: by step.
        vole: of a match by VOLE, by role and step; or why there are none, as a sentence for people.
    """

    group: str
    advertiser: Mapping[Step, float]
    platform: Mapping[Step, float]
    vole: VoleRates | str = NO_VOLE_RATES

    def to_mapping(self) -> dict[str, object]:
        """As in a file."""
        vole = {} if isinstance(self.vole, str) else {"vole": _vole_mapping(self.vole)}
        return {
            "format": FORMAT,
            "group": self.group,
            "advertiser": {step.value: round(rate, 1) for step, rate in self.advertiser.items()},
            "platform": {step.value: round(rate, 1) for step, rate in self.platform.items()},
            **vole,
        }

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file of rates.

        Raises:
            InputError: it cannot be read, or is something else.
        """
        try:
            with path.open("rb") as file:
                value = json.loads(file.read(MAX_FILE_BYTES))
            advertiser, platform = (
                {step: _rate(value[side][step.value]) for step in Step} for side in _SIDES
            )
            if value["format"] != FORMAT:
                raise ValueError
            vole = _loaded_vole(value["vole"]) if "vole" in value else NO_VOLE_RATES
            return cls(str(value["group"]), advertiser, platform, vole)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{path}: this is no file of rates; plan --save-rates writes one") from None


_SIDES: Final = ("advertiser", "platform")


def _rate(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < 1e12:
        raise ValueError
    return float(value)


def _vole_mapping(rates: VoleRates) -> dict[str, object]:
    return {
        role.value: {step.value: round(rate, 1) for step, rate in steps.items()}
        for role, steps in rates.items()
    }


def _loaded_vole(value: Any) -> VoleRates:
    return {role: {step: _rate(value[role.value][step.value]) for step in VoleStep} for role in Role}


def measure_rates(
    group: Group,
    random_bytes: RandomBytes,
    environ: Mapping[str, str],
    clock: Callable[[], float] = time.perf_counter,
    thread_clock: Callable[[], float] = time.thread_time,
) -> Rates:
    """Measures this machine.

    Args:
        group: the back end.
        random_bytes: of made-up elements and secrets.
        environ: the environment of the process, which says whether there is a VOLE engine.
        clock: seconds.
        thread_clock: seconds that this thread has computed.
    """
    rates = _measured(group, random_bytes, FIRST_ELEMENTS, 1, clock)
    if min(*rates.advertiser.values(), *rates.platform.values()) >= ENOUGH_RATE:
        rates = _measured(group, random_bytes, MEASURED_ELEMENTS, ROUNDS, clock)
    reason = why_unavailable(environ)
    if reason is not None:
        return replace(rates, vole=reason)
    return replace(rates, vole=measure_vole(open_engine(group, environ), random_bytes, thread_clock))


def _measured(
    group: Group, random_bytes: RandomBytes, elements: int, rounds: int, clock: Callable[[], float]
) -> Rates:
    bench = _Bench(group, random_bytes, elements)
    steps: dict[Step, Callable[[_Run], None]] = {
        Step.EVALUATE: bench.evaluate,
        Step.OWN: partial(bench.own, in_order=True),
        Step.OWN_AGAIN: partial(bench.own, in_order=False),
        Step.RETURN_PROVED: partial(bench.give_back, in_order=True),
        Step.RETURN: partial(bench.give_back, in_order=False),
    }
    sides: tuple[dict[Step, float], dict[Step, float]] = ({}, {})
    for step, do in steps.items():
        fastest = [float("inf")] * 2
        for _ in range(rounds):
            spent = [0.0, 0.0]

            def run(side: int, work: Callable[[], Any], spent: list[float] = spent) -> Any:
                began = clock()
                done = work()
                spent[side] += clock() - began
                return done

            do(run)
            fastest = list(map(min, fastest, spent))
        for rates, seconds in zip(sides, fastest, strict=True):
            # A clock may be too coarse for a few elements.
            rates[step] = elements / max(seconds, 1e-9)
    return Rates(group.description, *sides)


_Run = Callable[[int, Callable[[], Any]], Any]
_ADVERTISER, _PLATFORM = range(2)


class _Bench:
    """Both sides of one session on made-up elements."""

    def __init__(self, group: Group, random_bytes: RandomBytes, elements: int) -> None:
        self._group = group
        self._random_bytes = random_bytes
        self._inputs = _rows(random_bytes, elements, 33)
        self._key = random_scalar(random_bytes)
        self._seed = random_bytes(SessionSeed.LENGTH)
        self._scope = Scope("platform", DEFAULT_PURPOSE, Profile.PLAIN, 1)
        wide = _rows(random_bytes, elements, 64)
        self._points = group.encode(group.map_to_group(wide))
        lists = {
            "platform": (PointSegment(elements, bytes(32)),),
            "count-2": (PointSegment(elements, bytes(32)),),
        }
        self._manifest = Manifest(
            generation=random_bytes(GENERATION_ID_LENGTH),
            scope=self._scope,
            public_key=public_key(group, self._key),
            count=elements - CANARY_COUNT - PLANTED_COUNT,
            watermark=bytes(32),
            published_at=0,
            valid_until=1,
            policy=bytes(32),
            taxonomy=bytes(32),
            segments=(Segment(elements, bytes(32)),),
            additions=(),
            point_lists=lists,
        )
        digest = bytes(32)
        self._grant = SessionGrant(
            random_bytes(16), digest, digest, digest, digest, elements - CANARY_COUNT, elements, 1
        )
        # A platform makes the multiples of A once in a session; here the first of several rounds does.
        self._public = group.decode(one_row(self._exchange(in_order=True)[0].exponent))

    def evaluate(self, run: _Run) -> None:
        """A batch by POPRF."""
        seed = SessionSeed(self._random_bytes(SessionSeed.LENGTH))
        size = self._grant.list_size
        advertiser = AdvertiserSession(self._group, self._grant, self._manifest, seed, size)
        key = EvaluationKey(self._group, POPRF, self._key, self._scope.info())
        platform = PlatformSession(self._group, key, self._grant)
        request = run(_ADVERTISER, lambda: advertiser.request(0, self._inputs))

        def evaluate() -> EvaluateReply:
            elements = self._group.decode(request.blinded)
            return platform.evaluate(0, elements, self._random_bytes)

        reply = run(_PLATFORM, evaluate)
        run(_ADVERTISER, lambda: advertiser.reply(reply)).tokens.wipe()

    def own(self, run: _Run, *, in_order: bool) -> None:
        """A batch of the list's own elements."""
        advertiser, platform = self._exchange(in_order=in_order)
        batch = run(_ADVERTISER, lambda: advertiser.own(0, self._inputs))
        run(_PLATFORM, lambda: platform.own_marks(batch))

    def give_back(self, run: _Run, *, in_order: bool) -> None:
        """A batch of the platform's points."""
        advertiser, platform = self._exchange(in_order=in_order)
        batch = run(_ADVERTISER, lambda: advertiser.give_back(0, self._points))
        mask_inputs = np.ascontiguousarray(self._points[:, :MASK_INPUT_LENGTH]) if in_order else None
        run(_PLATFORM, lambda: platform.returned_marks(batch, self._public, self._points, mask_inputs))

    def _exchange(self, *, in_order: bool) -> tuple[AdvertiserExchange, PlatformExchange]:
        name = "platform" if in_order else "count-2"
        advertiser = AdvertiserExchange(
            self._group, name, self._grant, self._manifest, SessionSeed(self._seed), in_order=in_order
        )
        secret = list_secret(EpochSecret(self._random_bytes(EpochSecret.LENGTH)), name)
        return advertiser, PlatformExchange(self._group, secret, self._grant, advertiser.shape)


def _rows(random_bytes: RandomBytes, count: int, width: int) -> Bytes:
    return np.frombuffer(random_bytes(count * width), np.uint8).reshape(count, width).copy()
