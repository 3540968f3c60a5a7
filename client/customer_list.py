"""The advertiser's list, read into arrays: what is distinct in it, and what every row comes to.

One pass over the table turns every column into digests and forgets the values; the table is read again
for the output. No Python object is kept for a row: a distinct identifier takes 33 bytes, a row 1 byte
and 4 more for each column.

Not protected against: whoever can read this process's memory sees digests, and a phone number's digest
is found again by trying all numbers.
"""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from purposematch.client.columns import Column
from purposematch.client.distinct import distinct_rows
from purposematch.client.growing import Growing
from purposematch.client.progress import Advance
from purposematch.protocol.errors import InputError
from purposematch.protocol.identifiers import (
    IdentifierColumn,
    IdentifierReason,
    Kind,
    Profile,
    digest_prehashed,
    digest_raw,
    private_inputs,
    write_private_inputs,
)
from purposematch.tables import Table, text_column

__all__ = ["CustomerList", "reason_counts"]

MAX_ROWS: Final = 2**31 - 1
"""Usable values of one kind, and rows, that a list can have: their numbers are 32-bit."""

_REASON_CODES: Final = 256
_HASHED_AT_A_TIME: Final = 65_536


@dataclass(frozen=True, slots=True)
class CustomerList:
    """A list of n rows with m distinct identifiers, numbered kind by kind.

    Attributes:
        columns: the columns of identifiers.
        kinds: `(m,)` uint8, the `Kind` of every distinct identifier.
        digests: `(m, 32)` uint8.
        numbers: for each column `(n,)` int32, the number of the row's identifier, -1 where it has none.
        reasons: `(n,)` uint8, 0 for a row with a usable identifier; otherwise the `IdentifierReason`
            of its first column that is not empty, or EMPTY.
        column_reasons: for each column `(256,)` int64, its rows by `IdentifierReason`.
        duplicates: usable rows all of whose identifiers were in earlier rows.
    """

    columns: tuple[Column, ...]
    kinds: NDArray[np.uint8] = field(repr=False)
    digests: NDArray[np.uint8] = field(repr=False)
    numbers: tuple[NDArray[np.int32], ...] = field(repr=False)
    reasons: NDArray[np.uint8] = field(repr=False)
    column_reasons: tuple[NDArray[np.int64], ...] = field(repr=False)
    duplicates: int

    def __len__(self) -> int:
        """The number of distinct identifiers, m."""
        return len(self.digests)

    @property
    def rows(self) -> int:
        """The number of rows, n."""
        return len(self.reasons)

    @property
    def usable(self) -> int:
        """Rows with at least one usable identifier."""
        return self.rows - int(np.count_nonzero(self.reasons))

    @property
    def invalid(self) -> dict[str, int]:
        """The other rows, by the label of their reason."""
        return reason_counts(np.bincount(self.reasons, minlength=_REASON_CODES))

    def inputs(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The private inputs of the distinct identifiers from `start` up to `stop`, `(k, 33)` uint8."""
        return private_inputs(self.kinds[start:stop], self.digests[start:stop])

    def inputs_before(self, others: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The private inputs of all distinct identifiers, and behind them `others`, `(m + k, 33)` uint8."""
        inputs = np.empty((len(self) + len(others), others.shape[1]), np.uint8)
        # Written in place: the array is the largest that a match has.
        write_private_inputs(inputs[: len(self)], self.kinds, self.digests)
        inputs[len(self) :] = others
        return inputs

    def inputs_of(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The private inputs of the distinct identifiers of these numbers, `(k, 33)` uint8."""
        return private_inputs(self.kinds[numbers], self.digests[numbers])

    def sha256(self) -> bytes:
        """SHA-256 of all private inputs in their order, 32 bytes."""
        digest = hashlib.sha256()
        for start in range(0, len(self), _HASHED_AT_A_TIME):
            digest.update(self.inputs(start, start + _HASHED_AT_A_TIME).data)
        return digest.digest()

    def matched_rows(self, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which rows have an identifier among the `found` ones.

        Args:
            found: `(m,)` bool, by the number of the identifier.

        Returns:
            `(n,)` bool.
        """
        # One place more, so that -1, no identifier, reads False.
        looked_up = np.append(found, False)
        matched = np.zeros(self.rows, np.bool_)
        for numbers in self.numbers:
            matched |= looked_up[numbers]
        return matched

    @classmethod
    def read(
        cls,
        table: Table,
        columns: Sequence[Column],
        profile: Profile,
        region: str | None = None,
        *,
        advance: Advance | None = None,
    ) -> Self:
        """Reads the list.

        Args:
            table: where it is.
            columns: as `choose_columns` gives them.
            profile: the rule that makes raw values canonical.
            region: two-letter country code for phone numbers without `+`.
            advance: called with the bytes of the file that were read since its last call.

        Raises:
            TableError: the table cannot be read.
            InputError: the region is none, or the list has more than `MAX_ROWS` rows.
        """
        entries = {kind: Growing(np.uint8, 32) for kind in dict.fromkeys(column.kind for column in columns)}
        places = tuple(Growing(np.int32) for _ in columns)
        reasons = Growing(np.uint8)
        column_reasons = tuple(np.zeros(_REASON_CODES, np.int64) for _ in columns)
        # Closed also where a row is refused: the pass reads ahead in a thread of its own.
        with closing(table.batches([column.name for column in columns], advance=advance)) as batches:
            for batch in batches:
                of_row = np.full(batch.num_rows, IdentifierReason.EMPTY, np.uint8)
                usable = np.zeros(batch.num_rows, np.bool_)
                for i, column in enumerate(columns):
                    identifiers = _digests(batch, column, profile, region)
                    places[i].append(_store(entries[column.kind], identifiers))
                    column_reasons[i][:] += np.bincount(identifiers.reasons, minlength=_REASON_CODES)
                    usable |= identifiers.reasons == IdentifierReason.USABLE
                    of_row = np.where(of_row == IdentifierReason.EMPTY, identifiers.reasons, of_row)
                of_row[usable] = IdentifierReason.USABLE
                reasons.append(of_row)
        if len(reasons) > MAX_ROWS:
            raise InputError(f"the list has more than {MAX_ROWS:,} rows; split it")
        kinds, digests, numbers = _number(entries, columns, tuple(place.take() for place in places))
        return cls(
            columns=tuple(columns),
            kinds=kinds,
            digests=digests,
            numbers=numbers,
            reasons=reasons.take(),
            column_reasons=column_reasons,
            duplicates=_count_duplicates(numbers, len(digests)),
        )


def reason_counts(counts: NDArray[np.int64]) -> dict[str, int]:
    """Refused rows by the label of their reason, from `(256,)` counts by code, without zeros."""
    return {reason.label: int(counts[reason]) for reason in IdentifierReason if reason and counts[reason] > 0}


def _digests(batch: pa.RecordBatch, column: Column, profile: Profile, region: str | None) -> IdentifierColumn:
    values = text_column(batch, column.name)
    return digest_prehashed(values) if column.hashed else digest_raw(values, column.kind, profile, region)


def _store(entries: Growing[np.uint8], identifiers: IdentifierColumn) -> NDArray[np.int32]:
    """Adds the usable digests of a batch to `entries`; the place of every row there, or -1."""
    usable = identifiers.reasons == IdentifierReason.USABLE
    count = int(np.count_nonzero(usable))
    if len(entries) + count > MAX_ROWS:
        raise InputError(f"the list has more than {MAX_ROWS:,} identifiers of one kind; split it")
    own = np.arange(len(entries), len(entries) + count, dtype=np.int32)
    if count == len(usable):
        entries.append(identifiers.digests)
        return own
    entries.append(identifiers.digests[usable])
    places = np.full(len(usable), -1, np.int32)
    places[usable] = own
    return places


def _number(
    entries: dict[Kind, Growing[np.uint8]], columns: Sequence[Column], places: tuple[NDArray[np.int32], ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[NDArray[np.int32], ...]]:
    """Makes the identifiers distinct, kind by kind, and turns places in `entries` into their numbers.

    Returns:
        Kinds `(m,)` and digests `(m, 32)` of the distinct identifiers, and `places` with the numbers.
    """
    kinds: list[NDArray[np.uint8]] = []
    digests: list[NDArray[np.uint8]] = []
    count = 0
    for kind in list(entries):
        # Popped, so that every entry is gone as soon as the distinct ones are known.
        number_of_entry, distinct = distinct_rows(entries.pop(kind).take())
        # One place more, so that -1, no identifier, stays what it is.
        looked_up = np.append(number_of_entry + np.int32(count), np.int32(-1))
        for column, place in zip(columns, places, strict=True):
            if column.kind is kind:
                place[:] = looked_up[place]
        count += len(distinct)
        if count > MAX_ROWS:
            raise InputError(f"the list has more than {MAX_ROWS:,} distinct identifiers; split it")
        kinds.append(np.full(len(distinct), kind, np.uint8))
        digests.append(distinct)
    if len(digests) == 1:
        return kinds[0], digests[0], places
    return np.concatenate(kinds), np.concatenate(digests), places


def _count_duplicates(numbers: tuple[NDArray[np.int32], ...], distinct: int) -> int:
    """Usable rows all of whose identifiers were in earlier rows."""
    row = np.arange(len(numbers[0]), dtype=np.int32)
    # One place more, so that -1, no identifier, is new in no row.
    first_row = np.full(distinct + 1, len(row), np.int32)
    for column in numbers:
        np.minimum.at(first_row, column, row)
    first_row[-1] = len(row)
    usable = np.zeros(len(row), np.bool_)
    new = np.zeros(len(row), np.bool_)
    for column in numbers:
        usable |= column >= 0
        new |= first_row[column] == row
    return int(np.count_nonzero(usable & ~new))
