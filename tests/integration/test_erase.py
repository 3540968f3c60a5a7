"""`erase`: what is gone from the disk, what remains, who can match afterwards, and what the audit says."""

import contextlib
import re
import shutil
import sqlite3
import time
from hashlib import sha256
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from nacl.signing import VerifyKey
from platforms import (
    PLATFORM_ID,
    Done,
    LivePlatform,
    Row,
    admitted_peer,
    assertion,
    grants,
    operator,
    read_csv,
    write_csv,
)

from purposematch.protocol.errors import IntegrityError, UnavailableError
from purposematch.protocol.evidence import (
    BatchEvidence,
    CollectedAssertion,
    CollectorKey,
    sign_assertion,
    sign_batch,
)
from purposematch.protocol.evidence_bytes import batch_bytes
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.log.proofs import verify_inclusion
from purposematch.protocol.purpose import DEFAULT_PURPOSE, Origin, Status
from purposematch.server import erase as erasing
from purposematch.server.audit import audit
from purposematch.server.erase import erase
from purposematch.server.lookup import identifier_keys
from purposematch.server.matching import Matching
from purposematch.server.registry import connection as connection_module
from purposematch.server.registry import log
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.chunks import COLUMNS
from purposematch.server.registry.erasures import suppressing
from purposematch.server.registry.members import load_members

ENROLLED = 1_050
ADA = "ada-who-wants-to-be-forgotten"
NOTICE = "a-notice-of-adas-own"
SHARED = "family@example.com"
DOTTED = "Ada.Lovelace+x@gmail.com"
SCREENS = CollectorKey(b"\1" * 32)
PUBLISHED_SECONDS = 60
"""How long the server may take to publish by itself, on a busy machine."""
EVIDENT = (ADA, "batched0", "batched1")


def _evident() -> list[CollectedAssertion]:
    return [
        CollectedAssertion(
            issuer="screens",
            source="default",
            subject=subject,
            kind=Kind.EMAIL,
            digest=sha256(b"evident%d@example.com" % number).digest(),
            purposes=(DEFAULT_PURPOSE,),
            origin=Origin.SIGNUP,
            status=Status.GRANTED,
            notice="",
            collected_at=1_764_028_800_000_000 + number,
        )
        for number, subject in enumerate(EVIDENT)
    ]


def _batch(platform: LivePlatform) -> BatchEvidence:
    said = _evident()
    batch, parts = sign_batch(SCREENS, PLATFORM_ID, Profile.PLAIN, said)
    path = platform.folder / "evidence.json"
    path.write_bytes(batch.to_bytes())
    rows = [
        assertion(each.subject, "email", f"evident{number}@example.com")
        | {"issuer": "", "collected_at": each.cells(part)["collected_at"], "evidence_salt": part.salt.hex()}
        for number, (each, part) in enumerate(zip(said, parts, strict=True))
    ]
    assert platform.enroll(rows, "--evidence", str(path))["enrolled"] == 3
    return batch


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    """A platform on which somebody called Ada was enrolled in every way that there is, and matched."""
    folder = tmp_path_factory.mktemp("before")
    platform = LivePlatform.create(folder)
    issuer = ("--purpose", DEFAULT_PURPOSE, "--origin", "signup")
    platform.operate("issuer", "add", "screens", "--key", SCREENS.public_key.hex(), *issuer)
    platform.enroll(grants(ENROLLED))
    _batch(platform)
    (signed,) = _evident()[:1]
    own = sign_assertion(SCREENS, PLATFORM_ID, Profile.PLAIN, signed)
    platform.enroll([assertion(ADA, "email", "evident0@example.com") | signed.cells(own)])
    platform.enroll(
        [
            assertion(ADA, "email", DOTTED, notice_id=NOTICE),
            assertion(ADA, "email", SHARED, notice_id=NOTICE, expires_at="2099-01-01T00:00:00Z"),
            assertion("bob", "email", SHARED),
            assertion(ADA, "phone", "+15551234567", "two_factor"),
            assertion("", "email", "old-ada@example.com", status="withdrawn"),
        ]
    )
    # Decisions that no assertion shows: another's refusal touches Ada, and hers is of every use.
    platform.enroll([assertion("", "phone", "+15551234567", status="objected")])
    platform.enroll([assertion(ADA, "email", "old-ada@example.com"), assertion("s7", "email", SHARED)])
    platform.enroll([assertion("s8", "email", "user8@example.com", status="withdrawn")])
    platform.enroll([assertion(ADA, "", "", value_format="", status="withdrawn", purposes="analytics")])
    platform.publish()
    platform.admit("acme")
    with platform.serving():
        done = _match(platform, "out.csv")
        assert done.code == 0, done.stderr
    assert ADA in platform.audience(done.document["session"])
    assert _matched(platform, "out.csv") >= {SHARED, DOTTED, "evident0@example.com"}
    return platform


