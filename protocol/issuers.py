"""Issuers: the systems whose signatures count as evidence, as the policy lists them.

Source: docs/gate.md, *Evidence*. An issuer has one Ed25519 key (RFC 8032), the purposes and the origins that
it may sign, and times: `expires_at` stops new evidence only, a revocation takes back what was received from
`compromised_since` on.

Code, not policy: a key that may sign for security signs nothing for advertising. That bundle is what
happened in 2019, and it is refused when the policy is loaded.

What this does not protect against: an issuer that signs a lie within what it may sign.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from nacl.bindings import crypto_core_ed25519_is_valid_point

from purposematch.protocol.errors import PolicyError
from purposematch.protocol.policy_values import (
    WHY_FORBIDDEN,
    labels,
    read_origins,
    read_strings,
    read_time,
)
from purposematch.protocol.purpose import (
    ADVERTISING_ROOT,
    FORBIDDEN_ORIGINS,
    SECURITY_ROOTS,
    Origin,
    Taxonomy,
    is_under,
)
from purposematch.protocol.strict_json import Fields

__all__ = ["ISSUER_NAME", "Issuer", "check_issuers", "read_issuers"]

ISSUER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""What the name of an issuer looks like, to be used with `fullmatch`."""

_KEY_LENGTH: Final = 32
_MANDATORY: Final = ("key", "permitted_purposes", "permitted_origins")
_OPTIONAL: Final = ("expires_at", "revoked_at", "compromised_since")
_FORMS: Final = "64 hexadecimal digits, or 44 characters of base64"


@dataclass(frozen=True, slots=True)
class Issuer:
    """A system that signs what it collects. Times are microseconds since 1970-01-01 UTC.

    Attributes:
        key: its Ed25519 public key, 32 bytes.
        permitted_purposes: the purposes that it may sign, compared letter for letter, sorted.
        permitted_origins: the origins that it may sign.
        expires_at: evidence received from then on does not count; None for never.
        revoked_at: when the platform stopped trusting the key; None if it did not.
        compromised_since: evidence received from then on does not count; None if it was not revoked.

    Raises:
        PolicyError: the values break a rule that no policy may break.
    """

    key: bytes
    permitted_purposes: tuple[str, ...]
    permitted_origins: frozenset[Origin]
    expires_at: int | None = None
    revoked_at: int | None = None
    compromised_since: int | None = None

    def __post_init__(self) -> None:
        """Checks the rules that are code."""
        # A key of small order would accept signatures that nobody made.
        if len(self.key) != _KEY_LENGTH or not crypto_core_ed25519_is_valid_point(self.key):
            raise PolicyError(f"key is no Ed25519 public key; write its 32 bytes as {_FORMS}")
        if (
            not self.permitted_purposes
            or not self.permitted_origins
            or Origin.UNKNOWN in self.permitted_origins
        ):
            raise PolicyError("name at least one purpose and one origin that the issuer may sign")
        if (self.revoked_at is None) != (self.compromised_since is None):
            raise PolicyError("revoked_at and compromised_since belong together; write both or neither")
        if self.compromised_since is not None and self.compromised_since > (self.revoked_at or 0):
            raise PolicyError(
                "compromised_since is after revoked_at; a key is revoked when it is compromised"
            )
        object.__setattr__(self, "permitted_purposes", tuple(sorted(set(self.permitted_purposes))))
        self._keep_security_apart()

    def _keep_security_apart(self) -> None:
        """Refuses a key that could sign what was given for security as if it were given for advertising."""
        advertising = [key for key in self.permitted_purposes if _touches(key, ADVERTISING_ROOT)]
        security = [
            key for key in self.permitted_purposes if any(_touches(key, root) for root in SECURITY_ROOTS)
        ]
        security += labels(self.permitted_origins & FORBIDDEN_ORIGINS)
        if advertising and security:
            raise PolicyError(
                f"a key that may sign {', '.join(security)} may not sign {', '.join(advertising)}; give the "
                f"advertising screens a system and a key of their own: {WHY_FORBIDDEN}"
            )

    def may_sign(self, purposes: tuple[str, ...], origin: Origin) -> bool:
        """Whether it may sign an assertion: every purpose by name, none through a parent, and the origin."""
        return origin in self.permitted_origins and set(purposes) <= set(self.permitted_purposes)

    @classmethod
    def from_canonical(cls, value: object) -> Self:
        """Parses what `to_mapping` gives.

        Raises:
            DecodeError: it is anything else.
            PolicyError: the values break a rule.
        """
        fields = Fields(value, "issuer", _MANDATORY + _OPTIONAL)
        times = {name: None if fields.value(name) is None else fields.integer(name) for name in _OPTIONAL}
        return cls(
            key=fields.hexadecimal("key", _KEY_LENGTH),
            permitted_purposes=read_strings(fields.value("permitted_purposes"), "permitted_purposes"),
            permitted_origins=read_origins(fields.value("permitted_origins"), "permitted_origins"),
            **times,
        )

    def to_mapping(self) -> dict[str, object]:
        """The issuer as the canonical bytes of a policy hold it."""
        return {
            "compromised_since": self.compromised_since,
            "expires_at": self.expires_at,
            "key": self.key.hex(),
            "permitted_origins": labels(self.permitted_origins),
            "permitted_purposes": list(self.permitted_purposes),
            "revoked_at": self.revoked_at,
        }


