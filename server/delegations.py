"""Delegations as the platform takes them: recorded once the advertiser has signed one, and revoked.

What is revoked takes the partner's sessions that are open under it with it.

Not protected against: whoever has the advertiser's signing key delegates in its name.
"""

from purposematch.protocol.delegation import DelegationDocument, DelegationRevocation
from purposematch.protocol.errors import ConfigurationError, InputError, VerificationError
from purposematch.server.pki import Role
from purposematch.server.platform import Platform
from purposematch.server.registry import delegations, ledger, sessions
from purposematch.server.registry.agreements import latest_agreement
from purposematch.server.registry.certificates import certificates

__all__ = ["record_delegation", "revoke_delegation"]


def record_delegation(platform: Platform, document: DelegationDocument) -> None:
    """Puts a delegation into force.

    Args:
        platform: the open platform.
        document: as the advertiser signed it.

    Raises:
        InputError: it is not signed with the key that accepted the advertiser's latest agreement, it is for
            another platform or purpose, has expired, or has a number that was used.
        ConfigurationError: there is no such advertiser with an agreement, or no such partner.
    """
    delegation, now = document.delegation, platform.clock()
    name = delegation.advertiser
    if delegation.platform_id != platform.config.platform_id:
        raise InputError(f"the delegation is for platform {delegation.platform_id}; nothing was recorded")
    with platform.registry.writing() as connection:
        agreement = latest_agreement(connection, name)
        if agreement is None:
            raise ConfigurationError(f"there is no advertiser {name} with an agreement to delegate under")
        try:
            document.check(agreement.acceptance.key)
        except VerificationError as error:
            raise InputError(f"{error}; nothing was recorded") from None
        if not certificates(connection, Role.PARTNER, delegation.partner):
            raise ConfigurationError(
                f"there is no partner {delegation.partner}: add it first with purposematch-platform partner "
                "add"
            )
        if delegation.purpose != agreement.agreement.purpose:
            raise InputError(f"the delegation is for another purpose than the agreement of {name}")
        if delegation.expires_at <= now:
            raise InputError("the delegation has expired; nothing was recorded")
        if delegations.find_delegation(connection, name, delegation.number) is not None:
            raise InputError(f"delegation {delegation.number} of {name} was recorded before")
        delegations.add_delegation(connection, document, now)
        ledger.record_delegation(connection, name, delegation.number, platform.random_bytes)


def revoke_delegation(
    platform: Platform, name: str, number: int, revocation: DelegationRevocation | None
) -> int:
    """Revokes a delegation, at once and for good; how many open sessions that ended.

    Args:
        platform: the open platform.
        name: the advertiser's.
        number: the delegation's.
        revocation: signed by the advertiser; None where the platform does it of its own accord.

    Raises:
        InputError: the signature does not hold, or is for another delegation.
        ConfigurationError: there is no such delegation, or it was revoked before.
    """
    now = platform.clock()
    with platform.registry.writing() as connection:
        stored = delegations.find_delegation(connection, name, number)
        if stored is None:
            raise ConfigurationError(
                f"there is no delegation {number} of {name}: see delegation list. One that was handed out "
                "and never recorded must be recorded first; then its revocation holds for good"
            )
        digest = stored.delegation.digest
        if revocation is not None:
            try:
                revocation.check(stored.document.key)
            except VerificationError as error:
                raise InputError(f"{error}; nothing was revoked") from None
            if revocation.digest != digest:
                raise InputError(f"the revocation is not of delegation {number} of {name}")
        signature = None if revocation is None else revocation.signature
        if not delegations.revoke_delegation(connection, name, number, signature, now):
            raise ConfigurationError(f"delegation {number} of {name} was revoked already")
        ledger.record_delegation_revocation(connection, name, number, platform.random_bytes)
        ended = sessions.end_sessions_under(connection, digest, now)
        ledger.record_session_ends(connection, ended, platform.random_bytes)
    return len(ended)
