"""Assertions and decisions as columns, for the questions that look at all of them or at a few.

Not protected against: rows that were altered in the database.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, Table, func, select

from purposematch.server.registry.bulk import in_portions
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.mentions import identifier_keys, mentioning, subject_keys
from purposematch.server.registry.rows import KEYED_DIGEST
from purposematch.server.registry.schema import decision

__all__ = [
    "NONE",
    "assertion_columns",
    "decision_columns",
    "integer_columns",
    "naming",
    "row_of",
    "spellings",
]

# The published stubs of Arrow's functions know no mixture of arrays and plain values.
pc: Any = pyarrow.compute

NONE: Final = -1
"""In place of a granting assertion where there is none."""

_DECISION: Final = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("subject", pa.string()),
        pa.field("identifier", KEYED_DIGEST),
        pa.field("reason", pa.int64()),
        pa.field("granting", pa.int64()),
        pa.field("policy", pa.int64()),
        pa.field("decided_at", pa.int64()),
        pa.field("assertions", pa.int64()),
    ]
)


def assertion_columns(
    connection: Connection, names: Sequence[str], ids: NDArray[np.int64] | None = None
) -> pa.Table:
    """Columns of assertions, in the order of their ids.

    Args:
        connection: a snapshot.
        names: columns of `chunks.COLUMNS`.
        ids: (n,) int64, which ones, ascending and distinct; None for all.

    Returns:
        `id` and the columns asked for: integers as int64 (`NO_TIME` for no time, 0 for no kind), `subject`
        and `notice` as strings, `identifier` as keyed digests; the last three are null where there is none.

    Raises:
        IntegrityError: an assertion is missing, or a chunk is damaged.
    """
    found, said = load_chunks(connection, ids)
    columns = {name: said[name] for name in names}
    integers = {name: column.cast(pa.int64()) for name, column in columns.items() if _counts(column)}
    return pa.table({"id": pa.array(found), **columns, **integers})


def decision_columns(connection: Connection, identifiers: Collection[bytes] | None = None) -> pa.Table:
    """All columns of decisions in the order of their ids, `granting` being `NONE` where it refuses.

    Args:
        connection: a snapshot.
        identifiers: keyed digests of those wanted; None for all.
    """
    question = select(*(decision.c[name] for name in _DECISION.names))
    if identifiers is None:
        return _decisions(connection, question)
    parts = [
        _decisions(connection, question.where(decision.c.identifier.in_(portion)))
        for portion in in_portions(list(identifiers))
    ]
    return pa.concat_tables([_DECISION.empty_table(), *parts]).sort_by("id")


def naming(
    connection: Connection, subjects: Collection[str], identifiers: Collection[bytes]
) -> NDArray[np.int64]:
    """Ids of the assertions that name a subject, an identifier, or another spelling of one: ascending."""
    people, keyed = pa.array(subjects, pa.string()), pa.array(identifiers, KEYED_DIGEST)
    keys = np.concatenate([subject_keys(people), identifier_keys(keyed)])
    ids, said = load_chunks(connection, mentioning(connection, keys))
    # What was asked for may share its key with something else.
    others = said["others"]
    spelled = pc.list_parent_indices(others).filter(pc.is_in(others.flatten(), keyed))
    named = _flags(pc.is_in(said["subject"], people)) & _flags(said["subject"].is_valid())
    named |= _flags(pc.is_in(said["identifier"], keyed)) & _flags(said["identifier"].is_valid())
    named[spelled.to_numpy()] = True
    found: NDArray[np.int64] = ids[named]
    return found


def row_of(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of `wanted` in `ids`, ascending, which hold all of them: (n,) int64."""
    # A whole table has no gaps, and subtracting is quicker than searching.
    if len(ids) and ids[-1] - ids[0] == len(ids) - 1:
        return wanted - int(ids[0])
    return np.searchsorted(ids, wanted)


def spellings(connection: Connection, ids: NDArray[np.int64]) -> list[bytes]:
    """The other spellings of the identifiers of a few assertions, (n,) int64 ids."""
    return sorted(set(load_chunks(connection, ids)[1]["others"].flatten().to_pylist()))


def integer_columns(
    connection: Connection, source: Table, names: Sequence[str]
) -> dict[str, NDArray[np.int64]]:
    """Columns of integers of a whole table without NULLs, (n,) int64 each, row by row in the same order.

    No object is made for a row: the database joins the values of a column into one text, parsed at once.
    """
    joined = connection.execute(select(*(func.group_concat(source.c[name]) for name in names))).one()
    return {name: _parsed(text) for name, text in zip(names, joined, strict=True)}


def _decisions(connection: Connection, question: Select[Any]) -> pa.Table:
    rows = connection.execute(question.order_by(decision.c.id)).cursor.fetchall()
    columns = list(zip(*rows, strict=True)) or [()] * len(_DECISION)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, _DECISION.types, strict=True)]
    table = pa.table(arrays, _DECISION)
    granting = table["granting"].fill_null(NONE)
    return table.set_column(_DECISION.get_field_index("granting"), "granting", granting)


def _counts(column: pa.Array) -> bool:
    return bool(pa.types.is_integer(column.type))


def _flags(answers: pa.BooleanArray) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = answers.to_numpy(zero_copy_only=False).copy()
    return flags


def _parsed(text: str | int | None) -> NDArray[np.int64]:
    return np.fromstring(str(text), np.int64, sep=",") if text is not None else np.zeros(0, np.int64)
