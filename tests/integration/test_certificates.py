"""Who is admitted with which certificate: on a real server with real TLS, refused by name where they are."""

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from authorities import CLIENT, DAY, SERVER, Certified, uri
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from fault_proxy import Action, Fault, Side, fault_proxy
from google.protobuf.message import Message
from platforms import LivePlatform, advertiser, customers, grants, operator, read_csv
from raw_client import RawClient, connected, fails, load, record

from purposematch.v1 import administration_pb2, answers_pb2, enrollment_pb2, log_pb2, matching_pb2

UNKNOWN, DENIED, AWAY = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAVAILABLE,
)
BROKEN_OFF = 75


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A served platform, which audits at the end; every test has certificates of its own."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("town"), max_batch_elements=128)
    platform.enroll(grants(1_200))
    platform.publish()
    platform.admit("acme")
    with platform.serving():
        yield platform
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.code == 0, audited.stderr


@pytest.fixture(autouse=True)
def _private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def shown(town: LivePlatform, certified: Certified) -> grpc.ChannelCredentials:
    authority = (town.data_dir / "tls" / "ca.pem").read_bytes()
    return grpc.ssl_channel_credentials(authority, certified.key_pem, certified.chain)


def recorded(town: LivePlatform, certified: Certified) -> Certified:
    path = town.folder / f"{certified.certificate.serial_number}.pem"
    path.write_bytes(certified.chain)
    record(town, path)
    return certified


def authority(town: LivePlatform) -> Certified:
    return Certified.of_platform(town.data_dir / "tls")


def fingerprint(certified: Certified) -> str:
    return certified.certificate.fingerprint(SHA256()).hex()


def checkpoint(client: RawClient) -> Any:
    return client.log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=60)


# Who is refused


NOW = datetime.now(UTC)
AT_THE_HANDSHAKE = {
    "expired": {"not_before": NOW - 3 * DAY, "not_after": NOW - DAY},
    "not yet valid": {"not_before": NOW + DAY, "not_after": NOW + 3 * DAY},
}


@pytest.mark.parametrize("case", AT_THE_HANDSHAKE)
def test_a_certificate_that_is_not_valid_now_gets_no_connection(town: LivePlatform, case: str) -> None:
    issuer = authority(town)
    good = issuer.issue([uri("auditor", "eve")], CLIENT)
    bad = issuer.issue([uri("auditor", "eve")], CLIENT, **AT_THE_HANDSHAKE[case])
    credentials = load(town.folder / "credentials-acme")
    # The same with other times is admitted, so it is the times.
    with connected(town.address, credentials, shown(town, recorded(town, good))) as client:
        checkpoint(client)
    with connected(town.address, credentials, shown(town, bad)) as client, fails(AWAY):
        checkpoint(client)


def test_strangers_get_no_connection(town: LivePlatform) -> None:
    credentials = load(town.folder / "credentials-acme")
    root = Certified.root()
    names = [uri("advertiser", "acme")]
    strangers = {
        "nothing": grpc.ssl_channel_credentials(credentials.authority),
        "a certificate of another authority": shown(town, root.issue(names, CLIENT)),
        "one below another authority": shown(town, root.between().issue(names, CLIENT)),
        "a self-made one": shown(town, Certified.root()),
        "a certificate for servers": shown(town, authority(town).issue(names, SERVER)),
    }
    for what, credential in strangers.items():
        with connected(town.address, credentials, credential) as client, fails(AWAY) as said:
            checkpoint(client)
        assert "handshake" in said[0].lower() or "tls" in said[0].lower() or "connect" in said[0].lower(), (
            what
        )


def test_without_tls_nobody_is_answered_and_there_is_no_switch_for_it(town: LivePlatform) -> None:
    with grpc.insecure_channel(town.address) as channel, fails(AWAY):
        checkpoint(RawClient(channel, load(town.folder / "credentials-acme")))
    helped = operator("serve", "--help").stdout.lower()
    assert "plaintext" not in helped
    assert "insecure" not in helped


REFUSED_BY_NAME = {
    "another platform": ([uri("auditor", "eve", "otherbirds")], "the certificate is for another platform"),
    "two URIs": ([uri("auditor", "eve"), uri("operator", "ops")], "names no role"),
    "a URI of another kind": (
        [x509.UniformResourceIdentifier("https://birdsite/auditor/eve")],
        "names no role",
    ),
    "no such role": ([uri("king", "eve")], "names no role"),
    "no URI": ([x509.DNSName("eve.example")], "names no role"),
    "not recorded": ([uri("auditor", "eve")], "certificate of auditor eve is not recorded"),
}


