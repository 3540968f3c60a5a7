"""The audit: it passes on what a platform did, and names what was changed behind its back."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from noisy_sessions import ask, begin_exchange, report_of
from platforms import (
    PLATFORM_ID,
    Done,
    LivePlatform,
    admitted_peer,
    advertiser,
    assertion,
    customers,
    grants,
    operator,
)

from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.delegation import DelegatedList
from purposematch.protocol.errors import IntegrityError, StateError
from purposematch.protocol.evidence import CollectedAssertion, CollectorKey, sign_assertion, sign_batch
from purposematch.protocol.group import Bytes, Elements, Group
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.messages import EvaluateRequest, SessionGrant
from purposematch.protocol.purpose import DEFAULT_PURPOSE, Origin, Status
from purposematch.server import matching as matching_module
from purposematch.server.audit import audit
from purposematch.server.matching import Matching
from purposematch.server.pki import Role
from purposematch.server.publish import publish
from purposematch.server.registry import agreements, ledger
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.certificates import certificates

ENROLLED = 1_100
LISTED = 1_000
SCREENS = CollectorKey(b"\1" * 32)
Tamper = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    """A platform on which everything that is logged has happened."""
    folder = tmp_path_factory.mktemp("audited")
    platform = LivePlatform.create(folder)
    issuer = ("--purpose", DEFAULT_PURPOSE, "--origin", "signup")
    platform.operate("issuer", "add", "screens", "--key", SCREENS.public_key.hex(), *issuer)
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
        Matching(opened, lambda: bytes(32)).open_session(peer, agreement.digest, LISTED, delegated)
    revocation = advertiser("delegation", "revoke", "1", "--credentials", credentials, "--json").document
    ended = platform.operate("delegation", "revoke", "acme", "1", "--signed", revocation["file"])
    assert ended["ended_sessions"] == 1


def _enroll_evidence(platform: LivePlatform) -> None:
    """One assertion with a signature of its own, and two that share one."""
    said = [
        CollectedAssertion(
            issuer="screens",
            source="default",
            subject=f"signed{number}",
            kind=Kind.EMAIL,
            digest=sha256(b"signed%d@example.com" % number).digest(),
            purposes=(DEFAULT_PURPOSE,),
            origin=Origin.SIGNUP,
            status=Status.GRANTED,
            notice="",
            collected_at=1_764_028_800_000_000,
        )
        for number in range(3)
    ]
    rows = [dict(assertion(each.subject, "email", f"{each.subject}@example.com")) for each in said]
    own = sign_assertion(SCREENS, PLATFORM_ID, Profile.PLAIN, said[0])
    assert platform.enroll([rows[0] | said[0].cells(own)])["enrolled"] == 1
    batch, parts = sign_batch(SCREENS, PLATFORM_ID, Profile.PLAIN, said[1:])
    path = platform.folder / "evidence.json"
    path.write_bytes(batch.to_bytes())
    cells = [
        row
        | {"issuer": "", "collected_at": each.cells(part)["collected_at"], "evidence_salt": part.salt.hex()}
        for row, each, part in zip(rows[1:], said[1:], parts, strict=True)
    ]
    assert platform.enroll(cells, "--evidence", str(path))["enrolled"] == 2


@pytest.fixture
def copy(audited: LivePlatform, tmp_path: Path) -> LivePlatform:
    shutil.copytree(audited.data_dir, tmp_path / "platform")
    return LivePlatform(tmp_path)


def _audit(platform: LivePlatform) -> Done:
    return operator("audit", "--data-dir", platform.data_dir, "--json")


def _change(platform: LivePlatform, tamper: Tamper | str) -> None:
    with contextlib.closing(sqlite3.connect(platform.data_dir / "registry.sqlite")) as database, database:
        if isinstance(tamper, str):
            assert database.execute(tamper).rowcount > 0
        else:
            tamper(database)


@pytest.mark.parametrize(
    "change",
    ["origin = 1", "purposes = 'analytics'", "issuer = 'x'", "id = id + 1"],
)
def test_terms_that_only_a_correction_uses_can_not_be_changed(copy: LivePlatform, change: str) -> None:
    """Else the two-factor screen would become an account page, behind the log's back."""
    labels = ("--notice", "n1", "--origin", "contact_import", "--apply")
    copy.operate("correct", *labels, "--output", copy.folder / "again")
    _change(copy, f"UPDATE terms SET {change} WHERE origin = {int(Origin.CONTACT_IMPORT)}")
    done = _audit(copy)
    assert (done.code, done.stdout) == (1, "")
    assert "table correct" in done.stderr or "table terms" in done.stderr


