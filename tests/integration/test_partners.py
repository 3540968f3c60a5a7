"""A partner brings a list for an advertiser, under a delegation that it signed: on a real server."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from fault_proxy import Action, Fault, Side, fault_proxy
from platforms import Done, LivePlatform, advertiser, customers, grants, operator, read_csv
from raw_client import RawClient, connected, fails, load

from purposematch.client.credentials import Credentials, MemberCredentials
from purposematch.client.partner_credentials import load_partner
from purposematch.client.receipt import SessionReceipt
from purposematch.protocol.log.checkpoint import log_origin
from purposematch.protocol.secret import reveal
from purposematch.protocol.vole.engine import why_unavailable
from purposematch.v1 import matching_pb2 as v1

BROKEN_OFF = 75
REFUSED = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture(autouse=True)
def _private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A served platform with the partner `agency`, which audits at the end; every test adds an advertiser."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("town"), max_batch_elements=256)
    platform.enroll(grants(1_200))
    platform.publish()
    platform.operate("partner", "add", "agency", "--out", platform.folder / "agency")
    platform.operate("partner", "add", "rival", "--out", platform.folder / "rival")
    with platform.serving():
        yield platform
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.code == 0, audited.stderr


class Campaign:
    """An advertiser that delegates to `agency`."""

    def __init__(
        self, town: LivePlatform, name: str, folder: Path, *options: str, disclosure: str = "both"
    ) -> None:
        self.town = town
        self.name = name
        self.folder = folder
        self.own = town.admit(name, disclosure, *options)
        self.partner = folder / "agency"
        shutil.copytree(town.folder / "agency", self.partner)
        self.listed = customers(folder / "spring.csv", 1_000, first=400)

    def delegate(self, *options: str) -> Path:
        """Signs a delegation of the list `spring`; its file."""
        arguments = ("delegate", "agency", "--list", "spring", "--credentials", self.own, "--json")
        return Path(advertiser(*arguments, *options).document["file"])

    def record(self, delegation: Path) -> Done:
        """The platform records it."""
        return operator("delegation", "record", delegation, "--data-dir", self.town.data_dir, "--json")

    def take_up(self, delegation: Path) -> Done:
        """The partner takes it up, with the advertiser's latest agreement."""
        agreement = max(self.own.glob("agreement-*.json"))
        return advertiser(
            "delegation", "accept", delegation, agreement, "--credentials", self.partner, "--json"
        )

    def delegated(self, *options: str) -> Path:
        """Signed, recorded and taken up; the file."""
        file = self.delegate(*options)
        assert self.record(file).code == 0
        assert self.take_up(file).code == 0
        return file

    def match(self, output: Path, *options: Any, listed: Path | None = None) -> Done:
        """The partner brings the list."""
        return self.town.match(
            listed or self.listed, output, self.partner, "--for", self.name, "--list", "spring", *options
        )


def test_a_partner_matches_for_an_advertiser_and_everything_names_both(
    town: LivePlatform, tmp_path: Path
) -> None:
    campaign = Campaign(town, "acme", tmp_path)
    campaign.delegated("--max-list", "5000")
    output = tmp_path / "out.csv"
    done = campaign.match(output)
    assert done.document["matched_rows"] == 800
    matched = [row["email"] for row in read_csv(output) if row["matched"] == "true"]
    assert matched == [f"user{i}@example.com" for i in range(400, 1_200)]
    assert "A partner (agency) brings the list spring for acme" in done.stderr
    session = done.document["session"]
    # The registry, the log and the receipt.
    ((owner, partner, list_name),) = town.rows(
        "SELECT session.advertiser, partner, list FROM session JOIN delegation "
        "ON delegation.digest = session.delegation WHERE id = ?",
        session,
    )
    assert (owner, partner, list_name) == ("acme", "agency", "spring")
    credentials = load_partner(campaign.partner, "acme", "spring")
    receipt = SessionReceipt.load(tmp_path / "out.csv.receipt")
    opened = receipt.open(log_origin("birdsite"), credentials.pin.identity_key)
    assert credentials.on_behalf is not None
    digest = credentials.on_behalf.delegation.digest
    assert opened.grant.delegation == digest
    said = opened.session.fields
    assert (opened.advertiser, said["partner"], said["list"], said["delegation"]) == (
        *("acme", "agency", "spring"),
        digest.hex(),
    )
    # The audience is the advertiser's, and questions name both.
    assert len(town.audience(session)) == 800
    (about,) = town.operate("subject", "--subject-id", "s500")["subjects"]
    assert (about["advertisers"], about["partners"]) == (["acme"], ["agency"])
    assert {each["partner"] for each in about["sessions"]} == {"agency"}
    impact = town.operate("impact", "--source", "default", "--advertiser", "acme", "--output", tmp_path / "i")
    assert (impact["advertisers"], impact["partners"]) == (["acme"], ["agency"])
    (row,) = read_csv(tmp_path / "i" / "sessions.csv")
    assert (row["advertiser"], row["partner"]) == ("acme", "agency")


