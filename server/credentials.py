"""The credentials folders that are handed out: certificate, key, and for an advertiser the platform's pin.

The format is shared with the client through `purposematch.protocol.credentials`. The folder carries the
private key of the advertiser's certificate, so it has to reach the advertiser over a channel that keeps it
secret and unaltered. It carries a signing key only where the platform accepted an agreement in the
advertiser's place.

Not protected against: somebody who copies the folder. Whoever holds it is the advertiser, until the
platform forgets the fingerprint.
"""

from datetime import datetime
from pathlib import Path

from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.credentials import (
    AUTHORITY_FILE,
    CLIENT_CERTIFICATE_FILE,
    CLIENT_KEY_FILE,
    PIN_FILE,
    SIGNING_KEY_FILE,
    PlatformPin,
    agreement_file,
)
from purposematch.protocol.secret import reveal
from purposematch.protocol.signing import AdvertiserSeed
from purposematch.server.config import PlatformConfig
from purposematch.server.data_dir import DataDir
from purposematch.server.pki import Role, issue_client, load_certified_key, server_name
from purposematch.server.private_files import PUBLIC_FILE, fresh_folder, write_new

__all__ = ["issue_credentials", "issue_operator_credentials"]


def issue_credentials(
    data_dir: DataDir,
    config: PlatformConfig,
    *,
    name: str,
    identity_key: bytes,
    accepted: tuple[AgreementDocument, AdvertiserSeed] | None,
    out: Path,
    now: datetime,
) -> bytes:
    """Writes the credentials of an advertiser and returns its certificate's SHA-256 fingerprint, 32 bytes.

    Args:
        data_dir: the platform's folder, whose authority signs.
        config: the platform's settings.
        name: the advertiser's, of its form.
        identity_key: the platform's public Ed25519 key, 32 bytes.
        accepted: the agreement and the signing key that accepted it; None where the advertiser does that.
        out: the folder to write; it must not exist yet, or be empty.
        now: the time of issue, with a time zone.

    Raises:
        ConfigurationError: the folder has content, cannot be written, or the authority is missing or has
            expired. Nothing is left behind.
    """
    pin = PlatformPin(
        platform_id=config.platform_id,
        advertiser=name,
        identity_key=identity_key,
        server_name=server_name(config.platform_id),
    )
    authority = load_certified_key(data_dir.authority_certificate, data_dir.authority_key)
    client = issue_client(authority, config.platform_id, Role.ADVERTISER, name, now)
    with fresh_folder(out):
        client.write(out / CLIENT_CERTIFICATE_FILE, out / CLIENT_KEY_FILE)
        write_new(out / AUTHORITY_FILE, authority.certificate_pem(), PUBLIC_FILE)
        if accepted is not None:
            document, seed = accepted
            write_new(out / SIGNING_KEY_FILE, reveal(seed).hex().encode() + b"\n")
            write_new(out / agreement_file(document.agreement.number), document.encode(), PUBLIC_FILE)
        # The pin comes last: a folder that has it is complete.
        write_new(out / PIN_FILE, pin.encode(), PUBLIC_FILE)
    return client.fingerprint


def issue_operator_credentials(
    data_dir: DataDir, config: PlatformConfig, *, name: str, out: Path, now: datetime
) -> None:
    """Writes the certificate and key with which an operator may call the administration service.

    Args:
        data_dir: the platform's folder, whose authority signs.
        config: the platform's settings.
        name: the operator's name, of the form of an advertiser's.
        out: the folder to write; it must not exist yet, or be empty.
        now: the time of issue, with a time zone.

    Raises:
        ConfigurationError: the folder has content, cannot be written, or the authority is missing or has
            expired. Nothing is left behind.
        DecodeError: the name is not of its form.
    """
    authority = load_certified_key(data_dir.authority_certificate, data_dir.authority_key)
    client = issue_client(authority, config.platform_id, Role.OPERATOR, name, now)
    with fresh_folder(out):
        client.write(out / CLIENT_CERTIFICATE_FILE, out / CLIENT_KEY_FILE)
        write_new(out / AUTHORITY_FILE, authority.certificate_pem(), PUBLIC_FILE)
