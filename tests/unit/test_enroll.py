"""Enrollment: every row is accounted for, refusals never fail open, a file is stored whole or not at all."""

import csv
import hmac
import io
import random
import tomllib
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from purposematch.protocol.errors import InputError, TableError
from purposematch.protocol.gate import decide
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.policy import DEFAULT_POLICY_TOML, Policy
from purposematch.protocol.purpose import Reason
from purposematch.protocol.secret import reveal
from purposematch.server import enroll as enrolling
from purposematch.server import statements
from purposematch.server.enroll import EnrollReport, enroll
from purposematch.server.keys import RootKey, derive_keys
from purposematch.server.registry import (
    Registry,
    assertions_for_gate,
    deliveries,
    keyed_digests,
    open_registry,
    watermarks,
)
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.schema import decision, delivery, metadata
from purposematch.server.taxonomy import load_taxonomy
from purposematch.tables import open_table

KEYS = derive_keys(RootKey(b"r" * 32))
TAXONOMY = load_taxonomy()
TARGETED = "marketing.advertising.third_party.targeted"
COLUMNS = [
    "subject_id",
    "kind",
    "value",
    "value_format",
    "purposes",
    "origin",
    "status",
    "notice_id",
    "not_before",
    "expires_at",
    "hash_profile",
]
START = 1_750_000_000_000_000
DAY = 86_400_000_000
TIMES = {"not_before": "", "expires_at": ""}


def policy_of(**changes: object) -> Policy:
    return Policy.from_mapping(tomllib.loads(DEFAULT_POLICY_TOML) | changes, TAXONOMY)


def row(**changes: str) -> dict[str, str]:
    return {
        "subject_id": "s1",
        "kind": "email",
        "value": "ann@example.com",
        "value_format": "raw",
        "purposes": TARGETED,
        "origin": "signup",
        "status": "granted",
        "notice_id": "n1",
        **TIMES,
        "hash_profile": "",
    } | changes


