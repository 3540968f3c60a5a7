"""What the log records, and how a leaf commits to it without telling it.

An event is one canonical JSON object: its kind, its time, and fields of its own. The leaf holds only::

    SHA-256("purposematch log event v1" || salt, 16 bytes || the event's canonical JSON)

so that somebody who sees the tree learns nothing, and whoever is given the *opening*, salt and content, can
check it. Destroying the opening unlinks the leaf from what it was about, and breaks no proof.

Not protected against: an event that is untrue, or that was never appended. A field with an identifier or
its unsalted hash would be in every copy of the opening: callers put none there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final, Self

from purposematch.protocol.ciphersuite import LOG_EVENT_DOMAIN
from purposematch.protocol.errors import DecodeError, InputError, VerificationError
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.log.tree import leaf_hash
from purposematch.protocol.strict_json import MAX_INTEGER, MIN_INTEGER, canonical_json, decode_json

__all__ = ["MAX_EVENT_BYTES", "SALT_LENGTH", "Event", "EventKind", "Opening"]

SALT_LENGTH: Final = 16
"""Bytes of a salt: nobody tries them all."""
MAX_EVENT_BYTES: Final = 1_048_576
"""Bytes of an event at most."""
_MAX_DEPTH: Final = 8
"""Arrays and objects inside one another at most."""
_OWN: Final = frozenset({"kind", "at"})


class EventKind(StrEnum):
    """The closed set of events. The labels are in stored leaves: they are never changed or used again."""

    POLICY = "policy"
    """A policy came into force."""
    EPOCH = "epoch"
    """A key epoch began or its key was destroyed."""
    DELIVERY = "delivery"
    """A batch of assertions was stored; it names the root of their own tree (`batch`)."""
    DECISIONS = "decisions"
    """A publication changed answers of the gate."""
    WITHDRAWAL = "withdrawal"
    """Somebody withdrew a consent."""
    OBJECTION = "objection"
    """Somebody objected."""
    CORRECTION = "correction"
    """Assertions were found to be mislabelled."""
    ERASURE = "erasure"
    """Openings were destroyed; it lists their positions."""
    GENERATION = "generation"
    """An index was published."""
    AGREEMENT = "agreement"
    """An agreement that both sides signed came into force."""
    SESSION = "session"
    """A session was opened."""
    SESSION_END = "session_end"
    """A session was closed, or ended by the platform."""
    COMMIT = "commit"
    """A session's matches were committed."""
    REMOVAL_ACKNOWLEDGEMENT = "removal_acknowledgement"
    """An advertiser says that it has applied the removals."""
    ISSUER = "issuer"
    """An issuer's key was added, changed or revoked."""
    OPERATOR_QUERY = "operator_query"
    """An operator asked the registry about somebody."""
    AUDIENCE_EXPORT = "audience_export"
    """An audience left the platform."""
    MANIFEST = "manifest"
    """A generation's manifest was signed: of a generation, the one event that every advertiser is shown."""
    ADVERTISER = "advertiser"
    """An advertiser was added."""
    AGREEMENT_END = "agreement_end"
    """The platform ended an agreement before its time."""
    CERTIFICATE = "certificate"
    """A client certificate was recorded: its holder is admitted with it."""
    CERTIFICATE_REVOCATION = "certificate_revocation"
    """A client certificate was revoked."""
    DELEGATION = "delegation"
    """An advertiser's delegation to a partner was recorded."""
    DELEGATION_REVOCATION = "delegation_revocation"
    """A delegation was revoked, by its advertiser or by the platform."""
    RELEASE = "release"
    """A noisy count was paid for and told."""
    AUDIENCE_EXPIRY = "audience_expiry"
    """What a session did to an audience ended: its members were deleted."""


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: what.
        at: when, microseconds since 1970-01-01 UTC.
        fields: the rest: strings, 64-bit integers, booleans, None, and lists and mappings of these. No
            floating-point numbers, whose text differs between writers.

    Raises:
        InputError: a field has another type, a name is taken, or the event is too long.
    """

    kind: EventKind
    at: int
    fields: Mapping[str, object]

    def __post_init__(self) -> None:
        """Checks the fields."""
        if _OWN & self.fields.keys():
            raise InputError("an event's field has a name that is taken")
        if not _is_plain({"at": self.at, **self.fields}, _MAX_DEPTH) or type(self.at) is not int:
            raise InputError("an event's field is neither text, integer, boolean, null, list nor mapping")
        if len(self.content) > MAX_EVENT_BYTES:
            raise InputError(f"an event is longer than {MAX_EVENT_BYTES} bytes")

    @property
    def content(self) -> bytes:
        """The canonical JSON that the leaf commits to."""
        return canonical_json(self.to_mapping())

    def to_mapping(self) -> dict[str, object]:
        """The object whose canonical JSON is `content`."""
        return {"kind": self.kind.value, "at": self.at, **self.fields}

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """The event in its canonical bytes.

        Raises:
            DecodeError: they are anything else.
        """
        value = decode_json(content, "event", MAX_EVENT_BYTES)
        if not isinstance(value, dict) or not value.keys() >= _OWN:
            raise DecodeError("an event is not an object with a kind and a time")
        fields = {name: field for name, field in value.items() if name not in _OWN}
        try:
            event = cls(EventKind(value["kind"]), value["at"], fields)
        except (ValueError, InputError):
            raise DecodeError("an event has an unknown kind, or a field of a wrong type") from None
        if event.content != content:
            raise DecodeError("an event is not canonical JSON")
        return event


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens a leaf.

    Attributes:
        salt: 16 bytes.
        content: the event's canonical bytes.

    Raises:
        DecodeError: the salt has another length.
    """

    salt: bytes
    content: bytes

    def __post_init__(self) -> None:
        """Checks the length: salt and content stand side by side in what is hashed."""
        if len(self.salt) != SALT_LENGTH:
            raise DecodeError(f"a leaf's salt is not {SALT_LENGTH} bytes long")

    @classmethod
    def of(cls, event: Event, random_bytes: RandomBytes) -> Self:
        """A fresh one for an event."""
        return cls(random_bytes(SALT_LENGTH), event.content)

    def commitment(self) -> bytes:
        """The leaf's data, 32 bytes."""
        return sha256(LOG_EVENT_DOMAIN + self.salt + self.content).digest()

    def leaf_hash(self) -> bytes:
        """The leaf's hash in the tree, 32 bytes."""
        return leaf_hash(self.commitment())

    def event(self, leaf: bytes) -> Event:
        """What a leaf is about.

        Args:
            leaf: its hash in the tree, 32 bytes.

        Raises:
            VerificationError: this does not open that leaf.
            DecodeError: it does, and the content is no event.
        """
        if self.leaf_hash() != leaf:
            raise VerificationError("an opening does not fit its leaf")
        return Event.decode(self.content)


def _is_plain(value: object, depth: int) -> bool:
    """Whether a value is written alike by everybody, and is not nested too deeply."""
    if value is None or type(value) in (str, bool):
        return True
    if type(value) is int:
        return MIN_INTEGER <= value <= MAX_INTEGER
    if depth == 0:
        return False
    if isinstance(value, list):
        return all(_is_plain(one, depth - 1) for one in value)
    if isinstance(value, dict):
        return all(type(name) is str and _is_plain(one, depth - 1) for name, one in value.items())
    return False
