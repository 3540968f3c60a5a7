"""Evidence on its way through a file: every row is judged, and refusals act whatever it is."""

import base64
import csv
import io
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from sqlalchemy import select

from purposematch.protocol.errors import InputError
from purposematch.protocol.evidence import (
    AssertionEvidence,
    BatchEvidence,
    CollectedAssertion,
    CollectorKey,
    sign_assertion,
    sign_batch,
)
from purposematch.protocol.evidence_bytes import EvidenceColumns, batch_bytes, evidence_bytes
from purposematch.protocol.evidence_checks import verify_signatures
from purposematch.protocol.gate import decide
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.policy import DEFAULT_POLICY_TOML, Policy
from purposematch.protocol.purpose import DEFAULT_PURPOSE, Evidence, Origin, Reason, Status
from purposematch.server.enroll import EnrollReport, enroll
from purposematch.server.keys import RootKey, derive_keys
from purposematch.server.registry import assertions_for_gate, load_digests, open_registry
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.schema import evidence as evidence_table
from purposematch.server.registry.schema import evidence_batch, terms
from purposematch.server.statements import COLUMNS, OPTIONAL_COLUMNS
from purposematch.server.taxonomy import load_taxonomy
from purposematch.tables import open_table

KEYS = derive_keys(RootKey(b"r" * 32))
TAXONOMY = load_taxonomy()
SCREENS, LOGIN = CollectorKey(b"\1" * 32), CollectorKey(b"\2" * 32)
START = 1_764_028_800_000_000
DAY = 86_400_000_000
ISSUERS: dict[str, dict[str, Any]] = {
    "screens": {
        "key": SCREENS.public_key.hex(),
        "permitted_purposes": [DEFAULT_PURPOSE],
        "permitted_origins": ["signup", "profile"],
    },
    "login": {
        "key": base64.b64encode(LOGIN.public_key).decode(),
        "permitted_purposes": ["essential.service.security"],
        "permitted_origins": ["two_factor", "signup"],
    },
}


def policy_of(asked: bool = True, **issuers: dict[str, Any]) -> Policy:
    mapping = tomllib.loads(DEFAULT_POLICY_TOML) | {"require_evidence": asked, "issuers": ISSUERS | issuers}
    return Policy.from_mapping(mapping, TAXONOMY)


def collected(number: int = 1, **changes: Any) -> CollectedAssertion:
    made = CollectedAssertion(
        issuer="screens",
        source="default",
        subject=f"s{number}",
        kind=Kind.EMAIL,
        digest=sha256(b"p%d@example.com" % number).digest(),
        purposes=(DEFAULT_PURPOSE,),
        origin=Origin.SIGNUP,
        status=Status.GRANTED,
        notice="ads-7",
        collected_at=START - number,
    )
    return replace(made, **changes)


def row_of(collected: CollectedAssertion, number: int = 1, **changes: str) -> dict[str, str]:
    """The row of an assertion, without evidence."""
    return {
        "subject_id": collected.subject,
        "kind": collected.kind.label,
        "value": f" P{number}@Example.com ",
        "value_format": "raw",
        "purposes": ";".join(collected.purposes),
        "origin": collected.origin.label,
        "status": collected.status.label,
        "notice_id": collected.notice,
        "issuer": collected.issuer,
        "collected_at": collected.cells(AssertionEvidence(b""))["collected_at"],
    } | changes


def signed_row(number: int = 1, key: CollectorKey = SCREENS, **changes: Any) -> dict[str, str]:
    """A row with a signature of its own."""
    assertion = collected(number, **changes)
    evidence = sign_assertion(key, "birdsite", Profile.PLAIN, assertion)
    return row_of(assertion, number) | assertion.cells(evidence)


def batch_of(count: int = 3, **changes: Any) -> tuple[BatchEvidence, list[dict[str, str]]]:
    assertions = [collected(number, **changes) for number in range(1, count + 1)]
    batch, evidence = sign_batch(SCREENS, "birdsite", Profile.PLAIN, assertions)
    rows = [
        row_of(assertion, number) | {"issuer": "", "evidence_salt": each.salt.hex()}
        for number, (assertion, each) in enumerate(zip(assertions, evidence, strict=True), 1)
    ]
    return batch, rows


