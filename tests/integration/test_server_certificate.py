"""The server's certificate, key and authorities, replaced while it serves: by whole, half and wrong ones."""

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from authorities import CLIENT, DAY, SERVER, Certified, uri
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from fault_proxy import Action, Fault, Side, fault_proxy
from platforms import LivePlatform, advertiser, customers, grants, operator, read_csv
from raw_client import RawClient, connected, email_inputs, fails, load

from purposematch.v1 import log_pb2

NAME = x509.DNSName("birdsite.purposematch.internal")
BROKEN_OFF = 75


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LivePlatform]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    platform = LivePlatform.create(tmp_path / "town", max_batch_elements=128)
    platform.enroll(grants(1_200))
    platform.publish()
    platform.admit("acme")
    with platform.serving(watchful=True):
        yield platform
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.code == 0, audited.stderr


def tls(town: LivePlatform) -> Path:
    return town.data_dir / "tls"


def served(town: LivePlatform) -> bytes:
    """SHA-256 of what the server shows on a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Who signed it is looked at by the clients in these tests.
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    folder = town.folder / "credentials-acme"
    context.load_cert_chain(folder / "client.pem", folder / "client.key")
    host, port = town.address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        der = wrapped.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).fingerprint(SHA256())


def in_file(town: LivePlatform) -> bytes:
    """SHA-256 of what is in `tls/server.pem`."""
    return x509.load_pem_x509_certificate((tls(town) / "server.pem").read_bytes()).fingerprint(SHA256())


def checkpoint(client: RawClient) -> Any:
    return client.log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=60)


def test_a_renewed_certificate_is_shown_to_the_next_connection(town: LivePlatform, tmp_path: Path) -> None:
    before, listed = served(town), customers(tmp_path / "list.csv", 1_000)
    credentials = load(town.folder / "credentials-acme")
    with connected(town.address, credentials) as client:
        session = client.open()
        town.operate("certificate", "renew-server", "--host", "match.example")
        after = served(town)
        assert before != after == in_file(town)
        # What is open goes on, on its connection and on a new one.
        tags, tokens = session.run(email_inputs([f"user{i}@example.com" for i in range(1_000)]))
        with connected(town.address, credentials) as other:
            entries = session.entries(tags, tokens, range(1_000))
            session.client = other
            receipt = session.receipt(session.commit(entries, bytes(16)))
            assert receipt.received == 1_000
            session.close()
            new = other.open()
            new.close()
    # A grant names the certificate that was shown when the session opened.
    assert (session.grant.server_certificate, new.grant.server_certificate) == (before, after)
    matched = town.match(listed, tmp_path / "out.csv", town.folder / "credentials-acme")
    assert matched.document["matched_rows"] == 1_000
    names = x509.load_pem_x509_certificate((tls(town) / "server.pem").read_bytes()).extensions
    found = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"match.example", NAME.value, "localhost"} <= set(found.get_values_for_type(x509.DNSName))


def test_a_match_that_broke_off_goes_on_under_another_server_certificate(
    town: LivePlatform, tmp_path: Path
) -> None:
    listed, output = customers(tmp_path / "list.csv", 1_000, first=400), tmp_path / "out.csv"
    with fault_proxy() as proxy:
        arguments: list[Any] = [
            *("match", listed, "--platform", proxy.address, "--output", output, "--yes", "--json"),
            *("--credentials", town.folder / "credentials-acme", "--patience", "0"),
        ]
        proxy.plan(town.address)
        assert advertiser(*arguments, "--output", tmp_path / "whole.csv").code == 0
        proxy.plan(town.address, Fault(Side.CLIENT, proxy.counts[Side.CLIENT] // 2, Action.CUT))
        assert advertiser(*arguments).code == BROKEN_OFF
        town.operate("certificate", "renew-server")
        assert advertiser(*arguments, "--resume").code == 0
    assert sum(row["matched"] == "true" for row in read_csv(output)) == 800


def test_what_is_half_written_or_wrong_never_takes_the_service_down(town: LivePlatform) -> None:
    authority, before = Certified.of_platform(tls(town)), served(town)
    good_key = (tls(town) / "server.key").read_bytes()
    good_pem, good_ca = (tls(town) / "server.pem").read_bytes(), (tls(town) / "ca.pem").read_bytes()
    now = datetime.now(UTC)
    new = authority.issue([NAME], SERVER)
    cases: list[tuple[str, str, bytes, bytes, bytes]] = [
        ("a key of another certificate", "is not the key of", new.key_pem, good_pem, good_ca),
        ("half a certificate", "is not a PEM certificate", good_key, good_pem[:300], good_ca),
        ("an empty file", "is not a PEM certificate", good_key, b"", good_ca),
        ("no key", "is not an unencrypted PEM private key", b"\0" * 100, good_pem, good_ca),
        ("half the authorities", "is not a PEM certificate", good_key, good_pem, good_ca[:200]),
        ("another name", "lacks the DNS name birdsite.purposematch.internal", b"", b"", good_ca),
        ("one that has ended", "is not valid now", b"", b"", good_ca),
        ("one that is not valid yet", "is not valid now", b"", b"", good_ca),
    ]
    issued = {
        "another name": authority.issue([x509.DNSName("other.example")], SERVER),
        "one that has ended": authority.issue([NAME], SERVER, not_before=now - 3 * DAY, not_after=now - DAY),
        "one that is not valid yet": authority.issue(
            [NAME], SERVER, not_before=now + DAY, not_after=now + 3 * DAY
        ),
    }
    for what, told, key, pem, ca in cases:
        (tls(town) / "server.key").write_bytes(good_key)
        (tls(town) / "server.pem").write_bytes(good_pem)
        (tls(town) / "ca.pem").write_bytes(good_ca)
        assert served(town) == before
        other = issued.get(what)
        (tls(town) / "server.key").write_bytes(other.key_pem if other else key)
        (tls(town) / "server.pem").write_bytes(other.chain if other else pem)
        (tls(town) / "ca.pem").write_bytes(ca)
        logged = len(town.log.read_text())
        for _ in range(3):
            assert served(town) == before, what
        said = town.log.read_text()[logged:]
        assert said.count("the files in tls/ have changed and are not used") == 1, (what, said)
        assert told in said
        with connected(town.address, load(town.folder / "credentials-acme")) as client:
            checkpoint(client)
    (tls(town) / "server.key").chmod(0o644)
    served(town)
    assert "is open to other users" in town.log.read_text()
    (tls(town) / "server.key").chmod(0o600)
    # The second half comes, and is taken up.
    new.write(tls(town) / "server.pem", tls(town) / "server.key")
    (tls(town) / "ca.pem").write_bytes(good_ca)
    assert served(town) == new.certificate.fingerprint(SHA256())
    assert b"PRIVATE" not in town.log.read_bytes()


def test_new_files_are_told_of_though_nobody_connects(town: LivePlatform) -> None:
    (tls(town) / "server.pem").write_bytes(b"damaged")
    deadline = time.monotonic() + 60
    while "server.pem is not a PEM certificate" not in town.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    town_files = Certified.of_platform(tls(town)).issue([NAME], SERVER)
    town_files.write(tls(town) / "server.pem", tls(town) / "server.key")
    while "the certificate served ends" not in town.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_one_authority_takes_the_place_of_another_while_both_are_good(
    town: LivePlatform, tmp_path: Path
) -> None:
    old_ca, folder = (tls(town) / "ca.pem").read_bytes(), town.folder / "credentials-acme"
    listed = customers(tmp_path / "list.csv", 1_000)
    root = Certified.root()
    # 1. Both are trusted; whoever has a certificate of either is admitted, once it is recorded.
    (tls(town) / "ca.pem").write_bytes(old_ca + root.pem)
    theirs = root.issue([uri("auditor", "eve")], CLIENT)
    (tmp_path / "eve.pem").write_bytes(theirs.chain)
    town.operate("auditor", "add", "eve", "--certificate", tmp_path / "eve.pem", "--out", tmp_path / "eve")
    shown = grpc.ssl_channel_credentials(old_ca, theirs.key_pem, theirs.chain)
    with connected(town.address, load(folder), shown) as client:
        checkpoint(client)
    assert town.match(listed, tmp_path / "1.csv", folder).code == 0
    # 2. Clients get both, before the server's certificate is of the new one.
    town.operate("certificate", "renew", "advertiser", "acme", "--out", folder)
    assert (folder / "ca.pem").read_bytes() == old_ca + root.pem
    root.issue([NAME], SERVER).write(tls(town) / "server.pem", tls(town) / "server.key")
    assert town.match(listed, tmp_path / "2.csv", folder).code == 0
    # A client that knows the old one alone finds another platform.
    (folder / "ca.pem").write_bytes(old_ca)
    stale = town.match(listed, tmp_path / "3.csv", folder)
    assert stale.code == 1
    assert "no connection to" in stale.stderr
    (folder / "ca.pem").write_bytes(old_ca + root.pem)
    # 3. The old one goes, and with it its certificates, recorded or not.
    (tls(town) / "ca.pem").write_bytes(root.pem)
    assert town.match(listed, tmp_path / "4.csv", folder).code == 1
    with connected(town.address, load(folder)) as client, fails(grpc.StatusCode.UNAVAILABLE):
        checkpoint(client)
    new = root.issue([uri("advertiser", "acme")], CLIENT)
    (tmp_path / "acme.pem").write_bytes(new.chain)
    town.operate("certificate", "add", tmp_path / "acme.pem")
    new.write(folder / "client.pem", folder / "client.key")
    (folder / "ca.pem").write_bytes(root.pem)
    assert town.match(listed, tmp_path / "5.csv", folder).document["matched_rows"] == 1_000
    # Whose certificate is good for nothing any more is the operator's to revoke.
    assert {each["name"] for each in town.operate("certificate", "list")["certificates"]} == {"acme", "eve"}
