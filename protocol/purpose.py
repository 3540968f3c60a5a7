"""The closed vocabularies of the gate: purposes, origins, statuses, evidence and reasons.

Source: docs/gate.md. Purposes are dotted data-use keys of the Fides taxonomy, a strict tree: the
parent of ``a.b.c`` is ``a.b``. This layer takes the taxonomy as a value; the platform loads its keys.

What this does not protect against: a purpose or an origin that the platform's own systems label wrongly.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final, Self

from purposematch.protocol.ciphersuite import TAXONOMY_DOMAIN
from purposematch.protocol.errors import PolicyError

__all__ = [
    "ADVERTISING_ROOT",
    "DEFAULT_PURPOSE",
    "FORBIDDEN_ORIGINS",
    "GRANTS",
    "REASON_MEANINGS",
    "REFUSALS",
    "SECURITY_ROOTS",
    "Evidence",
    "Origin",
    "Reason",
    "Status",
    "Taxonomy",
    "ancestors_or_self",
    "concerns_security",
    "is_under",
]

ADVERTISING_ROOT = "marketing.advertising"
"""The use that every match is for; code, not policy."""

SECURITY_ROOTS = ("essential.service.security", "essential.service.authentication")
"""A grant that names anything under these grants nothing; code, not policy."""

DEFAULT_PURPOSE = "marketing.advertising.third_party.targeted"
"""The key that names custom-audience matching exactly."""

_KEY = re.compile(r"[A-Za-z0-9_<>-]+(\.[A-Za-z0-9_<>-]+)*")
_KEY_LIMIT = 255
"""Longest purpose key, in characters."""


@dataclass(frozen=True)
class Taxonomy:
    """The set of purpose keys that are known; every other key is unknown.

    Attributes:
        keys: the known keys.
        digest: SHA-256 over a domain string and the sorted keys, each behind its length, 32 bytes.
    """

    keys: frozenset[str]
    digest: bytes

    @classmethod
    def from_keys(cls, keys: Iterable[str]) -> Self:
        """The taxonomy of these keys, in any order and with repetitions.

        Raises:
            PolicyError: there is no key, or one of them is not a dotted key.
        """
        known = frozenset(keys)
        if not known:
            raise PolicyError("the taxonomy is empty; load it with the data-use keys of fideslang")
        hasher = sha256(TAXONOMY_DOMAIN)
        hasher.update(len(known).to_bytes(4, "big"))
        for key in sorted(known):
            if len(key) > _KEY_LIMIT or not _KEY.fullmatch(key):
                raise PolicyError(
                    f"the taxonomy key {key[:_KEY_LIMIT]!r} is not a dotted data-use key such as "
                    f"{DEFAULT_PURPOSE!r}"
                )
            hasher.update(len(key).to_bytes(2, "big") + key.encode("ascii"))
        return cls(known, hasher.digest())

    def __contains__(self, key: object) -> bool:
        """Whether `key` is known, letter for letter."""
        return key in self.keys


def ancestors_or_self(key: str) -> tuple[str, ...]:
    """`key`, its parent, and so on up to the root: ``a.b`` gives ``("a.b", "a")``."""
    parts = key.split(".")
    return tuple(".".join(parts[:length]) for length in range(len(parts), 0, -1))


def is_under(key: str, root: str) -> bool:
    """Whether `key` is `root` or one of its descendants."""
    return key == root or key.startswith(root + ".")


def concerns_security(key: str) -> bool:
    """Whether `key` is one of `SECURITY_ROOTS`, a part of one, or an ancestor, which includes it."""
    return any(is_under(key, root) or is_under(root, key) for root in SECURITY_ROOTS)


class Origin(IntEnum):
    """How the platform got an identifier. `UNKNOWN` stands for every word that is none of the others."""

    UNKNOWN = 0
    PROFILE = 1
    SIGNUP = 2
    NEWSLETTER = 3
    PURCHASE = 4
    TWO_FACTOR = 5
    ACCOUNT_RECOVERY = 6
    REAUTHENTICATION = 7
    CONTACT_IMPORT = 8
    MESSENGER = 9
    DATA_BROKER = 10
    PARTNER = 11

    @property
    def label(self) -> str:
        """The word used in files, such as ``two_factor``."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The origin that `text` names, ignoring ASCII case and white space around it, else `UNKNOWN`."""
        return cls.__members__.get(_member_name(text), cls.UNKNOWN)


FORBIDDEN_ORIGINS = frozenset(
    {Origin.TWO_FACTOR, Origin.ACCOUNT_RECOVERY, Origin.REAUTHENTICATION, Origin.CONTACT_IMPORT}
)
"""The origins that can never grant; code, not policy."""


