"""Corrections: what was learned later about how assertions should have been labelled.

An assertion's row never changes. What a correction says of it lies over the row whenever it is loaded for the
gate, and the latest correction counts.

Not protected against: an operator who corrects what was right.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, select

from purposematch.server.registry.bulk import in_portions, insert_columns
from purposematch.server.registry.columns import integer_columns
from purposematch.server.registry.happened import NEVER
from purposematch.server.registry.schema import corrected, correction

__all__ = [
    "Correction",
    "add_correction",
    "close_correction",
    "correct_terms",
    "correction_after",
    "find_corrections",
]

_FEW = 16_384
"""Assertions up to which each is asked about; above, all corrections are loaded at once."""


MAX_DECISION: Final = 2**63 - 1
"""Above every id of a decision."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A statement that assertions were mislabelled.

    Attributes:
        corrected_at: microseconds since 1970.
        selection: which assertions were meant, as JSON has it.
        origin: the number of the new origin, None if it stays.
        purposes: the new purposes, joined by `;`, None if they stay.
        why: in the operator's words.
    """

    corrected_at: int
    selection: Mapping[str, object]
    origin: int | None
    purposes: str | None
    why: str


def add_correction(
    connection: Connection,
    made: Correction,
    assertions: NDArray[np.int64],
    terms: NDArray[np.int64],
) -> int:
    """Records a correction, and returns its id; `close_correction` completes it.

    Args:
        connection: a transaction that writes.
        made: the correction.
        assertions: (n,) int64 ids.
        terms: (n,) int64, the `terms.id` that count from now on.
    """
    number = (connection.scalar(select(func.max(correction.c.id))) or 0) + 1
    connection.execute(
        correction.insert().values(
            id=number,
            corrected_at=made.corrected_at,
            selection=json.dumps(made.selection),
            origin=made.origin,
            purposes=made.purposes,
            why=made.why,
            assertions=len(assertions),
            decisions=NEVER,
        )
    )
    if len(assertions):
        columns = {"assertion": assertions.tolist(), "correction": [number] * len(assertions)}
        insert_columns(connection, corrected, {**columns, "terms": terms.tolist()})
    return number


def close_correction(connection: Connection, number: int, decisions: int) -> None:
    """Says up to which decision a correction goes, in the transaction that recorded it."""
    connection.execute(correction.update().where(correction.c.id == number).values(decisions=decisions))


# Every opening of a session asks it; building the question anew takes longer than the answer.
_AFTER = select(correction.c.id).where(correction.c.decisions > bindparam("decisions")).limit(1)


def correction_after(connection: Connection, decisions: int) -> bool:
    """Whether a correction changed answers after the decision that a generation is pinned to."""
    return connection.execute(_AFTER, {"decisions": decisions}).first() is not None


def correct_terms(
    connection: Connection,
    ids: NDArray[np.int64],
    terms: NDArray[np.int64],
    until: int = NEVER,
    *,
    decisions: int = MAX_DECISION,
) -> NDArray[np.int64]:
    """The terms that count for assertions, `terms` itself where nothing was ever corrected.

    Args:
        connection: a snapshot.
        ids: (n,) int64 assertions, ascending.
        terms: (n,) int64, `terms.id` as they were received.
        until: corrections made later do not count.
        decisions: nor do those that go beyond this decision, which a generation pinned to it does not cover.
    """
    if connection.execute(select(correction.c.id).limit(1)).first() is None or not len(ids):
        return terms
    covered = (correction.c.corrected_at <= until) & (correction.c.decisions <= decisions)
    made = connection.execute(select(correction.c.id).where(covered)).scalars()
    if len(ids) <= _FEW:
        found = [
            tuple(row)
            for portion in in_portions(ids.tolist())
            for row in connection.execute(
                select(corrected.c.assertion, corrected.c.correction, corrected.c.terms).where(
                    corrected.c.assertion.in_(portion)
                )
            )
        ]
        assertion, by, new = np.array(found, np.int64).reshape(-1, 3).T
    else:
        columns = integer_columns(connection, corrected, ["assertion", "correction", "terms"])
        assertion, by, new = columns["assertion"], columns["correction"], columns["terms"]
    place = np.minimum(np.searchsorted(ids, assertion), len(ids) - 1)
    counts = (ids[place] == assertion) & np.isin(by, np.array(list(made), np.int64))
    # Of several values for one place NumPy keeps the last one, and the last correction counts.
    order = np.flatnonzero(counts)[np.argsort(by[counts], kind="stable")]
    result = terms.copy()
    result[place[order]] = new[order]
    return result


def find_corrections(
    connection: Connection, assertions: NDArray[np.int64]
) -> list[tuple[int, int, int, str, int]]:
    """What corrections say of a few assertions, in the order in which they were made.

    Returns:
        For each (assertion, correction, terms.id, why, corrected_at).
    """
    columns = (corrected.c.assertion, corrected.c.correction, corrected.c.terms)
    question = (
        select(*columns, correction.c.why, correction.c.corrected_at)
        .join(correction, correction.c.id == corrected.c.correction)
        .order_by(corrected.c.correction, corrected.c.assertion)
    )
    found: list[tuple[int, int, int, str, int]] = []
    for portion in in_portions(assertions.tolist()):
        rows = connection.execute(question.where(corrected.c.assertion.in_(portion)))
        found.extend((row[0], row[1], row[2], row[3], row[4]) for row in rows)
    return found
