"""Who is admitted with which certificate: recorded, renewed and revoked, each with its leaf in the log.

A certificate is good for nothing before it is recorded, whoever signed it. Several of one holder may be good
at a time, so that one can be replaced without a gap. A revoked one is refused from its next call on, and the
sessions that were opened with it end at once.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from purposematch.protocol.errors import ConfigurationError, InputError
from purposematch.server.credentials import (
    ClientCertificate,
    demand_folder_of,
    issue_certificate,
    read_certificate,
    replace_credentials,
    write_credentials,
)
from purposematch.server.pki import (
    Role,
    alternative_names,
    issue_server,
    load_certified_key,
    read_certificates,
)
from purposematch.server.platform import Platform
from purposematch.server.private_files import replace_file
from purposematch.server.registry import ledger, sessions
from purposematch.server.registry.agreements import latest_agreement
from purposematch.server.registry.certificates import (
    RecordedCertificate,
    RevocationReason,
    add_certificate,
    certificates,
    find_certificate,
    revoke_certificate,
)
from purposematch.server.times import microseconds, moment

__all__ = [
    "admit_member",
    "client_certificate",
    "demand_certificates",
    "record_certificate",
    "renew_certificate",
    "renew_server_certificate",
    "revoke_certificates",
    "store_certificate",
]

_LEAST_PREFIX = 8
"""Digits of a fingerprint that must at least be given to name a certificate."""


def client_certificate(platform: Platform, role: Role, name: str, given: Path | None) -> ClientCertificate:
    """The certificate that somebody new gets, or brings in the file `given`; nothing is stored.

    Raises:
        ConfigurationError: it is somebody else's, or see `issue_certificate` and `read_certificate`.
        InputError: the name is not of its form.
    """
    platform_id, now = platform.config.platform_id, moment(platform.clock())
    if given is None:
        return issue_certificate(platform.data_dir, platform_id, role, name, now)
    found = read_certificate(given, platform.data_dir, platform_id, now)
    if (found.holder.role, found.holder.name) != (role, name):
        raise ConfigurationError(
            f"{given} is a certificate of {found.holder.role} {found.holder.name}, not of {role} {name}"
        )
    return found


def store_certificate(
    platform: Platform, connection: Connection, client: ClientCertificate
) -> RecordedCertificate:
    """Records and logs a certificate in a transaction.

    Raises:
        ConfigurationError: it was recorded before.
    """
    holder = client.holder
    if find_certificate(connection, holder.fingerprint) is not None:
        raise ConfigurationError("this certificate was recorded before: see certificate list")
    added = RecordedCertificate(
        fingerprint=holder.fingerprint,
        role=holder.role,
        name=holder.name,
        not_after=microseconds(client.not_after),
        recorded_at=platform.clock(),
    )
    add_certificate(connection, added)
    ledger.record_certificate(connection, holder.fingerprint, platform.random_bytes)
    return added


def admit_member(
    platform: Platform, role: Role, name: str, given: Path | None, out: Path
) -> RecordedCertificate:
    """Admits somebody who is no advertiser, and writes the credentials folder.

    Args:
        platform: the open platform.
        role: what they may do.
        name: what they are called from now on.
        given: a certificate that another authority issued, or None for one of the development authority.
        out: the folder to write; it must not exist yet, or be empty.

    Raises:
        ConfigurationError: somebody has that role and name, the folder cannot be written, or see
            `client_certificate`. After any error there is neither folder nor member.
        InputError: the name is not of its form.
    """
    client = client_certificate(platform, role, name, given)
    with platform.registry.writing() as connection:
        # A name stays with its holder, also after its certificates: delegations and sources are of that name.
        if certificates(connection, role, name):
            raise ConfigurationError(
                f"{role} {name} was added already: choose another name, or give it another certificate "
                "with certificate renew or certificate add"
            )
        added = store_certificate(platform, connection, client)
        write_credentials(platform.data_dir, platform.identity_key, client, out)
    return added


def record_certificate(platform: Platform, given: Path) -> RecordedCertificate:
    """Admits somebody who is known with one more certificate, which another authority issued.

    Raises:
        ConfigurationError: nobody is known who has its role and name, it was recorded before, or see
            `read_certificate`.
    """
    now = moment(platform.clock())
    client = read_certificate(given, platform.data_dir, platform.config.platform_id, now)
    with platform.registry.writing() as connection:
        _demand_known(connection, client.holder.role, client.holder.name)
        return store_certificate(platform, connection, client)


def renew_certificate(platform: Platform, role: Role, name: str, out: Path) -> RecordedCertificate:
    """Has the development authority issue one more certificate for somebody who is known.

    Those before stay good until they end or are revoked.

    Args:
        platform: the open platform.
        role: its holder's.
        name: its holder's.
        out: the holder's credentials folder, in which certificate, key and authorities are replaced; or a new
            folder, which is written whole but for a signing key.

    Raises:
        ConfigurationError: nobody has that role and name, `out` is somebody else's or cannot be written, or
            the authority is missing or has expired.
        InputError: the name is not of its form.
    """
    client = client_certificate(platform, role, name, None)
    there = out.is_dir() and any(out.iterdir())
    if there:
        demand_folder_of(out, client.holder)
    with platform.registry.writing() as connection:
        _demand_known(connection, role, name)
        added = store_certificate(platform, connection, client)
        if not there:
            stored = latest_agreement(connection, name) if role is Role.ADVERTISER else None
            agreement = None if stored is None else stored.document
            write_credentials(platform.data_dir, platform.identity_key, client, out, agreement)
    if there:
        # Only what is recorded takes the place of what works.
        replace_credentials(platform.data_dir, client, out)
    return added


def renew_server_certificate(platform: Platform, hosts: Sequence[str]) -> datetime:
    """Has the development authority issue another certificate for the server; when that ends.

    A running server takes it up by itself. Names and addresses are those of the one before.

    Args:
        platform: the open platform.
        hosts: further DNS names and addresses.

    Raises:
        ConfigurationError: the authority is missing or has expired, a host is neither name nor address, or a
            file cannot be replaced.
    """
    of, now = platform.data_dir, moment(platform.clock())
    authority = load_certified_key(of.authority_certificate, of.authority_key)
    before = alternative_names(read_certificates(of.server_certificate)[0])
    issued = issue_server(authority, platform.config.platform_id, [*before, *hosts], now)
    # In between, a running server finds a key that is not the certificate's, and goes on with the old ones.
    replace_file(of.server_key, issued.key_pem())
    replace_file(of.server_certificate, issued.certificate_pem())
    return issued.certificate.not_valid_after_utc


def demand_certificates(
    connection: Connection, fingerprint: str | None, role: Role | None, name: str | None
) -> list[RecordedCertificate]:
    """The certificates that somebody means who wants them revoked: one, or all of a holder that are good.

    Args:
        connection: to the registry.
        fingerprint: the first digits of one, in hexadecimal, or None.
        role, name: the holder, where there is no fingerprint.

    Raises:
        InputError: neither one nor a holder is named, or more than one certificate begins like this.
        ConfigurationError: there is no such certificate.
    """
    if fingerprint is None:
        if role is None or name is None:
            raise InputError("name a certificate by its fingerprint, or its holder with --role and --name")
        found = [each for each in certificates(connection, role, name) if each.revoked_at is None]
        if not found:
            raise ConfigurationError(f"{role} {name} has no certificate that is not revoked")
        return found
    wanted = fingerprint.replace(":", "").lower()
    if len(wanted) < _LEAST_PREFIX:
        raise InputError(f"give at least {_LEAST_PREFIX} digits of the fingerprint: see certificate list")
    found = [
        each for each in certificates(connection, role, name) if each.fingerprint.hex().startswith(wanted)
    ]
    if len(found) > 1:
        raise InputError("more than one certificate has a fingerprint that begins like this: give more of it")
    if not found:
        raise ConfigurationError("there is no certificate with this fingerprint: see certificate list")
    if found[0].revoked_at is not None:
        raise ConfigurationError("this certificate was revoked already")
    return found


def revoke_certificates(
    platform: Platform,
    reason: RevocationReason,
    fingerprint: str | None = None,
    role: Role | None = None,
    name: str | None = None,
) -> tuple[list[RecordedCertificate], int]:
    """Revokes certificates, for good; those that were, and how many open sessions ended by it.

    Args:
        platform: the open platform.
        reason: why.
        fingerprint, role, name: see `demand_certificates`.

    Raises:
        InputError, ConfigurationError: see `demand_certificates`.
    """
    now = platform.clock()
    with platform.registry.writing() as connection:
        meant: Sequence[RecordedCertificate] = demand_certificates(connection, fingerprint, role, name)
        ended: list[str] = []
        for each in meant:
            revoke_certificate(connection, each.fingerprint, reason, now)
            ledger.record_certificate_revocation(connection, each.fingerprint, platform.random_bytes)
            ended += sessions.end_sessions_opened_with(connection, each.fingerprint, now)
        ledger.record_session_ends(connection, ended, platform.random_bytes)
        found = (find_certificate(connection, each.fingerprint) for each in meant)
        return [each for each in found if each is not None], len(ended)


def _demand_known(connection: Connection, role: Role, name: str) -> None:
    known = (
        sessions.find_advertiser(connection, name) is not None
        if role is Role.ADVERTISER
        else bool(certificates(connection, role, name))
    )
    if not known:
        raise ConfigurationError(
            f"there is no {role} {name}: add it first with purposematch-platform {role} add"
        )
