"""Advertisers, sessions, their batches and commits.

A server process keeps none of this, so that any other one can take the next message of a session. Batches
are recorded in the transaction that checks what the session may still have evaluated.

Not protected against: an operator who edits the database.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select

from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.signing import SignedDocument
from purposematch.server.registry import log
from purposematch.server.registry.exchanges import drop_exchange
from purposematch.server.registry.schema import (
    advertiser,
    batch,
    commit,
    delegation,
    session,
)

__all__ = [
    "MAX_SESSION_MICROSECONDS",
    "Advertiser",
    "Batch",
    "SessionRow",
    "SessionState",
    "StoredCommit",
    "add_advertiser",
    "add_batch",
    "add_commit",
    "add_session",
    "batch_digest",
    "close_session",
    "count_attempt",
    "end_sessions_of",
    "end_sessions_opened_with",
    "end_sessions_under",
    "end_silent_sessions",
    "evaluated_elements",
    "find_advertiser",
    "find_commit",
    "find_session",
    "has_commit",
    "has_other_commit",
    "note_heard",
    "open_sessions",
    "recorded_batches",
    "sessions_by_state",
]


MAX_SESSION_MICROSECONDS: Final = 24 * 3_600 * 1_000_000
"""How long a session may be used: a day. Until all of its sessions end, the key of an epoch lives on."""


@dataclass(frozen=True, slots=True)
class Advertiser:
    """Who may open sessions: name, and when it was added, in microseconds since 1970."""

    name: str
    added_at: int


class SessionState(StrEnum):
    """What becomes of a session: it leaves `OPEN` once, and for good."""

    OPEN = "open"
    ENDED = "ended"
    """By the platform: the peer broke the protocol, or was silent for too long."""
    CLOSED = "closed"
    """By its advertiser."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session: id in hexadecimal, whose it is, its generation, the signed grant's bytes, the place of its
    leaf in the log, its state, and in microseconds since 1970 when it was opened and when a message came for
    it, give or take a minute; both are the same until it is used. If a partner opened it, who that is, and
    the digest of the delegation. What it is computed with."""

    id: str
    advertiser: str
    fingerprint: bytes
    generation: str
    grant: bytes
    leaf: int
    state: SessionState
    opened_at: int
    heard_at: int
    partner: str | None
    delegation: bytes | None
    engine: MatchEngine


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: its number, the SHA-256 of the request, its elements, those of them that the quota counts, and
    when it was received, in microseconds since 1970."""

    number: int
    digest: bytes
    elements: int
    charged: int
    received_at: int


@dataclass(frozen=True, slots=True)
class StoredCommit:
    """A commit: the SHA-256 of its entries, and the receipt, or the noisy report, as it was signed."""

    sha256: bytes
    receipt: SignedDocument


def add_advertiser(connection: Connection, added: Advertiser) -> None:
    """Records an advertiser.

    Raises:
        IntegrityError: through the registry's transaction, where the name is taken.
    """
    connection.execute(advertiser.insert().values(name=added.name, added_at=added.added_at))


def find_advertiser(connection: Connection, name: str) -> Advertiser | None:
    """The advertiser of that name, or None."""
    row = connection.execute(select(advertiser).where(advertiser.c.name == name)).one_or_none()
    return None if row is None else Advertiser(row.name, row.added_at)


def add_session(
    connection: Connection,
    grant: SessionGrant,
    document: SignedDocument,
    generation: str,
    owner: str,
    now: int,
    list_name: str | None = None,
) -> None:
    """Records a session as open; its event must be the next one in the log.

    Args:
        connection: a transaction that writes.
        grant, document: what the platform granted, and signed.
        generation: the name of the session's generation.
        owner: the advertiser whose agreement it runs under.
        now: microseconds since 1970.
        list_name: of the list that a partner brings; None where the advertiser opens it.
    """
    connection.execute(
        session.insert().values(
            id=grant.session.hex(),
            advertiser=owner,
            fingerprint=grant.client_certificate,
            agreement=grant.agreement,
            delegation=grant.delegation,
            list=list_name,
            generation=generation,
            elements=grant.list_size,
            engine=None if grant.engine is MatchEngine.OPRF else grant.engine.value,
            grant=document.content,
            log_size=log.size(connection),
            state=SessionState.OPEN,
            opened_at=now,
            heard_at=now,
        )
    )