@pytest.mark.parametrize("case", REFUSED_BY_NAME)
def test_what_the_authority_signed_is_not_enough(town: LivePlatform, case: str) -> None:
    names, text = REFUSED_BY_NAME[case]
    certified = authority(town).issue(names, CLIENT)
    credentials = load(town.folder / "credentials-acme")
    with connected(town.address, credentials, shown(town, certified)) as client, fails(UNKNOWN) as said:
        checkpoint(client)
    assert text in said[0]


def test_a_certificate_that_is_recorded_for_somebody_else_is_refused(town: LivePlatform) -> None:
    certified = recorded(town, authority(town).issue([uri("auditor", "mallory")], CLIENT))
    credentials = load(town.folder / "credentials-acme")
    with connected(town.address, credentials, shown(town, certified)) as client:
        checkpoint(client)
        with fails(DENIED) as said:
            client.administration.GetStatus(administration_pb2.GetStatusRequest())
        assert "not one of the role operator" in said[0]
        # Somebody edits the registry: then it is no certificate of either.
        with town.opened() as platform, platform.registry.writing() as connection:
            change = "UPDATE certificate SET name = 'ops' WHERE name = 'mallory'"
            connection.exec_driver_sql(change)
        try:
            with fails(UNKNOWN):
                checkpoint(client)
        finally:
            with town.opened() as platform, platform.registry.writing() as connection:
                connection.exec_driver_sql("UPDATE certificate SET name = 'mallory' WHERE name = 'ops'")


def test_another_advertisers_session_does_not_exist(town: LivePlatform) -> None:
    globex = load(town.admit("globex"))
    acme = load(town.folder / "credentials-acme")
    with connected(town.address, acme) as client, connected(town.address, globex) as other:
        session = client.open()
        for call in (
            lambda: other.stub.CloseSession(matching_pb2.CloseSessionRequest(session_id=session.id)),
            lambda: list(other.stub.Evaluate(iter([session.message(0, b"\xe2" * 32)]))),
        ):
            with fails(grpc.StatusCode.NOT_FOUND):
                call()
        session.close()


# Who is shut out


CALLS: dict[str, tuple[str, str, Message]] = {
    "auditor": ("log", "GetCheckpoint", log_pb2.GetCheckpointRequest()),
    "operator": ("administration", "GetStatus", administration_pb2.GetStatusRequest()),
    "collector": ("enrollment", "Withdraw", enrollment_pb2.WithdrawRequest()),
    "partner": ("log", "GetCheckpoint", log_pb2.GetCheckpointRequest()),
}


@pytest.mark.parametrize("role", CALLS)
def test_a_revoked_certificate_is_refused_at_its_next_call_on_an_open_connection(
    town: LivePlatform, role: str
) -> None:
    certified = recorded(town, authority(town).issue([uri(role, "leaving")], CLIENT))
    stub, method, request = CALLS[role]
    credentials = load(town.folder / "credentials-acme")
    with connected(town.address, credentials, shown(town, certified)) as client:

        def call() -> grpc.StatusCode:
            try:
                getattr(getattr(client, stub), method)(request, timeout=60)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
                return code
            return grpc.StatusCode.OK

        # A withdrawal that names nobody is malformed, which is more than a stranger is told.
        assert call() in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)
        revoked = town.operate(
            "certificate", "revoke", fingerprint(certified)[:16], "--reason", "key_compromise"
        )
        (one,) = revoked["revoked"]
        assert (one["state"], one["reason"], revoked["ended_sessions"]) == ("revoked", "key_compromise", 0)
        with fails(UNKNOWN) as said:
            getattr(getattr(client, stub), method)(request, timeout=60)
    assert f"the certificate of {role} leaving was revoked (key_compromise)" in said[0]
    # The operator reads the same in the server's log.
    assert f"{method} answered UNAUTHENTICATED" in town.log.read_text()
    again = operator(
        *("certificate", "revoke", fingerprint(certified), "--reason", "superseded"),
        *("--data-dir", town.data_dir),
    )
    assert (again.code, "was revoked already" in again.stderr) == (1, True)


