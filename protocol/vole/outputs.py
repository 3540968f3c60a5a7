"""Outputs: what the sender sends of each item, sorted, and how the receiver finds its own among them.

Statement: the output of an item is the low l bits of TMMO_output(z, K), where K is the first half of its
digest and z the inner product of its row with the compressed slots: at the sender of <row, W'> + M(value), at
the receiver of <row, V'>, which is the same if the item is in the receiver's list, and unpredictable to the
receiver if not. Further output is all of TMMO_further(z, K). The sender sends its outputs ascending, as
numbers in the order (low 64 bits, other bits); a chunk is the low 64 bits of each, then the others of each,
little-endian. Random numbers stand for duplicates and for what is missing to the declared size. The receiver
sorts its own in the same way and goes through both lists once.

Source: RR22 (ePrint 2022/320), figure 11; the hash is that of ePrint 2019/074. Sorting says nothing of the
order in which a side has its items.

Semi-honest, experimental, no published proof: z has high entropy but is not uniform.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import Bytes, RandomBytes
from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.vole.aes import Words, aligned
from purposematch.protocol.vole.blocks import encrypt, load, load_keys, store
from purposematch.protocol.vole.kernels import vole_kernel
from purposematch.protocol.vole.parameters import BAND, BLOCK, Parameters
from purposematch.protocol.vole.rows import Rows, expand_bands, keys_of_rows, start_of
from purposematch.protocol.vole.session import Session
from purposematch.protocol.vole.store import BAND_BUFFER, BATCH, decode_rows, value_mask

__all__ = [
    "NOBODY",
    "Evaluator",
    "Meeting",
    "byte_tables",
    "chunk_of",
    "numbers_of",
    "random_records",
    "sort_records",
    "without_duplicates",
]

NOBODY: Final = 0xFFFFFFFF
"""In place of an item's number: a random output that no item has."""
_WORD = ir.IntType(64)
_BINS: Final = 4_096
"""Records of a bucket, about, and bins that it is sorted into."""
_BIN_BITS: Final = 12

_BANDS: Final = 0
_STARTS: Final = _BANDS + BAND_BUFFER
_PRODUCTS: Final = _STARTS + BATCH
_HASHES: Final = _PRODUCTS + 2 * (BATCH + LANES)
_WORKSPACE: Final = _HASHES + 2 * (BATCH + LANES)


@step(2, 3)
def hash_products(lanes: Lanes, hashes: Any, products: Any, digests: Any, keys: Any, groups: Any) -> None:
    """TMMO of LANES products at a time under the keys of their rows."""
    builder = lanes.builder
    round_keys = load_keys(lanes, keys)

    def body(index: Any, state: list[Vector]) -> list[Vector]:
        row = builder.mul(index, ir.Constant(_WORD, LANES))
        at = builder.mul(row, ir.Constant(_WORD, 2))
        places = [at, builder.add(at, ir.Constant(_WORD, LANES))]
        blocks = [load(lanes, builder.gep(products, [place])) for place in places]
        inner = encrypt(lanes, round_keys, blocks)
        tweaked = [one ^ key for one, key in zip(inner, keys_of_rows(lanes, digests, row), strict=True)]
        for place, outer, one in zip(places, encrypt(lanes, round_keys, tweaked), inner, strict=True):
            store(lanes, builder.gep(hashes, [place]), outer ^ one)
        return state

    lanes.loop(groups, [], body)


