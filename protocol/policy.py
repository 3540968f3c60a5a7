"""The policy of a platform: which purposes, origins and sources open the gate.

Source: docs/gate.md, *How to write policy.toml*. A policy can only narrow what the code allows: the required
use lies under `ADVERTISING_ROOT`, a permission never inherits upwards to a root, and the origins in
`FORBIDDEN_ORIGINS` never grant. These checks run for every `Policy` that comes into being.

What this does not protect against: a policy that names an honest-looking origin or source for data that was
collected for something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Self

from purposematch.protocol.ciphersuite import POLICY_DOMAIN
from purposematch.protocol.errors import DecodeError, PolicyError
from purposematch.protocol.issuers import Issuer, check_issuers, read_issuers
from purposematch.protocol.policy_values import (
    SOURCE_NAME_FORM,
    WHY_FORBIDDEN,
    is_source_name,
    labels,
    read_origins,
    read_strings,
    read_truth,
)
from purposematch.protocol.purpose import (
    ADVERTISING_ROOT,
    DEFAULT_PURPOSE,
    FORBIDDEN_ORIGINS,
    Origin,
    Taxonomy,
    ancestors_or_self,
    is_under,
)
from purposematch.protocol.strict_json import Fields, canonical_json, decode_json

__all__ = ["DEFAULT_POLICY_TOML", "DEFAULT_SOURCE", "Policy"]

DEFAULT_SOURCE = "default"
"""The source of a file that was enrolled without naming one."""

MAX_CONSENT_AGE_DAYS = 36_500
"""Largest cap on the age of a consent, in days."""

_MANDATORY = ("required_purpose", "granting_purposes", "permitted_origins", "sources")
_OPTIONAL = ("strict_origins", "max_consent_age_days", "require_evidence", "issuers")
_CANONICAL = (*_MANDATORY, *_OPTIONAL, "taxonomy")
_MAX_CANONICAL_BYTES = 16 * 1024 * 1024


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
        require_evidence: whether a grant counts only with a signature of the system that collected it.
        issuers: the systems whose signatures count, by name.

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
    require_evidence: bool = False
    issuers: Mapping[str, Issuer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the rules that are code, and freezes what was given."""
        _check_purposes(self.required_purpose, self.granting_purposes)
        _check_origins(self.permitted_origins)
        check_issuers(self.issuers)
        age = self.max_consent_age_days
        if age is not None and not 1 <= age <= MAX_CONSENT_AGE_DAYS:
            raise PolicyError(
                f"max_consent_age_days must be a whole number from 1 to {MAX_CONSENT_AGE_DAYS}; "
                "leave it out for no cap"
            )
        object.__setattr__(self, "granting_purposes", tuple(sorted(set(self.granting_purposes))))
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))
        object.__setattr__(self, "issuers", MappingProxyType(dict(self.issuers)))

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
        granting = read_strings(mapping["granting_purposes"], "granting_purposes")
        for key in (required, *granting):
            if key not in taxonomy:
                raise PolicyError(
                    f"{key!r} is not a purpose of the taxonomy; use a current data-use key of fideslang"
                )
        age = mapping.get("max_consent_age_days")
        if age is not None and (not isinstance(age, int) or isinstance(age, bool)):
            raise PolicyError("max_consent_age_days must be a whole number of days; leave it out for no cap")
        return cls(
            required_purpose=required,
            granting_purposes=granting,
            permitted_origins=read_origins(mapping["permitted_origins"], "permitted_origins"),
            strict_origins=read_truth(mapping.get("strict_origins", False), "strict_origins"),
            max_consent_age_days=age,
            sources=_sources(mapping["sources"]),
            taxonomy_digest=taxonomy.digest,
            require_evidence=read_truth(mapping.get("require_evidence", False), "require_evidence"),
            issuers=read_issuers(mapping.get("issuers", {}), taxonomy),
        )

    @classmethod
    def from_canonical(cls, content: bytes) -> Self:
        """The policy in its canonical bytes, whatever taxonomy it was checked against.

        Raises:
            DecodeError: they are not what `canonical_bytes` gives for any policy.
        """
        fields = Fields(decode_json(content, "policy", _MAX_CANONICAL_BYTES), "policy", _CANONICAL)
        age, sources, issuers = map(fields.value, ("max_consent_age_days", "sources", "issuers"))
        if not isinstance(sources, dict) or not isinstance(issuers, dict):
            raise DecodeError("the sources or issuers of the policy are not an object")
        try:
            policy = cls(
                required_purpose=fields.text("required_purpose"),
                granting_purposes=read_strings(fields.value("granting_purposes"), "granting_purposes"),
                permitted_origins=read_origins(fields.value("permitted_origins"), "permitted_origins"),
                strict_origins=read_truth(fields.value("strict_origins"), "strict_origins"),
                max_consent_age_days=None if age is None else fields.integer("max_consent_age_days"),
                sources={name: read_origins(origins, "sources") for name, origins in sources.items()},
                taxonomy_digest=fields.hexadecimal("taxonomy", 32),
                require_evidence=read_truth(fields.value("require_evidence"), "require_evidence"),
                issuers={name: Issuer.from_canonical(issuer) for name, issuer in issuers.items()},
            )
        except PolicyError as error:
            raise DecodeError(f"the policy breaks a rule: {error}") from None
        if policy.canonical_bytes() != content:
            raise DecodeError("the policy is not canonical JSON")
        return policy

    def canonical_bytes(self) -> bytes:
        """The policy as canonical JSON: equal policies give equal bytes, however their files were written."""
        document: dict[str, object] = {
            "granting_purposes": list(self.granting_purposes),
            "issuers": {name: issuer.to_mapping() for name, issuer in self.issuers.items()},
            "max_consent_age_days": self.max_consent_age_days,
            "permitted_origins": labels(self.permitted_origins),
            "require_evidence": self.require_evidence,
            "required_purpose": self.required_purpose,
            "sources": {name: labels(origins) for name, origins in self.sources.items()},
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
        raise PolicyError(f"remove {', '.join(labels(forbidden))} from permitted_origins: {WHY_FORBIDDEN}")


def _sources(value: object) -> dict[str, frozenset[Origin]]:
    if not isinstance(value, Mapping):
        raise PolicyError("sources must be a table with one list of origins for each source")
    if DEFAULT_SOURCE not in value:
        raise PolicyError(
            f"sources lacks {DEFAULT_SOURCE!r}; list the origins that files without a source may claim, "
            "or [] for none"
        )
    for name in value:
        if not (isinstance(name, str) and is_source_name(name)):
            raise PolicyError(SOURCE_NAME_FORM)
    return {name: read_origins(origins, f"sources.{name}") for name, origins in value.items()}


_ALL_ORIGINS = ",\n    ".join(f'"{label}"' for label in labels(set(Origin) - {Origin.UNKNOWN}))

DEFAULT_POLICY_TOML = f"""\
# The policy of this platform: which identifiers may enter a match.
# `purposematch-platform policy check FILE` says whether a changed file would be accepted.

# The use that the match is for, a data-use key of the Fides taxonomy. It must lie under {ADVERTISING_ROOT}.
required_purpose = "{DEFAULT_PURPOSE}"

# The keys whose grant counts: the required use itself, or ancestors of it that your notices name.
# A refusal of the required use or of any ancestor always counts and needs no entry here.
granting_purposes = ["{DEFAULT_PURPOSE}"]

# The ways of getting an identifier that may grant. These can never be listed:
# {", ".join(labels(FORBIDDEN_ORIGINS))}.
permitted_origins = ["profile", "signup", "newsletter", "purchase"]

# true: an identifier that was ever given in one of those ways is refused for everybody, even if it was also
# given for advertising. false: the other assertion of the same person counts.
strict_origins = false

# The oldest consent that still counts, in days. Without this line consents age only by their own expiry.
# max_consent_age_days = 730

# true: a grant counts only with a signature of the system that collected it, see [issuers] below.
# require_evidence = true

# What each source may claim as origin. `enroll --source NAME` names the source, `default` is used without it.
# A source that is not listed may claim nothing.
[sources]
default = [
    {_ALL_ORIGINS},
]

# The systems that sign what they collect: `purposematch-platform issuer add` writes a table for each.
# A key that may sign a security purpose or an origin that never grants may sign no advertising purpose.
# [issuers.signup-service]
# key = "<Ed25519 public key, 64 hexadecimal digits>"
# permitted_purposes = ["{DEFAULT_PURPOSE}"]
# permitted_origins = ["signup"]
"""
"""The commented policy file that a new platform starts with."""
