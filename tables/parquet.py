"""Parquet files as tables. Columns keep their types; `text_column` gives any of them as text.

Not protected against: a crafted file that expands to far more memory than its size. Parquet is read by
the Arrow library, which is made for files of one's own; checksums are verified where the file has them.
"""

from collections.abc import Generator
from pathlib import Path
from typing import ClassVar, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from purposematch.protocol.errors import TableError
from purposematch.tables.table import MAX_BATCH_ROWS, Table

__all__ = ["PARQUET_MAGIC", "ParquetTable"]

PARQUET_MAGIC: Final = b"PAR1"
"""The first and the last bytes of a Parquet file."""

_BUFFER_BYTES: Final = 1 << 20
"""How much of a column is read from the file at a time."""


class ParquetTable(Table):
    """A Parquet file."""

    format: ClassVar[Literal["csv", "parquet"]] = "parquet"

    def __init__(self, path: Path, name: str) -> None:
        """Reads the file's footer.

        Raises:
            TableError: the file is no Parquet, is damaged, or its column names are empty or repeated.
        """
        try:
            with _open(path) as file:
                schema = file.schema_arrow
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            # The last of them is about a column's name.
            raise _damaged(name) from None
        super().__init__(path, name, schema, None)

    def _read(self, names: tuple[str, ...]) -> Generator[tuple[pa.RecordBatch, int], None, None]:
        rows = 0
        try:
            with _open(self.path) as file:
                total = max(1, file.metadata.num_rows)
                for batch in file.iter_batches(MAX_BATCH_ROWS, columns=list(names)):
                    # Parquet readers do not check that strings are UTF-8.
                    batch.validate(full=True)
                    rows += batch.num_rows
                    yield batch.select(list(names)), self.size_bytes * rows // total
        except (pa.ArrowException, OSError):
            raise _damaged(self.name, rows) from None


def _open(path: Path) -> pq.ParquetFile:
    # Without these settings whole row groups would be held in memory at once.
    return pq.ParquetFile(
        str(path), pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True
    )


def _damaged(name: str, rows: int = 0) -> TableError:
    place = f" after row {rows}" if rows else ""
    return TableError(f"{name}: not a complete Parquet file, or damaged{place}; write or copy it again")
