"""Loads assertions for the gate: all of them, or what may touch given identifiers and subjects.

Source: docs/gate.md. To decide a pair the gate needs every assertion about its identifier, about every
identifier that shares a spelling with it, and what its subject said without a readable identifier.
The rows of a partial load are closed under this: every pair that they name can be decided.

Not protected against: slowness when the subset is nearly everything; then loading everything is quicker.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.assertions import Terms
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.corrections import correct_terms
from purposematch.server.registry.gate_input import GateInput, gate_input
from purposematch.server.registry.mentions import identifier_keys, mentioning, subject_keys
from purposematch.server.registry.rows import KEYED_DIGEST, Rows, first_rows
from purposematch.server.registry.schema import delivery
from purposematch.server.registry.terms_rows import load_terms

__all__ = ["Stored", "assertions_for_gate", "gate_input_of", "load_stored"]


@dataclass(frozen=True, eq=False)
class Stored:
    """Loaded assertions, in the order of receipt, with what the registry says about each.

    Attributes:
        rows: the assertions; `terms` are `terms.id`, as corrections have them.
        ids: (n,) int64, ascending.
        received_at: (n,) int64.
        reasons: (n,) uint8, at receipt.
        policies: (n,) int64, `policy.id` at receipt.
    """

    rows: Rows
    ids: NDArray[np.int64]
    received_at: NDArray[np.int64]
    reasons: NDArray[np.uint8]
    policies: NDArray[np.int64]

    def until(self, watermark: int) -> "Stored":
        """The assertions up to this id."""
        count = int(np.searchsorted(self.ids, watermark, "right"))
        return Stored(
            first_rows(self.rows, count),
            *(self.ids[:count], self.received_at[:count], self.reasons[:count], self.policies[:count]),
        )


_DELIVERY = (delivery.c.first_assertion, delivery.c.received_at, delivery.c.policy)


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
    return gate_input_of(stored, *load_terms(connection))


def gate_input_of(stored: Stored, table: list[Terms], ids: NDArray[np.int64]) -> GateInput:
    """Loaded assertions as the gate takes them.

    Args:
        stored: the assertions.
        table: all terms.
        ids: (k,) their ids, ascending.
    """
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
        return _stored(connection, *load_chunks(connection))
    people = subject_keys(pa.array(subjects, pa.string()))
    _, said = load_chunks(connection, mentioning(connection, people))
    frontier = np.union1d(
        identifier_keys(pa.array(identifiers, KEYED_DIGEST)), identifier_keys(said["identifier"])
    )
    found, known = np.zeros(0, np.int64), frontier
    while len(frontier):
        new = np.setdiff1d(mentioning(connection, frontier), found)
        _, said = load_chunks(connection, new)
        found = np.union1d(found, new)
        people = np.union1d(people, subject_keys(said["subject"]))
        reached = np.union1d(identifier_keys(said["identifier"]), identifier_keys(said["others"].flatten()))
        frontier = np.setdiff1d(reached, known)
        known = np.union1d(known, frontier)
    ids, said = load_chunks(connection, mentioning(connection, people))
    unreadable = said["identifier"].is_null().to_numpy(zero_copy_only=False)
    return _stored(connection, *load_chunks(connection, np.union1d(found, ids[unreadable])))


def _stored(connection: Connection, ids: NDArray[np.int64], table: pa.RecordBatch) -> Stored:
    """Loaded assertions, with what their deliveries say of them."""
    deliveries = connection.execute(select(*_DELIVERY).order_by(delivery.c.id)).all()
    about = np.array([tuple(row) for row in deliveries], np.int64).reshape(-1, len(_DELIVERY))
    about = about[np.searchsorted(about[:, 0], ids, "right") - 1]
    lengths = pc.list_value_length(table["others"]).to_numpy()
    return Stored(
        rows=Rows(
            subject=table["subject"],
            identifier=table["identifier"],
            kind=table["kind"].to_numpy(),
            terms=correct_terms(connection, ids, table["terms"].to_numpy()),
            not_before=table["not_before"].to_numpy(),
            expires_at=table["expires_at"].to_numpy(),
            flaw=table["flaw"].to_numpy(),
            evidence=table["evidence"].to_numpy(),
            spelled=np.repeat(np.arange(len(ids)), lengths),
            others=table["others"].flatten(),
        ),
        ids=ids,
        received_at=np.ascontiguousarray(about[:, 1]),
        reasons=table["reason"].to_numpy(),
        policies=np.ascontiguousarray(about[:, 2]),
    )