@pytest.mark.skipif(why_unavailable(os.environ) is not None, reason="no VOLE engine here")
@pytest.mark.parametrize("disclosure", ["both", "platform"])
def test_a_partner_matches_by_vole(town: LivePlatform, tmp_path: Path, disclosure: str) -> None:
    campaign = Campaign(town, f"swift-{disclosure}", tmp_path, "--allow-experimental", disclosure=disclosure)
    campaign.delegated()
    output = tmp_path / ("out.csv" if disclosure == "both" else "report.json")
    told = campaign.match(output, "--engine", "vole").document
    assert told["engine"] == "vole"
    assert town.audience(told["session"]) == sorted(f"s{i}" for i in range(400, 1_200))
    credentials = load_partner(campaign.partner, campaign.name, "spring")
    receipt = SessionReceipt.load(output.with_name(f"{output.name}.receipt"))
    said = receipt.open(log_origin("birdsite"), credentials.pin.identity_key).session.fields
    assert (said["partner"], said["engine"]) == ("agency", "vole")


def test_what_a_partner_uses_is_the_advertisers(town: LivePlatform, tmp_path: Path) -> None:
    campaign = Campaign(town, "frugal", tmp_path, "--daily-elements", "1500", "--max-list", "1200")
    campaign.delegated()
    assert campaign.match(tmp_path / "one.csv").code == 0
    left = {
        (each["quota"], each["left"])
        for each in town.operate("status")["quotas"]
        if each["advertiser"] == "frugal"
    }
    assert ("daily_elements", 500) in left
    # Neither of the two has room for another thousand.
    over = campaign.match(tmp_path / "two.csv")
    assert (over.code, "try again in" in over.stderr) == (1, True), over.stderr
    own = town.match(campaign.listed, tmp_path / "three.csv", campaign.own)
    assert (own.code, "try again in" in own.stderr) == (1, True), own.stderr


def test_without_a_delegation_in_force_a_partner_matches_nothing(town: LivePlatform, tmp_path: Path) -> None:
    campaign = Campaign(town, "careful", tmp_path)
    nothing = campaign.match(tmp_path / "out.csv")
    assert (nothing.code, "holds no delegation of careful" in nothing.stderr) == (1, True)
    file = campaign.delegate()
    assert campaign.take_up(file).code == 0
    unrecorded = campaign.match(tmp_path / "out.csv")
    assert unrecorded.code == 1
    assert "the platform must record a delegation first" in unrecorded.stderr
    assert campaign.record(file).code == 0
    other = town.match(
        campaign.listed, tmp_path / "o.csv", campaign.partner, "--for", "careful", "--list", "winter"
    )
    assert (other.code, "does not name this list; it names spring" in other.stderr) == (1, True)
    assert campaign.match(tmp_path / "out.csv").code == 0
    again = campaign.record(file)
    assert (again.code, "delegation 1 of careful was recorded before" in again.stderr) == (1, True)
    # An advertiser's folder is none of a partner, nor the other way round.
    own = town.match(campaign.listed, tmp_path / "p.csv", campaign.partner)
    assert (own.code, "A partner matches with --for ADVERTISER and --list NAME" in own.stderr) == (1, True)
    assert (
        town.match(
            campaign.listed, tmp_path / "p.csv", campaign.own, "--for", "careful", "--list", "spring"
        ).code
        == 1
    )