def test_what_a_platform_did_passes(audited: LivePlatform, copy: LivePlatform) -> None:
    assert _audit(copy).document == {
        "leaves": 3 + 6 + 1 + 1 + 2 + 5 + 5 + 3 * 2 + 2 + 1 + 3 + 2 + 2 + 2 + 5,
        # Nothing was signed since the partner opened its session: it ended, operators asked, and another
        # advertiser was told a noisy count.
        "signed_leaves": 3 + 6 + 1 + 1 + 2 + 3 + 5 + 5 + 3 * 2 + 2 + 1 + 3,
        "policies": 2,
        "deliveries": 6,
        "assertions": ENROLLED + 6,
        "decisions": audited.rows("SELECT COUNT(*) FROM decision")[0][0],
        "generations": 3,
        "corrections": 1,
        "erasures": 0,
        "erased_assertions": 0,
        "erased_decisions": 0,
        "advertisers": 2,
        "sessions": 4,
        "commits": 2,
        "releases": 1,
        "audience_changes": 2,
        "audience_expiries": 1,
        "audience_exports": 1,
        "queries": 2,
        "evidence": 3,
        "generations_on_disk": 1,
        "gates": 1,
        "indexed": ENROLLED + 1,
    }


def test_a_correction_of_all_there_is_passes(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path)
    platform.enroll([assertion("s1", "email", "user1@example.com", notice_id="n1")])
    platform.publish()
    platform.operate("correct", "--notice", "n1", "--origin", "two_factor", "--apply")
    assert _audit(platform).document["corrections"] == 1