class Status(IntEnum):
    """What the subject said. `UNREADABLE` stands for every word that is none of the others."""

    UNREADABLE = 0
    GRANTED = 1
    REFUSED = 2
    WITHDRAWN = 3
    OBJECTED = 4
    RENEWED = 5

    @property
    def label(self) -> str:
        """The word used in files, such as ``granted``."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The status that `text` names, ignoring ASCII case and white space around it, else `UNREADABLE`."""
        return cls.__members__.get(_member_name(text), cls.UNREADABLE)


GRANTS = (Status.GRANTED, Status.RENEWED)
"""The statuses that can permit."""

REFUSALS = (Status.UNREADABLE, Status.REFUSED, Status.WITHDRAWN, Status.OBJECTED)
"""All others: what can not be read may have been a refusal."""


class Evidence(IntEnum):
    """What became of the evidence of an assertion when the platform received it. The numbers are stored."""

    NONE = 0
    """None came with it."""
    VALID = 1
    """Signed, by itself or in a batch, with the key that the policy then listed for its issuer."""
    INVALID = 2
    """Something of it can not be read, or the signature does not hold."""
    UNAUTHORIZED = 3
    """The policy listed no such issuer then, or its key had expired."""


class Reason(IntEnum):
    """Why an assertion or a decision is permitted or refused: a closed list that fits in a uint8.

    The order is the order of the rules: of several rules that fail, the smallest number is reported.
    The numbers are stored, so new reasons go to the end.
    """

    PERMITTED = 0
    NO_ASSERTION = 1
    MALFORMED_ROW = 2
    INVALID_IDENTIFIER = 3
    PROFILE_MISMATCH = 4
    UNKNOWN_PURPOSE = 5
    UNKNOWN_ORIGIN = 6
    OBJECTED = 7
    WITHDRAWN = 8
    REFUSED = 9
    PURPOSE_NOT_PERMITTED = 10
    MIXED_PURPOSE = 11
    ORIGIN_NOT_PERMITTED = 12
    TAINTED = 13
    NOT_YET_VALID = 14
    EXPIRED = 15
    TOO_OLD = 16
    SOURCE_NOT_PERMITTED = 17
    EVIDENCE_MISSING = 18
    EVIDENCE_INVALID = 19
    ISSUER_NOT_AUTHORIZED = 20


REASON_MEANINGS: Final = {
    Reason.PERMITTED: "given for this use, in a way that may grant",
    Reason.NO_ASSERTION: "nobody said anything about this pair; no row can have it",
    Reason.MALFORMED_ROW: "a column holds something it cannot hold, or a grant names nobody",
    Reason.INVALID_IDENTIFIER: "the value has no canonical form",
    Reason.PROFILE_MISMATCH: "a digest made under another profile cannot be matched",
    Reason.UNKNOWN_PURPOSE: "a key that the taxonomy does not have, or none",
    Reason.UNKNOWN_ORIGIN: "a word that is no origin",
    Reason.OBJECTED: "the person objected; nothing lifts it",
    Reason.WITHDRAWN: "the person took it back",
    Reason.REFUSED: "the person said no",
    Reason.PURPOSE_NOT_PERMITTED: "given for another use",
    Reason.MIXED_PURPOSE: "advertising bundled with security or authentication",
    Reason.ORIGIN_NOT_PERMITTED: "an origin that never grants, or that the policy does not list",
    Reason.TAINTED: "the same identifier also came from an origin that never grants",
    Reason.NOT_YET_VALID: "not_before is in the future",
    Reason.EXPIRED: "expires_at is past",
    Reason.TOO_OLD: "older than the policy allows",
    Reason.SOURCE_NOT_PERMITTED: "the policy does not list this origin for this source, under [sources]",
    Reason.EVIDENCE_MISSING: "the policy asks for evidence, or the row names an issuer, and there is none",
    Reason.EVIDENCE_INVALID: (
        "a column of the evidence cannot be read, the signature does not hold, or a row of a batch came "
        "without its --evidence"
    ),
    Reason.ISSUER_NOT_AUTHORIZED: (
        "the policy lists no such issuer, or not for these purposes and this origin; its key had expired at "
        "receipt, or is revoked"
    ),
}
"""What to tell people about each reason; `docs/gate.md` has an example of each."""


def _member_name(text: str) -> str:
    # Unicode upper-casing maps foreign letters to ASCII ones, so only ASCII words can name a member.
    return text.strip().upper() if text.isascii() else ""
