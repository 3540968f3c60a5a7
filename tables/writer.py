"""Writes tables so that the target is either complete or untouched.

Rows go to a temporary file beside the target (mode 0600), which is flushed to disk and renamed over the
target when everything is written; after an error or an interrupt nothing is left behind.

Not protected against: a process that is killed leaves the temporary file (`.purposematch-*`). A CSV file
keeps every text exactly as it was, so a cell that a spreadsheet would run as a formula stays one.
"""

import hashlib
import io
import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from purposematch.protocol.errors import TableError
from purposematch.tables.delimited import DELIMITERS
from purposematch.tables.opening import CSV_SUFFIXES, PARQUET_SUFFIXES
from purposematch.tables.table import MAX_BATCH_ROWS, Table
from purposematch.tables.text import has_text, text_column

__all__ = ["TableWriter", "create_table", "replaced_file"]

# The published stubs of Arrow's functions know no mixture of arrays and plain values.
pc: Any = pyarrow.compute

_ROW_GROUP_ROWS: Final = 131_072
"""Rows are gathered up to this number before a Parquet row group is written."""

# A cell with any character that a reader may take for the delimiter is quoted, whichever is used.
_SIGNS: Final = '"\r\n' + DELIMITERS
_SPECIAL: Final = f"[{re.escape(_SIGNS)}]"

_NOTHING: Final = pa.scalar("", pa.large_string())


class TableWriter(ABC):
    """A table being written; made by `create_table`.

    Attributes:
        schema: the names and types of its columns.
        aside: the temporary file, which takes the place of the target when the block ends.
    """

    def __init__(self, schema: pa.Schema, aside: Path, name: str) -> None:
        """Takes the columns, where they go, and what to call the table in error texts."""
        self.schema = schema
        self.aside = aside
        self._name = name
        self._finished = False

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds the rows of `batch`, whose columns must have the names of the table's, in order.

        Raises:
            TableError: the columns differ, a value does not fit its column, or the disk is full.
        """
        if batch.schema.names != self.schema.names:
            raise TableError(f"{self._name}: the columns of a batch are not those of the table")
        with _writing(self._name):
            self._write(batch)

    def finish(self) -> bytes:
        """Completes the temporary file ahead of the end of the block: its SHA-256, 32 bytes.

        No row may be written afterwards.

        Raises:
            TableError: a value does not fit its column, or the disk is full.
        """
        with _writing(self._name):
            if not self._finished:
                self._finished = True
                self._close()
            return self._sha256()

    @abstractmethod
    def _write(self, batch: pa.RecordBatch) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _sha256(self) -> bytes: ...


@contextmanager
def create_table(
    path: Path,
    columns: pa.Schema | Sequence[str],
    *,
    like: Table | None = None,
    delimiter: str | None = None,
) -> Iterator[TableWriter]:
    """Writes a new table to `path`, or replaces the file there once all rows are written.

    Args:
        path: the target; CSV or Parquet by its suffix.
        columns: names and types, or names only for columns of strings.
        like: the table whose delimiter a CSV file takes over; a .tsv file always has tabs.
        delimiter: of a CSV file, where there is no `like`; a comma if None.

    Raises:
        TableError: the suffix is unknown, the target is no plain file or is the file of `like`, a column
            has a type that a CSV cell cannot hold, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in CSV_SUFFIXES + PARQUET_SUFFIXES:
        known = ", ".join(CSV_SUFFIXES + PARQUET_SUFFIXES)
        raise TableError(f"{path}: the name of the file must end with one of {known}")
    schema = (
        columns if isinstance(columns, pa.Schema) else pa.schema([(name, pa.string()) for name in columns])
    )
    with replaced_file(path, like) as (temporary, file):
        writer: TableWriter
        with _writing(str(path)):
            if suffix in PARQUET_SUFFIXES:
                writer = _ParquetWriter(temporary, schema, str(path))
            else:
                delimiter = "\t" if suffix == ".tsv" else (like and like.delimiter) or delimiter or ","
                writer = _CsvWriter(file, schema, temporary, str(path), delimiter)
        try:
            yield writer
        except BaseException:
            # What went wrong first is what the caller must hear of.
            with suppress(Exception):
                writer._close()
            raise
        if not writer._finished:
            with _writing(str(path)):
                writer._close()


