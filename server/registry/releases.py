"""Noisy counts that were told: each is stored with its signed answer, and found by its question.

Not protected against: an operator who edits the database; the audit finds it.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.signing import SignedDocument
from purposematch.server.registry.schema import generation, policy, release

__all__ = ["Question", "add_release", "find_answer", "release_time"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the same question has one answer.

    Attributes:
        legal_entity: who asks, and pays.
        label: of the list, 32 bytes.
        generation: the id of the generation, hexadecimal.
        policy: digest of the policy under which the gate decides, 32 bytes.
        disclosure: what is counted.
    """

    legal_entity: str
    label: bytes
    generation: str
    policy: bytes
    disclosure: Disclosure


def find_answer(connection: Connection, question: Question) -> SignedDocument | None:
    """The signed report that was stored for a question, or None."""
    stored = (
        select(release.c.content, release.c.signature)
        .join(policy, policy.c.id == release.c.policy)
        .where(
            release.c.legal_entity == question.legal_entity,
            release.c.label == question.label,
            release.c.generation == question.generation,
            policy.c.digest == question.policy,
            release.c.disclosure == question.disclosure.value,
        )
    )
    row = connection.execute(stored).one_or_none()
    return None if row is None else SignedDocument(row.content, row.signature)


def release_time(connection: Connection, now: int) -> int:
    """When a count that is told now counts as told: now, but not before an earlier one or a publication.

    What was told while a clock was set back would otherwise be out of the budget's window too soon.
    """
    latest = (func.max(release.c.released_at), func.max(generation.c.published_at))
    return max(now, *(connection.scalar(select(each)) or 0 for each in latest))


def add_release(
    connection: Connection,
    question: Question,
    *,
    session: str,
    purpose: str,
    policy_id: int,
    epsilon: int,
    released_at: int,
    answer: SignedDocument,
) -> int:
    """Stores an answer; its id.

    Args:
        connection: a transaction that writes.
        question: what it answers.
        session: the id of the session that asked, hexadecimal.
        purpose: of the scope.
        policy_id: that of the question's policy.
        epsilon: what it costs, in millionths.
        released_at: as `release_time` gave it.
        answer: the signed report.
    """
    number = int(connection.scalar(select(func.max(release.c.id))) or 0) + 1
    connection.execute(
        release.insert().values(
            id=number,
            session=session,
            legal_entity=question.legal_entity,
            purpose=purpose,
            label=question.label,
            generation=question.generation,
            policy=policy_id,
            disclosure=question.disclosure.value,
            epsilon=epsilon,
            released_at=released_at,
            content=answer.content,
            signature=answer.signature,
        )
    )
    return number
