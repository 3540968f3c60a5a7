"""Records: outputs with the numbers of their items, how they are sorted, sent, and found again.

Statement: a record is two words: the low 64 bits of an output; its other bits over the item's number, 32 bits
each. The sender sends its outputs ascending, as numbers in the order (low 64 bits, other bits); a chunk is
the low 64 bits of each, then the others of each, little-endian. Random numbers stand for duplicates and for
what is missing to the declared size. The receiver sorts its own in the same way and goes through both lists
once.

Source: RR22 (ePrint 2022/320), figure 11. Sorting says nothing of the order in which a side has its items. It
goes by buckets that fit a cache, and compares all bits.

Semi-honest, experimental, no published proof. Not protected against: what this side's own caches and timing
tell of its own items.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.vole.aes import Words
from purposematch.protocol.vole.kernels import vole_kernel
from purposematch.protocol.vole.parameters import BLOCK, Parameters
from purposematch.protocol.vole.store import value_mask

__all__ = [
    "NOBODY",
    "Meeting",
    "chunk_of",
    "numbers_of",
    "random_records",
    "sort_records",
    "without_duplicates",
]

NOBODY: Final = 0xFFFFFFFF
"""In place of an item's number: a random output that no item has."""
_BINS: Final = 4_096
"""Records of a bucket, about, and bins that it is sorted into."""
_BIN_BITS: Final = 12


@vole_kernel("void(uint64[:, ::1], uint64[:, ::1], intp, int64[::1], int64[::1])")
def sort_pairs(records: Any, other: Any, bits: Any, places: Any, counts: Any) -> None:
    """Sorts pairs of words whose first one is uniform, in place.

    Args:
        records: (n, 2).
        other: room for as many.
        bits: of the first word that choose the bucket, at least 1.
        places: 2^bits + 1 words of scratch.
        counts: _BINS + 1 words of scratch.
    """
    shift = np.uint64(64 - bits)
    top = places.shape[0] - 1
    for i in range(top + 1):
        places[i] = 0
    for i in range(records.shape[0]):
        places[np.int64(records[i, 0] >> shift) + 1] += 1
    for i in range(1, top + 1):
        places[i] += places[i - 1]
    for i in range(records.shape[0]):
        chosen = np.int64(records[i, 0] >> shift)
        place = places[chosen]
        places[chosen] = place + 1
        other[place, 0] = records[i, 0]
        other[place, 1] = records[i, 1]
    begin: Any = 0
    for bucket in range(top):
        end = places[bucket]
        for i in range(counts.shape[0]):
            counts[i] = 0
        for i in range(begin, end):
            counts[np.int64((other[i, 0] << np.uint64(bits)) >> np.uint64(64 - _BIN_BITS)) + 1] += 1
        for i in range(1, counts.shape[0]):
            counts[i] += counts[i - 1]
        for i in range(begin, end):
            at = np.int64((other[i, 0] << np.uint64(bits)) >> np.uint64(64 - _BIN_BITS))
            place = begin + counts[at]
            counts[at] += 1
            records[place, 0] = other[i, 0]
            records[place, 1] = other[i, 1]
        for i in range(begin + 1, end):
            first = records[i, 0]
            second = records[i, 1]
            j = i - 1
            while j >= begin and (
                records[j, 0] > first or (records[j, 0] == first and records[j, 1] > second)
            ):
                records[j + 1, 0] = records[j, 0]
                records[j + 1, 1] = records[j, 1]
                j -= 1
            records[j + 1, 0] = first
            records[j + 1, 1] = second
        begin = end