class Platform:
    def __init__(self, folder: Path, policy: Policy) -> None:
        self.folder = folder
        self.policy = policy
        self.now = START
        self.registry = open_registry(folder / "r.sqlite", KEYS.identifier, KEYS.sealing, Profile.PLAIN)

    def enroll(self, *rows: dict[str, str], **options: Any) -> EnrollReport:
        text = io.StringIO()
        writer = csv.DictWriter(text, (*COLUMNS, *OPTIONAL_COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file = self.folder / "file.csv"
        file.write_text(text.getvalue())
        self.now += DAY
        options = {"platform_id": "birdsite"} | options
        with open_table(file) as table:
            return enroll(table, self.registry, self.policy, TAXONOMY, lambda: self.now, **options)

    def decided(self) -> list[str]:
        """What the gate says now of every stored row."""
        with self.registry.reading() as connection:
            given_ = assertions_for_gate(connection)
        return [Reason(code).name for code in decide(given_.assertions, self.policy, TAXONOMY, self.now).rows]

    def assertions(self) -> pa.RecordBatch:
        with self.registry.reading() as connection:
            return load_chunks(connection)[1]

    def rows(self, table: Any) -> list[Any]:
        with self.registry.reading() as connection:
            return list(connection.execute(select(table)))


@pytest.fixture
def platform(tmp_path):
    made = Platform(tmp_path, policy_of())
    yield made
    made.registry.close()


BASE64 = {
    name: base64.b64encode(bytes.fromhex(value)).decode()
    for name, value in signed_row().items()
    if name.startswith("evidence")
}


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("PERMITTED", {}),
        ("PERMITTED", {"subject_id": " s1 ", "notice_id": " ads-7 "}),
        ("PERMITTED", {"value": sha256(b"p1@example.com").hexdigest(), "value_format": "sha256"}),
        ("PERMITTED", {"not_before": "2025-01-01T00:00:00Z"}),
        ("EVIDENCE_MISSING", {"evidence_salt": "", "evidence_signature": ""}),
        ("EVIDENCE_MISSING", {"evidence_salt": "", "evidence_signature": "", "issuer": ""}),
        ("EVIDENCE_INVALID", {"evidence_salt": ""}),
        ("EVIDENCE_INVALID", {"evidence_signature": ""}),
        ("EVIDENCE_INVALID", {"issuer": ""}),
        ("EVIDENCE_INVALID", {"issuer": "login"}),
        ("EVIDENCE_INVALID", {"collected_at": ""}),
        ("EVIDENCE_INVALID", {"collected_at": "yesterday"}),
        ("EVIDENCE_INVALID", {"collected_at": "2025-11-25T00:00:00"}),
        ("EVIDENCE_INVALID", {"evidence_salt": "00" * 16}),
        ("EVIDENCE_INVALID", {"evidence_salt": "zz" * 16}),
        ("EVIDENCE_INVALID", {"evidence_salt": "é" * 16}),
        ("EVIDENCE_INVALID", {"evidence_salt": "=" * 24}),
        ("EVIDENCE_INVALID", {"evidence_signature": "00" * 64}),
        ("EVIDENCE_INVALID", {"evidence_signature": "AA"}),
        ("EVIDENCE_INVALID", {"evidence_signature": "?" * 88}),
        ("EVIDENCE_INVALID", {"subject_id": "s2"}),
        ("EVIDENCE_INVALID", {"value": "p2@example.com"}),
        ("EVIDENCE_INVALID", {"origin": "profile"}),
        ("EVIDENCE_INVALID", {"status": "renewed"}),
        ("EVIDENCE_INVALID", {"notice_id": "ads-8"}),
        ("EVIDENCE_INVALID", {"notice_id": "n" * 70_000}),
        ("ISSUER_NOT_AUTHORIZED", {"issuer": "+15550100123"}),
        ("ORIGIN_NOT_PERMITTED", {"origin": "two_factor"}),
        ("PURPOSE_NOT_PERMITTED", {"purposes": "marketing.advertising"}),
        ("INVALID_IDENTIFIER", {"value": "p1"}),
        ("MALFORMED_ROW", {"subject_id": ""}),
    ],
)
@pytest.mark.parametrize("asked", [True, False])
def test_evidence_is_judged_whatever_its_columns_hold(platform, asked, reason, changes):
    platform.policy = policy_of(asked)
    none_at_all = {"issuer": "", "evidence_salt": "", "evidence_signature": ""}
    if not asked and none_at_all.items() <= changes.items():
        reason = "PERMITTED"
    report = platform.enroll(signed_row() | changes)
    assert {each.name: count for each, count in report.refused.items()} == (
        {} if reason == "PERMITTED" else {reason: 1}
    )
    assert platform.decided() == [reason]


