"""Rows of the key-value store: items hashed, and put in the order of where their rows begin.

Statement: the digest of an item is SHA-256(prefix, item), the prefix being one block of the session. Of its
four little-endian words d_0 .. d_3, K = (d_0, d_1) is a block, and the item's

    start = ((d_0 >> 25) * (m - w + 1)) >> 39,   in [0, m - w],
    band  = MMO_low(K) + 2^128 MMO_high(K),      w = 256 bits,
    value = the low l bits of d_2 + 2^64 d_3.

Bit t of the band stands for slot start + t.

Source: RB-OKVS (Bienstock, Patel, Seo, Yeo, ePrint 2023/903). That the whole digest is keyed by the session
keeps anybody from preparing items whose rows collide. Rows are sorted by start, so that solving and decoding
read slots one after another; first into buckets that fit a cache, then within each, so that no step of it
jumps about in memory however long the list is.

Semi-honest, experimental, no published proof. Not protected against: what this side's own caches and timing
tell of its own items.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from purposematch.protocol.group import Bytes
from purposematch.protocol.simd import hashes
from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.workspace import inner
from purposematch.protocol.vole.aes import Words
from purposematch.protocol.vole.blocks import encrypt, load, load_keys, shuffle, store, words_at
from purposematch.protocol.vole.kernels import vole_kernel
from purposematch.protocol.vole.parameters import BAND, DIGEST, Parameters
from purposematch.protocol.vole.session import Session

__all__ = ["DIGEST_WORDS", "PADDING", "Rows", "digest_items", "expand_bands", "keys_of_rows", "start_of"]

DIGEST_WORDS: Final = DIGEST // 8
PADDING: Final = LANES
"""Rows behind the last one that steps may read."""
_KEYS_WORDS: Final = 22
_HASHED_AT_A_TIME: Final = 16_384
_BUCKET_ROWS: Final = 8_192
"""Rows of a bucket, about: a third of a megabyte."""
_MAX_SHIFT: Final = 14
"""A bucket spans at most 2 to this many starts."""
_WORD = ir.IntType(64)


@inner
def start_of(word: Any, span: Any) -> Any:
    """The first slot of a row; the span has at most 25 bits."""
    return ((word >> np.uint64(25)) * span) >> np.uint64(39)


@vole_kernel("void(uint64[:, ::1], uint64, uint64, int64[::1])")
def count_rows(digests: Any, span: Any, shift: Any, counts: Any) -> None:
    """How many rows each bucket has."""
    for i in range(digests.shape[0]):
        counts[np.int64(start_of(digests[i, 0], span) >> shift)] += 1


@vole_kernel("void(uint64[:, ::1], uint64, uint64, int64[::1], uint64[:, ::1], uint32[::1])")
def scatter_rows(digests: Any, span: Any, shift: Any, places: Any, into: Any, numbers: Any) -> None:
    """Puts rows into their buckets; `places` has the begin of each, and then its end."""
    for i in range(digests.shape[0]):
        bucket = np.int64(start_of(digests[i, 0], span) >> shift)
        place = places[bucket]
        places[bucket] = place + 1
        for word in range(DIGEST_WORDS):
            into[place, word] = digests[i, word]
        numbers[place] = i


@vole_kernel(
    "void(uint64[:, ::1], uint32[::1], uint64, uint64, int64[::1], uint64[:, ::1], uint32[::1], int64[::1])"
)
def sort_buckets(
    digests: Any, numbers: Any, span: Any, shift: Any, ends: Any, other: Any, other_numbers: Any, counts: Any
) -> None:
    """Sorts each bucket by start; rows that begin at the same slot keep their order.

    Args:
        digests: (n, 4), in buckets.
        numbers: (n,), of the items.
        span: how many starts there are.
        shift: the bits of a start that are the same bucket's.
        ends: of the buckets.
        other: room for the largest bucket.
        other_numbers: the same.
        counts: 2^shift + 1 words of scratch.
    """
    begin = 0
    for bucket in range(ends.shape[0]):
        end = ends[bucket]
        first = np.uint64(bucket) << shift
        for i in range(counts.shape[0]):
            counts[i] = 0
        for i in range(begin, end):
            counts[np.int64(start_of(digests[i, 0], span) - first) + 1] += 1
        for i in range(1, counts.shape[0]):
            counts[i] += counts[i - 1]
        for i in range(begin, end):
            slot = np.int64(start_of(digests[i, 0], span) - first)
            place = counts[slot]
            counts[slot] = place + 1
            for word in range(DIGEST_WORDS):
                other[place, word] = digests[i, word]
            other_numbers[place] = numbers[i]
        for i in range(end - begin):
            for word in range(DIGEST_WORDS):
                digests[begin + i, word] = other[i, word]
            numbers[begin + i] = other_numbers[i]
        begin = end


def keys_of_rows(lanes: Lanes, digests: Any, row: Any) -> list[Vector]:
    """The blocks K of LANES rows, as two vectors.

    Args:
        lanes: the code that is being written.
        digests: their address.
        row: the number of the first row, an LLVM integer.
    """
    at = lanes.builder.mul(row, ir.Constant(_WORD, DIGEST_WORDS))
    places = [lanes.builder.add(at, ir.Constant(_WORD, part * LANES)) for part in range(DIGEST_WORDS)]
    parts = [load(lanes, words_at(lanes, digests, place)) for place in places]
    chosen = [word for word in range(2 * LANES) if word % DIGEST_WORDS < 2]
    return [shuffle(lanes, parts[first], parts[first + 1], chosen) for first in (0, 2)]


@step(1, 3)
def expand_bands(lanes: Lanes, bands: Any, digests: Any, keys: Any, groups: Any) -> None:
    """The bands of LANES rows at a time, 4 words each."""
    halves = [
        load_keys(lanes, lanes.builder.add(keys, ir.Constant(_WORD, 8 * _KEYS_WORDS * i))) for i in (0, 1)
    ]
    mixed = [
        2 * row + word % 2 + word // 2 * LANES for row in range(LANES // 2) for word in range(DIGEST_WORDS)
    ]

    def body(index: Any, state: list[Vector]) -> list[Vector]:
        blocks = keys_of_rows(lanes, digests, lanes.builder.mul(index, ir.Constant(_WORD, LANES)))
        low, high = (
            [one ^ block for one, block in zip(encrypt(lanes, half, blocks), blocks, strict=True)]
            for half in halves
        )
        at = lanes.builder.mul(index, ir.Constant(_WORD, DIGEST_WORDS * LANES))
        for i in range(2):
            for part in range(2):
                offset = lanes.builder.add(at, ir.Constant(_WORD, (2 * i + part) * LANES))
                words = shuffle(lanes, low[i], high[i], mixed[part * LANES :][:LANES])
                store(lanes, lanes.builder.gep(bands, [offset]), words)
        return state

    lanes.loop(groups, [], body)


def digest_items(session: Session, items: Bytes, scratch: Words | None = None) -> Words:
    """The digests of (n, 33) items, (n, 4) uint64; in the first rows of `scratch`, if there is any."""
    words = np.empty((len(items), DIGEST_WORDS), np.uint64) if scratch is None else scratch[: len(items)]
    digests = words.view(np.uint8)
    prefix = session.item_prefix
    for begin in range(0, len(items), _HASHED_AT_A_TIME):
        part = slice(begin, begin + _HASHED_AT_A_TIME)
        digests[part] = hashes.sha256_behind(prefix, items[part])
    return words


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of some items, by their start.

    Attributes:
        digests: (n + PADDING, 4) uint64.
        numbers: (n,) uint32: which item each row is of.
    """

    digests: Words
    numbers: NDArray[np.uint32]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.numbers)

    @classmethod
    def of(cls, parameters: Parameters, digests: Words) -> "Rows":
        """The rows of items with these digests, (n, 4)."""
        count = len(digests)
        span = np.uint64(parameters.slots - BAND + 1)
        shift = _MAX_SHIFT
        while shift and (count << shift) // int(span) > _BUCKET_ROWS:
            shift -= 1
        width = np.uint64(shift)
        counts = np.zeros((int(span) - 1 >> shift) + 1, np.int64)
        count_rows(digests, span, width, counts)
        ends = np.cumsum(counts)
        made = cls(np.empty((count + PADDING, DIGEST_WORDS), np.uint64), np.empty(count, np.uint32))
        made.digests[count:] = 0
        scatter_rows(digests, span, width, ends - counts, made.digests, made.numbers)
        largest = int(counts.max())
        sort_buckets(
            made.digests,
            made.numbers,
            span,
            width,
            ends,
            np.empty((largest, DIGEST_WORDS), np.uint64),
            np.empty(largest, np.uint32),
            np.empty((1 << shift) + 1, np.int64),
        )
        return made
