"""What a CSV file and a Parquet file have in common: columns, batches, size and digest.

Not protected against: a file rewritten during a pass in such a way that its size, inode and modification
time stay the same. Any other change between opening and the end of a pass is refused.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar, Final, Literal

import pyarrow as pa

from purposematch.protocol.errors import TableError
from purposematch.tables.ahead import one_ahead

__all__ = ["MAX_BATCH_ROWS", "Table", "require_columns"]

MAX_BATCH_ROWS: Final = 65_536
"""The most rows of one record batch."""

_LISTED_NAMES: Final = 20
"""How many column names an error text lists."""


class Table(ABC):
    """An open table. Its batches may be read several times, always in the same order.

    Attributes:
        format: `csv` or `parquet`.
        path: the file that is read; a private copy if the table came through a pipe.
        name: what to call the table in texts for people.
        delimiter: the character between cells of a CSV file, None for Parquet.
        schema: names and types of the columns; every column of a CSV file is a string.
        size_bytes: the size of the file.
    """

    format: ClassVar[Literal["csv", "parquet"]]

    def __init__(self, path: Path, name: str, schema: pa.Schema, delimiter: str | None) -> None:
        """Takes what the format found in the file's head or foot.

        Raises:
            TableError: a column has no name where others share that, or two have the same name.
        """
        self.path = path
        self.name = name
        self.schema = schema
        self.delimiter = delimiter
        self._state = _file_state(path, name)
        self.size_bytes = self._state[1]
        self._sha256: str | None = None
        _check_names(name, self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in the order of the file."""
        return tuple(self.schema.names)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file's bytes, 64 hexadecimal digits; the file is read for it if no pass did.

        Raises:
            TableError: the file cannot be read or has changed since it was opened.
        """
        if self._sha256 is None:
            try:
                with self.path.open("rb") as file:
                    self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise TableError(f"{self.name}: cannot be read: {error.strerror}") from None
        self._require_unchanged()
        return self._sha256

    def batches(
        self, columns: Sequence[str] | None = None, *, advance: Callable[[int], object] | None = None
    ) -> Generator[pa.RecordBatch, None, None]:
        """Reads the table from its first row, in batches of 1 to `MAX_BATCH_ROWS` rows.

        The whole file is checked, whichever columns are asked for. The next batch is read in another thread
        while one is being used; it ends with the pass, or when the pass is closed.

        Args:
            columns: the columns wanted, in this order; all columns if None.
            advance: called with the number of bytes of the file consumed since the last call; the sum
                of a whole pass is `size_bytes`.

        Raises:
            TableError: at once if a column is missing; while iterating if the file is damaged, is not
                UTF-8, has a row with too few or too many cells, or has changed since it was opened.
        """
        names = self.columns if columns is None else tuple(dict.fromkeys(columns))
        require_columns(self, names)
        return self._pass(names, advance or (lambda consumed: None))

    def _pass(
        self, names: tuple[str, ...], advance: Callable[[int], object]
    ) -> Generator[pa.RecordBatch, None, None]:
        self._require_unchanged()
        reported = 0
        with closing(one_ahead(self._read(names))) as batches:
            for batch, position in batches:
                for start in range(0, batch.num_rows, MAX_BATCH_ROWS):
                    yield batch.slice(start, MAX_BATCH_ROWS)
                advance(position - reported)
                reported = position
        self._require_unchanged()
        advance(self.size_bytes - reported)

    @abstractmethod
    def _read(self, names: tuple[str, ...]) -> Generator[tuple[pa.RecordBatch, int], None, None]:
        """The batches of one pass, each with the position in the file that it reaches, in bytes."""

    def _require_unchanged(self) -> None:
        if _file_state(self.path, self.name) != self._state:
            raise TableError(f"{self.name}: the file has changed since it was opened; start again")


def require_columns(table: Table, names: Sequence[str]) -> None:
    """Checks that `table` has all the columns `names`.

    Raises:
        TableError: some are missing; the text lists what there is.
    """
    missing = [name for name in names if name not in table.columns]
    if missing:
        word = "column" if len(missing) == 1 else "columns"
        raise TableError(f"{table.name}: {word} {_listed(missing)} missing; {_what_there_is(table.columns)}")


def _file_state(path: Path, name: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise TableError(f"{name}: cannot be read: {error.strerror}") from None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _check_names(table_name: str, names: tuple[str, ...]) -> None:
    if not any(name.strip() for name in names):
        raise TableError(f"{table_name}: no column has a name; the first line must hold the column names")
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        if any(_looks_like_data(name) for name in names):
            raise TableError(f"{table_name}: {_what_there_is(names)}")
        word = "the name" if len(repeated) == 1 else "the names"
        raise TableError(
            f"{table_name}: several columns have {word} {_listed(repeated)}; every column needs its own name"
        )


def _what_there_is(names: Sequence[str]) -> str:
    # A file without a header line has identifiers where names should be: they are never repeated.
    if any(_looks_like_data(name) for name in names):
        return "its first line looks like data; put a line with the column names above it"
    return f"the file has {_listed(names)}"


def _looks_like_data(name: str) -> bool:
    return "@" in name or len(name) > 64 or sum(character.isdigit() for character in name) > 5


def _listed(names: Sequence[str]) -> str:
    # A name may hold what a terminal takes for a command.
    shown = ("".join(each if each.isprintable() else "?" for each in name) for name in names[:_LISTED_NAMES])
    text = ", ".join(f'"{name}"' for name in shown)
    return text if len(names) <= _LISTED_NAMES else f"{text} and {len(names) - _LISTED_NAMES} more"
