"""The policy of a platform: which purposes, origins and sources open the gate.

Source: docs/gate.md, *How to write policy.toml*. A policy can only narrow what the code allows: the required
use lies under `ADVERTISING_ROOT`, a permission never inherits upwards to a root, and the origins in
`FORBIDDEN_ORIGINS` never grant. These checks run for every `Policy` that comes into being.

What this does not protect against: a policy that names an honest-looking origin or source for data that was
collected for something else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Self

from purposematch.protocol.ciphersuite import POLICY_DOMAIN
from purposematch.protocol.errors import PolicyError
from purposematch.protocol.purpose import (
    ADVERTISING_ROOT,
    DEFAULT_PURPOSE,
    FORBIDDEN_ORIGINS,
    Origin,
    Taxonomy,
    ancestors_or_self,
    is_under,
)
from purposematch.protocol.strict_json import canonical_json

__all__ = ["DEFAULT_POLICY_TOML", "DEFAULT_SOURCE", "Policy"]

DEFAULT_SOURCE = "default"
"""The source of a file that was enrolled without naming one."""

MAX_CONSENT_AGE_DAYS = 36_500
"""Largest cap on the age of a consent, in days."""

_SOURCE_NAME_LIMIT = 255
"""Longest source name, in characters."""

_MANDATORY = ("required_purpose", "granting_purposes", "permitted_origins", "sources")
_OPTIONAL = ("strict_origins", "max_consent_age_days")

_WHY_FORBIDDEN = (
    "identifiers given for security or taken from other people's address books can never grant: in 2019 "
    "Twitter said that phone numbers and e-mail addresses given for two-factor authentication had been "
    "matched against advertisers' lists, and that it could not say how many people were affected"
)


@dataclass(frozen=True)
class Policy:
    """What opens the gate. Immutable; `from_mapping` is the usual way to make one.

    Attributes:
        required_purpose: the use that the match is for.
        granting_purposes: the keys that grant it: itself or ancestors of it, sorted.
        permitted_origins: the origins whose grants count.
        strict_origins: whether an assertion with a forbidden origin taints its identifier for everybody.
        max_consent_age_days: largest age of a grant in days, or None for no cap.
        sources: for each source the origins that it may claim; a source that is not listed may claim none.
        taxonomy_digest: digest of the taxonomy that the policy was checked against, 32 bytes.

    Raises:
        PolicyError: the values break a rule that no policy may break.
    """

    required_purpose: str
    granting_purposes: tuple[str, ...]
    permitted_origins: frozenset[Origin]
    strict_origins: bool
    max_consent_age_days: int | None
    sources: Mapping[str, frozenset[Origin]]
    taxonomy_digest: bytes

    def __post_init__(self) -> None:
        """Checks the rules that are code, and freezes what was given."""
        _check_purposes(self.required_purpose, self.granting_purposes)
        _check_origins(self.permitted_origins)
        age = self.max_consent_age_days
        if age is not None and not 1 <= age <= MAX_CONSENT_AGE_DAYS:
            raise PolicyError(
                f"max_consent_age_days must be a whole number from 1 to {MAX_CONSENT_AGE_DAYS}; "
                "leave it out for no cap"
            )
        object.__setattr__(self, "granting_purposes", tuple(sorted(set(self.granting_purposes))))
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object], taxonomy: Taxonomy) -> Self:
        """The policy that a parsed policy file describes; `DEFAULT_POLICY_TOML` shows every key.

        Raises:
            PolicyError: a key is unknown or missing, a value has the wrong type, a purpose is not in
                `taxonomy`, or a rule is broken. The text says what to change.
        """
        for key in mapping:
            if key not in _MANDATORY + _OPTIONAL:
                raise PolicyError(
                    f"unknown policy key {str(key)!r}; remove it, or use one of "
                    f"{', '.join(_MANDATORY + _OPTIONAL)}"
                )
        for key in _MANDATORY:
            if key not in mapping:
                raise PolicyError(f"the policy lacks {key}; add it as the default policy shows")
        required = mapping["required_purpose"]
        if not isinstance(required, str):
            raise PolicyError("required_purpose must be a string")
        granting = _strings(mapping["granting_purposes"], "granting_purposes")
        for key in (required, *granting):
            if key not in taxonomy:
                raise PolicyError(
                    f"{key!r} is not a purpose of the taxonomy; use a current data-use key of fideslang"
                )
        strict = mapping.get("strict_origins", False)
        if not isinstance(strict, bool):
            raise PolicyError("strict_origins must be true or false")
        age = mapping.get("max_consent_age_days")
        if age is not None and (not isinstance(age, int) or isinstance(age, bool)):
            raise PolicyError("max_consent_age_days must be a whole number of days; leave it out for no cap")
        return cls(
            required_purpose=required,
            granting_purposes=granting,
            permitted_origins=_origins(mapping["permitted_origins"], "permitted_origins"),
            strict_origins=strict,
            max_consent_age_days=age,
            sources=_sources(mapping["sources"]),
            taxonomy_digest=taxonomy.digest,
        )

    def canonical_bytes(self) -> bytes:
        """The policy as canonical JSON: equal policies give equal bytes, however their files were written."""
        document: dict[str, object] = {
            "granting_purposes": list(self.granting_purposes),
            "max_consent_age_days": self.max_consent_age_days,
            "permitted_origins": _labels(self.permitted_origins),
            "required_purpose": self.required_purpose,
            "sources": {name: _labels(origins) for name, origins in self.sources.items()},
            "strict_origins": self.strict_origins,
            "taxonomy": self.taxonomy_digest.hex(),
        }
        return canonical_json(document)

    @property
    def digest(self) -> bytes:
        """SHA-256 over a domain string and `canonical_bytes`, 32 bytes."""
        return sha256(POLICY_DOMAIN + self.canonical_bytes()).digest()


def _check_purposes(required: str, granting: tuple[str, ...]) -> None:
    if not is_under(required, ADVERTISING_ROOT):
        raise PolicyError(
            f"required_purpose {required!r} does not lie under {ADVERTISING_ROOT!r}; "
            f"use {DEFAULT_PURPOSE!r} or another use below it"
        )
    if not granting:
        raise PolicyError(f"granting_purposes is empty; name at least {required!r}")
    for key in granting:
        if "." not in key:
            raise PolicyError(f"granting purpose {key!r} is a root of the taxonomy; use a narrower key")
        if key not in ancestors_or_self(required):
            raise PolicyError(
                f"granting purpose {key!r} is neither {required!r} nor an ancestor of it; remove it"
            )


def _check_origins(origins: frozenset[Origin]) -> None:
    if not origins:
        raise PolicyError("permitted_origins is empty; name at least one origin, such as 'profile'")
    if Origin.UNKNOWN in origins:
        raise PolicyError("an unknown origin can not grant; remove it from permitted_origins")
    forbidden = origins & FORBIDDEN_ORIGINS
    if forbidden:
        raise PolicyError(f"remove {', '.join(_labels(forbidden))} from permitted_origins: {_WHY_FORBIDDEN}")


def _sources(value: object) -> dict[str, frozenset[Origin]]:
    if not isinstance(value, Mapping):
        raise PolicyError("sources must be a table with one list of origins for each source")
    if DEFAULT_SOURCE not in value:
        raise PolicyError(
            f"sources lacks {DEFAULT_SOURCE!r}; list the origins that files without a source may claim, "
            "or [] for none"
        )
    for name in value:
        if not (isinstance(name, str) and 0 < len(name) <= _SOURCE_NAME_LIMIT and _is_printable_ascii(name)):
            raise PolicyError(
                f"a source name must be 1 to {_SOURCE_NAME_LIMIT} printable ASCII characters without spaces"
            )
    return {name: _origins(origins, f"sources.{name}") for name, origins in value.items()}


def _origins(value: object, where: str) -> frozenset[Origin]:
    origins = set()
    for text in _strings(value, where):
        origin = Origin.parse(text)
        if origin is Origin.UNKNOWN:
            known = ", ".join(_labels(set(Origin) - {Origin.UNKNOWN}))
            raise PolicyError(f"{where} names the unknown origin {text!r}; the origins are {known}")
        origins.add(origin)
    return frozenset(origins)


def _strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise PolicyError(f"{where} must be a list of strings")
    return tuple(value)


def _labels(origins: Iterable[Origin]) -> list[str]:
    return [origin.label for origin in sorted(origins)]


def _is_printable_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


_ALL_ORIGINS = ",\n    ".join(f'"{label}"' for label in _labels(set(Origin) - {Origin.UNKNOWN}))

DEFAULT_POLICY_TOML = f"""\
# The policy of this platform: which identifiers may enter a match.
# `purposematch-platform policy check FILE` says whether a changed file would be accepted.

# The use that the match is for, a data-use key of the Fides taxonomy. It must lie under {ADVERTISING_ROOT}.
required_purpose = "{DEFAULT_PURPOSE}"

# The keys whose grant counts: the required use itself, or ancestors of it that your notices name.
# A refusal of the required use or of any ancestor always counts and needs no entry here.
granting_purposes = ["{DEFAULT_PURPOSE}"]

# The ways of getting an identifier that may grant. These can never be listed:
# {", ".join(_labels(FORBIDDEN_ORIGINS))}.
permitted_origins = ["profile", "signup", "newsletter", "purchase"]

# true: an identifier that was ever given in one of those ways is refused for everybody, even if it was also
# given for advertising. false: the other assertion of the same person counts.
strict_origins = false

# The oldest consent that still counts, in days. Without this line consents age only by their own expiry.
# max_consent_age_days = 730

# What each source may claim as origin. `enroll --source NAME` names the source, `default` is used without it.
# A source that is not listed may claim nothing.
[sources]
default = [
    {_ALL_ORIGINS},
]
"""
"""The commented policy file that a new platform starts with."""
