"""Outputs of every length: both sides get the same for what they share, and find it among what is sent."""

import numpy as np
import pytest
import slow_vole as slow
from vole_match import items, stream

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.vole.columns import OwnColumns, PeerColumns, difference_rows
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.outputs import Evaluator, byte_tables
from purposematch.protocol.vole.parameters import COLUMN, parameters
from purposematch.protocol.vole.records import (
    NOBODY,
    Meeting,
    chunk_of,
    numbers_of,
    random_records,
    sort_records,
    without_duplicates,
)
from purposematch.protocol.vole.rows import Rows, digest_items
from purposematch.protocol.vole.session import Session
from purposematch.protocol.vole.store import encode, slots_for
from purposematch.protocol.vole.trees import reordered

SIZES = {80: (2**10, 2**20), 88: (300, 2**32), 96: (2**17, 2**32)}
NONCES = (b"s" * 32, b"r" * 32)


@pytest.mark.parametrize("bits", list(SIZES))
def test_values_of_every_length_meet(vole: Engine, bits: int) -> None:
    """With leaves and symbols dealt to both sides, and without the messages before the corrections."""
    sizes = parameters(*SIZES[bits])
    assert sizes.value_bits == bits
    session = Session.of(sizes, b"binding", *NONCES)
    random = np.random.default_rng(bits)
    leaves = random.integers(2**64, size=(sizes.code_length, 32, 2), dtype=np.uint64)
    symbols = random.integers(32, size=sizes.code_length, dtype=np.uint8)
    own, others = items(range(300)), items(range(250, 900))

    def rows_of(numbers: np.ndarray) -> Rows:
        return Rows.of(sizes, digest_items(session, numbers))

    slots, peer_slots = encode(session, sizes, rows_of(own)), slots_for(sizes)
    whole = slice(0, sizes.columns * COLUMN)
    corrections = OwnColumns(session, sizes, leaves).correct(slots[whole], 0)
    peer = PeerColumns(session, sizes, reordered(leaves, symbols), symbols)
    peer.take(corrections, 0, peer_slots[whole])
    tables = byte_tables(difference_rows(session, sizes, symbols))
    receiver, sender = Evaluator(session, sizes, slots), Evaluator(session, sizes, peer_slots, tables)
    further, peer_further = np.zeros((300, 2), np.uint64), np.zeros((650, 2), np.uint64)
    plain, _ = receiver.records(rows_of(own))
    mine = receiver.records(rows_of(own), further=further)
    assert np.array_equal(mine[0], plain)
    meeting = Meeting(sizes, *mine)
    records, spare = sender.records(rows_of(others), further=peer_further)
    assert np.array_equal(further[250:], peer_further[:50])
    assert not (further[:50] == peer_further[:50]).all(axis=1).any()
    before = {
        int(number): int(low) | int(high) >> 32 << 64
        for low, high in records
        for number in [high & 0xFFFFFFFF]
    }
    other = slow.Session(SIZES[bits], b"binding", NONCES)
    integers = [int(low) | int(high) << 64 for low, high in peer_slots]
    for number in (0, 17, 649):
        key, value, start, band = other.row(others[number].tobytes())
        z = other.product(start, band, integers) ^ slow.difference(other, symbols.tolist(), value)
        assert before[number] == slow.tmmo(other.key("output"), z, key) % 2**bits
        low, high = peer_further[number].tolist()
        assert low | high << 64 == slow.tmmo(other.key("further"), z, key)
    sort_records(records, spare)
    for first in range(0, len(records), 100):
        content = chunk_of(sizes, records[first : first + 100])
        assert len(content) == min(100, len(records) - first) * bits // 8
        meeting.take(content)
    found, places = meeting.found()
    assert (np.diff(places) > 0).all()
    order = np.argsort(found)
    assert found[order].tolist() == list(range(250, 300))
    assert numbers_of(records)[places[order]].tolist() == list(range(50))


@pytest.mark.parametrize("bits", list(SIZES))
def test_outputs_that_differ_in_their_last_bits_do_not_meet(vole: Engine, bits: int) -> None:
    sizes = parameters(*SIZES[bits])
    own = np.array([[5, 7 << 32 | 0], [5, 8 << 32 | 1], [5, 8 << 32 | 2], [6, 9 << 32 | 3]], np.uint64)
    meeting = Meeting(sizes, own, np.empty_like(own))
    peer = np.array([[4, 8], [5, 6], [5, 8], [5, 9], [6, 8], [6, 10], [7, 9]], np.uint64)
    peer[:, 1] <<= np.uint64(32)
    for row in peer:
        meeting.take(chunk_of(sizes, row.reshape(1, 2)))
    assert [one.tolist() for one in meeting.found()] == [[1, 2], [2, 2]]
    for back in ([7, 8], [6, 2**16]):
        with pytest.raises(DecodeError):
            meeting.take(chunk_of(sizes, np.array([back], np.uint64) << np.array([0, 32], np.uint64)))


def test_random_records_take_the_place_of_duplicates(vole: Engine) -> None:
    sizes = parameters(*SIZES[80])
    records = random_records(sizes, stream("records"), 1_000)
    assert (numbers_of(records) == NOBODY).all()
    assert not (records[:, 1] >> np.uint64(48)).any()
    records[:, 1] = records[:, 1] >> np.uint64(32) << np.uint64(32) | np.arange(1_000, dtype=np.uint64)
    records[10:20, 0], records[10:20, 1] = 77, np.uint64(3 << 32) | np.arange(10, dtype=np.uint64)
    sort_records(records)
    before = records.copy()
    without_duplicates(sizes, stream("others"), records)
    kept = {tuple(row) for row in before.tolist()} & {tuple(row) for row in records.tolist()}
    assert len(kept) == 991
    assert (numbers_of(records) == NOBODY).sum() == 9
    assert (np.diff(records[:, 0].astype(np.float64)) >= 0).all()
    again = records.copy()
    without_duplicates(sizes, stream("others"), again)
    assert np.array_equal(again, records)
