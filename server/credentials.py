"""The credentials folders that are handed out: certificate, key, and the platform's pin.

The format is shared with the client through `purposematch.protocol.credentials`. The folder carries the
private key of whom it is for, so it has to reach them over a channel that keeps it secret and unaltered. It
carries a signing key only where the platform accepted an agreement in the advertiser's place.

Not protected against: somebody who copies the folder. Whoever holds it is the advertiser, until the
platform forgets the fingerprint; everybody else's certificate is admitted until it expires.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.credentials import (
    AUTHORITY_FILE,
    CLIENT_CERTIFICATE_FILE,
    CLIENT_KEY_FILE,
    PIN_FILE,
    SIGNING_KEY_FILE,
    MemberPin,
    PlatformPin,
    agreement_file,
)
from purposematch.protocol.secret import reveal
from purposematch.protocol.signing import AdvertiserSeed
from purposematch.server.config import PlatformConfig
from purposematch.server.data_dir import DataDir
from purposematch.server.pki import CertifiedKey, Role, issue_client, load_certified_key, server_name
from purposematch.server.private_files import PRIVATE_FILE, PUBLIC_FILE, fresh_folder, write_new

__all__ = ["issue_credentials", "issue_member_credentials"]


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
    files = {}
    if accepted is not None:
        document, seed = accepted
        files = {
            SIGNING_KEY_FILE: (reveal(seed).hex().encode() + b"\n", PRIVATE_FILE),
            agreement_file(document.agreement.number): (document.encode(), PUBLIC_FILE),
        }
    _write(out, client, authority, pin, files)
    return client.fingerprint


def issue_member_credentials(
    data_dir: DataDir,
    config: PlatformConfig,
    role: Role,
    *,
    identity_key: bytes,
    name: str,
    out: Path,
    now: datetime,
) -> None:
    """Writes the credentials of a collector, an operator or an auditor.

    Args:
        data_dir: the platform's folder, whose authority signs.
        config: the platform's settings.
        role: what the certificate is for.
        identity_key: the platform's public Ed25519 key, 32 bytes.
        name: of the form of an advertiser's name; a collector's is the source of what it delivers.
        out: the folder to write; it must not exist yet, or be empty.
        now: the time of issue, with a time zone.

    Raises:
        ConfigurationError: the folder has content, cannot be written, or the authority is missing or has
            expired. Nothing is left behind.
        DecodeError: the name is not of its form.
    """
    pin = MemberPin(config.platform_id, identity_key, server_name(config.platform_id))
    authority = load_certified_key(data_dir.authority_certificate, data_dir.authority_key)
    client = issue_client(authority, config.platform_id, role, name, now)
    _write(out, client, authority, pin, {})


def _write(
    out: Path,
    client: CertifiedKey,
    authority: CertifiedKey,
    pin: MemberPin,
    more: Mapping[str, tuple[bytes, int]],
) -> None:
    """Writes the folder; `more` are contents and modes of other files by name."""
    with fresh_folder(out):
        client.write(out / CLIENT_CERTIFICATE_FILE, out / CLIENT_KEY_FILE)
        write_new(out / AUTHORITY_FILE, authority.certificate_pem(), PUBLIC_FILE)
        for name, (content, mode) in more.items():
            write_new(out / name, content, mode)
        # The pin comes last: a folder that has it is complete.
        write_new(out / PIN_FILE, pin.encode(), PUBLIC_FILE)
