"""Client certificates as rows: who is admitted with which, until when, and which were revoked.

Every certificate is kept, so that what was done with one can be told for ever.

Not protected against: an operator who edits the database; the audit finds it.
"""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Row, bindparam, func, select, update

from purposematch.server.pki import Role
from purposematch.server.registry.schema import certificate

__all__ = [
    "RecordedCertificate",
    "RevocationReason",
    "add_certificate",
    "certificates",
    "ending_certificates",
    "find_certificate",
    "revoke_certificate",
]


class RevocationReason(StrEnum):
    """Why a certificate was revoked (after RFC 5280, 5.3.1). The labels are in stored leaves: they are never
    changed or used again."""

    KEY_COMPROMISE = "key_compromise"
    """Somebody else may have its key."""
    SUPERSEDED = "superseded"
    """Its holder has another one."""
    CESSATION_OF_OPERATION = "cessation_of_operation"
    """Its holder does not need it any more."""
    PRIVILEGE_WITHDRAWN = "privilege_withdrawn"
    """Its holder may not do this any more."""
    UNSPECIFIED = "unspecified"
    """None of these, or it is not said."""


@dataclass(frozen=True, slots=True)
class RecordedCertificate:
    """A certificate that is, or was, admitted. Times are microseconds since 1970.

    Attributes:
        fingerprint: SHA-256 of its DER encoding, 32 bytes.
        role, name: its holder.
        not_after: when it ends by itself.
        recorded_at: since when it is admitted.
        revoked_at, reason: when and why it was revoked; None where it was not.
    """

    fingerprint: bytes
    role: Role
    name: str
    not_after: int
    recorded_at: int
    revoked_at: int | None = None
    reason: RevocationReason | None = None


def add_certificate(connection: Connection, added: RecordedCertificate) -> None:
    """Records a certificate.

    Args:
        connection: a transaction that writes.
        added: not revoked, and none that was recorded before.
    """
    connection.execute(
        certificate.insert().values(
            fingerprint=added.fingerprint,
            role=added.role,
            name=added.name,
            not_after=added.not_after,
            recorded_at=added.recorded_at,
        )
    )


# Every call asks it; building the question anew takes longer than the answer.
_ONE = select(certificate).where(certificate.c.fingerprint == bindparam("fingerprint"))


def find_certificate(connection: Connection, fingerprint: bytes) -> RecordedCertificate | None:
    """The certificate with that fingerprint, or None."""
    row = connection.execute(_ONE, {"fingerprint": fingerprint}).one_or_none()
    return None if row is None else _recorded(row)


def certificates(
    connection: Connection, role: Role | None = None, name: str | None = None
) -> list[RecordedCertificate]:
    """All certificates, or those of a role, of a name, or of both, by holder in the order of recording."""
    wanted = select(certificate)
    if role is not None:
        wanted = wanted.where(certificate.c.role == role)
    if name is not None:
        wanted = wanted.where(certificate.c.name == name)
    columns = certificate.c
    ordered = wanted.order_by(columns.role, columns.name, columns.recorded_at, columns.fingerprint)
    return [_recorded(row) for row in connection.execute(ordered)]


def ending_certificates(connection: Connection) -> list[tuple[Role, str, int]]:
    """Role and name of everybody who has a certificate that is not revoked, and when their last one ends."""
    columns = certificate.c
    last = (
        select(columns.role, columns.name, func.max(columns.not_after))
        .where(columns.revoked_at.is_(None))
        .group_by(columns.role, columns.name)
        .order_by(columns.role, columns.name)
    )
    return [(Role(role), name, ends) for role, name, ends in connection.execute(last)]


def revoke_certificate(
    connection: Connection, fingerprint: bytes, reason: RevocationReason, now: int
) -> bool:
    """Revokes a certificate, for good. Returns whether it was not revoked before."""
    changed = connection.execute(
        update(certificate)
        .where(certificate.c.fingerprint == fingerprint, certificate.c.revoked_at.is_(None))
        .values(revoked_at=now, reason=reason)
    )
    return changed.rowcount == 1


def _recorded(row: Row[tuple[object, ...]]) -> RecordedCertificate:
    reason = None if row.reason is None else RevocationReason(row.reason)
    return RecordedCertificate(
        *(row.fingerprint, Role(row.role), row.name, row.not_after, row.recorded_at, row.revoked_at, reason)
    )
