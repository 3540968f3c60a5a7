"""Stores one delivery: its assertions, their other spellings, and their sealed digests.

Not protected against: rows that were not judged; `purposematch.server.enroll` is the way in.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from purposematch.protocol.assertions import NO_TIME
from purposematch.server.keys import SealingKey
from purposematch.server.registry.bulk import insert_columns
from purposematch.server.registry.digests import store_digests
from purposematch.server.registry.rows import Rows
from purposematch.server.registry.schema import assertion, delivery, spelling

__all__ = ["Delivery", "store_delivery"]

_ROWS_AT_A_TIME = 16_384
"""Rows whose Python objects exist at one moment."""


@dataclass(frozen=True)
class Delivery:
    """What is known of a delivery beside its rows.

    Attributes:
        source: the named system that delivered it.
        sha256: of the file's bytes, 32 bytes.
        received_at: microseconds since 1970-01-01 UTC.
        first_assertion: the id of its first row.
        policy: `policy.id` under which the rows were judged.
        report: JSON.
    """

    source: str
    sha256: bytes
    received_at: int
    first_assertion: int
    policy: int
    report: str


def store_delivery(
    connection: Connection,
    key: SealingKey,
    about: Delivery,
    rows: Rows,
    notice: pa.StringArray,
    digests: NDArray[np.uint8],
    reasons: NDArray[np.uint8],
) -> int:
    """Stores a delivery of n assertions, and returns its number.

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
    with _indexes_rebuilt(connection, len(rows) >= about.first_assertion):
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            columns = _columns(rows, part)
            count = len(columns["subject"])
            first = about.first_assertion + start
            columns |= {
                "id": range(first, first + count),
                "delivery": [number] * count,
                "notice": notice[part].to_pylist(),
                "reason": reasons[part].tolist(),
            }
            insert_columns(connection, assertion, columns)
        for start in range(0, len(rows.spelled), _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            spelled = (rows.spelled[part] + about.first_assertion).tolist()
            others = rows.others[part].to_pylist()
            insert_columns(connection, spelling, {"assertion": spelled, "other": others})
    store_digests(connection, key, about.first_assertion, digests)
    return number


def _columns(rows: Rows, part: slice) -> dict[str, Sequence[object]]:
    return {
        "subject": rows.subject[part].to_pylist(),
        "identifier": rows.identifier[part].to_pylist(),
        "kind": _or_none(rows.kind[part], 0),
        "terms": rows.terms[part].tolist(),
        "not_before": _or_none(rows.not_before[part], NO_TIME),
        "expires_at": _or_none(rows.expires_at[part], NO_TIME),
        "flaw": rows.flaw[part].tolist(),
    }


def _or_none(values: NDArray[np.generic], none: int) -> list[object]:
    objects = values.astype(object)
    objects[values == none] = None
    listed: list[object] = objects.tolist()
    return listed


@contextmanager
def _indexes_rebuilt(connection: Connection, worth_it: bool) -> Iterator[None]:
    """Inside, the tables have no indexes if that is `worth_it`: sorting once is quicker than inserting.

    It is worth it when a delivery is as large as everything before it, the first one always. All of it
    belongs to the transaction: other connections never see a table without its indexes.
    """
    indexes = [*assertion.indexes, *spelling.indexes] if worth_it else []
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)
