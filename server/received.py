"""Deliveries as they come over the wire: messages become record batches, within bounds.

Source: proto/purposematch/v1/enrollment.proto. Cells are texts, so nothing is unpacked that could grow, and
nothing of a message is kept once its rows were read.

The digest of a delivery does not depend on how its rows were cut into messages: SHA-256 over a domain string,
the evidence, the region, and for every column its name and the SHA-256 of the lengths and of the bytes of its
cells.

Not protected against: a collector that delivers false statements. That is what the policy's sources and
evidence are for.
"""

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from purposematch.protocol.delivery import (
    COLUMNS,
    DELIVERY_ID_BYTES,
    MAX_CELL_BYTES,
    MAX_DELIVERY_BYTES,
    MAX_DELIVERY_ROWS,
    OPTIONAL_COLUMNS,
)
from purposematch.protocol.errors import DecodeError, LimitError
from purposematch.tables import MAX_BATCH_ROWS
from purposematch.v1 import enrollment_pb2 as pb

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

__all__ = [
    "DeliveryDigest",
    "Received",
    "parse_delivery_id",
    "parse_rows",
]

_DIGEST_DOMAIN: Final = b"purposematch delivery v1\0"


def parse_delivery_id(value: bytes) -> bytes:
    """Checks the id of a delivery.

    Raises:
        DecodeError: it is not 16 bytes long.
    """
    if len(value) != DELIVERY_ID_BYTES:
        raise DecodeError(f"a delivery id is {DELIVERY_ID_BYTES} bytes long, not {len(value)}")
    return value


def parse_rows(message: pb.Rows, known: tuple[str, ...], limit: int = MAX_BATCH_ROWS) -> pa.RecordBatch:
    """Rows as strings without nulls, in the order of `known`, as far as the message has these columns.

    Raises:
        DecodeError: a column is unknown or there twice, the columns are not equally long, or a cell is too
            long or has a NUL character in it.
        LimitError: there are more than `limit` rows.
    """
    columns: dict[str, pa.StringArray] = {}
    for column in message.columns:
        if column.name not in known or column.name in columns:
            raise DecodeError("a delivery has a column that is unknown, or one twice")
        if len(column.cells) > limit:
            raise LimitError(f"a message has more than {limit:,} rows")
        cells = pa.array(list(column.cells), pa.string())
        lengths = pc.binary_length(cells)
        if len(cells) and pc.max(lengths).as_py() > MAX_CELL_BYTES:
            raise DecodeError(f"a cell is longer than {MAX_CELL_BYTES:,} bytes")
        if b"\0" in _content(cells).tobytes():
            raise DecodeError("a cell has a NUL character in it")
        columns[column.name] = cells
    if len({len(cells) for cells in columns.values()}) != 1 or not len(next(iter(columns.values()))):
        raise DecodeError("a message has no rows, or columns of different lengths")
    return pa.record_batch({name: columns[name] for name in known if name in columns})


class DeliveryDigest:
    """The digest of a delivery, over its parts in their order.

    Args:
        about: what is said of the delivery as a whole.
    """

    def __init__(self, *about: bytes) -> None:
        self._about = about
        self._columns: dict[str, tuple[Hash, Hash]] = {}

    def update(self, batch: pa.RecordBatch) -> None:
        """Takes the next rows, strings without nulls."""
        for name in batch.schema.names:
            cells = batch.column(name)
            lengths, content = self._columns.setdefault(name, (sha256(), sha256()))
            lengths.update(pc.binary_length(cells).to_numpy().astype("<u4").tobytes())
            content.update(_content(cells))

    def digest(self) -> bytes:
        """The digest, 32 bytes."""
        whole = sha256(_DIGEST_DOMAIN)
        parts = [*self._about]
        for name, (lengths, content) in sorted(self._columns.items()):
            parts += [name.encode(), lengths.digest(), content.digest()]
        for part in parts:
            whole.update(struct.pack(">Q", len(part)) + part)
        return whole.digest()


def _content(cells: pa.StringArray) -> memoryview:
    _, offsets, data = cells.buffers()
    if data is None:
        return memoryview(b"")
    bounds = np.frombuffer(offsets, np.int32)[[cells.offset, cells.offset + len(cells)]]
    return memoryview(data)[bounds[0] : bounds[1]]


class Received:
    """Counts what arrives of one delivery, and digests it.

    Attributes:
        rows: how many arrived.
    """

    def __init__(self, header: pb.DeliveryHeader) -> None:
        self.rows = 0
        self._bytes = 0
        self._names: list[str] = []
        self._digest = DeliveryDigest(header.batch_evidence, header.region.encode())

    def take(self, message: pb.Rows) -> pa.RecordBatch:
        """The next rows.

        Raises:
            DecodeError: they are malformed, lack a column, or have other columns than those before.
            LimitError: the delivery is too large.
        """
        batch = parse_rows(message, (*COLUMNS, *OPTIONAL_COLUMNS))
        names = batch.schema.names
        if not set(COLUMNS) <= set(names) or (self._names and names != self._names):
            raise DecodeError("a message lacks a column, or has others than the one before")
        self._names = names
        self.rows += len(batch)
        self._bytes += batch.nbytes
        if self.rows > MAX_DELIVERY_ROWS or self._bytes > MAX_DELIVERY_BYTES:
            raise LimitError("a delivery has more rows or bytes than are taken at a time")
        self._digest.update(batch)
        return batch

    def end(self, message: pb.DeliveryEnd) -> None:
        """Checks that everything arrived.

        Raises:
            DecodeError: there were more rows or fewer.
        """
        if message.rows != self.rows:
            raise DecodeError("a delivery has another number of rows than its end says")

    def sha256(self) -> bytes:
        """The digest of what arrived, 32 bytes."""
        return self._digest.digest()
