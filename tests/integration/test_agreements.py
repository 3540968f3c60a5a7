"""Agreements from the offer to the refusal of an expired one, and quotas over the wire."""

import asyncio
import json
import os
import signal
import stat
import subprocess
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from noisy_sessions import open_session
from platforms import BIN, PLATFORM_ID, LivePlatform, advertiser, customers, first_line, grants, iso, operator
from raw_client import GROUP, RawClient, RawSession, connected, fails

from purposematch.client.client import MatchClient
from purposematch.client.credentials import Credentials
from purposematch.protocol.ciphersuite import ELEMENT_LENGTH
from purposematch.protocol.errors import ConfigurationError, IntegrityError, RefusedError
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.messages import SessionGrant
from purposematch.server.audit import audit
from purposematch.server.matching import Matching
from purposematch.server.pki import PeerIdentity, Role
from purposematch.server.registry import quota
from purposematch.v1 import matching_pb2 as v1


@pytest.fixture
def town(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path, min_list_elements=10)
    platform.enroll(grants(50))
    platform.publish()
    return platform


def _admit(platform: LivePlatform, name: str = "acme") -> Path:
    """An advertiser without an agreement; its credentials."""
    out = platform.folder / f"credentials-{name}"
    platform.operate("advertiser", "add", name, "--out", str(out))
    return out


def _offer(platform: LivePlatform, *options: str, name: str = "acme") -> Path:
    path = platform.folder / f"offer-{len(list(platform.folder.glob('offer-*')))}.json"
    terms = ("--disclosure", "both", "--min-list", "10", "--out", str(path), *options)
    platform.operate("agreement", "add", name, *terms)
    return path


def _accept(offer: Path, credentials: Path) -> Any:
    return advertiser("agreement", "accept", offer, "--credentials", credentials, "--yes", "--json")


def test_both_sides_sign_and_the_key_stays_with_the_advertiser(town: LivePlatform) -> None:
    credentials = _admit(town)
    assert not (credentials / "signing.key").exists()
    listed = customers(town.folder / "list.csv", 20)
    town.address = "127.0.0.1:1"
    done = town.match(listed, town.folder / "out.csv", credentials)
    assert done.code == 1
    assert "purposematch agreement accept" in done.stderr
    offer = _offer(town, "--daily-elements", "1000", "--expires", "2999-01-01")
    assert operator("agreement", "record", offer, "--data-dir", town.data_dir).code == 1
    accepted = _accept(offer, credentials)
    assert "What this match gives away" in accepted.stderr
    assert "until 2999-01-01" in accepted.stderr
    assert "1,000 identifiers in 100 sessions, 8 at a time" in accepted.stderr
    assert "7,400 a day at most, 222,000 in a key epoch" in accepted.stderr
    key = credentials / "signing.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    file, public = accepted.document["file"], accepted.document["advertiser_key"]
    assert key.read_text().strip() not in Path(file).read_text()
    unknown = operator("agreement", "record", file, "--data-dir", town.data_dir)
    assert unknown.code == 1
    assert f"{public}, was never seen before" in unknown.stderr
    other = operator("agreement", "record", file, "--data-dir", town.data_dir, "--key", "11" * 32)
    assert "is not the one that is expected" in other.stderr
    recorded = town.operate("agreement", "record", file, "--key", public)
    assert recorded["digest"] == accepted.document["digest"]
    with town.serving():
        done = town.match(listed, town.folder / "out.csv", credentials)
        assert done.document["matched_rows"] == 20
    shown = town.operate("agreement", "show", "acme")
    assert (shown["state"], shown["advertiser_key"]) == ("in force", public)
    assert shown["left"]["elements_left"] == 980
    assert shown["left"]["sessions_left"] == 99
    with town.opened() as platform:
        assert audit(platform).sessions == 1


