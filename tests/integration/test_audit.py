"""The audit: it passes on what a platform did, and names what was changed behind its back."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eventful import ENROLLED, LISTED, eventful_platform
from platforms import (
    Done,
    LivePlatform,
    admitted_peer,
    assertion,
    operator,
)

from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.delegation import DelegatedList
from purposematch.protocol.errors import IntegrityError, StateError
from purposematch.protocol.group import Bytes, Elements, Group
from purposematch.protocol.log.events import Event
from purposematch.protocol.messages import EvaluateRequest, SessionGrant
from purposematch.protocol.purpose import Origin
from purposematch.server import opening as opening_module
from purposematch.server.audit import audit
from purposematch.server.matching import Matching
from purposematch.server.pki import Role
from purposematch.server.publish import publish
from purposematch.server.registry import agreements, ledger
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.certificates import certificates

Tamper = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    return eventful_platform(tmp_path_factory.mktemp("audited"))


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


def test_the_page_names_every_field_of_every_event(audited: LivePlatform) -> None:
    page = (Path(__file__).parents[2] / "docs" / "log.md").read_text()
    told = page[page.index("## What an event says") : page.index("are reserved")]
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| `")]
    events = [Event.decode(content) for (content,) in audited.rows("SELECT content FROM log_leaf")]
    for event in events:
        words = " ".join(row[2] for row in rows if row[0] == f"| `{event.kind}`")
        assert [name for name in event.fields if f"`{name}`" not in words] == []
    assert {row[0].strip("| `") for row in rows} >= {event.kind for event in events}


def test_a_correction_of_all_there_is_passes(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path)
    platform.enroll([assertion("s1", "email", "user1@example.com", notice_id="n1")])
    platform.publish()
    platform.operate("correct", "--notice", "n1", "--origin", "two_factor", "--apply")
    assert _audit(platform).document["corrections"] == 1


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
    "removed_tag  ": "returned = 99",
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
    # These would be on no list.
    "removed_tag ": "VALUES (2, zeroblob(16), 2, NULL)",
    "removed_tag  ": "VALUES (1, zeroblob(16), 2, 2)",
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


def test_every_file_of_a_generation_is_tampered_with(copy: LivePlatform) -> None:
    folder = _file(copy, "manifest.json").parent
    assert {path.name for path in folder.iterdir()} == {*FILES, "checksum"}


@pytest.mark.parametrize("name", [*FILES, "checksum", "segment", "points", "log.checkpoint"])
def test_a_byte_of_a_file_that_is_another_too_many_or_lost_is_named(copy: LivePlatform, name: str) -> None:
    path = _file(copy, name)
    content = path.read_bytes()
    flipped = [_flipped(content, place) for place in (0.0, 0.5, 0.99)]
    for changed in (*flipped, content + b"\0", content[:-1], b"", bytes(len(content))):
        path.write_bytes(changed)
        done = _audit(copy)
        assert done.code == 1
        assert path.name in done.stderr


@pytest.mark.parametrize("name", [*FILES, "checksum", "segment", "points", "log.checkpoint"])
def test_a_file_that_is_gone_is_named(copy: LivePlatform, name: str) -> None:
    path = _file(copy, name)
    path.unlink()
    done = _audit(copy)
    assert done.code == 1
    assert path.name in done.stderr


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
        opened = matching.opening.open(peer, agreement.digest, LISTED)
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
        opened = matching.opening.open(peer, agreement.digest, LISTED)
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
        monkeypatch.setattr(opening_module, "owner_of", lambda *_arguments: ("acme", LISTED))
        peer = admitted_peer(platform, "agency", Role.PARTNER)
        matching.opening.open(peer, agreement.digest, LISTED, DelegatedList(digest, "spring"))
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
