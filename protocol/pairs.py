"""The distinct (subject, identifier) pairs of a table, and which of them an assertion reaches.

Source: docs/gate.md, *The unit* and *Spellings*. An assertion reaches its own pair; without a subject, every
pair of its identifier; without an identifier, every pair of its subject; and where identifiers are spellings
of one value, the pairs of the other spelling. Everything here works on whole columns.

What this does not protect against: nothing is decided here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.assertions import NO_TIME, Assertions

__all__ = ["ALWAYS", "Pairs"]

ALWAYS = int(np.iinfo(np.int64).max)
"""Later than every time: the time of a statement that nothing can precede or lift."""

Ints = NDArray[np.int64]


class _Codes(NamedTuple):
    """A column of codes made dense: `values` are the distinct codes, sorted; `of_row` positions in them."""

    values: Ints
    of_row: Ints


class Pairs:
    """The m distinct pairs of a table, sorted by subject and identifier.

    Attributes:
        subjects: (m,) int64 subject codes.
        identifiers: (m,) int64 identifier codes.
        order: rows that name a pair, (r,) int64, sorted by pair, then time of receipt, then row.
        starts: (m,) int64, where each pair begins in `order`.
        of_row: (n,) int64, the pair that each row names, -1 where a code is missing.
    """

    def __init__(self, assertions: Assertions) -> None:
        """Groups the rows of `assertions`."""
        self._assertions = assertions
        self._subject = _dense(assertions.subject)
        self._identifier = _dense(assertions.identifier)
        rows = np.flatnonzero((assertions.subject >= 0) & (assertions.identifier >= 0))
        keys = self._key(self._subject.of_row[rows], self._identifier.of_row[rows])
        within = np.lexsort((assertions.received_at[rows], keys))
        keys = keys[within]
        first = np.ones(len(keys), bool)
        first[1:] = keys[1:] != keys[:-1]
        self.order = rows[within]
        self.starts = np.flatnonzero(first)
        self.of_row = np.full(len(assertions), -1, np.int64)
        self.of_row[self.order] = np.cumsum(first) - 1
        self._keys = keys[self.starts]
        self._subject_of_pair = self._subject.of_row[self.order[self.starts]]
        self._identifier_of_pair = self._identifier.of_row[self.order[self.starts]]
        self.subjects = self._subject.values[self._subject_of_pair]
        self.identifiers = self._identifier.values[self._identifier_of_pair]
        self._edges = self._dense_edges(assertions.meets)

    def __len__(self) -> int:
        """The number of pairs, m."""
        return len(self.starts)

    def latest(self, rows: Ints, times: Ints) -> Ints:
        """For each pair the latest of the `times` of the `rows` that reach it, `NO_TIME` if none does.

        A row that reaches a pair through its identifier alone or through another spelling counts as
        `ALWAYS`: only statements about the very subject and identifier can answer each other.

        Args:
            rows: (r,) row numbers.
            times: (r,) their times.

        Returns:
            (m,) int64.
        """
        has_subject = self._assertions.subject[rows] >= 0
        has_identifier = self._assertions.identifier[rows] >= 0

        latest = np.full(len(self), NO_TIME, np.int64)
        both = has_subject & has_identifier
        np.maximum.at(latest, self.of_row[rows[both]], times[both])
        sources, spellings = self._other_spellings(rows[both])
        keys = self._key(self._subject.of_row[sources], spellings)
        latest[self._find(keys)] = ALWAYS

        by_subject = has_subject & ~has_identifier
        if by_subject.any():
            of_subject = np.full(len(self._subject.values), NO_TIME, np.int64)
            np.maximum.at(of_subject, self._subject.of_row[rows[by_subject]], times[by_subject])
            np.maximum(latest, of_subject[self._subject_of_pair], out=latest)

        by_identifier = has_identifier & ~has_subject
        latest[self.sharing_identifier(rows[by_identifier])] = ALWAYS
        return latest

    def sharing_identifier(self, rows: Ints) -> NDArray[np.bool_]:
        """Which pairs, of any subject, have the identifier of one of `rows` in some spelling: (m,) bool."""
        rows = rows[self._assertions.identifier[rows] >= 0]
        if len(rows) == 0:
            return np.zeros(len(self), bool)
        reached = np.zeros(len(self._identifier.values), bool)
        reached[self._identifier.of_row[rows]] = True
        reached[self._other_spellings(rows)[1]] = True
        return reached[self._identifier_of_pair]

    def _key(self, subject: Ints, identifier: Ints) -> Ints:
        # Both are positions in columns of one table, so the product stays far below 2**63.
        return subject * len(self._identifier.values) + identifier

    def _find(self, keys: Ints) -> Ints:
        """The pairs with these keys; keys of no pair are left out."""
        if len(self) == 0:
            return np.zeros(0, np.int64)
        place: Ints = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        found: Ints = place[self._keys[place] == keys]
        return found

    def _other_spellings(self, rows: Ints) -> tuple[Ints, Ints]:
        """Each of `rows` repeated for every other spelling of its identifier, and that spelling, dense."""
        of_row = self._identifier.of_row[rows]
        begin = np.searchsorted(self._edges[0], of_row, "left")
        count = np.searchsorted(self._edges[0], of_row, "right") - begin
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(rows, count), self._edges[1][np.repeat(begin, count) + offset]

    def _dense_edges(self, meets: Ints) -> tuple[Ints, Ints]:
        """`meets` in both directions as dense codes, sorted by the first; codes of no row are left out."""
        values = self._identifier.values
        if len(values) == 0:
            meets = meets[:0]
        place = np.minimum(np.searchsorted(values, meets), len(values) - 1)
        present = (meets >= 0).all(axis=1) & (values[place] == meets).all(axis=1)
        one, other = place[present].T
        sources = np.concatenate([one, other])
        order = np.argsort(sources, kind="stable")
        return sources[order], np.concatenate([other, one])[order]


def _dense(codes: Ints) -> _Codes:
    values, of_row = np.unique(codes, return_inverse=True)
    return _Codes(values, of_row.astype(np.int64, copy=False))
