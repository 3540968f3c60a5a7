"""Erases rows: what they said is overwritten where it stands, and their commitments are kept.

Nothing is renumbered and nothing is logged here; `purposematch.server.erase` is the way in.

Not protected against: pages that the database has freed, and its write-ahead log, until
`Registry.overwrite`.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, select, update

from purposematch.server.keys import SealingKey
from purposematch.server.registry.assertion_salts import erase_salts
from purposematch.server.registry.bulk import in_portions
from purposematch.server.registry.chunks import erase_rows, load_chunks
from purposematch.server.registry.delivery_event import assertion_commitments
from purposematch.server.registry.digests import erase_digests
from purposematch.server.registry.erasure_event import runs
from purposematch.server.registry.erasures import add_erased
from purposematch.server.registry.evidence import erase_evidence
from purposematch.server.registry.mentions import erase_mentions, identifier_keys, subject_keys
from purposematch.server.registry.row_digests import decision_commitments
from purposematch.server.registry.schema import decision, erased_assertion, erased_decision

__all__ = ["decisions_of", "erase_assertions", "erase_decisions"]


def decisions_of(connection: Connection, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The decisions about the pairs that assertions name: (m,) int64 ids, ascending."""
    said = load_chunks(connection, ids)[1]
    pairs = set(zip(said["subject"].to_pylist(), said["identifier"].to_pylist(), strict=True))
    question = select(decision.c.id, decision.c.subject, decision.c.identifier)
    found = [
        id_
        for portion in in_portions([identifier for _, identifier in pairs if identifier is not None])
        for id_, subject, identifier in connection.execute(question.where(decision.c.identifier.in_(portion)))
        if (subject, identifier) in pairs
    ]
    return np.unique(np.array(found, np.int64))


def erase_assertions(
    connection: Connection,
    key: SealingKey,
    number: int,
    ids: NDArray[np.int64],
    leaves: Mapping[int, bytes],
) -> None:
    """Erases what assertions said: person, identifier, notice, times, digest, evidence and salt.

    Args:
        connection: a transaction that writes.
        key: the sealing key.
        number: the erasure's id.
        ids: (n,) int64, at least one, ascending and distinct, not erased yet.
        leaves: as `erase_evidence` takes them.

    Raises:
        IntegrityError: something of them is missing or damaged.
    """
    said = load_chunks(connection, ids)[1]
    kept = [assertion_commitments(connection, first, count) for first, count in runs(ids)]
    add_erased(connection, erased_assertion, number, ids, np.concatenate(kept))
    erase_salts(connection, ids)
    erase_digests(connection, key, ids)
    erase_evidence(connection, ids, leaves)
    spelled = pa.concat_arrays([said["identifier"], said["others"].flatten()])
    keys = np.concatenate([subject_keys(said["subject"]), identifier_keys(spelled)])
    erase_mentions(connection, ids, keys)
    erase_rows(connection, ids)


def erase_decisions(connection: Connection, number: int, ids: NDArray[np.int64]) -> None:
    """Erases whom decisions were about, their identifier and what permitted.

    Args:
        connection: a transaction that writes.
        number: the erasure's id.
        ids: (n,) int64, ascending and distinct, not erased yet.

    Raises:
        IntegrityError: one is missing.
    """
    if not len(ids):
        return
    kept = [decision_commitments(connection, range(first, first + count)) for first, count in runs(ids)]
    add_erased(connection, erased_decision, number, ids, np.concatenate(kept))
    nothing = dict.fromkeys(("subject", "identifier", "granting", "salt"))
    for portion in in_portions(ids.tolist()):
        connection.execute(update(decision).where(decision.c.id.in_(portion)).values(**nothing))
