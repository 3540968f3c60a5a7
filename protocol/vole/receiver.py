"""The receiver of a match by the VOLE engine: it learns which of its items the sender has.

Statement: it owns the trees and the key-value store, in which each of its items has the value that its digest
says. It sends the corrections that hide the store (`columns`), decodes its items from what is left to it, and
compares the outputs with those of the sender (`records`). The frame is RR22 (ePrint 2022/320), figure 11.

What the sender sees of it: one element and a nonce for each of 128 transfers, masked sums of trees, and
corrections of which each bit is masked by the stream of a leaf that the sender does not know. Their number
says the declared size.

Semi-honest, experimental, no published proof. A sender that deviates can make items appear to match, or not
to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.errors import StateError
from purposematch.protocol.group import Bytes, Group, RandomBytes
from purposematch.protocol.vole.aes import Words
from purposematch.protocol.vole.base_transfers import BaseChooser
from purposematch.protocol.vole.columns import OwnColumns
from purposematch.protocol.vole.extension import own
from purposematch.protocol.vole.labels import Opened
from purposematch.protocol.vole.outputs import NOTHING, Evaluator
from purposematch.protocol.vole.parameters import (
    BASE_TRANSFERS,
    CHUNK_COLUMNS,
    COLUMN,
    NONCE_LENGTH,
    Parameters,
    Role,
)
from purposematch.protocol.vole.party import Items, Party, made
from purposematch.protocol.vole.records import Meeting
from purposematch.protocol.vole.rows import DIGEST_WORDS, Rows, digest_items
from purposematch.protocol.vole.session import Session
from purposematch.protocol.vole.store import encode
from purposematch.protocol.vole.trees import grow

__all__ = ["Matches", "Receiver"]


@dataclass(frozen=True, slots=True)
class Matches:
    """What the receiver learns; the rows ascend.

    Attributes:
        rows: (k,) int64: the row numbers of its items that are in the sender's list; of an item that the
            receiver has twice, both rows.
        places: (k,) int64: where each is in the sender's sorted list of outputs, which says nothing of the
            sender's own order.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.int64]


