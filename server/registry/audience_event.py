"""What the log says of commits, and of the audiences that they change, until these end or leave the platform.

See `purposematch.server.registry.events`, whose rules are those of this module.

Not protected against: members that were false when they were written.
"""

from hashlib import sha256

from sqlalchemy import Connection, select

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.events import Event, EventKind
from purposematch.server.registry.audiences import AudienceName
from purposematch.server.registry.events import policy_digest, stored_row
from purposematch.server.registry.row_digests import audience_digest
from purposematch.server.registry.schema import audience_change, commit, member_chunk

__all__ = ["audience_expiry_event", "audience_export_event", "commit_event"]


def commit_event(connection: Connection, session_id: str, id_: str) -> Event:
    """A session's matches were committed."""
    row = stored_row(connection, commit, session=session_id, id=id_)
    fields = {
        "session": session_id,
        "commit": id_,
        "entries": row.sha256.hex(),
        "receipt": sha256(row.receipt + row.signature).hexdigest(),
        "policy": policy_digest(connection, row.policy),
        "audience": _audience(connection, session_id),
        "matched": row.matched,
    }
    return Event(EventKind.COMMIT, row.committed_at, fields)


def _audience(connection: Connection, session_id: str) -> dict[str, object] | None:
    """What a commit did to an audience; None if nothing."""
    of_session = audience_change.c.session == session_id
    row = connection.execute(select(audience_change).where(of_session)).one_or_none()
    if row is None:
        return None
    members = audience_digest(connection, row.number)
    if row.ended_at is not None:
        there = select(member_chunk.c.first).where(member_chunk.c.change == row.number)
        if connection.execute(there.limit(1)).first() is not None:
            raise IntegrityError(
                f"table audience_change row {row.number} has ended, and table member_chunk has its members"
            )
        if row.sha256 is None:
            raise IntegrityError(f"table audience_change row {row.number} has ended, and lacks its digest")
        members = row.sha256
    return {
        "number": row.number,
        "name": row.audience,
        "mode": row.mode,
        "expires_at": row.expires_at,
        "members": members.hex(),
    }


def audience_expiry_event(connection: Connection, number: int) -> Event:
    """What a session did to an audience ended, and its members are gone.

    Raises:
        IntegrityError: it did not.
    """
    row = stored_row(connection, audience_change, number=number)
    if row.ended_at is None:
        raise IntegrityError(f"table audience_change row {number} has ended and is not")
    fields = {"number": number, "session": row.session, "by": row.ended_by, "members": row.sha256.hex()}
    return Event(EventKind.AUDIENCE_EXPIRY, row.ended_at, fields)


def audience_export_event(of: AudienceName, count: int, file_format: str, by: str, at: int) -> Event:
    """So many subjects of an audience were written into a file for an ad server. No row says it."""
    fields = {**of.to_mapping(), "count": count, "format": file_format, "by": by}
    return Event(EventKind.AUDIENCE_EXPORT, at, fields)