def test_an_answer_is_refused_too_and_a_delivery_that_is_under_way_is_not_stored(town: LivePlatform) -> None:
    certified = recorded(town, authority(town).issue([uri("collector", "slow-app")], CLIENT))
    auditor = recorded(town, authority(town).issue([uri("auditor", "slow-eve")], CLIENT))
    credentials = load(town.folder / "credentials-acme")
    before = town.rows("SELECT COUNT(*) FROM delivery")

    def delivery() -> Iterator[Any]:
        yield enrollment_pb2.EnrollRequest(header=enrollment_pb2.DeliveryHeader(delivery_id=bytes(16)))
        names = list(grants(1)[0])
        cells = [enrollment_pb2.Column(name=name, cells=[grants(1, first=5_000)[0][name]]) for name in names]
        yield enrollment_pb2.EnrollRequest(rows=enrollment_pb2.Rows(columns=cells))
        town.operate("certificate", "revoke", fingerprint(certified), "--reason", "unspecified")
        yield enrollment_pb2.EnrollRequest(end=enrollment_pb2.DeliveryEnd(rows=1))

    with connected(town.address, credentials, shown(town, certified)) as client, fails(UNKNOWN):
        client.enrollment.Enroll(delivery(), timeout=60)
    assert town.rows("SELECT COUNT(*) FROM delivery") == before
    with connected(town.address, credentials, shown(town, auditor)) as client:
        asked = answers_pb2.GetSubjectRequest(subject_id="s1")
        assert list(client.answers.GetSubject(asked, timeout=60))
        arguments = ("--role", "auditor", "--name", "slow-eve", "--reason", "cessation_of_operation")
        town.operate("certificate", "revoke", *arguments)
        with fails(UNKNOWN):
            list(client.answers.GetSubject(asked, timeout=60))


def test_a_certificate_that_ends_while_its_connection_is_open_is_refused(town: LivePlatform) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6)
    certified = authority(town).issue([uri("auditor", "brief")], CLIENT, not_after=ends)
    recorded(town, certified)
    credentials = load(town.folder / "credentials-acme")
    with connected(town.address, credentials, shown(town, certified)) as client:
        checkpoint(client)
        time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()) + 0.1)
        with fails(UNKNOWN) as said:
            checkpoint(client)
    assert "auditor brief has expired" in said[0]


def test_the_sessions_of_a_revoked_certificate_end_and_those_of_another_go_on(town: LivePlatform) -> None:
    folder = town.admit("twofold")
    old = town.folder / "twofold-old"
    shutil.copytree(folder, old)
    town.operate("certificate", "renew", "advertiser", "twofold", "--out", folder)
    assert load(old).fingerprint != load(folder).fingerprint
    with connected(town.address, load(old)) as first, connected(town.address, load(folder)) as second:
        one, two, three = first.open(), second.open(), first.open()
        # A session is the advertiser's, whichever of its certificates it shows.
        second.stub.CloseSession(matching_pb2.CloseSessionRequest(session_id=three.id), timeout=60)
        arguments = (load(old).fingerprint.hex(), "--reason", "superseded")
        assert town.operate("certificate", "revoke", *arguments)["ended_sessions"] == 1
        with fails(UNKNOWN):
            one.send(one.message(0, b"\xe2" * 32))
        with fails(UNKNOWN):
            one.close()
        # Nor with the certificate that is still good.
        with fails(grpc.StatusCode.FAILED_PRECONDITION):
            list(second.stub.Evaluate(iter([one.message(0, b"\xe2" * 32)]), timeout=60))
        two.close()
    states = dict(town.rows("SELECT id, state FROM session WHERE advertiser = 'twofold'"))
    assert [states[each.id.hex()] for each in (one, two, three)] == ["ended", "closed", "closed"]


# Who renews


def test_before_the_old_certificate_is_revoked_both_match(town: LivePlatform, tmp_path: Path) -> None:
    folder = town.admit("renewing")
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    listed = customers(tmp_path / "list.csv", 1_000)
    assert town.match(listed, tmp_path / "0.csv", folder).code == 0
    renewed = town.operate("certificate", "renew", "advertiser", "renewing", "--out", folder)
    assert renewed["state"] == "good"
    # The next command takes up what is in the folder.
    for name, credentials in (("1.csv", folder), ("2.csv", old)):
        assert town.match(listed, tmp_path / name, credentials).document["matched_rows"] == 1_000
    fingerprints = {
        row[0] for row in town.rows("SELECT hex(fingerprint) FROM session WHERE advertiser = 'renewing'")
    }
    assert fingerprints == {load(each).fingerprint.hex().upper() for each in (folder, old)}
    town.operate("certificate", "revoke", load(old).fingerprint.hex(), "--reason", "superseded")
    refused = town.match(listed, tmp_path / "3.csv", old)
    assert refused.code == 1
    assert "was revoked" in refused.stderr
    assert "ask the platform for fresh credentials" in refused.stderr
    assert town.match(listed, tmp_path / "4.csv", folder).code == 0
    certificates = town.operate("certificate", "list", "--role", "advertiser", "--name", "renewing")
    assert [each["state"] for each in certificates["certificates"]] == ["revoked", "good"]


