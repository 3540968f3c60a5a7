"""Many rows at once: inserting columns, and asking about many values.

One INSERT with some hundred rows costs about half as much a row as one statement for each, and runs
outside the interpreter lock. The SQL is plain; values always travel as parameters.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from sqlalchemy import Connection, Table

__all__ = ["in_portions", "insert_columns"]

_VALUES_A_STATEMENT: Final = 4_096
"""Values in one INSERT: far below 32,766 parameters, the least limit of the drivers."""

_VALUES_A_QUESTION: Final = 4_096
"""Values in one IN (...)."""

_Value = TypeVar("_Value")


def insert_columns(connection: Connection, table: Table, columns: dict[str, Sequence[object]]) -> None:
    """Inserts rows given as columns of equal length, in their order.

    Args:
        connection: a transaction that writes.
        table: where to.
        columns: for each column name its values, as the driver takes them (int, str, bytes, None).
    """
    rows = len(next(iter(columns.values())))
    width = len(columns)
    quote = connection.dialect.identifier_preparer.quote
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    one_row = f"({', '.join([mark] * width)})"
    head = f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, columns))}) VALUES "  # noqa: S608 - names are ours
    at_a_time = _VALUES_A_STATEMENT // width
    start = 0
    while start < rows:
        left = rows - start
        # What does not fill a statement goes in powers of two: the driver keeps statements of every length
        # prepared, and each of them takes much more memory than its rows.
        count = at_a_time if left >= at_a_time else 1 << (left.bit_length() - 1)
        values: list[object] = [None] * (count * width)
        for place, column in enumerate(columns.values()):
            values[place::width] = column[start : start + count]
        connection.exec_driver_sql(head + ", ".join([one_row] * count), tuple(values))
        start += count


def in_portions(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    """`values` in portions that fit into one question."""
    for start in range(0, len(values), _VALUES_A_QUESTION):
        yield values[start : start + _VALUES_A_QUESTION]
