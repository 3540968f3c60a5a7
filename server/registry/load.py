"""Loads assertions for the gate: all of them, or what may touch given identifiers and subjects.

Source: docs/gate.md. To decide a pair the gate needs every assertion about its identifier, about every
identifier that shares a spelling with it, and what its subject said without a readable identifier.
The rows of a partial load are closed under this: every pair that they name can be decided.

Not protected against: slowness when the subset is nearly everything; then loading everything is quicker.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, select

from purposematch.protocol.assertions import NO_TIME
from purposematch.server.registry.bulk import in_portions
from purposematch.server.registry.corrections import correct_terms
from purposematch.server.registry.gate_input import GateInput, gate_input
from purposematch.server.registry.rows import KEYED_DIGEST, Rows
from purposematch.server.registry.schema import assertion, delivery, spelling
from purposematch.server.registry.terms_rows import load_terms

__all__ = ["Stored", "assertions_for_gate", "load_stored"]


@dataclass(frozen=True, eq=False)
class Stored:
    """Loaded assertions, in the order of receipt, with what the registry says about each.

    Attributes:
        rows: the assertions; `terms` are `terms.id`, as corrections have them.
        ids: (n,) int64, `assertion.id`, ascending.
        received_at: (n,) int64.
        reasons: (n,) uint8, at receipt.
        policies: (n,) int64, `policy.id` at receipt.
    """

    rows: Rows
    ids: NDArray[np.int64]
    received_at: NDArray[np.int64]
    reasons: NDArray[np.uint8]
    policies: NDArray[np.int64]


_COLUMNS = (
    assertion.c.id,
    assertion.c.delivery,
    assertion.c.subject,
    assertion.c.identifier,
    func.coalesce(assertion.c.kind, 0),
    assertion.c.terms,
    func.coalesce(assertion.c.not_before, NO_TIME),
    func.coalesce(assertion.c.expires_at, NO_TIME),
    assertion.c.flaw,
    assertion.c.reason,
)
_DELIVERY = (delivery.c.id, delivery.c.received_at, delivery.c.policy)


def assertions_for_gate(
    connection: Connection,
    identifiers: Collection[bytes] | None = None,
    subjects: Collection[str] = (),
) -> GateInput:
    """What the gate needs in order to decide pairs again.

    Args:
        connection: a snapshot.
        identifiers: keyed digests whose pairs are to be decided; None for everything there is.
        subjects: subjects whose pairs are to be decided too; ignored if `identifiers` is None.
    """
    stored = load_stored(connection, identifiers, subjects)
    table, ids = load_terms(connection)
    return gate_input(
        replace(stored.rows, terms=np.searchsorted(ids, stored.rows.terms)),
        table,
        ids=stored.ids,
        received_at=stored.received_at,
        reasons=stored.reasons,
        policies=stored.policies,
    )


def load_stored(
    connection: Connection, identifiers: Collection[bytes] | None, subjects: Collection[str] = ()
) -> Stored:
    """The assertions that `assertions_for_gate` needs, as stored."""
    if identifiers is None:
        rows = _fetch(connection, select(*_COLUMNS))
        return _stored(connection, rows, _fetch(connection, select(spelling)))
    found: dict[int, tuple[Any, ...]] = {}
    spellings: set[tuple[int, bytes]] = set()
    keys = set(identifiers)
    for names in in_portions(list(subjects)):
        named = select(assertion.c.identifier).where(assertion.c.subject.in_(names))
        keys.update(key for (key,) in connection.execute(named) if key is not None)
    frontier: Collection[bytes] = keys
    while frontier:
        reached: set[bytes] = set()
        new: list[int] = []
        for row in _touching(connection, frontier):
            if row[0] not in found:
                found[row[0]] = row
                new.append(row[0])
                reached.add(row[3])
        for ids in in_portions(new):
            for of, other in connection.execute(select(spelling).where(spelling.c.assertion.in_(ids))):
                spellings.add((of, other))
                reached.add(other)
        frontier = reached - keys
        keys |= frontier
    speakers = {*subjects, *(row[2] for row in found.values() if row[2] is not None)}
    for people in in_portions(list(speakers)):
        unreadable = select(*_COLUMNS).where(assertion.c.identifier.is_(None))
        for row in _fetch(connection, unreadable.where(assertion.c.subject.in_(people))):
            found[row[0]] = row
    return _stored(connection, list(found.values()), list(spellings))


def _stored(
    connection: Connection, rows: list[tuple[Any, ...]], spellings: list[tuple[int, bytes]]
) -> Stored:
    """Fetched rows of `_COLUMNS`, and (assertion, other) of `spelling`, as columns."""
    rows.sort(key=lambda row: row[0])
    spellings.sort()
    columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
    ids = np.array(columns[0], np.int64)
    deliveries = connection.execute(select(*_DELIVERY).order_by(delivery.c.id)).all()
    about = np.array([tuple(row) for row in deliveries], np.int64).reshape(-1, len(_DELIVERY))
    about = about[np.searchsorted(about[:, 0], np.array(columns[1], np.int64))]
    return Stored(
        rows=Rows(
            subject=pa.array(columns[2], pa.string()),
            identifier=pa.array(columns[3], KEYED_DIGEST),
            kind=np.array(columns[4], np.uint8),
            terms=correct_terms(connection, ids, np.array(columns[5], np.int64)),
            not_before=np.array(columns[6], np.int64),
            expires_at=np.array(columns[7], np.int64),
            flaw=np.array(columns[8], np.uint8),
            spelled=np.searchsorted(ids, np.array([of for of, _ in spellings], np.int64)),
            others=pa.array([other for _, other in spellings], KEYED_DIGEST),
        ),
        ids=ids,
        received_at=np.ascontiguousarray(about[:, 1]),
        reasons=np.array(columns[9], np.uint8),
        policies=np.ascontiguousarray(about[:, 2]),
    )


def _touching(connection: Connection, keys: Iterable[bytes]) -> Iterable[tuple[Any, ...]]:
    """The assertions that have one of `keys` as identifier or as another spelling."""
    for portion in in_portions(list(keys)):
        yield from _fetch(connection, select(*_COLUMNS).where(assertion.c.identifier.in_(portion)))
        spelled = select(*_COLUMNS).join(spelling, spelling.c.assertion == assertion.c.id)
        yield from _fetch(connection, spelled.where(spelling.c.other.in_(portion)))


def _fetch(connection: Connection, question: Select[Any]) -> list[tuple[Any, ...]]:
    """All rows of an answer, straight from the driver: no object of ours is made for a row."""
    return list(connection.execute(question).cursor.fetchall())
