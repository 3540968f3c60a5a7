"""CSV files as tables: a header line, then rows of cells, all of them text (RFC 4180 with any of , ; tab |).

Arrow parses blocks that end with a whole row; this module finds those ends and watches what Arrow does
not look at: NUL bytes and UTF-8 in every byte of the file, and a quote that is never closed, with which
Arrow would swallow the rest of the file without a word. Arrow's own streaming reader is not used: it calls
back from threads that outlive it, and a process that ends meanwhile aborts. Empty lines are no rows.

Not detected: a file cut at the end of a row, or within the last cell of one, looks like a whole file.
"""

import codecs
import csv
import hashlib
import io
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import ClassVar, Final, Literal

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

    def _read(self, names: tuple[str, ...]) -> Generator[tuple[pa.RecordBatch, int], None, None]:
        try:
            with self.path.open("rb", buffering=0) as file:
                yield from self._read_blocks(file, names)
        except OSError as error:
            raise TableError(f"{self.name}: cannot be read: {error.strerror}") from None

    def _read_blocks(
        self, file: io.FileIO, names: tuple[str, ...]
    ) -> Generator[tuple[pa.RecordBatch, int], None, None]:
        size = os.fstat(file.fileno()).st_size
        check = _ByteCheck(self.path, self.name)
        digest = hashlib.sha256() if self._sha256 is None else None
        rest, rows, complete = b"", 0, False
        while not complete:
            block = file.read(MAX_LINE_BYTES)
            complete = not block or check.position + len(block) >= size
            check.update(block, complete)
            if digest is not None:
                digest.update(block)
            rest = (rest + block).removeprefix(codecs.BOM_UTF8 if rows == 0 else b"")
            for end in [len(rest)] if complete else _possible_ends(rest):
                batch = self._parse(rest[:end], names, rows)
                if batch is not None:
                    rest = rest[end:]
                    # The first row of all is the header.
                    body = batch.slice(1) if rows == 0 else batch
                    rows += batch.num_rows
                    if body.num_rows:
                        yield body, check.position
                    break
            else:
                if complete:
                    raise TableError(
                        f"{self.name}: a quote is opened and never closed; the file is cut, or a quote "
                        "is missing"
                    )
            if len(rest) > MAX_LINE_BYTES:
                raise TableError(
                    f"{self.name}: row {rows} is longer than {MAX_LINE_BYTES:,} bytes; "
                    "look there for a quote that is never closed or a missing line break"
                )
        if digest is not None:
            self._sha256 = digest.hexdigest()

    def _parse(self, data: bytes, names: tuple[str, ...], rows: int) -> pa.RecordBatch | None:
        """The rows that `data` holds, or None if it ends inside a quoted cell.

        A row of end marks is added behind the data; an open quote swallows it.
        """
        ragged: list[pa_csv.InvalidRow] = []

        def remember(row: pa_csv.InvalidRow) -> Literal["skip"]:
            ragged.append(row)
            return "skip"

        end = self.delimiter.join(_END_MARK for _ in self.columns).encode()
        # Arrow drops a byte order mark in front; one of ours keeps it from a cell that begins with one.
        marked = b"%b%b\n%b\n" % (codecs.BOM_UTF8, data, end)
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(marked),
                # One thread keeps the row numbers, and leaves the other cores to the group arithmetic.
                pa_csv.ReadOptions(
                    use_threads=False, block_size=len(marked) + 1, column_names=list(self.columns)
                ),
                pa_csv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=remember
                ),
                # _ByteCheck has seen to UTF-8, in every column.
                pa_csv.ConvertOptions(
                    check_utf8=False, column_types=self.schema, include_columns=list(names)
                ),
            )
        except pa.ArrowException:
            return None
        if not table.num_rows or table.column(0)[-1].as_py() != _END_MARK:
            return None
        if ragged:
            raise self._ragged(ragged[0], rows)
        return table.slice(0, table.num_rows - 1).combine_chunks().to_batches()[0]

    def _ragged(self, row: pa_csv.InvalidRow, rows: int) -> TableError:
        # The header is row 0, and Arrow counts from 1.
        place = "a row" if row.number is None else f"row {rows + row.number - 1}"
        cells = "1 cell" if row.actual_columns == 1 else f"{row.actual_columns} cells"
        return TableError(
            f"{self.name}: {place} has {cells} where the header has {row.expected_columns}; the file is cut "
            f"there, or a cell with {_shown(self.delimiter)} in it is not quoted"
        )


class _ByteCheck:
    """Refuses NUL bytes and bytes that are not UTF-8. `position` is the number of bytes checked."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.position = 0

    def update(self, block: bytes, complete: bool) -> None:
        """Checks the next block of the file; `complete` says that it is the last one."""
        if b"\0" in block:
            raise self._refusal("holds a NUL byte; the file is binary or damaged", block.index(0))
        pending = len(self._decoder.getstate()[0])
        # Nearly every block is ASCII, which is far cheaper to see than to decode.
        if pending or not block.isascii():
            try:
                self._decoder.decode(block, final=complete)
            except UnicodeDecodeError as error:
                raise self._refusal("is not UTF-8; save the file as UTF-8", error.start - pending) from None
        self.position += len(block)

    def _refusal(self, what: str, offset: int) -> TableError:
        """The error for the byte at `offset` of the current block; names its line as editors count."""
        remaining = self.position + offset
        line = 1
        with self._path.open("rb") as file:
            while remaining > 0 and (block := file.read(min(remaining, MAX_LINE_BYTES))):
                line += block.count(b"\n")
                remaining -= len(block)
        return TableError(f"{self._name}: line {line} {what}")


def _possible_ends(data: bytes) -> Iterator[int]:
    """Where the last whole row of `data`, which begins with a row, may end; the likelier place first.

    A line break between rows has an even number of quotes before it, unless a cell that is not quoted
    holds a quote. So the last line break with an even number is tried, then the last with an odd one.
    """
    line_break = b"\n" if b"\n" in data else b"\r"
    for parity in (0, 1):
        end = data.rfind(line_break) + 1
        quotes = data.count(b'"', 0, end)
        while end and quotes % 2 != parity:
            start = data.rfind(line_break, 0, end - 1) + 1
            quotes -= data.count(b'"', start, end)
            end = start
        if end:
            yield end


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