def test_a_new_agreement_replaces_the_old_one_and_both_are_kept(town: LivePlatform) -> None:
    credentials = town.admit("acme", "both", "--min-list", "10")
    listed = customers(town.folder / "list.csv", 20)
    accepted = _accept(_offer(town), credentials)
    with town.serving():
        early = town.match(listed, town.folder / "early.csv", credentials)
        assert early.code == 1
        assert "agreement 1 is in force and not the one in the credentials folder" in early.stderr
        # The key was made with the credentials, so it is known.
        assert town.operate("agreement", "record", accepted.document["file"])["number"] == 2
        assert town.match(listed, town.folder / "out.csv", credentials).code == 0
        again = operator("agreement", "record", accepted.document["file"], "--data-dir", town.data_dir)
        assert "out of turn, the next one is 3" in again.stderr
        states = [each["state"] for each in town.operate("agreement", "list")["agreements"]]
        assert states == ["replaced", "in force"]
        with connected(town.address, Credentials.load(credentials)) as client:
            held = client.open(20)
            assert town.operate("agreement", "end", "acme")["ended_sessions"] == 1
            with fails(grpc.StatusCode.FAILED_PRECONDITION):
                _send(held, client)
        done = town.match(listed, town.folder / "late.csv", credentials)
        assert "the platform has ended agreement 2" in done.stderr
        # What it learned can still be taken back.
        connect = ("--platform", town.address, "--credentials", credentials, "--json")
        assert advertiser("removals", town.folder / "out.csv", *connect).code == 0
    with town.opened() as platform:
        audit(platform)


def test_an_expired_agreement_is_refused_by_both_sides(town: LivePlatform) -> None:
    credentials = _admit(town)
    accepted = _accept(_offer(town, "--expires", iso(3_600)), credentials).document
    town.operate("agreement", "record", accepted["file"], "--key", accepted["advertiser_key"])
    agreement = Credentials.load(credentials).agreement
    with town.opened(clock=lambda: agreement.expires_at) as platform:
        peer = PeerIdentity(PLATFORM_ID, Role.ADVERTISER, "acme", Credentials.load(credentials).fingerprint)
        matching = Matching(platform, lambda: bytes(32))
        with pytest.raises(RefusedError, match="agreement 1 expired on"):
            matching.opening.open(peer, agreement.digest, 20)
    late = datetime.fromtimestamp(agreement.expires_at / 1e6 + 1, UTC)
    client = MatchClient("127.0.0.1:1", credentials, clock=lambda: late)
    listed = customers(town.folder / "list.csv", 20)
    # It is refused before anybody is contacted: nobody listens there.
    with pytest.raises(RefusedError, match="agreement 1 expired on"):
        asyncio.run(client.match(listed, output=town.folder / "out.csv"))
    stale = operator(
        "agreement",
        "add",
        "acme",
        "--disclosure",
        "both",
        "--expires",
        "2020-01-01",
        "--out",
        town.folder / "stale.json",
        "--data-dir",
        town.data_dir,
    )
    assert "would have ended already" in stale.stderr


@pytest.mark.parametrize("field", ["daily_elements", "expires_at", "disclosure", "platform_signature"])
def test_an_offer_that_was_changed_is_not_signed(town: LivePlatform, field: str) -> None:
    credentials = _admit(town)
    offer = _offer(town)
    document = json.loads(offer.read_text())
    if field == "platform_signature":
        document[field] = "00" * 64
    else:
        value = document["agreement"][field]
        document["agreement"][field] = "advertiser" if isinstance(value, str) else value + 1
    offer.write_text(json.dumps(document))
    done = _accept(offer, credentials)
    assert done.code == 1
    assert "not signed by the platform's pinned identity key" in done.stderr
    assert not (credentials / "signing.key").exists()


def test_terms_that_were_changed_after_signing_are_not_recorded(town: LivePlatform) -> None:
    credentials = _admit(town)
    accepted = _accept(_offer(town), credentials).document
    document = json.loads(Path(accepted["file"]).read_text())
    document["advertiser_signature"] = "00" * 64
    Path(accepted["file"]).write_text(json.dumps(document))
    done = operator("agreement", "record", accepted["file"], "--data-dir", town.data_dir)
    assert "not signed by the advertiser's key in it" in done.stderr
    assert town.rows("SELECT * FROM agreement") == []
    # The client believes no such file either.
    with pytest.raises(ConfigurationError, match="not signed by the advertiser's key"):
        Credentials.load(credentials)


