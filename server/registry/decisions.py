"""Records what the gate decided, where the registry does not already show it.

The answer in force for a pair is defined at `schema.decision`: its latest decision, or the reason of its
latest assertion when that is newer. A decision is stored when reason, granting assertion or policy
differ from the answer in force, so every answer that was ever given can be told with its reason and policy.

Not protected against: decisions made from rows that were left out (see `load`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, select

from purposematch.protocol.gate import Decisions
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.log.events import SALT_LENGTH
from purposematch.protocol.purpose import Reason
from purposematch.server.registry.bulk import in_portions, insert_columns
from purposematch.server.registry.gate_input import GateInput
from purposematch.server.registry.rows import KEYED_DIGEST
from purposematch.server.registry.schema import decision
from purposematch.server.registry.watermarks import highest_assertion, highest_decision, most_of_all

__all__ = ["record_decisions"]

_NONE: Final = -1


def record_decisions(
    connection: Connection,
    given: GateInput,
    decisions: Decisions,
    policy: int,
    now: int,
    random_bytes: RandomBytes,
) -> int:
    """Stores every decision that differs from the answer in force.

    Args:
        connection: a transaction that writes.
        given: what `decisions` were made from; rows that are being received now have policy 0.
        decisions: what the gate answered.
        policy: `policy.id` of the policy it applied.
        now: microseconds since 1970-01-01 UTC.
        random_bytes: where the salts come from under which the log commits to decisions.

    Returns:
        How many decisions were stored.
    """
    granting = np.where(decisions.granting_row >= 0, given.ids[decisions.granting_row], _NONE)
    keys = _keys(given, decisions.subjects, decisions.identifiers)
    reason, source, by, since = _shown_by_assertions(given, decisions, keys, policy)
    for stored in _latest(connection, given):
        pair, found = _places(given, keys, stored)
        columns = stored.filter(pa.array(found))
        watermark = columns["assertions"].to_numpy()
        newer = watermark >= since[pair]
        pair = pair[newer]
        reason[pair] = columns["reason"].to_numpy()[newer]
        source[pair] = columns["granting"].fill_null(_NONE).to_numpy()[newer]
        by[pair] = columns["policy"].to_numpy()[newer]
    changed = np.flatnonzero((reason != decisions.reasons) | (source != granting) | (by != policy))
    if len(changed):
        _store(connection, given, decisions, granting, changed, policy, now, random_bytes)
    return len(changed)


def _shown_by_assertions(
    given: GateInput, decisions: Decisions, keys: NDArray[np.int64], policy: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each pair what its latest assertion shows: reason, granting assertion, policy, and its id."""
    table = given.assertions
    named = np.flatnonzero((table.subject >= 0) & (table.identifier >= 0))
    last = np.zeros(len(keys), np.int64)
    pair = np.searchsorted(keys, _keys(given, table.subject[named], table.identifier[named]))
    np.maximum.at(last, pair, named)
    received_now = given.policies[last] == 0
    reason = np.where(received_now, decisions.rows[last], given.reasons[last])
    by = np.where(received_now, policy, given.policies[last])
    ids = given.ids[last]
    return reason, np.where(reason == Reason.PERMITTED, ids, _NONE), by, ids


def _latest(connection: Connection, given: GateInput) -> Iterator[pa.Table]:
    """The latest stored decision of every pair that `given` may name."""
    if not highest_decision(connection):
        return
    newest = select(func.max(decision.c.id)).group_by(decision.c.identifier, decision.c.subject)
    if most_of_all(connection, len(given.identifiers)):
        yield _fetched(connection, newest)
        return
    for portion in in_portions(given.identifiers.to_pylist()):
        yield _fetched(connection, newest.where(decision.c.identifier.in_(portion)))


_TYPES: Final = {
    "subject": pa.string(),
    "identifier": KEYED_DIGEST,
    "reason": pa.uint8(),
    "granting": pa.int64(),
    "policy": pa.int64(),
    "assertions": pa.int64(),
}


def _fetched(connection: Connection, ids: Select[Any]) -> pa.Table:
    question = select(*(decision.c[name] for name in _TYPES)).where(decision.c.id.in_(ids))
    columns = list(zip(*connection.execute(question), strict=True)) or [()] * len(_TYPES)
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, _TYPES.values(), strict=True)]
    return pa.table(arrays, names=list(_TYPES))


def _keys(given: GateInput, subjects: NDArray[np.int64], identifiers: NDArray[np.int64]) -> NDArray[np.int64]:
    # The pairs of `Decisions` are sorted by subject, then identifier, so these are sorted too.
    return subjects * len(given.identifiers) + identifiers


def _places(
    given: GateInput, keys: NDArray[np.int64], stored: pa.Table
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which pairs the rows of `stored` are about, and a mask of the rows that are about any."""
    subject = pc.index_in(stored["subject"], given.subjects).fill_null(-1).to_numpy().astype(np.int64)
    identifier = pc.index_in(stored["identifier"], given.identifiers).fill_null(-1).to_numpy()
    wanted = _keys(given, subject, identifier.astype(np.int64))
    place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    found = (subject >= 0) & (identifier >= 0)
    if len(keys):
        found &= keys[place] == wanted
    return place[found], found


def _store(
    connection: Connection,
    given: GateInput,
    decisions: Decisions,
    granting: NDArray[np.int64],
    changed: NDArray[np.int64],
    policy: int,
    now: int,
    random_bytes: RandomBytes,
) -> None:
    count = len(changed)
    salts = random_bytes(count * SALT_LENGTH)
    first = highest_decision(connection) + 1
    columns: dict[str, Sequence[object]] = {
        "id": range(first, first + count),
        "subject": given.subjects.take(pa.array(decisions.subjects[changed])).to_pylist(),
        "identifier": given.identifiers.take(pa.array(decisions.identifiers[changed])).to_pylist(),
        "reason": decisions.reasons[changed].tolist(),
        "granting": [id_ if id_ >= 0 else None for id_ in granting[changed].tolist()],
        "policy": [policy] * count,
        "decided_at": [now] * count,
        "assertions": [highest_assertion(connection)] * count,
        "salt": [salts[start : start + SALT_LENGTH] for start in range(0, len(salts), SALT_LENGTH)],
    }
    insert_columns(connection, decision, columns)
