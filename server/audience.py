"""Who enters an audience at a commit, and who may still be in it: those for whom the gate still says yes.

A tag leads to subjects through the decisions pinned in the generation, never by joining on the
identifier: somebody who gave a family's number for two-factor does not enter through another person's
consent. The gate is asked again, so that a withdrawal since the session opened takes effect.

Not protected against: what the audience is used for afterwards.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.ascending import ascending
from purposematch.protocol.gate import decide
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import Taxonomy
from purposematch.server.platform import Platform
from purposematch.server.registry import assertions_for_gate, highest_assertion, most_of_all
from purposematch.server.registry.audiences import AudienceName, add_change
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.corrections import correction_after
from purposematch.server.registry.generations import PublishedGeneration
from purposematch.server.registry.sessions import SessionRow

__all__ = ["admitted_assertions", "change_audience", "still_admitted"]

_DAY: Final = 24 * 3_600 * 1_000_000


def admitted_assertions(
    connection: Connection,
    generation: PublishedGeneration,
    pinned: NDArray[np.int64],
    policy: Policy,
    taxonomy: Taxonomy,
    now: int,
) -> NDArray[np.int64]:
    """Applies the gate again to pinned decisions: the assertions that admit their subjects.

    The gate is a function of the assertions, their corrections, the policy and the time. Where none of
    these changed since the generation was published, and nothing in it has expired, its answers are the
    pinned ones.

    Args:
        connection: a transaction.
        generation: the one that pins.
        pinned: (p,) int64, the assertions that permitted the matched pairs when they were published.
        policy: the policy in force.
        taxonomy: the taxonomy it was loaded with.
        now: microseconds since 1970.
    """
    unchanged = (
        generation.policy == policy.digest
        and generation.watermark == highest_assertion(connection)
        and not correction_after(connection, generation.decisions)
    )
    if unchanged and now < generation.valid_until:
        return pinned
    return still_admitted(connection, pinned, policy, taxonomy, now)


def still_admitted(
    connection: Connection, pinned: NDArray[np.int64], policy: Policy, taxonomy: Taxonomy, now: int
) -> NDArray[np.int64]:
    """Applies the gate again to pairs: the assertions that admit their subjects now, and maybe not the same.

    Args:
        connection: a transaction.
        pinned: (p,) int64, assertions that permitted the pairs once.
        policy: the policy in force.
        taxonomy: the taxonomy it was loaded with.
        now: microseconds since 1970.
    """
    if not len(pinned):
        return pinned
    _, asked_for = load_chunks(connection, ascending(pinned))
    # Who was erased since is in no audience any more.
    asked_for = asked_for.filter(asked_for["subject"].is_valid())
    subjects, identifiers = asked_for["subject"], asked_for["identifier"]
    touched = None if most_of_all(connection, len(asked_for)) else identifiers.to_pylist()
    given = assertions_for_gate(connection, touched)
    permitted = decide(given.assertions, policy, taxonomy, now).permitted()
    width = len(given.identifiers)
    asked = _codes(subjects, given.subjects) * width
    asked += _codes(identifiers, given.identifiers)
    keep = np.isin(permitted.subject * width + permitted.identifier, asked)
    admitted: NDArray[np.int64] = given.ids[permitted.granting_row[keep]]
    return admitted


def change_audience(
    platform: Platform, connection: Connection, row: SessionRow, granting: NDArray[np.int64], now: int
) -> None:
    """Records what a session, just committed, does to the audience that its grant names.

    Args:
        platform: the open platform.
        connection: the transaction that commits.
        row: the session.
        granting: (n,) int64, the assertions that admit whom it matched.
        now: microseconds since 1970.
    """
    change = SessionGrant.parse(row.grant).audience
    of = AudienceName(row.advertiser, row.partner or "", change.name)
    expires_at = now + platform.config.limits.audience_days * _DAY
    add_change(connection, row.id, of, change.mode, expires_at, granting)


def _codes(values: pa.Array, dictionary: pa.Array) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = pc.index_in(values, dictionary).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return codes
