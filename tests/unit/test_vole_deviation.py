"""What a receiver of the VOLE engine learns that deviates: everything of the sender's list that it can guess.

This is no fault of the code but what "semi-honest" means, shown, so that no page says less. Should the engine
ever check corrections, this test fails, and the pages may say more.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import slow_vole
from numpy.typing import NDArray
from vole_match import BINDING, Pair, exchange, items, stream

from purposematch.protocol.group import Bytes
from purposematch.protocol.vole.aes import Words, tmmo
from purposematch.protocol.vole.columns import difference_rows
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.outputs import Evaluator, byte_tables
from purposematch.protocol.vole.parameters import BAND, COLUMN, LEAVES, Role, parameters
from purposematch.protocol.vole.party import made
from purposematch.protocol.vole.receiver import Receiver
from purposematch.protocol.vole.rows import Rows, digest_items
from purposematch.protocol.vole.session import Session

KNOWN = 64
"""Items that the receiver knows the sender to have, such as the canaries."""
SYMBOLS = 3
"""Symbols of the sender's secret that one of them tells, by 2^15 guesses."""


def bits_of(number: int, count: int) -> NDArray[np.uint8]:
    content = np.frombuffer(number.to_bytes(-(-count // 8), "little"), np.uint8)
    return np.unpackbits(content, bitorder="little")[:count]


def told_apart(rows: list[int], slots: int) -> NDArray[np.uint8]:
    """Errors that reach one row each: (k, slots) bits, of which the sum over row i is 1 for error i alone."""
    reduced: list[tuple[int, int, int]] = []  # pivot, row, which rows it is the sum of
    for i, row in enumerate(rows):
        made_of = 1 << i
        for pivot, other, of in reduced:
            if row >> pivot & 1:
                row, made_of = row ^ other, made_of ^ of
        pivot = row.bit_length() - 1
        reduced = [(p, o ^ row, of ^ made_of) if o >> pivot & 1 else (p, o, of) for p, o, of in reduced]
        reduced.append((pivot, row, made_of))
    errors = np.zeros((len(rows), slots), np.uint8)
    for pivot, _, made_of in reduced:
        errors[:, pivot] = bits_of(made_of, len(rows))
    return errors


class Deviating(Receiver):
    """Does as it should, but for errors in its corrections, each of which reaches one known item."""

    errors: NDArray[np.uint8]
    hidden: Words

    def _corrections(self) -> Iterator[bytes]:
        sizes, session = self.parameters, made(self._session)
        self.prepare()
        self.hidden = made(self._values).copy()
        whole = bytearray(b"".join(super()._corrections()))
        slow = slow_vole.Session((sizes.n_receiver, sizes.n_sender), BINDING, (b"", b""))
        slow.context = session.context
        found = [slow.row(item.tobytes()) for item in self._items[:KNOWN]]
        reach = told_apart([band << start for _, _, start, band in found], sizes.columns * COLUMN)
        self.errors = np.zeros((sizes.code_length, sizes.columns * COLUMN), np.uint8)
        for tree in range(sizes.code_length):
            self.errors[tree] = reach[tree // SYMBOLS]
        # Slot 8 i + w of a column is bit i of word w of its plane.
        planes = self.errors.reshape(sizes.code_length, sizes.columns, 64, 8).transpose(1, 0, 3, 2)
        error = np.packbits(np.ascontiguousarray(planes), axis=-1, bitorder="little").reshape(-1)
        sent = np.frombuffer(whole, np.uint8) ^ error
        yield sent.tobytes()


def effects(session: Session, trees: range, code_length: int) -> NDArray[np.uint64]:
    """What every guess of the symbols of some trees adds to an inner product, (32^len(trees), 2)."""
    masks = session.compression(code_length)
    total = np.zeros((1, 128), np.uint8)
    for tree in trees:
        symbols = np.arange(LEAVES, dtype=np.uint8)[:, None]
        total = (total[:, None] ^ (np.bitwise_count(masks[tree] & symbols) & 1)).reshape(-1, 128)
    return np.packbits(total, axis=1, bitorder="little").view(np.uint64)


def secret_of(attacker: Deviating, outputs: NDArray[np.uint64]) -> Bytes:
    """The sender's secret, from the outputs of the items that the receiver knows it to have."""
    session, sizes = made(attacker._session), attacker.parameters
    slots = made(attacker._evaluator)._slots
    symbols = np.zeros(sizes.code_length, np.uint8)
    for known, first in enumerate(range(0, sizes.code_length, SYMBOLS)):
        trees = range(first, min(first + SYMBOLS, sizes.code_length))
        digest = digest_items(session, attacker._items[known : known + 1])
        slow = slow_vole.Session((sizes.n_receiver, sizes.n_sender), BINDING, (b"", b""))
        slow.context = session.context
        _, _, start, band = slow.row(attacker._items[known].tobytes())
        product = np.bitwise_xor.reduce(slots[start : start + BAND][bits_of(band, BAND) == 1], axis=0)
        guesses = effects(session, trees, sizes.code_length) ^ product
        hashes = tmmo(session.output_key, guesses, np.broadcast_to(digest[:, :2], guesses.shape))
        (right,) = np.flatnonzero(np.isin(hashes[:, 0], outputs))
        for tree in reversed(trees):
            right, symbols[tree] = divmod(int(right), LEAVES)
    return symbols


def test_a_receiver_that_deviates_tests_any_item_against_the_whole_list(vole: Engine) -> None:
    """It declared 200 items; afterwards it finds 900 others among 20,000 guesses, alone."""
    common, others = items(range(KNOWN)), items(range(10_000, 10_900))
    own = np.concatenate([common, items(range(50_000, 50_136))])
    sizes = parameters(len(own), KNOWN + len(others))
    vole.prepare()
    attacker = Deviating(sizes, own, BINDING, stream("deviating"), vole._group)
    honest = vole.sender(sizes, np.concatenate([others, common]), BINDING, stream("honest"))
    both = exchange(Pair(attacker, honest))

    names = [(m.name, chunk) for m in sizes.messages for chunk in range(m.chunks) if m.speaker is Role.SENDER]
    said = [chunk.content for role, chunk in both.said if role is Role.SENDER]
    (sent,) = (content for (name, _), content in zip(names, said, strict=True) if name == "outputs")
    outputs = np.frombuffer(sent, np.uint64, sizes.n_sender)
    assert all(before <= after for before, after in pairwise(outputs.tolist()))

    session, symbols = made(attacker._session), secret_of(attacker, outputs)
    tables = byte_tables(difference_rows(session, sizes, symbols))
    # What the sender has of the slots: its own view, from the receiver's, the store, and the errors.
    slots = made(attacker._evaluator)._slots.copy()
    values = attacker.hidden.view(np.uint8).reshape(-1, 16)
    for place in range(len(tables)):
        slots[: len(values)] ^= tables[place, values[:, place]]
    masked = np.bitwise_count(session.compression(sizes.code_length) & symbols[:, None]) & 1
    moved = (attacker.errors.T.astype(np.int64) @ masked & 1).astype(np.uint8)
    slots[: len(moved)] ^= np.packbits(moved, axis=1, bitorder="little").view(np.uint64)

    guesses = items(range(20_000))
    rows = Rows.of(sizes, digest_items(session, guesses))
    records, _ = Evaluator(session, sizes, slots, tables).records(rows)
    found = np.sort((records[:, 1] & np.uint64(0xFFFFFFFF))[np.isin(records[:, 0], outputs)])
    assert found.tolist() == [*range(KNOWN), *range(10_000, 10_900)]