def test_base64_and_hexadecimal_in_one_file_are_read_alike(platform):
    rows = [signed_row(1), signed_row(2), signed_row(3)]
    for name in ("evidence_salt", "evidence_signature"):
        rows[1][name] = base64.b64encode(bytes.fromhex(rows[1][name])).decode()
        rows[2][name] = rows[2][name].upper()
    assert platform.enroll(*rows).enrolled == 3


def test_what_can_not_be_read_is_not_taken_for_zeros(platform):
    assertion = collected()
    evidence = sign_assertion(SCREENS, "birdsite", Profile.PLAIN, assertion, bytes)
    row = row_of(assertion) | assertion.cells(evidence)
    assert platform.enroll(row).enrolled == 1
    for cells in ({"evidence_salt": "zz" * 16}, {"evidence_salt": ""}, {"evidence_signature": "AA"}):
        assert platform.enroll(row | cells).refused == {Reason.EVIDENCE_INVALID: 1}
    assert [each.assertion for each in platform.rows(evidence_table)] == [1]


def test_a_digest_under_another_profile_is_not_signed_by_a_signature_over_none(platform):
    assertion = collected(digest=bytes(32))
    evidence = sign_assertion(SCREENS, "birdsite", Profile.PLAIN, assertion)
    row = row_of(assertion) | assertion.cells(evidence)
    row |= {"value": sha256(b"p").hexdigest(), "value_format": "sha256", "hash_profile": "uid2-v1"}
    assert platform.enroll(row).refused == {Reason.PROFILE_MISMATCH: 1}
    assert platform.assertions()["evidence"].to_pylist() == [Evidence.INVALID]


def test_a_file_without_evidence_columns_enrolls_as_before(platform, tmp_path):
    file = tmp_path / "plain.csv"
    cells = row_of(collected()) | {"not_before": "", "expires_at": ""}
    file.write_text(",".join(COLUMNS) + "\n" + ",".join(cells[name] for name in COLUMNS) + "\n")
    for asked, enrolled in ((True, 0), (False, 1)):
        with open_table(file) as table:
            report = enroll(
                table, platform.registry, policy_of(asked), TAXONOMY, lambda: START, platform_id="birdsite"
            )
        assert report.enrolled == enrolled


def test_evidence_for_another_platform_or_source_is_none_here(platform):
    assert platform.enroll(signed_row(), platform_id="other").refused == {Reason.EVIDENCE_INVALID: 1}
    platform.policy = replace(
        platform.policy, sources={"default": frozenset(Origin), "crm": frozenset(Origin)}
    )
    assert platform.enroll(signed_row(), source="crm").refused == {Reason.EVIDENCE_INVALID: 1}


def test_a_source_that_can_not_be_one_is_told_so_before_anything_is_read(platform):
    for source in ("", "a b", "crm\n", "s" * 256, "s" * 70_000):
        with pytest.raises(InputError, match="a source name must be"):
            platform.enroll(signed_row(), source=source)
    assert platform.rows(evidence_table) == []


def test_a_security_services_signature_opens_nothing_for_advertising(platform):
    # Signed as it should not have been: the signature holds, the authority is missing.
    assert platform.enroll(signed_row(key=LOGIN, issuer="login")).refused == {Reason.ISSUER_NOT_AUTHORIZED: 1}
    assert platform.assertions()["evidence"].to_pylist() == [Evidence.VALID]


def test_the_purposes_and_origin_of_every_row_of_a_batch_are_checked_against_the_issuer(platform):
    batch, rows = batch_of(3)
    assert platform.enroll(*rows, evidence=batch).enrolled == 3
    batch, rows = batch_of(2, origin=Origin.PURCHASE)
    assert platform.enroll(*rows, evidence=batch).refused == {Reason.ISSUER_NOT_AUTHORIZED: 2}


@pytest.mark.parametrize("change", ["cell", "order", "missing", "twice", "unknown issuer", "root", "key"])
def test_a_batch_that_was_altered_holds_for_no_row(platform, change):
    batch, rows = batch_of(3)
    reason = Reason.EVIDENCE_INVALID
    match change:
        case "cell":
            rows[1]["notice_id"] = "ads-8"
        case "order":
            rows.reverse()
        case "missing":
            del rows[1]
        case "twice":
            rows.append(rows[0])
        case "unknown issuer":
            batch, reason = replace(batch, issuer="nobody"), Reason.ISSUER_NOT_AUTHORIZED
        case "root":
            batch = replace(batch, root=bytes(32))
        case "key":
            batch = replace(batch, issuer="login")
    assert platform.enroll(*rows, evidence=batch).refused == {reason: len(rows)}