def csv_text(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class Platform:
    """A registry in a folder, a clock that moves one day a delivery."""

    def __init__(self, folder: Path, profile: Profile = Profile.PLAIN, policy: Policy | None = None) -> None:
        self.folder = folder
        self.profile = profile
        self.policy = policy or policy_of()
        self.now = START
        self.registry: Registry = open_registry(self.path, KEYS.identifier, KEYS.sealing, profile)

    @property
    def path(self) -> Path:
        return self.folder / "registry.sqlite"

    def enroll(self, rows: list[dict[str, str]], **options: str) -> EnrollReport:
        file = self.folder / "file.csv"
        file.write_text(csv_text(rows))
        return self.enroll_file(file, **options)

    def enroll_file(self, file: Path, **options: str) -> EnrollReport:
        self.now += DAY
        with open_table(file) as table:
            return enroll(
                table,
                self.registry,
                self.policy,
                TAXONOMY,
                lambda: self.now,
                platform_id="birdsite",
                **options,
            )

    def decided(self) -> dict[tuple[str, bytes], Reason]:
        """What the gate says now of everything stored."""
        with self.registry.reading() as connection:
            given_ = assertions_for_gate(connection)
        found = decide(given_.assertions, self.policy, TAXONOMY, self.now)
        subjects, identifiers = given_.subjects.to_pylist(), given_.identifiers.to_pylist()
        return {
            (subjects[s], identifiers[i]): Reason(reason)
            for s, i, reason in zip(
                found.subjects.tolist(), found.identifiers.tolist(), found.reasons.tolist(), strict=True
            )
        }

    def in_force(self) -> dict[tuple[str, bytes], Reason]:
        """What the registry shows, by the definition in the schema, written out slowly."""
        shown: dict[tuple[str, bytes], tuple[int, int]] = {}
        with self.registry.reading() as connection:
            ids, stated = load_chunks(connection)
            for id_, each in zip(ids.tolist(), stated.to_pylist(), strict=True):
                if each["subject"] is not None and each["identifier"] is not None:
                    shown[each["subject"], each["identifier"]] = (id_, each["reason"])
            for each in connection.execute(select(decision).order_by(decision.c.id)):
                pair = each.subject, each.identifier
                if shown[pair][0] <= each.assertions:
                    shown[pair] = (shown[pair][0], each.reason)
        return {pair: Reason(reason) for pair, (_, reason) in shown.items()}

    def reason_of(
        self, subject: str = "s1", value: str = "ann@example.com", kind: Kind = Kind.EMAIL
    ) -> Reason:
        digest = np.frombuffer(sha256(value.encode()).digest(), np.uint8).reshape(1, 32)
        keyed = keyed_digests(KEYS.identifier, np.array([kind], np.uint8), digest)[0].tobytes()
        assert self.in_force() == self.decided()
        return self.in_force()[subject, keyed]

    def content(self) -> dict[str, list[tuple[object, ...]]]:
        with self.registry.reading() as connection:
            return {
                table.name: [tuple(each) for each in connection.execute(select(table))]
                for table in metadata.sorted_tables
            }


@pytest.fixture
def platform(tmp_path: Path):
    made = Platform(tmp_path)
    yield made
    made.registry.close()


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("PERMITTED", {}),
        ("PERMITTED", {"kind": "Phone", "value": "+1 555 010-0123"}),
        ("PERMITTED", {"value": sha256(b"x@y.z").hexdigest().upper(), "value_format": "sha256"}),
        ("PERMITTED", {"not_before": "2024-01-01T00:00:00+02:00", "expires_at": "2040-01-01T00:00:00Z"}),
        ("MALFORMED_ROW", {"subject_id": " "}),
        ("MALFORMED_ROW", {"kind": "fax"}),
        ("MALFORMED_ROW", {"value": "  "}),
        ("MALFORMED_ROW", {"value_format": "md5"}),
        ("MALFORMED_ROW", {"value_format": "sha256", "hash_profile": "acme-v9", "value": "0" * 63 + "1"}),
        ("MALFORMED_ROW", {"not_before": "2024-01-01T00:00:00"}),
        ("MALFORMED_ROW", {"expires_at": "next year"}),
        ("MALFORMED_ROW", {"status": "perhaps"}),
        ("MALFORMED_ROW", {"status": "", "subject_id": "", "value": ""}),
        ("INVALID_IDENTIFIER", {"value": "no address"}),
        ("INVALID_IDENTIFIER", {"kind": "phone", "value": "555 0100"}),
        ("INVALID_IDENTIFIER", {"value_format": "sha256", "value": "d41d8cd98f00b204e9800998ecf8427e"}),
        (
            "PROFILE_MISMATCH",
            {"value_format": "sha256", "hash_profile": "google-v1", "value": sha256(b"x@y.z").hexdigest()},
        ),
        ("UNKNOWN_PURPOSE", {"purposes": TARGETED + ";marketing.magic"}),
        ("UNKNOWN_PURPOSE", {"purposes": ""}),
        ("UNKNOWN_ORIGIN", {"origin": "found it"}),
        ("OBJECTED", {"status": "objected"}),
        ("WITHDRAWN", {"status": "withdrawn"}),
        ("REFUSED", {"status": "refused"}),
        ("PURPOSE_NOT_PERMITTED", {"purposes": "analytics"}),
        ("MIXED_PURPOSE", {"purposes": TARGETED + ";essential.service.security"}),
        ("ORIGIN_NOT_PERMITTED", {"origin": "two_factor"}),
        ("NOT_YET_VALID", {"not_before": "2039-01-01T00:00:00Z"}),
        ("EXPIRED", {"expires_at": "2024-01-01T00:00:00Z"}),
    ],
)
def test_a_row_gets_the_reason_of_the_first_rule_it_fails(platform, reason, changes):
    report = platform.enroll([row(**changes)])
    refused = {} if reason == "PERMITTED" else {reason: 1}
    assert report.to_mapping() == {"read": 1, "enrolled": int(not refused), "refused": refused}


def test_strict_origins_taint_what_was_also_given_for_two_factor(tmp_path):
    platform = Platform(tmp_path, policy=policy_of(strict_origins=True))
    report = platform.enroll([row(), row(origin="two_factor", purposes="essential.service.security")])
    assert report.refused == {Reason.PURPOSE_NOT_PERMITTED: 1, Reason.TAINTED: 1}
    platform.registry.close()


