"""Opens a table wherever it comes from: a CSV or Parquet file, standard input, or another pipe.

What comes through a pipe can be read only once, so it is first copied to a private temporary file (mode
0600 in a folder of mode 0700), which is deleted when the table is closed.

Not protected against: a process that is killed leaves that copy behind, in the folder that the
environment variable TMPDIR names.
"""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from purposematch.protocol.errors import TableError
from purposematch.tables.delimited import CsvTable
from purposematch.tables.parquet import PARQUET_MAGIC, ParquetTable
from purposematch.tables.table import Table

__all__ = ["CSV_SUFFIXES", "PARQUET_SUFFIXES", "open_table"]

CSV_SUFFIXES: Final = (".csv", ".tsv", ".txt")
PARQUET_SUFFIXES: Final = (".parquet", ".pq")


@contextmanager
def open_table(path: Path | None, *, stdin: BinaryIO | None = None) -> Iterator[Table]:
    """Opens the table at `path`, or the one on standard input if `path` is None or `-`.

    The format follows the suffix of the file's name: .csv, .tsv, .txt, or .parquet, .pq, in any case.
    Standard input, other pipes and files with another suffix are Parquet if they begin with `PAR1` and
    CSV otherwise.

    Args:
        path: the file.
        stdin: what to read as standard input; the process's own if None.

    Raises:
        TableError: there is no such file, it cannot be read, or its head shows that it is no table.
    """
    if path is None or str(path) == "-":
        with _spooled(stdin or sys.stdin.buffer, "standard input") as copy:
            yield _open_by_content(copy, "standard input")
        return
    name = str(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise TableError(f"{name}: this is a directory; name a file in it")
        if not stat.S_ISREG(mode):
            with path.open("rb") as pipe, _spooled(pipe, name) as copy:
                yield _open_by_content(copy, name)
            return
    except FileNotFoundError:
        raise TableError(f"{name}: there is no such file; check the path") from None
    except OSError as error:
        raise TableError(f"{name}: cannot be read: {error.strerror}") from None
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        yield ParquetTable(path, name)
    elif suffix in CSV_SUFFIXES:
        yield CsvTable(path, name)
    else:
        yield _open_by_content(path, name)


@contextmanager
def _spooled(source: BinaryIO, name: str) -> Iterator[Path]:
    """A private copy of everything that `source` holds."""
    with tempfile.TemporaryDirectory(prefix="purposematch-") as folder:
        copy = Path(folder, "table")
        try:
            with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            raise TableError(
                f"{name}: cannot be copied to {tempfile.gettempdir()}: {error.strerror}; "
                "set TMPDIR to a folder with room for it"
            ) from None
        yield copy


def _open_by_content(path: Path, name: str) -> Table:
    try:
        with path.open("rb") as file:
            magic = file.read(len(PARQUET_MAGIC))
    except OSError as error:
        raise TableError(f"{name}: cannot be read: {error.strerror}") from None
    return ParquetTable(path, name) if magic == PARQUET_MAGIC else CsvTable(path, name)
