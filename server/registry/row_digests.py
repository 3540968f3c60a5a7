"""Digests over ranges of rows, by which an event of the log names what was stored with it.

docs/log.md, *What an event says*, has every layout. Rows are fixed-width and big-endian, and are hashed one
after the other, so that a million of them cost one pass and no object a row stays in memory.

Not protected against: guessing. A digest here has no salt of its own; the salt of its event stands before it.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, Table, select

from purposematch.protocol.batch_hash import sha256_rows, sha256_strings
from purposematch.protocol.ciphersuite import LOG_DECISION_DOMAIN
from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.identifiers.canonical import text_bytes
from purposematch.protocol.log.batch import name_digest, terms_digest
from purposematch.protocol.log.tree import HASH_LENGTH
from purposematch.server.registry.erasures import erased_commitments
from purposematch.server.registry.members import load_members
from purposematch.server.registry.schema import (
    batch,
    corrected,
    decision,
    erased_decision,
    evidence,
    removal_list,
)
from purposematch.server.registry.terms_rows import load_terms

__all__ = [
    "audience_digest",
    "batches_digest",
    "corrected_digest",
    "decision_commitments",
    "decisions_digest",
    "evidence_proofs",
    "removals_digest",
    "terms_said",
]

_ROWS_AT_A_TIME: Final = 2_048
"""Few enough that a portion's objects stay in the processor's cache."""
_NONE: Final = -1

_DECISION: Final = np.dtype(
    [
        *[("id", ">i8"), ("subject", "u1", 32), ("identifier", "u1", 16), ("reason", "u1")],
        *[("granting", ">i8"), ("policy", ">i8"), ("decided_at", ">i8"), ("assertions", ">i8")],
    ]
)
_EVIDENCE: Final = np.dtype(
    [
        *[("collected_at", ">i8"), ("there", "u1")],
        *[("salt", "u1", 16), ("signature", "u1", 64), ("leaf", "u1", 32)],
    ]
)
_BATCH: Final = np.dtype(
    [
        *[("number", ">i8"), ("sha256", "u1", 32), ("elements", ">i8"), ("charged", ">i8")],
        ("received_at", ">i8"),
    ]
)
_CORRECTED: Final = np.dtype(
    [("assertion", ">i8"), ("correction", ">i8"), ("terms", ">i8"), ("said", "u1", 32), ("issuer", "u1", 32)]
)
_REMOVALS: Final = np.dtype([("epoch", ">i8"), ("number", ">i8"), ("sha256", "u1", 32), ("signed", "u1", 32)])


def decisions_digest(connection: Connection, decisions: range) -> bytes:
    """SHA-256 over the commitments to the stored decisions of a range of ids, 32 bytes.

    Raises:
        IntegrityError: one of them is missing, or is erased without an erasure.
    """
    digest = sha256()
    for start in range(decisions.start, decisions.stop, _ROWS_AT_A_TIME):
        part = range(start, min(start + _ROWS_AT_A_TIME, decisions.stop))
        digest.update(decision_commitments(connection, part).tobytes())
    return digest.digest()


def decision_commitments(connection: Connection, decisions: range) -> NDArray[np.uint8]:
    """The salted commitments to n stored decisions, (n, 32); of erased ones, those that were kept.

    Raises:
        IntegrityError: as `decisions_digest`.
    """
    question = select(decision).where(decision.c.id >= decisions.start, decision.c.id < decisions.stop)
    columns = _columns(connection, question.order_by(decision.c.id), decision)
    if columns["id"] != tuple(decisions):
        raise IntegrityError(f"table decision lacks a row from {decisions.start} on")
    places, kept = erased_commitments(connection, erased_decision, decisions.start, len(decisions))
    erased = set(places.tolist())
    for place, id_ in enumerate(decisions):
        gone = [columns[name][place] is None for name in ("salt", "subject", "identifier")]
        if any(gone) is not (place in erased) or any(gone) is not all(gone):
            raise IntegrityError(f"table decision row {id_} is erased, and not in table erased_decision")
    for name in ("salt", "identifier"):
        columns[name], _ = _without_nulls(columns[name], 16)
    columns["granting"] = [_NONE if id_ is None else id_ for id_ in columns["granting"]]
    columns["subject"] = sha256_strings(*text_bytes(pa.array(columns["subject"], pa.string())))
    salts = columns["salt"]
    salts = salts if isinstance(salts, np.ndarray) else _fixed("salt", salts, 16)
    try:
        rows = _rows(columns, _DECISION)
    except (OverflowError, ValueError, TypeError):
        raise IntegrityError(
            f"table decision: a row from {decisions.start} on holds a value of a wrong type"
        ) from None
    commitments = sha256_rows(LOG_DECISION_DOMAIN, salts, rows)
    commitments[places] = kept
    return commitments


def evidence_proofs(connection: Connection, first: int, count: int) -> NDArray[np.uint8]:
    """SHA-256 of the stored evidence of each assertion `first` .. `first + count - 1`; zeros for none."""
    proofs = np.zeros((count, HASH_LENGTH), np.uint8)
    last = first - 1
    while True:
        column = evidence.c.assertion
        question = select(evidence).where(column > last, column < first + count)
        columns = _columns(connection, question.order_by(column).limit(_ROWS_AT_A_TIME), evidence)
        if not columns["assertion"]:
            return proofs
        there = np.zeros(len(columns["assertion"]), np.uint8)
        for bit, name in enumerate(("salt", "signature", "leaf")):
            # NULL is something else than zeros.
            columns[name], given = _without_nulls(columns[name], _EVIDENCE[name].itemsize)
            there |= given << np.uint8(bit)
        columns["there"] = there
        proofs[np.array(columns["assertion"], np.int64) - first] = sha256_rows(_rows(columns, _EVIDENCE))
        last = columns["assertion"][-1]


def batches_digest(connection: Connection, session: str) -> bytes:
    """SHA-256 over the batches of a session in the order of their numbers, 32 bytes."""
    question = select(batch).where(batch.c.session == session).order_by(batch.c.number)
    return sha256(_packed(_columns(connection, question, batch), _BATCH)).digest()


def audience_digest(connection: Connection, change: int) -> bytes:
    """SHA-256 over the granting assertions of a change of an audience, ascending, 32 bytes.

    Raises:
        IntegrityError: they are damaged.
    """
    return sha256(load_members(connection, change).astype(">i8").tobytes()).digest()


def corrected_digest(connection: Connection, number: int) -> bytes:
    """SHA-256 over what a correction says of each of its assertions, ascending, 32 bytes.

    Raises:
        IntegrityError: terms that it gave them are lost.
    """
    question = select(corrected).where(corrected.c.correction == number).order_by(corrected.c.assertion)
    columns = _columns(connection, question, corrected)
    # Terms that nobody delivered are in no assertion's leaf: what they say must be in this one.
    columns["said"], columns["issuer"] = terms_said(connection, columns["terms"], "corrected")
    return sha256(_packed(columns, _CORRECTED)).digest()


def terms_said(connection: Connection, ids: Sequence[int], table: str) -> tuple[list[bytes], list[bytes]]:
    """The digest of what each of n terms says, and that of its issuer's name, 32 bytes each.

    Args:
        connection: a snapshot.
        ids: n, of the terms; each as often as it is wanted.
        table: whose rows name them, for the error.

    Raises:
        IntegrityError: terms are lost; the text names them.
    """
    found, known = load_terms(connection)
    said = dict(zip(known.tolist(), found, strict=True))
    digests: dict[int, tuple[bytes, bytes]] = {}
    for id_ in dict.fromkeys(ids):
        if id_ not in said:
            raise IntegrityError(f"table {table} names row {id_} of table terms, which is lost")
        digests[id_] = terms_digest(said[id_]), name_digest(said[id_].issuer)
    return [digests[id_][0] for id_ in ids], [digests[id_][1] for id_ in ids]


def removals_digest(connection: Connection, number: int) -> bytes:
    """SHA-256 over the lists of removals that a generation made, in the order of their epochs, 32 bytes."""
    question = select(removal_list).where(removal_list.c.number == number).order_by(removal_list.c.epoch)
    columns = _columns(connection, question, removal_list)
    signed = zip(columns.pop("content"), columns.pop("signature"), strict=True)
    columns["signed"] = [sha256(content + signature).digest() for content, signature in signed]
    return sha256(_packed(columns, _REMOVALS)).digest()


def _without_nulls(values: Sequence[bytes | None], width: int) -> tuple[Any, NDArray[np.uint8]]:
    """The values with zeros in place of NULL, and 1 for each that was there."""
    nulls = values.count(None)
    # Nearly always a column has all of them or none, and then no value is looked at.
    if nulls in (0, len(values)):
        zeros = np.zeros((len(values), width), np.uint8)
        return zeros if nulls else values, np.full(len(values), not nulls, np.uint8)
    nothing = bytes(width)
    given = np.array([value is not None for value in values], np.uint8)
    return [nothing if value is None else value for value in values], given


def _columns(connection: Connection, question: Select[Any], table: Table) -> dict[str, Any]:
    # A row object for each of a million would cost several times what hashing them does.
    rows = connection.execute(question).cursor.fetchall()
    names = table.columns.keys()
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return dict(zip(names, columns, strict=True))


def _packed(columns: dict[str, Any], layout: np.dtype[Any]) -> bytes:
    return _rows(columns, layout).tobytes()


def _rows(columns: dict[str, Any], layout: np.dtype[Any]) -> NDArray[np.uint8]:
    names = layout.names or ()
    rows: NDArray[Any] = np.zeros(len(columns[names[0]]), layout)
    for name in names:
        values = columns[name]
        if layout[name].subdtype is not None and not isinstance(values, np.ndarray):
            values = _fixed(name, values, layout[name].itemsize)
        rows[name] = values
    return rows.view(np.uint8).reshape(len(rows), layout.itemsize)


def _fixed(name: str, values: Sequence[bytes], width: int) -> NDArray[np.uint8]:
    if set(map(len, values)) - {width}:
        raise IntegrityError(f"a stored {name} is not {width} bytes long")
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, width)
