"""The development authority: X.509 certificates (RFC 5280) for the server and for its peers.

`init` makes an authority of its own so that TLS with client certificates works from the first minute.
ECDSA on P-256, because every TLS library has it. A server certificate carries a fixed DNS name that
clients expect whatever address they dial. A client certificate carries its role and name in a URI,
``purposematch://<platform id>/<role>/<name>``; `peer_identity` reads it back from the certificate that
the TLS layer has already verified.

Not protected against: theft of the authority's key, which lies in the data directory; a real deployment
brings an authority whose key does not. Revocation lists are not consulted: the platform admits nobody but by
a fingerprint that it recorded and did not revoke, see `certificates`.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from purposematch.protocol.agreement import check_advertiser_name
from purposematch.protocol.errors import ConfigurationError, DecodeError
from purposematch.protocol.scope import check_platform_id
from purposematch.server.private_files import PUBLIC_FILE, read_private, write_new

__all__ = [
    "AUTHORITY_VALIDITY",
    "CLIENT_VALIDITY",
    "CLOCK_SKEW",
    "MAX_CERTIFICATE_BYTES",
    "MAX_PEM_BYTES",
    "SERVER_VALIDITY",
    "CertifiedKey",
    "PeerIdentity",
    "Role",
    "alternative_names",
    "create_authority",
    "issue_client",
    "issue_server",
    "load_certified_key",
    "peer_identity",
    "read_certificates",
    "server_name",
]

AUTHORITY_VALIDITY: Final = timedelta(days=3652)
"""How long the authority is valid: ten years."""

SERVER_VALIDITY: Final = timedelta(days=365)
"""How long a server certificate is valid."""

CLIENT_VALIDITY: Final = timedelta(days=365)
"""How long a client certificate is valid."""

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far before its issue a certificate is valid already, for peers whose clock is late."""

KNOWN_CERTIFICATES: Final = 1_024
"""Client certificates whose names are kept, so that they are not parsed again at every call."""
MAX_CERTIFICATE_BYTES: Final = 16_384
"""The longest certificate that is looked at, in bytes."""

MAX_PEM_BYTES: Final = 65_536
"""The longest file of certificates or of a key that is read, in bytes."""

MIN_RSA_BITS: Final = 2_048
"""The shortest RSA key that is used."""

_SCHEME: Final = "purposematch"
_DNS_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_DNS_LABEL}(\.{_DNS_LABEL})*")
_PEER_URI: Final = re.compile(rf"{_SCHEME}://([^/]+)/([^/]+)/([^/]+)")
_LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")


class Role(StrEnum):
    """What a peer may do at a platform; it is part of its certificate."""

    ADVERTISER = "advertiser"
    PARTNER = "partner"
    COLLECTOR = "collector"
    AUDITOR = "auditor"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who a certificate says its holder is.

    Attributes:
        platform_id: the platform for which the certificate was issued; the caller compares it with its own.
        role: what the peer may do.
        name: the peer's name at that platform.
        fingerprint: SHA-256 of the certificate's DER encoding, 32 bytes.
    """

    platform_id: str
    role: Role
    name: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A certificate and its private key."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(repr=False)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate's DER encoding, 32 bytes."""
        return self.certificate.fingerprint(SHA256())

    def certificate_pem(self) -> bytes:
        """The certificate, PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key, PEM: a secret."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, certificate: Path, private_key: Path) -> None:
        """Writes both as PEM, the key with mode 0600; neither file may exist.

        Raises:
            ConfigurationError: a file exists already or cannot be written.
        """
        write_new(private_key, self.key_pem())
        write_new(certificate, self.certificate_pem(), PUBLIC_FILE)


def server_name(platform_id: str) -> str:
    """The DNS name that every server certificate of the platform carries.

    Raises:
        ConfigurationError: the platform id cannot be a part of a DNS name.
    """
    name = f"{platform_id}.{_SCHEME}.internal"
    if _DNS_NAME.fullmatch(name) is None:
        raise ConfigurationError(
            "the platform id must be usable in a DNS name: every part between dots begins and ends with a "
            "letter or digit"
        )
    return name


def create_authority(platform_id: str, now: datetime) -> CertifiedKey:
    """A new development authority for the platform, valid from `now` (with a time zone) on."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    name = _subject(platform_id, "purposematch development authority")
    identifier = x509.SubjectKeyIdentifier.from_public_key(private_key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(private_key, SHA256())
    )
    return CertifiedKey(certificate, private_key)


def issue_server(
    authority: CertifiedKey, platform_id: str, hosts: Sequence[str], now: datetime
) -> CertifiedKey:
    """A server certificate for the platform's fixed name, the loopback names and `hosts`.

    Args:
        authority: who signs.
        platform_id: the id of the platform.
        hosts: further DNS names and IP addresses under which clients may expect the server.
        now: the time of issue, with a time zone.

    Raises:
        ConfigurationError: a host is neither a DNS name nor an IP address, or the authority has expired.
    """
    names = dict.fromkeys(
        _general_name(host) for host in (server_name(platform_id), *_LOOPBACK_HOSTS, *hosts)
    )
    return _issue(
        authority,
        _subject(platform_id, "purposematch server"),
        list(names),
        ExtendedKeyUsageOID.SERVER_AUTH,
        now,
        SERVER_VALIDITY,
    )