LISTED = [
    *(f"user{number}@example.com" for number in range(1_000)),
    *(SHARED, DOTTED, "evident0@example.com", "evident1@example.com"),
]


def _match(platform: LivePlatform, name: str) -> Done:
    listed = write_csv(platform.folder / "customers.csv", [{"email": value} for value in LISTED])
    return platform.match(listed, platform.folder / name, platform.folder / "credentials-acme")


def _matched(platform: LivePlatform, name: str) -> set[str]:
    return {row["email"] for row in read_csv(platform.folder / name) if row["matched"] == "true"}


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of a platform have two histories: an advertiser that met both would say so."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def copy(before: LivePlatform, tmp_path: Path) -> LivePlatform:
    shutil.copytree(before.folder, tmp_path, dirs_exist_ok=True)
    return LivePlatform(tmp_path)


@pytest.fixture(scope="session")
def after(before: LivePlatform, tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    """The same, when Ada was erased."""
    folder = tmp_path_factory.mktemp("after")
    shutil.copytree(before.folder, folder, dirs_exist_ok=True)
    platform = LivePlatform(folder)
    platform.operate("erase", "--subject-id", ADA, "--apply")
    return platform


@pytest.fixture
def forgotten(after: LivePlatform, tmp_path: Path) -> LivePlatform:
    shutil.copytree(after.folder, tmp_path, dirs_exist_ok=True)
    return LivePlatform(tmp_path)


def _audit(platform: LivePlatform) -> Done:
    return operator("audit", "--data-dir", platform.data_dir, "--json")


def _content(platform: LivePlatform) -> dict[str, list[tuple[object, ...]]]:
    with contextlib.closing(sqlite3.connect(platform.data_dir / "registry.sqlite")) as database:
        tables = [n for (n,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: database.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}


def _questions_since(platform: LivePlatform, stored: dict[str, list[tuple[object, ...]]]) -> int:
    """How many questions were logged since, if that is all that happened."""
    now = _content(platform)
    new = now.pop("log_leaf")[len(stored["log_leaf"]) :]
    now.pop("log_tile")
    assert now == {name: rows for name, rows in stored.items() if name in now}
    assert {row[1] for row in new} <= {"operator_query"}
    return len(new)


def _keys(platform: LivePlatform, value: str) -> list[bytes]:
    with platform.opened() as opened:
        return identifier_keys(opened.registry, value, None, None)


def test_a_dry_run_says_what_would_happen_and_changes_nothing(copy: LivePlatform) -> None:
    stored = _content(copy)
    told = copy.operate("erase", "--subject-id", ADA)
    # The question itself is logged, and nothing else is there that was not.
    assert _questions_since(copy, stored) == 1
    done = copy.operate("erase", "--subject-id", ADA, "--apply")
    assert (told["applied"], told["erasure"], told["log_leaf"], told["overwritten"]) == (
        *(False, None, None),
        None,
    )
    assert (done["applied"], done["erasure"], done["overwritten"]) == (True, 1, True)
    own = ("applied", "erasure", "erased_at", "log_leaf", "overwritten")
    assert [told[name] for name in told if name not in own] == [
        done[name] for name in done if name not in own
    ]
    # Her five identifiers and two more spellings of one; the pairs are those of bob and s7, too.
    assert (done["subjects"], done["assertions"], done["decisions"], done["evidence"]) == (1, 7, 1, 2)
    assert done["pairs"] == 5
    counts = {each["what"]: each["count"] for each in done["remains"]}
    assert counts["suppression list"] == 7
    assert counts["memberships of audiences"] == 3
    assert counts["refusals by identifier alone"] == 2
    assert all(each["why"] for each in done["remains"])
    shown = operator("erase", "--data-dir", copy.data_dir, "--identifier", "user5@example.com").stdout
    assert "Nothing was changed; --apply erases, for good" in shown
    assert "suppression list" in shown


def test_what_was_erased_is_nowhere_on_the_disk(before: LivePlatform, after: LivePlatform) -> None:
    """The bytes of every file below the data directory, free pages and write-ahead log included."""
    planted = [ADA.encode(), NOTICE.encode(), sha256(ADA.encode()).digest()[:8]]
    ids = [id_ for (id_,) in after.rows("SELECT assertion FROM erased_assertion")]
    for id_ in ids:
        for table, column, width in (("assertion_salt", "salts", 16), ("digest_chunk", "sealed", 0)):
            question = f"SELECT first, {column} FROM {table} WHERE first <= ? AND first + count > ?"
            ((first, content),) = before.rows(question, id_, id_)
            start = (id_ - first) * width
            # Sealed bytes tell nothing of single digests: the whole chunk must be another one.
            planted.append(content[start : start + width] if width else content[:32])
    for row in before.rows(f"SELECT salt, signature FROM evidence WHERE assertion IN ({ids[0]}, {ids[1]})"):
        planted += [value for value in row if value is not None]
    planted += [salt for (salt,) in before.rows("SELECT salt FROM decision WHERE subject = ?", ADA)]
    assert len(planted) == 3 + 2 * 7 + 3 + 1
    there, gone = (
        [path.read_bytes() for path in platform.data_dir.rglob("*") if path.is_file()]
        for platform in (before, after)
    )
    for word in planted:
        assert any(word in content for content in there)
        assert not any(word in content for content in gone)


def test_the_audit_accepts_exactly_what_the_log_says(forgotten: LivePlatform) -> None:
    found = _audit(forgotten).document
    assert (found["erasures"], found["erased_assertions"], found["erased_decisions"]) == (1, 7, 1)
    # The generation that was made before is asked about again, except for what was suppressed since.
    assert (found["gates"], found["generations_on_disk"]) == (1, 1)
    forgotten.publish()
    assert _audit(forgotten).document["gates"] == 1
    with forgotten.opened() as platform, platform.registry.reading() as connection:
        (position,) = (each.erasure.leaf for each in suppressing(connection))
        (leaf,) = log.leaves(connection, position, position + 1)
        event = leaf.event()
        size, root = log.size(connection), log.root(connection)
        verify_inclusion(leaf.hash, position, size, log.inclusion_proof(connection, position, size), root)
    erased = [id_ for (id_,) in forgotten.rows("SELECT assertion FROM erased_assertion ORDER BY assertion")]
    listed = [first + n for first, count in event.fields["erased_assertions"] for n in range(count)]
    assert (event.kind, listed) == ("erasure", erased)


def test_no_session_opens_and_no_commit_admits_until_it_is_published(copy: LivePlatform) -> None:
    with copy.opened() as platform:
        peer = admitted_peer(platform, "acme")
        matching = Matching(platform, lambda: bytes(32))
        with platform.registry.reading() as connection:
            digest = agreement_in_force(connection, "acme", platform.clock()).digest
        matching.opening.open(peer, digest, 1_000)
        erase(platform, ADA, [], apply=True)
        with pytest.raises(UnavailableError, match="a withdrawal is not published yet"):
            matching.opening.open(peer, digest, 1_000)
        # The open session keeps its generation in use, and the audit still reads it.
        assert audit(platform).erasures == 1


def test_who_was_erased_matches_no_more(forgotten: LivePlatform) -> None:
    with forgotten.serving():
        done = _match(forgotten, "again.csv")
        assert done.code == 0, done.stderr
    lost = _matched(forgotten, "out.csv") - _matched(forgotten, "again.csv")
    assert lost == {SHARED, DOTTED, "evident0@example.com"}
    assert _matched(forgotten, "again.csv") < _matched(forgotten, "out.csv")
    # The audience of before leads to everybody but her.
    ((old, number),) = forgotten.rows(
        "SELECT session, number FROM audience_change WHERE session <> ?", done.document["session"]
    )
    with forgotten.opened() as platform, platform.registry.reading() as connection:
        assert len(load_members(connection, number)) == 1_005
    assert ADA not in forgotten.audience(old)
    assert len(forgotten.audience(old)) == 1_001
    assert _audit(forgotten).code == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (assertion("ada-again", "email", SHARED), "OBJECTED"),
        (assertion(ADA, "email", DOTTED), "OBJECTED"),
        (assertion("carol", "email", "adalovelace@gmail.com"), "OBJECTED"),
        (assertion(ADA, "phone", "+1 555 123 4567"), "OBJECTED"),
        (
            assertion(ADA, "email", SHARED, status="renewed", not_before="2026-01-01T00:00:00Z"),
            "OBJECTED",
        ),
        (
            assertion("z", "email", sha256(SHARED.encode()).hexdigest(), value_format="sha256"),
            "OBJECTED",
        ),
    ],
)
def test_who_was_erased_does_not_come_back(forgotten: LivePlatform, row: dict[str, str], reason: str) -> None:
    report = forgotten.enroll([row])
    assert (report["enrolled"], report["refused"]) == (0, {reason: 1})
    before = forgotten.publish()["count"]
    assert _audit(forgotten).document["indexed"] == before


