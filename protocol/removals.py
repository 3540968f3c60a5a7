"""The signed list of removals: which tags of an epoch are not in its index any more.

An advertiser that keeps results takes these tags out of them. The list holds tags and nothing else, and it
is the same for every advertiser, byte for byte: whether somebody withdrew or objected, a consent ran out, or
a label was corrected, is not in it. A tag that comes back in a later generation is not on its list.

Not protected against: an advertiser that keeps the tags of its whole list. It sees which of its matches left,
here as from two generations of one epoch.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from purposematch.protocol.ciphersuite import REMOVALS_DOMAIN, TAG_LENGTH
from purposematch.protocol.errors import DecodeError, VerificationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.manifest import GENERATION_ID_LENGTH
from purposematch.protocol.scope import Scope
from purposematch.protocol.signing import IdentitySeed, SignedDocument, open_document, sign_document
from purposematch.protocol.strict_json import Fields

__all__ = ["MAX_REMOVED_TAGS", "RemovalList"]

MAX_REMOVED_TAGS: Final = 2**40
"""Tags of a list at most: as many as a generation has."""

_FIELDS: Final = ("count", "final", "generation", "scope", "sha256")


@dataclass(frozen=True, slots=True)
class RemovalList:
    """What the platform signs of the list of one epoch.

    Attributes:
        scope: whose tags they are, its epoch included.
        generation: the id of the generation that the list is as of, 16 bytes.
        count: how many tags.
        sha256: of the tags, ascending, 16 bytes each, without any header; 32 bytes.
        final: whether the epoch has ended, so that this list will not change any more.
    """

    scope: Scope
    generation: bytes
    count: int
    sha256: bytes
    final: bool

    @classmethod
    def of(cls, scope: Scope, generation: bytes, tags: Bytes, final: bool) -> Self:
        """Describes (n, 16) ascending tags."""
        digest = hashlib.sha256(np.ascontiguousarray(tags).data).digest()
        return cls(scope, generation, len(tags), digest, final)

    def sign(self, seed: IdentitySeed) -> SignedDocument:
        """Signs it with the platform's identity key; the same list gives the same bytes."""
        return sign_document(
            seed,
            REMOVALS_DOMAIN,
            {
                "count": self.count,
                "final": self.final,
                "generation": self.generation.hex(),
                "scope": self.scope.to_mapping(),
                "sha256": self.sha256.hex(),
            },
        )

    @classmethod
    def open(cls, document: SignedDocument, public_key: bytes) -> Self:
        """Checks and parses a signed list.

        Raises:
            VerificationError: the signature does not hold.
            DecodeError: a field is missing, unknown or out of range.
        """
        value = open_document(public_key, REMOVALS_DOMAIN, document, "list of removals")
        fields = Fields(value, "list of removals", _FIELDS)
        final = fields.value("final")
        if not isinstance(final, bool):
            raise DecodeError("final of the list of removals is not true or false")
        return cls(
            scope=Scope.from_mapping(fields.value("scope")),
            generation=fields.hexadecimal("generation", GENERATION_ID_LENGTH),
            count=fields.integer("count", 0, MAX_REMOVED_TAGS),
            sha256=fields.hexadecimal("sha256", 32),
            final=final,
        )

    def check(self, content: bytes | bytearray) -> Bytes:
        """The tags of a list that arrived, (count, 16) ascending, sharing memory with `content`.

        Raises:
            VerificationError: the bytes are not those that were signed, or not in strictly ascending order.
        """
        if len(content) != self.count * TAG_LENGTH or hashlib.sha256(content).digest() != self.sha256:
            raise VerificationError("the removed tags are not those that the platform signed")
        tags = np.frombuffer(content, np.uint8).reshape(self.count, TAG_LENGTH)
        words = tags.reshape(-1).view(">u8").reshape(-1, 2)
        (high, low), (next_high, next_low) = words[:-1].T, words[1:].T
        if not ((next_high > high) | ((next_high == high) & (next_low > low))).all():
            raise VerificationError("the removed tags are not in ascending order")
        return tags
