"""Which generations were published, and which one is in force.

Not protected against: a generation whose files were removed; loading it says so.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, bindparam, func, or_, select

from purposematch.protocol.identifiers import Profile
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.purpose import REFUSALS, Origin
from purposematch.protocol.signing import SignedDocument
from purposematch.server.registry import log
from purposematch.server.registry.chunks import terms_after
from purposematch.server.registry.schema import generation, policy, session, terms
from purposematch.server.registry.sessions import SessionState

__all__ = [
    "PublishedGeneration",
    "add_generation",
    "epoch_started_at",
    "find_generation",
    "generations_in_use",
    "latest_generation",
    "manifest_leaf",
    "oldest_epoch_in_use",
    "open_sessions_before",
    "published_generations",
    "withdrawal_after",
]


@dataclass(frozen=True, slots=True)
class PublishedGeneration:
    """What the registry knows of a generation without opening its files.

    Attributes:
        name: 32 hexadecimal digits.
        purpose: of its scope, like the next two.
        profile: the normalization profile.
        epoch: the key epoch.
        watermark: the last assertion that it covers.
        decisions: the last decision that it is pinned to.
        count: enrolled identifiers, without canaries.
        published_at: microseconds since 1970, like the next one.
        valid_until: no session opens on it from then on.
        policy: digest of the policy that the gate applied, 32 bytes.
    """

    name: str
    purpose: str
    profile: Profile
    epoch: int
    watermark: int
    decisions: int
    count: int
    published_at: int
    valid_until: int
    policy: bytes


def add_generation(
    connection: Connection,
    manifest: Manifest,
    document: SignedDocument,
    *,
    policy_id: int,
    watermark: int,
    decisions: int,
    table_sha256: bytes,
) -> int:
    """Puts a generation, whose files are on the disk, into service; returns its number.

    Args:
        connection: a transaction that writes.
        manifest: as parsed.
        document: as signed.
        policy_id: of the policy that the gate applied.
        watermark: the last assertion that it covers.
        decisions: the last decision that it is pinned to.
        table_sha256: of its private files, 32 bytes.
    """
    number: int = (connection.scalar(select(func.max(generation.c.number))) or 0) + 1
    connection.execute(
        generation.insert().values(
            id=manifest.name,
            number=number,
            purpose=manifest.scope.purpose,
            profile=str(manifest.scope.profile),
            epoch=manifest.scope.epoch,
            policy=policy_id,
            watermark=watermark,
            decisions=decisions,
            elements=manifest.count,
            published_at=manifest.published_at,
            valid_until=manifest.valid_until,
            manifest=document.content,
            table_sha256=table_sha256,
            log_size=log.size(connection),
            log_root=log.root(connection),
        )
    )
    return number


def latest_generation(connection: Connection) -> PublishedGeneration | None:
    """The generation published last, or None."""
    row = connection.execute(_latest).one_or_none()
    return None if row is None else _published(row)


def find_generation(connection: Connection, name: str) -> PublishedGeneration:
    """The generation of a session."""
    return _published(connection.execute(_named, {"name": name}).one())


# Every session asks these; building a question anew takes longer than its answer.
_known = select(generation, policy.c.digest).join(policy, policy.c.id == generation.c.policy)
_latest = _known.order_by(generation.c.number.desc()).limit(1)
_named = _known.where(generation.c.id == bindparam("name"))
_leaf = select(generation.c.log_size).where(generation.c.id == bindparam("name"))


def _published(row: Row[Any]) -> PublishedGeneration:
    return PublishedGeneration(
        name=row.id,
        purpose=row.purpose,
        profile=Profile(row.profile),
        epoch=row.epoch,
        watermark=row.watermark,
        decisions=row.decisions,
        count=row.elements,
        published_at=row.published_at,
        valid_until=row.valid_until,
        policy=row.digest,
    )


def epoch_started_at(connection: Connection, epoch: int) -> int:
    """When the first generation of an epoch was published; microseconds since 1970."""
    started: int = connection.execute(
        select(func.min(generation.c.published_at)).where(generation.c.epoch == epoch)
    ).scalar_one()
    return started


def withdrawal_after(connection: Connection, watermark: int, tainting: Collection[Origin]) -> bool:
    """Whether something that takes a permission away arrived after a generation's watermark.

    Args:
        connection: a snapshot.
        watermark: the generation's.
        tainting: origins whose mere arrival takes permissions away, under a policy with strict origins.
    """
    ids: NDArray[np.int64] | None = None
    for arrived in terms_after(connection, watermark):
        if ids is None:
            # Nearly always nothing arrived since, and then nobody needs to know.
            ids = _taking_away(connection, tainting)
        if np.isin(arrived, ids).any():
            return True
    return False


def _taking_away(connection: Connection, tainting: Collection[Origin]) -> NDArray[np.int64]:
    """`terms.id` of what takes a permission away."""
    matters = or_(terms.c.status.in_(list(map(int, REFUSALS))), terms.c.origin.in_(list(map(int, tainting))))
    return np.array(connection.execute(select(terms.c.id).where(matters)).scalars().all(), np.int64)


def manifest_leaf(connection: Connection, name: str) -> int:
    """The place in the log of the leaf that names a generation's manifest."""
    leaf: int = connection.execute(_leaf, {"name": name}).scalar_one()
    return leaf


def generations_in_use(connection: Connection) -> set[str]:
    """Names of the generations that open sessions are on."""
    question = select(session.c.generation).where(session.c.state == SessionState.OPEN).distinct()
    return set(connection.execute(question).scalars())


def published_generations(connection: Connection) -> set[str]:
    """Names of all generations that ever came into service."""
    return set(connection.execute(select(generation.c.id)).scalars())


def open_sessions_before(connection: Connection, epoch: int) -> int:
    """How many sessions are open on generations of epochs before this one."""
    question = (
        select(func.count())
        .select_from(session)
        .join(generation, session.c.generation == generation.c.id)
        .where(session.c.state == SessionState.OPEN, generation.c.epoch < epoch)
    )
    count: int = connection.execute(question).scalar_one()
    return count


def oldest_epoch_in_use(connection: Connection) -> int | None:
    """The lowest epoch that an open session is on, or None."""
    question = (
        select(func.min(generation.c.epoch))
        .join(session, session.c.generation == generation.c.id)
        .where(session.c.state == SessionState.OPEN)
    )
    oldest: int | None = connection.execute(question).scalar_one()
    return oldest
