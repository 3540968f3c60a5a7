"""Assertions as the registry knows them, in columns: freshly read from a file, or loaded.

What the gate sees is made from these by `purposematch.server.registry.gate_input`.

Not protected against: nothing here is checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from purposematch.server.registry.schema import KEYED_DIGEST_BYTES

__all__ = ["KEYED_DIGEST", "Rows", "concat_rows", "first_rows", "keyed_array", "keyed_bytes"]

KEYED_DIGEST = pa.binary(KEYED_DIGEST_BYTES)
"""The Arrow type of a column of keyed digests."""


@dataclass(frozen=True, eq=False)
class Rows:
    """n assertions. Times are microseconds since 1970-01-01 UTC, `NO_TIME` where empty.

    Attributes:
        subject: (n,) strings, null where none was given.
        identifier: (n,) keyed digests, null where it could not be read.
        kind: (n,) uint8, a `Kind`, 0 where it could not be read.
        terms: (n,) int64, which terms; what the numbers refer to depends on where the rows are.
        not_before: (n,) int64.
        expires_at: (n,) int64.
        flaw: (n,) uint8, 0 or the `Reason` that the reader found.
        evidence: (n,) uint8, what became of its `Evidence` at receipt.
        spelled: (m,) int64, positions of rows whose raw value has another spelling, ascending.
        others: (m,) keyed digests, those spellings.
    """

    subject: pa.StringArray = field(repr=False)
    identifier: pa.FixedSizeBinaryArray = field(repr=False)
    kind: NDArray[np.uint8]
    terms: NDArray[np.int64]
    not_before: NDArray[np.int64]
    expires_at: NDArray[np.int64]
    flaw: NDArray[np.uint8]
    evidence: NDArray[np.uint8]
    spelled: NDArray[np.int64]
    others: pa.FixedSizeBinaryArray = field(repr=False)

    def __len__(self) -> int:
        """The number of assertions, n."""
        return len(self.kind)


def keyed_array(
    keyed: NDArray[np.uint8], present: NDArray[np.bool_] | None = None
) -> pa.FixedSizeBinaryArray:
    """`(n, 16)` uint8 as an Arrow array of keyed digests, null where not `present`."""
    content = pa.py_buffer(np.ascontiguousarray(keyed))
    validity = None if present is None else pa.array(present).buffers()[1]
    return pa.FixedSizeBinaryArray.from_buffers(KEYED_DIGEST, len(keyed), [validity, content])


def keyed_bytes(keyed: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    """The content of an Arrow array of keyed digests without nulls, `(n, 16)` uint8, sharing its memory."""
    start, length = keyed.offset * KEYED_DIGEST_BYTES, len(keyed) * KEYED_DIGEST_BYTES
    content = np.frombuffer(keyed.buffers()[1] or b"", np.uint8, length, start)
    return content.reshape(-1, KEYED_DIGEST_BYTES)


def concat_rows(parts: Sequence[Rows]) -> Rows:
    """The rows of all `parts` (at least one), one after the other."""
    offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
    columns: dict[str, object] = {}
    for column in fields(Rows):
        values = [getattr(part, column.name) for part in parts]
        if column.name == "spelled":
            values = [value + offset for value, offset in zip(values, offsets, strict=True)]
        arrow = isinstance(values[0], pa.Array)
        columns[column.name] = pa.concat_arrays(values) if arrow else np.concatenate(values)
    return Rows(**columns)  # type: ignore[arg-type]


def first_rows(rows: Rows, count: int) -> Rows:
    """The first `count` of `rows`."""
    spelled = int(np.searchsorted(rows.spelled, count))
    lengths = {"spelled": spelled, "others": spelled}
    columns = {each.name: getattr(rows, each.name)[: lengths.get(each.name, count)] for each in fields(Rows)}
    return Rows(**columns)
