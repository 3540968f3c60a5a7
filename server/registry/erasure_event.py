"""What the log says of an erasure: which assertions and decisions it destroyed, and what is left of them.

The event is computed from the rows that are left, and only if nothing else is: a row that is listed as erased
and still says something makes an error of it, for the writer as for the audit.

Not protected against: copies of what was erased.
"""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, select

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.events import Event, EventKind
from purposematch.server.registry.bulk import in_portions
from purposematch.server.registry.chunks import blank_rows, load_chunks
from purposematch.server.registry.events import stored_row
from purposematch.server.registry.row_digests import terms_said
from purposematch.server.registry.schema import (
    decision,
    erased_assertion,
    erased_decision,
    erasure,
    evidence,
)
from purposematch.server.registry.watermarks import highest_assertion

__all__ = ["erasure_event", "runs"]

_NO_LEAF = bytes(32)
_KEPT = np.dtype(
    [("id", ">i8"), ("terms", ">i8"), ("said", "u1", 32), ("issuer", "u1", 32), ("leaf", "u1", 32)]
)


def erasure_event(connection: Connection, number: int) -> Event:
    """Somebody was erased.

    Raises:
        IntegrityError: something that was erased is there.
    """
    row = stored_row(connection, erasure, id=number)
    assertions, commitments = _erased(connection, erased_assertion, number)
    decisions, covered = _erased(connection, erased_decision, number)
    kept = sha256()
    for part in (_kept_assertions(connection, assertions), commitments):
        kept.update(part.tobytes())
    for part in (_kept_decisions(connection, decisions), covered):
        kept.update(part.tobytes())
    fields: dict[str, object] = {
        "id": number,
        "objections": row.objections,
        "leaf": row.leaf,
        "erased_assertions": runs(assertions),
        "erased_decisions": runs(decisions),
        "kept": kept.hexdigest(),
    }
    return Event(EventKind.ERASURE, row.erased_at, fields)


def runs(ids: NDArray[np.int64]) -> list[list[int]]:
    """Ascending ids as runs, each its first id and its length."""
    if not len(ids):
        return []
    parts = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
    return [[int(part[0]), len(part)] for part in parts]


def _erased(connection: Connection, table: Table, number: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    key = next(iter(table.primary_key))
    question = select(key, table.c.commitment).where(table.c.erasure == number).order_by(key)
    rows = connection.execute(question).all()
    joined = b"".join(commitment for _, commitment in rows)
    return np.array([id_ for id_, _ in rows], np.int64), np.frombuffer(joined, np.uint8)


def _kept_assertions(connection: Connection, ids: NDArray[np.int64]) -> NDArray[np.void]:
    kept = np.zeros(len(ids), _KEPT)
    if not len(ids):
        return kept
    # An assertion that is not there can not be loaded.
    for id_ in ids[(ids < 1) | (ids > highest_assertion(connection))]:
        raise IntegrityError(f"table erased_assertion row {id_} is of no assertion")
    said = load_chunks(connection, ids)[1]
    blank = blank_rows(said["terms"])
    for place, id_ in enumerate(ids.tolist()) if not said.equals(blank) else ():
        if not said.slice(place, 1).equals(blank.slice(place, 1)):
            raise IntegrityError(f"table assertion_chunk: assertion {id_} was erased and says something")
    leaves = dict.fromkeys(ids.tolist(), _NO_LEAF)
    for portion in in_portions(ids.tolist()):
        for row in connection.execute(select(evidence).where(evidence.c.assertion.in_(portion))):
            kept_leaf = row.leaf is not None and len(row.leaf) == len(_NO_LEAF) and row.leaf != _NO_LEAF
            if (row.salt, row.signature, row.collected_at) != (None, None, 0) or not kept_leaf:
                raise IntegrityError(f"table evidence row {row.assertion} was erased and is there")
            leaves[row.assertion] = row.leaf
    # No leaf holds any more what these terms say, which nobody else may ever have said.
    terms = said["terms"].to_pylist()
    texts, issuers = terms_said(connection, terms, "assertion_chunk")
    kept["id"], kept["terms"] = ids, terms
    kept["said"] = np.frombuffer(b"".join(texts), np.uint8).reshape(-1, 32)
    kept["issuer"] = np.frombuffer(b"".join(issuers), np.uint8).reshape(-1, 32)
    kept["leaf"] = np.frombuffer(b"".join(leaves.values()), np.uint8).reshape(-1, 32)
    return kept


def _kept_decisions(connection: Connection, ids: NDArray[np.int64]) -> NDArray[np.void]:
    numbers = ("id", "reason", "policy", "decided_at", "assertions")
    kept = np.zeros(len(ids), np.dtype([(name, ">i8") for name in numbers]))
    rows = [
        row
        for portion in in_portions(ids.tolist())
        for row in connection.execute(
            select(decision).where(decision.c.id.in_(portion)).order_by(decision.c.id)
        )
    ]
    if [row.id for row in rows] != ids.tolist():
        raise IntegrityError("table decision lacks a row that table erased_decision names")
    for row in rows:
        if (row.subject, row.identifier, row.granting, row.salt) != (None,) * 4:
            raise IntegrityError(f"table decision row {row.id} was erased and says something")
    for name in numbers:
        kept[name] = [getattr(row, name) for row in rows]
    return kept
