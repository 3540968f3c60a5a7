"""The credentials folder that somebody got from a platform, loaded and checked.

What is wrong with it is found here, before anything is connected, because TLS would only say that a
handshake failed. The format is `purposematch.protocol.credentials`.

Not protected against: a folder that was replaced on its way. Compare the identity key with the platform
over another channel.
"""

import stat
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.credentials import (
    AGREEMENT_FILE,
    AUTHORITY_FILE,
    CLIENT_CERTIFICATE_FILE,
    CLIENT_KEY_FILE,
    PIN_FILE,
    MemberPin,
    PlatformPin,
    agreement_file,
)
from purposematch.protocol.delegation import OnBehalf
from purposematch.protocol.errors import ConfigurationError, DecodeError, PeerError
from purposematch.protocol.secret import Secret, reveal

__all__ = [
    "ClientKey",
    "Credentials",
    "MemberCredentials",
    "load_advertiser_pin",
    "load_agreement",
    "load_pin",
    "read_file",
]

MAX_FILE_BYTES: Final = 65_536
"""The longest file of a credentials folder that is read, in bytes."""

_Pin = TypeVar("_Pin", bound=MemberPin)

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class ClientKey(Secret):
    """The private key of the client certificate, PEM; of any length."""

    def __init__(self, content: bytes) -> None:
        """Takes a copy of `content`."""
        self._content = bytearray(content)
        self._wiped = False


@dataclass(frozen=True, slots=True)
class MemberCredentials:
    """What a collector, an operator or an auditor needs to speak to a platform.

    Attributes:
        pin: the platform's identity key.
        authority: certificates of the authorities that may sign the platform's server certificate, PEM.
        certificate: the client certificate and what leads from it to an authority, PEM.
        fingerprint: SHA-256 of the client certificate's DER encoding, 32 bytes.
        key: its private key.
    """

    pin: MemberPin
    authority: bytes
    certificate: bytes
    fingerprint: bytes
    key: ClientKey = field(repr=False)

    @classmethod
    def load(cls, folder: Path | str, now: datetime | None = None) -> Self:
        """Reads a credentials folder.

        Args:
            folder: as `purposematch-platform` wrote it.
            now: the time, with a time zone, at which the certificates must be valid; this moment if None.

        Raises:
            ConfigurationError: something is missing, damaged, expired, or open to others; the text says
                what to do.
        """
        folder = Path(folder)
        now = datetime.now(UTC) if now is None else now
        if not folder.is_dir():
            raise ConfigurationError(
                f"{folder}: there is no such credentials folder; name the one that the platform gave you"
            )
        documents = cls._documents(folder)
        authority = read_file(folder / AUTHORITY_FILE)
        _demand_one_valid(folder / AUTHORITY_FILE, authority, now)
        certificate = read_file(folder / CLIENT_CERTIFICATE_FILE)
        parsed = _certificates(folder / CLIENT_CERTIFICATE_FILE, certificate)[0]
        _demand_valid(folder / CLIENT_CERTIFICATE_FILE, parsed, now)
        key = _read_key(folder / CLIENT_KEY_FILE, parsed)
        fingerprint = parsed.fingerprint(SHA256())
        return cls(
            authority=authority, certificate=certificate, fingerprint=fingerprint, key=key, **documents
        )

    @staticmethod
    def _documents(folder: Path) -> dict[str, Any]:
        """What is not TLS's: the fields that the role adds, by name."""
        pin = load_pin(folder)
        if isinstance(pin, PlatformPin):
            raise ConfigurationError(
                f"{folder}: these are the credentials of the advertiser {pin.advertiser}; ask the platform "
                "for those of a collector, an operator or an auditor"
            )
        return {"pin": pin}


