"""Delegations of advertisers to partners, as rows: every one is kept.

Not protected against: an operator who edits the database; the audit finds it.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, Row, select, update

from purposematch.protocol.delegation import Delegation, DelegationDocument
from purposematch.protocol.errors import RefusedError
from purposematch.server.registry.schema import delegation

__all__ = [
    "StoredDelegation",
    "add_delegation",
    "delegation_in_force",
    "delegations",
    "find_delegation",
    "revoke_delegation",
]


@dataclass(frozen=True, slots=True)
class StoredDelegation:
    """A delegation as its advertiser signed it, and what became of it; times are microseconds since 1970.

    Attributes:
        document: what was signed.
        recorded_at: when the platform recorded it.
        revoked_at: when it was revoked; None if it was not.
        by_advertiser: whether its advertiser signed the revocation.
    """

    document: DelegationDocument
    recorded_at: int
    revoked_at: int | None
    by_advertiser: bool

    @property
    def delegation(self) -> Delegation:
        """What was signed."""
        return self.document.delegation


def add_delegation(connection: Connection, document: DelegationDocument, now: int) -> None:
    """Records a delegation whose signature was checked.

    Args:
        connection: a transaction that writes.
        document: what was signed; its number is not used.
        now: microseconds since 1970.
    """
    signed = document.delegation
    connection.execute(
        delegation.insert().values(
            advertiser=signed.advertiser,
            number=signed.number,
            partner=signed.partner,
            digest=signed.digest,
            content=signed.canonical_bytes(),
            advertiser_key=document.key,
            signature=document.signature,
            recorded_at=now,
        )
    )


def find_delegation(connection: Connection, name: str, number: int) -> StoredDelegation | None:
    """The delegation of an advertiser with that number, or None."""
    wanted = select(delegation).where(delegation.c.advertiser == name, delegation.c.number == number)
    row = connection.execute(wanted).one_or_none()
    return None if row is None else _stored(row)


def delegations(connection: Connection, name: str | None = None) -> list[StoredDelegation]:
    """All delegations, or those of an advertiser, by advertiser and number."""
    wanted = select(delegation).order_by(delegation.c.advertiser, delegation.c.number)
    if name is not None:
        wanted = wanted.where(delegation.c.advertiser == name)
    return [_stored(row) for row in connection.execute(wanted)]


def delegation_in_force(connection: Connection, digest: bytes, partner: str, now: int) -> StoredDelegation:
    """The delegation of that digest, if that partner may match under it at the time `now`.

    Raises:
        RefusedError: there is none for this partner, it was revoked, or it has expired; the text may be told
            to the partner.
    """
    row = connection.execute(select(delegation).where(delegation.c.digest == digest)).one_or_none()
    if row is None or row.partner != partner:
        raise RefusedError("no advertiser has delegated this: the platform must record a delegation first")
    stored = _stored(row)
    number, name = stored.delegation.number, stored.delegation.advertiser
    if stored.revoked_at is not None:
        raise RefusedError(f"delegation {number} of {name} was revoked: ask {name} for a new one")
    if now >= stored.delegation.expires_at:
        raise RefusedError(f"delegation {number} of {name} has expired: ask {name} for a new one")
    return stored


def revoke_delegation(
    connection: Connection, name: str, number: int, revocation: bytes | None, now: int
) -> bool:
    """Revokes a delegation, for good. Returns whether it was not revoked before.

    Args:
        connection: a transaction that writes.
        name: the advertiser's.
        number: the delegation's.
        revocation: the advertiser's signature, 64 bytes; None where the platform revokes it.
        now: microseconds since 1970.
    """
    changed = connection.execute(
        update(delegation)
        .where(
            delegation.c.advertiser == name,
            delegation.c.number == number,
            delegation.c.revoked_at.is_(None),
        )
        .values(revoked_at=now, revocation=revocation)
    )
    return changed.rowcount == 1


def _stored(row: Row[tuple[object, ...]]) -> StoredDelegation:
    document = DelegationDocument(Delegation.decode(row.content), row.advertiser_key, row.signature)
    return StoredDelegation(document, row.recorded_at, row.revoked_at, row.revocation is not None)
