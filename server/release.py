"""Telling a noisy count: the question is looked up, paid for, answered, signed, stored and logged.

Two doors, for whoever runs the exchange that produces the exact count. `known_answer` is asked before an
exchange begins, and `release_count` in the transaction that finishes it. The exact count goes in there and
nowhere else, and what comes out, the signed report, holds the noisy value after threshold and rounding.

Not protected against: what the exact count itself is told to. Under `count` the platform knows it.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.errors import RefusedError
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.noisy_report import NoisyReport, reported_value
from purposematch.protocol.policy import Policy
from purposematch.protocol.signing import SignedDocument
from purposematch.server.noise import add_noise
from purposematch.server.platform import Platform
from purposematch.server.registry import ledger, releases
from purposematch.server.registry.budget import demand_budget
from purposematch.server.registry.releases import Question
from purposematch.server.registry.sessions import SessionRow

__all__ = ["Release", "known_answer", "noisy_value", "release_count"]


@dataclass(frozen=True, slots=True)
class Release:
    """An answer to a question.

    Attributes:
        document: the signed `NoisyReport`.
        new: whether it was paid for now. If not, somebody finished the same question before: then the
            session changes no audience.
    """

    document: SignedDocument
    new: bool


def known_answer(
    platform: Platform,
    connection: Connection,
    agreement: Agreement,
    label: bytes,
    generation: str,
    policy: Policy,
    now: int,
) -> SignedDocument | None:
    """The stored answer to a question, free of charge; None if it is new and can be paid for.

    Nothing is stored or charged. The budget is asked again when the exchange has finished, and may be spent
    by then.

    Args:
        platform: the open platform.
        connection: a snapshot, or a transaction.
        agreement: the one in force; its disclosure is noisy.
        label: of the list, 32 bytes, as the client sent it.
        generation: the id of the generation that would be asked, hexadecimal.
        policy: the one in force.
        now: microseconds since 1970.

    Raises:
        BudgetError, RefusedError: see `demand_budget`.
    """
    question = Question(agreement.legal_entity, label, generation, policy.digest, agreement.disclosure)
    stored = releases.find_answer(connection, question)
    if stored is None:
        demand_budget(connection, platform.config.budget, agreement, now)
    return stored


def release_count(
    platform: Platform,
    connection: Connection,
    session: SessionRow,
    agreement: Agreement,
    label: bytes,
    policy: Policy,
    exact: int,
    now: int,
) -> Release:
    """Answers a session's question: with what is stored for it, or with a new count that is paid for.

    Call it before anything else is stored for the session, and drop the transaction if it raises.

    Args:
        platform: the open platform.
        connection: the transaction that finishes the session.
        session: which.
        agreement: the one in force, under which the session was opened.
        label: as the client sent it when it opened the session, 32 bytes.
        policy: the one under which the gate decided who counts.
        exact: distinct subjects for `platform`; identifiers for `count`, of each subject at most as many as
            the agreement says. 0 or more.
        now: microseconds since 1970.

    Raises:
        BudgetError, RefusedError: see `demand_budget`; or another agreement is in force. Nothing was told.
    """
    grant = SessionGrant.parse(session.grant)
    if grant.agreement != agreement.digest:
        raise RefusedError("the agreement was replaced meanwhile")
    question = Question(
        agreement.legal_entity, label, session.generation, policy.digest, agreement.disclosure
    )
    stored = releases.find_answer(connection, question)
    if stored is not None:
        return Release(stored, new=False)
    epsilon = demand_budget(connection, platform.config.budget, agreement, now)
    released_at = releases.release_time(connection, now)
    report = NoisyReport(
        session=grant.session,
        agreement=agreement.digest,
        legal_entity=agreement.legal_entity,
        label=label,
        generation=bytes.fromhex(session.generation),
        policy=policy.digest,
        disclosure=agreement.disclosure,
        sensitivity=agreement.sensitivity,
        epsilon=epsilon,
        list_size=grant.list_size,
        value=noisy_value(agreement, exact),
        released_at=released_at,
    )
    answer = report.sign(platform.identity)
    number = releases.add_release(
        connection,
        question,
        session=session.id,
        purpose=agreement.purpose,
        policy_id=ledger.record_policy(connection, policy, now, platform.random_bytes),
        epsilon=epsilon,
        released_at=released_at,
        answer=answer,
    )
    ledger.record_release(connection, number, platform.random_bytes)
    return Release(answer, new=True)


def noisy_value(agreement: Agreement, exact: int) -> int:
    """What a report under a noisy agreement says of an exact count: noise first, then threshold and rounding.

    Every call tells something new, and is to be paid for.

    Raises:
        RefusedError: the disclosure is not noisy.
    """
    if agreement.release_epsilon is None:
        raise RefusedError("the agreement's disclosure has no noisy counts")
    return reported_value(add_noise(exact, agreement.sensitivity, agreement.release_epsilon))
