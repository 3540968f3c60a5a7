"""The index of a generation: sorted tags, cut into content-addressed segments, and exact look-up.

A base segment is a range of tag prefixes; there are 2^bits of them, chosen so that each is near 1 MiB.
Between two rebuilds of the base, tags that are new may come in addition segments, at most
`MAX_ADDITIONS` of them; each holds the canaries of its own generation too. A segment's bytes are its
tags, ascending, 16 bytes each, without any header; its address is their SHA-256. Comparison is exact:
there is no false positive other than two identifiers sharing a tag, which has probability below 2^-40
for 10^8 against 10^7 identifiers.

Not protected against: an index whose owner left entries out; see `canary`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.errors import VerificationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.strict_json import Fields

__all__ = [
    "MAX_ADDITIONS",
    "MAX_SEGMENT_BITS",
    "Index",
    "Segment",
    "SortedTags",
    "cut",
    "find",
    "order_by_tag",
    "segment_bits",
]

SEGMENT_TAGS: Final = 65_536
"""Tags in a full segment: 1 MiB."""
MAX_SEGMENT_BITS: Final = 14
"""Bits of a segment's prefix at most: 2^14 segments hold 10^9 tags."""
MAX_SEGMENT_BYTES: Final = 4 * SEGMENT_TAGS * TAG_LENGTH
"""A segment's length at most, in bytes. Tags are uniform, so an honest segment never comes near it."""
MAX_ADDITIONS: Final = 8
"""Addition segments between two rebuilds of the base."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What the manifest says of one segment: how many tags, and the SHA-256 of its bytes."""

    WIDTH: ClassVar[int] = TAG_LENGTH
    """Bytes of a tag, or of whatever else a segment is made of."""

    count: int
    sha256: bytes

    @property
    def size_bytes(self) -> int:
        """The segment's length."""
        return self.count * self.WIDTH

    @property
    def name(self) -> str:
        """The content address, 64 hexadecimal digits."""
        return self.sha256.hex()

    def check(self, content: bytes | memoryview) -> Bytes:
        """The tags of a segment that arrived, (count, 16), sharing memory with `content`.

        Raises:
            VerificationError: the bytes are not the segment that the manifest names.
        """
        if len(content) != self.size_bytes or hashlib.sha256(content).digest() != self.sha256:
            raise VerificationError("an index segment is not the one that the signed manifest names")
        return np.frombuffer(content, np.uint8).reshape(self.count, self.WIDTH)

    @classmethod
    def of(cls, tags: Bytes) -> Self:
        """Describes a segment of sorted tags."""
        return cls(len(tags), hashlib.sha256(np.ascontiguousarray(tags).data).digest())

    def to_mapping(self) -> dict[str, object]:
        """For the manifest."""
        return {"count": self.count, "sha256": self.name}

    @classmethod
    def from_mapping(cls, value: object) -> Self:
        """Parses what `to_mapping` gives.

        Raises:
            DecodeError: it is anything else.
        """
        fields = Fields(value, "segment", ("count", "sha256"))
        count = fields.integer("count", 0, MAX_SEGMENT_BYTES // cls.WIDTH)
        return cls(count, fields.hexadecimal("sha256", 32))


def segment_bits(count: int) -> int:
    """Bits of the segments' prefix for `count` tags: the fewest that keep a mean segment within 1 MiB."""
    bits = 0
    while (count >> bits) > SEGMENT_TAGS and bits < MAX_SEGMENT_BITS:
        bits += 1
    return bits


def order_by_tag(tags: Bytes) -> NDArray[np.int64]:
    """The permutation that sorts (n, 16) tags ascending."""
    high, low = (word.astype(np.uint64) for word in _words(tags))
    order = np.argsort(high)
    # Tags are uniform, so the second half decides only where somebody made them up.
    if (high[order[1:]] == high[order[:-1]]).any():
        order = np.lexsort((low, high))
    return order


def cut(tags: Bytes, bits: int) -> list[Bytes]:
    """Cuts sorted tags into 2^bits segments by their first `bits` bits."""
    if bits == 0:
        return [tags]
    prefixes = _words(tags)[0].astype(np.uint64) >> np.uint64(64 - bits)
    bounds = np.searchsorted(prefixes, np.arange(1, 1 << bits, dtype=np.uint64))
    return np.split(tags, bounds)


def find(tags: Bytes, wanted: Bytes) -> NDArray[np.int64]:
    """The row of each wanted tag in sorted tags, or -1 where it is absent.

    Args:
        tags: (n, 16), ascending; may be a memory map, of which only the rows on the way are read.
        wanted: (m, 16), in any order.

    Returns:
        (m,) int64.
    """
    order = order_by_tag(wanted)
    rows = np.empty(len(wanted), np.int64)
    rows[order] = _find_ascending(tags, wanted[order])
    return rows


class SortedTags:
    """Sorted tags that are asked for again and again: `find` with halves of them held as numbers.

    Args:
        tags: (n, 16), ascending, in memory.
    """

    def __init__(self, tags: Bytes) -> None:
        """Takes 16 bytes a tag besides."""
        self._tags = tags
        self._high, self._low = (word.astype(np.uint64) for word in _words(tags))
        # Tags are uniform, so only somebody who made them up has two with the same first half.
        self._distinct = bool((self._high[1:] > self._high[:-1]).all())

    @property
    def repeated(self) -> bool:
        """Whether a tag comes twice."""
        return not self._distinct and bool((self._tags[1:] == self._tags[:-1]).all(axis=1).any())

    def find(self, wanted: Bytes) -> NDArray[np.int64]:
        """What the function `find` gives."""
        if not self._distinct or not len(self._tags):
            return find(self._tags, wanted)
        high, low = (word.astype(np.uint64) for word in _words(wanted))
        order = np.argsort(high)
        rows = np.empty(len(wanted), np.int64)
        rows[order] = np.minimum(np.searchsorted(self._high, high[order]), len(self._high) - 1)
        return np.where((self._high[rows] == high) & (self._low[rows] == low), rows, -1)


class Index:
    """All verified segments of one generation, for look-up.

    Args:
        base: the base segments in the order of their prefixes; a power of two of them.
        additions: the addition segments.

    Raises:
        VerificationError: tags are not strictly ascending, or lie in the wrong segment, or the number of
            base segments is not a power of two.
    """

    def __init__(self, base: Sequence[Bytes], additions: Sequence[Bytes] = ()) -> None:
        """Checks the order once, so that a look-up may rely on it."""
        if not base or len(base) & (len(base) - 1):
            raise VerificationError("an index is not cut into a power of two of segments")
        self._base = list(base)
        self._additions = list(additions)
        self._bits = len(self._base).bit_length() - 1
        for number, tags in enumerate(self._base):
            _check_ascending(tags)
            if self._bits and len(tags):
                ends = _words(tags[[0, -1]])[0].astype(np.uint64) >> np.uint64(64 - self._bits)
                if (ends != number).any():
                    raise VerificationError("an index segment holds tags of another range")
        for tags in self._additions:
            _check_ascending(tags)

    def __len__(self) -> int:
        """The number of tags."""
        return sum(map(len, self._base)) + sum(map(len, self._additions))

    def contains(self, wanted: Bytes) -> NDArray[np.bool_]:
        """Which of (m, 16) tags are in the index, (m,) bool."""
        found = np.zeros(len(wanted), np.bool_)
        order = order_by_tag(wanted)
        ordered = wanted[order]
        starts = np.cumsum([0, *map(len, cut(ordered, self._bits))])
        for tags, start, stop in zip(self._base, starts[:-1], starts[1:], strict=True):
            if start < stop:
                found[order[start:stop]] |= _find_ascending(tags, ordered[start:stop]) >= 0
        for tags in self._additions:
            found[order] |= _find_ascending(tags, ordered) >= 0
        return found


def _words(tags: Bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The two big-endian halves of every tag, without a copy."""
    words = np.ascontiguousarray(tags).reshape(-1).view(">u8").reshape(-1, 2)
    return words[:, 0], words[:, 1]


def _find_ascending(tags: Bytes, wanted: Bytes) -> NDArray[np.int64]:
    """What `find` gives. In ascending order, neighbours are found on nearly the same way, which is cached."""
    if not len(tags):
        return np.full(len(wanted), -1, np.int64)
    # As strings of one length, tags compare like their bytes, and numpy reads them where they are.
    there, asked = (np.ascontiguousarray(of).reshape(-1).view(f"S{TAG_LENGTH}") for of in (tags, wanted))
    rows = np.searchsorted(there, asked)
    inside = rows < len(there)
    return np.where(inside & (there[np.where(inside, rows, 0)] == asked), rows, -1)


def _check_ascending(tags: Bytes) -> None:
    high, low = _words(tags)
    rising = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
    if not rising.all():
        raise VerificationError("an index segment is not in ascending order")