def test_every_table_has_rows_to_tamper_with(audited: LivePlatform) -> None:
    filled = [name for (name,) in audited.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    filled = [name for name in filled if audited.rows(f'SELECT COUNT(*) FROM "{name}"')[0][0]]
    assert set(filled) == set(DELETED) | {"log_leaf", "log_tile"}


DELETED = {
    "property": "name = 'profile'",
    "policy": "id = 1",
    "delivery": "id = 6",
    "evidence": "1",
    "evidence_batch": "1",
    "terms": "id = 1",
    "assertion_chunk": "first = 1",
    "mention": "assertion = 5",
    "digest_chunk": "first = 1",
    "assertion_salt": "first = 1",
    "decision": "id = 1",
    "advertiser": "1",
    "certificate": "role = 'advertiser'",
    "delegation": "1",
    "agreement": "number = 1",
    "usage": "1",
    "generation": "number = 1",
    "session": "1",
    "batch": "number = 0",
    '"commit"': "1",
    "audience_change": "number = 2",
    "member_chunk": "first = 1",
    "correction": "1",
    "corrected": "1",
    "removed_tag": "1",
    "removal_list": "number = 2",
    "removal_acknowledgement": "1",
    "release": "1",
    "exchange": "1",
    "exchange_part": "side = 0",
}
DELETED = {name.strip('"'): row for name, row in DELETED.items()}


@pytest.mark.parametrize("table", [*DELETED, "log_leaf", "log_tile"])
def test_a_row_that_is_gone_is_named(copy: LivePlatform, table: str) -> None:
    row = DELETED.get(table, '"index" = 0')
    _change(copy, f'DELETE FROM "{table}" WHERE {row}')
    done = _audit(copy)
    assert done.code == 1
    # Without a property the registry does not even open.
    assert ("another profile" if table == "property" else table) in done.stderr


CHANGED = {
    "property": "value = 'x' WHERE name = 'profile'",
    "policy": "loaded_at = loaded_at + 1 WHERE id = 2",
    "policy ": "content = CAST(REPLACE(content, 'false', 'true') AS BLOB) WHERE id = 1",
    "delivery": "source = 'other' WHERE id = 2",
    "delivery ": "report = '{}' WHERE id = 1",
    "delivery  ": "request = zeroblob(16) WHERE id = 1",
    "terms": "origin = 3 WHERE status = 3",
    "terms ": "issuer = 'somebody' WHERE id = 1",
    "assertion_salt": "salts = zeroblob(16) WHERE count = 1",
    "evidence": "collected_at = collected_at + 1",
    "evidence ": "salt = NULL",
    "evidence  ": "signature = zeroblob(64) WHERE signature IS NULL",
    "evidence_batch": "issuer = 'somebody'",
    "decision": "reason = 7 WHERE id = 1",
    "decision ": "subject = 'somebody' WHERE id = 1",
    "decision  ": "salt = zeroblob(16) WHERE id = 1",
    "decision   ": "salt = NULL, subject = NULL, identifier = NULL, granting = NULL WHERE id = 1",
    "advertiser": "added_at = added_at + 1",
    "delegation": "partner = 'rival'",
    "delegation ": "content = CAST(REPLACE(content, 'spring', 'winter') AS BLOB)",
    "delegation  ": "signature = zeroblob(64)",
    "delegation   ": "revoked_at = NULL, revocation = NULL",
    "delegation    ": "revocation = NULL",
    "delegation     ": "digest = zeroblob(32)",
    "certificate": "not_after = not_after + 1",
    "certificate ": "name = 'globex' WHERE revoked_at IS NULL",
    "certificate  ": "role = 'operator'",
    "certificate   ": "fingerprint = zeroblob(32) WHERE role = 'partner'",
    "certificate    ": "revoked_at = NULL, reason = NULL",
    "certificate     ": "revoked_at = recorded_at WHERE revoked_at IS NULL",
    "certificate      ": "reason = 'superseded' WHERE revoked_at IS NULL",
    "certificate       ": "reason = 'unspecified' WHERE revoked_at IS NOT NULL",
    "agreement": "content = CAST(REPLACE(content, 'both', 'advertiser') AS BLOB)",
    "agreement ": "platform_signature = zeroblob(64)",
    "agreement  ": "advertiser_key = zeroblob(32)",
    "agreement   ": "advertiser_signature = zeroblob(64) WHERE number = 1",
    "agreement    ": "recorded_at = recorded_at + 1",
    "agreement     ": "ended_at = recorded_at + 1 WHERE number = 1",
    "agreement      ": "ended_at = NULL WHERE number = 2",
    "exchange": "exponent = NULL",
    "exchange_part": "marks = zeroblob(16)",
    "exchange_part ": "sha256 = zeroblob(32) WHERE side = 0",
    "exchange_part  ": "elements = elements - 1, marks = zeroblob(16 * (elements - 1)) WHERE side = 1",
    "usage": "elements = elements - 1",
    "usage ": "sessions = 0",
    "usage  ": "day = day - 1",
    "generation": "watermark = watermark - 1 WHERE number = 1",
    "generation ": "published_at = published_at + 1 WHERE number = 2",
    "generation  ": "log_size = log_size + 1 WHERE number = 2",
    "session": "elements = elements + 1",
    "session      ": "engine = 'vole'",
    "session       ": "attempts = attempts + 1",
    "session   ": "list = 'winter' WHERE list IS NOT NULL",
    "session    ": "list = 'winter' WHERE list IS NULL",
    "session     ": "delegation = NULL, list = NULL WHERE list IS NOT NULL",
    "session  ": "log_size = log_size - 1",
    "session ": "state = 'open', closed_at = NULL",
    "batch": "elements = elements + 1 WHERE number = 0",
    "batch ": "charged = charged - 1 WHERE number = 0",
    "commit": "receipt = zeroblob(10)",
    "commit ": "policy = 2",
    "audience_change": "audience = 'other' WHERE number = 1",
    "audience_change ": "mode = 'remove' WHERE number = 1",
    "audience_change  ": "expires_at = expires_at + 1 WHERE number = 2",
    "audience_change   ": "session = (SELECT id FROM session WHERE advertiser = 'bolt') WHERE number = 1",
    "audience_change    ": "ended_at = NULL WHERE number = 2",
    "audience_change     ": "ended_by = 'retention' WHERE number = 2",
    "audience_change      ": "sha256 = zeroblob(32) WHERE number = 2",
    "audience_change       ": "ended_at = expires_at, ended_by = 'x', sha256 = zeroblob(32) WHERE number = 1",
    "audience_change        ": "ended_by = 'retention' WHERE number = 1",
    "member_chunk": "granting = granting || X'0000000000000451' WHERE first > 1",
    "member_chunk ": "granting = zeroblob(8) || granting WHERE first > 1",
    "member_chunk  ": "granting = substr(granting, 1, length(granting) - 1) WHERE first > 1",
    "member_chunk   ": "granting = substr(granting, 1, 8) || substr(granting, 17) WHERE first > 1",
    "member_chunk    ": "granting = X'' WHERE first > 1",
    "member_chunk     ": "granting = CAST(granting AS TEXT) WHERE first = 1",
    "member_chunk      ": "first = first + 1 WHERE first > 1",
    "member_chunk       ": "first = -first WHERE first > 1",
    "member_chunk        ": "change = 2",
    "mention": "assertion = assertion + 1 WHERE assertion = 5",
    "correction": "why = 'another reason'",
    "correction ": "origin = NULL",
    "corrected": "terms = 1",
    "removed_tag": "returned = 3",
    "removed_tag ": "tag = zeroblob(16)",
    "removal_list": "content = zeroblob(10) WHERE number = 2",
    "removal_list ": "sha256 = zeroblob(32) WHERE number = 2",
    "removal_acknowledgement": "acknowledged_at = acknowledged_at + 1",
    "release": "epsilon = epsilon - 1",
    "release ": "legal_entity = 'other'",
    "release  ": "label = zeroblob(31) || X'01'",
    "release   ": "released_at = released_at - 86400000000",
    "release    ": "content = CAST(REPLACE(content, '\"value\":', '\"value\":1') AS BLOB)",
    "release     ": "signature = zeroblob(64)",
    "release      ": "purpose = 'marketing.advertising'",
    "release       ": "session = (SELECT id FROM session WHERE advertiser = 'acme')",
    "release        ": "policy = 1",
    "release         ": "disclosure = 'platform'",
    "log_leaf": 'at = at + 1 WHERE "index" = 3',
    "log_leaf ": 'salt = NULL, content = NULL WHERE "index" = 3',
    "log_leaf  ": "content = CAST(REPLACE(content, 'default', 'another') AS BLOB) WHERE \"index\" = 1",
    "log_leaf   ": 'hash = zeroblob(32) WHERE "index" = 1',
    "log_tile": "hashes = zeroblob(32)",
}


@pytest.mark.parametrize("table", CHANGED)
def test_a_row_that_was_changed_is_named(copy: LivePlatform, table: str) -> None:
    _change(copy, f'UPDATE "{table.strip()}" SET {CHANGED[table]}')
    done = _audit(copy)
    assert done.code == 1
    assert ("another profile" if table == "property" else table.strip()) in done.stderr


INSERTED = {
    "property": "VALUES ('other', 'x')",
    "policy": "SELECT 3, zeroblob(32), taxonomy, content, loaded_at FROM policy WHERE id = 2",
    "delivery": "SELECT 7, source, file_digest, received_at, 1107, 0, policy, report, leaf, request "
    "FROM delivery WHERE id = 6",
    "terms": "SELECT 99, purposes, origin, status, 'elsewhere', issuer FROM terms WHERE id = 1",
    "assertion_chunk": "SELECT first + 20000, count, content FROM assertion_chunk",
    "mention": "VALUES (5, 5)",
    "digest_chunk": "SELECT first + 5000, count, sealed FROM digest_chunk WHERE first = 1",
    "assertion_salt": "SELECT first + 5000, count, salts FROM assertion_salt WHERE first = 1",
    "erasure": "VALUES (1, 0, NULL, 5)",
    "erased_assertion": "VALUES (1, 1, zeroblob(32))",
    "erased_decision": "VALUES (1, 1, zeroblob(32))",
    "evidence": "VALUES (1, 0, zeroblob(16), zeroblob(64), NULL)",
    "evidence ": "VALUES (9999, 0, zeroblob(16), zeroblob(64), NULL)",
    "evidence_batch": "VALUES (1, 'x', zeroblob(32), zeroblob(64))",
    "decision": "SELECT 99999, subject, identifier, reason, granting, policy, decided_at, assertions, salt "
    "FROM decision WHERE id = 1",
    "advertiser": "SELECT 'other', added_at FROM advertiser WHERE name = 'acme'",
    "certificate": "SELECT zeroblob(32), role, name, not_after, recorded_at, NULL, NULL "
    "FROM certificate LIMIT 1",
    "agreement": "SELECT advertiser, 4, zeroblob(32), content, platform_signature, advertiser_key, "
    "advertiser_signature, recorded_at, NULL FROM agreement WHERE number = 2",
    "usage": "SELECT advertiser, day + 1, 0, 0 FROM usage WHERE advertiser = 'acme'",
    "delegation": "SELECT advertiser, 2, partner, zeroblob(32), content, advertiser_key, signature, "
    "recorded_at, NULL, NULL FROM delegation",
    "session": "SELECT 'ab', advertiser, fingerprint, agreement, delegation, list, generation, elements, "
    'engine, attempts, "grant", log_size, state, opened_at, heard_at, closed_at '
    "FROM session WHERE advertiser = 'acme' LIMIT 1",
    "batch": "SELECT session, 99, sha256, elements, charged, received_at FROM batch WHERE number = 0",
    "commit": "SELECT session, 'ab', sha256, receipt, signature, policy, matched, committed_at "
    'FROM "commit" LIMIT 1',
    "correction": "SELECT 2, corrected_at, selection, origin, purposes, why, assertions, decisions "
    "FROM correction",
    "corrected": "VALUES (5, 1, 1)",
    "removed_tag": "VALUES (1, zeroblob(16), 2, NULL)",
    "removal_list": "SELECT epoch, 99, sha256, content, signature FROM removal_list WHERE number = 2",
    "removal_acknowledgement": "SELECT advertiser, epoch, 1, sha256, acknowledged_at "
    "FROM removal_acknowledgement",
    "audience_change": "SELECT 3, (SELECT id FROM session WHERE advertiser = 'bolt'), audience, mode, "
    "expires_at, NULL, NULL, NULL FROM audience_change WHERE number = 1",
    "member_chunk": "VALUES (1, 1101, X'000000000000044D')",
    "member_chunk ": "VALUES (2, 8, X'0000000000000008')",
    "member_chunk  ": "VALUES (3, 8, X'0000000000000008')",
    "member_chunk   ": "VALUES (1, 1101, X'')",
    "release": "SELECT 2, (SELECT id FROM session WHERE advertiser = 'acme'), 'other', purpose, label, "
    "generation, policy, disclosure, epsilon, released_at, content, signature FROM release",
    "log_leaf": 'SELECT 99, kind, at, salt, content, hash FROM log_leaf WHERE "index" = 1',
    "log_tile": "VALUES (1, 0, zeroblob(32))",
}


@pytest.mark.parametrize("table", INSERTED)
def test_a_row_that_nobody_logged_is_named(copy: LivePlatform, table: str) -> None:
    _change(copy, f'INSERT INTO "{table.strip()}" {INSERTED[table]}')
    done = _audit(copy)
    assert done.code == 1
    assert table.strip() in done.stderr


@pytest.mark.parametrize(
    ("table", "key", "columns"),
    [
        ("delivery", "id", ("file_digest",)),
        ("assertion_salt", "first", ("salts",)),
        ("digest_chunk", "first", ("sealed",)),
        ("decision", "id", ("subject", "identifier", "reason", "granting")),
        ("generation", "number", ("manifest",)),
        ("log_leaf", "index", ("kind", "at", "salt", "content", "hash")),
    ],
)
def test_rows_that_changed_places_are_named(
    copy: LivePlatform, table: str, key: str, columns: tuple[str, ...]
) -> None:
    def swap(database: sqlite3.Connection) -> None:
        names = ", ".join(f'"{column}"' for column in columns)
        marks = ", ".join(f'"{column}" = ?' for column in columns)
        order = f'"{key}" DESC LIMIT 2'
        (a, *one), (b, *two) = database.execute(f'SELECT "{key}", {names} FROM "{table}" ORDER BY {order}')
        change = f'UPDATE "{table}" SET {marks} WHERE "{key}" = ?'
        database.execute(change, (*two, a))
        database.execute(change, (*one, b))

    _change(copy, swap)
    done = _audit(copy)
    assert done.code == 1
    assert table in done.stderr


@pytest.mark.parametrize(
    "cut",
    [
        lambda first, last: (first, last[:800], last[800:]),
        lambda first, last: (first + last,),
        lambda first, last: (first[:-8], first[-8:] + last),
        lambda first, last: (first, last[:8], last[8:]),
        lambda first, last: (first + last[:8], last[8:]),
    ],
)
def test_members_in_other_chunks_are_named(
    copy: LivePlatform, cut: Callable[[bytes, bytes], tuple[bytes, ...]]
) -> None:
    """There is one way to store them, so that rows which nobody wrote show even if they say the same."""

    def store_again(database: sqlite3.Connection) -> None:
        first, last = (row for (row,) in database.execute("SELECT granting FROM member_chunk ORDER BY first"))
        database.execute("DELETE FROM member_chunk")
        rows = [(int.from_bytes(content[:8], "big"), content) for content in cut(first, last)]
        database.executemany("INSERT INTO member_chunk VALUES (1, ?, ?)", rows)

    _change(copy, store_again)
    done = _audit(copy)
    assert done.code == 1
    assert "table member_chunk row 1 " in done.stderr


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.99])
@pytest.mark.parametrize(
    "table",
    ["assertion_chunk.content", "digest_chunk.sealed", "assertion_salt.salts", "member_chunk.granting"],
)
def test_a_flipped_byte_of_a_chunk_is_named(copy: LivePlatform, table: str, place: float) -> None:
    name, column = table.split(".")

    def flip(database: sqlite3.Connection) -> None:
        question = f"SELECT first, {column} FROM {name} ORDER BY first LIMIT 1"
        first, content = database.execute(question).fetchone()
        changed = _flipped(content, place)
        database.execute(f"UPDATE {name} SET {column} = ? WHERE first = ?", (changed, first))

    _change(copy, flip)
    done = _audit(copy)
    # Padding between columns means nothing, and nothing is said about it.
    assert (done.code == 1 and name in done.stderr) or (name == "assertion_chunk" and done.code == 0)


