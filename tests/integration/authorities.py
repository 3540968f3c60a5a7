"""Authorities of a deployer's own: roots, what stands between, and any certificate."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from purposematch.server.pki import load_certified_key

DAY = timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def make_key(kind: str) -> Any:
    """A private key: `ecdsa` or `rsa`."""
    if kind == "rsa":
        return rsa.generate_private_key(65_537, 2_048)
    return ec.generate_private_key(ec.SECP384R1())


def uri(role: str, name: str, platform_id: str = "birdsite") -> x509.GeneralName:
    """What says in a certificate who its holder is."""
    return x509.UniformResourceIdentifier(f"purposematch://{platform_id}/{role}/{name}")


@dataclass
class Certified:
    """A certificate with its key, and those above it but the root."""

    certificate: x509.Certificate
    key: Any = field(repr=False)
    above: tuple[x509.Certificate, ...] = ()
    kind: str = "ecdsa"

    @classmethod
    def root(cls, kind: str = "ecdsa", **changes: Any) -> "Certified":
        """A new root."""
        return _make(None, kind, [], None, authority=True, **changes)

    @classmethod
    def of_platform(cls, tls: Path) -> "Certified":
        """The development authority of a platform."""
        loaded = load_certified_key(tls / "ca.pem", tls / "ca.key")
        return cls(loaded.certificate, loaded.private_key)

    def between(self, **changes: Any) -> "Certified":
        """An authority below this one."""
        return _make(self, self.kind, [], None, authority=True, **changes)

    def issue(self, names: list[x509.GeneralName], usage: Any, **changes: Any) -> "Certified":
        """A certificate of somebody; `not_before` and `not_after` may be given."""
        return _make(self, changes.pop("kind", self.kind), names, usage, authority=False, **changes)

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain(self) -> bytes:
        """The certificate, and what leads to its root."""
        return self.pem + b"".join(each.public_bytes(Encoding.PEM) for each in self.above)

    @property
    def key_pem(self) -> bytes:
        """The private key."""
        content: bytes = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return content

    def write(self, certificate: Path, key: Path) -> None:
        """Writes chain and key, in place of what is there."""
        key.write_bytes(self.key_pem)
        key.chmod(0o600)
        certificate.write_bytes(self.chain)


def _make(
    above: Certified | None,
    kind: str,
    names: list[x509.GeneralName],
    usage: Any,
    *,
    authority: bool,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> Certified:
    key, now = make_key(kind), datetime.now(UTC)
    label = f"{'root' if above is None else 'between' if authority else 'leaf'} {x509.random_serial_number()}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label[:60])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if above is None else above.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY if not_before is None else not_before)
        .not_valid_after(now + 90 * DAY if not_after is None else not_after)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if above is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    certificate = builder.sign(key if above is None else above.key, SHA256())
    leads = () if above is None or _is_root(above) else (above.certificate, *above.above)
    return Certified(certificate, key, leads, kind)


def _is_root(one: Certified) -> bool:
    return one.certificate.subject == one.certificate.issuer
