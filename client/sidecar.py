"""The file beside an output that remembers which tags its matches have: OUTPUT.tags.

With it, an advertiser can take people who left the platform's index out of what it stored, without its list
and without another session. It is an Arrow IPC file, mode 0600, with two columns, an entry for every matched
identifier of every row:

    row   int64                  the row of the output, from 0
    tag   fixed_size_binary[16]  the identifier's tag in the scope of the session

and these metadata: `format` (`purposematch tags v1`), `scope` (canonical JSON: platform, purpose, profile,
epoch), `session` (hexadecimal), `rows` (of the output), `output_sha256`, and `replaces_sha256`, empty unless
the output was rewritten. The sidecar takes its place before its output does, so after a crash between the two
it names the old output as the one that it replaces, and the rewriting can be done again.

Not protected against: whoever reads it can tell from later generations of the epoch which rows still match.
It belongs to the same care as the output.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from purposematch.client.customer_list import CustomerList
from purposematch.client.session import Outcome
from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.errors import DecodeError, InputError
from purposematch.protocol.group import Bytes
from purposematch.protocol.scope import Scope
from purposematch.protocol.strict_json import canonical_json, decode_json
from purposematch.tables import replaced_file

__all__ = ["Sidecar", "sidecar_path", "staged_sidecar"]

FORMAT: Final = b"purposematch tags v1"

_MAX_SCOPE_BYTES: Final = 4_096
_ENTRIES_AT_A_TIME: Final = 65_536
_COLUMNS: Final = [pa.field("row", pa.int64()), pa.field("tag", pa.binary(TAG_LENGTH))]
_NAMES: Final = (b"format", b"scope", b"session", b"rows", b"output_sha256", b"replaces_sha256")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is known of an output of n rows with k entries.

    Attributes:
        scope: of the session's generation.
        session: the session's id, 32 hexadecimal digits.
        rows: n.
        output: SHA-256 of the output, 64 hexadecimal digits.
        replaces: that of the output which was rewritten into it; empty if none was.
        row: `(k,)` int64, from 0 to n - 1.
        tags: `(k, 16)` uint8.
    """

    scope: Scope
    session: str
    rows: int
    output: str
    replaces: str
    row: NDArray[np.int64] = field(repr=False)
    tags: Bytes = field(repr=False)

    @classmethod
    def of(cls, customers: CustomerList, outcome: Outcome, output: bytes) -> Self:
        """That of a new output.

        Args:
            customers: the list.
            outcome: of its session.
            output: SHA-256 of the output, 32 bytes.
        """
        # One place more, so that -1, no identifier, leads to no match. What is as long as the list has five
        # bytes an identifier.
        found = np.append(outcome.found, False)
        match_of = np.empty(len(found), np.int32)
        match_of[outcome.numbers] = np.arange(len(outcome.numbers), dtype=np.int32)
        rows, matches = [], []
        for numbers in customers.numbers:
            row = np.flatnonzero(found[numbers])
            rows.append(row)
            matches.append(match_of[numbers[row]])
        return cls(
            scope=outcome.scope,
            session=outcome.session.hex(),
            rows=customers.rows,
            output=output.hex(),
            replaces="",
            row=np.concatenate(rows),
            tags=outcome.tags.take(np.concatenate(matches), axis=0),
        )

    def write(self, file: IO[bytes]) -> None:
        """Writes it from where `file` is.

        Raises:
            OSError: the disk is full.
        """
        values = (
            *(FORMAT, canonical_json(self.scope.to_mapping()), self.session.encode()),
            *(str(self.rows).encode(), self.output.encode(), self.replaces.encode()),
        )
        schema = pa.schema(_COLUMNS, metadata=dict(zip(_NAMES, values, strict=True)))
        with pa.ipc.new_file(file, schema) as writer:
            for start in range(0, len(self.row), _ENTRIES_AT_A_TIME):
                part = slice(start, start + _ENTRIES_AT_A_TIME)
                content = pa.py_buffer(np.ascontiguousarray(self.tags[part]))
                count = len(self.row[part])
                tags = pa.FixedSizeBinaryArray.from_buffers(pa.binary(TAG_LENGTH), count, [None, content])
                writer.write_batch(pa.record_batch([pa.array(self.row[part]), tags], schema=schema))

    @classmethod
    def load(cls, output: Path) -> Self:
        """That of an output that is there.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = sidecar_path(output)
        again = f"match the list again to have one for {output.name}"
        try:
            with path.open("rb") as file:
                table = pa.ipc.open_file(file).read_all()
            table.validate(full=True)
        except FileNotFoundError:
            raise InputError(f"{output}: there is no {path.name} beside it; {again}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}; {again}") from None
        except pa.ArrowException:
            raise InputError(f"{path}: the file is damaged; {again}") from None
        try:
            return cls._parsed(table)
        except (DecodeError, ValueError, KeyError):
            raise InputError(f"{path}: this is no file of tags; {again}") from None

    @classmethod
    def _parsed(cls, table: Any) -> Self:
        metadata = table.schema.metadata or {}
        rows = int(metadata[b"rows"])
        if metadata[b"format"] != FORMAT or not table.schema.equals(pa.schema(_COLUMNS)):
            raise ValueError
        if table["row"].null_count or table["tag"].null_count:
            raise ValueError
        row = table["row"].to_numpy()
        if len(row) and not (row.min() >= 0 and row.max() < rows):
            raise ValueError
        scope = decode_json(metadata[b"scope"], "scope", _MAX_SCOPE_BYTES)
        return cls(
            scope=Scope.from_mapping(scope),
            session=metadata[b"session"].decode("ascii"),
            rows=rows,
            output=metadata[b"output_sha256"].decode("ascii"),
            replaces=metadata[b"replaces_sha256"].decode("ascii"),
            row=row,
            tags=_rows_of(table["tag"].combine_chunks()),
        )


def _rows_of(tags: Any) -> Bytes:
    if isinstance(tags, pa.ChunkedArray):
        tags = pa.concat_arrays(tags.chunks) if tags.num_chunks else pa.array([], tags.type)
    if not len(tags):
        return np.empty((0, TAG_LENGTH), np.uint8)
    rows = np.frombuffer(tags.buffers()[1], np.uint8).reshape(-1, TAG_LENGTH)
    return rows[tags.offset : tags.offset + len(tags)]


def sidecar_path(output: Path) -> Path:
    """Where the sidecar of an output is: beside the file itself, not beside a link to it."""
    target = output.resolve()
    return target.with_name(f"{target.name}.tags")


@contextmanager
def staged_sidecar(output: Path) -> Iterator[Callable[[Sidecar], None]]:
    """Gives a function that writes the sidecar aside; it takes its place when the block ends well.

    Raises:
        TableError: it cannot be written.
    """
    path = sidecar_path(output)
    with replaced_file(path, follow=False) as (_, file):

        def store(sidecar: Sidecar) -> None:
            sidecar.write(file)
            file.flush()

        yield store