def test_nobody_signs_a_batch_of_rows_that_name_another_issuer(platform):
    """The key of `login`, which may sign nothing for advertising, over rows that say `screens`."""
    batch, rows = batch_of(3)
    rows = [row | {"issuer": "screens"} for row in rows]
    assert platform.enroll(*rows, evidence=batch).enrolled == 3
    message = batch_bytes("birdsite", "login", 3, batch.root)
    stolen = BatchEvidence("login", batch.root, SigningKey(b"\2" * 32).sign(message).signature)
    assert platform.enroll(*rows, evidence=stolen).refused == {Reason.EVIDENCE_INVALID: 3}
    # Without the name they are rows of `login`, whose bytes are others.
    rows = [row | {"issuer": ""} for row in rows]
    assert platform.enroll(*rows, evidence=stolen).refused == {Reason.EVIDENCE_INVALID: 3}


def test_a_row_that_can_not_be_signed_is_in_no_batch(platform):
    batch, rows = batch_of(3)
    other = batch_of(4)[1][3] | {"notice_id": "n" * 70_000}
    report = platform.enroll(rows[0], other, *rows[1:], evidence=batch)
    assert (report.enrolled, report.refused) == (3, {Reason.EVIDENCE_INVALID: 1})


def test_rows_with_a_signature_of_their_own_and_rows_without_any_may_stand_in_a_batchs_file(platform):
    batch, rows = batch_of(3)
    withdrawal = row_of(collected(9, status=Status.WITHDRAWN), kind="", value="", issuer="")
    none = row_of(collected(8), 8, issuer="")
    report = platform.enroll(signed_row(5), rows[0], withdrawal, rows[1], none, rows[2], evidence=batch)
    assert report.enrolled == 4
    assert report.refused == {Reason.WITHDRAWN: 1, Reason.EVIDENCE_MISSING: 1}


def test_a_batch_larger_than_a_read_holds(platform):
    batch, rows = batch_of(9_000)
    assert platform.enroll(*rows, evidence=batch).enrolled == 9_000
    rows[8_999]["origin"] = "profile"
    assert platform.enroll(*rows, evidence=batch).refused == {Reason.EVIDENCE_INVALID: 9_000}


@pytest.mark.parametrize("status", [Status.REFUSED, Status.WITHDRAWN, Status.OBJECTED])
def test_a_refusal_acts_with_evidence_of_any_kind(platform, status):
    bad = signed_row(status=status) | {"evidence_signature": "00" * 64}
    foreign = signed_row(2, status=status) | {"issuer": "nobody", "evidence_salt": "?"}
    platform.enroll(signed_row(), signed_row(2), bad, foreign)
    assert platform.decided() == [status.name] * 4


def test_an_old_signature_does_not_renew_what_was_withdrawn_since(platform):
    renewal = signed_row(status=Status.RENEWED)
    platform.enroll(signed_row(), row_of(collected(status=Status.WITHDRAWN), issuer=""))
    later = datetime.fromtimestamp(platform.now / 10**6 + 60, UTC).isoformat()
    platform.enroll(renewal | {"not_before": later})
    assert platform.decided() == ["WITHDRAWN"] * 3
    fresh = signed_row(status=Status.RENEWED, collected_at=platform.now + 120_000_000)
    later = datetime.fromtimestamp(platform.now / 10**6 + 60, UTC).isoformat()
    platform.enroll(fresh | {"not_before": later})
    assert platform.decided() == ["PERMITTED", "WITHDRAWN", "EVIDENCE_INVALID", "PERMITTED"]