# Only one who opened it under a delegation is somebody else than the advertiser.
_ONE = (
    select(session, delegation.c.partner)
    .outerjoin(delegation, delegation.c.digest == session.c.delegation)
    .where(session.c.id == bindparam("id"))
)


def find_session(connection: Connection, session_id: bytes) -> SessionRow | None:
    """The session of that id, or None."""
    row = connection.execute(_ONE, {"id": session_id.hex()}).one_or_none()
    if row is None:
        return None
    state = SessionState(row.state)
    return SessionRow(
        *(row.id, row.advertiser, row.fingerprint, row.generation, row.grant, row.log_size),
        *(state, row.opened_at, row.heard_at, row.partner, row.delegation),
        MatchEngine.OPRF if row.engine is None else MatchEngine(row.engine),
    )


def close_session(connection: Connection, session_id: str, state: SessionState, now: int) -> bool:
    """Leaves the state `open`; a session that left it already stays as it is. Returns whether it left now."""
    left = connection.execute(
        session.update()
        .where(session.c.id == session_id, session.c.state == SessionState.OPEN)
        .values(state=state, closed_at=now)
    )
    if left.rowcount != 1:
        return False
    drop_exchange(connection, session_id)
    return True


def count_attempt(connection: Connection, session_id: str) -> int:
    """Counts one more attempt of a session at its exchange by VOLE; how many there are with it."""
    here = session.c.id == session_id
    connection.execute(session.update().where(here).values(attempts=session.c.attempts + 1))
    attempts: int = connection.execute(select(session.c.attempts).where(here)).scalar_one()
    return attempts


def recorded_batches(connection: Connection, session_id: str) -> int:
    """How many batches of a session are recorded."""
    count: int = connection.execute(
        select(func.count()).select_from(batch).where(batch.c.session == session_id)
    ).scalar_one()
    return count


def note_heard(connection: Connection, session_id: str, now: int) -> None:
    """Notes that a message came for a session."""
    connection.execute(session.update().where(session.c.id == session_id).values(heard_at=now))


def end_silent_sessions(connection: Connection, silent_since: int, unused_since: int, now: int) -> list[str]:
    """Ends open sessions that nobody needs any more; returns their ids.

    Args:
        connection: a transaction that writes.
        silent_since: those end that no message came for since then,
        unused_since: those that were opened before and never used,
        now: and those that are a day old; all in microseconds since 1970.
    """
    silent = select(session.c.id).where(
        session.c.state == SessionState.OPEN,
        or_(
            session.c.heard_at < silent_since,
            and_(session.c.heard_at == session.c.opened_at, session.c.opened_at < unused_since),
            session.c.opened_at <= now - MAX_SESSION_MICROSECONDS,
        ),
    )
    ids = list(connection.execute(silent.order_by(session.c.id)).scalars())
    for id_ in ids:
        close_session(connection, id_, SessionState.ENDED, now)
    return ids


def end_sessions_of(connection: Connection, name: str, now: int) -> list[str]:
    """Ends the open sessions of an advertiser, whose agreement is not in force any more; gives their ids."""
    return _end_open(connection, session.c.advertiser == name, now)


def end_sessions_opened_with(connection: Connection, fingerprint: bytes, now: int) -> list[str]:
    """Ends the open sessions that were opened with a certificate, which was revoked; gives their ids."""
    return _end_open(connection, session.c.fingerprint == fingerprint, now)


def end_sessions_under(connection: Connection, digest: bytes, now: int) -> list[str]:
    """Ends the open sessions under the delegation of that digest, which was revoked; gives their ids."""
    return _end_open(connection, session.c.delegation == digest, now)


