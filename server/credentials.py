"""The credentials folders that are handed out: certificate, key, authorities, and the platform's pin.

The format is shared with the client through `purposematch.protocol.credentials`. A folder with a certificate
of the development authority carries its private key, so it has to reach whom it is for over a channel that
keeps it secret and unaltered; where another authority issued the certificate, its holder has the key and adds
it. A signing key is in it only where the platform accepted an agreement in the advertiser's place.

Not protected against: somebody who copies the folder. Whoever holds it is who it was made for, until the
certificate is revoked or ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

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
from purposematch.protocol.errors import ConfigurationError, DecodeError, InputError
from purposematch.protocol.secret import reveal
from purposematch.protocol.signing import AdvertiserSeed
from purposematch.server.data_dir import DataDir
from purposematch.server.pki import (
    CertifiedKey,
    PeerIdentity,
    Role,
    issue_client,
    load_certified_key,
    peer_identity,
    read_certificates,
    server_name,
)
from purposematch.server.private_files import (
    PRIVATE_FILE,
    PUBLIC_FILE,
    fresh_folder,
    replace_file,
    write_new,
)

__all__ = [
    "ClientCertificate",
    "demand_folder_of",
    "issue_certificate",
    "read_certificate",
    "replace_credentials",
    "write_credentials",
]

_MAX_CHAIN = 8


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate with which somebody is to be admitted.

    Attributes:
        holder: who, and its fingerprint.
        not_after: when it ends, with a time zone.
        chain: itself and what its file has behind it, PEM.
        issued: with its key, where the development authority issued it.
    """

    holder: PeerIdentity
    not_after: datetime
    chain: bytes
    issued: CertifiedKey | None = None


def issue_certificate(
    data_dir: DataDir, platform_id: str, role: Role, name: str, now: datetime
) -> ClientCertificate:
    """Has the development authority issue one; nothing is written.

    Args:
        data_dir: the platform's folder, whose authority signs.
        platform_id: the id of the platform.
        role: what the certificate is for.
        name: of the form of an advertiser's name; a collector's is the source of what it delivers.
        now: the time of issue, with a time zone.

    Raises:
        ConfigurationError: the authority is missing or has expired.
        InputError: the name is not of its form.
    """
    try:
        authority = load_certified_key(data_dir.authority_certificate, data_dir.authority_key)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}; the development authority issues no certificate without it. Have your own authority "
            "issue one, and give it with --certificate"
        ) from None
    try:
        issued = issue_client(authority, platform_id, role, name, now)
    except DecodeError as error:
        raise InputError(str(error)) from None
    holder = PeerIdentity(platform_id, role, name, issued.fingerprint)
    ends = issued.certificate.not_valid_after_utc
    return ClientCertificate(holder, ends, issued.certificate_pem(), issued)


def read_certificate(path: Path, data_dir: DataDir, platform_id: str, now: datetime) -> ClientCertificate:
    """A certificate that another authority issued, with what leads from it to an authority in `tls/ca.pem`.

    Args:
        path: PEM: the certificate first, then what issued it, unless that is in `tls/ca.pem`.
        data_dir: the platform's folder.
        platform_id: the id of the platform.
        now: the time, with a time zone.

    Raises:
        ConfigurationError: TLS would not admit it, or it does not say who its holder is; the text says why.
    """
    chain = read_certificates(path)
    leaf = chain[0]
    try:
        holder = peer_identity(leaf.public_bytes(Encoding.DER))
        usages = _extended_usages(leaf)
    except DecodeError as error:
        raise ConfigurationError(
            f"{path}: {error}; it needs one URI, purposematch://{platform_id}/ROLE/NAME, among its "
            "alternative names"
        ) from None
    if holder.platform_id != platform_id:
        raise ConfigurationError(f"{path} is a certificate for platform {holder.platform_id}")
    if usages is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
        raise ConfigurationError(f"{path} is not for clients: its extended key usage lacks clientAuth")
    if now >= leaf.not_valid_after_utc:
        raise ConfigurationError(f"{path} expired on {leaf.not_valid_after_utc:%Y-%m-%d}")
    if not _leads_to(chain, read_certificates(data_dir.authority_certificate)):
        raise ConfigurationError(
            f"{path} does not lead to an authority in {data_dir.authority_certificate}: put the root there, "
            "and what lies between behind the certificate in its file"
        )
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
    return ClientCertificate(holder, leaf.not_valid_after_utc, pem)