def test_the_answers_say_what_remains_and_why(forgotten: LivePlatform) -> None:
    nobody = forgotten.operate("subject", "--subject-id", ADA)
    assert nobody == {"subjects": [], "suppressed": []}
    found = forgotten.operate("subject", "--identifier", DOTTED)
    assert found["subjects"] == []
    assert {each["identifier"] for each in found["suppressed"]} == {
        keyed.hex() for keyed in _keys(forgotten, DOTTED)
    }
    assert {(each["erasure"], each["log_leaf"]) for each in found["suppressed"]} == set(
        forgotten.rows("SELECT id, leaf FROM erasure")
    )
    assert "is kept as an objection" in found["suppressed"][0]["why"]
    shown = operator("subject", "--data-dir", forgotten.data_dir, "--identifier", DOTTED).stdout
    assert "Erased, and refused since" in shown
    (bob,) = [
        each
        for each in forgotten.operate("subject", "--identifier", SHARED)["subjects"]
        if each["subject_id"] == "bob"
    ]
    assert bob["decisions"][-1]["reason"] == "OBJECTED"
    assert ADA not in str(bob)
    counted = forgotten.operate("impact")
    assert (counted["erased_assertions"], counted["erased_memberships"]) == (7, 3)
    assert counted["subjects_in_audiences"] == 1_001
    assert counted["assertions"] == forgotten.rows("SELECT SUM(assertions) FROM delivery")[0][0]


