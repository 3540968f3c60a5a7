"""A platform on which everything that is logged has happened, for tests of what the audit notices."""

from pathlib import Path
from typing import Final

from noisy_sessions import ask, begin_exchange, report_of
from platforms import LivePlatform, admitted_peer, advertiser, assertion, customers, grants
from signed import add_issuer, batch_rows, signed_rows

from purposematch.protocol.delegation import DelegatedList
from purposematch.server.matching import Matching
from purposematch.server.pki import Role
from purposematch.server.registry.agreements import agreement_in_force

ENROLLED: Final = 1_100
LISTED: Final = 1_000


def eventful_platform(folder: Path) -> LivePlatform:
    """It is not served. Nobody was erased; one set exchange is under way."""
    platform = LivePlatform.create(folder)
    add_issuer(platform)
    platform.enroll(grants(ENROLLED))
    _enroll_evidence(platform)
    # A pair with a spelling of its own, a refusal for good, and one that stores a decision at its receipt.
    platform.enroll([assertion("dotted", "email", "First.Last+ads@gmail.com", notice_id="n1")])
    platform.enroll([assertion("s7", "email", "user7@example.com", status="withdrawn")])
    platform.enroll([assertion("s8", "email", "user8@example.com", "two_factor")])
    platform.publish()
    credentials = platform.admit("acme")
    with platform.serving():
        listed = customers(folder / "customers.csv", LISTED)
        done = platform.match(listed, folder / "out.csv", credentials)
        assert done.code == 0, done.stderr
        # Another audience leaves the platform, and is ended.
        done = platform.match(
            listed, folder / "spring.csv", credentials, "--audience", "spring", "--mode", "add"
        )
        assert done.code == 0, done.stderr
    of = ("spring", "--advertiser", "acme")
    platform.operate("audience", "export", *of, "--output", folder / "spring-ads.csv")
    platform.operate("audience", "expire", *of)
    # Another agreement takes the place of the first one, is ended before its time, and followed by a third.
    for number in (2, 3):
        offer = folder / f"offer-{number}.json"
        platform.operate("agreement", "add", "acme", "--disclosure", "both", "--out", str(offer))
        accepted = advertiser("agreement", "accept", offer, "--credentials", credentials, "--yes", "--json")
        assert platform.operate("agreement", "record", accepted.document["file"])["number"] == number
        if number == 2:
            platform.operate("agreement", "end", "acme")
    # Somebody is told numbers alone, from a list of points.
    platform.admit("bolt", "count")
    # Under another policy the gate answers otherwise without any new assertion.
    policy = platform.data_dir / "policy.toml"
    policy.write_text(policy.read_text().replace("strict_origins = false", "strict_origins = true"))
    platform.publish()
    # One notice turns out to have been that of a two-factor screen; then the advertiser takes out who left.
    labels = ("--notice", "n1", "--origin", "two_factor", "--apply", "--output", str(folder / "affected"))
    platform.operate("correct", *labels)
    with platform.serving():
        connect = ("--platform", platform.address, "--credentials", credentials)
        done = advertiser("removals", folder / "out.csv", *connect, "--json")
        assert done.document["acknowledged"] is True
    _partner(platform, credentials)
    # The advertiser renews its certificate, and the one before is revoked.
    ((before,),) = platform.rows(
        "SELECT hex(fingerprint) FROM certificate WHERE role = 'advertiser' AND name = 'acme'"
    )
    platform.operate("certificate", "renew", "advertiser", "acme", "--out", credentials)
    platform.operate("certificate", "revoke", before, "--reason", "superseded")
    platform.operate("impact", "--notice", "n1")
    platform.operate("subject", "--identifier", "user7@example.com")
    with platform.opened() as opened:
        release = ask(opened, "bolt", bytes(32))
        assert release.new
        begin_exchange(opened, report_of(opened, release.document).session)
    return platform


def _partner(platform: LivePlatform, credentials: Path) -> None:
    """A partner opens a session for the advertiser, which then takes the delegation back."""
    platform.operate("partner", "add", "agency", "--out", platform.folder / "agency")
    signing = ("delegate", "agency", "--list", "spring", "--credentials", credentials, "--json")
    signed = advertiser(*signing).document
    platform.operate("delegation", "record", signed["file"])
    with platform.opened() as opened:
        with opened.registry.reading() as connection:
            agreement = agreement_in_force(connection, "acme", opened.clock())
        peer = admitted_peer(opened, "agency", Role.PARTNER)
        delegated = DelegatedList(bytes.fromhex(signed["digest"]), "spring")
        Matching(opened, lambda: bytes(32)).opening.open(peer, agreement.digest, LISTED, delegated)
    revocation = advertiser("delegation", "revoke", "1", "--credentials", credentials, "--json").document
    ended = platform.operate("delegation", "revoke", "acme", "1", "--signed", revocation["file"])
    assert ended["ended_sessions"] == 1


def _enroll_evidence(platform: LivePlatform) -> None:
    """One assertion with a signature of its own, and two that share one."""
    assert platform.enroll(signed_rows(1))["enrolled"] == 1
    batch, rows = batch_rows(2, first=1)
    path = platform.folder / "evidence.json"
    path.write_bytes(batch.to_bytes())
    assert platform.enroll(rows, "--evidence", str(path))["enrolled"] == 2
