"""How a session under a noisy disclosure ends, whatever it was matched by: counted, paid, signed and stored.

The exact number goes into `release_count` and into the platform's own row of the commit, and nowhere else.

Not protected against: what the exchange before came to. Whoever calls has checked that.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.ascending import ascending
from purposematch.protocol.errors import RefusedError, StateError
from purposematch.protocol.policy import Policy
from purposematch.protocol.signing import SignedDocument
from purposematch.server.audience import admitted_assertions, change_audience
from purposematch.server.open_sessions import OpenSessions
from purposematch.server.pki import PeerIdentity
from purposematch.server.platform import Platform
from purposematch.server.registry import exchanges, ledger, sessions
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.generations import PublishedGeneration
from purposematch.server.registry.sessions import SessionRow
from purposematch.server.release import release_count

__all__ = ["Counted", "Finishing", "admitted_subjects", "store_answer"]

Counted = Callable[[Connection, Policy, int], tuple[NDArray[np.int64], int]]
"""Gives the assertions that admit an audience, and what is counted, exactly, under a policy at a time."""


@dataclass(frozen=True, slots=True)
class Finishing:
    """A session that is finished.

    Attributes:
        peer: whose it is.
        session_id: which, 16 bytes.
        commit_id: chosen by the client, 16 bytes.
        row: as it was when the exchange was checked.
        agreement: in force then.
        digest: SHA-256 of everything that the client sent; by VOLE, of everything that both sides said.
    """

    peer: PeerIdentity
    session_id: bytes
    commit_id: bytes
    row: SessionRow
    agreement: Agreement
    digest: bytes


def store_answer(
    platform: Platform,
    open_sessions: OpenSessions,
    finishing: Finishing,
    counted: Counted,
    charge: Callable[[Connection, int], None] = lambda connection, now: None,
) -> SignedDocument:
    """Everything that a finish changes, in one transaction; the signed noisy report.

    Args:
        platform: the open platform.
        open_sessions: those of its peers.
        finishing: what is finished.
        counted: asks the gate again and counts.
        charge: counts what the quota has not counted yet, at a time.

    Raises:
        RefusedError: the policy changed, or the agreement is not in force any more; `BudgetError` if the
            budget is spent.
        StateError: the session is not open any more, or has another commit.
    """
    row, commit_id, now = finishing.row, finishing.commit_id, platform.clock()
    agreement, policy = finishing.agreement, platform.policy()
    if policy.required_purpose != agreement.purpose:
        raise RefusedError("the platform's purpose changed since the session opened")
    with platform.registry.writing() as connection:
        # Another process may have finished it while this one was comparing.
        stored = sessions.find_commit(connection, row.id, commit_id)
        if stored is not None:
            return stored.receipt
        # An agreement that ended, or was replaced, took its sessions with it.
        open_sessions.demand_open(open_sessions.owned(connection, finishing.peer, finishing.session_id))
        if sessions.has_other_commit(connection, row.id, commit_id):
            raise StateError("a second commit", "one commit in a session")
        label = exchanges.demand_exchange(connection, row.id).label
        charge(connection, now)
        granting, exact = counted(connection, policy, now)
        release = release_count(platform, connection, row, agreement, label, policy, exact, now)
        policy_id = ledger.record_policy(connection, policy, now, platform.random_bytes)
        commit = sessions.StoredCommit(finishing.digest, release.document)
        sessions.add_commit(connection, row.id, commit_id, now, commit, policy_id, exact)
        # If the same question was answered meanwhile, that session has changed the audience.
        if release.new and agreement.disclosure.makes_audience:
            change_audience(platform, connection, row, granting, now)
        ledger.record_commit(connection, row.id, commit_id.hex(), platform.random_bytes)
        # What was sent has done its service.
        exchanges.drop_exchange(connection, row.id)
    return release.document


def admitted_subjects(
    platform: Platform,
    connection: Connection,
    generation: PublishedGeneration,
    pinned: NDArray[np.int64],
    policy: Policy,
    now: int,
) -> tuple[NDArray[np.int64], int]:
    """The assertions that admit an audience, after the gate was asked again, and how many subjects that is.

    Args:
        platform: the open platform.
        connection: a transaction.
        generation: that of the session.
        pinned: (p,) int64, the assertions that permitted the matched pairs when it was published.
        policy: the one in force.
        now: microseconds since 1970.
    """
    granting = admitted_assertions(connection, generation, pinned, policy, platform.taxonomy, now)
    if not len(granting):
        return granting, 0
    _, admitted = load_chunks(connection, ascending(granting))
    return granting, len(admitted["subject"].drop_null().unique())