def test_erasing_twice_and_erasing_nothing(forgotten: LivePlatform) -> None:
    stored = _content(forgotten)
    again = forgotten.operate("erase", "--identifier", DOTTED, "--apply")
    assert (again["erasure"], again["assertions"], again["overwritten"]) == (None, 0, True)
    assert again["remains"][0]["count"] == len(_keys(forgotten, DOTTED))
    for arguments in (("--subject-id", ADA), ("--identifier", "nobody@example.com")):
        for apply in ((), ("--apply",)):
            done = operator("erase", "--data-dir", forgotten.data_dir, *arguments, *apply)
            assert (done.code, done.stdout) == (1, "")
            assert "nothing is stored of it" in done.stderr
            assert arguments[1] not in done.stderr
    assert _questions_since(forgotten, stored) == 2
    # What came after the erasure, and was refused, is erased without another entry in the list.
    forgotten.enroll([assertion("ada-again", "email", SHARED)])
    later = forgotten.operate("erase", "--subject-id", "ada-again", "--apply")
    assert (later["erasure"], later["assertions"], later["pairs"]) == (2, 1, 0)
    assert later["remains"][0]["identifiers"] == []
    assert _audit(forgotten).document["erased_assertions"] == 8
    forgotten.publish()
    assert _audit(forgotten).document["erasures"] == 2


def test_erasing_by_identifier_takes_everybody_who_had_it(copy: LivePlatform) -> None:
    done = copy.operate("erase", "--identifier", SHARED, "--apply")
    assert (done["subjects"], done["assertions"], done["pairs"]) == (3, 3, 3)
    assert copy.operate("subject", "--subject-id", "bob")["subjects"] == []
    (ada,) = copy.operate("subject", "--subject-id", ADA)["subjects"]
    assert len(ada["assertions"]) == 6 + 2
    (s7,) = copy.operate("subject", "--subject-id", "s7")["subjects"]
    assert [each["subject_id"] for each in s7["assertions"]] == ["s7"]
    # Whoever spelled it otherwise had it, too; a refusal that named nobody is no exception.
    assert copy.operate("erase", "--identifier", "adalovelace@gmail.com", "--apply")["assertions"] == 1
    assert copy.operate("erase", "--identifier", "+15551234567", "--apply")["assertions"] == 2
    assert _audit(copy).document["erasures"] == 3
    copy.publish()
    assert _audit(copy).document["erased_assertions"] == 6


