"""Assertions and decisions as columns, for the questions that look at all of them or at a few.

No object is made for a row: the database joins the values of a column into one text, which is parsed at
once. Text and bytes travel as hexadecimal digits beside their lengths, so that any character may be in them.

Not protected against: rows that were altered in the database.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, LargeBinary, Table, case, cast, func, select, union

from purposematch.protocol.assertions import NO_TIME
from purposematch.server.registry.bulk import in_portions
from purposematch.server.registry.rows import KEYED_DIGEST
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES, assertion, decision, spelling

__all__ = [
    "NONE",
    "assertion_columns",
    "decision_columns",
    "integer_columns",
    "naming",
    "row_of",
    "spellings",
]

NONE: Final = -1
"""In place of a granting assertion where there is none."""

_ROWS_AT_A_TIME: Final = 65_536

_EMPTY: Final = {"kind": 0, "not_before": NO_TIME, "expires_at": NO_TIME, "granting": NONE}
"""What stands for NULL in a column of integers."""

_TEXTS: Final = ("subject", "notice")
_DECISION_COLUMNS: Final = (
    *("id", "subject", "identifier", "reason", "granting", "policy", "decided_at", "assertions"),
)


def assertion_columns(
    connection: Connection, names: Sequence[str], ids: NDArray[np.int64] | None = None
) -> pa.Table:
    """Columns of assertions, in the order of their ids.

    Args:
        connection: a snapshot.
        names: columns of `schema.assertion`.
        ids: (n,) int64, which ones, ascending and distinct; None for all.

    Returns:
        `id` and the columns asked for: integers as int64 (`NO_TIME` for no time, 0 for no kind), `subject`
        and `notice` as strings, `identifier` as keyed digests; the last three are null where there is none.
    """
    names = list(dict.fromkeys(["id", *names]))
    if ids is None:
        return _whole(connection, assertion, names)
    parts = [
        _rows(connection, assertion, names, assertion.c.id.in_(portion))
        for portion in in_portions(ids.tolist())
    ]
    return pa.concat_tables([_rows(connection, assertion, names, None), *parts])


def decision_columns(connection: Connection, identifiers: Collection[bytes] | None = None) -> pa.Table:
    """All columns of decisions in the order of their ids, `granting` being `NONE` where it refuses.

    Args:
        connection: a snapshot.
        identifiers: keyed digests of those wanted; None for all.
    """
    if identifiers is None:
        return _whole(connection, decision, _DECISION_COLUMNS)
    parts = [
        _rows(connection, decision, _DECISION_COLUMNS, decision.c.identifier.in_(portion))
        for portion in in_portions(list(identifiers))
    ]
    found = pa.concat_tables([_rows(connection, decision, _DECISION_COLUMNS, None), *parts])
    return found.sort_by("id")


def naming(
    connection: Connection, subjects: Collection[str], identifiers: Collection[bytes]
) -> NDArray[np.int64]:
    """Ids of the assertions that name a subject, an identifier, or another spelling of one: ascending."""
    found: set[int] = set()
    for people in in_portions(list(subjects)):
        found.update(
            connection.execute(select(assertion.c.id).where(assertion.c.subject.in_(people))).scalars()
        )
    for keys in in_portions(list(identifiers)):
        named = select(assertion.c.id).where(assertion.c.identifier.in_(keys))
        spelled = select(spelling.c.assertion).where(spelling.c.other.in_(keys))
        found.update(connection.execute(union(named, spelled)).scalars())
    return np.array(sorted(found), np.int64)


def row_of(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of `wanted` in `ids`, ascending, which hold all of them: (n,) int64."""
    # A whole table has no gaps, and subtracting is quicker than searching.
    if len(ids) and ids[-1] - ids[0] == len(ids) - 1:
        return wanted - int(ids[0])
    return np.searchsorted(ids, wanted)


def spellings(connection: Connection, ids: NDArray[np.int64]) -> list[bytes]:
    """The other spellings of the identifiers of a few assertions, (n,) int64 ids."""
    found: set[bytes] = set()
    for portion in in_portions(ids.tolist()):
        found.update(
            connection.execute(select(spelling.c.other).where(spelling.c.assertion.in_(portion))).scalars()
        )
    return sorted(found)


