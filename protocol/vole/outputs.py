"""Outputs: what the items of both sides become, equal for those that both have.

Statement: the output of an item is the low l bits of TMMO_output(z, K), where K is the first half of its
digest and z the inner product of its row with the compressed slots: at the sender of <row, W'> + M(value), at
the receiver of <row, V'>, which is the same if the item is in the receiver's list, and unpredictable to the
receiver if not. Further output is all of TMMO_further(z, K); where there are labels, both are made at a time.

Source: RR22 (ePrint 2022/320), figure 11; the hash is that of ePrint 2019/074.

Semi-honest, experimental, no published proof: z has high entropy but is not uniform. Not protected against:
other users of the sender's caches, in which it looks up images of values.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir

from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.vole.aes import Words, aligned
from purposematch.protocol.vole.blocks import encrypt, load, load_keys, store
from purposematch.protocol.vole.kernels import vole_kernel
from purposematch.protocol.vole.parameters import BAND, Parameters
from purposematch.protocol.vole.rows import Rows, expand_bands, keys_of_rows, start_of
from purposematch.protocol.vole.session import Session
from purposematch.protocol.vole.store import BAND_BUFFER, BATCH, decode_rows, value_mask

__all__ = ["NOTHING", "Evaluator", "byte_tables"]

_WORD = ir.IntType(64)
_BANDS: Final = 0
_STARTS: Final = _BANDS + BAND_BUFFER
_PRODUCTS: Final = _STARTS + BATCH
_HASHES: Final = _PRODUCTS + 2 * (BATCH + LANES)
_WORKSPACE: Final = _HASHES + 2 * (BATCH + LANES)

NOTHING: Final[Words] = np.empty((0, 2), np.uint64)
"""In place of room for further outputs, where they are not needed."""


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
    " uint64[:, ::1], uint64[::1], uint64[:, ::1], uint64[::1])"
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
    further_keys: Any,
    further: Any,
    workspace: Any,
) -> None:
    """TMMO(z, K) of rows, (n, 2), in the order of the rows; and under other keys in that of the items.

    Args:
        digests: of the rows.
        numbers: of the items.
        span: how many starts there are.
        band_keys: of the bands.
        keys: of TMMO for the results.
        slots: V' or W'.
        tables: M, (l / 8, 256, 2); or (0, 256, 2) at the receiver.
        results: for the hashes. It may lie where the digests of the rows before do, and half of their own.
        further_keys: of TMMO for the further outputs.
        further: for these, by the numbers of the items; or (0, 2).
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
        if further.shape[0]:
            hash_products(workspace, _HASHES, _PRODUCTS, address, further_keys.ctypes.data, groups)
            for i in range(some):
                item = np.int64(numbers[begin + i])
                further[item, 0] = workspace[_HASHES + 2 * i]
                further[item, 1] = workspace[_HASHES + 2 * i + 1]
        hash_products(workspace, _HASHES, _PRODUCTS, address, keys.ctypes.data, groups)
        for i in range(some):
            results[begin + i, 0] = workspace[_HASHES + 2 * i]
            results[begin + i, 1] = workspace[_HASHES + 2 * i + 1]


@vole_kernel("void(uint64[:, ::1], uint32[::1], uint64, uint64)")
def make_records(results: Any, numbers: Any, first: Any, high: Any) -> None:
    """Turns hashes into records: the low 64 bits; the other bits, and in the low half the item's number."""
    for i in range(numbers.shape[0]):
        results[i, 1] = (results[i, 1] & high) << np.uint64(32) | (first + np.uint64(numbers[i]))


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

    def records(self, rows: Rows, first: int = 0, further: Words = NOTHING) -> tuple[Words, Words]:
        """The outputs of some rows as records: low 64 bits; then the other bits over the item's number.

        Args:
            rows: of these items; their digests are overwritten, a batch of results behind the digests that
                are still to be read.
            first: the number of the first item.
            further: (n, 2) uint64, for the further outputs in the order of the items; or `NOTHING`.

        Returns:
            The records, (n, 2) uint64, and room for as many.
        """
        count = len(rows)
        halves = rows.digests.reshape(-1, 2)
        results = halves[:count]
        evaluate(
            *(rows.digests, rows.numbers, np.uint64(self._parameters.slots - BAND + 1)),
            *(self._session.band_keys, self._session.output_key, self._slots, self._tables, results),
            *(self._session.further_key, further, self._workspace),
        )
        make_records(results, rows.numbers, np.uint64(first), value_mask(self._parameters))
        return results, halves[count : 2 * count]
