"""The messages of one session as values, free of any wire format.

Elements, tags and MACs travel as one string of concatenated fixed-length items, so that a batch is one
field on the wire and one array in memory. Parsing a message checks its lengths; group elements are
decoded by whoever computes with them.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.ciphersuite import (
    ELEMENT_LENGTH,
    MAX_PROOF_ELEMENTS,
    RECEIPT_DOMAIN,
    SESSION_DOMAIN,
    TAG_LENGTH,
)
from purposematch.protocol.dleq import Proof
from purposematch.protocol.errors import DecodeError, LimitError
from purposematch.protocol.group import Bytes
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.signing import IdentitySeed, SignedDocument, open_document, sign_document
from purposematch.protocol.strict_json import Fields, decode_json

__all__ = [
    "COMMIT_ID_LENGTH",
    "MAC_LENGTH",
    "MAX_BATCHES",
    "MAX_WINDOW",
    "SESSION_ID_LENGTH",
    "CommitEntries",
    "EvaluateReply",
    "EvaluateRequest",
    "Receipt",
    "SessionGrant",
]

SESSION_ID_LENGTH: Final = 16
"""Bytes of a session's random id."""
COMMIT_ID_LENGTH: Final = 16
"""Bytes of a commit's id, chosen by the client at random."""
MAC_LENGTH: Final = 16
"""Bytes of a commit's MAC: a truncated HMAC-SHA-256."""
MAX_BATCHES: Final = 2**31 - 1
"""Batches of a session at most."""
MAX_GRANT_BYTES: Final = 4_096
"""The longest session grant, in bytes."""
MAX_WINDOW: Final = 16
"""Batches in flight at most, whatever a grant says: with full batches about 2^20 elements of memory."""
_GRANT_FIELDS = (
    *("session", "agreement", "manifest", "client_certificate", "server_certificate"),
    *("list_size", "max_batch_elements", "window"),
)
_AT_NEED = ("delegation", "audience", "engine")
_RECEIPT_FIELDS = ("session", "commit", "generation", "agreement", "transcript", "received", "committed_at")


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """One numbered batch of blinded elements: number from 0, encoded elements (n, 32), 1 <= n <= 65,535."""

    number: int
    blinded: Bytes

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            LimitError: the number or the count of elements is out of range.
        """
        if not 0 <= self.number <= MAX_BATCHES or not 0 < len(self.blinded) <= MAX_PROOF_ELEMENTS:
            raise LimitError("a batch has a wrong number, or no or too many elements")

    @property
    def digest(self) -> bytes:
        """SHA-256 of number and elements: a batch that is sent again must have the same one."""
        return hashlib.sha256(self.number.to_bytes(4, "big") + self.blinded.tobytes()).digest()

    @classmethod
    def decode(cls, number: int, elements: bytes) -> Self:
        """Parses an untrusted batch.

        Raises:
            DecodeError: the bytes are not whole elements.
            LimitError: the number or the count is out of range.
        """
        return cls(number, _rows(elements, ELEMENT_LENGTH, "elements"))


@dataclass(frozen=True, slots=True)
class EvaluateReply:
    """The evaluated elements of one batch, in the order of the request, and the proof for all of them."""

    number: int
    evaluated: Bytes
    proof: Proof

    @classmethod
    def decode(cls, number: int, elements: bytes, proof: bytes) -> Self:
        """Parses an untrusted reply.

        Raises:
            DecodeError: the bytes are not whole elements, or the proof is malformed.
        """
        return cls(number, _rows(elements, ELEMENT_LENGTH, "elements"), Proof.decode(proof))


@dataclass(frozen=True, slots=True)
class CommitEntries:
    """What an advertiser commits: tags (n, 16) and the MAC that proves each was evaluated (n, 16)."""

    tags: Bytes
    macs: Bytes

    def __len__(self) -> int:
        """The number of entries."""
        return len(self.tags)

    def encode(self) -> bytes:
        """Tag, MAC, tag, MAC, and so on."""
        return np.concatenate([self.tags, self.macs], axis=1).tobytes()

    @classmethod
    def decode(cls, entries: bytes) -> Self:
        """Parses untrusted entries.

        Raises:
            DecodeError: the bytes are not whole entries.
        """
        rows = _rows(entries, TAG_LENGTH + MAC_LENGTH, "commit entries")
        return cls(rows[:, :TAG_LENGTH], rows[:, TAG_LENGTH:])


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """What the platform signs when it opens a session; it binds everything the transcript covers.

    Attributes:
        session: the session's random id, 16 bytes.
        agreement: digest of the agreement, 32 bytes.
        manifest: digest of the signed manifest, 32 bytes.
        client_certificate: SHA-256 of the client certificate that the platform saw, 32 bytes. A man in
            the middle could only present one of its own.
        server_certificate: SHA-256 of the platform's TLS certificate, 32 bytes.
        list_size: the number of identifiers that the client declared.
        max_batch_elements: elements in one batch at most.
        window: batches that the client may have unanswered at a time.
        delegation: digest of the delegation under which a partner opened it, 32 bytes; None for an
            advertiser's own session, whose grant has no such field.
        audience: what the session does to which audience; the usual change has no such field.
        engine: what the match is computed with; a grant of the usual one has no such field.
    """

    session: bytes
    agreement: bytes
    manifest: bytes
    client_certificate: bytes
    server_certificate: bytes
    list_size: int
    max_batch_elements: int
    window: int
    delegation: bytes | None = None
    audience: AudienceChange = USUAL_CHANGE
    engine: MatchEngine = MatchEngine.OPRF

    def sign(self, seed: IdentitySeed) -> SignedDocument:
        """Signs it with the platform's identity key."""
        fields = {name: _json(getattr(self, name)) for name in _GRANT_FIELDS}
        if self.delegation is not None:
            fields["delegation"] = self.delegation.hex()
        if self.audience != USUAL_CHANGE:
            fields["audience"] = self.audience.to_mapping()
        return sign_document(seed, SESSION_DOMAIN, fields | _engine_field(self.engine))

    @classmethod
    def open(cls, document: SignedDocument, public_key: bytes) -> Self:
        """Checks and parses a signed grant.

        Raises:
            VerificationError: the signature does not hold.
            DecodeError: a field is missing, unknown or out of range.
        """
        return cls._from_value(open_document(public_key, SESSION_DOMAIN, document, "session grant"))

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Parses the content of a grant that this side signed and stored itself.

        Raises:
            DecodeError: a field is missing, unknown or out of range.
        """
        return cls._from_value(decode_json(content, "session grant", MAX_GRANT_BYTES))

    @classmethod
    def _from_value(cls, value: object) -> Self:
        given = [name for name in _AT_NEED if isinstance(value, dict) and name in value]
        fields = Fields(value, "session grant", (*_GRANT_FIELDS, *given))
        audience = USUAL_CHANGE
        if "audience" in given:
            audience = AudienceChange.from_mapping(fields.value("audience"))
            if audience == USUAL_CHANGE:
                raise DecodeError("a session grant names the usual change of an audience")
        return cls(
            session=fields.hexadecimal("session", SESSION_ID_LENGTH),
            agreement=fields.hexadecimal("agreement", 32),
            manifest=fields.hexadecimal("manifest", 32),
            client_certificate=fields.hexadecimal("client_certificate", 32),
            server_certificate=fields.hexadecimal("server_certificate", 32),
            list_size=fields.integer("list_size", 1, 2**40),
            max_batch_elements=fields.integer("max_batch_elements", 1, MAX_PROOF_ELEMENTS),
            window=fields.integer("window", 1, MAX_WINDOW),
            delegation=fields.hexadecimal("delegation", 32) if "delegation" in given else None,
            audience=audience,
            engine=_engine(fields, "engine" in given),
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """The platform's signed answer to a commit: the number received, never the number admitted.

    Attributes:
        session: the session's id, 16 bytes.
        commit: the commit's id, 16 bytes.
        generation: the generation's id, 16 bytes.
        agreement: digest of the agreement, 32 bytes.
        transcript: the session's transcript hash, 32 bytes.
        received: entries in the commit.
        committed_at: microseconds since 1970.
        engine: what the matches were computed with; a receipt of the usual one has no such field.
    """

    session: bytes
    commit: bytes
    generation: bytes
    agreement: bytes
    transcript: bytes
    received: int
    committed_at: int
    engine: MatchEngine = MatchEngine.OPRF

    def sign(self, seed: IdentitySeed) -> SignedDocument:
        """Signs it with the platform's identity key."""
        fields = {name: _json(getattr(self, name)) for name in _RECEIPT_FIELDS}
        return sign_document(seed, RECEIPT_DOMAIN, fields | _engine_field(self.engine))

    @classmethod
    def open(cls, document: SignedDocument, public_key: bytes) -> Self:
        """Checks and parses a signed receipt.

        Raises:
            VerificationError: the signature does not hold.
            DecodeError: a field is missing, unknown or out of range.
        """
        value = open_document(public_key, RECEIPT_DOMAIN, document, "receipt")
        given = ["engine"] if isinstance(value, dict) and "engine" in value else []
        fields = Fields(value, "receipt", (*_RECEIPT_FIELDS, *given))
        return cls(
            session=fields.hexadecimal("session", SESSION_ID_LENGTH),
            commit=fields.hexadecimal("commit", COMMIT_ID_LENGTH),
            generation=fields.hexadecimal("generation", 16),
            agreement=fields.hexadecimal("agreement", 32),
            transcript=fields.hexadecimal("transcript", 32),
            received=fields.integer("received", 0),
            committed_at=fields.integer("committed_at", 0),
            engine=_engine(fields, bool(given)),
        )


def _engine_field(engine: MatchEngine) -> dict[str, object]:
    return {} if engine is MatchEngine.OPRF else {"engine": engine.value}


def _engine(fields: Fields, given: bool) -> MatchEngine:
    if not given:
        return MatchEngine.OPRF
    engine = fields.choice("engine", MatchEngine)
    if engine is MatchEngine.OPRF:
        raise DecodeError("the usual engine is named where it is left out")
    return engine


def _json(value: bytes | int) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _rows(content: bytes, width: int, what: str) -> Bytes:
    if len(content) % width:
        raise DecodeError(f"{what} are {width} bytes each, and {len(content)} bytes are no multiple of that")
    return np.frombuffer(content, np.uint8).reshape(-1, width)