def issue_client(
    authority: CertifiedKey, platform_id: str, role: Role, name: str, now: datetime
) -> CertifiedKey:
    """A client certificate for one peer.

    Args:
        authority: who signs.
        platform_id: the platform at which the peer has the role.
        role: what the peer may do.
        name: the peer's name, of the form of an advertiser's name.
        now: the time of issue, with a time zone.

    Raises:
        DecodeError: the platform id or the name is not of its form.
        ConfigurationError: the authority has expired.
    """
    check_platform_id(platform_id)
    check_advertiser_name(name)
    uri = x509.UniformResourceIdentifier(f"{_SCHEME}://{platform_id}/{role.value}/{name}")
    return _issue(
        authority, _subject(platform_id, name), [uri], ExtendedKeyUsageOID.CLIENT_AUTH, now, CLIENT_VALIDITY
    )


def load_certified_key(certificate: Path, private_key: Path) -> CertifiedKey:
    """Reads a key and its certificate, which may stand among others: a chain, or several authorities.

    Keys are ECDSA keys or RSA keys of at least `MIN_RSA_BITS`.

    Raises:
        ConfigurationError: a file is missing or not what it should be, the key is open to others, or of
            another kind, or none of the certificates is for it.
    """
    found = read_certificates(certificate)
    try:
        key = load_pem_private_key(read_private(private_key, MAX_PEM_BYTES), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{private_key} is not an unencrypted PEM private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ConfigurationError(f"{private_key} is neither an ECDSA nor an RSA key")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise ConfigurationError(f"{private_key} is an RSA key of fewer than {MIN_RSA_BITS} bits")
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for parsed in found:
        if parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == public:
            return CertifiedKey(parsed, key)
    raise ConfigurationError(f"{private_key} is not the key of {certificate}")


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names and addresses for which a server's certificate is; none if it cannot be read."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one, in their order.

    Raises:
        ConfigurationError: it cannot be read, is longer than `MAX_PEM_BYTES`, or is no such file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_PEM_BYTES:
        raise ConfigurationError(f"{path} is longer than {MAX_PEM_BYTES} bytes")
    try:
        certificates = x509.load_pem_x509_certificates(content)
        for certificate in certificates:
            # What parses as a certificate may hold bytes that are no key.
            certificate.public_key()
        return certificates
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{path} is not a PEM certificate") from None


@lru_cache(KNOWN_CERTIFICATES)
def peer_identity(certificate: bytes) -> PeerIdentity:
    """Who the holder of a client certificate, PEM or DER, is.

    The signature and the validity are the TLS layer's to check; this reads names only, of which nothing
    changes, so those of a few certificates are kept. Whether they are still admitted is asked elsewhere.

    Raises:
        DecodeError: the bytes are not exactly one certificate that carries exactly one URI of ours.
    """
    if len(certificate) > MAX_CERTIFICATE_BYTES:
        raise DecodeError(f"the certificate is longer than {MAX_CERTIFICATE_BYTES} bytes")
    try:
        parsed = _parse_certificate(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        fingerprint = parsed.fingerprint(SHA256())
    except Exception:
        # The X.509 parser has many exception classes of its own and they differ between versions; all of
        # them mean that these bytes are no certificate of a peer.
        raise DecodeError("the certificate of the peer cannot be read, or has no alternative name") from None
    match = _PEER_URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if match is None:
        raise DecodeError("the certificate of the peer does not carry exactly one purposematch URI")
    platform_id, role, name = match.groups()
    check_platform_id(platform_id)
    check_advertiser_name(name)
    if role not in list(Role):
        raise DecodeError(f"the role in the certificate of the peer is not one of {', '.join(Role)}")
    return PeerIdentity(platform_id, Role(role), name, fingerprint)


def _parse_certificate(certificate: bytes) -> x509.Certificate:
    if not certificate.lstrip().startswith(b"-----BEGIN"):
        return x509.load_der_x509_certificate(certificate)
    (only,) = x509.load_pem_x509_certificates(certificate)
    return only


def _issue(
    authority: CertifiedKey,
    subject: x509.Name,
    names: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    now: datetime,
    validity: timedelta,
) -> CertifiedKey:
    # A certificate that outlives its authority would stop working on a day that it does not name.
    authority_end = authority.certificate.not_valid_after_utc
    if now >= authority_end:
        raise ConfigurationError("the development authority has expired: make a new one and new credentials")
    private_key = ec.generate_private_key(ec.SECP256R1())
    authority_key = authority.private_key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(now + validity, authority_end))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key), critical=False)
        .sign(authority.private_key, SHA256())
    )
    return CertifiedKey(certificate, private_key)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if _DNS_NAME.fullmatch(host.lower()) is None:
        raise ConfigurationError("a host must be a DNS name, without port or wildcard, or an IP address")
    return x509.DNSName(host.lower())


def _subject(platform_id: str, name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, platform_id),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
