"""CSV files as tables: a header line, then rows of cells, all of them text (RFC 4180 with any of , ; tab |).

Arrow parses; this module watches what Arrow does not look at: NUL bytes and UTF-8 in every byte of the
file, and a quote that is never closed, which Arrow would accept and swallow the rest of the file. Empty
lines are no rows. A file cut exactly between two cells' last bytes cannot be told from a whole one.
"""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, Final, Literal, cast

import pyarrow as pa
import pyarrow.csv as pa_csv

from purposematch.protocol.errors import TableError
from purposematch.tables.table import Table

__all__ = ["DELIMITERS", "MAX_LINE_BYTES", "CsvTable"]

MAX_LINE_BYTES: Final = 1 << 20
"""The longest row that is certain to be read; one of twice the length is certain to be refused.

It is also the size of the blocks in which the file is read.
"""

DELIMITERS: Final = ",;\t|"
"""What may stand between cells, most likely first."""

_END_MARK: Final = "\x1e"
"""The content of every cell of a row that is added behind the last one (the ASCII record separator)."""

_UTF16_SAMPLE_BYTES: Final = 4096
_UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_OTHER_FORMATS: Final = {
    b"PAR1": "a Parquet file: name it .parquet",
    b"PK\x03\x04": "an Excel workbook or zip archive: export it as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: export it as CSV in UTF-8",
    b"\x1f\x8b": "compressed with gzip: unpack it, or pipe it in with zcat",
    b"(\xb5/\xfd": "compressed with zstd: unpack it, or pipe it in with zstdcat",
}


class CsvTable(Table):
    """A CSV file."""

    format: ClassVar[Literal["csv", "parquet"]] = "csv"
    delimiter: str

    def __init__(self, path: Path, name: str) -> None:
        """Reads the header line.

        Raises:
            TableError: the file is empty, is no text in UTF-8, or its header line cannot be used.
        """
        try:
            with path.open("rb", buffering=0) as file:
                head = file.read(MAX_LINE_BYTES)
        except OSError as error:
            raise TableError(f"{name}: cannot be read: {error.strerror}") from None
        names, delimiter = _header(head, name)
        super().__init__(path, name, pa.schema([(column, pa.string()) for column in names]), delimiter)

    def _read(self, names: tuple[str, ...]) -> Iterator[tuple[pa.RecordBatch, int]]:
        ragged: list[pa_csv.InvalidRow] = []

        def remember(row: pa_csv.InvalidRow) -> Literal["error"]:
            ragged.append(row)
            return "error"

        rows = 0
        held: pa.RecordBatch | None = None
        end = f"\n{self.delimiter.join(_END_MARK for _ in self.columns)}\n".encode()
        with _CheckedFile(self.path, self.name, end) as file:
            try:
                reader = pa_csv.open_csv(
                    cast(BinaryIO, file),
                    # One thread keeps the row numbers, and leaves the other cores to the group arithmetic.
                    pa_csv.ReadOptions(use_threads=False, block_size=MAX_LINE_BYTES),
                    pa_csv.ParseOptions(
                        delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=remember
                    ),
                    # UTF-8 is checked in every column by _CheckedFile, also in those not asked for.
                    pa_csv.ConvertOptions(
                        check_utf8=False, column_types=self.schema, include_columns=list(names)
                    ),
                )
                # The last row is the one that _CheckedFile added, so one batch is held back.
                for batch in reader:
                    if batch.num_rows:
                        if held is not None:
                            yield held, file.position
                        held = batch
                        rows += batch.num_rows
            except pa.ArrowException:
                if ragged:
                    raise self._ragged(ragged[0]) from None
                raise TableError(
                    f"{self.name}: row {rows + 1} is longer than {MAX_LINE_BYTES:,} bytes; "
                    "look there for a quote that is never closed or a missing line break"
                ) from None
            except OSError as error:
                raise TableError(f"{self.name}: cannot be read: {error.strerror}") from None
        # An open quote would have swallowed the added row.
        if held is None or held.column(0)[-1].as_py() != _END_MARK:
            raise TableError(
                f"{self.name}: a quote is opened and never closed; the file is cut, or a quote is missing"
            )
        if held.num_rows > 1:
            yield held.slice(0, held.num_rows - 1), self.size_bytes

    def _ragged(self, row: pa_csv.InvalidRow) -> TableError:
        # Arrow counts the header line as row 1.
        place = "a row" if row.number is None else f"row {row.number - 1}"
        cells = "1 cell" if row.actual_columns == 1 else f"{row.actual_columns} cells"
        return TableError(
            f"{self.name}: {place} has {cells} where the header has {row.expected_columns}; the file is cut "
            f"there, or a cell with {_shown(self.delimiter)} in it is not quoted"
        )


