"""The development authority: what its certificates say, and a handshake with them."""

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from samples import without_key

from purposematch.protocol.errors import ConfigurationError, DecodeError
from purposematch.server.pki import (
    AUTHORITY_VALIDITY,
    CLIENT_VALIDITY,
    CLOCK_SKEW,
    MAX_CERTIFICATE_BYTES,
    SERVER_VALIDITY,
    CertifiedKey,
    PeerIdentity,
    Role,
    create_authority,
    issue_client,
    issue_server,
    load_certified_key,
    peer_identity,
    server_name,
)

# The handshake looks at the real clock, so the certificates are issued by it; whole seconds, as X.509 has.
NOW = datetime.now(UTC).replace(microsecond=0)
AUTHORITY = create_authority("example", NOW)
SERVER = issue_server(AUTHORITY, "example", ["match.example.com", "192.0.2.7", "localhost"], NOW)
CLIENT = issue_client(AUTHORITY, "example", Role.ADVERTISER, "acme", NOW)


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


@pytest.mark.parametrize(
    ("issued", "validity"),
    [(AUTHORITY, AUTHORITY_VALIDITY), (SERVER, SERVER_VALIDITY), (CLIENT, CLIENT_VALIDITY)],
)
def test_validity_begins_a_little_before_the_issue_and_lasts_as_documented(
    issued: CertifiedKey, validity: timedelta
) -> None:
    assert issued.certificate.not_valid_before_utc == NOW - CLOCK_SKEW
    assert issued.certificate.not_valid_after_utc == NOW + validity
    assert isinstance(issued.private_key.curve, ec.SECP256R1)


def test_a_certificate_does_not_outlive_its_authority() -> None:
    late = NOW + AUTHORITY_VALIDITY - timedelta(days=10)
    issued = issue_client(AUTHORITY, "example", Role.ADVERTISER, "acme", late)
    assert issued.certificate.not_valid_after_utc == AUTHORITY.certificate.not_valid_after_utc


def test_an_expired_authority_issues_nothing() -> None:
    with pytest.raises(ConfigurationError, match="expired"):
        issue_client(AUTHORITY, "example", Role.ADVERTISER, "acme", NOW + AUTHORITY_VALIDITY)


def test_the_server_certificate_carries_the_fixed_the_loopback_and_the_extra_names() -> None:
    names = _names(SERVER.certificate)
    assert names.get_values_for_type(x509.DNSName) == [
        "example.purposematch.internal",
        "localhost",
        "match.example.com",
    ]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address(address) for address in ("127.0.0.1", "::1", "192.0.2.7")
    ]


def test_only_the_authority_may_sign_and_every_certificate_serves_one_side() -> None:
    for issued, authority, usage in [
        (AUTHORITY, True, None),
        (SERVER, False, ExtendedKeyUsageOID.SERVER_AUTH),
        (CLIENT, False, ExtendedKeyUsageOID.CLIENT_AUTH),
    ]:
        extensions = issued.certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        assert (constraints.critical, constraints.value.ca) == (True, authority)
        assert extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign == authority
        if usage is not None:
            assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
            issued.certificate.verify_directly_issued_by(AUTHORITY.certificate)


@pytest.mark.parametrize(
    "host", ["", "a b", "*.example.com", "host:443", "-a.com", "a..b", "ä.com", "a" * 64]
)
def test_a_host_of_another_form_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="a host must be"):
        issue_server(AUTHORITY, "example", [host], NOW)


@pytest.mark.parametrize("platform_id", ["a.", "a-", "a..b", "a.-b"])
def test_a_platform_id_that_is_no_dns_name_has_no_server_name(platform_id: str) -> None:
    with pytest.raises(ConfigurationError, match="platform id"):
        server_name(platform_id)