@dataclass(frozen=True, slots=True)
class Credentials(MemberCredentials):
    """What an advertiser needs to match at a platform.

    Attributes:
        pin: the platform's identity key, and who this advertiser is there.
        agreement: what both sides signed last.
        folder: where they are, and where this side's own keys are.
        on_behalf: for whom a partner brings which list: then pin and agreement are the advertiser's, and
            certificate and key the partner's. None of an advertiser.
    """

    pin: PlatformPin
    agreement: Agreement
    folder: Path
    on_behalf: OnBehalf | None = None

    @staticmethod
    def _documents(folder: Path) -> dict[str, Any]:
        pin = load_pin(folder)
        if not isinstance(pin, PlatformPin):
            raise ConfigurationError(
                f"{folder}: these are not the credentials of an advertiser. A partner matches with --for "
                "ADVERTISER and --list NAME, and hands OUTPUT and OUTPUT.tags to the advertiser for removals"
            )
        document = load_agreement(folder, pin)
        if document is None:
            raise ConfigurationError(
                f"{folder}: holds no agreement; accept the one that the platform offers you: purposematch "
                f"agreement accept FILE --credentials {folder}"
            )
        return {"pin": pin, "agreement": document.agreement, "folder": folder}


def load_pin(folder: Path) -> MemberPin:
    """The pin of anybody's credentials folder alone, whatever became of its certificates.

    Raises:
        ConfigurationError: it is missing or damaged.
    """
    try:
        return _read_pin(folder, MemberPin)
    except ConfigurationError as error:
        with suppress(ConfigurationError):
            return load_advertiser_pin(folder)
        raise error


def load_advertiser_pin(folder: Path) -> PlatformPin:
    """The pin of an advertiser's credentials folder alone.

    Raises:
        ConfigurationError: it is missing or damaged, or somebody else's.
    """
    return _read_pin(folder, PlatformPin)


def _read_pin(folder: Path, kind: type[_Pin]) -> _Pin:
    try:
        return kind.decode(read_file(folder / PIN_FILE))
    except DecodeError as error:
        raise ConfigurationError(f"{folder / PIN_FILE}: {error}; {_ASK}") from None


def load_agreement(folder: Path, pin: PlatformPin) -> AgreementDocument | None:
    """The agreement of a credentials folder with the highest number, signatures checked; None if it has none.

    Raises:
        ConfigurationError: it is damaged, of another platform or advertiser, or a signature does not hold.
    """
    found = (AGREEMENT_FILE.fullmatch(path.name) for path in folder.iterdir())
    number = max((int(name[1]) for name in found if name), default=None)
    if number is None:
        return None
    path = folder / agreement_file(number)
    try:
        document = AgreementDocument.decode(read_file(path))
        document.check_both(pin.identity_key)
    except PeerError as error:
        raise ConfigurationError(f"{path}: {error}; {_ASK}") from None
    agreement = document.agreement
    parties = (agreement.platform_id, agreement.advertiser, agreement.number)
    if parties != (pin.platform_id, pin.advertiser, number):
        raise ConfigurationError(f"{path}: this is another agreement than the folder's; {_ASK}")
    return document


_ASK: Final = "ask the platform for fresh credentials"


def read_file(path: Path) -> bytes:
    """The content of a file of a credentials folder.

    Raises:
        ConfigurationError: it is missing, too long, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: the file is missing; copy the credentials folder whole") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: longer than {MAX_FILE_BYTES:,} bytes; {_ASK}")
    return content


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(content)
        for certificate in certificates:
            # What parses as a certificate may hold bytes that are no key.
            certificate.public_key()
        return certificates
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{path}: this is no certificate in PEM; {_ASK}") from None


def _demand_one_valid(path: Path, content: bytes, now: datetime) -> None:
    """Of several authorities, as while one takes the place of another, one is enough."""
    found = _certificates(path, content)
    if not any(each.not_valid_before_utc <= now < each.not_valid_after_utc for each in found):
        _demand_valid(path, found[-1], now)


def _demand_valid(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    if now >= certificate.not_valid_after_utc:
        raise ConfigurationError(
            f"{path}: the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}; {_ASK}"
        )
    if now < certificate.not_valid_before_utc:
        raise ConfigurationError(
            f"{path}: the certificate is not valid before "
            f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; check this computer's clock"
        )


def _read_key(path: Path, certificate: x509.Certificate) -> ClientKey:
    key = ClientKey(read_file(path))
    if path.stat().st_mode & _OTHERS:
        raise ConfigurationError(f"{path}: the private key is open to others; run: chmod 600 {path}")
    try:
        public = load_pem_private_key(reveal(key), None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{path}: this is no unencrypted private key in PEM; {_ASK}") from None
    der = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*der) != certificate.public_key().public_bytes(*der):
        raise ConfigurationError(f"{path}: the key does not belong to {CLIENT_CERTIFICATE_FILE}; {_ASK}")
    return key