@vole_kernel("int64(uint64[:, ::1], intp, uint64[::1], uint64[::1], int64, uint64[::1], int64[:, ::1])")
def join(own: Any, first: Any, keys: Any, others: Any, place: Any, last: Any, found: Any) -> Any:
    """Finds own records among one chunk of the peer's.

    Args:
        own: (n, 2), sorted.
        first: where in it to begin.
        keys: the low 64 bits of the peer's outputs.
        others: their other bits.
        place: of the first of them in the peer's whole list.
        last: the peer's last output before, 2 words; and then the last of these, where own records go on,
            and a flag that says whether the peer's are in order.
        found: (n, 2): for what is found, the own item's number and the place.

    Returns:
        How many were found.
    """
    count = 0
    i = first
    before = last[0]
    before_others = last[1]
    for j in range(keys.shape[0]):
        key = keys[j]
        other = others[j]
        if key < before or (key == before and other < before_others):
            last[3] = 1
            return 0
        before = key
        before_others = other
        while i < own.shape[0] and (
            own[i, 0] < key or (own[i, 0] == key and own[i, 1] >> np.uint64(32) < other)
        ):
            i += 1
        while i < own.shape[0] and own[i, 0] == key and own[i, 1] >> np.uint64(32) == other:
            found[count, 0] = np.int64(own[i, 1] & np.uint64(0xFFFFFFFF))
            found[count, 1] = place + j
            count += 1
            i += 1
    last[0] = before
    last[1] = before_others
    last[2] = i
    return count


def sort_records(records: Words, spare: Words | None = None) -> None:
    """Sorts records in place, ascending; `spare` is room for as many, if there is any."""
    bits = max(len(records) // _BINS, 1).bit_length()
    sort_pairs(
        records,
        np.empty_like(records) if spare is None else spare,
        bits,
        np.empty((1 << bits) + 1, np.int64),
        np.empty(_BINS + 1, np.int64),
    )


def random_records(parameters: Parameters, random: RandomBytes, count: int) -> Words:
    """Records of nobody."""
    records = np.frombuffer(random(BLOCK * count), np.uint64).reshape(count, 2).copy()
    records[:, 1] = (records[:, 1] & value_mask(parameters)) << np.uint64(32) | np.uint64(NOBODY)
    return records


def without_duplicates(parameters: Parameters, random: RandomBytes, records: Words) -> None:
    """Puts random records in place of all but one of those with the same output; sorted before and after."""
    others = records[:, 1] >> np.uint64(32)
    again = (records[1:, 0] == records[:-1, 0]) & (others[1:] == others[:-1])
    places = np.flatnonzero(again) + 1
    if len(places):
        records[places] = random_records(parameters, random, len(places))
        sort_records(records)


def numbers_of(records: Words) -> NDArray[np.uint32]:
    """The numbers of the items of records, `NOBODY` for random ones."""
    return records[:, 1].astype(np.uint32)


def chunk_of(parameters: Parameters, records: Words) -> bytes:
    """What is sent of some sorted records."""
    others = (records[:, 1] >> np.uint64(32)).astype("<u4").view(np.uint8).reshape(-1, 4)
    return records[:, 0].tobytes() + others[:, : parameters.value_length - 8].tobytes()


class Meeting:
    """The receiver's sorted records, and what the sender's outputs were found to be.

    Args:
        parameters: of the match.
        records: of all own items; they are sorted here.
        spare: room for as many.
    """

    def __init__(self, parameters: Parameters, records: Words, spare: Words) -> None:
        """Sorts the records."""
        sort_records(records, spare)
        self._records = records
        self._width = parameters.value_length
        self._state = np.zeros(4, np.uint64)
        self._place = 0
        self._found: list[NDArray[np.int64]] = []

    def take(self, content: bytes) -> None:
        """Takes the next chunk of the sender's outputs.

        Raises:
            DecodeError: they do not ascend.
        """
        count = len(content) // self._width
        keys = np.frombuffer(content, np.uint64, count).copy()
        others = np.zeros((count, 8), np.uint8)
        others[:, : self._width - 8] = np.frombuffer(content, np.uint8, offset=8 * count).reshape(count, -1)
        first = int(self._state[2])
        # No more own records can be found than lie before the last of these outputs.
        found = np.empty((len(self._records) - first, 2), np.int64)
        many = join(
            self._records, first, keys, others.view(np.uint64).reshape(-1), self._place, self._state, found
        )
        if self._state[3]:
            raise DecodeError("the sender's outputs do not ascend")
        self._found.append(found[:many].copy())
        self._place += count

    def found(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The own items' numbers, each once, and their places in the sender's list, ascending."""
        pairs = np.concatenate([np.empty((0, 2), np.int64), *self._found])
        return pairs[:, 0], pairs[:, 1]
