"""Stores one delivery: its assertions and their sealed digests.

Not protected against: rows that were not judged; `purposematch.server.enroll` is the way in.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from purposematch.server.keys import SealingKey
from purposematch.server.registry.chunks import COLUMNS, store_chunks
from purposematch.server.registry.digests import store_digests
from purposematch.server.registry.rows import Rows
from purposematch.server.registry.schema import delivery

__all__ = ["Delivery", "find_request", "store_delivery"]


@dataclass(frozen=True)
class Delivery:
    """What is known of a delivery beside its rows.

    Attributes:
        source: the named system that delivered it.
        file_digest: `keyed.file_digest` of the file, 32 bytes.
        received_at: microseconds since 1970-01-01 UTC.
        first_assertion: the id of its first row.
        policy: `policy.id` under which the rows were judged.
        report: JSON.
        request: the id that its source gave it, 16 bytes, so that it can be sent again; None for a file.
    """

    source: str
    file_digest: bytes
    received_at: int
    first_assertion: int
    policy: int
    report: str
    request: bytes | None = None


def store_delivery(
    connection: Connection,
    key: SealingKey,
    about: Delivery,
    rows: Rows,
    notice: pa.StringArray,
    digests: NDArray[np.uint8],
    reasons: NDArray[np.uint8],
) -> int:
    """Stores a delivery of n assertions, and returns its id; `store_mentions` indexes them.

    Args:
        connection: a transaction that writes; `about.first_assertion` was read in it.
        key: seals the digests.
        about: the delivery.
        rows: the assertions; `terms` are `terms.id`.
        notice: (n,) strings, null where none was given.
        digests: `(n, 32)` under the scope's profile, zeros where there is none.
        reasons: (n,) uint8, the `Reason` of each row at receipt.
    """
    number = (connection.scalar(select(func.max(delivery.c.id))) or 0) + 1
    row = {"id": number, "assertions": len(rows), **vars(about)}
    connection.execute(delivery.insert(), row)
    store_chunks(connection, about.first_assertion, _columns(rows, notice, reasons))
    store_digests(connection, key, about.first_assertion, digests)
    return int(number)


def find_request(connection: Connection, source: str, request: bytes) -> tuple[int, bytes, str] | None:
    """What was stored under the id that a source gave: its own id, file digest and report, or None."""
    here = (delivery.c.source == source) & (delivery.c.request == request)
    row = connection.execute(
        select(delivery.c.id, delivery.c.file_digest, delivery.c.report).where(here)
    ).one_or_none()
    return None if row is None else (row.id, row.file_digest, row.report)


def _columns(rows: Rows, notice: pa.StringArray, reasons: NDArray[np.uint8]) -> pa.RecordBatch:
    # Where each row's part of `others` begins.
    begins = np.searchsorted(rows.spelled, np.arange(len(rows) + 1)).astype(np.int32)
    columns = {
        "subject": rows.subject,
        "identifier": rows.identifier,
        "others": pa.ListArray.from_arrays(pa.array(begins), rows.others, COLUMNS.field("others").type),
        "kind": rows.kind,
        "terms": rows.terms,
        "notice": notice,
        "not_before": rows.not_before,
        "expires_at": rows.expires_at,
        "flaw": rows.flaw,
        "evidence": rows.evidence,
        "reason": reasons,
    }
    return pa.record_batch([columns[name] for name in COLUMNS.names], COLUMNS)
