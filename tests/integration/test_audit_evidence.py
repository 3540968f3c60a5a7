"""Evidence is verified again: what counted without holding is named, though rows and log agree about it."""

import contextlib
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platforms import PLATFORM_ID, LivePlatform, Row, assertion, grants

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.evidence import CollectedAssertion, CollectorKey, sign_assertion, sign_batch
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.purpose import DEFAULT_PURPOSE, Evidence, Origin, Status
from purposematch.server import evidence_columns
from purposematch.server.audit import audit
from purposematch.server.audit_assertions import audit_policies
from purposematch.server.audit_evidence import audit_evidence
from purposematch.server.platform import Platform

SCREENS, SOMEBODY = CollectorKey(b"\1" * 32), CollectorKey(b"\2" * 32)


def _said(number: int) -> CollectedAssertion:
    return CollectedAssertion(
        issuer="screens",
        source="default",
        subject=f"signed{number}",
        kind=Kind.EMAIL,
        digest=sha256(b"signed%d@example.com" % number).digest(),
        purposes=(DEFAULT_PURPOSE,),
        origin=Origin.SIGNUP,
        status=Status.GRANTED,
        notice="n1",
        collected_at=1_764_028_800_000_000,
    )


def _row(number: int) -> Row:
    return assertion(f"signed{number}", "email", f"signed{number}@example.com", notice_id="n1")


def _signed(number: int, key: CollectorKey = SCREENS) -> Row:
    return _row(number) | _said(number).cells(sign_assertion(key, PLATFORM_ID, Profile.PLAIN, _said(number)))


def _in_batch(platform: LivePlatform, numbers: range, key: CollectorKey = SCREENS) -> list[Row]:
    batch, parts = sign_batch(key, PLATFORM_ID, Profile.PLAIN, [_said(number) for number in numbers])
    (platform.folder / "evidence.json").write_bytes(batch.to_bytes())
    return [
        _row(number)
        | {"collected_at": _said(number).cells(part)["collected_at"], "evidence_salt": part.salt.hex()}
        for number, part in zip(numbers, parts, strict=True)
    ]


@pytest.fixture
def village(tmp_path: Path) -> Iterator[LivePlatform]:
    """Assertions 1 to 3 have no evidence, 4 to 6 a signature each, 7 to 9 share one."""
    platform = LivePlatform.create(tmp_path / "village")
    issuer = ("--purpose", DEFAULT_PURPOSE, "--origin", "signup")
    platform.operate("issuer", "add", "screens", "--key", SCREENS.public_key.hex(), *issuer)
    platform.enroll(grants(3))
    assert platform.enroll([_signed(number) for number in range(3)])["enrolled"] == 3
    file = ("--evidence", str(platform.folder / "evidence.json"))
    assert platform.enroll(_in_batch(platform, range(3, 6)), *file)["enrolled"] == 3
    return platform


def _check(platform: Platform) -> int:
    """This part of the audit alone; the parts before it would find what the log says otherwise."""
    with platform.registry.reading() as connection:
        return audit_evidence(platform, connection, audit_policies(connection))


CHANGED = {
    "signature = (SELECT signature FROM evidence WHERE assertion = 6) WHERE assertion = 5": "evidence row 5",
    "signature = zeroblob(64) WHERE assertion > 3": "evidence row 4",
    "salt = zeroblob(16) WHERE assertion = 6": "evidence row 6",
    "collected_at = collected_at + 1 WHERE assertion = 4": "evidence row 4",
    "signature = NULL WHERE assertion = 4": "evidence_batch lacks row 2",
    "salt = NULL WHERE assertion = 8": "evidence_batch row 3",
    "collected_at = collected_at + 1 WHERE assertion = 9": "evidence_batch row 3",
    "signature = zeroblob(64) WHERE assertion = 7": "evidence row 7",
}


def _change(platform: LivePlatform, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(platform.data_dir / "registry.sqlite")) as database, database:
        assert database.execute(statement).rowcount > 0