def test_erasing_an_identifier_reaches_digests_of_its_other_spellings(tmp_path: Path) -> None:
    """Of a digest one spelling is known: it is the same identifier as a raw value with that spelling."""
    platform = LivePlatform.create(tmp_path)
    dotted = "ada.lovelace@gmail.com"
    digest = sha256(dotted.encode()).hexdigest()
    platform.enroll(
        [
            assertion("ann", "email", dotted),
            assertion("ann", "email", digest, value_format="sha256"),
            assertion("ben", "email", digest, value_format="sha256"),
        ]
    )
    assert platform.operate("erase", "--identifier", "adalovelace@gmail.com", "--apply")["assertions"] == 3
    assert platform.publish()["count"] == 0
    assert _audit(platform).code == 0


def test_erasing_a_number_without_its_country_reaches_nobody_else(tmp_path: Path) -> None:
    """`google-v1` would read it as the number of somebody in Brazil, who did not ask for anything."""
    platform = LivePlatform.create(tmp_path)
    platform.enroll([assertion("bia", "phone", "+5551234567"), assertion("sam", "phone", "555 123 4567")])
    assert platform.publish()["count"] == 1
    done = operator("erase", "--data-dir", platform.data_dir, "--identifier", "555 123 4567", "--apply")
    assert (done.code, "--region" in done.stderr) == (1, True)
    assert platform.operate("subject", "--subject-id", "sam")["subjects"] != []
    erased = platform.operate("erase", "--subject-id", "sam", "--apply")
    assert (erased["assertions"], erased["pairs"], erased["remains"][0]["count"]) == (1, 0, 0)
    assert platform.publish()["count"] == 1
    assert _audit(platform).code == 0


def test_a_signature_over_a_batch_still_holds_without_the_one_who_was_erased(forgotten: LivePlatform) -> None:
    ((first, leaf),) = forgotten.rows("SELECT assertion, leaf FROM evidence WHERE leaf IS NOT NULL")
    rest = forgotten.rows("SELECT assertion, salt FROM evidence WHERE signature IS NULL AND leaf IS NULL")
    assert [id_ - first for id_, _ in rest] == [1, 2]
    ((root, signature),) = forgotten.rows("SELECT root, signature FROM evidence_batch")
    said = _evident()
    leaves = [leaf, *(_leaf(each, salt) for each, (_, salt) in zip(said[1:], rest, strict=True))]
    below = sha256(b"\1" + leaves[0] + leaves[1]).digest()
    assert sha256(b"\1" + below + leaves[2]).digest() == root
    VerifyKey(SCREENS.public_key).verify(batch_bytes(PLATFORM_ID, "screens", 3, root), signature)


def _leaf(said: CollectedAssertion, salt: bytes) -> bytes:
    """The leaf of an assertion's evidence, byte for byte as docs/gate.md has it."""

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(2, "big") + value.encode()

    message = (
        text("purposematch evidence v1")
        + text(PLATFORM_ID)
        + (text(said.issuer) + text(said.source) + text(said.subject))
        + bytes([1])
        + text("plain-v1")
        + said.digest
        + (1).to_bytes(2, "big")
        + (text(DEFAULT_PURPOSE) + text("signup") + text("granted") + text(""))
        + said.collected_at.to_bytes(8, "big")
        + salt
    )
    return sha256(b"\0" + message).digest()