class _CsvWriter(TableWriter):
    def __init__(self, file: io.FileIO, schema: pa.Schema, aside: Path, name: str, delimiter: str) -> None:
        super().__init__(schema, aside, name)
        for field in schema:
            if not has_text(field.type):
                raise TableError(
                    f'{name}: column "{field.name}" holds values of type {field.type}, which CSV cannot; '
                    "write a .parquet file instead"
                )
        self._delimiter = delimiter
        self._options = pa_csv.WriteOptions(
            include_header=False, delimiter=delimiter, quoting_style="none", batch_size=MAX_BATCH_ROWS
        )
        self._file = file
        self._hash = hashlib.sha256()
        header = pa.table({str(number): [column] for number, column in enumerate(schema.names)})
        self._write(header.to_batches()[0])

    def _write(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        cells = [text_column(batch, name).cast(pa.large_string()) for name in batch.schema.names]
        quoted = [_quoted(column, alone=len(cells) == 1) for column in cells]
        unchanged = all(after is before for after, before in zip(quoted, cells, strict=True))
        lines = self._plain(cells) if unchanged else self._joined(quoted)
        self._hash.update(lines)
        _write_all(self._file, lines)

    def _close(self) -> None:
        """Every line is in the file already, which its owner closes."""

    def _sha256(self) -> bytes:
        return self._hash.digest()

    def _plain(self, cells: list[Any]) -> memoryview:
        """The lines of cells none of which has quotes; Arrow puts them around all cells or around none."""
        lines = pa.BufferOutputStream()
        names = [str(number) for number in range(len(cells))]
        pa_csv.write_csv(pa.record_batch(cells, names=names), lines, self._options)
        return memoryview(lines.getvalue())

    def _joined(self, cells: list[Any]) -> memoryview:
        """The lines of any cells, several times slower."""
        lines = pc.binary_join_element_wise(*cells, pa.scalar(self._delimiter, pa.large_string()))
        # Joining each line with nothing by a line break puts the break at its end.
        ended = pc.binary_join_element_wise(lines, _NOTHING, pa.scalar("\n", pa.large_string()))
        _, offsets, data = ended.buffers()
        start, stop = np.frombuffer(offsets, np.int64)[[ended.offset, ended.offset + len(ended)]]
        return memoryview(data)[start:stop]


class _ParquetWriter(TableWriter):
    def __init__(self, aside: Path, schema: pa.Schema, name: str) -> None:
        super().__init__(schema, aside, name)
        self._writer = pq.ParquetWriter(str(aside), schema, compression="zstd", write_page_checksum=True)
        self._gathered: list[pa.RecordBatch] = []

    def _write(self, batch: pa.RecordBatch) -> None:
        # Casting brings the metadata of the schema with it and checks the types.
        self._gathered.append(batch.cast(self.schema))
        if sum(map(len, self._gathered)) >= _ROW_GROUP_ROWS:
            self._write_row_group()

    def _write_row_group(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._gathered, self.schema))
        self._gathered = []

    def _close(self) -> None:
        try:
            if self._gathered:
                self._write_row_group()
        finally:
            self._writer.close()

    def _sha256(self) -> bytes:
        # Arrow writes the file itself, and begins before its end is known.
        with self.aside.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()


def _quoted(text: Any, *, alone: bool) -> Any:
    """A column with quotes around the cells that would otherwise be read as something else.

    Args:
        text: the column; where no cell needs quotes, it is what comes back.
        alone: whether it is the only one, so that an empty cell would make an empty line, which is no row.
    """
    if _has_sign(text):
        special = pc.match_substring_regex(text, _SPECIAL)
        doubled = pc.replace_substring(text, pattern='"', replacement='""')
        text = pc.if_else(special, _in_quotes(doubled), text)
    if alone and pc.any(pc.equal(text, _NOTHING)).as_py():
        text = pc.if_else(pc.equal(text, _NOTHING), '""', text)
    return text


def _has_sign(text: Any) -> bool:
    """Whether a column has any of `_SIGNS`; looking for each of them is quicker than a regular expression."""
    content = text.buffers()[2]
    data = b"" if content is None else content.to_pybytes()
    return any(sign in data for sign in map(str.encode, _SIGNS))


def _in_quotes(text: Any) -> Any:
    quote = pa.scalar('"', pa.large_string())
    return pc.binary_join_element_wise(quote, text, quote, _NOTHING)


def _write_all(file: io.FileIO, data: memoryview) -> None:
    while len(data):
        data = data[file.write(data) :]


@contextmanager
def replaced_file(
    path: Path, like: Table | None = None, *, follow: bool = True
) -> Iterator[tuple[Path, io.FileIO]]:
    """A temporary file (mode 0600) and its path; it takes the place of `path` when the block ends well.

    Args:
        path: the target.
        like: a table whose file must not be the target.
        follow: whether the file behind a symbolic link is replaced, and not the link. Nobody who runs a
            command links a file that it does not name.

    Raises:
        TableError: the target is no plain file or is the file of `like`, or the file cannot be written.
    """
    try:
        target = path.resolve() if follow else path.parent.resolve() / path.name
        if target.exists() and not target.is_symlink():
            if not target.is_file():
                raise TableError(f"{path}: this is no plain file; name another output")
            if like is not None and target.samefile(like.path):
                raise TableError(f"{path}: this is also the input; name another output")
        descriptor, temporary_name = tempfile.mkstemp(prefix=".purposematch-", dir=target.parent)
    except OSError as error:
        raise TableError(f"{path}: cannot be written: {error.strerror}") from None
    temporary = Path(temporary_name)
    file = io.FileIO(descriptor, "wb")
    try:
        yield temporary, file
        with _writing(str(path)):
            os.fsync(file.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        file.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _writing(name: str) -> Iterator[None]:
    """Turns what the file system and Arrow report while writing into a `TableError`."""
    try:
        yield
    except OSError as error:
        # Arrow puts a text of its own into strerror.
        reason = os.strerror(error.errno) if error.errno else "the file system failed"
        raise TableError(f"{name}: cannot be written: {reason}") from None
    except pa.ArrowException:
        raise TableError(f"{name}: a value does not fit the type of its column") from None
