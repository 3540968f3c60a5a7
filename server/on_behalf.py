"""For whom somebody matches: an advertiser for itself, a partner for the advertiser that delegated it.

Not protected against: a partner that brings another list than the one that it names; no side shows its list.
"""

from sqlalchemy import Connection

from purposematch.protocol.agreement import LARGEST_LIST_ELEMENTS, Agreement
from purposematch.protocol.delegation import DelegatedList
from purposematch.protocol.errors import RefusedError, VerificationError
from purposematch.server.pki import PeerIdentity, Role
from purposematch.server.registry.agreements import agreement_in_force, latest_agreement
from purposematch.server.registry.delegations import delegation_in_force
from purposematch.server.registry.sessions import SessionRow

__all__ = ["demand_in_force", "owner_of"]


def owner_of(
    connection: Connection, peer: PeerIdentity, delegated: DelegatedList | None, now: int
) -> tuple[str, int]:
    """For whom a peer opens a session, and how many identifiers a delegation allows at most.

    Raises:
        RefusedError: a partner has no delegation in force, or one that does not name the list; or an
            advertiser says that it has one.
    """
    if peer.role is Role.ADVERTISER:
        if delegated is not None:
            raise RefusedError("an advertiser matches in its own name, under no delegation")
        return peer.name, LARGEST_LIST_ELEMENTS
    if delegated is None:
        raise RefusedError("a partner matches for an advertiser, under a delegation of it")
    stored = delegation_in_force(connection, delegated.digest, peer.name, now)
    delegation = stored.delegation
    if delegated.name not in delegation.lists:
        raise RefusedError(f"delegation {delegation.number} does not name this list")
    agreement = agreement_in_force(connection, delegation.advertiser, now)
    if agreement.purpose != delegation.purpose:
        raise RefusedError("the delegation is for another purpose than the agreement in force")
    latest = latest_agreement(connection, delegation.advertiser)
    try:
        if latest is None:
            raise VerificationError("there is no key")
        # A key that was replaced may be known to others, and what it signed is not trusted any more.
        stored.document.check(latest.acceptance.key)
    except VerificationError:
        which = f"delegation {delegation.number} is not signed with the key"
        raise RefusedError(f"{which} that {delegation.advertiser} has now: ask it for a new one") from None
    return delegation.advertiser, delegation.max_list_elements


def demand_in_force(connection: Connection, row: SessionRow, now: int) -> Agreement:
    """Checks that the agreement of a session, and the delegation if there is one, are in force.

    Returns:
        The agreement.

    Raises:
        RefusedError: one of them is not.
    """
    agreement = agreement_in_force(connection, row.advertiser, now)
    if row.delegation is not None and row.partner is not None:
        delegation_in_force(connection, row.delegation, row.partner, now)
    return agreement
