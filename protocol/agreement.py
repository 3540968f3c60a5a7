"""The agreement between platform and advertiser: what is matched for, who learns what, how much, how long.

Both sides sign it (`agreement_document`), both keep it, and its digest goes into the transcript of every
session: two sides that hold different agreements cannot finish a commit. What it means in words is on the
leak sheet (`leak_sheet`).

Not protected against: what either side does with what it rightly learned.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import AGREEMENT_DOMAIN
from purposematch.protocol.epsilon import EPSILON_ONE
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.scope import check_platform_id, check_purpose
from purposematch.protocol.strict_json import Fields, canonical_json, decode_json
from purposematch.protocol.vole.parameters import BAND

__all__ = [
    "ADVERTISER_NAME",
    "DEFAULT_CONCURRENT_SESSIONS",
    "DEFAULT_DAILY_ELEMENTS",
    "DEFAULT_DAILY_SESSIONS",
    "DEFAULT_IDENTIFIERS_PER_SUBJECT",
    "DEFAULT_MAX_LIST_ELEMENTS",
    "DEFAULT_MIN_LIST_ELEMENTS",
    "DEFAULT_RELEASE_EPSILON",
    "LARGEST_DAILY_ELEMENTS",
    "LARGEST_EPSILON",
    "LARGEST_IDENTIFIERS_PER_SUBJECT",
    "LARGEST_LIST_ELEMENTS",
    "LARGEST_NUMBER",
    "LARGEST_SESSIONS",
    "LATEST_EXPIRY",
    "LEAST_EPSILON",
    "Agreement",
    "Disclosure",
    "check_advertiser_name",
]

ADVERTISER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
"""What the name of an advertiser or a legal entity looks like, to be used with `fullmatch`."""

DEFAULT_MIN_LIST_ELEMENTS: Final = 1_000
"""Distinct identifiers that a list must have at least; the bound that PAIR uses."""

DEFAULT_MAX_LIST_ELEMENTS: Final = 100_000_000
"""Distinct identifiers that a list may have at most."""

LARGEST_LIST_ELEMENTS: Final = 1_000_000_000
"""The largest list that an agreement can allow, in distinct identifiers."""

DEFAULT_DAILY_ELEMENTS: Final = 10_000_000
"""Elements of all sessions of a day (UTC): what bounds guessing."""

LARGEST_DAILY_ELEMENTS: Final = 1_000_000_000_000
"""The largest daily quota of elements."""

DEFAULT_DAILY_SESSIONS: Final = 100
"""Sessions that an advertiser may open in a day (UTC)."""

DEFAULT_CONCURRENT_SESSIONS: Final = 8
"""Sessions that an advertiser may have open at a time."""

LARGEST_SESSIONS: Final = 1_000_000
"""The largest number of sessions that an agreement can allow, in a day or at a time."""

LARGEST_NUMBER: Final = 1_000_000
"""The largest number of an agreement: a thousand years of one a day fit."""

LATEST_EXPIRY: Final = 253_402_300_799_999_999
"""The latest end of an agreement, in microseconds since 1970: the end of the year 9999."""

DEFAULT_RELEASE_EPSILON: Final = EPSILON_ONE // 4
"""What a noisy count costs, in millionths of epsilon."""

LEAST_EPSILON: Final = EPSILON_ONE // 1_000
"""The least that a noisy count can cost, in millionths of epsilon: with less it is nothing but noise."""

LARGEST_EPSILON: Final = 10 * EPSILON_ONE
"""The most that a noisy count can cost, in millionths of epsilon: with that it is all but exact."""

DEFAULT_IDENTIFIERS_PER_SUBJECT: Final = 2
"""Identifiers of one subject that a `count` counts at most."""

LARGEST_IDENTIFIERS_PER_SUBJECT: Final = 16
"""The largest such number: the noise grows with it."""

_MAX_BYTES: Final = 65_536
_FIELDS: Final = (
    "platform_id",
    "advertiser",
    "legal_entity",
    "number",
    "purpose",
    "profile",
    "disclosure",
    "expires_at",
    "min_list_elements",
    "max_list_elements",
    "daily_elements",
    "daily_sessions",
    "concurrent_sessions",
)


class Disclosure(StrEnum):
    """Who learns what from a session; `leak_sheet` says it in words."""

    BOTH = "both"
    """The advertiser learns which rows match, the platform the subjects behind the committed tags."""
    ADVERTISER = "advertiser"
    """The advertiser learns which rows match, the platform the size of the list only."""
    PLATFORM = "platform"
    """The platform learns which of its subjects match, the advertiser a noisy count."""
    COUNT = "count"
    """The platform learns the exact count, the advertiser a noisy one."""

    @property
    def noisy(self) -> bool:
        """Whether the advertiser learns a noisy count, and not which rows match."""
        return self in (Disclosure.PLATFORM, Disclosure.COUNT)

    @property
    def makes_audience(self) -> bool:
        """Whether the platform learns who matches, and keeps them as an audience."""
        return self in (Disclosure.BOTH, Disclosure.PLATFORM)


def check_advertiser_name(name: str, whose: str = "an advertiser's") -> None:
    """Checks the form of an advertiser's name, or of `whose` name it is.

    Raises:
        DecodeError: it is not 1 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a letter
            or digit.
    """
    if ADVERTISER_NAME.fullmatch(name) is None:
        raise DecodeError(
            f"{whose} name is 1 to 63 of a-z, 0-9, dot, dash and underscore, and begins with a letter or "
            "digit"
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """What platform and advertiser signed up to.

    All four disclosures are values of an agreement; whether one can be run is for the caller to check.

    Attributes:
        platform_id: the id of the platform.
        advertiser: the name of the advertiser at this platform.
        legal_entity: who pays with its budget for noisy counts; several advertisers may be one.
        number: which agreement of the two it is, from 1; the highest that both signed replaces the others.
        purpose: the required use of every match under this agreement.
        profile: the normalization profile, so that a client can prepare its list before it connects.
        disclosure: who learns what.
        expires_at: the first moment at which nothing is matched under it, in microseconds since 1970.
        min_list_elements: distinct identifiers that a list must have at least, 1 or more.
        max_list_elements: distinct identifiers that a list may have at most, up to
            `LARGEST_LIST_ELEMENTS`; no more than a day's quota.
        daily_elements: identifiers that may be evaluated in a day (UTC) in all sessions, without canaries.
        daily_sessions: sessions that may be opened in a day (UTC).
        concurrent_sessions: sessions that may be open at a time.
        release_epsilon: what a noisy count costs, in millionths of epsilon; None where nothing is noisy.
        identifiers_per_subject: identifiers of a subject that are counted at most; None but for `count`.
        allow_experimental: whether sessions may be matched by the VOLE engine, which is semi-honest,
            experimental, and has no published proof: no quota bounds an advertiser that cheats with it. Never
            for `count`, which it can not do. Left out of the canonical JSON where it is no.

    Raises:
        DecodeError: a field is not of its form, or is there where the disclosure has none.
    """

    platform_id: str
    advertiser: str
    legal_entity: str
    number: int
    purpose: str
    profile: Profile
    disclosure: Disclosure
    expires_at: int
    min_list_elements: int = DEFAULT_MIN_LIST_ELEMENTS
    max_list_elements: int = DEFAULT_DAILY_ELEMENTS
    daily_elements: int = DEFAULT_DAILY_ELEMENTS
    daily_sessions: int = DEFAULT_DAILY_SESSIONS
    concurrent_sessions: int = DEFAULT_CONCURRENT_SESSIONS
    release_epsilon: int | None = None
    identifiers_per_subject: int | None = None
    allow_experimental: bool = False

    def __post_init__(self) -> None:
        """Checks every field."""
        check_platform_id(self.platform_id)
        check_advertiser_name(self.advertiser)
        check_advertiser_name(self.legal_entity, "a legal entity's")
        check_purpose(self.purpose)
        if not 1 <= self.min_list_elements <= self.max_list_elements <= LARGEST_LIST_ELEMENTS:
            raise DecodeError(
                "the limits of an agreement must satisfy 1 <= min_list_elements <= max_list_elements "
                f"<= {LARGEST_LIST_ELEMENTS}"
            )
        if not self.max_list_elements <= self.daily_elements <= LARGEST_DAILY_ELEMENTS:
            raise DecodeError(
                "the quota of an agreement must satisfy max_list_elements <= daily_elements "
                f"<= {LARGEST_DAILY_ELEMENTS}: a list that no day has room for could never be matched"
            )
        for name, value, most in (
            ("number", self.number, LARGEST_NUMBER),
            ("expires_at", self.expires_at, LATEST_EXPIRY),
            ("daily_sessions", self.daily_sessions, LARGEST_SESSIONS),
            ("concurrent_sessions", self.concurrent_sessions, LARGEST_SESSIONS),
        ):
            if not 1 <= value <= most:
                raise DecodeError(f"{name} of an agreement is 1 to {most}")
        self._check_noise()
        if self.allow_experimental and self.disclosure is Disclosure.COUNT:
            raise DecodeError(
                "an agreement of disclosure count has no allow_experimental: nothing can use it"
            )

    def canonical_bytes(self) -> bytes:
        """The canonical JSON of the fields: names sorted, no white space, ASCII."""
        return canonical_json(self.to_mapping())

    @property
    def digest(self) -> bytes:
        """SHA-256 over a domain string and the canonical bytes, 32 bytes."""
        return hashlib.sha256(AGREEMENT_DOMAIN + self.canonical_bytes()).digest()

    @property
    def daily_guesses(self) -> int:
        """Invented identifiers that an advertiser can have evaluated in a day at most.

        Canaries are in no quota, and by POPRF the platform can not tell them from other elements: an
        advertiser that leaves them out has so many more. The set exchange demands every one of them. By VOLE
        an advertiser that cheats can put as many into a session as its store has slots.
        """
        if self.disclosure.noisy:
            return self.daily_elements
        evaluated = self.daily_elements + CANARY_COUNT * self.daily_sessions
        if not self.allow_experimental:
            return evaluated
        return evaluated + -(-evaluated // 10) + BAND * self.daily_sessions

    @property
    def sensitivity(self) -> int:
        """By how much one subject changes a noisy count at most.

        Raises:
            DecodeError: the disclosure has none.
        """
        if not self.disclosure.noisy:
            raise DecodeError(f"disclosure {self.disclosure} is not noisy")
        return 1 if self.identifiers_per_subject is None else self.identifiers_per_subject

    def to_mapping(self) -> dict[str, object]:
        """The fields as a JSON object; those that are None are left out, and `allow_experimental` if no."""
        fields: dict[str, object] = {
            "platform_id": self.platform_id,
            "advertiser": self.advertiser,
            "legal_entity": self.legal_entity,
            "number": self.number,
            "purpose": self.purpose,
            "profile": self.profile.value,
            "disclosure": self.disclosure.value,
            "expires_at": self.expires_at,
            "min_list_elements": self.min_list_elements,
            "max_list_elements": self.max_list_elements,
            "daily_elements": self.daily_elements,
            "daily_sessions": self.daily_sessions,
            "concurrent_sessions": self.concurrent_sessions,
        }
        if self.allow_experimental:
            fields["allow_experimental"] = True
        return fields | {name: getattr(self, name) for name in _noise_fields(self.disclosure)}

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The agreement in the JSON that `canonical_bytes` gives; white space may differ, nothing else.

        Raises:
            DecodeError: `data` is anything else.
        """
        return cls.from_mapping(decode_json(data, "agreement", _MAX_BYTES))

    @classmethod
    def from_mapping(cls, value: object) -> Self:
        """The agreement in a JSON object that has exactly the fields of `to_mapping`.

        Raises:
            DecodeError: a field is missing, unknown, of a wrong type or not of its form.
        """
        # Which fields there are depends on this one.
        disclosure = value.get("disclosure") if isinstance(value, dict) else None
        noise = _noise_fields(disclosure)
        experimental = isinstance(value, dict) and "allow_experimental" in value
        at_need = ("allow_experimental",) if experimental else ()
        fields = Fields(value, "agreement", (*_FIELDS, *noise, *at_need))
        if experimental and fields.value("allow_experimental") is not True:
            raise DecodeError("allow_experimental of an agreement is true, or left out")
        return cls(
            platform_id=fields.text("platform_id"),
            advertiser=fields.text("advertiser"),
            legal_entity=fields.text("legal_entity"),
            number=fields.integer("number"),
            purpose=fields.text("purpose"),
            profile=fields.choice("profile", Profile),
            disclosure=fields.choice("disclosure", Disclosure),
            expires_at=fields.integer("expires_at"),
            min_list_elements=fields.integer("min_list_elements"),
            max_list_elements=fields.integer("max_list_elements"),
            daily_elements=fields.integer("daily_elements"),
            daily_sessions=fields.integer("daily_sessions"),
            concurrent_sessions=fields.integer("concurrent_sessions"),
            allow_experimental=experimental,
            **{name: fields.integer(name) for name in noise},
        )

    def _check_noise(self) -> None:
        expected = _noise_fields(self.disclosure)
        for name, value, least, most in (
            ("release_epsilon", self.release_epsilon, LEAST_EPSILON, LARGEST_EPSILON),
            ("identifiers_per_subject", self.identifiers_per_subject, 1, LARGEST_IDENTIFIERS_PER_SUBJECT),
        ):
            if (value is not None) != (name in expected):
                has = "needs" if name in expected else "has no"
                raise DecodeError(f"an agreement of disclosure {self.disclosure} {has} {name}")
            if value is not None and not least <= value <= most:
                raise DecodeError(f"{name} of an agreement is {least} to {most}")


def _noise_fields(disclosure: object) -> tuple[str, ...]:
    """The names of the fields that an agreement of this disclosure has beside `_FIELDS`."""
    if disclosure == Disclosure.COUNT:
        return ("release_epsilon", "identifiers_per_subject")
    return ("release_epsilon",) if disclosure == Disclosure.PLATFORM else ()