def _flipped(content: bytes, place: float) -> bytes:
    changed = bytearray(content)
    changed[int(len(content) * place)] ^= 1
    return bytes(changed)


FILES = (
    "manifest.json",
    "manifest.sig",
    "tags",
    "tokens",
    "identifiers",
    "granting_ends",
    "granting",
    "rows-count-2",
)


@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", [*FILES, "checksum", "segment", "points", "log.checkpoint"])
def test_a_flipped_byte_of_a_file_is_named(copy: LivePlatform, name: str, place: float) -> None:
    path = _file(copy, name)
    path.write_bytes(_flipped(path.read_bytes(), place))
    done = _audit(copy)
    assert done.code == 1
    assert path.name in done.stderr


@pytest.mark.parametrize("name", [*FILES, "checksum", "segment", "points", "log.checkpoint"])
def test_a_file_that_is_gone_is_named(copy: LivePlatform, name: str) -> None:
    path = _file(copy, name)
    path.unlink()
    done = _audit(copy)
    assert done.code == 1
    assert path.name in done.stderr or path.parent.name in done.stderr


def _file(platform: LivePlatform, name: str) -> Path:
    if name == "log.checkpoint":
        return platform.data_dir / name
    folder = platform.data_dir / "generations"
    if name in ("segment", "points"):
        # Tags of one generation, and the points of its list, which are twice as long and more.
        tags, points = sorted((folder / "segments").iterdir(), key=lambda path: path.stat().st_size)
        return points if name == "points" else tags
    ((latest,),) = platform.rows("SELECT id FROM generation ORDER BY number DESC LIMIT 1")
    return folder / latest / name