def test_all_four_disclosures_can_be_agreed_on(town: LivePlatform) -> None:
    for disclosure in "platform", "count":
        credentials = _admit(town, disclosure)
        terms = ("--disclosure", disclosure, "--legal-entity", "holding", "--release-epsilon", "0.1")
        accepted = _accept(_offer(town, *terms, name=disclosure), credentials)
        assert "disclosure " + disclosure in accepted.stderr
        assert "legal entity holding" in accepted.stderr
        file, public = accepted.document["file"], accepted.document["advertiser_key"]
        recorded = town.operate("agreement", "record", file, "--key", public)
        assert (recorded["legal_entity"], recorded["release_epsilon"]) == ("holding", 100_000)
        assert recorded.get("identifiers_per_subject") == (2 if disclosure == "count" else None)
        with (
            town.serving(),
            connected(town.address, Credentials.load(credentials)) as client,
            # A noisy count is asked for a list that has a label.
            fails(grpc.StatusCode.INVALID_ARGUMENT),
        ):
            client.open(20)
        assert town.rows("SELECT * FROM session") == []
    with town.opened() as platform:
        audit(platform)


def _refused_offer(platform: LivePlatform, name: str, *terms: str) -> str:
    out = platform.folder / "refused.json"
    done = operator("agreement", "add", name, "--data-dir", platform.data_dir, "--out", out, *terms)
    assert (done.code, out.exists()) == (1, False)
    return done.stderr


def test_a_legal_entity_is_not_given_exact_and_noisy_results(town: LivePlatform) -> None:
    exact = town.admit("acme", "both", "--min-list", "10", "--legal-entity", "holding")
    noisy = ("--disclosure", "platform", "--min-list", "10")
    other = town.admit("broker")
    assert "with acme (legal entity holding, disclosure both) is in force" in _refused_offer(
        town, "broker", *noisy, "--legal-entity", "holding"
    )
    # An agreement that nobody matched under leaves no results, so one of the other kind may replace it.
    (town.folder / "unused.json").write_bytes(_offer(town, *noisy).read_bytes())
    with town.serving():
        assert town.match(customers(town.folder / "l.csv", 20), town.folder / "o.csv", exact).code == 0
    held = _accept(town.folder / "unused.json", exact).document["file"]
    late = operator("agreement", "record", held, "--data-dir", town.data_dir)
    assert late.code == 1
    for text in (
        late.stderr,
        _refused_offer(town, "acme", *noisy),
        _refused_offer(town, "acme", *noisy, "--legal-entity", "renamed"),
    ):
        assert "was used in the key epoch that is in service" in text
    town.operate("agreement", "end", "acme")
    assert "was used in the key epoch" in _refused_offer(town, "broker", *noisy, "--legal-entity", "holding")
    town.operate("epoch", "rotate")
    town.publish()
    assert town.operate("agreement", "record", held)["disclosure"] == "platform"
    accepted = _accept(_offer(town, *noisy, "--legal-entity", "holding", name="broker"), other).document
    town.operate("agreement", "record", accepted["file"], "--key", accepted["advertiser_key"])
    # And the other way round.
    assert "disclosure platform) is in force" in _refused_offer(
        town, "acme", "--disclosure", "advertiser", "--min-list", "10", "--legal-entity", "holding"
    )


def test_a_signing_key_that_others_can_read_signs_nothing(town: LivePlatform) -> None:
    credentials = _admit(town)
    (credentials / "signing.key").write_text("aa" * 32)
    (credentials / "signing.key").chmod(0o644)
    done = _accept(_offer(town), credentials)
    assert done.code == 1
    assert "chmod 600" in done.stderr


def test_the_client_is_told_when_the_quota_returns(town: LivePlatform) -> None:
    terms = ("--min-list", "10", "--daily-elements", "50", "--daily-sessions", "3", "--concurrent", "2")
    credentials = town.admit("acme", "both", *terms)
    with town.serving():
        first = town.match(customers(town.folder / "a.csv", 40), town.folder / "a-out.csv", credentials)
        assert first.code == 0, first.stderr
        second = town.match(customers(town.folder / "b.csv", 20), town.folder / "b-out.csv", credentials)
        assert second.code == 1
        assert "today's quota of 50 identifiers is used up" in second.stderr
        assert "00:00 UTC; try again in" in second.stderr
        assert not (town.folder / "b-out.csv").exists()
        with connected(town.address, Credentials.load(credentials)) as client:
            with pytest.raises(grpc.RpcError) as caught:
                client.open(20)
            error: Any = caught.value
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            details = dict(error.trailing_metadata())["grpc-status-details-bin"]
            status, retry = status_pb2.Status.FromString(details), error_details_pb2.RetryInfo()
            assert status.code == 8
            assert status.details[0].Unpack(retry)
            assert 0 < retry.retry_delay.seconds <= 86_400
            client.open(10)
            with fails(grpc.StatusCode.RESOURCE_EXHAUSTED) as said:
                client.open(10)
            assert "hold back 10" in said[0] or "used up" in said[0]