def _end_open(connection: Connection, condition: ColumnElement[bool], now: int) -> list[str]:
    meant = select(session.c.id).where(condition, session.c.state == SessionState.OPEN)
    ids = list(connection.execute(meant.order_by(session.c.id)).scalars())
    for id_ in ids:
        close_session(connection, id_, SessionState.ENDED, now)
    return ids


def open_sessions(connection: Connection) -> int:
    """How many sessions are open."""
    count: int = connection.execute(
        select(func.count()).select_from(session).where(session.c.state == SessionState.OPEN)
    ).scalar_one()
    return count


def sessions_by_state(connection: Connection) -> dict[SessionState, int]:
    """How many sessions there are in every state."""
    question = select(session.c.state, func.count()).group_by(session.c.state)
    found: dict[str, int] = {state: count for state, count in connection.execute(question)}
    return {state: found.get(state, 0) for state in SessionState}


# Every batch asks these three; building a statement anew takes longer than the database does.
_DIGEST = select(batch.c.sha256).where(
    batch.c.session == bindparam("session"), batch.c.number == bindparam("number")
)
_EVALUATED = select(func.coalesce(func.sum(batch.c.elements), 0)).where(
    batch.c.session == bindparam("session")
)
_ADD_BATCH = batch.insert()


def batch_digest(connection: Connection, session_id: str, number: int) -> bytes | None:
    """The SHA-256 under which a batch is recorded, or None."""
    digest: bytes | None = connection.execute(
        _DIGEST, {"session": session_id, "number": number}
    ).scalar_one_or_none()
    return digest


def evaluated_elements(connection: Connection, session_id: str) -> int:
    """Elements of all recorded batches of a session."""
    count: int = connection.execute(_EVALUATED, {"session": session_id}).scalar_one()
    return count


def add_batch(connection: Connection, session_id: str, recorded: Batch) -> None:
    """Records a batch."""
    row = {
        "session": session_id,
        "number": recorded.number,
        "sha256": recorded.digest,
        "elements": recorded.elements,
        "charged": recorded.charged,
        "received_at": recorded.received_at,
    }
    connection.execute(_ADD_BATCH, row)


def find_commit(connection: Connection, session_id: str, commit_id: bytes) -> StoredCommit | None:
    """A stored commit, or None."""
    row = connection.execute(
        select(commit).where(commit.c.session == session_id, commit.c.id == commit_id.hex())
    ).one_or_none()
    if row is None:
        return None
    return StoredCommit(row.sha256, SignedDocument(row.receipt, row.signature))


def has_commit(connection: Connection, session_id: str) -> bool:
    """Whether the session has a commit."""
    return connection.execute(select(commit.c.id).where(commit.c.session == session_id)).first() is not None


def has_other_commit(connection: Connection, session_id: str, commit_id: bytes) -> bool:
    """Whether the session has a commit of another id."""
    question = select(commit.c.id).where(commit.c.session == session_id, commit.c.id != commit_id.hex())
    return connection.execute(question).first() is not None


def add_commit(
    connection: Connection,
    session_id: str,
    commit_id: bytes,
    committed_at: int,
    stored: StoredCommit,
    policy_id: int,
    matched: int | None = None,
) -> None:
    """Records a commit; what it does to an audience is recorded next, with `audiences.add_change`.

    Args:
        connection: a transaction that writes.
        session_id: of the session, hexadecimal.
        commit_id: chosen by the client, 16 bytes.
        committed_at: microseconds since 1970.
        stored: as it will be answered again.
        policy_id: the policy under which the gate ran again.
        matched: of a set exchange, what was counted, exactly: subjects for `platform`, identifiers for
            `count`.
    """
    connection.execute(
        commit.insert().values(
            session=session_id,
            id=commit_id.hex(),
            sha256=stored.sha256,
            receipt=stored.receipt.content,
            signature=stored.receipt.signature,
            policy=policy_id,
            matched=matched,
            committed_at=committed_at,
        )
    )