def integer_columns(
    connection: Connection, source: Table, names: Sequence[str]
) -> dict[str, NDArray[np.int64]]:
    """Columns of integers of a whole table without NULLs, (n,) int64 each, row by row in the same order."""
    joined = connection.execute(select(*(func.group_concat(source.c[name]) for name in names))).one()
    return {name: _parsed(text) for name, text in zip(names, joined, strict=True)}


def _whole(connection: Connection, source: Table, names: Sequence[str]) -> pa.Table:
    parts = [_rows(connection, source, names, None)]
    parts += [_joined(connection, source, names, low) for low in _portions(connection, source)]
    return pa.concat_tables(parts)


def _portions(connection: Connection, source: Table) -> Iterator[int]:
    highest = connection.scalar(select(func.max(source.c.id))) or 0
    yield from range(1, highest + 1, _ROWS_AT_A_TIME)


def _joined(connection: Connection, source: Table, names: Sequence[str], low: int) -> pa.Table:
    """The rows with ids from `low` on, `_ROWS_AT_A_TIME` of them; `names` begin with `id`."""
    question: list[ColumnElement[Any]] = []
    for name in names:
        column = source.c[name]
        if name in _TEXTS or name == "identifier":
            length = func.length(column if name == "identifier" else cast(column, LargeBinary))
            question += [
                func.group_concat(func.coalesce(length, -1)),
                func.group_concat(func.hex(column), ""),
            ]
        elif name in _EMPTY:
            # Joining leaves NULLs out, and nearly all of these are.
            question += [
                func.group_concat(case((column.is_not(None), source.c.id))),
                func.group_concat(column),
            ]
        else:
            question.append(func.group_concat(column))
    within = source.c.id.between(low, low + _ROWS_AT_A_TIME - 1)
    # A range of the primary key is read in its order, and the values are joined in the order of reading.
    values = iter(connection.execute(select(*question).where(within)).one())
    columns: dict[str, Any] = {}
    for name in names:
        integers = _parsed(next(values))
        if name in _TEXTS:
            columns[name] = _texts(integers, next(values))
        elif name == "identifier":
            columns[name] = _identifiers(integers, next(values))
        elif name in _EMPTY:
            given = np.full(len(columns["id"]), _EMPTY[name])
            given[np.searchsorted(columns["id"].to_numpy(), integers)] = _parsed(next(values))
            columns[name] = pa.array(given)
        else:
            columns[name] = pa.array(integers)
    return pa.table(columns)


def _rows(
    connection: Connection, source: Table, names: Sequence[str], where: ColumnElement[bool] | None
) -> pa.Table:
    """The rows that satisfy `where`, none if it is None."""
    found: list[Any] = []
    if where is not None:
        question = select(*(source.c[name] for name in names)).where(where).order_by(source.c.id)
        found = list(zip(*connection.execute(question), strict=True))
    values = found or [()] * len(names)
    columns = {}
    for name, column in zip(names, values, strict=True):
        if name in _TEXTS:
            columns[name] = pa.array(column, pa.string())
        elif name == "identifier":
            columns[name] = pa.array(column, KEYED_DIGEST)
        else:
            columns[name] = pa.array(column, pa.int64()).fill_null(_EMPTY.get(name, 0))
    return pa.table(columns)


def _parsed(text: str | int | None) -> NDArray[np.int64]:
    return np.fromstring(str(text), np.int64, sep=",") if text is not None else np.zeros(0, np.int64)


def _texts(lengths: NDArray[np.int64], digits: str | None) -> pa.StringArray:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(np.maximum(lengths, 0), out=offsets[1:])
    validity = pa.array(lengths >= 0).buffers()[1]
    content = pa.py_buffer(bytes.fromhex(digits or ""))
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), content, validity)


def _identifiers(lengths: NDArray[np.int64], digits: str | None) -> pa.FixedSizeBinaryArray:
    given = lengths >= 0
    content = np.zeros((len(lengths), KEYED_DIGEST_BYTES), np.uint8)
    content[given] = np.frombuffer(bytes.fromhex(digits or ""), np.uint8).reshape(-1, KEYED_DIGEST_BYTES)
    validity = pa.array(given).buffers()[1]
    return pa.FixedSizeBinaryArray.from_buffers(KEYED_DIGEST, len(lengths), [validity, pa.py_buffer(content)])