def check_issuers(issuers: Mapping[str, Issuer]) -> None:
    """Checks what only shows when all issuers are seen together.

    Raises:
        PolicyError: a name is not of its form, or two issuers have one key.
    """
    names: dict[bytes, str] = {}
    for name, issuer in issuers.items():
        if not ISSUER_NAME.fullmatch(name):
            raise PolicyError(
                "the name of an issuer is 1 to 63 of a-z, 0-9, dot, dash and underscore, and begins with a "
                "letter or digit"
            )
        # Under two names one key could sign for security and for advertising after all.
        if issuer.key in names:
            raise PolicyError(f"issuers {names[issuer.key]} and {name} have the same key; make one for each")
        names[issuer.key] = name


def read_issuers(value: object, taxonomy: Taxonomy) -> dict[str, Issuer]:
    """The issuers of a parsed policy file.

    Raises:
        PolicyError: a key is unknown or missing, a value has the wrong type, a purpose is not in
            `taxonomy`, or a rule is broken. The text names the issuer and says what to change.
    """
    if not isinstance(value, Mapping):
        raise PolicyError("issuers must hold one table [issuers.NAME] for each issuer")
    return {str(name): _read_issuer(table, f"issuers.{name}", taxonomy) for name, table in value.items()}


def _read_issuer(table: object, where: str, taxonomy: Taxonomy) -> Issuer:
    if not isinstance(table, Mapping):
        raise PolicyError(f"{where} must be a table with {', '.join(_MANDATORY)}")
    for key in table:
        if key not in _MANDATORY + _OPTIONAL:
            raise PolicyError(
                f"{where} has the unknown key {str(key)!r}; use {', '.join(_MANDATORY + _OPTIONAL)}"
            )
    for key in _MANDATORY:
        if key not in table:
            raise PolicyError(f"{where} lacks {key}")
    purposes = read_strings(table["permitted_purposes"], f"{where}.permitted_purposes")
    for purpose in purposes:
        if purpose not in taxonomy:
            raise PolicyError(
                f"{where}.permitted_purposes: {purpose!r} is not a purpose of the taxonomy; use a current "
                "data-use key of fideslang"
            )
    times = {key: read_time(table[key], f"{where}.{key}") for key in _OPTIONAL if key in table}
    try:
        return Issuer(
            key=_read_key(table["key"]),
            permitted_purposes=purposes,
            permitted_origins=read_origins(table["permitted_origins"], f"{where}.permitted_origins"),
            **times,
        )
    except PolicyError as error:
        # Some of these texts name their place already.
        text = str(error)
        raise PolicyError(text if text.startswith(where) else f"{where}: {text}") from None


def _read_key(value: object) -> bytes:
    """The bytes of a key; what is none is left to `Issuer` to refuse."""
    if not isinstance(value, str) or not value.isascii():
        return b""
    try:
        if len(value) == 2 * _KEY_LENGTH:
            return binascii.unhexlify(value)
        return binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error:
        return b""


def _touches(key: str, root: str) -> bool:
    """Whether `key` is `root`, a part of it, or includes it."""
    return is_under(key, root) or is_under(root, key)