@pytest.mark.parametrize("by", ["advertiser", "platform"])
def test_a_delegation_that_is_revoked_ends_what_is_open(town: LivePlatform, tmp_path: Path, by: str) -> None:
    campaign = Campaign(town, f"ending-{by}", tmp_path)
    campaign.delegated()
    output = tmp_path / "out.csv"
    with fault_proxy() as proxy:
        proxy.plan(town.address)
        connect = ("--platform", proxy.address, "--patience", "0")
        assert campaign.match(tmp_path / "whole.csv", *connect).code == 0
        proxy.plan(town.address, Fault(Side.CLIENT, proxy.counts[Side.CLIENT] // 2, Action.CUT))
        assert campaign.match(output, *connect).code == BROKEN_OFF
        arguments: list[Any] = ["delegation", "revoke", campaign.name, "1"]
        if by == "advertiser":
            signed = advertiser("delegation", "revoke", "1", "--credentials", campaign.own, "--json").document
            arguments += ["--signed", signed["file"]]
        revoked = operator(*arguments, "--data-dir", town.data_dir, "--json").document
        assert (revoked["by"], revoked["ended_sessions"]) == (by, 1)
        again = campaign.match(output, *connect)
    assert again.code == 1
    assert "can not go on, and nothing of it was committed" in again.stderr
    new = campaign.match(output)
    assert (new.code, f"delegation 1 of {campaign.name} was revoked" in new.stderr) == (1, True), new.stderr
    (listed,) = town.operate("delegation", "list", "--advertiser", campaign.name)["delegations"]
    assert (listed["state"], listed["revoked_by"]) == ("revoked", by)
    twice = operator(*arguments, "--data-dir", town.data_dir)
    assert (twice.code, "was revoked already" in twice.stderr) == (1, True)
    # The advertiser itself matches as before, and delegates anew.
    assert town.match(campaign.listed, tmp_path / "own.csv", campaign.own).code == 0
    campaign.delegated()
    assert campaign.match(output).code == 0


def test_a_delegation_ends_at_its_time_also_for_a_session_that_is_open(
    town: LivePlatform, tmp_path: Path
) -> None:
    campaign = Campaign(town, "brief", tmp_path)
    ends = datetime.now(UTC) + timedelta(seconds=6)
    campaign.delegated("--expires", ends.isoformat())
    credentials = load_partner(campaign.partner, "brief", "spring")
    with connected(town.address, load(campaign.own), shown(credentials)) as client:
        session = opened(client, credentials)
        time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()) + 0.1)
        with fails(REFUSED) as said:
            list(client.stub.Evaluate(iter([batch(session)]), timeout=60))
        assert "delegation 1 of brief has expired" in said[0]
    late = campaign.match(tmp_path / "out.csv")
    assert (late.code, "delegation 1 has expired" in late.stderr) == (1, True)


def shown(credentials: Credentials) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        credentials.authority, reveal(credentials.key), credentials.certificate
    )


def opened(client: RawClient, credentials: Credentials, size: int = 1_000, **changes: Any) -> bytes:
    """A session of a partner; its id."""
    request = v1.OpenSessionRequest(agreement_digest=credentials.agreement.digest, list_size=size)
    assert credentials.on_behalf is not None
    said = {
        "delegation_digest": credentials.on_behalf.delegation.digest,
        "list_name": credentials.on_behalf.list_name,
    } | changes
    if said["delegation_digest"] is not None:
        request.on_behalf.CopyFrom(v1.OnBehalf(**said))
    grant = json.loads(client.stub.OpenSession(request, timeout=60).grant.content)
    return bytes.fromhex(grant["session"])