def test_a_failure_on_the_way_leaves_everything_as_it_was(
    copy: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = _content(copy)
    for step in ("erase_assertions", "erase_decisions", "deliver", "_memberships"):
        with copy.opened() as platform, monkeypatch.context() as patched:
            real = getattr(erasing, step)

            def failing(*arguments: object, real=real) -> None:
                real(*arguments)
                raise RuntimeError("pulled the plug")

            patched.setattr(erasing, step, failing)
            with pytest.raises(RuntimeError, match="plug"):
                erase(platform, ADA, [], apply=True)
        assert _content(copy) == stored
    assert _audit(copy).code == 0


def test_an_erasure_of_damaged_rows_is_refused(copy: LivePlatform) -> None:
    _change(copy, "UPDATE assertion_salt SET salts = zeroblob(LENGTH(salts)) WHERE count = 5")
    with copy.opened() as platform, pytest.raises(IntegrityError, match="assertion_salt"):
        erase(platform, ADA, [], apply=True)


def test_damaged_members_stop_an_erasure_which_says_how_to_go_on(copy: LivePlatform) -> None:
    """Nobody can say whether the person is one of them."""
    _change(copy, "UPDATE member_chunk SET granting = zeroblob(8)")
    arguments = ("erase", "--subject-id", ADA, "--apply", "--data-dir", copy.data_dir)
    done = operator(*arguments)
    assert (done.code, done.stderr.count("\n")) == (1, 1)
    assert "nothing was erased" in done.stderr
    assert copy.rows("SELECT count(*) FROM erased_assertion") == [(0,)]
    (command,) = re.findall("`(audience expire [^`]*)`", done.stderr)
    assert command == "audience expire default --advertiser acme"
    assert operator(*command.split(), "--data-dir", copy.data_dir).code == 0
    assert operator(*arguments).code == 0
    assert copy.operate("subject", "--subject-id", ADA)["subjects"] == []


def _change(platform: LivePlatform, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(platform.data_dir / "registry.sqlite")) as database, database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0


TAMPERED = {
    "erasure": "UPDATE erasure SET erased_at = erased_at + 1",
    "erasure ": "UPDATE erasure SET objections = 1",
    "erasure  ": "UPDATE erasure SET leaf = 3",
    "erasure   ": "DELETE FROM erasure",
    "erasure    ": "INSERT INTO erasure SELECT 2, erased_at, objections, leaf FROM erasure",
    "erased_assertion": "UPDATE erased_assertion SET commitment = zeroblob(32) WHERE assertion = 1054",
    "erased_assertion ": "DELETE FROM erased_assertion WHERE assertion = 1054",
    "erased_assertion  ": "INSERT INTO erased_assertion VALUES (9, 1, zeroblob(32))",
    "erased_assertion   ": "UPDATE erased_assertion SET erasure = 2 WHERE assertion = 1054",
    "erased_assertion    ": "UPDATE erased_assertion SET assertion = 1057 WHERE assertion = 1054",
    "erased_decision": "UPDATE erased_decision SET commitment = zeroblob(32)",
    "erased_decision ": "DELETE FROM erased_decision",
    "erased_decision  ": "INSERT INTO erased_decision VALUES (2, 1, zeroblob(32))",
    "erased_decision   ": "UPDATE erased_decision SET erasure = 2",
    "decision": "UPDATE decision SET subject = 'somebody' WHERE subject IS NULL",
    "decision ": "UPDATE decision SET granting = 5 WHERE subject IS NULL",
    "decision  ": "UPDATE decision SET salt = zeroblob(16) WHERE subject IS NULL",
    "decision   ": "UPDATE decision SET reason = 9 WHERE subject IS NULL",
    "decision    ": "UPDATE decision SET subject = NULL, identifier = NULL, granting = NULL, salt = NULL "
    "WHERE id = 2",
    "decision     ": "DELETE FROM decision WHERE subject IS NULL",
    "evidence": "INSERT INTO evidence VALUES (1054, 0, NULL, NULL, zeroblob(32))",
    "evidence ": "INSERT INTO evidence VALUES (1055, 1, zeroblob(16), NULL, NULL)",
    "evidence  ": "UPDATE evidence SET leaf = zeroblob(32) WHERE leaf IS NOT NULL",
    "evidence   ": "DELETE FROM evidence WHERE leaf IS NOT NULL",
    "evidence    ": "UPDATE evidence SET salt = NULL, leaf = zeroblob(32), collected_at = 0 "
    "WHERE assertion = 1052",
    "evidence     ": "UPDATE evidence SET collected_at = 7 WHERE leaf IS NOT NULL",
    "mention": "INSERT INTO mention VALUES (77, 1054)",
    "delivery": "UPDATE delivery SET source = 'another' WHERE source = 'erasure'",
    "terms": "UPDATE terms SET status = 1 WHERE source = 'erasure'",
    "log_leaf": "UPDATE log_leaf SET salt = NULL, content = NULL WHERE kind = 'erasure'",
    "log_leaf ": "UPDATE log_leaf SET content = CAST(REPLACE(content, '1054', '1050') AS BLOB) "
    "WHERE kind = 'erasure'",
    "log_leaf  ": "UPDATE log_leaf SET kind = 'correction' WHERE kind = 'erasure'",
}


@pytest.mark.parametrize("table", TAMPERED)
def test_what_was_changed_around_an_erasure_is_named(forgotten: LivePlatform, table: str) -> None:
    _change(forgotten, TAMPERED[table])
    done = _audit(forgotten)
    assert done.code == 1
    assert table.strip() in done.stderr


def _rewritten(platform: LivePlatform, id_: int, change: dict[str, object]) -> None:
    """Writes something into the row of an assertion, behind the platform's back."""
    question = "SELECT first, content FROM assertion_chunk WHERE first <= ? AND first + count > ?"
    ((first, content),) = platform.rows(question, id_, id_)
    rows = pa.ipc.read_record_batch(pa.py_buffer(content), COLUMNS).to_pylist()
    rows[id_ - first] |= change
    content = pa.RecordBatch.from_pylist(rows, COLUMNS).serialize().to_pybytes()
    with contextlib.closing(sqlite3.connect(platform.data_dir / "registry.sqlite")) as database, database:
        database.execute("UPDATE assertion_chunk SET content = ? WHERE first = ?", (content, first))


@pytest.mark.parametrize(
    "change",
    [
        *({"subject": "somebody"}, {"identifier": bytes(16)}, {"others": [bytes(16)]}, {"kind": 3}),
        *({"notice": "n"}, {"not_before": 0}, {"expires_at": 0}, {"flaw": 2}, {"evidence": 2}),
        *({"reason": 12}, {"terms": 1}),
    ],
)
@pytest.mark.parametrize("id_", [1_054, 1_053])
def test_a_row_that_was_written_over_is_named(
    forgotten: LivePlatform, id_: int, change: dict[str, object]
) -> None:
    """An erased one, of which nothing is left that its commitment could be compared with, and another."""
    _rewritten(forgotten, id_, change)
    done = _audit(forgotten)
    assert done.code == 1
    assert "assertion_chunk" in done.stderr


def test_an_assertion_that_was_blanked_without_an_erasure_is_named(forgotten: LivePlatform) -> None:
    blank = {"subject": None, "identifier": None, "others": [], "kind": 0, "reason": 1}
    _rewritten(forgotten, 1_053, blank)
    _change(forgotten, "DELETE FROM mention WHERE assertion = 1053")
    assert "assertion_chunk" in _audit(forgotten).stderr
    ((first, salts),) = forgotten.rows("SELECT first, salts FROM assertion_salt WHERE count = 3")
    changed = salts[: (1_053 - first) * 16] + bytes(16) + salts[(1_054 - first) * 16 :]
    with contextlib.closing(sqlite3.connect(forgotten.data_dir / "registry.sqlite")) as database, database:
        database.execute("UPDATE assertion_salt SET salts = ? WHERE first = ?", (changed, first))
    assert "assertion 1053 is erased, and not in table erased_assertion" in _audit(forgotten).stderr


def test_a_salt_that_came_back_is_named(before: LivePlatform, forgotten: LivePlatform) -> None:
    for first, salts in before.rows("SELECT first, salts FROM assertion_salt"):
        with (
            contextlib.closing(sqlite3.connect(forgotten.data_dir / "registry.sqlite")) as database,
            database,
        ):
            database.execute("UPDATE assertion_salt SET salts = ? WHERE first = ?", (salts, first))
    assert "its salt is in table assertion_salt" in _audit(forgotten).stderr


def test_a_server_that_runs_publishes_without_who_was_erased(copy: LivePlatform) -> None:
    with copy.serving():
        assert copy.operate("erase", "--subject-id", ADA, "--apply")["overwritten"] is True
        deadline = time.monotonic() + PUBLISHED_SECONDS
        while copy.rows("SELECT COUNT(*) FROM generation") == [(1,)]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        done = _match(copy, "again.csv")
        assert done.code == 0, done.stderr
    assert _matched(copy, "again.csv").isdisjoint({SHARED, DOTTED, "evident0@example.com"})
    assert _audit(copy).document["erasures"] == 1


def test_who_reads_an_older_snapshot_does_not_prevent_an_erasure(
    copy: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the old pages stay in the write-ahead log until the next one."""
    monkeypatch.setattr(connection_module, "_WAIT_SECONDS", 0.2)
    with contextlib.closing(sqlite3.connect(copy.data_dir / "registry.sqlite")) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT COUNT(*) FROM decision").fetchone() == (1,)
        done = operator("erase", "--data-dir", copy.data_dir, "--subject-id", ADA, "--apply", "--json")
        assert (done.document["erasure"], done.document["overwritten"]) == (1, False)
        assert _on_disk(copy, ADA.encode())
    assert _audit(copy).code == 0
    assert copy.operate("erase", "--identifier", SHARED, "--apply")["overwritten"] is True
    assert not _on_disk(copy, ADA.encode())


def _on_disk(platform: LivePlatform, word: bytes) -> bool:
    return any(word in path.read_bytes() for path in platform.data_dir.rglob("*") if path.is_file())


@pytest.mark.parametrize("seed", range(2))
def test_a_random_life_with_erasures(tmp_path: Path, seed: int) -> None:
    """After every step the audit passes; whom an erasure did not concern is told the same as before."""
    platform = LivePlatform.create(tmp_path)
    random = Random(seed)
    people = [f"person-{number}" for number in range(12)]
    addresses = [f"{name}@gmail.com" for name in ("a.b", "ab", "a.b+c", "cd", "c.d", "ef", "gh", "ij", "kl")]
    statuses = ("granted", "granted", "granted", "withdrawn", "renewed", "objected")
    suppressed: set[bytes] = set()
    erasures = 0
    for _ in range(14):
        match random.choice(["enroll", "enroll", "publish", "erase", "erase", "correct"]):
            case "enroll":
                rows = [_statement(random, people, addresses, statuses) for _ in range(random.randint(1, 6))]
                platform.enroll(rows)
            case "publish":
                platform.publish()
            case "correct":
                labels = ("--notice", random.choice("xy"), "--origin", "two_factor", "--apply")
                platform.operate("correct", *labels)
            case "erase":
                by_person = random.random() < 0.5
                name = random.choice(people if by_person else addresses)
                option = "--subject-id" if by_person else "--identifier"
                told = {each: _told(platform, each) for each in people}
                done = operator("erase", "--data-dir", platform.data_dir, option, name, "--apply", "--json")
                if done.code == 1:
                    assert "nothing is stored of it" in done.stderr
                    continue
                erasures += done.document["erasure"] is not None
                new = done.document["remains"][0]["identifiers"]
                suppressed.update(map(bytes.fromhex, new))
                for each, before in told.items():
                    if each == name or before is None or _concerned(before, new):
                        continue
                    assert _told(platform, each) == before
        found = _audit(platform)
        assert found.code == 0, found.stderr
        assert found.document["erasures"] == erasures
    count = platform.publish()["count"]
    with platform.opened() as opened:
        latest = opened.store.load(platform.rows("SELECT id FROM generation ORDER BY number DESC")[0][0])
        assert not suppressed & {bytes(row) for row in latest.table.identifiers}
    assert _audit(platform).document["indexed"] == count


def _statement(random: Random, people: list[str], addresses: list[str], statuses: tuple[str, ...]) -> Row:
    status = random.choice(statuses)
    subject = random.choice(["", *people] if status in ("withdrawn", "objected") else people)
    value = random.choice(addresses)
    row = assertion(subject, "email", value, status=status, notice_id=random.choice("xyz"))
    return row if status != "renewed" else row | {"not_before": "2026-01-01T00:00:00Z"}


def _told(platform: LivePlatform, subject: str) -> dict[str, object] | None:
    subjects = platform.operate("subject", "--subject-id", subject)["subjects"]
    return subjects[0] if subjects else None


def _concerned(about: dict[str, object], new: list[str]) -> bool:
    """Whether an identifier of a subject is suppressed."""
    named = {each["identifier"] for each in about["assertions"]}  # type: ignore[attr-defined]
    return not named.isdisjoint(new)


@pytest.mark.parametrize(
    "arguments",
    [(), ("--subject-id", "a", "--identifier", "b"), ("--subject-id", "a", "--kind", "email")],
)
def test_wrong_usage(copy: LivePlatform, arguments: tuple[str, ...]) -> None:
    assert operator("erase", "--data-dir", copy.data_dir, *arguments).code == 2
