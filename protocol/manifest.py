"""The signed manifest of a generation: what exactly an advertiser matches against.

The manifest names the scope, the POPRF's public key, the enrolled number, how long it may be used, and
every segment of the index by its hash. The client demands that it is signed by the pinned identity key
and that the index has exactly the tags it names.

Not protected against: a platform that signs an index with entries left out; see `canary`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, MANIFEST_DOMAIN
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.index import MAX_ADDITIONS, MAX_SEGMENT_BITS, Segment
from purposematch.protocol.point_segments import (
    MAX_POINT_LISTS,
    MAX_POINT_SEGMENTS,
    PointSegment,
    check_list_name,
    holds_enough,
)
from purposematch.protocol.scope import Scope
from purposematch.protocol.signing import IdentitySeed, SignedDocument, open_document, sign_document
from purposematch.protocol.strict_json import Fields

__all__ = ["GENERATION_ID_LENGTH", "Manifest"]

GENERATION_ID_LENGTH: Final = 16
"""Bytes of a generation's random id."""
VERSION: Final = 2
MAX_COUNT: Final = 2**40
MAX_TIME: Final = 2**62
"""Microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation, as signed.

    Attributes:
        generation: the random id, 16 bytes; the canaries follow from it.
        scope: what the index is for.
        public_key: the POPRF key of the scope's epoch, 32 bytes.
        count: enrolled identifiers, without canaries.
        watermark: commits the platform to the last assertion that was considered, 32 bytes: a keyed digest,
            since the number would show an advertiser how many refusals arrive.
        published_at: microseconds since 1970.
        valid_until: no session may open on it from then on; microseconds since 1970.
        policy: digest of the policy, 32 bytes.
        taxonomy: digest of the taxonomy, 32 bytes.
        segments: the base of the index, a power of two of segments in order of prefix.
        additions: addition segments.
        point_lists: by name, the segments of the lists of the set exchange that this generation has.
    """

    generation: bytes
    scope: Scope
    public_key: bytes
    count: int
    watermark: bytes
    published_at: int
    valid_until: int
    policy: bytes
    taxonomy: bytes
    segments: tuple[Segment, ...]
    additions: tuple[Segment, ...]
    point_lists: Mapping[str, tuple[PointSegment, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The generation's id, 32 hexadecimal digits."""
        return self.generation.hex()

    @property
    def all_segments(self) -> tuple[Segment, ...]:
        """Base and additions of the index of tags."""
        return self.segments + self.additions

    @property
    def every_segment(self) -> tuple[Segment, ...]:
        """Base, additions, and the segments of all lists of points."""
        return self.all_segments + tuple(one for points in self.point_lists.values() for one in points)

    def sign(self, seed: IdentitySeed) -> SignedDocument:
        """Signs it with the platform's identity key."""
        return sign_document(
            seed,
            MANIFEST_DOMAIN,
            {
                "version": VERSION,
                "generation": self.name,
                "scope": self.scope.to_mapping(),
                "public_key": self.public_key.hex(),
                "count": self.count,
                "watermark": self.watermark.hex(),
                "published_at": self.published_at,
                "valid_until": self.valid_until,
                "policy": self.policy.hex(),
                "taxonomy": self.taxonomy.hex(),
                "segments": [segment.to_mapping() for segment in self.segments],
                "additions": [segment.to_mapping() for segment in self.additions],
                "point_lists": {
                    name: [segment.to_mapping() for segment in segments]
                    for name, segments in self.point_lists.items()
                },
            },
        )

    @classmethod
    def open(cls, document: SignedDocument, public_key: bytes) -> Self:
        """Checks and parses a signed manifest.

        Args:
            document: what arrived.
            public_key: the platform's pinned identity key, 32 bytes.

        Raises:
            VerificationError: the signature does not hold.
            DecodeError: a field is missing, unknown or out of range, or the counts do not add up.
        """
        value = open_document(public_key, MANIFEST_DOMAIN, document, "manifest")
        fields = Fields(
            value,
            "manifest",
            (
                *("version", "generation", "scope", "public_key", "count", "watermark", "published_at"),
                *("valid_until", "policy", "taxonomy", "segments", "additions", "point_lists"),
            ),
        )
        fields.integer("version", VERSION, VERSION)
        segments = tuple(map(Segment.from_mapping, fields.array("segments", 1 << MAX_SEGMENT_BITS)))
        if not segments or len(segments) & (len(segments) - 1):
            raise DecodeError("the manifest's number of segments is not a power of two")
        manifest = cls(
            generation=fields.hexadecimal("generation", GENERATION_ID_LENGTH),
            scope=Scope.from_mapping(fields.value("scope")),
            public_key=fields.hexadecimal("public_key", ELEMENT_LENGTH),
            count=fields.integer("count", 0, MAX_COUNT),
            watermark=fields.hexadecimal("watermark", 32),
            published_at=fields.integer("published_at", 0, MAX_TIME),
            valid_until=fields.integer("valid_until", 0, MAX_TIME),
            policy=fields.hexadecimal("policy", 32),
            taxonomy=fields.hexadecimal("taxonomy", 32),
            segments=segments,
            additions=tuple(map(Segment.from_mapping, fields.array("additions", MAX_ADDITIONS))),
            point_lists=_point_lists(fields.value("point_lists")),
        )
        # The base and every addition hold the canaries of the generation that they were first part of.
        canaries = CANARY_COUNT * (1 + len(manifest.additions))
        if sum(segment.count for segment in manifest.all_segments) != manifest.count + canaries:
            raise DecodeError("the manifest's segments do not add up to its count")
        for name, points in manifest.point_lists.items():
            if not holds_enough(name, sum(segment.count for segment in points), manifest.count):
                raise DecodeError(f"the manifest's list {name} does not fit its count")
        return manifest

    @staticmethod
    def digest(document: SignedDocument) -> bytes:
        """What a transcript names a signed manifest by, 32 bytes."""
        return sha256(document.content + document.signature).digest()


def _point_lists(value: object) -> dict[str, tuple[PointSegment, ...]]:
    if not isinstance(value, dict) or len(value) > MAX_POINT_LISTS:
        raise DecodeError(f"point_lists of the manifest is not an object of at most {MAX_POINT_LISTS} lists")
    lists = {}
    for name, segments in value.items():
        check_list_name(name)
        if not isinstance(segments, list) or not 0 < len(segments) <= MAX_POINT_SEGMENTS:
            raise DecodeError(f"a list of the manifest has no or more than {MAX_POINT_SEGMENTS} segments")
        lists[name] = tuple(map(PointSegment.from_mapping, segments))
    return lists