@vole_kernel(
    "void(uint64[:, ::1], uint32[::1], uint64, uint64[::1], uint64[::1], uint64[:, ::1], uint64[:, :, ::1],"
    " uint64[:, ::1], uint64[::1])"
)
def evaluate(
    digests: Any,
    numbers: Any,
    span: Any,
    band_keys: Any,
    keys: Any,
    slots: Any,
    tables: Any,
    results: Any,
    workspace: Any,
) -> None:
    """TMMO(z, K) of rows, (n, 2), in the order of the rows.

    Args:
        digests: of the rows.
        numbers: of the items.
        span: how many starts there are.
        band_keys: of the bands.
        keys: of TMMO.
        slots: V' or W'.
        tables: M, (l / 8, 256, 2); or (0, 256, 2) at the receiver.
        results: for the hashes.
        workspace: see above.
    """
    count = numbers.shape[0]
    for begin in range(0, count, BATCH):
        some = min(BATCH, count - begin)
        groups = -(-some // LANES)
        address = digests.ctypes.data + 32 * begin
        expand_bands(workspace, _BANDS, address, band_keys.ctypes.data, groups)
        for i in range(some):
            workspace[_STARTS + i] = start_of(digests[begin + i, 0], span)
        decode_rows(workspace, _PRODUCTS, _BANDS, _STARTS, slots.ctypes.data, some)
        if tables.shape[0]:
            for i in range(some):
                low = workspace[_PRODUCTS + 2 * i]
                high = workspace[_PRODUCTS + 2 * i + 1]
                word = digests[begin + i, 2]
                for place in range(8):
                    byte = np.int64((word >> np.uint64(8 * place)) & np.uint64(255))
                    low ^= tables[place, byte, 0]
                    high ^= tables[place, byte, 1]
                word = digests[begin + i, 3]
                for place in range(8, tables.shape[0]):
                    byte = np.int64((word >> np.uint64(8 * (place - 8))) & np.uint64(255))
                    low ^= tables[place, byte, 0]
                    high ^= tables[place, byte, 1]
                workspace[_PRODUCTS + 2 * i] = low
                workspace[_PRODUCTS + 2 * i + 1] = high
        hash_products(workspace, _HASHES, _PRODUCTS, address, keys.ctypes.data, groups)
        for i in range(some):
            results[begin + i, 0] = workspace[_HASHES + 2 * i]
            results[begin + i, 1] = workspace[_HASHES + 2 * i + 1]


@vole_kernel("void(uint64[:, ::1], uint32[::1], uint64, uint64)")
def make_records(results: Any, numbers: Any, first: Any, high: Any) -> None:
    """Turns hashes into records: the low 64 bits; the other bits, and in the low half the item's number."""
    for i in range(numbers.shape[0]):
        results[i, 1] = (results[i, 1] & high) << np.uint64(32) | (first + np.uint64(numbers[i]))


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


def byte_tables(rows: Words) -> Words:
    """M as tables of the images of every byte at every place, (l / 8, 256, 2), from its rows (l, 2)."""
    tables = np.zeros((len(rows) // 8, 256, 2), np.uint64)
    for bit in range(8):
        tables[:, 1 << bit : 2 << bit] = tables[:, : 1 << bit] ^ rows[bit::8, None]
    return tables


class Evaluator:
    """Computes the outputs of items, at one of both sides.

    Args:
        session: for the keys.
        parameters: of the match.
        slots: V' or W', as `store.slots_for` has it.
        tables: see `byte_tables`; None at the receiver.
    """

    def __init__(
        self, session: Session, parameters: Parameters, slots: Words, tables: Words | None = None
    ) -> None:
        """Computes nothing yet."""
        self._session = session
        self._parameters = parameters
        self._slots = slots
        self._tables = np.zeros((0, 256, 2), np.uint64) if tables is None else tables
        self._workspace = aligned(_WORKSPACE)

    def _evaluate(self, rows: Rows, keys: Words, results: Words) -> None:
        span = np.uint64(self._parameters.slots - BAND + 1)
        bands = self._session.band_keys
        evaluate(
            rows.digests, rows.numbers, span, bands, keys, self._slots, self._tables, results, self._workspace
        )

    def records(self, rows: Rows, first: int = 0) -> tuple[Words, Words]:
        """The outputs of some rows as records: low 64 bits; then the other bits over the item's number.

        Args:
            rows: of these items; their digests are overwritten, a batch of results behind the digests that
                are still to be read.
            first: the number of the first item.

        Returns:
            The records, (n, 2) uint64, and room for as many.
        """
        count = len(rows)
        halves = rows.digests.reshape(-1, 2)
        results = halves[:count]
        self._evaluate(rows, self._session.output_key, results)
        make_records(results, rows.numbers, np.uint64(first), value_mask(self._parameters))
        return results, halves[count : 2 * count]

    def further(self, rows: Rows) -> Bytes:
        """The further outputs of items, (n, 16), in the order of the items."""
        hashes = np.empty((len(rows), 2), np.uint64)
        self._evaluate(rows, self._session.further_key, hashes)
        ordered = np.empty_like(hashes)
        ordered[rows.numbers] = hashes
        return ordered.view(np.uint8).reshape(-1, BLOCK)


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
        """The own items' numbers, ascending, and their places in the sender's list."""
        pairs = np.concatenate([np.empty((0, 2), np.int64), *self._found])
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
