"""Which generations were published, and which one is in force.

Not protected against: a generation whose files were removed; loading it says so.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from purposematch.protocol.manifest import Manifest
from purposematch.protocol.purpose import Status
from purposematch.protocol.signing import SignedDocument
from purposematch.server.registry.schema import assertion, decision, generation, policy, session, terms

__all__ = [
    "PublishedGeneration",
    "add_generation",
    "epoch_started_at",
    "generations_in_use",
    "highest_decision",
    "latest_generation",
    "oldest_epoch_in_use",
    "withdrawal_after",
]

_REFUSALS = (Status.REFUSED, Status.WITHDRAWN, Status.OBJECTED, Status.UNREADABLE)


@dataclass(frozen=True, slots=True)
class PublishedGeneration:
    """What the registry knows of a generation without opening its files.

    Attributes:
        name: 32 hexadecimal digits.
        scope_key: purpose, profile and epoch.
        watermark: the last assertion that it covers.
        decisions: the last decision that it is pinned to.
        valid_until: microseconds since 1970.
        policy: digest of the policy that the gate applied, 32 bytes.
    """

    name: str
    scope_key: tuple[str, str, int]
    watermark: int
    decisions: int
    valid_until: int
    policy: bytes


def add_generation(
    connection: Connection, manifest: Manifest, document: SignedDocument, policy_id: int, decisions: int
) -> None:
    """Puts a generation, whose files are on the disk, into service."""
    connection.execute(
        generation.insert().values(
            id=manifest.name,
            number=(connection.scalar(select(func.max(generation.c.number))) or 0) + 1,
            purpose=manifest.scope.purpose,
            profile=str(manifest.scope.profile),
            epoch=manifest.scope.epoch,
            policy=policy_id,
            watermark=manifest.watermark,
            decisions=decisions,
            elements=manifest.count,
            published_at=manifest.published_at,
            valid_until=manifest.valid_until,
            manifest=document.content,
        )
    )


def latest_generation(connection: Connection) -> PublishedGeneration | None:
    """The generation published last, or None."""
    row = connection.execute(
        select(generation, policy.c.digest)
        .join(policy, policy.c.id == generation.c.policy)
        .order_by(generation.c.number.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return PublishedGeneration(
        name=row.id,
        scope_key=(row.purpose, row.profile, row.epoch),
        watermark=row.watermark,
        decisions=row.decisions,
        valid_until=row.valid_until,
        policy=row.digest,
    )


def epoch_started_at(connection: Connection, epoch: int) -> int:
    """When the first generation of an epoch was published; microseconds since 1970."""
    started: int = connection.execute(
        select(func.min(generation.c.published_at)).where(generation.c.epoch == epoch)
    ).scalar_one()
    return started


def highest_decision(connection: Connection) -> int:
    """The id of the latest decision, 0 if there is none."""
    return connection.scalar(select(func.max(decision.c.id))) or 0


def withdrawal_after(connection: Connection, watermark: int) -> bool:
    """Whether a refusal, withdrawal or objection arrived after a generation's watermark."""
    question = (
        select(assertion.c.id)
        .join(terms, terms.c.id == assertion.c.terms)
        .where(assertion.c.id > watermark, terms.c.status.in_([int(status) for status in _REFUSALS]))
        .limit(1)
    )
    return connection.execute(question).first() is not None


def generations_in_use(connection: Connection) -> set[str]:
    """Names of the generations that open sessions are on."""
    return set(
        connection.execute(select(session.c.generation).where(session.c.state == "open").distinct()).scalars()
    )


def oldest_epoch_in_use(connection: Connection) -> int | None:
    """The lowest epoch that an open session is on, or None."""
    question = (
        select(func.min(generation.c.epoch))
        .join(session, session.c.generation == generation.c.id)
        .where(session.c.state == "open")
    )
    oldest: int | None = connection.execute(question).scalar_one()
    return oldest