def test_a_session_that_ended_takes_no_batch_any_more(
    copy: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end said which batches it had, and another one would be in no event."""
    with copy.opened() as platform:
        matching = Matching(platform, lambda: bytes(32))
        with platform.registry.reading() as connection:
            agreement = agreement_in_force(connection, "acme", platform.clock())
        peer = admitted_peer(platform, "acme")
        before = audit(platform).leaves
        opened = matching.open_session(peer, agreement.digest, LISTED)
        session = SessionGrant.parse(opened.grant.content).session
        assert audit(platform).sessions == 5
        element = platform.group.encode(platform.group.map_to_group(np.full((1, 64), 7, np.uint8)))
        decode = type(platform.group).decode

        def close_and_decode(group: Group, content: Bytes) -> Elements:
            """The other process closes it while a batch is read."""
            matching.close_session(peer, session)
            return decode(group, content)

        monkeypatch.setattr(type(platform.group), "decode", close_and_decode)
        with pytest.raises(StateError, match="closed"):
            matching.evaluate(peer, session, EvaluateRequest(0, element))
        # The session, and its end.
        assert audit(platform).leaves == before + 2


@pytest.mark.parametrize("shown", ["revoked", "unrecorded"])
def test_a_session_that_a_certificate_opened_which_was_not_admitted_is_named(
    copy: LivePlatform, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    """A platform that lets somebody in past its own rules can log it, and the audit still says so."""
    with copy.opened() as platform:
        matching = Matching(platform, lambda: bytes(32))
        with platform.registry.reading() as connection:
            agreement = agreement_in_force(connection, "acme", platform.clock())
            before = certificates(connection, Role.ADVERTISER, "acme")[0]
        assert before.revoked_at is not None
        fingerprint = before.fingerprint if shown == "revoked" else bytes(32)
        monkeypatch.setattr(matching.sessions, "admit", lambda *_arguments: None)
        peer = replace(admitted_peer(platform, "acme"), fingerprint=fingerprint)
        opened = matching.open_session(peer, agreement.digest, LISTED)
        session = SessionGrant.parse(opened.grant.content).session
        with pytest.raises(
            IntegrityError, match=f"session row {session.hex()}: its certificate was not one of"
        ):
            audit(platform)


def test_a_partners_session_that_no_delegation_allowed_is_named(
    copy: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((digest,),) = copy.rows("SELECT digest FROM delegation WHERE revoked_at IS NOT NULL")
    with copy.opened() as platform:
        matching = Matching(platform, lambda: bytes(32))
        with platform.registry.reading() as connection:
            agreement = agreement_in_force(connection, "acme", platform.clock())
        monkeypatch.setattr(matching_module, "owner_of", lambda *_arguments: ("acme", LISTED))
        peer = admitted_peer(platform, "agency", Role.PARTNER)
        matching.open_session(peer, agreement.digest, LISTED, DelegatedList(digest, "spring"))
        with pytest.raises(IntegrityError, match="no delegation was in force for its list"):
            audit(platform)


def test_an_agreement_that_the_advertiser_never_signed_is_named(copy: LivePlatform) -> None:
    """A platform can write and log one, but not sign it in the advertiser's place."""
    with copy.opened() as platform:
        with platform.registry.writing() as connection:
            latest = agreements.latest_agreement(connection, "acme")
            assert latest is not None
            wider = replace(latest.agreement, number=4, daily_elements=latest.agreement.daily_elements + 1)
            document = AgreementDocument.offer(wider, platform.identity)
            agreements.add_agreement(connection, document, latest.acceptance, platform.clock())
            ledger.record_agreement(connection, "acme", 4, platform.random_bytes)
        with pytest.raises(IntegrityError, match="agreement row acme 4: the agreement is not signed"):
            audit(platform)


def test_a_manifest_of_long_ago_is_checked_too(copy: LivePlatform) -> None:
    ((first,),) = copy.rows("SELECT id FROM generation WHERE number = 1")
    path = copy.data_dir / "generations" / first / "manifest.sig"
    path.write_bytes(_flipped(path.read_bytes(), 0.5))
    assert first in _audit(copy).stderr


def test_nothing_is_signed_on_an_older_registry(copy: LivePlatform, tmp_path: Path) -> None:
    database = copy.data_dir / "registry.sqlite"
    with copy.opened() as platform:
        platform.registry.close()
    before = database.read_bytes()
    copy.publish()
    for name in ("registry.sqlite-wal", "registry.sqlite-shm"):
        (copy.data_dir / name).unlink(missing_ok=True)
    database.write_bytes(before)
    done = operator("publish", "--data-dir", copy.data_dir)
    assert done.code == 1
    assert "does not extend" in done.stderr
    assert "log.checkpoint" in _audit(copy).stderr


def test_a_publication_that_failed_leaves_nothing_unlogged(
    copy: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _audit(copy).document
    policy = copy.data_dir / "policy.toml"
    policy.write_text(policy.read_text().replace("strict_origins = true", "strict_origins = false"))
    with copy.opened() as platform:
        monkeypatch.setattr(type(platform.store), "write", _fails)
        with pytest.raises(OSError, match="no room"):
            publish(platform)
        found = audit(platform)
    assert (found.leaves, found.generations) == (before["leaves"] + 2, before["generations"])
    assert found.decisions > before["decisions"]


def _fails(*_arguments: object) -> None:
    raise OSError("no room")
