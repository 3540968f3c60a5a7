"""A deployer brings an authority of its own: root and intermediate, RSA and ECDSA, and keeps its keys."""

import ipaddress
from pathlib import Path

import grpc
import pytest
from authorities import CLIENT, DAY, SERVER, Certified, uri
from cryptography import x509
from platforms import LivePlatform, advertiser, assertion, customers, grants, operator, read_csv, write_csv
from raw_client import connected, load

from purposematch.client.credentials import MemberCredentials
from purposematch.protocol.secret import reveal
from purposematch.v1 import administration_pb2

NAMES: list[x509.GeneralName] = [
    x509.DNSName("match.example.com"),
    x509.DNSName("birdsite.purposematch.internal"),
    x509.DNSName("match.internal.example"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
]


@pytest.fixture(autouse=True)
def _private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class Deployment:
    """A platform whose certificates are all of an authority that is elsewhere."""

    def __init__(self, folder: Path, kind: str, server_kind: str, client_kind: str) -> None:
        self.platform = LivePlatform.create(folder, max_batch_elements=256)
        self.root = Certified.root(kind)
        self.between = self.root.between()
        self.client_kind = client_kind
        tls = self.platform.data_dir / "tls"
        # The root alone is trusted; what stands between comes with every certificate.
        (tls / "ca.pem").write_bytes(self.root.pem)
        (tls / "ca.key").unlink()
        self.server = self.between.issue(NAMES, SERVER, kind=server_kind)
        self.server.write(tls / "server.pem", tls / "server.key")

    def add(self, role: str, name: str, *options: str) -> Path:
        """Adds somebody with a certificate of their own; their folder, in which they put the key."""
        client = self.between.issue([uri(role, name)], CLIENT, kind=self.client_kind)
        file, out = self.platform.folder / f"{role}-{name}.pem", self.platform.folder / name
        file.write_bytes(client.chain)
        added = self.platform.operate(role, "add", name, "--certificate", file, "--out", out, *options)
        assert len(added["fingerprint"]) == 64
        assert not (out / "client.key").exists()
        (out / "client.key").write_bytes(client.key_pem)
        (out / "client.key").chmod(0o600)
        return out


@pytest.mark.parametrize(
    "kinds", [("rsa", "rsa", "rsa"), ("ecdsa", "ecdsa", "ecdsa"), ("ecdsa", "rsa", "ecdsa")], ids="-".join
)
def test_a_match_under_an_authority_of_ones_own(tmp_path: Path, kinds: tuple[str, str, str]) -> None:
    deployment = Deployment(tmp_path / "town", *kinds)
    platform = deployment.platform
    platform.enroll(grants(1_000))
    platform.publish()
    acme = deployment.add("advertiser", "acme", "--disclosure", "both")
    app, ops = deployment.add("collector", "signup-app"), deployment.add("operator", "ops")
    with platform.serving():
        where = ("--platform", platform.address, "--credentials")
        # A collector delivers, an operator looks, an advertiser matches.
        rows = write_csv(tmp_path / "more.csv", [assertion("late", "email", "late@example.com")])
        delivered = advertiser("deliver", rows, *where, app, "--json").document
        assert delivered["read"] == 1
        credential = MemberCredentials.load(ops)
        assert credential.certificate.count(b"BEGIN CERTIFICATE") == 2
        listed = customers(tmp_path / "list.csv", 1_200, first=500)
        done = platform.match(listed, tmp_path / "out.csv", acme)
        assert done.document["matched_rows"] == 500
    assert sum(row["matched"] == "true" for row in read_csv(tmp_path / "out.csv")) == 500
    assert operator("audit", "--data-dir", platform.data_dir).code == 0
    # One more certificate from the same place, and the first one revoked.
    renewed = deployment.between.issue([uri("advertiser", "acme")], CLIENT)
    (tmp_path / "acme.pem").write_bytes(renewed.chain)
    before = load(acme).fingerprint.hex()
    platform.operate("certificate", "add", tmp_path / "acme.pem")
    platform.operate("certificate", "revoke", before, "--reason", "superseded")
    with platform.serving():
        assert platform.match(listed, tmp_path / "old.csv", acme).code == 1
        renewed.write(acme / "client.pem", acme / "client.key")
        assert platform.match(listed, tmp_path / "new.csv", acme).document["matched_rows"] == 500


def test_an_operator_with_a_certificate_of_the_own_authority_sees_the_status(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "town", "ecdsa", "ecdsa", "rsa")
    platform = deployment.platform
    acme = deployment.add("advertiser", "acme", "--disclosure", "advertiser")
    ops = MemberCredentials.load(deployment.add("operator", "ops"))
    shown = grpc.ssl_channel_credentials(ops.authority, reveal(ops.key), ops.certificate)
    with platform.serving(), connected(platform.address, load(acme), shown) as client:
        status = client.administration.GetStatus(administration_pb2.GetStatusRequest(), timeout=60)
    assert status.platform_id == "birdsite"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = Deployment(tmp_path_factory.mktemp("own"), "ecdsa", "ecdsa", "ecdsa")
    made.add("auditor", "eve")
    return made


def certificate(deployment: Deployment, what: str) -> bytes:
    between, eve = deployment.between, [uri("auditor", "eve")]
    now = deployment.server.certificate.not_valid_before_utc + DAY
    match what:
        case "without what stands between":
            return between.issue(eve, CLIENT).pem
        case "another root":
            return Certified.root().between().issue(eve, CLIENT).chain
        case "for servers":
            return between.issue(eve, SERVER).chain
        case "ended":
            return between.issue(eve, CLIENT, not_before=now - 3 * DAY, not_after=now - DAY).chain
        case "another platform":
            return between.issue([uri("auditor", "eve", "otherbirds")], CLIENT).chain
        case "two URIs":
            return between.issue([*eve, uri("operator", "ops")], CLIENT).chain
        case "nobody":
            return between.issue([x509.DNSName("eve.example")], CLIENT).chain
        case "unknown name":
            return between.issue([uri("auditor", "adam")], CLIENT).chain
        case "recorded":
            return (deployment.platform.folder / "auditor-eve.pem").read_bytes()
    return b"damaged"


REFUSED = {
    "without what stands between": "does not lead to an authority in",
    "another root": "does not lead to an authority in",
    "for servers": "its extended key usage lacks clientAuth",
    "ended": "expired on",
    "another platform": "is a certificate for platform otherbirds",
    "two URIs": "it needs one URI, purposematch://birdsite/ROLE/NAME",
    "nobody": "it needs one URI, purposematch://birdsite/ROLE/NAME",
    "unknown name": "there is no auditor adam: add it first with purposematch-platform auditor add",
    "recorded": "was recorded before",
    "damaged": "is not a PEM certificate",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_not_be_used_is_not_recorded(deployment: Deployment, tmp_path: Path, what: str) -> None:
    file = tmp_path / "one.pem"
    file.write_bytes(certificate(deployment, what))
    data_dir = deployment.platform.data_dir
    before = deployment.platform.operate("certificate", "list")
    done = operator("certificate", "add", file, "--data-dir", data_dir)
    assert (done.code, REFUSED[what] in done.stderr) == (1, True), done.stderr
    assert deployment.platform.operate("certificate", "list") == before


def test_a_folder_of_somebody_else_and_a_name_that_is_taken_are_refused(
    deployment: Deployment, tmp_path: Path
) -> None:
    data_dir, folder = deployment.platform.data_dir, deployment.platform.folder
    one = ("--certificate", folder / "auditor-eve.pem", "--data-dir", data_dir, "--out", tmp_path / "out")
    for arguments, said in (
        (("auditor", "add", "eve", *one), "auditor eve was added already"),
        (("auditor", "add", "adam", *one), "is a certificate of auditor eve, not of auditor adam"),
        (("operator", "add", "eve", *one), "is a certificate of auditor eve, not of operator eve"),
        (("operator", "add", "ops", *one[2:]), "ca.key is missing; the development authority issues no"),
        (("certificate", "renew", "auditor", "eve", *one[2:]), "ca.key is missing"),
        (("certificate", "renew-server", *one[2:4]), "ca.key is missing"),
    ):
        done = operator(*arguments)
        assert (done.code, said in done.stderr) == (1, True), done.stderr
        assert not (tmp_path / "out").exists()
    for arguments, said in (
        (("abcd",), "give at least 8 digits"),
        (("abcdef0123",), "there is no certificate with this fingerprint"),
        ((), "name a certificate by its fingerprint, or its holder"),
        (("--role", "auditor", "--name", "adam"), "auditor adam has no certificate that is not revoked"),
        (("abcdef0123", "--role", "auditor"), "leave --role and --name out"),
    ):
        done = operator(
            "certificate", "revoke", *arguments, "--reason", "unspecified", "--data-dir", data_dir
        )
        assert (done.code, said in done.stderr) == (1, True), done.stderr


def test_a_renewal_replaces_nobody_elses_credentials(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "town")
    platform.operate("auditor", "add", "eve", "--out", tmp_path / "eve")
    platform.operate("operator", "add", "ops", "--out", tmp_path / "ops")
    before = {path.name: path.read_bytes() for path in (tmp_path / "eve").iterdir()}
    done = operator(
        *("certificate", "renew", "operator", "ops", "--data-dir", platform.data_dir),
        *("--out", tmp_path / "eve"),
    )
    assert done.code == 1
    assert "holds the credentials of auditor eve" in done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "eve").iterdir()} == before
    assert len(platform.operate("certificate", "list")["certificates"]) == 2


