"""A delegation: an advertiser lets a partner bring lists for it, within limits, and takes that back.

The advertiser signs both with the key with which it accepts agreements (RFC 8032, see `signing`), each under
a domain of its own. The platform records them and opens a partner's sessions under nothing else; the grant of
such a session names the delegation by its digest, and so does the transcript that commits are bound to.

Not protected against: what the partner writes on a list. A list's name is the partner's statement, as no side
shows its list; and what the partner learns is what the advertiser would have learned.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Final, Self

from purposematch.protocol.agreement import (
    LARGEST_LIST_ELEMENTS,
    LARGEST_NUMBER,
    LATEST_EXPIRY,
    check_advertiser_name,
)
from purposematch.protocol.ciphersuite import DELEGATION_DOMAIN, DELEGATION_REVOCATION_DOMAIN
from purposematch.protocol.errors import DecodeError, VerificationError
from purposematch.protocol.log.session_proof import partner_fields
from purposematch.protocol.scope import check_platform_id, check_purpose
from purposematch.protocol.signing import (
    PUBLIC_KEY_LENGTH,
    SIGNATURE_LENGTH,
    AdvertiserSeed,
    SignedDocument,
    advertiser_public_key,
    open_document,
    sign_document,
)
from purposematch.protocol.strict_json import Fields, canonical_json, decode_json

__all__ = [
    "MAX_DELEGATION_BYTES",
    "MAX_LISTS",
    "DelegatedList",
    "Delegation",
    "DelegationDocument",
    "DelegationRevocation",
    "OnBehalf",
]

MAX_DELEGATION_BYTES: Final = 65_536
"""The longest file of a delegation or of its revocation that is read, in bytes."""

MAX_LISTS: Final = 64
"""Lists that one delegation names at most."""

_VERSION: Final = 1
_SIGNER: Final = "the advertiser's signing key"
_FIELDS: Final = (
    *("platform_id", "advertiser", "number", "partner", "purpose", "lists"),
    *("max_list_elements", "expires_at"),
)


@dataclass(frozen=True, slots=True)
class Delegation:
    """What an advertiser lets a partner do.

    Attributes:
        platform_id: the id of the platform.
        advertiser: who delegates.
        number: which delegation of the advertiser it is, from 1.
        partner: the name of who brings the lists.
        purpose: the required use, which must be that of the advertiser's agreement.
        lists: names of the lists, each once, in ascending order; at least one.
        max_list_elements: distinct identifiers of a list at most; the agreement's bound counts too.
        expires_at: the first moment at which nothing is matched under it, in microseconds since 1970.

    Raises:
        DecodeError: a field is not of its form.
    """

    platform_id: str
    advertiser: str
    number: int
    partner: str
    purpose: str
    lists: tuple[str, ...]
    max_list_elements: int
    expires_at: int

    def __post_init__(self) -> None:
        """Checks every field."""
        check_platform_id(self.platform_id)
        check_advertiser_name(self.advertiser)
        check_advertiser_name(self.partner, "a partner's")
        check_purpose(self.purpose)
        for name in self.lists:
            check_advertiser_name(name, "a list's")
        if not 1 <= len(self.lists) <= MAX_LISTS or list(self.lists) != sorted(set(self.lists)):
            raise DecodeError(f"a delegation names 1 to {MAX_LISTS} lists, each once, in ascending order")
        for what, value, most in (
            ("number", self.number, LARGEST_NUMBER),
            ("max_list_elements", self.max_list_elements, LARGEST_LIST_ELEMENTS),
            ("expires_at", self.expires_at, LATEST_EXPIRY),
        ):
            if not 1 <= value <= most:
                raise DecodeError(f"{what} of a delegation is 1 to {most}")

    def canonical_bytes(self) -> bytes:
        """The canonical JSON of the fields, which is what is signed."""
        return canonical_json(self.to_mapping())

    @property
    def digest(self) -> bytes:
        """SHA-256 over a domain string and the canonical bytes, 32 bytes."""
        return hashlib.sha256(DELEGATION_DOMAIN + self.canonical_bytes()).digest()

    def to_mapping(self) -> dict[str, object]:
        """The fields as a JSON object."""
        return {name: getattr(self, name) for name in _FIELDS} | {"lists": list(self.lists)}

    @classmethod
    def from_mapping(cls, value: object) -> Self:
        """The delegation in a JSON object that has exactly the fields of `to_mapping`.

        Raises:
            DecodeError: a field is missing, unknown, of a wrong type or not of its form.
        """
        fields = Fields(value, "delegation", _FIELDS)
        lists = fields.array("lists", MAX_LISTS)
        return cls(
            platform_id=fields.text("platform_id"),
            advertiser=fields.text("advertiser"),
            number=fields.integer("number"),
            partner=fields.text("partner"),
            purpose=fields.text("purpose"),
            lists=tuple(Fields({"list": one}, "delegation", ("list",)).text("list") for one in lists),
            max_list_elements=fields.integer("max_list_elements"),
            expires_at=fields.integer("expires_at"),
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The delegation in the JSON that `canonical_bytes` gives.

        Raises:
            DecodeError: `data` is anything else.
        """
        return cls.from_mapping(decode_json(data, "delegation", MAX_DELEGATION_BYTES))


