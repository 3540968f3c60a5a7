"""The ciphersuite and every domain-separation string that is our own, in one table.

RFC 9497 OPRF(ristretto255, SHA-512): group of RFC 9496, hashing of RFC 9380. The product uses mode 0x02
(POPRF) only; the other two modes share the same arithmetic and exist so that all published vectors can be
run against it. The commutative set exchange has a suite of its own on the same group. Labels that RFC 9497
writes into its messages stand where those are built; what the platform stores has domains of its own, in
`server`.

Not protected against: a future computer that finds discrete logarithms recovers the platform's key from
its public key and then every tag. What the platform received stays safe: see `blinds`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

__all__ = [
    "AGREEMENT_DOMAIN",
    "BLIND_NONCE",
    "CANARY_DOMAIN",
    "ELEMENT_LENGTH",
    "EVIDENCE_BATCH_DOMAIN",
    "EVIDENCE_DOMAIN",
    "LABEL_DOMAIN",
    "LOG_ASSERTION_DOMAIN",
    "LOG_DECISION_DOMAIN",
    "LOG_EVENT_DOMAIN",
    "LOG_QUERY_DOMAIN",
    "LOG_TERMS_DOMAIN",
    "MANIFEST_DOMAIN",
    "MAX_INFO_LENGTH",
    "MAX_PROOF_ELEMENTS",
    "NOISY_REPORT_DOMAIN",
    "ONE_SHOT_DOMAIN",
    "OUTPUT_LENGTH",
    "POLICY_DOMAIN",
    "POPRF",
    "PROOF_LENGTH",
    "RECEIPT_DOMAIN",
    "REMOVALS_DOMAIN",
    "SCALAR_LENGTH",
    "SCOPE_DOMAIN",
    "SESSION_DOMAIN",
    "SET_EXCHANGE",
    "SET_EXCHANGE_DOMAIN",
    "TAG_LENGTH",
    "TAXONOMY_DOMAIN",
    "TOKEN_LENGTH",
    "TRANSCRIPT_DOMAIN",
    "VOLE_DOMAIN",
    "WATERMARK_DOMAIN",
    "WIDE_LENGTH",
    "Mode",
    "Suite",
]

ELEMENT_LENGTH: Final = 32
"""Bytes of an encoded group element (RFC 9496 section 4.3.2)."""
SCALAR_LENGTH: Final = 32
"""Bytes of a scalar, little-endian and below the group order (RFC 9496 section 4.4)."""
WIDE_LENGTH: Final = 64
"""Bytes that are reduced to a scalar or mapped to an element, so that the result is uniform."""
OUTPUT_LENGTH: Final = 64
"""Bytes of the POPRF's output, a SHA-512 hash."""
PROOF_LENGTH: Final = 2 * SCALAR_LENGTH
"""Bytes of a DLEQ proof: challenge, then response (RFC 9497 section 2.2.1)."""
MAX_PROOF_ELEMENTS: Final = 65_535
"""Elements that one proof can cover: the index in a composite is two bytes (RFC 9497 section 2.2.1)."""
MAX_INFO_LENGTH: Final = 65_535
"""Bytes of the public info at most (RFC 9497 section 3.3.3)."""

TAG_LENGTH: Final = 16
"""Bytes of a tag: POPRF output bytes 0 to 15; tags are compared."""
TOKEN_LENGTH: Final = 32
"""Bytes of a token: POPRF output bytes 16 to 47; it proves at commit that the tag was evaluated."""

ACCEPTANCE_DOMAIN: Final = b"purposematch acceptance v1"
AGREEMENT_DOMAIN: Final = b"purposematch agreement v1"
AUDIENCE_LABEL_DOMAIN: Final = b"purposematch audience label v1"
BLIND_NONCE: Final = b"blinds v1\0\0\0"
CANARY_DOMAIN: Final = b"purposematch canary v1"
DELEGATION_DOMAIN: Final = b"purposematch delegation v1"
DELEGATION_REVOCATION_DOMAIN: Final = b"purposematch revocation v1"
EVIDENCE_BATCH_DOMAIN: Final = b"purposematch evidence batch v1"
EVIDENCE_DOMAIN: Final = b"purposematch evidence v1"
LABEL_DOMAIN: Final = b"purposematch label v1"
LOG_ASSERTION_DOMAIN: Final = b"purposematch log assertion v1"
LOG_DECISION_DOMAIN: Final = b"purposematch log decision v1"
LOG_EVENT_DOMAIN: Final = b"purposematch log event v1"
LOG_QUERY_DOMAIN: Final = b"purposematch log query v1"
LOG_TERMS_DOMAIN: Final = b"purposematch log terms v1"
MANIFEST_DOMAIN: Final = b"purposematch manifest v1"
NOISY_REPORT_DOMAIN: Final = b"purposematch noisy report v1"
ONE_SHOT_DOMAIN: Final = b"purposematch one-shot v1"
POLICY_DOMAIN: Final = b"purposematch/policy/v1\0"
RECEIPT_DOMAIN: Final = b"purposematch receipt v1"
REMOVALS_DOMAIN: Final = b"purposematch removals v1"
SCOPE_DOMAIN: Final = b"purposematch scope v1"
SESSION_DOMAIN: Final = b"purposematch session v1"
SET_EXCHANGE_DOMAIN: Final = b"purposematch set exchange v1"
TAXONOMY_DOMAIN: Final = b"purposematch/taxonomy/v1\0"
TRANSCRIPT_DOMAIN: Final = b"purposematch transcript v1"
VOLE_DOMAIN: Final = b"purposematch vole v1"
WATERMARK_DOMAIN: Final = b"purposematch watermark v1"


class Mode(IntEnum):
    """The protocol variant (RFC 9497 section 3.1)."""

    OPRF = 0
    VOPRF = 1
    POPRF = 2


@dataclass(frozen=True, slots=True)
class Suite:
    """The strings that separate one protocol's hashes from every other's (RFC 9497 sections 3.1 and 4.1).

    Attributes:
        context: the context string.
    """

    context: bytes

    @classmethod
    def of(cls, mode: Mode) -> Self:
        """The suite of a mode of RFC 9497."""
        return cls(b"OPRFV1-" + bytes([mode]) + b"-ristretto255-SHA512")

    def bound_to(self, digest: bytes) -> Self:
        """The same, for one session alone: what is proved under it proves nothing under another.

        Args:
            digest: what names the session, 32 bytes.
        """
        return type(self)(self.context + b"-" + digest)

    @property
    def hash_to_group_dst(self) -> bytes:
        """The domain-separation tag of HashToGroup."""
        return b"HashToGroup-" + self.context

    @property
    def hash_to_scalar_dst(self) -> bytes:
        """The domain-separation tag of HashToScalar."""
        return b"HashToScalar-" + self.context

    @property
    def derive_key_dst(self) -> bytes:
        """The domain-separation tag of DeriveKeyPair."""
        return b"DeriveKeyPair" + self.context

    @property
    def seed_dst(self) -> bytes:
        """The string that the seed of a proof's composites commits to."""
        return b"Seed-" + self.context


POPRF: Final = Suite.of(Mode.POPRF)
"""The suite of the match by POPRF."""
SET_EXCHANGE: Final = Suite(b"purposematch-set-exchange-v1-ristretto255-SHA512")
"""The suite of the commutative set exchange."""