def test_a_consent_that_is_too_old_is_refused(tmp_path):
    platform = Platform(tmp_path, policy=policy_of(max_consent_age_days=30))
    report = platform.enroll([row(not_before="2024-01-01T00:00:00Z")])
    assert report.refused == {Reason.TOO_OLD: 1}
    platform.registry.close()


def test_a_source_that_the_policy_does_not_list_may_claim_nothing(platform):
    assert platform.enroll([row()], source="unheard-of").refused == {Reason.SOURCE_NOT_PERMITTED: 1}


def test_a_phone_without_plus_needs_its_region(platform):
    phone = row(kind="phone", value="(415) 555-0132")
    assert platform.enroll([phone]).refused == {Reason.INVALID_IDENTIFIER: 1}
    assert platform.enroll([phone], region="US").enrolled == 1
    assert platform.reason_of(value="+14155550132", kind=Kind.PHONE) is Reason.PERMITTED


def test_an_unknown_region_is_a_wrong_option_and_stores_nothing(platform):
    with pytest.raises(InputError):
        platform.enroll([row(kind="phone", value="555 0100")], region="XX")
    assert platform.content()["assertion_chunk"] == []


def test_grant_withdrawal_and_renewal_arrive_in_three_files(platform):
    platform.enroll([row(), row(subject_id="s2", value="bob@example.com")])
    assert platform.reason_of() is Reason.PERMITTED
    platform.enroll([row(status="withdrawn")])
    assert platform.reason_of() is Reason.WITHDRAWN
    assert platform.reason_of("s2", "bob@example.com") is Reason.PERMITTED
    early = row(status="renewed", not_before="2025-06-01T00:00:00Z")
    assert platform.enroll([early]).refused == {Reason.WITHDRAWN: 1}
    again = row(status="renewed", not_before="2025-06-18T20:00:00Z")
    assert platform.enroll([again]).enrolled == 1
    assert platform.reason_of() is Reason.PERMITTED
    platform.enroll([row(status="objected")])
    assert platform.enroll([row(status="renewed", not_before="2025-06-20T20:00:00Z")]).enrolled == 0
    assert platform.reason_of() is Reason.OBJECTED


@pytest.mark.parametrize("status", ["refused", "withdrawn", "objected"])
@pytest.mark.parametrize(
    "changes",
    [
        {"purposes": "no.such.key"},
        {"purposes": ""},
        {"purposes": "marketing"},
        {"origin": "no such origin"},
        {"not_before": "whenever", "expires_at": "2001-01-01T00:00:00Z"},
        {"not_before": "2039-01-01T00:00:00Z"},
        {"subject_id": ""},
        {"kind": ""},
        {"kind": "fax", "value": "0"},
        {"value": ""},
        {"value": "ann at example"},
        {"value_format": "rot13"},
        {"value_format": "sha256", "value": "ann@example.com"},
        {
            "value_format": "sha256",
            "value": sha256(b"ann@example.com").hexdigest(),
            "hash_profile": "acme-v1",
        },
    ],
    ids=str,
)
def test_a_refusal_counts_however_little_of_it_can_be_read(platform, status, changes):
    expected = Reason[status.upper()]
    platform.enroll([row()])
    platform.enroll([row(status=status) | changes])
    assert platform.reason_of() is expected
    assert platform.enroll([row()]).refused == {expected: 1}


def test_an_unreadable_status_refuses_too(platform):
    platform.enroll([row()])
    assert platform.enroll([row(status="witdrawn")]).refused == {Reason.MALFORMED_ROW: 1}
    assert platform.reason_of() is Reason.REFUSED


def test_a_refusal_by_identifier_is_for_all_subjects(platform):
    platform.enroll([row(), row(subject_id="s2")])
    platform.enroll([row(status="withdrawn", subject_id="")])
    assert platform.reason_of("s1") is platform.reason_of("s2") is Reason.WITHDRAWN