@pytest.mark.parametrize("change", CHANGED)
def test_evidence_that_does_not_hold_is_named(village: LivePlatform, change: str) -> None:
    with village.opened() as platform:
        assert _check(platform) == 6
        _change(village, f"UPDATE evidence SET {change}")
        with pytest.raises(IntegrityError, match=f"^table {CHANGED[change]}"):
            _check(platform)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("DELETE FROM evidence WHERE assertion = 5", "evidence lacks row 5"),
        ("DELETE FROM evidence WHERE assertion = 9", "evidence lacks row 9"),
        ("DELETE FROM evidence_batch", "evidence_batch lacks row 3"),
        ("UPDATE evidence_batch SET root = zeroblob(32)", "evidence_batch row 3"),
        ("UPDATE evidence_batch SET signature = zeroblob(64)", "evidence_batch row 3"),
        ("UPDATE evidence_batch SET issuer = 'nobody'", "evidence_batch row 3"),
        ("UPDATE terms SET issuer = 'nobody' WHERE issuer = 'screens'", "evidence row 4"),
        ("UPDATE terms SET origin = 3 WHERE issuer = 'screens'", "evidence row 4"),
    ],
)
def test_evidence_of_something_else_is_named(village: LivePlatform, change: str, named: str) -> None:
    with village.opened() as platform:
        _change(village, change)
        with pytest.raises(IntegrityError, match=f"^table {named}"):
            _check(platform)


def test_a_false_verdict_that_was_logged_is_found(
    village: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform whose verifier says yes to everything: rows, log and checkpoint agree, and it shows."""
    with monkeypatch.context() as dishonest:
        yes = lambda _keys, _of, messages, _signatures: np.ones(len(messages), bool)  # noqa: E731
        dishonest.setattr(evidence_columns, "verify_signatures", yes)
        assert village.enroll([_signed(7), _signed(8, SOMEBODY)])["enrolled"] == 2
    with village.opened() as platform, pytest.raises(IntegrityError, match="table evidence row 11: the sig"):
        audit(platform)


def test_a_false_verdict_about_a_batch_is_found(
    village: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dishonest:
        dishonest.setattr(evidence_columns, "verify_batch", lambda *_: None)
        file = ("--evidence", str(village.folder / "evidence.json"))
        assert village.enroll(_in_batch(village, range(6, 8), SOMEBODY), *file)["enrolled"] == 2
    with village.opened() as platform, pytest.raises(IntegrityError, match="table evidence_batch row 4"):
        audit(platform)


LOGIN = ("--purpose", "essential.service.security", "--origin", "two_factor")


def test_evidence_that_did_not_count_disturbs_nothing(village: LivePlatform) -> None:
    village.operate("issuer", "add", "login", "--key", SOMEBODY.public_key.hex(), *LOGIN)
    rows = _in_batch(village, range(6, 8))
    rows[1:1] = [_signed(8, SOMEBODY), rows[0] | {"issuer": "login"}, rows[0] | {"notice_id": "n" * 70_000}]
    report = village.enroll(rows, "--evidence", str(village.folder / "evidence.json"))
    assert report["refused"] == {"EVIDENCE_INVALID": 3}
    with village.opened() as platform:
        assert audit(platform).evidence == 8


def test_a_row_of_another_issuer_is_not_covered_by_a_batch(
    village: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform that counts a row which the signature of the batch does not cover."""
    village.operate("issuer", "add", "front", "--key", SOMEBODY.public_key.hex(), *LOGIN)
    rows = _in_batch(village, range(6, 8))
    rows.append(
        _row(8) | {"issuer": "front", "evidence_salt": "00" * 16, "collected_at": rows[0]["collected_at"]}
    )
    conclude = evidence_columns.EvidenceReader.conclude

    def everything(*arguments: Any) -> Any:
        outcome, stored = conclude(*arguments)
        return np.full_like(outcome, Evidence.VALID), stored

    with monkeypatch.context() as dishonest:
        dishonest.setattr(evidence_columns.EvidenceReader, "conclude", everything)
        village.enroll(rows, "--evidence", str(village.folder / "evidence.json"))
    with village.opened() as platform, pytest.raises(IntegrityError, match="row 12: no signature covers it"):
        audit(platform)


def test_evidence_outlives_the_key_of_its_issuer(village: LivePlatform) -> None:
    """A revocation is a newer policy; what was judged under the older one is verified with its keys."""
    village.operate("issuer", "revoke", "screens", "--compromised-since", "2019-01-01T00:00:00Z")
    village.publish()
    with village.opened() as platform:
        assert audit(platform).evidence == 6
