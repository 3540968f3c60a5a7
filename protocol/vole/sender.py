"""The sender of a match by the VOLE engine: it learns the receiver's declared size, and nothing else.

Statement: it has a secret symbol for each tree, learns all leaves but those of its symbols, takes the
corrections (`columns`), decodes its items from what comes out, and sends their outputs (`outputs`), sorted
(`records`). The frame is RR22 (ePrint 2022/320), figure 11.

What the receiver sees of it: one element and a nonce, masked choices, and outputs. Outputs of items that the
receiver does not have can not be told from random numbers, as long as the receiver does what it should;
duplicates and what is missing to the declared size are random numbers. The time that it takes depends on what
is in its list only where that has duplicates.

Semi-honest, experimental, no published proof. Nothing checks corrections, so a receiver that deviates reads
the sender's secret in one match: it makes the output of each of 60 items that it knows the sender to have, as
the canaries are, depend on 15 bits of it, and finds these by trying. Then it tests any item against the
sender's whole list, alone, and opens the label of each: `tests/unit/test_vole_deviation.py` does. The
declared size bounds only receivers that do as they should, and those that encode more, up to a tenth.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.group import Bytes, Group, RandomBytes
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.vole.aes import Words
from purposematch.protocol.vole.base_transfers import BaseSender
from purposematch.protocol.vole.columns import PeerColumns, difference_rows
from purposematch.protocol.vole.extension import choose
from purposematch.protocol.vole.labels import hidden
from purposematch.protocol.vole.outputs import NOTHING, Evaluator, byte_tables
from purposematch.protocol.vole.parameters import (
    BASE_TRANSFERS,
    CHUNK_COLUMNS,
    CHUNK_OUTPUTS,
    COLUMN,
    LEAVES,
    NONCE_LENGTH,
    TREE_DEPTH,
    Parameters,
    Role,
)
from purposematch.protocol.vole.party import Items, Party, made
from purposematch.protocol.vole.records import (
    chunk_of,
    numbers_of,
    random_records,
    sort_records,
    without_duplicates,
)
from purposematch.protocol.vole.rows import Rows, digest_items
from purposematch.protocol.vole.session import Session
from purposematch.protocol.vole.store import slots_for
from purposematch.protocol.vole.trees import choices, open_trees, reordered

__all__ = ["Sender"]

BLOCK_ITEMS: Final = 1 << 22
"""Items whose digests are sorted together: a third of a gigabyte, whatever the length of the list."""
PREPARED_BLOCKS: Final = 4
"""Blocks of items that are hashed beforehand; others when they are needed."""


class Sender(Party):
    """The side that lets the other one learn the intersection; see `Party` for how it is driven.

    Args:
        parameters: of the declared sizes.
        items: (n, 33) uint8, n at most the declared size: kind byte and digest each. They are not copied and
            must not be changed before the match is done; what gives them will do, see `Party`. Duplicates are
            allowed: random outputs stand for
            all but one of them, and for items that are missing to the declared size.
        binding: see `Party`.
        random: `secrets.token_bytes` outside tests.
        group: for the base oblivious transfers.
        labels: (n, w) uint8, what the receiver learns of each item that it has as well; not copied. Or what
            gives them, called once when they are needed. None where the parameters have no labels.

    Raises:
        LimitError: there are more items than declared.
        ValueError: the items are not (n, 33) bytes, or the labels do not fit.
    """

    role = Role.SENDER

    def __init__(
        self,
        parameters: Parameters,
        items: Items,
        binding: bytes,
        random: RandomBytes,
        group: Group,
        labels: Items | None = None,
    ) -> None:
        super().__init__(parameters, items, binding, random, group)
        self._given_labels = labels if callable(labels) else self._checked_labels(labels)
        self._further = NOTHING
        self._base: BaseSender | None = None
        self._session: Session | None = None
        self._symbols: SecretArray | None = None
        self._masked = b""
        self._keys: Words | None = None
        self._columns: PeerColumns | None = None
        self._slots: Words | None = None
        self._prepared: dict[int, Rows] = {}
        self._has_prepared = False
        self._evaluator: Evaluator | None = None
        self._numbers: NDArray[np.uint32] | None = None

    @property
    def _labels(self) -> Bytes:
        if callable(self._given_labels):
            self._given_labels = self._checked_labels(self._given_labels())
        return self._given_labels

    def _checked_labels(self, labels: Bytes | None) -> Bytes:
        width = self.parameters.label_length
        if labels is None:
            if not width:
                return np.empty((0, 0), np.uint8)
            raise ValueError("there are labels in the parameters, and none were given")
        if labels.shape != (len(self._items), width) or labels.dtype != np.uint8:
            raise ValueError(f"labels are rows of {width} bytes, one an item")
        return labels

    def _prepare(self) -> None:
        if self._session is not None and not self._has_prepared:
            for first in self._blocks()[:PREPARED_BLOCKS]:
                self._prepared[first] = self._rows_of(self._session, first)
            self._has_prepared = True

    def _blocks(self) -> range:
        return range(0, len(self._items), BLOCK_ITEMS)

    def _rows_of(self, session: Session, first: int) -> Rows:
        return Rows.of(self.parameters, digest_items(session, self._items[first : first + BLOCK_ITEMS]))

    def _taken(self, first: int) -> Rows:
        """The rows of a block, which are not kept."""
        return self._prepared.pop(first, None) or self._rows_of(made(self._session), first)

    def _write(self, name: str) -> Iterator[bytes]:
        if name == "opening":
            self._base = BaseSender(self._group, self._random)
            yield self._nonce + self._base.element
        elif name == "extension":
            yield self._masked
        elif name == "outputs":
            yield from self._outputs()
        elif name == "labels":
            yield from self._hidden_labels()
        else:
            yield self.transcript()

    def _hidden_labels(self) -> Iterator[bytes]:
        numbers, count = made(self._numbers), self.parameters.labels_of_a_chunk
        for first in range(0, len(numbers), count):
            part = numbers[first : first + count]
            yield hidden(made(self._session), self._labels, self._further, part, self._random)

    def _outputs(self) -> Iterator[bytes]:
        evaluator = made(self._evaluator)
        self._finish_preparing()
        have, declared = len(self._items), self.parameters.n_sender
        if self.parameters.label_length:
            self._further = np.empty((have, 2), np.uint64)
        spare = None
        if have == declared <= BLOCK_ITEMS:
            # Fresh memory is slow: records are sorted where the digests were.
            records, spare = evaluator.records(self._taken(0), 0, self._further)
        else:
            records = np.empty((declared, 2), np.uint64)
            for first in self._blocks():
                part = slice(first, min(first + BLOCK_ITEMS, have))
                records[part], _ = evaluator.records(self._taken(first), first, self._further[part])
            records[have:] = random_records(self.parameters, self._random, declared - have)
        sort_records(records, spare)
        without_duplicates(self.parameters, self._random, records)
        self._numbers = numbers_of(records)
        for first in range(0, declared, CHUNK_OUTPUTS):
            yield chunk_of(self.parameters, records[first : first + CHUNK_OUTPUTS])

    def _read(self, name: str, index: int, content: bytes) -> None:
        if name == "choices":
            self._choose(content)
        elif name == "trees":
            self._open(content)
        elif name == "corrections":
            first = index * CHUNK_COLUMNS
            count = len(content) // self.parameters.column_length
            slots = made(self._slots)
            made(self._columns).take(content, first, slots[first * COLUMN : (first + count) * COLUMN])
            if first + count == self.parameters.columns:
                self._columns = None

    def _choose(self, content: bytes) -> None:
        session = Session.of(self.parameters, self._binding, self._nonce, content[:NONCE_LENGTH])
        chosen = np.frombuffer(content, np.uint8, offset=NONCE_LENGTH).reshape(BASE_TRANSFERS, -1)
        pairs = made(self._base).pairs(session.context, chosen.copy())
        drawn = np.frombuffer(self._random(self.parameters.code_length), np.uint8)
        self._symbols = SecretArray((drawn & np.uint8(LEAVES - 1)).reshape(-1, 1))
        masked, self._keys = choose(session, pairs, choices(self._revealed()), self.parameters.extended)
        self._masked = masked.tobytes()
        self._session = session
        self._base = None

    def _open(self, content: bytes) -> None:
        session, symbols = made(self._session), self._revealed()
        sums = np.frombuffer(content, np.uint64).reshape(2, len(symbols), TREE_DEPTH, 2)
        leaves = reordered(open_trees(session, symbols, sums, made(self._keys)), symbols)
        self._columns = PeerColumns(session, self.parameters, leaves, symbols)
        self._slots = slots_for(self.parameters)
        tables = byte_tables(difference_rows(session, self.parameters, symbols))
        self._evaluator = Evaluator(session, self.parameters, self._slots, tables)
        made(self._symbols).wipe()
        self._symbols = self._keys = None

    def _revealed(self) -> Bytes:
        return reveal_array(made(self._symbols)).reshape(-1)
