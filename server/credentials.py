"""The credentials folder that an advertiser gets: certificate, key, and the pin of the platform.

The format is shared with the client through `purposematch.protocol.credentials`. The folder carries the
advertiser's private key, so it has to reach the advertiser over a channel that keeps it secret and
unaltered.

Not protected against: somebody who copies the folder. Whoever holds it is the advertiser, until the
platform forgets the fingerprint.
"""

import os
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.credentials import (
    AUTHORITY_FILE,
    CLIENT_CERTIFICATE_FILE,
    CLIENT_KEY_FILE,
    PIN_FILE,
    PlatformPin,
)
from purposematch.protocol.errors import ConfigurationError
from purposematch.server.config import PlatformConfig
from purposematch.server.data_dir import DataDir
from purposematch.server.pki import Role, issue_client, load_certified_key, server_name
from purposematch.server.private_files import PRIVATE_FOLDER, PUBLIC_FILE, write_new

__all__ = ["issue_credentials"]


def issue_credentials(
    data_dir: DataDir,
    config: PlatformConfig,
    *,
    identity_key: bytes,
    agreement: Agreement,
    out: Path,
    now: datetime,
) -> bytes:
    """Writes the credentials of an advertiser and returns its certificate's SHA-256 fingerprint, 32 bytes.

    Args:
        data_dir: the platform's folder, whose authority signs.
        config: the platform's settings.
        identity_key: the platform's public Ed25519 key, 32 bytes.
        agreement: the agreement with the advertiser; it names the advertiser.
        out: the folder to write; it must not exist yet, or be empty.
        now: the time of issue, with a time zone.

    Raises:
        ConfigurationError: the folder has content, cannot be written, or the authority is missing or has
            expired. Nothing is left behind.
        DecodeError: the agreement is with another platform.
    """
    pin = PlatformPin(
        platform_id=config.platform_id,
        identity_key=identity_key,
        server_name=server_name(config.platform_id),
        agreement=agreement,
    )
    authority = load_certified_key(data_dir.authority_certificate, data_dir.authority_key)
    client = issue_client(authority, config.platform_id, Role.ADVERTISER, agreement.advertiser, now)
    files = [out / name for name in (AUTHORITY_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE, PIN_FILE)]
    authority_file, certificate_file, key_file, pin_file = files
    with ExitStack() as made:
        _claim(out, made)
        for file in files:
            made.callback(file.unlink, missing_ok=True)
        client.write(certificate_file, key_file)
        write_new(authority_file, authority.certificate_pem(), PUBLIC_FILE)
        # The pin comes last: a folder that has it is complete.
        write_new(pin_file, pin.encode(), PUBLIC_FILE)
        made.pop_all()
    return client.fingerprint


def _claim(out: Path, made: ExitStack) -> None:
    """Makes the folder, or takes an empty one; one that was made goes away should a later step fail."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            out.mkdir(PRIVATE_FOLDER)
            made.callback(os.rmdir, out)
        except FileExistsError:
            if any(out.iterdir()):
                raise ConfigurationError(
                    f"{out} is not empty: choose a new folder, existing credentials are not overwritten"
                ) from None
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be used as a credentials folder: {error.strerror}") from error