def test_the_expiry_of_a_key_stops_new_evidence_only(platform):
    expiring = ISSUERS["screens"] | {"expires_at": datetime.fromtimestamp((START + 2 * DAY) / 10**6, UTC)}
    platform.policy = policy_of(screens=expiring)
    batch, rows = batch_of(1)
    assert platform.enroll(*rows, evidence=batch).enrolled == 1
    assert platform.enroll(signed_row(2)).refused == {Reason.ISSUER_NOT_AUTHORIZED: 1}
    batch, rows = batch_of(1)
    assert platform.enroll(*rows, evidence=batch).refused == {Reason.ISSUER_NOT_AUTHORIZED: 1}
    # What is no evidence at all has not expired either.
    none, bad = signed_row(2), signed_row(3)
    none["evidence_salt"] = none["evidence_signature"] = ""
    bad["evidence_signature"] = "00" * 64
    assert platform.enroll(none).refused == {Reason.EVIDENCE_MISSING: 1}
    assert platform.enroll(bad).refused == {Reason.EVIDENCE_INVALID: 1}
    platform.policy = policy_of()
    # Receipt decides: a key that is extended does not bring back what came in between.
    came_in_between = ["ISSUER_NOT_AUTHORIZED"] * 2 + ["EVIDENCE_MISSING", "EVIDENCE_INVALID"]
    assert platform.decided() == ["PERMITTED", *came_in_between]


def test_a_revocation_stops_what_was_received_since_the_key_was_compromised(platform):
    platform.enroll(signed_row(1))
    platform.enroll(signed_row(2))
    since = datetime.fromtimestamp(platform.now / 10**6, UTC)
    platform.policy = policy_of(
        screens=ISSUERS["screens"] | {"compromised_since": since, "revoked_at": since}
    )
    assert platform.decided() == ["PERMITTED", "ISSUER_NOT_AUTHORIZED"]
    assert platform.enroll(signed_row(3)).refused == {Reason.ISSUER_NOT_AUTHORIZED: 1}


def test_a_name_that_is_no_issuer_is_not_stored(platform):
    platform.enroll(signed_row() | {"issuer": "ann@example.com"}, signed_row(2))
    assert sorted(each.issuer for each in platform.rows(terms)) == ["?", "screens"]
    assert b"ann@example.com" not in (platform.folder / "r.sqlite").read_bytes()


def test_stored_evidence_can_be_checked_again(platform):
    rows = [signed_row(number) for number in (1, 2, 3)]
    platform.enroll(rows[0], rows[1], row_of(collected(7), 7), rows[2])
    stored = platform.rows(evidence_table)
    assert [each.assertion for each in stored] == [1, 2, 4]
    with platform.registry.reading() as connection:
        ids = np.array([each.assertion for each in stored], np.int64)
        digests = load_digests(connection, platform.registry.sealing_key, ids)
    assertions = platform.assertions().take(pa.array(ids - 1))
    messages = evidence_bytes(
        "birdsite",
        Profile.PLAIN,
        EvidenceColumns(
            subject=assertions["subject"],
            kind=assertions["kind"].to_numpy(),
            digests=digests,
            terms=np.zeros(len(stored), np.int64),
            terms_table=[collected().terms],
            notice=assertions["notice"].fill_null(""),
            collected_at=np.array([each.collected_at for each in stored], np.int64),
            salts=np.frombuffer(b"".join(each.salt for each in stored), np.uint8).reshape(-1, 16),
        ),
    )
    signatures = np.frombuffer(b"".join(each.signature for each in stored), np.uint8).reshape(-1, 64)
    key_of = np.zeros(len(stored), np.int64)
    assert verify_signatures([SCREENS.public_key], key_of, messages, signatures).all()


def test_a_batchs_signature_is_stored_once(platform):
    batch, rows = batch_of(3)
    platform.enroll(*rows, evidence=batch)
    assert [each.signature for each in platform.rows(evidence_table)] == [None] * 3
    (stored,) = platform.rows(evidence_batch)
    assert (stored.delivery, stored.issuer, stored.root, stored.signature) == (
        1,
        "screens",
        batch.root,
        batch.signature,
    )


JUNK = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=130) | st.sampled_from(
    [
        "",
        "screens",
        "00" * 16,
        "00" * 64,
        "=" * 24,
        "A" * 88,
        "2025-11-25T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(JUNK, JUNK, JUNK, JUNK), min_size=1, max_size=3), st.booleans())
def test_whatever_the_evidence_columns_hold_nothing_breaks_and_nothing_is_permitted(
    tmp_path_factory, cells, with_batch
):
    platform = Platform(tmp_path_factory.mktemp("p"), policy_of())
    names = ("issuer", "collected_at", "evidence_salt", "evidence_signature")
    rows = [row_of(collected()) | dict(zip(names, each, strict=True)) for each in cells]
    try:
        report = platform.enroll(*rows, evidence=batch_of(1)[0] if with_batch else None)
        assert (report.read, report.enrolled) == (len(rows), 0)
    finally:
        platform.registry.close()