def test_a_withdrawal_by_subject_covers_all_its_identifiers_and_nobody_else(platform):
    platform.enroll([row(), row(value="ann@example.org"), row(subject_id="s2")])
    platform.enroll([row(status="withdrawn", kind="", value="")])
    assert platform.reason_of() is Reason.WITHDRAWN
    assert platform.reason_of(value="ann@example.org") is Reason.WITHDRAWN
    assert platform.reason_of("s2") is Reason.PERMITTED


@pytest.mark.parametrize("everything", [False, True])
def test_a_withdrawal_by_subject_meets_an_identifier_that_arrives_later(platform, monkeypatch, everything):
    if not everything:
        monkeypatch.setattr(watermarks, "_MANY", 0)
    platform.enroll([row(status="withdrawn", kind="", value="")])
    assert platform.enroll([row()]).refused == {Reason.WITHDRAWN: 1}
    assert platform.reason_of() is Reason.WITHDRAWN


@pytest.mark.parametrize("status", ["refused", "withdrawn", "objected"])
@pytest.mark.parametrize("changes", [{"value": "?"}, {"kind": ""}, {"value_format": "x"}], ids=str)
def test_a_refusal_of_nobody_stops_the_file_and_names_the_row(platform, status, changes):
    lost = row(status=status, subject_id="") | changes
    with pytest.raises(InputError, match=r"row 3 refuses.*nothing was stored"):
        platform.enroll([row(), row(), lost, row()])
    assert platform.content()["assertion_chunk"] == []


@pytest.mark.parametrize("first", ["grant", "refusal"])
def test_a_refusal_in_one_spelling_meets_a_grant_in_another(tmp_path, first):
    platform = Platform(tmp_path, Profile.PLAIN)
    grant = row(value="ann.lee@gmail.com")
    # No spelling is the other's: they meet only under google-v1 and uid2-v1, as annlee@gmail.com.
    refusal = row(value="annlee+news@gmail.com", status="withdrawn", subject_id="")
    for each in (grant, refusal) if first == "grant" else (refusal, grant):
        platform.enroll([each])
    assert platform.reason_of(value="ann.lee@gmail.com") is Reason.WITHDRAWN
    platform.registry.close()


def test_a_pre_hashed_refusal_under_another_profile_meets_a_raw_grant(platform):
    platform.enroll([row(value="ann.lee@gmail.com")])
    hashed = sha256(b"annlee@gmail.com").hexdigest()
    foreign = row(
        value=hashed, value_format="sha256", hash_profile="google-v1", subject_id="", status="objected"
    )
    assert platform.enroll([foreign]).refused == {Reason.OBJECTED: 1}
    assert platform.reason_of(value="ann.lee@gmail.com") is Reason.OBJECTED


def test_a_phone_hashed_without_plus_is_refused_by_its_meta_spelling(platform):
    platform.enroll([row(kind="phone", value="+15550100123")])
    hashed = sha256(b"15550100123").hexdigest()
    changes = {"value": hashed, "value_format": "sha256", "hash_profile": "meta-v1", "status": "refused"}
    platform.enroll([row(kind="phone", subject_id="") | changes])
    assert platform.reason_of(value="+15550100123", kind=Kind.PHONE) is Reason.REFUSED


@pytest.mark.parametrize(
    "value", ["jane @example.com", "Jane Doe <jane@example.com>", "jane doe@example.com", "a b"]
)
def test_a_refusal_that_the_scope_can_not_read_reaches_the_subject_or_stops_the_file(platform, value):
    # Other profiles keep inner spaces, so these have a form there; it meets no clean spelling.
    platform.enroll([row(value="jane@example.com"), row(value="other@example.com")])
    refusal = row(value=value, status="withdrawn")
    with pytest.raises(InputError, match="row 1 refuses"):
        platform.enroll([refusal | {"subject_id": ""}])
    assert platform.enroll([refusal]).refused == {Reason.WITHDRAWN: 1}
    assert platform.reason_of(value="jane@example.com") is Reason.WITHDRAWN
    assert platform.reason_of(value="other@example.com") is Reason.WITHDRAWN