def test_concurrent_sessions_are_bounded(town: LivePlatform) -> None:
    credentials = town.admit("acme", "both", "--min-list", "10", "--concurrent", "2")
    with town.serving(), connected(town.address, Credentials.load(credentials)) as client:
        client.open(10)
        client.open(10)
        with fails(grpc.StatusCode.RESOURCE_EXHAUSTED) as said:
            client.open(10)
        assert "2 sessions at a time" in said[0]


def _start(platform: LivePlatform) -> tuple["subprocess.Popen[bytes]", str]:
    command = [str(BIN / "purposematch-platform"), "serve", "--data-dir", str(platform.data_dir)]
    server = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
    )
    return server, first_line(server).removeprefix("serving on ")


def _send(session: RawSession, client: RawClient) -> bytes:
    """Has the same 20 elements evaluated as batch 0, through any server."""
    wide = np.arange(20 * 64, dtype=np.uint64).reshape(20, 64).astype(np.uint8)
    elements = GROUP.encode(GROUP.map_to_group(wide)).tobytes()
    assert len(elements) == 20 * ELEMENT_LENGTH
    message = v1.EvaluateRequest(session_id=session.id, batch_number=0, blinded_elements=elements)
    (answer,) = client.stub.Evaluate(iter([message]), timeout=60)
    return bytes(answer.evaluated_elements)


def _left(platform: LivePlatform) -> Any:
    return platform.operate("agreement", "show", "acme")["left"]


def test_two_servers_and_a_kill_forget_nothing(town: LivePlatform) -> None:
    credentials = Credentials.load(
        town.admit("acme", "both", "--min-list", "10", "--daily-elements", "100", "--concurrent", "9")
    )
    (one, first), (two, second) = _start(town), _start(town)
    try:
        with connected(first, credentials) as a, connected(second, credentials) as b:
            begun = a.open(60)
            # The other process knows what the first one holds back.
            with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
                b.open(50)
            assert _send(begun, a) == _send(begun, b)
            left = _left(town)
            assert (left["elements_left"], left["reserved_by_open_sessions"]) == (40, 40)
            one.send_signal(signal.SIGKILL)
            one.wait(30)
            assert _left(town)["elements_left"] == 40
            # A byte-identical batch is free; through the other process, too.
            _send(begun, b)
            assert _left(town)["elements_left"] == 40
            b.open(40)
            with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
                b.open(10)
        two.send_signal(signal.SIGKILL)
        two.wait(30)
        three, third = _start(town)
        try:
            with connected(third, credentials) as c, fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
                c.open(10)
        finally:
            three.terminate()
            three.communicate(timeout=30)
    finally:
        for server in (one, two):
            server.kill()
            server.communicate(timeout=30)
    with town.opened() as platform:
        audit(platform)


@pytest.mark.parametrize(
    ("granted", "size"),
    [({"engine": MatchEngine.VOLE}, 20), ({}, 9), ({}, 10_000_001)],
    ids=["engine", "too small", "too large"],
)
def test_a_session_beyond_its_agreement_does_not_pass_the_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granted: dict[str, Any], size: int
) -> None:
    """Stored, signed and logged consistently, by a platform that grants what was not agreed."""
    made = LivePlatform.create(tmp_path, min_list_elements=10)
    made.enroll(grants(20))
    made.admit("acme", "both", "--min-list", "10")
    made.publish()
    monkeypatch.setattr("noisy_sessions.SessionGrant", partial(SessionGrant, **granted))
    charge = quota.charge_session
    monkeypatch.setattr(quota, "charge_session", lambda *given: charge(given[0], given[1], 20, given[3]))
    with made.opened() as platform:
        open_session(platform, "acme", size)
        with pytest.raises(IntegrityError, match="is not within its agreement"):
            audit(platform)
