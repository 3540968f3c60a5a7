"""Admits an advertiser: its credentials folder, its row in the registry, and its first agreement if the
platform accepts one in its place; or none of them.

Not protected against: whoever gets the folder is the advertiser; how it gets there is the operator's part.
"""

from pathlib import Path

from purposematch.protocol.agreement import check_advertiser_name
from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.errors import ConfigurationError, DecodeError, InputError
from purposematch.protocol.signing import AdvertiserSeed
from purposematch.server.agreements import Terms, draft, store_accepted
from purposematch.server.certificates import client_certificate, store_certificate
from purposematch.server.credentials import write_credentials
from purposematch.server.pki import Role
from purposematch.server.platform import Platform
from purposematch.server.registry import ledger, sessions
from purposematch.server.registry.certificates import RecordedCertificate
from purposematch.server.registry.entities import check_entity

__all__ = ["admit_advertiser"]


def admit_advertiser(
    platform: Platform, name: str, terms: Terms | None, out: Path, given: Path | None = None
) -> RecordedCertificate:
    """Admits an advertiser, and writes its credentials; the certificate that it is admitted with.

    Args:
        platform: the open platform.
        name: what the advertiser is called from now on.
        terms: of an agreement that is in force at once: its signing key is made here, and handed out with the
            credentials, so the advertiser's signature shows nothing that the platform could not have made.
            None leaves it to the advertiser to make a key and to accept an offer.
        out: the credentials folder to write; it must not exist yet, or be empty.
        given: a certificate that another authority issued, or None for one of the development authority.

    Raises:
        InputError: the name, or one of the terms, is not of its form.
        ConfigurationError: the name is taken, the folder cannot be written, or see `draft` and
            `client_certificate`.
        RefusedError: see `check_entity`.
        PolicyError: see `draft`. After any error there is neither folder nor advertiser.
    """
    try:
        check_advertiser_name(name)
    except DecodeError as error:
        raise InputError(str(error)) from None
    seed, offer = None, None
    if terms is not None:
        seed = AdvertiserSeed.generate(platform.random_bytes)
        offer = AgreementDocument.offer(draft(platform, name, 1, terms), platform.identity).accept(seed)
    client = client_certificate(platform, Role.ADVERTISER, name, given)
    # The folder comes within the transaction, so that a name that was taken meanwhile gets none.
    with platform.registry.writing() as connection:
        if sessions.find_advertiser(connection, name) is not None:
            raise ConfigurationError(f"there is an advertiser {name} already; choose another name")
        if offer is not None:
            check_entity(connection, offer.agreement, platform.clock())
        write_credentials(platform.data_dir, platform.identity_key, client, out, offer, seed)
        sessions.add_advertiser(connection, sessions.Advertiser(name, platform.clock()))
        ledger.record_advertiser(connection, name, platform.random_bytes)
        added = store_certificate(platform, connection, client)
        if offer is not None:
            store_accepted(platform, connection, offer)
    return added
