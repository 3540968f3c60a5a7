"""Rows as a collecting system sends them, and the people whom a withdrawal names.

Not protected against: columns that hold something else than their names say.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute

from purposematch.protocol.delivery import MAX_CELL_BYTES, NAMING_COLUMNS
from purposematch.protocol.errors import InputError
from purposematch.tables import open_table, text_column

__all__ = ["file_named", "one_named", "texts_of"]

# The functions of this module are made at run time, so mypy finds none of them.
pc: Any = pyarrow.compute


def one_named(subject_id: str | None, identifier: str | None, kind: str | None) -> pa.Table:
    """A table with one row: one subject, or one identifier of a kind, raw or as SHA-256 in hexadecimal.

    Raises:
        InputError: an identifier comes without its kind.
    """
    if identifier is None:
        return pa.table({"subject_id": pa.array([subject_id or ""], pa.string())})
    if kind is None:
        raise InputError("say with --kind what the identifier is: email, phone or maid")
    hashed = len(identifier) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in identifier)
    row = {"kind": kind, "value": identifier, "value_format": "sha256" if hashed else "raw"}
    return pa.table({name: pa.array([text], pa.string()) for name, text in row.items()})


def file_named(file: Path | None, stdin: BinaryIO | None = None) -> pa.Table:
    """A table of the people that a CSV or Parquet file names; other columns are left out.

    Raises:
        TableError: it cannot be read.
        InputError: it names nobody.
    """
    with open_table(file, stdin=stdin) as table:
        names = [name for name in NAMING_COLUMNS if name in table.columns]
        if "subject_id" not in names and not {"kind", "value", "value_format"} <= {*names}:
            raise InputError(
                f"{table.name}: withdrawals need a column subject_id, or kind, value and value_format"
            )
        with closing(table.batches(names)) as batches:
            parts = [texts_of(batch, names) for batch in batches]
    if not parts:
        raise InputError(f"{table.name}: there is nobody in it")
    return pa.Table.from_batches(parts)


def texts_of(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Some columns of a batch as strings without nulls, as they are sent.

    Raises:
        TableError: a column can not be read as text.
        InputError: a cell is longer than any that is sent.
    """
    columns = {name: text_column(batch, name) for name in names}
    for name, column in columns.items():
        if len(column) and pc.max(pc.binary_length(column)).as_py() > MAX_CELL_BYTES:
            raise InputError(f'column "{name}" has a cell of more than {MAX_CELL_BYTES:,} bytes')
    return pa.record_batch(columns)