def test_the_longest_platform_id_and_name_get_certificates() -> None:
    longest = "a" * 63
    authority = create_authority(longest, NOW)
    issue_server(authority, longest, [], NOW)
    issued = issue_client(authority, longest, Role.PARTNER, "b" * 63, NOW)
    assert peer_identity(issued.certificate_pem()).name == "b" * 63


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_the_identity_of_a_peer_is_read_back(role: Role, encoding: Encoding) -> None:
    issued = issue_client(AUTHORITY, "example", role, "acme_1.eu-west", NOW)
    identity = peer_identity(issued.certificate.public_bytes(encoding))
    assert identity == PeerIdentity("example", role, "acme_1.eu-west", issued.fingerprint)
    assert len(issued.fingerprint) == 32


@pytest.mark.parametrize("name", ["", "Acme", "a/b", "../a", "a b", "a\n"])
def test_a_certificate_for_a_name_of_another_form_is_not_issued(name: str) -> None:
    with pytest.raises(DecodeError):
        issue_client(AUTHORITY, "example", Role.ADVERTISER, name, NOW)


def _certificate(names: Sequence[x509.GeneralName]) -> bytes:
    """A certificate with these alternative names, signed by whoever."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


URI = "purposematch://example/advertiser/acme"


@pytest.mark.parametrize(
    "uris",
    [
        [],
        [URI, URI],
        [URI, "purposematch://example/operator/acme"],
        [URI, "spiffe://example/acme"],
        ["spiffe://example/advertiser/acme"],
        ["PURPOSEMATCH://example/advertiser/acme"],
        ["purposematch://example/Advertiser/acme"],
        ["purposematch://example/root/acme"],
        ["purposematch://example/advertiser/"],
        ["purposematch://example/advertiser"],
        ["purposematch:///advertiser/acme"],
        ["purposematch://example/advertiser/acme/more"],
        ["purposematch://example/advertiser/acme?x=1"],
        ["purposematch://example/advertiser/acme#x"],
        ["purposematch://example/advertiser/%61cme"],
        ["purposematch://user@example/advertiser/acme"],
        ["purposematch://example:1/advertiser/acme"],
        ["purposematch://Example/advertiser/acme"],
        [" " + URI],
        [URI + "\n"],
    ],
)
def test_a_certificate_without_exactly_one_uri_of_ours_is_refused(uris: list[str]) -> None:
    names = [x509.DNSName("a.example"), *map(x509.UniformResourceIdentifier, uris)]
    with pytest.raises(DecodeError):
        peer_identity(_certificate(names))


def test_the_same_certificate_with_the_right_uri_is_accepted() -> None:
    names = [x509.DNSName("a.example"), x509.UniformResourceIdentifier(URI)]
    assert peer_identity(_certificate(names)).name == "acme"


def test_a_certificate_without_alternative_names_is_refused() -> None:
    with pytest.raises(DecodeError):
        peer_identity(_certificate([]))


def test_a_server_certificate_and_an_authority_are_no_peers() -> None:
    for issued in (SERVER, AUTHORITY):
        with pytest.raises(DecodeError):
            peer_identity(issued.certificate_pem())


def test_more_or_less_than_one_certificate_is_refused() -> None:
    pem, der = CLIENT.certificate_pem(), CLIENT.certificate.public_bytes(Encoding.DER)
    for data in (b"", pem + pem, pem + SERVER.certificate_pem(), pem[:-40], der[:-1], der + b"\0"):
        with pytest.raises(DecodeError):
            peer_identity(data)


def test_a_certificate_that_is_too_long_is_refused() -> None:
    with pytest.raises(DecodeError, match="longer than"):
        peer_identity(CLIENT.certificate_pem() + b"\n" * MAX_CERTIFICATE_BYTES)


@given(
    st.binary(max_size=400)
    | st.binary(max_size=200).map(lambda data: b"-----BEGIN CERTIFICATE-----\n" + data)
)
def test_arbitrary_bytes_are_never_a_peer(data: bytes) -> None:
    with pytest.raises(DecodeError):
        peer_identity(data)


DER = CLIENT.certificate.public_bytes(Encoding.DER)


@given(st.integers(0, len(DER) - 1), st.integers(1, 255))
def test_a_changed_byte_raises_nothing_but_the_error_tree(position: int, difference: int) -> None:
    changed = bytearray(DER)
    changed[position] ^= difference
    try:
        identity = peer_identity(bytes(changed))
    except DecodeError:
        return
    # The signature is the TLS layer's to check; whatever changed, the fingerprint is another.
    assert identity.fingerprint != CLIENT.fingerprint


def test_an_authority_is_written_privately_and_read_back(tmp_path: Path) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    AUTHORITY.write(certificate, key)
    assert key.stat().st_mode & 0o777 == 0o600
    loaded = load_certified_key(certificate, key)
    assert loaded.fingerprint == AUTHORITY.fingerprint
    issue_client(loaded, "example", Role.AUDITOR, "eve", NOW).certificate.verify_directly_issued_by(
        AUTHORITY.certificate
    )


def test_a_key_is_not_shown() -> None:
    assert "private_key" not in repr(CLIENT)


def test_files_that_do_not_belong_together_or_are_damaged_are_refused(tmp_path: Path) -> None:
    AUTHORITY.write(tmp_path / "ca.pem", tmp_path / "ca.key")
    CLIENT.write(tmp_path / "client.pem", tmp_path / "client.key")
    with pytest.raises(ConfigurationError, match="is not the key of"):
        load_certified_key(tmp_path / "ca.pem", tmp_path / "client.key")
    with pytest.raises(ConfigurationError, match="not a PEM certificate"):
        load_certified_key(tmp_path / "ca.key", tmp_path / "ca.key")
    with pytest.raises(ConfigurationError, match="open to other users"):
        load_certified_key(tmp_path / "ca.pem", tmp_path / "ca.pem")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_certified_key(tmp_path / "none.pem", tmp_path / "ca.key")
    (tmp_path / "keyless.pem").write_bytes(without_key(CLIENT.certificate))
    with pytest.raises(ConfigurationError, match="not a PEM certificate"):
        load_certified_key(tmp_path / "keyless.pem", tmp_path / "client.key")
    (tmp_path / "ca.key").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="unencrypted PEM private key"):
        load_certified_key(tmp_path / "ca.pem", tmp_path / "ca.key")


def _context(folder: Path, side: int, issued: CertifiedKey, trusted: CertifiedKey) -> ssl.SSLContext:
    issued.write(folder / "certificate.pem", folder / "private.key")
    context = ssl.SSLContext(side)
    context.load_cert_chain(folder / "certificate.pem", folder / "private.key")
    context.load_verify_locations(cadata=trusted.certificate_pem().decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _handshake(folder: Path, client: CertifiedKey, name: str) -> bytes:
    """Client and server shake hands in memory; returns the client certificate that the server saw, DER."""
    (folder / "server").mkdir()
    (folder / "client").mkdir()
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = _context(folder / "server", ssl.PROTOCOL_TLS_SERVER, SERVER, AUTHORITY).wrap_bio(
        to_server, to_client, server_side=True
    )
    client_end = _context(folder / "client", ssl.PROTOCOL_TLS_CLIENT, client, AUTHORITY).wrap_bio(
        to_client, to_server, server_hostname=name
    )
    for _ in range(4):
        for end in (client_end, server_end):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = server_end.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


@pytest.mark.parametrize("name", ["example.purposematch.internal", "127.0.0.1", "::1", "match.example.com"])
def test_client_and_server_shake_hands_and_the_server_knows_its_peer(tmp_path: Path, name: str) -> None:
    seen = _handshake(tmp_path, CLIENT, name)
    assert peer_identity(seen) == PeerIdentity("example", Role.ADVERTISER, "acme", CLIENT.fingerprint)


def test_a_server_under_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, CLIENT, "other.purposematch.internal")


def test_a_client_of_another_authority_is_refused(tmp_path: Path) -> None:
    stranger = issue_client(create_authority("example", NOW), "example", Role.ADVERTISER, "acme", NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, stranger, "localhost")


def test_a_server_certificate_does_not_open_the_door_to_a_client(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, SERVER, "localhost")