def batch(session: bytes) -> Any:
    return v1.EvaluateRequest(session_id=session, batch_number=0, blinded_elements=b"\xe2" * 32)


def test_the_platform_decides_whatever_a_client_says(town: LivePlatform, tmp_path: Path) -> None:
    campaign = Campaign(town, "honest", tmp_path)
    campaign.delegated("--max-list", "2000")
    agency = load_partner(campaign.partner, "honest", "spring")
    own = load(campaign.own)
    rival = replace(agency, **_certificate(town.folder / "rival"))
    assert agency.on_behalf is not None
    with connected(town.address, own, shown(agency)) as client:
        session = opened(client, agency)
        for size, changes, text in (
            (1_000, {"delegation_digest": None}, "a partner matches for an advertiser, under a delegation"),
            (1_000, {"delegation_digest": bytes(32)}, "no advertiser has delegated this"),
            (1_000, {"list_name": "winter"}, "does not name this list"),
            (2_001, {}, "1000 to 2000 distinct identifiers"),
        ):
            with fails(REFUSED) as said:
                opened(client, agency, size, **changes)
            assert text in said[0]
        with fails(grpc.StatusCode.INVALID_ARGUMENT):
            opened(client, agency, delegation_digest=b"short")
        with fails(grpc.StatusCode.PERMISSION_DENIED):
            list(client.stub.FetchRemovals(v1.FetchRemovalsRequest(epoch=1), timeout=60))
    with connected(town.address, own, shown(rival)) as client:
        with fails(REFUSED) as said:
            opened(client, agency)
        # It is not said whether there is such a delegation.
        assert "no advertiser has delegated this" in said[0]
        with fails(grpc.StatusCode.NOT_FOUND):
            list(client.stub.Evaluate(iter([batch(session)]), timeout=60))
    with connected(town.address, own) as client:
        with fails(REFUSED) as said:
            opened(client, agency)
        assert "an advertiser matches in its own name" in said[0]
        # What a partner opened is not the advertiser's to go on with.
        with fails(grpc.StatusCode.NOT_FOUND):
            client.stub.CloseSession(v1.CloseSessionRequest(session_id=session), timeout=60)


def _certificate(folder: Path) -> dict[str, Any]:
    member = MemberCredentials.load(folder)
    return {"certificate": member.certificate, "key": member.key, "fingerprint": member.fingerprint}


