"""An agreement with its signatures: the file that goes from the platform to the advertiser and back.

The platform offers it, signed by its identity key; the advertiser accepts it with a signing key of its own,
made and kept on its side. Both sign the same canonical JSON (RFC 8032, see `signing`), each under its domain.
With both signatures neither can say later that it agreed to something else.

Not protected against: a file that somebody else accepted on the way. The platform compares the advertiser's
key with what it knows before it records an acceptance.
"""

import json
from dataclasses import dataclass, replace
from typing import Final, Self

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.ciphersuite import ACCEPTANCE_DOMAIN, AGREEMENT_DOMAIN
from purposematch.protocol.errors import DecodeError, VerificationError
from purposematch.protocol.signing import (
    PUBLIC_KEY_LENGTH,
    SIGNATURE_LENGTH,
    AdvertiserSeed,
    IdentitySeed,
    SignedDocument,
    advertiser_public_key,
    open_document,
    sign_document,
)
from purposematch.protocol.strict_json import Fields, decode_json

__all__ = ["MAX_AGREEMENT_BYTES", "Acceptance", "AgreementDocument"]

MAX_AGREEMENT_BYTES: Final = 65_536
"""The longest file of an agreement that is read, in bytes."""

_VERSION: Final = 1
_OFFERED: Final = ("version", "agreement", "platform_signature")
_ACCEPTED: Final = (*_OFFERED, "advertiser_key", "advertiser_signature")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The advertiser's half: its public key, 32 bytes, and its signature, 64 bytes."""

    key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class AgreementDocument:
    """An agreement, the platform's signature, and the advertiser's once it has accepted.

    Attributes:
        agreement: what is signed.
        platform_signature: by the platform's identity key, 64 bytes.
        acceptance: None in an offer.
    """

    agreement: Agreement
    platform_signature: bytes
    acceptance: Acceptance | None = None

    @classmethod
    def offer(cls, agreement: Agreement, seed: IdentitySeed) -> Self:
        """An agreement that the platform signs."""
        return cls(agreement, sign_document(seed, AGREEMENT_DOMAIN, agreement.to_mapping()).signature)

    def accept(self, seed: AdvertiserSeed) -> Self:
        """The same with the advertiser's signature; check the offer before."""
        signed = sign_document(seed, ACCEPTANCE_DOMAIN, self.agreement.to_mapping())
        return replace(self, acceptance=Acceptance(advertiser_public_key(seed), signed.signature))

    def check_offer(self, identity_key: bytes) -> None:
        """Checks the platform's signature against its pinned identity key, 32 bytes.

        Raises:
            VerificationError: it does not hold.
        """
        document = SignedDocument(self.agreement.canonical_bytes(), self.platform_signature)
        open_document(identity_key, AGREEMENT_DOMAIN, document, "agreement")

    def check_both(self, identity_key: bytes) -> Acceptance:
        """Checks both signatures, and gives the advertiser's.

        Raises:
            VerificationError: one does not hold, or the advertiser has not accepted.
        """
        self.check_offer(identity_key)
        if self.acceptance is None:
            raise VerificationError("the agreement is an offer: the advertiser has not accepted it")
        document = SignedDocument(self.agreement.canonical_bytes(), self.acceptance.signature)
        open_document(
            self.acceptance.key, ACCEPTANCE_DOMAIN, document, "agreement", "the advertiser's key in it"
        )
        return self.acceptance

    def encode(self) -> bytes:
        """The content of the file: indented JSON, because people read it too."""
        document = {
            "version": _VERSION,
            "agreement": self.agreement.to_mapping(),
            "platform_signature": self.platform_signature.hex(),
        }
        if self.acceptance is not None:
            document["advertiser_key"] = self.acceptance.key.hex()
            document["advertiser_signature"] = self.acceptance.signature.hex()
        return json.dumps(document, indent=2).encode("ascii") + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The document in a file; white space may differ, nothing else. No signature is checked.

        Raises:
            DecodeError: `data` is anything else.
        """
        value = decode_json(data, "agreement file", MAX_AGREEMENT_BYTES)
        accepted = isinstance(value, dict) and "advertiser_key" in value
        fields = Fields(value, "agreement file", _ACCEPTED if accepted else _OFFERED)
        if fields.integer("version") != _VERSION:
            raise DecodeError(f"the agreement file has another version than {_VERSION}: update purposematch")
        return cls(
            Agreement.from_mapping(fields.value("agreement")),
            fields.hexadecimal("platform_signature", SIGNATURE_LENGTH),
            Acceptance(
                fields.hexadecimal("advertiser_key", PUBLIC_KEY_LENGTH),
                fields.hexadecimal("advertiser_signature", SIGNATURE_LENGTH),
            )
            if accepted
            else None,
        )
