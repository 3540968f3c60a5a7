"""The audit's check before all others: every value is of its column's type, and every byte string as long.

SQLite stores any value in any column. What comes later may therefore rely on types, and a row in which they
are wrong is named here instead of failing somewhere else. Databases with strict types need no such look.

Not protected against: values of the right type. The rest of the audit is about these.
"""

from functools import cache
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    Select,
    Table,
    Text,
    cast,
    func,
    or_,
    select,
)

from purposematch.protocol.errors import IntegrityError
from purposematch.server.registry.schema import metadata

__all__ = ["audit_table_types", "audit_types"]

_PRINTABLE: Final = "*[^ -~]*"
"""Matches, as a GLOB, texts with anything but printable ASCII."""


def audit_types(connection: Connection) -> None:
    """Checks every value of every table.

    Raises:
        IntegrityError: one is of another type or length than its column; the text names its row.
    """
    if connection.dialect.name != "sqlite":
        return
    for table in metadata.sorted_tables:
        audit_table_types(connection, table)


def audit_table_types(connection: Connection, table: Table) -> None:
    """Checks every value of one table of an SQLite database.

    Raises:
        IntegrityError: as `audit_types`.
    """
    wrong, texts = _questions(table)
    row = connection.execute(wrong).first()
    if row is not None:
        _refuse(table, row, "has a value of a wrong type")
    for unusual in texts:
        for *name, text in connection.execute(unusual):
            try:
                text.decode()
            except UnicodeDecodeError:
                _refuse(table, name, "has a text that is not UTF-8")


# To write them takes longer than a small database takes to answer.
@cache
def _questions(table: Table) -> tuple[Select[Any], list[Select[Any]]]:
    """What names a row with a value of a wrong type, and for each column of texts, those to look at."""
    wrong = or_(*(_wrong(column) for column in table.columns))
    texts = [_unusual(column) for column in table.columns if isinstance(column.type, Text)]
    return select(*_names(table)).where(wrong).limit(1), texts


def _wrong(column: Column[Any]) -> ColumnElement[bool]:
    kinds = {Integer: "integer", Text: "text", LargeBinary: "blob"}
    (expected,) = (name for kind, name in kinds.items() if isinstance(column.type, kind))
    kind = func.typeof(column)
    wrong = kind != expected
    if isinstance(column.type, LargeBinary) and column.type.length is not None:
        wrong |= func.length(column) != column.type.length
    return wrong & (kind != "null") if column.nullable else wrong


def _unusual(column: Column[Any]) -> Select[Any]:
    """Texts that may be no UTF-8, of which the database knows nothing: all but those of ASCII alone."""
    content = cast(column, LargeBinary)
    # The length in characters ends at a zero byte, which no GLOB sees beyond.
    unusual = column.bool_op("GLOB")(_PRINTABLE) | (func.length(column) != func.length(content))
    return select(*_names(column.table), content).where(unusual)


def _names(table: Any) -> list[ColumnElement[Any]]:
    """What names a row: its key, as bytes, since a value of a wrong type cannot be read as its column."""
    return [cast(key, LargeBinary) for key in table.primary_key]


def _refuse(table: Any, row: Any, what: str) -> None:
    name = " ".join(bytes(each).decode(errors="replace") if each is not None else "NULL" for each in row)
    raise IntegrityError(f"table {table.name} row {name} {what}")