def test_what_is_not_the_advertisers_is_not_recorded_nor_taken_up(town: LivePlatform, tmp_path: Path) -> None:
    campaign = Campaign(town, "signing", tmp_path)
    file = campaign.delegate()
    content = json.loads(file.read_text())
    for change, text in (
        ({"lists": ["spring", "winter"]}, "is not signed by the advertiser's signing key"),
        ({"platform_id": "otherbirds"}, "is for platform otherbirds"),
        ({"advertiser": "nobody"}, "there is no advertiser nobody with an agreement"),
    ):
        forged = tmp_path / "forged.json"
        forged.write_text(json.dumps(content | {"delegation": content["delegation"] | change}))
        done = campaign.record(forged)
        assert (done.code, text in done.stderr) == (1, True), done.stderr
        assert campaign.take_up(forged).code == 1
    (tmp_path / "damaged.json").write_text("{}")
    assert campaign.record(tmp_path / "damaged.json").code == 1
    # Another advertiser's key, another advertiser's agreement.
    stranger = Campaign(town, "stranger", _made(tmp_path / "stranger"))
    theirs = json.loads(stranger.delegate().read_text())
    mixed = content | {name: theirs[name] for name in ("advertiser_key", "advertiser_signature")}
    (tmp_path / "mixed.json").write_text(json.dumps(mixed))
    done = campaign.record(tmp_path / "mixed.json")
    assert (done.code, "signed by another key than accepted the agreement" in done.stderr) == (1, True)
    done = advertiser(
        *("delegation", "accept", file, stranger.own / "agreement-1.json"),
        *("--credentials", campaign.partner),
    )
    assert done.code == 1
    # A partner that nobody added, and a revocation of another delegation.
    unknown = advertiser(
        *("delegate", "ghost", "--list", "spring", "--credentials", campaign.own, "--json")
    ).document["file"]
    done = campaign.record(Path(unknown))
    assert (done.code, "there is no partner ghost: add it first" in done.stderr) == (1, True)
    assert campaign.record(file).code == 0
    signed = advertiser("delegation", "revoke", "1", "--credentials", stranger.own, "--json").document["file"]
    done = operator(
        *("delegation", "revoke", "signing", "1", "--signed", signed, "--data-dir", town.data_dir)
    )
    assert (done.code, "signed by another key than the delegation" in done.stderr) == (1, True)
    done = operator("delegation", "revoke", "signing", "7", "--data-dir", town.data_dir)
    assert (done.code, "there is no delegation 7 of signing" in done.stderr) == (1, True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_delegation_outlives_the_agreement_that_is_replaced(town: LivePlatform, tmp_path: Path) -> None:
    campaign = Campaign(town, "renewing", tmp_path)
    file = campaign.delegated()
    offer = tmp_path / "offer.json"
    town.operate("agreement", "add", "renewing", "--disclosure", "advertiser", "--out", offer)
    signing = ("agreement", "accept", offer, "--credentials", campaign.own, "--yes", "--json")
    town.operate("agreement", "record", advertiser(*signing).document["file"])
    stale = campaign.match(tmp_path / "out.csv")
    assert (stale.code, "agreement 2 is in force and not the one" in stale.stderr) == (1, True), stale.stderr
    assert campaign.take_up(file).code == 0
    done = campaign.match(tmp_path / "out.csv")
    assert (done.document["disclosure"], done.document["matched_rows"]) == ("advertiser", 800)


def test_what_a_replaced_key_signed_is_not_in_force_any_more(town: LivePlatform, tmp_path: Path) -> None:
    campaign = Campaign(town, "rekeyed", tmp_path)
    campaign.delegated()
    agency = load_partner(campaign.partner, "rekeyed", "spring")
    (campaign.own / "signing.key").unlink()
    offer = tmp_path / "offer.json"
    town.operate("agreement", "add", "rekeyed", "--disclosure", "both", "--out", offer)
    accepted = advertiser(
        "agreement", "accept", offer, "--credentials", campaign.own, "--yes", "--json"
    ).document
    town.operate("agreement", "record", accepted["file"], "--key", accepted["advertiser_key"])
    own = load(campaign.own)
    held = replace(agency, agreement=own.agreement)
    with connected(town.address, own, shown(agency)) as client, fails(REFUSED) as said:
        opened(client, held)
    assert "is not signed with the key that rekeyed has now" in said[0]
    # Another one, with the key that is in force, puts it right.
    campaign.delegated()
    assert campaign.match(tmp_path / "out.csv").code == 0


def test_a_delegation_exceeds_no_agreement(town: LivePlatform, tmp_path: Path) -> None:
    campaign = Campaign(town, "limited", tmp_path, "--max-list", "2000", "--expires", "2030-01-01")
    for options, text in (
        (("--expires", "2031-01-01"), "would outlast the agreement"),
        (("--max-list", "3000"), "allows lists of at most 2,000"),
        (("--expires", "soon"), "is a date such as 2027-06-30"),
        (("--list", "No Such"), "a list's name is 1 to 63"),
    ):
        done = advertiser(
            *("delegate", "agency", "--list", "spring", "--credentials", campaign.own, *options)
        )
        assert (done.code, text in done.stderr) == (1, True), done.stderr
    assert not list(campaign.own.glob("delegation-*"))
    (campaign.own / "signing.key").rename(tmp_path / "elsewhere.key")
    done = advertiser("delegate", "agency", "--list", "spring", "--credentials", campaign.own)
    assert (done.code, "signing.key: cannot be read" in done.stderr) == (1, True)


def test_a_partner_whose_certificate_is_revoked_brings_nothing(town: LivePlatform, tmp_path: Path) -> None:
    town.operate("partner", "add", "leaver", "--out", tmp_path / "leaver")
    campaign = Campaign(town, "leaving", _made(tmp_path / "campaign"))
    shutil.rmtree(campaign.partner)
    shutil.copytree(tmp_path / "leaver", campaign.partner)
    file = Path(
        advertiser(
            *("delegate", "leaver", "--list", "spring", "--credentials", campaign.own, "--json")
        ).document["file"]
    )
    assert campaign.record(file).code == 0
    assert campaign.take_up(file).code == 0
    assert campaign.match(tmp_path / "one.csv").code == 0
    town.operate("certificate", "revoke", "--role", "partner", "--name", "leaver", "--reason", "superseded")
    done = campaign.match(tmp_path / "two.csv")
    assert (done.code, "was revoked" in done.stderr) == (1, True)


def test_a_partner_under_a_noisy_disclosure_pays_and_fills_audiences_for_the_advertiser(
    town: LivePlatform, tmp_path: Path
) -> None:
    campaign = Campaign(town, "noisy", tmp_path, disclosure="platform")
    campaign.delegated()
    change = ("--audience", "spring", "--mode", "add")
    told = campaign.match(tmp_path / "one.json", *change).document
    assert (told["disclosure"], told["unit"], told["paid"]) == ("platform", "subjects", True)
    # 800 of the list are enrolled; beyond 100 of scale 4 with a probability of e^-25.
    assert abs(told["value"] - 800) <= 105
    session = told["session"]
    assert len(town.audience(session)) == 800
    assert town.rows("SELECT legal_entity, epsilon FROM release WHERE session = ?", session) == [
        ("noisy", 250_000)
    ]
    # The same list again is known; what the advertiser brings itself, under its own label key, is not.
    again = campaign.match(tmp_path / "two.json", *change).document
    assert (again["session"], again["paid"], again["value"]) == (None, False, told["value"])
    own = town.match(campaign.listed, tmp_path / "own.json", campaign.own, *change).document
    assert own["paid"]
    (budget,) = (
        each
        for each in town.operate("budget", "--legal-entity", "noisy")["budgets"]
        if (each["name"], each["days"]) == ("noisy", 30)
    )
    assert budget["spent"] == "0.5"
    # What a partner brings is an audience of its own, and everything names both.
    listed = town.operate("audience", "list", "--advertiser", "noisy")["audiences"]
    assert [(each["partner"], each["audience"], each["subjects"]) for each in listed] == [
        (None, "spring", 800),
        ("agency", "spring", 800),
    ]
    of = ("spring", "--advertiser", "noisy", "--partner", "agency")
    exported = town.operate("audience", "export", *of, "--output", tmp_path / "ads.csv")
    assert (exported["partner"], exported["exported"]) == ("agency", 800)
    subjects = [row["subject_id"] for row in read_csv(tmp_path / "ads.csv")]
    assert subjects == sorted(f"s{i}" for i in range(400, 1_200))
    (about,) = town.operate("subject", "--subject-id", "s500")["subjects"]
    mine = [each for each in about["audiences"] if each["advertiser"] == "noisy"]
    assert [(each["partner"], each["audience"], each["member"]) for each in mine] == [
        ("agency", "spring", True),
        (None, "spring", True),
    ]
    impact = town.operate("impact", "--source", "default", "--advertiser", "noisy")
    assert [(each["partner"], each["subjects"]) for each in impact["by_audience"]] == [
        (None, 800),
        ("agency", 800),
    ]
    # A budget that is spent refuses the partner as it does the advertiser.
    for number, spender in enumerate((campaign.match, campaign.match)):
        listed_file = customers(tmp_path / f"other-{number}.csv", 1_000 + number)
        assert spender(tmp_path / f"other-{number}.json", listed=listed_file).code == 0
    over = campaign.match(tmp_path / "over.json", listed=customers(tmp_path / "over.csv", 1_100))
    assert (over.code, "the budget of legal entity noisy" in over.stderr) == (1, True), over.stderr