def test_a_refusal_of_a_phone_without_plus_and_region_reaches_the_subject_or_stops_the_file(platform):
    platform.enroll([row(kind="phone", value="+15550100123")])
    refusal = row(kind="phone", value="1 555 0100123", status="withdrawn")
    with pytest.raises(InputError, match="row 1 refuses"):
        platform.enroll([refusal | {"subject_id": ""}])
    platform.enroll([refusal])
    assert platform.reason_of(value="+15550100123", kind=Kind.PHONE) is Reason.WITHDRAWN


def test_an_unreadable_status_with_neither_subject_nor_identifier_stops_the_file(platform):
    with pytest.raises(InputError, match="row 1 refuses"):
        platform.enroll([row(status="revoked", subject_id="", value="")])


@pytest.mark.parametrize("column", ["value", "notice_id", "purposes"])
def test_a_cell_with_a_line_break_stops_the_file(platform, tmp_path, column):
    # One quote that is never meant to open a cell would swallow the rows up to the next one.
    with pytest.raises(InputError, match="line break"):
        platform.enroll([row(), row(**{column: "n1\ns1,email,ann@example.com"})])
    assert platform.content()["delivery"] == []


def test_a_refusal_does_not_cross_from_one_kind_to_another(platform):
    hashed = sha256(b"15550100123").hexdigest()
    platform.enroll([row(kind="phone", value=hashed, value_format="sha256")])
    platform.enroll(
        [row(kind="maid", value=hashed, value_format="sha256", status="withdrawn", subject_id="")]
    )
    assert platform.reason_of(value="15550100123", kind=Kind.PHONE) is Reason.PERMITTED


def test_another_persons_two_factor_number_stays_out(platform):
    platform.enroll([row(), row(subject_id="s2", origin="two_factor", purposes="essential.service.security")])
    assert platform.reason_of("s1") is Reason.PERMITTED
    assert platform.reason_of("s2") is Reason.PURPOSE_NOT_PERMITTED


UNIVERSE = st.fixed_dictionaries(
    {
        "subject_id": st.sampled_from(["", "s1", "s2", "s3"]),
        "kind": st.sampled_from(["email"] * 6 + ["phone", "x"]),
        "value": st.sampled_from(
            [
                "a.b@gmail.com",
                "ab@gmail.com",
                "ab+1@gmail.com",
                "a.b@googlemail.com",
                "c@d.e",
                "+15550100123",
                "",
            ]
        ),
        "value_format": st.sampled_from(["raw"] * 9 + ["sha256"]),
        "purposes": st.sampled_from(
            [TARGETED] * 4 + ["marketing", "analytics", "essential.service.security", "?"]
        ),
        "origin": st.sampled_from(["signup", "profile", "two_factor", "?"]),
        "status": st.sampled_from(["granted"] * 4 + ["renewed", "withdrawn", "refused", "objected", "?"]),
        "notice_id": st.sampled_from(["", "n1"]),
        "not_before": st.sampled_from(["", "", "2025-06-01T00:00:00Z", "AN HOUR AGO"]),
        "expires_at": st.just(""),
        "hash_profile": st.sampled_from(["", "google-v1"]),
    }
)


def test_a_file_with_too_many_different_terms_is_stopped_and_told_what_to_do(platform, monkeypatch):
    monkeypatch.setattr(statements, "MAX_TERMS", 2)
    rows = [row(), row(purposes="marketing"), row()]
    assert platform.enroll(rows).read == 3
    before = platform.content()["assertion_chunk"]
    with pytest.raises(InputError, match=r"more than 2 different combinations.*nothing was stored.*in parts"):
        platform.enroll([*rows, row(purposes="marketing.advertising")])
    assert platform.content()["assertion_chunk"] == before


