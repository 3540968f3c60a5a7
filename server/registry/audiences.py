"""Audiences: what sessions did to them, in order, and whom that comes to.

A change is added with the commit that makes it, and only ever ends: then its members are deleted, in the
transaction that logs it, and the digest that the log has of them stays.

Not protected against: copies of the database that were made before a change ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from purposematch.protocol.ascending import ascending
from purposematch.protocol.audience import AudienceMode
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.members import (
    drop_members,
    load_members,
    member_changes,
    store_members,
)
from purposematch.server.registry.schema import (
    audience_change,
    commit,
    delegation,
    generation,
    session,
)

__all__ = [
    "RETENTION",
    "AudienceName",
    "Change",
    "add_change",
    "audience_changes",
    "changes_that_count",
    "due_changes",
    "end_change",
    "memberships",
]

RETENTION: Final = "retention"
"""Who ends a change when its time has come."""


@dataclass(frozen=True, slots=True, order=True)
class AudienceName:
    """Which audience: whose, brought by which partner (empty: by the advertiser itself), and its name."""

    advertiser: str
    partner: str
    name: str

    def to_mapping(self) -> dict[str, object]:
        """As the documents of commands have it; the partner is null where there is none."""
        return {"advertiser": self.advertiser, "partner": self.partner or None, "audience": self.name}


@dataclass(frozen=True, slots=True)
class Change:
    """What a session did to an audience.

    Attributes:
        number: in the order in which changes were made, from 1.
        session: its id, hexadecimal.
        of: which audience.
        mode: what it did.
        purpose: what its people were matched for.
        made_at: when it was committed, microseconds since 1970, like all times here.
        expires_at: from when on nobody is in the audience because of it.
        ended_at: when its members were deleted; None if they were not.
    """

    number: int
    session: str
    of: AudienceName
    mode: AudienceMode
    purpose: str
    made_at: int
    expires_at: int
    ended_at: int | None

    def is_live(self, now: int) -> bool:
        """Whether it still counts, at `now` in microseconds since 1970."""
        return self.ended_at is None and now < self.expires_at


def add_change(
    connection: Connection,
    session_id: str,
    of: AudienceName,
    mode: AudienceMode,
    expires_at: int,
    granting: NDArray[np.int64],
) -> None:
    """Records what a session, just committed, does to an audience.

    Whom it takes out stays out: it does not end before what it takes from, whatever `expires_at` says, and it
    names every identifier that they are in with, for the one that it matched may be erased.

    Args:
        connection: a transaction that writes.
        session_id: of the session, hexadecimal.
        of: which audience.
        mode: what it does.
        expires_at: microseconds since 1970.
        granting: (n,) int64, the assertion that permits each admitted pair; it names subject and identifier.
    """
    number = int(connection.scalar(select(func.max(audience_change.c.number))) or 0) + 1
    if mode is AudienceMode.REMOVE:
        before = audience_changes(connection, of)
        expires_at = max([expires_at, *(each.expires_at for each in before)])
        granting = _with_all_of_theirs(connection, before, granting)
    connection.execute(
        audience_change.insert().values(
            number=number,
            session=session_id,
            audience=of.name,
            mode=mode.value,
            expires_at=expires_at,
        )
    )
    store_members(connection, number, ascending(granting))


def _with_all_of_theirs(
    connection: Connection, before: Sequence[Change], granting: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Assertions, and those through which the same people are in an audience, ascending."""
    stored = [load_members(connection, each.number) for each in changes_that_count(before)]
    ids = ascending(np.concatenate([granting, *stored]))
    _, said = load_chunks(connection, ids, ["subject"])
    # Whoever was erased meanwhile is nobody, and not the same nobody.
    codes = said["subject"].dictionary_encode().indices.cast(pa.int64()).fill_null(-1).to_numpy()
    theirs = codes[np.searchsorted(ids, granting)]
    return ids[np.isin(codes, theirs[theirs >= 0]) | np.isin(ids, granting)]


def audience_changes(connection: Connection, of: AudienceName | None = None) -> list[Change]:
    """The changes of one audience or of all, in the order in which they were made."""
    question = (
        select(
            *(audience_change.c[name] for name in ("number", "session", "audience", "mode")),
            *(audience_change.c[name] for name in ("expires_at", "ended_at")),
            *(session.c.advertiser, delegation.c.partner, generation.c.purpose, commit.c.committed_at),
        )
        .join(session, session.c.id == audience_change.c.session)
        .join(commit, commit.c.session == session.c.id)
        .join(generation, generation.c.id == session.c.generation)
        .outerjoin(delegation, delegation.c.digest == session.c.delegation)
        .order_by(audience_change.c.number)
    )
    if of is not None:
        question = question.where(
            audience_change.c.audience == of.name, session.c.advertiser == of.advertiser
        )
    changes = [
        Change(
            number=row.number,
            session=row.session,
            of=AudienceName(row.advertiser, row.partner or "", row.audience),
            mode=AudienceMode(row.mode),
            purpose=row.purpose,
            made_at=row.committed_at,
            expires_at=row.expires_at,
            ended_at=row.ended_at,
        )
        for row in connection.execute(question)
    ]
    return [each for each in changes if of is None or each.of == of]


def due_changes(connection: Connection, now: int) -> list[int]:
    """The numbers of the changes whose time has come, ascending."""
    question = select(audience_change.c.number).where(
        audience_change.c.ended_at.is_(None), audience_change.c.expires_at <= now
    )
    return list(connection.execute(question.order_by(audience_change.c.number)).scalars())


def end_change(connection: Connection, number: int, by: str, now: int) -> None:
    """Ends a change that has not ended: its members are deleted.

    Args:
        connection: a transaction that writes; who calls logs it in the same one.
        number: of the change.
        by: `RETENTION`, or who has it ended.
        now: microseconds since 1970.
    """
    gone = {"ended_at": now, "ended_by": by, "sha256": drop_members(connection, number)}
    connection.execute(audience_change.update().where(audience_change.c.number == number).values(**gone))


def changes_that_count(changes: Sequence[Change]) -> Sequence[Change]:
    """The last of an audience's changes that replaced it, over or not, and those after it."""
    replaced = [at for at, each in enumerate(changes) if each.mode is AudienceMode.REPLACE]
    return changes[replaced[-1] if replaced else 0 :]


def memberships(connection: Connection, ids: Sequence[int]) -> list[tuple[str, int]]:
    """Session and assertion of every membership through one of some assertions.

    Every change that has not ended is asked for each of them, some microseconds a pair.

    Args:
        connection: a snapshot, or a transaction.
        ids: of distinct assertions; those of one session come in their order if they are ascending.

    Raises:
        DamagedMembersError: members are damaged.
    """
    sessions = dict(connection.execute(select(audience_change.c.number, audience_change.c.session)).all())
    return [(sessions[change], id_) for id_ in ids for change in member_changes(connection, id_)]