def test_ends_are_told_in_time(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "town", "ecdsa", "ecdsa", "ecdsa")
    platform, now = deployment.platform, deployment.server.certificate.not_valid_before_utc + DAY
    platform.enroll(grants(10))
    platform.publish()
    deployment.add("auditor", "eve")
    assert platform.operate("status")["problems"] == []
    assert platform.operate("config", "check")["warnings"] == []
    soon = deployment.between.issue([uri("operator", "ops")], CLIENT, not_after=now + 20 * DAY)
    (tmp_path / "ops.pem").write_bytes(soon.chain)
    platform.operate("operator", "add", "ops", "--certificate", tmp_path / "ops.pem", "--out", tmp_path / "o")
    tls = platform.data_dir / "tls"
    deployment.between.issue(NAMES, SERVER, not_after=now + 10 * DAY).write(
        tls / "server.pem", tls / "server.key"
    )
    problems = {each["problem"]: each["remedy"] for each in platform.operate("status")["problems"]}
    assert list(problems) == [
        "the server's certificate ends in 9 days",
        "the last certificate of operator ops ends in 19 days",
    ]
    assert "certificate renew" in problems["the last certificate of operator ops ends in 19 days"]
    (warning,) = platform.operate("config", "check")["warnings"]
    assert warning.startswith("the server's certificate ends in 9 days: ")
    # Another one of the same name ends later, and then there is nothing to tell.
    later = deployment.between.issue([uri("operator", "ops")], CLIENT)
    (tmp_path / "later.pem").write_bytes(later.chain)
    platform.operate("certificate", "add", tmp_path / "later.pem")
    assert len(platform.operate("status")["problems"]) == 1