@dataclass(frozen=True, slots=True)
class DelegatedList:
    """Under which delegation a partner brings which list: its digest, 32 bytes, and the list's name."""

    digest: bytes
    name: str


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """What a partner's session is for: a delegation, and the name of the list that it brings.

    Raises:
        DecodeError: the delegation does not name the list.
    """

    delegation: Delegation
    list_name: str

    def session_fields(self) -> dict[str, object]:
        """What the log says of it, beside the rest of the session."""
        signed = self.delegation
        return partner_fields(signed.partner, signed.digest, self.list_name)

    @property
    def delegated(self) -> DelegatedList:
        """What is said of it when a session opens."""
        return DelegatedList(self.delegation.digest, self.list_name)

    def __post_init__(self) -> None:
        """Checks the name."""
        if self.list_name not in self.delegation.lists:
            raise DecodeError(f"delegation {self.delegation.number} does not name this list")


@dataclass(frozen=True, slots=True)
class DelegationDocument:
    """A delegation, the advertiser's public signing key, 32 bytes, and its signature, 64 bytes."""

    delegation: Delegation
    key: bytes
    signature: bytes

    @classmethod
    def sign(cls, delegation: Delegation, seed: AdvertiserSeed) -> Self:
        """A delegation that the advertiser signs."""
        signed = sign_document(seed, DELEGATION_DOMAIN, delegation.to_mapping())
        return cls(delegation, advertiser_public_key(seed), signed.signature)

    def check(self, key: bytes) -> None:
        """Checks that the advertiser signed it with the key with which it accepts agreements, 32 bytes.

        Raises:
            VerificationError: it did not.
        """
        if self.key != key:
            raise VerificationError("the delegation is signed by another key than accepted the agreement")
        document = SignedDocument(self.delegation.canonical_bytes(), self.signature)
        open_document(key, DELEGATION_DOMAIN, document, "delegation", _SIGNER)

    def encode(self) -> bytes:
        """The content of the file: indented JSON, because people read it too."""
        return _encoded("delegation", self.delegation.to_mapping(), self.key, self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The document in a file; white space may differ, nothing else. No signature is checked.

        Raises:
            DecodeError: `data` is anything else.
        """
        value, key, signature = _decoded(data, "delegation")
        return cls(Delegation.from_mapping(value), key, signature)


@dataclass(frozen=True, slots=True)
class DelegationRevocation:
    """An advertiser takes a delegation back: which one, the key and the signature.

    Attributes:
        digest: of the delegation, 32 bytes.
        key: the advertiser's public signing key, 32 bytes.
        signature: 64 bytes.
    """

    digest: bytes
    key: bytes
    signature: bytes

    @classmethod
    def sign(cls, delegation: Delegation, seed: AdvertiserSeed) -> Self:
        """The revocation of a delegation."""
        mapping = _revocation(delegation.digest)
        signed = sign_document(seed, DELEGATION_REVOCATION_DOMAIN, mapping)
        return cls(delegation.digest, advertiser_public_key(seed), signed.signature)

    def check(self, key: bytes) -> None:
        """Checks the signature against the key that signed the delegation, 32 bytes.

        Raises:
            VerificationError: it does not hold.
        """
        if self.key != key:
            raise VerificationError("the revocation is signed by another key than the delegation")
        document = SignedDocument(canonical_json(_revocation(self.digest)), self.signature)
        open_document(key, DELEGATION_REVOCATION_DOMAIN, document, "revocation", _SIGNER)

    def encode(self) -> bytes:
        """The content of the file."""
        return _encoded("delegation_revocation", _revocation(self.digest), self.key, self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The revocation in a file; no signature is checked.

        Raises:
            DecodeError: `data` is anything else.
        """
        value, key, signature = _decoded(data, "delegation_revocation")
        fields = Fields(value, "revocation of a delegation", ("delegation",))
        return cls(fields.hexadecimal("delegation", 32), key, signature)


def _revocation(digest: bytes) -> dict[str, object]:
    return {"delegation": digest.hex()}


def _encoded(what: str, value: dict[str, object], key: bytes, signature: bytes) -> bytes:
    document: dict[str, object] = {
        "version": _VERSION,
        what: value,
        "advertiser_key": key.hex(),
        "advertiser_signature": signature.hex(),
    }
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


def _decoded(data: bytes, what: str) -> tuple[object, bytes, bytes]:
    name = f"{what.replace('_', ' ')} file"
    value = decode_json(data, name, MAX_DELEGATION_BYTES)
    fields = Fields(value, name, ("version", what, "advertiser_key", "advertiser_signature"))
    if fields.integer("version") != _VERSION:
        raise DecodeError(f"the {name} has another version than {_VERSION}: update purposematch")
    return (
        fields.value(what),
        fields.hexadecimal("advertiser_key", PUBLIC_KEY_LENGTH),
        fields.hexadecimal("advertiser_signature", SIGNATURE_LENGTH),
    )
