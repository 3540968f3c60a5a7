"""The result, row by row: the list's own columns and what became of every row, in the list's order.

`matched` is true, false, or empty where the row could not be used; then `reason` says why. The rows come
from a second pass over the list, so nothing of them is kept in between.

Not protected against: the file tells who matched, and is readable by its owner only (mode 0600). What is
in it belongs to the same care as the list itself.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from purposematch.client.customer_list import CustomerList
from purposematch.client.progress import Advance
from purposematch.protocol.errors import InputError
from purposematch.protocol.identifiers import IdentifierReason
from purposematch.tables import Table, TableWriter, create_table

__all__ = ["create_output", "write_rows"]

MATCHED_COLUMN: Final = "matched"
REASON_COLUMN: Final = "reason"

_LABELS: Final = pa.array(
    [
        IdentifierReason(code).label if code and code in set(IdentifierReason) else ""
        for code in range(max(IdentifierReason) + 1)
    ],
    pa.string(),
)


@contextmanager
def create_output(path: Path, table: Table) -> Iterator[TableWriter]:
    """Creates the output for a list; the file appears when the block ends without an error.

    Args:
        path: CSV or Parquet by its name.
        table: the list.

    Raises:
        InputError: the list has a column `matched` or `reason` of its own.
        TableError: the file cannot be written there, or is the list itself.
    """
    for name in (MATCHED_COLUMN, REASON_COLUMN):
        if name in table.columns:
            raise InputError(f'{table.name}: the output adds a column "{name}"; rename the one in the list')
    schema = table.schema.append(pa.field(MATCHED_COLUMN, pa.bool_()))
    with create_table(path, schema.append(pa.field(REASON_COLUMN, pa.string())), like=table) as writer:
        yield writer


def write_rows(
    writer: TableWriter,
    table: Table,
    customers: CustomerList,
    matched: NDArray[np.bool_],
    advance: Advance,
) -> None:
    """Writes every row of the list with its result.

    Args:
        writer: from `create_output`.
        table: the list.
        customers: what was read from it.
        matched: `(n,)` bool, by row.
        advance: called with the bytes of the list that were read since its last call.

    Raises:
        TableError: the list cannot be read or the output cannot be written.
    """
    start = 0
    with closing(table.batches(advance=advance)) as batches:
        for batch in batches:
            rows = slice(start, start + batch.num_rows)
            start += batch.num_rows
            reasons = customers.reasons[rows]
            columns: list[Any] = [
                *batch.columns,
                pa.array(matched[rows], mask=reasons != IdentifierReason.USABLE),
                _LABELS.take(pa.array(reasons)),
            ]
            writer.write(pa.record_batch(columns, names=writer.schema.names))
