"""What the log says of a delivery: one event for any number of assertions.

It names the root of a tree over their salted rows (`purposematch.protocol.log.batch`), and a digest over
commitments to the decisions that were stored with them. Everything is read back from the registry, for the
writer as for the audit. Of an assertion that was erased its commitment is left, and nothing else.

Memory: about 64 bytes an assertion, beside one portion of them.

Not protected against: rows that were false when they were written.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.assertions import Terms
from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.batch import (
    AssertionColumns,
    batch_root,
    commit_rows,
    name_digest,
    terms_digest,
)
from purposematch.protocol.log.events import Event, EventKind
from purposematch.protocol.log.tree import HASH_LENGTH
from purposematch.protocol.purpose import Status
from purposematch.server.registry.assertion_salts import load_salts
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.erasures import erased_commitments
from purposematch.server.registry.events import policy_digest, stored_row
from purposematch.server.registry.row_digests import decisions_digest, evidence_proofs
from purposematch.server.registry.schema import (
    CHUNK_ASSERTIONS,
    delivery,
    erased_assertion,
    evidence_batch,
)
from purposematch.server.registry.terms_rows import load_terms

__all__ = ["assertion_columns", "assertion_commitments", "delivery_event"]

_STATUSES: Final = tuple(status.label for status in Status)


def delivery_event(connection: Connection, number: int, decisions: range) -> Event:
    """A delivery was stored.

    Args:
        connection: a snapshot.
        number: its id.
        decisions: ids of the decisions that were stored with it.

    Raises:
        IntegrityError: something of it is missing or damaged.
    """
    row = stored_row(connection, delivery, id=number)
    first, count = row.first_assertion, row.assertions
    table, ids = load_terms(connection)
    commitments = np.empty((count, HASH_LENGTH), np.uint8)
    statuses = np.zeros(len(Status), np.int64)
    for start, said in _portions(connection, first, count):
        at = _positions(said["terms"].to_numpy(), ids)
        rows = slice(start - first, start - first + len(said))
        commitments[rows] = _commitments(connection, start, said, at, table)
        status_of = np.array([each.status for each in table], np.int64)
        statuses += np.bincount(status_of[at], minlength=len(Status))
    fields: dict[str, object] = {
        "id": number,
        "leaf": row.leaf,
        "source": row.source,
        "file": row.file_digest.hex(),
        "first": first,
        "count": count,
        "policy": policy_digest(connection, row.policy),
        "report": sha256(row.report.encode()).hexdigest(),
        "request": None if row.request is None else row.request.hex(),
        "root": batch_root(commitments).hex(),
        "statuses": {_STATUSES[code]: int(n) for code, n in enumerate(statuses) if n},
        "evidence_batch": _evidence_batch(connection, number),
        "decisions": {
            "first": decisions.start,
            "count": len(decisions),
            "sha256": decisions_digest(connection, decisions).hex(),
        },
    }
    return Event(EventKind.DELIVERY, row.received_at, fields)


def assertion_columns(
    first: int,
    said: pa.RecordBatch,
    at: NDArray[np.int64],
    table: list[Terms],
    proofs: NDArray[np.uint8],
) -> AssertionColumns:
    """Stored assertions as their leaves hold them.

    Args:
        first: the id of the first.
        said: n rows of `chunks.COLUMNS`.
        at: (n,) positions of their terms in `table`.
        table: the distinct terms.
        proofs: (n, 32), of `evidence_proofs`.
    """
    terms = np.array([list(terms_digest(each)) for each in table], np.uint8).reshape(-1, HASH_LENGTH)
    nobody = bytes(HASH_LENGTH)
    issuers = [list(name_digest(each.issuer) if each.issuer else nobody) for each in table]
    issuer = np.array(issuers, np.uint8).reshape(-1, HASH_LENGTH)
    return AssertionColumns(
        id=np.arange(first, first + len(said), dtype=np.int64),
        subject=said["subject"],
        identifier=said["identifier"],
        kind=said["kind"].to_numpy(),
        terms=terms[at],
        notice=said["notice"],
        not_before=said["not_before"].to_numpy(),
        expires_at=said["expires_at"].to_numpy(),
        flaw=said["flaw"].to_numpy(),
        reason=said["reason"].to_numpy(),
        evidence=said["evidence"].to_numpy(),
        issuer=issuer[at],
        spellings=said["others"],
        proof=proofs,
    )


def assertion_commitments(connection: Connection, first: int, count: int) -> NDArray[np.uint8]:
    """The commitments to the assertions `first` .. `first + count - 1`, (count, 32).

    Raises:
        IntegrityError: something of them is missing or damaged.
    """
    table, ids = load_terms(connection)
    commitments = np.empty((count, HASH_LENGTH), np.uint8)
    for start, said in _portions(connection, first, count):
        at = _positions(said["terms"].to_numpy(), ids)
        rows = slice(start - first, start - first + len(said))
        commitments[rows] = _commitments(connection, start, said, at, table)
    return commitments


def _commitments(
    connection: Connection, first: int, said: pa.RecordBatch, at: NDArray[np.int64], table: list[Terms]
) -> NDArray[np.uint8]:
    proofs = evidence_proofs(connection, first, len(said))
    salts = load_salts(connection, first, len(said))
    commitments = commit_rows(assertion_columns(first, said, at, table, proofs), salts)
    places, kept = erased_commitments(connection, erased_assertion, first, len(said))
    erased = np.zeros(len(said), np.bool_)
    erased[places] = True
    surplus = np.flatnonzero(salts.any(axis=1) & erased)
    if len(surplus):
        raise IntegrityError(
            f"table erased_assertion row {first + surplus[0]}: its salt is in table assertion_salt"
        )
    lost = np.flatnonzero(~salts.any(axis=1) & ~erased)
    if len(lost):
        raise IntegrityError(
            f"table assertion_salt: assertion {first + lost[0]} is erased, and not in table erased_assertion"
        )
    commitments[places] = kept
    return commitments


def _portions(connection: Connection, first: int, count: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    for start in range(first, first + count, CHUNK_ASSERTIONS):
        wanted = np.arange(start, min(start + CHUNK_ASSERTIONS, first + count))
        yield start, load_chunks(connection, wanted)[1]


def _positions(terms: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the terms of assertions are among all terms.

    Raises:
        IntegrityError: some are not there.
    """
    at = np.searchsorted(ids, terms)
    lost = np.flatnonzero(ids[np.minimum(at, len(ids) - 1)] != terms) if len(ids) else np.arange(len(terms))
    if len(lost):
        raise IntegrityError(
            f"table assertion_chunk names row {terms[lost[0]]} of table terms, which is lost"
        )
    return at


def _evidence_batch(connection: Connection, number: int) -> dict[str, object] | None:
    row = connection.execute(select(evidence_batch).where(evidence_batch.c.delivery == number)).one_or_none()
    if row is None:
        return None
    return {"issuer": row.issuer, "root": row.root.hex(), "signature": row.signature.hex()}
