"""Documents that are signed: manifests, session grants, receipts; and agreements, by both sides.

A signed document is canonical JSON (see `strict_json`) and an Ed25519 signature (RFC 8032, PyNaCl) over a
domain string and those bytes, so that a signature made for one kind of document fits no other. The
advertiser pins the platform's public identity key when it gets its credentials.

Not protected against: the platform signing two different truths for two advertisers. Comparing receipts
finds that.
"""

from dataclasses import dataclass
from typing import Self

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from purposematch.protocol.errors import DecodeError, VerificationError
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.secret import Secret, reveal
from purposematch.protocol.strict_json import canonical_json, decode_json

__all__ = [
    "PUBLIC_KEY_LENGTH",
    "SIGNATURE_LENGTH",
    "AdvertiserSeed",
    "IdentitySeed",
    "SignedDocument",
    "advertiser_public_key",
    "identity_public_key",
    "open_document",
    "sign_document",
]

PUBLIC_KEY_LENGTH = 32
"""Bytes of an Ed25519 public key."""
SIGNATURE_LENGTH = 64
"""Bytes of an Ed25519 signature."""
MAX_DOCUMENT_LENGTH = 2 * 1024 * 1024
"""Bytes of a signed document at most: a manifest of 2^14 segments is about 1.6 MB."""


class IdentitySeed(Secret):
    """The Ed25519 seed of the platform's identity key."""

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> Self:
        """A fresh one."""
        return cls(random_bytes(cls.LENGTH))


class AdvertiserSeed(Secret):
    """The Ed25519 seed of an advertiser's signing key, which signs agreements and nothing else."""

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> Self:
        """A fresh one."""
        return cls(random_bytes(cls.LENGTH))


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """Canonical JSON bytes and the signature over them."""

    content: bytes
    signature: bytes


def identity_public_key(seed: IdentitySeed) -> bytes:
    """The public identity key, 32 bytes."""
    return bytes(SigningKey(reveal(seed)).verify_key)


def advertiser_public_key(seed: AdvertiserSeed) -> bytes:
    """The public signing key of an advertiser, 32 bytes."""
    return bytes(SigningKey(reveal(seed)).verify_key)


def sign_document(
    seed: IdentitySeed | AdvertiserSeed, domain: bytes, mapping: dict[str, object]
) -> SignedDocument:
    """Signs the canonical JSON of `mapping` under `domain`."""
    content = canonical_json(mapping)
    return SignedDocument(content, SigningKey(reveal(seed)).sign(_message(domain, content)).signature)


def open_document(
    public_key: bytes,
    domain: bytes,
    document: SignedDocument,
    what: str,
    signer: str = "the platform's pinned identity key",
) -> object:
    """The JSON value of a signed document, after checking the signature and that its form is canonical.

    Args:
        public_key: the signer's, 32 bytes.
        domain: the kind of document.
        document: what arrived.
        what: names the document in error texts.
        signer: names the key there.

    Raises:
        VerificationError: the signature does not hold.
        DecodeError: the content is too long, or not canonical JSON.
    """
    if len(public_key) != PUBLIC_KEY_LENGTH or len(document.signature) != SIGNATURE_LENGTH:
        raise DecodeError(f"the {what}'s signature or key has a wrong length")
    if len(document.content) > MAX_DOCUMENT_LENGTH:
        raise DecodeError(f"the {what} is longer than {MAX_DOCUMENT_LENGTH} bytes")
    try:
        VerifyKey(public_key).verify(_message(domain, document.content), document.signature)
    except BadSignatureError as error:
        raise VerificationError(f"the {what} is not signed by {signer}") from error
    value = decode_json(document.content, what, MAX_DOCUMENT_LENGTH)
    if not isinstance(value, dict) or not _is_canonical(value, document.content):
        raise DecodeError(f"the {what} is not canonical JSON")
    return value


def _is_canonical(value: dict[str, object], content: bytes) -> bool:
    try:
        return canonical_json(value) == content
    except RecursionError:
        # Writing may need a deeper stack than reading did.
        return False


def _message(domain: bytes, content: bytes) -> bytes:
    return len(domain).to_bytes(2, "big") + domain + content
