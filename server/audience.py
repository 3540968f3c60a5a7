"""Who enters an audience at a commit: the pinned subjects for whom the gate still says yes.

A tag leads to subjects through the decisions pinned in the generation, never by joining on the
identifier: somebody who gave a family's number for two-factor does not enter through another person's
consent. The gate is asked again, so that a withdrawal since the session opened takes effect.

Not protected against: what the audience is used for afterwards.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.gate import decide
from purposematch.protocol.group import Bytes
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import Taxonomy
from purposematch.server.registry import assertions_for_gate, most_of_all
from purposematch.server.registry.bulk import in_portions
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES, assertion

__all__ = ["Admitted", "admitted_pairs"]


@dataclass(frozen=True, slots=True)
class Admitted:
    """The n pairs of one audience: subjects, keyed digests (n, 16), and the assertions that permit them."""

    subjects: list[str]
    identifiers: Bytes
    granting: list[int]


def admitted_pairs(
    connection: Connection, pinned: NDArray[np.int64], policy: Policy, taxonomy: Taxonomy, now: int
) -> Admitted:
    """Applies the gate again to pinned decisions.

    Args:
        connection: a transaction.
        pinned: (p,) int64, the assertions that permitted the matched pairs when they were published.
        policy: the policy in force.
        taxonomy: the taxonomy it was loaded with.
        now: microseconds since 1970.
    """
    rows: list[tuple[str, bytes]] = []
    columns = select(assertion.c.subject, assertion.c.identifier)
    for portion in in_portions(pinned.tolist()):
        rows.extend(
            (row[0], row[1]) for row in connection.execute(columns.where(assertion.c.id.in_(portion)))
        )
    if not rows:
        return Admitted([], np.empty((0, KEYED_DIGEST_BYTES), np.uint8), [])
    subjects, identifiers = zip(*rows, strict=True)
    touched = None if most_of_all(connection, len(rows)) else set(identifiers)
    given = assertions_for_gate(connection, touched)
    permitted = decide(given.assertions, policy, taxonomy, now).permitted()
    width = len(given.identifiers)
    asked = _codes(pa.array(subjects), given.subjects) * width
    asked += _codes(pa.array(identifiers, given.identifiers.type), given.identifiers)
    keep = np.isin(permitted.subject * width + permitted.identifier, asked)
    kept = pa.array(permitted.identifier[keep])
    content = b"".join(given.identifiers.take(kept).to_pylist())
    return Admitted(
        subjects=given.subjects.take(pa.array(permitted.subject[keep])).to_pylist(),
        identifiers=np.frombuffer(content, np.uint8).reshape(-1, KEYED_DIGEST_BYTES),
        granting=given.ids[permitted.granting_row[keep]].tolist(),
    )


def _codes(values: pa.Array, dictionary: pa.Array) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = pc.index_in(values, dictionary).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return codes
