"""Erasures: which rows were erased, and the suppression list that is left of them.

Not protected against: copies of the database that were made before an erasure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, func, select

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.tree import HASH_LENGTH
from purposematch.server.registry.bulk import insert_columns
from purposematch.server.registry.schema import delivery, erased_assertion, erasure

__all__ = [
    "Erasure",
    "Suppressing",
    "add_erased",
    "erased_among",
    "erased_commitments",
    "next_erasure",
    "suppressing",
]


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure.

    Attributes:
        id: counted from 1.
        erased_at: microseconds since 1970-01-01 UTC.
        leaf: the position of its event in the log.
    """

    id: int
    erased_at: int
    leaf: int


@dataclass(frozen=True, slots=True)
class Suppressing:
    """The entries of the suppression list that one erasure left: assertions of a delivery of its own."""

    erasure: Erasure
    assertions: range


def next_erasure(connection: Connection) -> int:
    """The id that the next erasure gets."""
    return (connection.scalar(select(func.max(erasure.c.id))) or 0) + 1


def add_erased(
    connection: Connection, table: Table, number: int, rows: NDArray[np.int64], commitments: NDArray[np.uint8]
) -> None:
    """Keeps the commitments of rows that are being erased.

    Args:
        connection: a transaction that writes.
        table: `erased_assertion` or `erased_decision`.
        number: the erasure's id.
        rows: (n,) int64, different ids.
        commitments: (n, 32) uint8, those of these rows, in their order.
    """
    if len(rows):
        key = next(iter(table.primary_key)).name
        columns = {key: rows.tolist(), "erasure": [number] * len(rows)}
        insert_columns(connection, table, {**columns, "commitment": [row.tobytes() for row in commitments]})


def erased_commitments(
    connection: Connection, table: Table, first: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The erased ones of the rows `first` .. `first + count - 1`.

    Args:
        connection: a snapshot.
        table: `erased_assertion` or `erased_decision`.
        first: an id.
        count: how many rows.

    Returns:
        (m,) int64 positions, counted from `first`, ascending; and (m, 32) uint8, their commitments.

    Raises:
        IntegrityError: a commitment has a wrong length.
    """
    key = next(iter(table.primary_key))
    between = (key >= first) & (key < first + count)
    rows = connection.execute(select(key, table.c.commitment).where(between).order_by(key)).all()
    if any(len(commitment) != HASH_LENGTH for _, commitment in rows):
        raise IntegrityError(f"table {table.name}: a commitment has a wrong length")
    places = np.array([number for number, _ in rows], np.int64) - first
    joined = b"".join(commitment for _, commitment in rows)
    return places, np.frombuffer(joined, np.uint8).reshape(-1, HASH_LENGTH)


def erased_among(connection: Connection, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of n assertions, ascending ids, were erased: (n,) bool."""
    if not len(ids):
        return np.zeros(0, np.bool_)
    column = erased_assertion.c.assertion
    between = (column >= int(ids[0])) & (column <= int(ids[-1]))
    erased = connection.execute(select(column).where(between)).scalars().all()
    return np.isin(ids, np.array(erased, np.int64))


def suppressing(connection: Connection, after: int = 0) -> list[Suppressing]:
    """The suppression list, erasure by erasure.

    Args:
        connection: a snapshot.
        after: entries up to this assertion are left out.
    """
    columns = (erasure.c.id, erasure.c.erased_at, erasure.c.leaf)
    question = (
        select(*columns, delivery.c.first_assertion, delivery.c.assertions)
        .join(delivery, delivery.c.id == erasure.c.objections)
        .where(delivery.c.first_assertion > after)
        .order_by(erasure.c.id)
    )
    return [
        Suppressing(Erasure(id_, erased_at, leaf), range(first, first + count))
        for id_, erased_at, leaf, first, count in connection.execute(question)
    ]