FILES = st.lists(st.lists(UNIVERSE, min_size=1, max_size=6), min_size=1, max_size=4)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("everything", [False, True])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(files=FILES)
def test_what_the_registry_shows_is_what_the_gate_says_of_everything(
    tmp_path_factory, monkeypatch, strict, everything, files
):
    if not everything:
        # Both ways of loading must agree; few rows would always be loaded whole.
        monkeypatch.setattr(watermarks, "_MANY", 0)
    platform = Platform(tmp_path_factory.mktemp("p"), policy=policy_of(strict_origins=strict))
    read = 0
    for rows in files:
        hour_ago = datetime.fromtimestamp((platform.now + DAY) / 1e6 - 3600, UTC).isoformat()
        rows = [each | {"not_before": each["not_before"].replace("AN HOUR AGO", hour_ago)} for each in rows]
        try:
            report = platform.enroll(rows)
        except InputError:
            continue
        read += len(rows)
        assert report.read == len(rows) == report.enrolled + sum(report.refused.values())
        assert 0 not in report.refused.values()
        assert platform.in_force() == platform.decided()
    with platform.registry.reading() as connection:
        assert len(load_chunks(connection)[0]) == read
    platform.registry.close()


def test_csv_and_parquet_enroll_alike(tmp_path):
    rows = [row(not_before="2025-01-01T00:00:00+00:00"), row(value="?"), row(subject_id="7", kind="phone")]
    reports = []
    for name in ("csv", "parquet"):
        (tmp_path / name).mkdir()
        platform = Platform(tmp_path / name)
        if name == "csv":
            reports.append(platform.enroll(rows))
        else:
            table = pa.Table.from_pylist(rows)
            moments = pa.array([each["not_before"] or None for each in rows]).cast(pa.timestamp("us", "UTC"))
            table = table.set_column(table.schema.get_field_index("not_before"), "not_before", moments)
            pq.write_table(table, tmp_path / "file.parquet")
            reports.append(platform.enroll_file(tmp_path / "file.parquet"))
        assert platform.reason_of() is Reason.PERMITTED
        platform.registry.close()
    assert reports[0] == reports[1]


def test_a_file_without_rows_enrolls_nothing(platform):
    assert platform.enroll([]).to_mapping() == {"read": 0, "enrolled": 0, "refused": {}}


def test_a_missing_column_is_refused_and_hash_profile_may_be_missing(platform, tmp_path):
    lines = csv_text([row()]).splitlines()
    without = tmp_path / "without.csv"
    without.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert platform.enroll_file(without).enrolled == 1
    short = tmp_path / "short.csv"
    short.write_text("\n".join(line.partition(",")[2] for line in lines) + "\n")
    with pytest.raises(TableError, match="subject_id"):
        platform.enroll_file(short)


def test_a_file_cut_in_the_middle_stores_nothing(platform, tmp_path):
    rows = [row(subject_id=f"s{number}", value=f"u{number}@example.com") for number in range(2000)]
    text = csv_text(rows)
    before = platform.content()
    cut = tmp_path / "cut.csv"
    cut.write_text(text[: len(text) // 2 - 20])
    with pytest.raises(TableError):
        platform.enroll_file(cut)
    assert platform.content() == before


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (deliveries, "store_chunks"),
        (deliveries, "store_digests"),
        (enrolling, "store_mentions"),
        (enrolling, "decide"),
        (enrolling, "record_decisions"),
    ],
)
def test_a_failure_in_the_middle_leaves_the_registry_as_it_was(platform, monkeypatch, module, step):
    platform.enroll([row()])
    before = platform.content()
    real = getattr(module, step)
    calls = []

    def failing(*arguments: object) -> None:
        calls.append(step)
        real(*arguments)
        raise RuntimeError("pulled the plug")

    monkeypatch.setattr(module, step, failing)
    with pytest.raises(RuntimeError):
        platform.enroll([row(status="withdrawn"), row(subject_id="s2", value="a.b@gmail.com")])
    assert calls
    assert platform.content() == before
    monkeypatch.undo()
    platform.enroll([row(status="withdrawn")])
    assert platform.reason_of() is Reason.WITHDRAWN


def test_everything_is_there_after_a_restart(platform):
    platform.enroll([row(), row(subject_id="s2", value="a.b@gmail.com")])
    before = platform.content()
    platform.registry.close()
    again = Platform(platform.folder)
    again.now = platform.now
    assert again.content() == before
    again.enroll([row(status="withdrawn", value="ab@gmail.com", subject_id="")])
    assert again.reason_of("s2", "a.b@gmail.com") is Reason.WITHDRAWN
    again.registry.close()


