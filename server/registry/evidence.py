"""Stores evidence, so that it can be checked again, and erases it.

Not protected against: rows of evidence that nobody judged; `purposematch.server.evidence_columns` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, update

from purposematch.protocol.evidence import BatchEvidence
from purposematch.server.registry.bulk import in_portions, insert_columns
from purposematch.server.registry.schema import evidence, evidence_batch

__all__ = ["EvidenceRows", "erase_evidence", "store_batch_evidence", "store_evidence"]

_ROWS_AT_A_TIME = 2_048
"""Rows whose Python objects exist at one moment."""


@dataclass(frozen=True, eq=False)
class EvidenceRows:
    """The readable evidence of k rows of a file.

    Attributes:
        rows: (k,) int64, positions in the file, ascending, from 0.
        collected_at: (k,) int64, microseconds since 1970-01-01 UTC.
        salts: (k, 16) uint8.
        signatures: (k, 64) uint8.
        signed: (k,) bool, the signature is the row's own; else its batch has one.
    """

    rows: NDArray[np.int64]
    collected_at: NDArray[np.int64]
    salts: NDArray[np.uint8] = field(repr=False)
    signatures: NDArray[np.uint8] = field(repr=False)
    signed: NDArray[np.bool_]


def store_evidence(connection: Connection, first_assertion: int, parts: Sequence[EvidenceRows]) -> None:
    """Stores the evidence that came with the rows of one delivery.

    Args:
        connection: the transaction that stores the delivery.
        first_assertion: its first assertion.
        parts: what came with its rows.
    """
    for part in parts:
        for start in range(0, len(part.rows), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            columns: dict[str, Sequence[object]] = {
                "assertion": (part.rows[rows] + first_assertion).tolist(),
                "collected_at": part.collected_at[rows].tolist(),
                "salt": _as_bytes(part.salts[rows]),
            }
            if part.signed.any():
                signatures = zip(part.signed[rows].tolist(), _as_bytes(part.signatures[rows]), strict=True)
                columns["signature"] = [content if own else None for own, content in signatures]
            insert_columns(connection, evidence, columns)


def store_batch_evidence(connection: Connection, delivery: int, batch: BatchEvidence) -> None:
    """Stores the evidence that came for a delivery as a whole."""
    row = {"delivery": delivery, "issuer": batch.issuer, "root": batch.root, "signature": batch.signature}
    connection.execute(evidence_batch.insert(), row)


def erase_evidence(connection: Connection, ids: NDArray[np.int64], leaves: Mapping[int, bytes]) -> None:
    """Erases the evidence of assertions.

    Args:
        connection: a transaction that writes.
        ids: (n,) int64.
        leaves: of those that a batch's signature covers, the leaf hashes, which the others of it need.
    """
    for portion in in_portions([id_ for id_ in ids.tolist() if id_ not in leaves]):
        connection.execute(delete(evidence).where(evidence.c.assertion.in_(portion)))
    for id_, leaf in leaves.items():
        nothing = {"collected_at": 0, "salt": None, "signature": None}
        here = evidence.c.assertion == id_
        connection.execute(update(evidence).where(here).values(leaf=leaf, **nothing))


def _as_bytes(rows: NDArray[np.uint8]) -> list[bytes]:
    content, width = rows.tobytes(), rows.shape[1]
    return [content[start : start + width] for start in range(0, len(content), width)]