class _CheckedFile(io.RawIOBase):
    """A file that refuses NUL bytes and bytes that are not UTF-8, and adds `end` behind its last byte."""

    def __init__(self, path: Path, name: str, end: bytes) -> None:
        self._path = path
        self._name = name
        self._end = end
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._file = path.open("rb", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        self.position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        block = self._file.read(size)
        if b"\0" in block:
            raise self._refusal("holds a NUL byte; the file is binary or damaged", block.index(0))
        complete = self.position + len(block) >= self._size
        self._require_utf8(block, complete)
        self.position += len(block)
        # Arrow wants the header's line break in the first block, so what fits is added there and then.
        if complete and len(block) + len(self._end) <= size:
            block, self._end = block + self._end, b""
        return block

    def close(self) -> None:
        self._file.close()
        super().close()

    def _require_utf8(self, block: bytes, complete: bool) -> None:
        pending = len(self._decoder.getstate()[0])
        # Nearly every block is ASCII, which is far cheaper to see than to decode.
        if block.isascii() and not pending:
            return
        try:
            self._decoder.decode(block, final=complete)
        except UnicodeDecodeError as error:
            raise self._refusal("is not UTF-8; save the file as UTF-8", error.start - pending) from None

    def _refusal(self, what: str, offset: int) -> TableError:
        """The error for the byte at `offset` of the current block; names its line as editors count."""
        remaining = self.position + offset
        line = 1
        with self._path.open("rb") as file:
            while remaining > 0 and (block := file.read(min(remaining, MAX_LINE_BYTES))):
                line += block.count(b"\n")
                remaining -= len(block)
        return TableError(f"{self._name}: line {line} {what}")


def _header(head: bytes, name: str) -> tuple[list[str], str]:
    """The column names and the delimiter, from the first bytes of the file."""
    _require_text(head, name)
    text = head.decode("utf-8-sig", "surrogateescape")
    lines = text.lstrip("\r\n")
    if not lines:
        raise TableError(f"{name}: the file is empty; it needs a line with the column names, then rows")
    first_line = re.split("[\r\n]", lines, maxsplit=1)[0]
    if len(head) == MAX_LINE_BYTES and first_line == lines:
        raise TableError(
            f"{name}: the first line is longer than {MAX_LINE_BYTES:,} bytes; it must hold column names"
        )
    unquoted = re.sub('"[^"]*"', "", first_line)
    delimiter = max(DELIMITERS, key=unquoted.count)
    try:
        names = next(csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        raise TableError(f"{name}: the header line cannot be read; check its quotes") from None
    if any("\udc80" <= character <= "\udcff" for column in names for character in column):
        raise TableError(f"{name}: line 1 is not UTF-8; save the file as UTF-8")
    return names, delimiter


def _require_text(head: bytes, name: str) -> None:
    for magic, what in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise TableError(f"{name}: this is {what}")
    sample = head[:_UTF16_SAMPLE_BYTES]
    # In UTF-16 every second byte of Western text is zero.
    half = max(1, len(sample) // 2)
    if head.startswith(_UTF16_MARKS) or any(sample[odd::2].count(0) * 2 > half for odd in (0, 1)):
        raise TableError(f"{name}: the file is in UTF-16; save it as UTF-8 (in Excel: CSV UTF-8)")
    if b"\0" in sample:
        raise TableError(f"{name}: the file holds NUL bytes; it is binary or damaged")


def _shown(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else f'"{delimiter}"'