def test_a_delivery_names_its_file_source_and_report(platform):
    platform.enroll([row(), row(value="?")])
    platform.enroll([row()])
    with platform.registry.reading() as connection:
        first, second = connection.execute(select(delivery).order_by(delivery.c.id)).all()
    assert (first.first_assertion, first.assertions, second.first_assertion) == (1, 2, 3)
    whole = sha256(csv_text([row(), row(value="?")]).encode()).digest()
    key = reveal(platform.registry.identifier_key)
    assert first.file_digest == hmac.digest(key, b"purposematch file v1" + whole, "sha256")
    assert first.source == "default"
    assert first.report == '{"read": 2, "enrolled": 1, "refused": {"INVALID_IDENTIFIER": 1}}'


def test_nothing_identifying_is_in_the_database_files(platform):
    generator = random.Random(7)
    emails = [f"planted.{generator.randrange(10**9)}@gmail.com" for _ in range(40)]
    phones = [f"+1555{generator.randrange(10**7):07}" for _ in range(40)]
    rows = [row(subject_id=f"s{n}", value=value) for n, value in enumerate(emails)]
    rows += [row(subject_id=f"s{n}", kind="phone", value=value) for n, value in enumerate(phones)]
    # Values that slipped into other columns, or are refused, are not kept either.
    rows.append(row(purposes=emails[0], origin=emails[1], status="refused", value="invalid " + emails[2]))
    rows.append(row(value=sha256(phones[0].encode()).hexdigest(), value_format="sha256", kind="phone"))
    platform.enroll(rows)
    planted: list[bytes] = []
    for value in (*emails, *phones):
        for form in {value, value.replace("planted.", "planted"), value.lstrip("+")}:
            digest = sha256(form.encode())
            planted += [form.encode(), digest.digest(), digest.hexdigest().encode()]
    files = sorted(platform.folder.glob("registry.sqlite*"))
    assert len(files) >= 2
    stored = b"".join(file.read_bytes() for file in files)
    assert b"s39" in stored
    assert not [found for found in planted if found in stored]
    platform.registry.close()
    stored = platform.path.read_bytes()
    assert not [found for found in planted if found in stored]


def test_progress_reports_every_byte_of_the_file(platform, tmp_path):
    file = tmp_path / "file.csv"
    file.write_text(csv_text([row()] * 100))
    consumed: list[int] = []
    with open_table(file) as table:
        enroll(
            table,
            platform.registry,
            platform.policy,
            TAXONOMY,
            lambda: START,
            platform_id="birdsite",
            progress=consumed.append,
        )
    assert sum(consumed) == file.stat().st_size


def test_the_row_number_of_a_lost_refusal_counts_across_batches(platform, tmp_path):
    lost = row(status="withdrawn", subject_id="", value="")
    with pytest.raises(InputError, match="row 70001 "):
        platform.enroll([row()] * 70_000 + [lost])
    assert platform.content()["delivery"] == []


@pytest.mark.parametrize(
    ("purposes", "origin", "reason"),
    [
        ("analytics", "signup", Reason.PERMITTED),
        ("marketing", "signup", Reason.WITHDRAWN),
        ("", "signup", Reason.WITHDRAWN),
        ("analytics", "", Reason.WITHDRAWN),
        ("analytics;no.such.key", "signup", Reason.WITHDRAWN),
    ],
)
def test_a_refusal_of_the_whole_subject_is_of_the_purposes_that_it_names(platform, purposes, origin, reason):
    platform.enroll([row()])
    whole = {"kind": "", "value": "", "value_format": ""}
    platform.enroll([row(status="withdrawn", purposes=purposes, origin=origin, **whole)])
    assert platform.reason_of() is reason
    # Half of an identifier may have been a whole one, and then more may have been said.
    platform.enroll([row(status="withdrawn", purposes="analytics", kind="email", value="")])
    assert platform.reason_of() is Reason.WITHDRAWN
