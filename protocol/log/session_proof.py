"""What an advertiser is shown of the log for one of its sessions: a checkpoint, and two opened leaves.

The session's leaf says what the advertiser knows anyway, so that it recomputes all of it but the time; the
manifest's leaf names the manifest that every advertiser of the generation is given. Nothing else is opened:
what a generation pins, and whom a commit brought in, stay behind their salts.

Not protected against: a platform that shows another log to somebody else (see `checkpoint`), and one that
logs a session and does something else in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from purposematch.protocol.errors import DecodeError, VerificationError
from purposematch.protocol.log.checkpoint import Checkpoint
from purposematch.protocol.log.events import SALT_LENGTH, Event, EventKind, Opening
from purposematch.protocol.log.proofs import MAX_PROOF_HASHES, Proof, decode_proof, verify_inclusion
from purposematch.protocol.log.tree import HASH_LENGTH, MAX_LEAVES
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.strict_json import Fields, canonical_object

__all__ = ["LeafProof", "SessionProof", "manifest_fields", "partner_fields", "session_fields"]

_LEAF_FIELDS: Final = ("index", "salt", "event", "hashes")
_FIELDS: Final = ("checkpoint", "session", "manifest")


def session_fields(
    *,
    session: str,
    advertiser: str,
    fingerprint: bytes,
    agreement: bytes,
    generation: str,
    elements: int,
    grant: bytes,
    log_size: int,
    on_behalf: Mapping[str, object] | None = None,
    engine: MatchEngine = MatchEngine.OPRF,
) -> dict[str, object]:
    """The fields of the event that opens a session.

    Args:
        session: the session's id, 32 hexadecimal digits.
        advertiser: its name in the agreement.
        fingerprint: SHA-256 of the client certificate, 32 bytes.
        agreement: digest of the agreement, 32 bytes.
        generation: the generation's id, 32 hexadecimal digits.
        elements: the declared size of the list.
        grant: the content of the signed grant.
        log_size: leaves of the log just before, which is the place of the event's leaf.
        on_behalf: from `partner_fields`, of a session that a partner opened.
        engine: what it is computed with; the usual one is left out.
    """
    return {
        **(on_behalf or {}),
        **({} if engine is MatchEngine.OPRF else {"engine": engine.value}),
        "id": session,
        "advertiser": advertiser,
        "fingerprint": fingerprint.hex(),
        "agreement": agreement.hex(),
        "generation": generation,
        "elements": elements,
        "grant": sha256(grant).hexdigest(),
        "log_size": log_size,
    }


def partner_fields(partner: str, delegation: bytes, list_name: str) -> dict[str, object]:
    """The fields that a partner's session has besides: who brings which list, and the delegation's digest."""
    return {"partner": partner, "delegation": delegation.hex(), "list": list_name}


def manifest_fields(generation: str, content: bytes) -> dict[str, object]:
    """The fields of the event that names a manifest: the generation's id, and the signed content's digest."""
    return {"generation": generation, "manifest": sha256(content).hexdigest()}


@dataclass(frozen=True, slots=True)
class LeafProof:
    """A leaf, what opens it, and the proof that it is in a tree.

    Attributes:
        index: where it is, counted from 0.
        opening: what opens it.
        hashes: the inclusion proof.

    Raises:
        DecodeError: the index is out of range, or the proof malformed.
    """

    index: int
    opening: Opening
    hashes: Proof

    def __post_init__(self) -> None:
        """Checks the lengths."""
        if not 0 <= self.index < MAX_LEAVES:
            raise DecodeError("the place of a leaf is out of range")
        decode_proof(self.hashes)

    def event(self, checkpoint: Checkpoint, kind: EventKind) -> Event:
        """What the leaf is about, after checking that it is in the tree.

        Raises:
            VerificationError: it is not, or is about something of another kind.
            DecodeError: what is opened is no event.
        """
        leaf = self.opening.leaf_hash()
        verify_inclusion(leaf, self.index, checkpoint.size, self.hashes, checkpoint.root)
        event = self.opening.event(leaf)
        if event.kind is not kind:
            raise VerificationError(f"a leaf of the log was to be of the kind {kind} and is not")
        return event

    def to_mapping(self) -> dict[str, object]:
        """As a JSON object."""
        return {
            "index": self.index,
            "salt": self.opening.salt.hex(),
            "event": Event.decode(self.opening.content).to_mapping(),
            "hashes": [one.hex() for one in self.hashes],
        }

    @classmethod
    def from_mapping(cls, value: object) -> Self:
        """What `to_mapping` made.

        Raises:
            DecodeError: it is anything else.
        """
        fields = Fields(value, "proof of a leaf", _LEAF_FIELDS)
        event = canonical_object(fields.value("event"), "event of a leaf")
        hashes = fields.array("hashes", MAX_PROOF_HASHES)
        return cls(
            index=fields.integer("index", 0, MAX_LEAVES - 1),
            opening=Opening(fields.hexadecimal("salt", SALT_LENGTH), event),
            hashes=tuple(_hash(one) for one in hashes),
        )


@dataclass(frozen=True, slots=True)
class SessionProof:
    """What the platform shows of its log for one session, not yet verified.

    Attributes:
        checkpoint: the signed note; its tree holds both leaves.
        session: that the session was opened.
        manifest: that the manifest of its generation was signed.
    """

    checkpoint: bytes
    session: LeafProof
    manifest: LeafProof

    def open(self, origin: str, public_key: bytes) -> tuple[Checkpoint, Event, Event]:
        """The checkpoint, the session's event and the manifest's, after checking everything in themselves.

        Args:
            origin: the log that it must be of, see `log_origin`.
            public_key: the platform's pinned identity key, 32 bytes.

        Raises:
            VerificationError: a signature or a proof does not hold, or a leaf is not where it says.
            DecodeError: something is malformed.
        """
        checkpoint = Checkpoint.open(self.checkpoint, origin, public_key)
        session = self.session.event(checkpoint, EventKind.SESSION)
        manifest = self.manifest.event(checkpoint, EventKind.MANIFEST)
        if session.fields.get("log_size") != self.session.index:
            raise VerificationError("a session's leaf is not where it says")
        if session.fields.get("generation") != manifest.fields.get("generation"):
            raise VerificationError("a session's leaf is about another generation than its manifest's")
        return checkpoint, session, manifest

    def check(
        self,
        origin: str,
        public_key: bytes,
        session: Mapping[str, object],
        manifest: Mapping[str, object],
    ) -> Checkpoint:
        """The checkpoint, after checking everything, and that the leaves say what they must.

        Args:
            origin, public_key: see `open`.
            session: from `session_fields`; the place of the leaf is the platform's.
            manifest: from `manifest_fields`.

        Raises:
            VerificationError, DecodeError: as `open`; or a leaf says something else.
        """
        checkpoint, opened, named = self.open(origin, public_key)
        for event, expected, what in (
            (opened, {**session, "log_size": self.session.index}, "session"),
            (named, manifest, "manifest"),
        ):
            if event.fields != expected:
                raise VerificationError(f"the log says something else about the {what} than the platform")
        return checkpoint

    def to_mapping(self) -> dict[str, object]:
        """As a JSON object.

        Raises:
            DecodeError: the checkpoint is not UTF-8, or a leaf opens to no event.
        """
        try:
            checkpoint = self.checkpoint.decode()
        except UnicodeDecodeError:
            raise DecodeError("a checkpoint is not UTF-8") from None
        return {
            "checkpoint": checkpoint,
            "session": self.session.to_mapping(),
            "manifest": self.manifest.to_mapping(),
        }

    @classmethod
    def from_mapping(cls, value: object) -> Self:
        """What `to_mapping` made.

        Raises:
            DecodeError: it is anything else.
        """
        fields = Fields(value, "proof of a session", _FIELDS)
        return cls(
            checkpoint=_utf8(fields.text("checkpoint")),
            session=LeafProof.from_mapping(fields.value("session")),
            manifest=LeafProof.from_mapping(fields.value("manifest")),
        )


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # JSON can say half a surrogate pair, and UTF-8 can not.
        raise DecodeError("a checkpoint is not text") from None


def _hash(value: object) -> bytes:
    return Fields({"hash": value}, "proof of a leaf", ("hash",)).hexadecimal("hash", HASH_LENGTH)