def write_credentials(
    data_dir: DataDir,
    identity_key: bytes,
    client: ClientCertificate,
    out: Path,
    agreement: AgreementDocument | None = None,
    seed: AdvertiserSeed | None = None,
) -> None:
    """Writes a credentials folder.

    Args:
        data_dir: the platform's folder.
        identity_key: the platform's public Ed25519 key, 32 bytes.
        client: whose it is.
        out: the folder to write; it must not exist yet, or be empty.
        agreement: the one in force, of an advertiser.
        seed: the key that accepted it, where the platform made it.

    Raises:
        ConfigurationError: the folder has content or cannot be written. Nothing is left behind.
    """
    holder = client.holder
    common = (holder.platform_id, identity_key, server_name(holder.platform_id))
    pin = PlatformPin(*common, holder.name) if holder.role is Role.ADVERTISER else MemberPin(*common)
    files: dict[str, tuple[bytes, int]] = {}
    if seed is not None:
        files[SIGNING_KEY_FILE] = (reveal(seed).hex().encode() + b"\n", PRIVATE_FILE)
    if agreement is not None:
        files[agreement_file(agreement.agreement.number)] = (agreement.encode(), PUBLIC_FILE)
    _write(out, client, _authorities(data_dir), pin, files)


def demand_folder_of(folder: Path, holder: PeerIdentity) -> None:
    """Checks that a credentials folder is somebody's, whatever became of its certificate.

    Raises:
        ConfigurationError: it is somebody else's, or none.
    """
    try:
        found = peer_identity(
            read_certificates(folder / CLIENT_CERTIFICATE_FILE)[0].public_bytes(Encoding.DER)
        )
    except DecodeError as error:
        raise ConfigurationError(f"{folder / CLIENT_CERTIFICATE_FILE}: {error}") from None
    if (found.platform_id, found.role, found.name) != (holder.platform_id, holder.role, holder.name):
        raise ConfigurationError(f"{folder} holds the credentials of {found.role} {found.name}")


def replace_credentials(data_dir: DataDir, client: ClientCertificate, folder: Path) -> None:
    """Puts another certificate of the development authority, its key and the authorities into a folder.

    Whoever reads the folder in between finds a key that does not belong to its certificate, and says so.

    Raises:
        ConfigurationError: a file cannot be replaced.
    """
    if client.issued is None:
        raise ConfigurationError("a certificate without its key replaces none")
    replace_file(folder / CLIENT_KEY_FILE, client.issued.key_pem())
    replace_file(folder / CLIENT_CERTIFICATE_FILE, client.chain)
    replace_file(folder / AUTHORITY_FILE, _authorities(data_dir))


def _write(
    out: Path,
    client: ClientCertificate,
    authorities: bytes,
    pin: MemberPin,
    more: Mapping[str, tuple[bytes, int]],
) -> None:
    """Writes the folder; `more` are contents and modes of other files by name."""
    with fresh_folder(out):
        if client.issued is not None:
            write_new(out / CLIENT_KEY_FILE, client.issued.key_pem())
        write_new(out / CLIENT_CERTIFICATE_FILE, client.chain, PUBLIC_FILE)
        write_new(out / AUTHORITY_FILE, authorities, PUBLIC_FILE)
        for name, (content, mode) in more.items():
            write_new(out / name, content, mode)
        # The pin comes last: a folder that has it is complete, but for a key that its holder keeps.
        write_new(out / PIN_FILE, pin.encode(), PUBLIC_FILE)


def _authorities(data_dir: DataDir) -> bytes:
    """All authorities, so that a server certificate of any of them is taken: PEM."""
    found = read_certificates(data_dir.authority_certificate)
    return b"".join(each.public_bytes(Encoding.PEM) for each in found)


def _extended_usages(certificate: x509.Certificate) -> x509.ExtendedKeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    except ValueError:
        raise DecodeError("an extension of the certificate cannot be read") from None


def _leads_to(chain: list[x509.Certificate], authorities: list[x509.Certificate]) -> bool:
    """Whether signatures lead from the first of a chain to one of the authorities."""
    current = chain[0]
    for _ in range(_MAX_CHAIN):
        if any(_signed(current, each) for each in authorities):
            return True
        above = next((each for each in chain[1:] if each != current and _signed(current, each)), None)
        if above is None:
            return False
        current = above
    return False


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