class Receiver(Party):
    """The side that learns the intersection; see `Party` for how it is driven.

    Args:
        parameters: of the declared sizes.
        items: (n, 33) uint8, n at most the declared size: kind byte and digest each. They are not copied and
            must not be changed before the match is done; what gives them will do, see `Party`. Duplicates are
            allowed. Fewer items than declared
            hide their number.
        binding: see `Party`.
        random: `secrets.token_bytes` outside tests.
        group: for the base oblivious transfers.

    Raises:
        LimitError: there are more items than declared.
        ValueError: the items are not (n, 33) bytes.
    """

    role = Role.RECEIVER

    def __init__(
        self, parameters: Parameters, items: Items, binding: bytes, random: RandomBytes, group: Group
    ) -> None:
        super().__init__(parameters, items, binding, random, group)
        self._session: Session | None = None
        self._chooser: BaseChooser | None = None
        self._leaves: Words | None = None
        self._sums = b""
        self._rows: Rows | None = None
        self._values: Words | None = None
        self._evaluator: Evaluator | None = None
        self._meeting: Meeting | None = None
        self._further = NOTHING
        self._opened: Opened | None = None
        self._closed = False

    def matches(self) -> Matches:
        """The result, once the transcripts have been compared.

        It can be asked for as soon as the sender's last chunk was taken, before the confirmation is sent.

        Raises:
            StateError: the match is not so far, or failed.
        """
        self._check_closed()
        numbers, places = self._found()
        return Matches(numbers[self._order], places[self._order])

    def labels(self) -> Bytes:
        """What the sender says of each match, (k, w) uint8, in the order of `matches`.

        Raises:
            StateError: the match is not so far, or failed.
        """
        self._check_closed()
        if self._opened is None:
            return np.empty((len(self._order), self.parameters.label_length), np.uint8)
        return self._opened.labels().take(self._order, axis=0)

    def _found(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of matched items and their places, in the order of the sender's list."""
        if self._meeting is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return self._meeting.found()

    @cached_property
    def _order(self) -> NDArray[np.int32]:
        """The order in which what `_found` gives is that of the own items."""
        numbers, _ = self._found()
        # Each number occurs once, and to look for it where it belongs is faster than to sort.
        found_at = np.full(self.parameters.n_receiver, -1, np.int32)
        found_at[numbers] = np.arange(len(numbers), dtype=np.int32)
        return found_at[found_at >= 0]

    def _check_closed(self) -> None:
        if self._failed or not self._closed:
            raise StateError("a match that is not done", "one whose transcripts were compared")

    def _prepare(self) -> None:
        if self._session is not None and self._rows is None and self._evaluator is None:
            # Fresh memory is slow: the store is solved where the digests were.
            scratch = np.empty((self.parameters.slots, DIGEST_WORDS), np.uint64)
            digests = digest_items(self._session, self._items, scratch)
            rows = Rows.of(self.parameters, digests)
            self._values = encode(self._session, self.parameters, rows, scratch)
            self._rows = rows
        if self._evaluator is not None and self._meeting is None:
            # Records are made where the digests of the rows are: what fails begins with the items again.
            kept, self._rows = self._rows, None
            rows = kept or Rows.of(self.parameters, digest_items(made(self._session), self._items))
            if self.parameters.label_length:
                self._further = np.empty((len(rows), 2), np.uint64)
            self._meeting = Meeting(self.parameters, *self._evaluator.records(rows, further=self._further))

    def _write(self, name: str) -> Iterator[bytes]:
        if name == "choices":
            yield self._nonce + made(self._chooser).chosen.tobytes()
        elif name == "trees":
            yield self._sums
        elif name == "corrections":
            yield from self._corrections()
        else:
            yield self.transcript()

    def _corrections(self) -> Iterator[bytes]:
        self._finish_preparing()
        session, values = made(self._session), made(self._values)
        columns = OwnColumns(session, self.parameters, made(self._leaves))
        for first in range(0, self.parameters.columns, CHUNK_COLUMNS):
            part = slice(first * COLUMN, min(first + CHUNK_COLUMNS, self.parameters.columns) * COLUMN)
            content = columns.correct(values[part], first)
            if part.stop == self.parameters.columns * COLUMN:
                # What hid the store is not needed any more, and must not be used for another one.
                self._values = self._leaves = self._chooser = None
                self._evaluator = Evaluator(session, self.parameters, values)
            yield content

    def _read(self, name: str, index: int, content: bytes) -> None:
        if name == "opening":
            self._chooser = BaseChooser(self._group, self._random, content[NONCE_LENGTH:])
            sender_nonce = content[:NONCE_LENGTH]
            self._session = Session.of(self.parameters, self._binding, sender_nonce, self._nonce)
        elif name == "extension":
            session, chooser = made(self._session), made(self._chooser)
            received = np.frombuffer(content, np.uint8).reshape(BASE_TRANSFERS, -1)
            keys = own(
                session, chooser.keys(session.context), chooser.bits, received, self.parameters.transfers
            )
            self._leaves, sums = grow(session, self._random, self.parameters.code_length)
            self._sums = (sums ^ np.stack(keys).reshape(sums.shape)).tobytes()
        elif name == "outputs":
            self._finish_preparing()
            made(self._meeting).take(content)
        elif name == "labels":
            if self._opened is None:
                # All outputs are there when the first label comes.
                numbers, places = self._found()
                further = self._further.take(numbers, axis=0)
                self._opened = Opened(made(self._session), places, further, self.parameters.label_length)
                self._further = NOTHING
            self._opened.take(index * self.parameters.labels_of_a_chunk, content)
        else:
            self._closed = True