def test_a_new_folder_of_an_advertiser_is_whole_but_for_its_signing_key(
    town: LivePlatform, tmp_path: Path
) -> None:
    old = town.admit("moving")
    town.operate("certificate", "renew", "advertiser", "moving", "--out", tmp_path / "new")
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {path.name for path in old.iterdir()} - {"signing.key"}
    assert (tmp_path / "new" / "client.key").stat().st_mode & 0o777 == 0o600
    listed = customers(tmp_path / "list.csv", 1_000)
    assert town.match(listed, tmp_path / "out.csv", tmp_path / "new").code == 0


@pytest.mark.parametrize("revoked", [False, True], ids=["renewed", "revoked"])
def test_a_session_that_broke_off_goes_on_with_a_renewed_certificate(
    town: LivePlatform, tmp_path: Path, revoked: bool
) -> None:
    name = f"broken-{'off' if revoked else 'on'}"
    folder = town.admit(name)
    before = load(folder).fingerprint.hex()
    listed, output = customers(tmp_path / "list.csv", 1_000, first=400), tmp_path / "out.csv"
    with fault_proxy() as proxy:
        arguments: list[Any] = [
            *("match", listed, "--platform", proxy.address, "--credentials", folder, "--output", output),
            *("--yes", "--json", "--patience", "0"),
        ]
        proxy.plan(town.address)
        assert advertiser(*arguments, "--output", tmp_path / "whole.csv").code == 0
        half = proxy.counts[Side.CLIENT] // 2
        proxy.plan(town.address, Fault(Side.CLIENT, half, Action.CUT))
        done = advertiser(*arguments)
        assert done.code == BROKEN_OFF, done.stderr
        town.operate("certificate", "renew", "advertiser", name, "--out", folder)
        if revoked:
            revoking = town.operate("certificate", "revoke", before, "--reason", "key_compromise")
            assert revoking["ended_sessions"] == 1
        again = advertiser(*arguments)
        if revoked:
            assert again.code == 1
            assert "can not go on, and nothing of it was committed" in again.stderr
            again = advertiser(*arguments)
    assert again.code == 0, again.stderr
    matched = [row["email"] for row in read_csv(output) if row["matched"] == "true"]
    assert matched == [f"user{i}@example.com" for i in range(400, 1_200)]
    rows = town.rows(
        "SELECT state, hex(fingerprint) = ? FROM session WHERE advertiser = ? ORDER BY opened_at",
        before.upper(),
        name,
    )
    expected = [("closed", 1), ("ended", 1), ("closed", 0)] if revoked else [("closed", 1), ("closed", 1)]
    assert rows == expected


def test_a_match_whose_certificate_was_revoked_keeps_its_session_file(
    town: LivePlatform, tmp_path: Path
) -> None:
    folder = town.admit("stopped")
    listed, output = customers(tmp_path / "list.csv", 1_000, first=400), tmp_path / "out.csv"
    with fault_proxy() as proxy:
        arguments: list[Any] = [
            *("match", listed, "--platform", proxy.address, "--credentials", folder, "--output", output),
            *("--yes", "--json", "--patience", "0"),
        ]
        proxy.plan(town.address)
        assert advertiser(*arguments, "--output", tmp_path / "whole.csv").code == 0
        half = proxy.counts[Side.CLIENT] // 2
        proxy.plan(town.address, Fault(Side.CLIENT, half, Action.CUT))
        assert advertiser(*arguments).code == BROKEN_OFF
        town.operate(
            "certificate", "revoke", "--role", "advertiser", "--name", "stopped", "--reason", "unspecified"
        )
        done = advertiser(*arguments)
    assert done.code == BROKEN_OFF
    assert "was revoked" in done.stderr
    assert output.with_name("out.csv.resume").exists()
