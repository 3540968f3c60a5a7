"""The gate, rule by rule, and against a second gate written from docs/gate.md with plain Python sets."""

import copy
import pickle  # noqa: TID251
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from fideslang.default_taxonomy import DEFAULT_TAXONOMY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from purposematch.protocol.assertions import NO_TIME, Assertions, Terms
from purposematch.protocol.errors import InputError, PolicyError
from purposematch.protocol.evidence import CollectorKey
from purposematch.protocol.gate import Decisions, Permitted, decide
from purposematch.protocol.issuers import Issuer
from purposematch.protocol.pairs import Pairs
from purposematch.protocol.policy import DEFAULT_POLICY_TOML, Policy
from purposematch.protocol.purpose import (
    DEFAULT_PURPOSE,
    FORBIDDEN_ORIGINS,
    Evidence,
    Origin,
    Reason,
    Status,
    Taxonomy,
)

KEYS = frozenset(use.fides_key for use in DEFAULT_TAXONOMY.data_use if use.version_deprecated is None)
TAXONOMY = Taxonomy.from_keys(KEYS)
POLICY = Policy.from_mapping(tomllib.loads(DEFAULT_POLICY_TOML), TAXONOMY)
STRICT = replace(POLICY, strict_origins=True)

ADS = DEFAULT_PURPOSE
SECURITY = "essential.service.security"
SECURITY_ROOTS = (SECURITY, "essential.service.authentication")
NEVER_GRANT = {"two_factor", "account_recovery", "reauthentication", "contact_import"}
REFUSING = [Status.REFUSED, Status.WITHDRAWN, Status.OBJECTED]
SCREENS, LOGIN = (CollectorKey(bytes([n]) * 32).public_key for n in (1, 2))
DAY = 24 * 3600 * 1_000_000
NOW = 1_000 * DAY


@dataclass(frozen=True)
class Row:
    """One assertion; None stands for whatever is empty or could not be read."""

    subject: int | None
    identifier: int | None
    terms: Terms
    not_before: int | None = None
    expires_at: int | None = None
    received_at: int | None = 0
    flaw: Reason | None = None
    evidence: Evidence = Evidence.NONE

    @property
    def begins(self) -> int | None:
        return self.received_at if self.not_before is None else self.not_before


def row(
    status: Status = Status.GRANTED,
    purposes: tuple[str, ...] = (ADS,),
    origin: Origin = Origin.PROFILE,
    source: str = "default",
    subject: int | None = 1,
    identifier: int | None = 10,
    not_before: int | None = None,
    expires_at: int | None = None,
    received_at: int | None = 0,
    flaw: Reason | None = None,
    issuer: str = "",
    evidence: Evidence = Evidence.NONE,
) -> Row:
    """A grant that the default policy permits, with changes."""
    terms = Terms(purposes, origin, status, source, issuer)
    return Row(subject, identifier, terms, not_before, expires_at, received_at, flaw, evidence)


def columns(rows: list[Row], meets: Iterable[tuple[int, int]] = ()) -> Assertions:
    table = list(dict.fromkeys(each.terms for each in rows))

    def codes(values: list[int | None], missing: int) -> np.ndarray:
        return np.array([missing if value is None else value for value in values], np.int64)

    return Assertions(
        subject=codes([each.subject for each in rows], -1),
        identifier=codes([each.identifier for each in rows], -1),
        terms=np.array([table.index(each.terms) for each in rows], np.int32),
        not_before=codes([each.not_before for each in rows], NO_TIME),
        expires_at=codes([each.expires_at for each in rows], NO_TIME),
        received_at=codes([each.received_at for each in rows], NO_TIME),
        flaw=np.array([each.flaw or 0 for each in rows], np.uint8),
        evidence=np.array([each.evidence for each in rows], np.uint8),
        meets=np.array(list(meets), np.int64).reshape(-1, 2),
        terms_table=table,
    )


def gate(
    rows: list[Row], policy: Policy = POLICY, meets: Iterable[tuple[int, int]] = (), now: int = NOW
) -> Decisions:
    return decide(columns(rows, meets), policy, TAXONOMY, now)


def reasons(*rows: Row, policy: Policy = POLICY, meets: Iterable[tuple[int, int]] = ()) -> list[str]:
    """The reason of each row."""
    return [Reason(code).name for code in gate(list(rows), policy, meets).rows]


def pairs(
    *rows: Row, policy: Policy = POLICY, meets: Iterable[tuple[int, int]] = ()
) -> dict[tuple[int, int], str]:
    """The reason of each (subject, identifier)."""
    decisions = gate(list(rows), policy, meets)
    return {
        (int(subject), int(identifier)): Reason(code).name
        for subject, identifier, code in zip(
            decisions.subjects, decisions.identifiers, decisions.reasons, strict=True
        )
    }


# One row by itself.


def test_a_grant_of_the_required_use_from_a_permitted_origin_is_permitted() -> None:
    decisions = gate([row()])
    assert decisions.rows.tolist() == [Reason.PERMITTED]
    assert decisions.reasons.tolist() == [Reason.PERMITTED]
    assert (decisions.subjects.tolist(), decisions.identifiers.tolist()) == ([1], [10])
    assert decisions.granting_row.tolist() == [0]
    assert decisions.policy_digest == POLICY.digest


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (row(flaw=Reason.MALFORMED_ROW), "MALFORMED_ROW"),
        (row(flaw=Reason.INVALID_IDENTIFIER), "INVALID_IDENTIFIER"),
        (row(flaw=Reason.PROFILE_MISMATCH), "PROFILE_MISMATCH"),
        (row(flaw=Reason.EXPIRED), "MALFORMED_ROW"),
        (row(subject=None), "MALFORMED_ROW"),
        (row(identifier=None), "INVALID_IDENTIFIER"),
        (row(purposes=()), "UNKNOWN_PURPOSE"),
        (row(purposes=("",)), "UNKNOWN_PURPOSE"),
        (row(purposes=(ADS, "marketing.advertising.secret")), "UNKNOWN_PURPOSE"),
        (row(purposes=(ADS.upper(),)), "UNKNOWN_PURPOSE"),
        (row(purposes=("personalize.profiling",)), "UNKNOWN_PURPOSE"),
        (row(origin=Origin.UNKNOWN), "UNKNOWN_ORIGIN"),
        (row(purposes=("marketing.advertising",)), "PURPOSE_NOT_PERMITTED"),
        (row(purposes=("marketing",)), "PURPOSE_NOT_PERMITTED"),
        (row(purposes=("collect",)), "PURPOSE_NOT_PERMITTED"),
        (row(purposes=("marketing.communications.email",)), "PURPOSE_NOT_PERMITTED"),
        (row(purposes=(SECURITY,)), "PURPOSE_NOT_PERMITTED"),
        (row(purposes=(ADS, SECURITY)), "MIXED_PURPOSE"),
        (row(purposes=("essential.service.authentication", ADS)), "MIXED_PURPOSE"),
        (row(purposes=(ADS, "essential.service")), "MIXED_PURPOSE"),
        (row(purposes=(ADS, "essential")), "MIXED_PURPOSE"),
        (row(purposes=(ADS, "essential.fraud_detection")), "PERMITTED"),
        *((row(origin=origin), "ORIGIN_NOT_PERMITTED") for origin in sorted(FORBIDDEN_ORIGINS)),
        (row(origin=Origin.DATA_BROKER), "ORIGIN_NOT_PERMITTED"),
        (row(not_before=NOW + 1), "NOT_YET_VALID"),
        (row(not_before=NOW), "PERMITTED"),
        (row(expires_at=NOW), "EXPIRED"),
        (row(expires_at=NOW + 1), "PERMITTED"),
        (row(source="crm"), "SOURCE_NOT_PERMITTED"),
        (row(status=Status.RENEWED), "PERMITTED"),
        (row(status=Status.RENEWED, purposes=(SECURITY,)), "PURPOSE_NOT_PERMITTED"),
        (row(status=Status.UNREADABLE), "MALFORMED_ROW"),
        *((row(status=status), status.name) for status in REFUSING),
        *((row(status=status, purposes=(SECURITY,)), status.name) for status in REFUSING),
        *((row(status=status, flaw=Reason.INVALID_IDENTIFIER), status.name) for status in REFUSING),
    ],
)
def test_a_row_reports_the_first_rule_that_it_fails(changed: Row, reason: str) -> None:
    assert reasons(changed) == [reason]
    if changed.subject is not None and changed.identifier is not None:
        pair = "REFUSED" if changed.terms.status is Status.UNREADABLE else reason
        assert pairs(changed) == {(1, 10): pair}


def test_a_policy_altered_behind_its_own_checks_still_opens_nothing_for_a_forbidden_origin() -> None:
    policy = replace(POLICY)
    object.__setattr__(policy, "permitted_origins", frozenset(Origin))
    assert reasons(*(row(origin=origin) for origin in sorted(FORBIDDEN_ORIGINS)), policy=policy) == [
        "ORIGIN_NOT_PERMITTED"
    ] * len(FORBIDDEN_ORIGINS)


def test_several_failures_report_the_earliest_rule() -> None:
    worst = row(purposes=(ADS, SECURITY), origin=Origin.TWO_FACTOR, source="crm", expires_at=0)
    assert reasons(worst) == ["MIXED_PURPOSE"]
    assert reasons(replace(worst, terms=replace(worst.terms, purposes=(ADS,)))) == ["ORIGIN_NOT_PERMITTED"]
    assert reasons(row(source="crm", expires_at=0)) == ["EXPIRED"]


def test_an_ancestor_grants_only_where_the_policy_names_it() -> None:
    policy = replace(POLICY, granting_purposes=("marketing.advertising",))
    assert reasons(row(purposes=("marketing.advertising",)), policy=policy) == ["PERMITTED"]
    assert reasons(row(purposes=("marketing.advertising.third_party",)), policy=policy) == [
        "PURPOSE_NOT_PERMITTED"
    ]


def test_a_child_never_grants_its_parent() -> None:
    policy = replace(
        POLICY, required_purpose="marketing.advertising", granting_purposes=("marketing.advertising",)
    )
    assert reasons(row(purposes=(ADS,)), policy=policy) == ["PURPOSE_NOT_PERMITTED"]


def test_a_consent_older_than_the_cap_is_too_old() -> None:
    policy = replace(POLICY, max_consent_age_days=10)
    oldest = NOW - 10 * DAY
    assert reasons(row(not_before=oldest), policy=policy) == ["PERMITTED"]
    assert reasons(row(not_before=oldest - 1), policy=policy) == ["TOO_OLD"]
    assert reasons(row(not_before=oldest - 1, received_at=NOW), policy=policy) == ["TOO_OLD"]
    assert reasons(row(received_at=oldest), policy=policy) == ["PERMITTED"]
    assert reasons(row(received_at=oldest - 1), policy=policy) == ["TOO_OLD"]
    assert reasons(row(received_at=None), policy=policy) == ["TOO_OLD"]


def test_a_source_may_claim_only_the_origins_listed_for_it() -> None:
    sources = {"default": frozenset[Origin](), "crm": frozenset({Origin.PURCHASE})}
    policy = replace(POLICY, sources=sources)
    claims = [row(source="crm", origin=Origin.PURCHASE), row(source="crm"), row(), row(source="")]
    assert reasons(*claims, policy=policy) == ["PERMITTED"] + ["SOURCE_NOT_PERMITTED"] * 3


# Refusals.


@pytest.mark.parametrize("status", REFUSING)
@pytest.mark.parametrize(
    "refusal",
    [
        row(),
        row(purposes=("marketing.advertising",)),
        row(purposes=("marketing",)),
        row(purposes=(SECURITY, ADS)),
        row(purposes=()),
        row(purposes=("",)),
        row(purposes=("all",)),
        row(purposes=(SECURITY, "all")),
        row(purposes=(SECURITY,), origin=Origin.UNKNOWN),
        row(purposes=(SECURITY,), flaw=Reason.MALFORMED_ROW),
        row(purposes=(SECURITY,), flaw=Reason.PROFILE_MISMATCH),
        row(origin=Origin.TWO_FACTOR, source="nobody"),
        row(expires_at=1),
        row(not_before=NOW + DAY),
        row(received_at=None),
    ],
)
def test_a_refusal_of_the_required_use_overrides_every_grant(status: Status, refusal: Row) -> None:
    refusal = replace(refusal, terms=replace(refusal.terms, status=status))
    assert reasons(row(received_at=5), refusal, row(received_at=9)) == [status.name] * 3
    assert pairs(row(received_at=5), refusal, row(received_at=9)) == {(1, 10): status.name}


@pytest.mark.parametrize("status", REFUSING)
def test_a_refusal_of_another_known_use_reports_itself_and_refuses_nothing_else(status: Status) -> None:
    for purpose in (
        SECURITY,
        "marketing.advertising.profiling",
        "sales",
    ):
        other = row(status=status, purposes=(purpose,))
        assert reasons(row(), other) == ["PERMITTED", status.name]
        assert pairs(row(), other) == {(1, 10): "PERMITTED"}


def test_a_refusal_of_a_part_of_the_required_use_refuses_it() -> None:
    inner = replace(
        POLICY, required_purpose="marketing.advertising", granting_purposes=("marketing.advertising",)
    )
    table = (row(purposes=("marketing.advertising",)), row(status=Status.OBJECTED, purposes=(ADS,)))
    assert pairs(*table, policy=inner) == {(1, 10): "OBJECTED"}


def test_a_status_that_can_not_be_read_refuses_every_use() -> None:
    unreadable = row(status=Status.UNREADABLE, purposes=(SECURITY,))
    assert reasons(row(), unreadable) == ["REFUSED", "MALFORMED_ROW"]
    assert pairs(row(), unreadable) == {(1, 10): "REFUSED"}


def test_of_several_refusals_the_objection_is_reported_then_the_withdrawal() -> None:
    objected, withdrawn, refused = row(Status.OBJECTED), row(Status.WITHDRAWN), row(Status.REFUSED)
    assert pairs(row(), refused, withdrawn, objected) == {(1, 10): "OBJECTED"}
    assert pairs(row(), refused, withdrawn) == {(1, 10): "WITHDRAWN"}
    assert reasons(row(), refused, withdrawn) == ["WITHDRAWN", "REFUSED", "WITHDRAWN"]
    assert pairs(row(), row(Status.UNREADABLE), withdrawn) == {(1, 10): "WITHDRAWN"}


def test_a_refusal_with_subject_and_identifier_is_for_that_pair_only() -> None:
    others = [row(), row(identifier=11), row(subject=2)]
    assert reasons(*others, row(Status.WITHDRAWN)) == ["WITHDRAWN", "PERMITTED", "PERMITTED", "WITHDRAWN"]


def test_a_refusal_without_a_subject_is_for_every_subject_of_the_identifier() -> None:
    others = [row(), row(identifier=11), row(subject=2)]
    by_identifier = row(Status.OBJECTED, subject=None)
    assert reasons(*others, by_identifier) == ["OBJECTED", "PERMITTED", "OBJECTED", "OBJECTED"]
    assert set(pairs(*others, by_identifier)) == {(1, 10), (1, 11), (2, 10)}


def test_a_refusal_without_an_identifier_is_for_every_identifier_of_the_subject() -> None:
    others = [row(), row(identifier=11), row(subject=2)]
    by_subject = row(Status.REFUSED, identifier=None, flaw=Reason.INVALID_IDENTIFIER)
    assert reasons(*others, by_subject) == ["REFUSED", "REFUSED", "PERMITTED", "REFUSED"]
    assert set(pairs(*others, by_subject)) == {(1, 10), (1, 11), (2, 10)}


def test_a_refusal_without_subject_and_identifier_reaches_nobody() -> None:
    assert reasons(row(), row(Status.REFUSED, subject=None, identifier=None)) == ["PERMITTED", "REFUSED"]


@pytest.mark.parametrize(
    "meets", [[(10, 11)], [(11, 10)], [(11, 10), (10, 11), (10, 10), (-1, 10), (77, 10)]]
)
def test_a_refusal_in_one_spelling_meets_a_grant_in_another(meets: list[tuple[int, int]]) -> None:
    grants = [row(identifier=11), row(subject=2, identifier=11), row(identifier=12)]
    assert reasons(*grants, row(Status.WITHDRAWN), meets=meets)[:3] == ["WITHDRAWN", "PERMITTED", "PERMITTED"]
    by_identifier = row(Status.WITHDRAWN, subject=None)
    assert reasons(*grants, by_identifier, meets=meets)[:3] == ["WITHDRAWN", "WITHDRAWN", "PERMITTED"]


def test_spellings_that_meet_a_third_do_not_meet_each_other() -> None:
    meets = [(10, 11), (11, 12)]
    assert reasons(row(identifier=12), row(Status.WITHDRAWN), meets=meets)[0] == "PERMITTED"
    assert reasons(row(identifier=11), row(Status.WITHDRAWN), meets=meets)[0] == "WITHDRAWN"


# Two-factor beside an independent grant.


def test_an_independent_grant_permits_beside_a_two_factor_row() -> None:
    two_factor = row(origin=Origin.TWO_FACTOR, purposes=(SECURITY,))
    assert reasons(two_factor, row()) == ["PURPOSE_NOT_PERMITTED", "PERMITTED"]
    assert pairs(two_factor, row()) == {(1, 10): "PERMITTED"}


@pytest.mark.parametrize("origin", sorted(FORBIDDEN_ORIGINS))
def test_strict_origins_taint_the_identifier_for_everybody(origin: Origin) -> None:
    given_for_security = row(origin=origin, purposes=(SECURITY,))
    others = [row(), row(subject=2), row(identifier=11), row(identifier=12)]
    assert reasons(given_for_security, *others, policy=STRICT, meets=[(11, 10)]) == [
        "PURPOSE_NOT_PERMITTED",
        "TAINTED",
        "TAINTED",
        "TAINTED",
        "PERMITTED",
    ]
    assert pairs(given_for_security, *others, policy=STRICT)[2, 10] == "TAINTED"


def test_taint_comes_after_origin_and_before_times() -> None:
    two_factor = row(origin=Origin.TWO_FACTOR)
    assert reasons(two_factor, row(expires_at=0), policy=STRICT) == ["ORIGIN_NOT_PERMITTED", "TAINTED"]


def test_a_forbidden_origin_without_a_readable_identifier_taints_nothing() -> None:
    assert reasons(row(origin=Origin.TWO_FACTOR, identifier=None), row(), policy=STRICT)[1] == "PERMITTED"


# Renewal.


@pytest.mark.parametrize("status", [Status.WITHDRAWN, Status.REFUSED])
@pytest.mark.parametrize("identifier", [10, None])
def test_a_renewal_lifts_an_earlier_withdrawal_of_the_same_subject(
    status: Status, identifier: int | None
) -> None:
    withdrawal = row(status, identifier=identifier, received_at=100)
    renewal = row(Status.RENEWED, not_before=101, received_at=101)
    assert reasons(withdrawal, renewal, row()) == [status.name, "PERMITTED", "PERMITTED"]
    # What was withdrawn for all identifiers is renewed for the named one only.
    if identifier is None:
        assert pairs(withdrawal, renewal, row(identifier=11)) == {(1, 10): "PERMITTED", (1, 11): status.name}


@pytest.mark.parametrize(
    ("withdrawal", "renewal"),
    [
        (row(Status.WITHDRAWN, received_at=100), row(Status.RENEWED, not_before=100, received_at=200)),
        (row(Status.WITHDRAWN, received_at=100), row(Status.RENEWED, not_before=201, received_at=200)),
        (row(Status.WITHDRAWN, received_at=100), row(Status.RENEWED, not_before=None, received_at=200)),
        (row(Status.WITHDRAWN, received_at=100), row(Status.RENEWED, not_before=150, received_at=None)),
        (row(Status.WITHDRAWN, received_at=None), row(Status.RENEWED, not_before=150, received_at=200)),
        (
            row(Status.WITHDRAWN, not_before=160, received_at=100),
            row(Status.RENEWED, not_before=150, received_at=200),
        ),
        (row(Status.WITHDRAWN, subject=None), row(Status.RENEWED, not_before=150, received_at=200)),
        (row(Status.OBJECTED), row(Status.RENEWED, not_before=150, received_at=200)),
        (row(Status.OBJECTED, identifier=None), row(Status.RENEWED, not_before=150, received_at=200)),
        (row(Status.UNREADABLE), row(Status.RENEWED, not_before=150, received_at=200)),
    ],
)
def test_what_a_renewal_can_not_lift_stays_in_force(withdrawal: Row, renewal: Row) -> None:
    assert pairs(withdrawal, renewal, row(received_at=300))[1, 10] != "PERMITTED"


def test_the_time_of_a_withdrawal_is_when_it_was_said_if_that_is_known() -> None:
    withdrawal = row(Status.WITHDRAWN, not_before=100, received_at=300)
    assert reasons(withdrawal, row(Status.RENEWED, not_before=150, received_at=200))[1] == "PERMITTED"


def test_a_renewal_of_one_spelling_does_not_lift_a_withdrawal_of_another() -> None:
    withdrawal = row(Status.WITHDRAWN, identifier=11, received_at=100)
    renewal = row(Status.RENEWED, not_before=150, received_at=200)
    assert reasons(withdrawal, renewal, meets=[(10, 11)]) == ["WITHDRAWN", "WITHDRAWN"]


def test_a_renewal_does_not_lift_for_another_subject() -> None:
    withdrawal = row(Status.WITHDRAWN, subject=2, received_at=100)
    renewal = row(Status.RENEWED, not_before=150, received_at=200)
    assert pairs(withdrawal, renewal) == {(1, 10): "PERMITTED", (2, 10): "WITHDRAWN"}


@pytest.mark.parametrize(
    "renewal",
    [
        row(Status.RENEWED, purposes=(SECURITY,), not_before=150, received_at=200),
        row(Status.RENEWED, origin=Origin.TWO_FACTOR, not_before=150, received_at=200),
        row(Status.RENEWED, source="nobody", not_before=150, received_at=200),
        row(Status.RENEWED, not_before=150, expires_at=300, received_at=200),
        row(Status.RENEWED, not_before=NOW + 1, received_at=NOW + 2),
        row(Status.RENEWED, not_before=150, received_at=200, flaw=Reason.PROFILE_MISMATCH),
    ],
)
def test_a_renewal_that_would_not_grant_lifts_nothing(renewal: Row) -> None:
    withdrawal = row(Status.WITHDRAWN, received_at=100)
    assert pairs(row(), withdrawal, renewal) == {(1, 10): "WITHDRAWN"}


# Evidence.

SIGNUP = Issuer(SCREENS, (ADS,), frozenset({Origin.PROFILE, Origin.SIGNUP}))
SIGNED = replace(POLICY, issuers={"screens": SIGNUP})
DEMANDING = replace(SIGNED, require_evidence=True)


def signed(evidence: Evidence = Evidence.VALID, issuer: str = "screens", **changes: Any) -> Row:
    return row(issuer=issuer, evidence=evidence, **changes)


@pytest.mark.parametrize(
    ("changed", "asked", "reason"),
    [
        (signed(), True, "PERMITTED"),
        (signed(), False, "PERMITTED"),
        (row(), False, "PERMITTED"),
        (row(), True, "EVIDENCE_MISSING"),
        (signed(Evidence.NONE), True, "EVIDENCE_MISSING"),
        (signed(Evidence.NONE), False, "EVIDENCE_MISSING"),
        (signed(Evidence.INVALID), True, "EVIDENCE_INVALID"),
        (signed(Evidence.INVALID), False, "EVIDENCE_INVALID"),
        (row(evidence=Evidence.INVALID), False, "EVIDENCE_INVALID"),
        (row(evidence=Evidence.VALID), False, "EVIDENCE_INVALID"),
        (signed(issuer="login"), True, "ISSUER_NOT_AUTHORIZED"),
        (signed(Evidence.UNAUTHORIZED), False, "ISSUER_NOT_AUTHORIZED"),
        (signed(origin=Origin.PURCHASE), True, "ISSUER_NOT_AUTHORIZED"),
        (signed(purposes=(ADS, "sales")), True, "ISSUER_NOT_AUTHORIZED"),
        (signed(Evidence.INVALID, issuer="login"), True, "EVIDENCE_INVALID"),
        (row(source="crm"), True, "SOURCE_NOT_PERMITTED"),
        (signed(origin=Origin.TWO_FACTOR), True, "ORIGIN_NOT_PERMITTED"),
    ],
)
def test_a_row_with_or_without_evidence_has_the_first_reason(changed: Row, asked: bool, reason: str) -> None:
    assert reasons(changed, policy=DEMANDING if asked else SIGNED) == [reason]


@pytest.mark.parametrize("evidence", [4, 7, 255])
def test_a_code_that_is_no_evidence_grants_nothing(evidence: int) -> None:
    assertions = replace(columns([signed()]), evidence=np.array([evidence], np.uint8))
    assert decide(assertions, DEMANDING, TAXONOMY, NOW).rows.tolist() == [Reason.EVIDENCE_INVALID]


def test_a_permission_to_sign_is_never_inherited() -> None:
    for permitted in ("marketing.advertising", "marketing", ADS + ".more"):
        issuer = replace(SIGNUP, permitted_purposes=(permitted,))
        assert reasons(signed(), policy=replace(DEMANDING, issuers={"screens": issuer})) == [
            "ISSUER_NOT_AUTHORIZED"
        ]


def test_a_revocation_takes_back_what_was_received_since_the_key_was_compromised() -> None:
    issuer = replace(SIGNUP, compromised_since=100, revoked_at=200)
    policy = replace(SIGNED, issuers={"screens": issuer})
    for time, reason in [(99, "PERMITTED"), *((time, "ISSUER_NOT_AUTHORIZED") for time in (100, 300, None))]:
        assert reasons(signed(received_at=time), policy=policy) == [reason]
    assert reasons(row(received_at=300), policy=policy) == ["PERMITTED"]


def test_the_expiry_of_a_key_does_not_touch_what_was_received_before() -> None:
    policy = replace(DEMANDING, issuers={"screens": replace(SIGNUP, expires_at=1)})
    assert reasons(signed(received_at=0), policy=policy) == ["PERMITTED"]


@pytest.mark.parametrize("status", REFUSING)
@pytest.mark.parametrize("evidence", Evidence)
def test_a_refusal_needs_no_evidence_and_bad_evidence_does_not_weaken_it(
    status: Status, evidence: Evidence
) -> None:
    for issuer in ("", "screens", "nobody"):
        refusal = row(status, issuer=issuer, evidence=evidence)
        assert reasons(signed(), refusal, policy=DEMANDING) == [status.name] * 2


def test_a_renewal_without_the_evidence_that_is_asked_for_lifts_nothing() -> None:
    withdrawal = row(Status.WITHDRAWN, received_at=100)
    renewal = row(Status.RENEWED, not_before=150, received_at=200)
    proven = replace(renewal, terms=replace(renewal.terms, issuer="screens"), evidence=Evidence.VALID)
    assert pairs(signed(), withdrawal, renewal, policy=DEMANDING) == {(1, 10): "WITHDRAWN"}
    assert pairs(signed(), withdrawal, proven, policy=DEMANDING) == {(1, 10): "PERMITTED"}


# Pairs and what they become.


def test_a_pair_has_the_code_of_its_latest_row() -> None:
    early, late = row(expires_at=1, received_at=5), row(source="crm", received_at=6)
    assert pairs(early, late) == pairs(late, early) == {(1, 10): "SOURCE_NOT_PERMITTED"}
    same_time = replace(early, received_at=6)
    assert pairs(same_time, late) == {(1, 10): "SOURCE_NOT_PERMITTED"}
    assert pairs(late, same_time) == {(1, 10): "EXPIRED"}


def test_the_granting_row_is_the_latest_that_permits() -> None:
    rows = [row(received_at=3), row(received_at=7), row(received_at=7), row(received_at=9, expires_at=1)]
    assert gate(rows).granting_row.tolist() == [2]
    assert gate([row(expires_at=1)]).granting_row.tolist() == [-1]


def test_permitted_holds_exactly_the_permitted_pairs() -> None:
    rows = [row(), row(subject=2, origin=Origin.TWO_FACTOR), row(subject=2, identifier=11), row(subject=3)]
    permitted = gate(rows).permitted()
    assert permitted.subject.tolist() == [1, 2, 3]
    assert permitted.identifier.tolist() == [10, 11, 10]
    assert permitted.granting_row.tolist() == [0, 2, 3]
    assert permitted.policy_digest == POLICY.digest
    assert len(permitted) == 3


def test_permitted_can_only_be_made_by_the_gate() -> None:
    decisions = gate([row()])
    permitted = decisions.permitted()
    with pytest.raises(TypeError, match="made by the gate only"):
        Permitted(decisions, object())
    with pytest.raises(TypeError, match="made by the gate only"):
        Decisions(
            decisions.rows,
            Pairs(columns([row()])),
            decisions.reasons,
            decisions.granting_row,
            bytes(32),
            None,
        )
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            attempt(permitted)


def test_a_decision_can_not_be_changed_afterwards() -> None:
    decisions = gate([row(origin=Origin.TWO_FACTOR)])
    with pytest.raises(ValueError, match="read-only"):
        decisions.reasons[0] = Reason.PERMITTED
    assert len(decisions.permitted()) == 0
    with pytest.raises(ValueError, match="read-only"):
        gate([row()]).permitted().identifier[0] = 11


def test_an_empty_table_has_no_decisions() -> None:
    decisions = gate([], policy=STRICT, meets=[(1, 2)])
    assert len(decisions.rows) == len(decisions.reasons) == len(decisions.permitted()) == 0


def test_a_policy_of_another_taxonomy_is_refused() -> None:
    other = Taxonomy.from_keys(KEYS - {"sales"})
    with pytest.raises(PolicyError, match="another taxonomy"):
        decide(columns([row()]), POLICY, other, NOW)


def test_columns_of_another_shape_or_type_are_refused() -> None:
    good = columns([row()])
    for column, bad in [
        ("identifier", np.zeros(2, np.int64)),
        ("terms", np.zeros(1, np.int64)),
        ("subject", np.zeros((1, 1), np.int64)),
        ("flaw", np.zeros(1, bool)),
        ("evidence", np.zeros(1, np.int64)),
        ("meets", np.zeros(2, np.int64)),
        ("meets", np.zeros((1, 3), np.int64)),
    ]:
        with pytest.raises(InputError, match="assertion column"):
            replace(good, **{column: bad})
    assert len(good) == 1


def test_terms_outside_the_table_count_as_a_refusal() -> None:
    for position in (-1, 1, 2**31 - 1):
        assertions = replace(columns([row(), row()]), terms=np.array([0, position], np.int32))
        decisions = decide(assertions, POLICY, TAXONOMY, NOW)
        assert decisions.rows.tolist() == [Reason.REFUSED, Reason.MALFORMED_ROW]


# The second gate.


def one_use(one: str, other: str) -> bool:
    """Whether one of two keys is the other, or includes it."""
    return (one + ".").startswith(other + ".") or (other + ".").startswith(one + ".")


@dataclass(frozen=True)
class Answer:
    rows: list[Reason]
    pairs: dict[tuple[int, int], tuple[Reason, int]]


def decide_slowly(rows: list[Row], meets: Iterable[tuple[int, int]], policy: Policy, now: int) -> Answer:
    met = {frozenset(pair) for pair in meets}

    def same(one: int, other: int) -> bool:
        return one == other or frozenset((one, other)) in met

    def refusal(row: Row) -> Reason | None:
        """Rules 0 and 2: what a row says against the required use."""
        terms = row.terms
        if terms.status is Status.UNREADABLE:
            return Reason.REFUSED
        if terms.status in (Status.GRANTED, Status.RENEWED):
            return None
        names_use = any(one_use(policy.required_purpose, key) for key in terms.purposes)
        unclear = not terms.purposes or not set(terms.purposes) <= KEYS
        if names_use or unclear or terms.origin is Origin.UNKNOWN or row.flaw is not None:
            return Reason[terms.status.name]
        return None

    def reaches(row: Row, subject: int, identifier: int) -> bool:
        if row.identifier is None:
            return row.subject == subject
        return row.subject in (subject, None) and same(row.identifier, identifier)

    def failures(row: Row) -> set[Reason]:
        """Every rule that a grant fails by itself or through taint."""
        found = set()
        terms = row.terms
        if row.flaw is not None:
            found.add(row.flaw)
        if row.subject is None:
            found.add(Reason.MALFORMED_ROW)
        if row.identifier is None:
            found.add(Reason.INVALID_IDENTIFIER)
        if not terms.purposes or set(terms.purposes) - KEYS:
            found.add(Reason.UNKNOWN_PURPOSE)
        if terms.origin is Origin.UNKNOWN:
            found.add(Reason.UNKNOWN_ORIGIN)
        if not set(terms.purposes) & set(policy.granting_purposes):
            found.add(Reason.PURPOSE_NOT_PERMITTED)
        if any(one_use(key, root) for key in terms.purposes for root in SECURITY_ROOTS):
            found.add(Reason.MIXED_PURPOSE)
        if terms.origin.label in NEVER_GRANT or terms.origin not in policy.permitted_origins:
            found.add(Reason.ORIGIN_NOT_PERMITTED)
        if policy.strict_origins and row.identifier is not None:
            for other in rows:
                security = other.terms.origin.label in NEVER_GRANT
                if security and other.identifier is not None and same(other.identifier, row.identifier):
                    found.add(Reason.TAINTED)
        if row.not_before is not None and now < row.not_before:
            found.add(Reason.NOT_YET_VALID)
        if row.expires_at is not None and row.expires_at <= now:
            found.add(Reason.EXPIRED)
        cap = policy.max_consent_age_days
        if cap is not None and (row.begins is None or now - row.begins > cap * DAY):
            found.add(Reason.TOO_OLD)
        if terms.origin not in policy.sources.get(terms.source, frozenset()):
            found.add(Reason.SOURCE_NOT_PERMITTED)
        return found | evidence_failures(row)

    def evidence_failures(row: Row) -> set[Reason]:
        found = set()
        terms, evidence = row.terms, row.evidence
        if evidence is Evidence.NONE and (terms.issuer or policy.require_evidence):
            found.add(Reason.EVIDENCE_MISSING)
        if evidence is Evidence.INVALID or (evidence is Evidence.VALID and not terms.issuer):
            found.add(Reason.EVIDENCE_INVALID)
        if evidence is Evidence.UNAUTHORIZED:
            found.add(Reason.ISSUER_NOT_AUTHORIZED)
        if terms.issuer:
            issuer = policy.issuers.get(terms.issuer)
            if (
                issuer is None
                or terms.origin not in issuer.permitted_origins
                or not all(purpose in issuer.permitted_purposes for purpose in terms.purposes)
                or (
                    issuer.compromised_since is not None
                    and (row.received_at is None or row.received_at >= issuer.compromised_since)
                )
            ):
                found.add(Reason.ISSUER_NOT_AUTHORIZED)
        return found

    def lifted(row: Row, subject: int, identifier: int) -> bool:
        """Rule 8: a later renewal of the same subject and identifier that is itself a good grant."""
        if row.terms.status not in (Status.WITHDRAWN, Status.REFUSED):
            return False
        if row.subject is None or row.identifier not in (identifier, None) or row.begins is None:
            return False
        return any(
            other.terms.status is Status.RENEWED
            and (other.subject, other.identifier) == (subject, identifier)
            and other.not_before is not None
            and other.received_at is not None
            and row.begins < other.not_before <= other.received_at
            and not failures(other)
            for other in rows
        )

    def refusals(subject: int, identifier: int) -> set[Reason]:
        found = set()
        for row in rows:
            reason = refusal(row)
            if reason and reaches(row, subject, identifier) and not lifted(row, subject, identifier):
                found.add(reason)
        return found

    def judge(row: Row) -> Reason:
        if row.terms.status is Status.UNREADABLE:
            return Reason.MALFORMED_ROW
        if row.terms.status not in (Status.GRANTED, Status.RENEWED):
            return Reason[row.terms.status.name]
        found = failures(row)
        if row.subject is not None and row.identifier is not None:
            found |= refusals(row.subject, row.identifier)
        return min(found, default=Reason.PERMITTED)

    def when(number: int) -> tuple[bool, int, int]:
        received = rows[number].received_at
        return (received is not None, received or 0, number)

    reasons = [judge(row) for row in rows]
    pairs = {}
    for subject, identifier in {
        (row.subject, row.identifier)
        for row in rows
        if row.subject is not None and row.identifier is not None
    }:
        mine = [n for n, row in enumerate(rows) if (row.subject, row.identifier) == (subject, identifier)]
        granting = [n for n in mine if reasons[n] is Reason.PERMITTED]
        against = refusals(subject, identifier)
        if granting:
            pairs[subject, identifier] = (Reason.PERMITTED, max(granting, key=when))
        elif against:
            pairs[subject, identifier] = (min(against), -1)
        else:
            pairs[subject, identifier] = (reasons[max(mine, key=when)], -1)
    return Answer(reasons, pairs)


# Random tables, small enough that everything collides with everything.

SMALL = 3
ADVERTISING, THIRD_PARTY = "marketing.advertising", "marketing.advertising.third_party"
PURPOSES = [
    *(ADS, THIRD_PARTY, "marketing.advertising.first_party.targeted", ADVERTISING, "marketing"),
    *(SECURITY, "essential.service", "sales", "nonsense"),
]
TERMS = st.builds(
    Terms,
    st.lists(st.sampled_from(PURPOSES), max_size=2).map(tuple) | st.just((ADS,)),
    st.sampled_from([*Origin, Origin.PROFILE, Origin.PROFILE, Origin.SIGNUP]),
    st.sampled_from([*Status, Status.GRANTED, Status.GRANTED, Status.RENEWED, Status.WITHDRAWN]),
    st.sampled_from(["default", "default", "crm", "nobody"]),
    st.sampled_from(["", "", "", "screens", "login", "nobody"]),
)
GRANTS = st.builds(
    Terms,
    st.just((ADS,)),
    st.just(Origin.PROFILE),
    st.sampled_from([Status.GRANTED, Status.RENEWED]),
    st.just("default"),
    st.sampled_from(["", "screens"]),
)
CODES = st.none() | st.integers(0, SMALL - 1)
TIMES = st.none() | st.integers(0, 6).map(lambda days: days * DAY)
ROWS = st.builds(
    Row,
    subject=CODES,
    identifier=CODES,
    terms=TERMS | GRANTS,
    not_before=TIMES,
    expires_at=st.none() | TIMES,
    received_at=TIMES,
    flaw=st.none()
    | st.none()
    | st.sampled_from([Reason.MALFORMED_ROW, Reason.INVALID_IDENTIFIER, Reason.PROFILE_MISMATCH]),
    evidence=st.sampled_from([*Evidence, Evidence.NONE, Evidence.VALID, Evidence.VALID]),
)
TABLES = st.lists(ROWS, max_size=12)
MEETS = st.lists(st.tuples(st.integers(0, SMALL), st.integers(0, SMALL)), max_size=2)
ORIGINS = st.frozensets(st.sampled_from([origin for origin in Origin if origin]))
ISSUERS = st.fixed_dictionaries(
    {
        "screens": st.builds(
            Issuer,
            key=st.just(SCREENS),
            permitted_purposes=st.sampled_from([(ADS,), (ADS, THIRD_PARTY, ADVERTISING), ("sales", ADS)]),
            permitted_origins=ORIGINS.map(lambda some: (some - FORBIDDEN_ORIGINS) | {Origin.PROFILE}),
            revoked_at=st.just(6 * DAY),
            compromised_since=st.integers(0, 6).map(lambda days: days * DAY),
        ).flatmap(
            lambda revoked: st.sampled_from(
                [revoked, replace(revoked, revoked_at=None, compromised_since=None)]
            )
        ),
        "login": st.builds(
            Issuer,
            key=st.just(LOGIN),
            permitted_purposes=st.sampled_from([(SECURITY,), (SECURITY, "sales")]),
            permitted_origins=ORIGINS.map(lambda some: some | {Origin.TWO_FACTOR}),
        ),
    }
)
# The required use at every depth of the tree, and any of the keys above it that may grant it.
USES = st.sampled_from(
    [
        (use, granting)
        for use in (ADS, ADS, THIRD_PARTY, ADVERTISING)
        for above in [[key for key in (ADVERTISING, THIRD_PARTY, ADS) if (use + ".").startswith(key + ".")]]
        for count in range(1, len(above) + 1)
        for granting in combinations(above, count)
    ]
)


def policy_for(use: tuple[str, tuple[str, ...]], **settings: Any) -> Policy:
    required, granting = use
    return Policy(required_purpose=required, granting_purposes=granting, **settings)


POLICIES = st.builds(
    policy_for,
    use=USES,
    permitted_origins=ORIGINS.map(lambda some: (some - FORBIDDEN_ORIGINS) | {Origin.PROFILE}),
    strict_origins=st.booleans(),
    max_consent_age_days=st.none() | st.integers(1, 4),
    sources=st.fixed_dictionaries({"default": st.just(frozenset(Origin)), "crm": ORIGINS}),
    taxonomy_digest=st.just(TAXONOMY.digest),
    require_evidence=st.booleans(),
    issuers=ISSUERS,
)
# The verdicts are tested, not the speed of a loaded machine.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NOWS = st.integers(0, 6).map(lambda days: days * DAY)


@settings(PATIENT, max_examples=400)
@given(TABLES, MEETS, POLICIES, NOWS)
def test_the_gate_agrees_with_the_slow_one(
    rows: list[Row], meets: list[tuple[int, int]], policy: Policy, now: int
) -> None:
    fast = gate(rows, policy, meets, now)
    slow = decide_slowly(rows, meets, policy, now)
    assert [Reason(code) for code in fast.rows] == slow.rows
    found = zip(fast.subjects, fast.identifiers, fast.reasons, fast.granting_row, strict=True)
    assert {(int(s), int(i)): (Reason(code), int(n)) for s, i, code, n in found} == slow.pairs


def permitted_pairs(decisions: Decisions) -> set[tuple[int, int]]:
    permitted = decisions.permitted()
    return set(zip(permitted.subject.tolist(), permitted.identifier.tolist(), strict=True))


@settings(PATIENT)
@given(TABLES, MEETS, POLICIES, NOWS, st.sampled_from(sorted(FORBIDDEN_ORIGINS)))
def test_no_policy_permits_a_pair_whose_grants_all_have_forbidden_origins(
    rows: list[Row], meets: list[tuple[int, int]], policy: Policy, now: int, origin: Origin
) -> None:
    rows = [
        replace(each, terms=replace(each.terms, origin=origin)) if each.subject == 0 else each
        for each in rows
    ]
    assert all(subject != 0 for subject, _ in permitted_pairs(gate(rows, policy, meets, now)))


@settings(PATIENT)
@given(
    TABLES, MEETS, POLICIES, NOWS, ROWS, st.sampled_from([*REFUSING, Status.UNREADABLE]), st.integers(0, 12)
)
def test_one_more_refusal_never_permits_more(
    rows: list[Row],
    meets: list[tuple[int, int]],
    policy: Policy,
    now: int,
    refusal: Row,
    status: Status,
    place: int,
) -> None:
    refusal = replace(refusal, terms=replace(refusal.terms, status=status))
    more = [*rows[:place], refusal, *rows[place:]]
    assert permitted_pairs(gate(more, policy, meets, now)) <= permitted_pairs(gate(rows, policy, meets, now))


@settings(PATIENT)
@given(TABLES, MEETS, POLICIES, NOWS)
def test_strict_origins_and_more_spellings_never_permit_more(
    rows: list[Row], meets: list[tuple[int, int]], policy: Policy, now: int
) -> None:
    loose = permitted_pairs(gate(rows, replace(policy, strict_origins=False), (), now))
    assert permitted_pairs(gate(rows, replace(policy, strict_origins=False), meets, now)) <= loose
    assert permitted_pairs(gate(rows, replace(policy, strict_origins=True), (), now)) <= loose


@settings(PATIENT)
@given(TABLES.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))), MEETS, POLICIES, NOWS)
def test_the_order_of_rows_changes_no_verdict(
    orders: tuple[list[Row], list[Row]], meets: list[tuple[int, int]], policy: Policy, now: int
) -> None:
    one, other = (gate(rows, policy, meets, now) for rows in orders)
    assert permitted_pairs(one) == permitted_pairs(other)
    rows = [
        sorted(zip(map(repr, order), result.rows.tolist(), strict=True))
        for order, result in zip(orders, (one, other), strict=True)
    ]
    assert rows[0] == rows[1]


@settings(PATIENT)
@given(TABLES, MEETS, POLICIES, NOWS)
def test_a_row_is_counted_as_permitted_exactly_in_permitted_pairs(
    rows: list[Row], meets: list[tuple[int, int]], policy: Policy, now: int
) -> None:
    decisions = gate(rows, policy, meets, now)
    permitting = {
        (each.subject, each.identifier)
        for each, code in zip(rows, decisions.rows, strict=True)
        if code == Reason.PERMITTED
    }
    assert permitting == permitted_pairs(decisions)


@settings(PATIENT)
@given(TABLES, MEETS, POLICIES, NOWS)
def test_asking_for_evidence_and_losing_it_never_permits_more(
    rows: list[Row], meets: list[tuple[int, int]], policy: Policy, now: int
) -> None:
    loose, strict = (replace(policy, require_evidence=asked) for asked in (False, True))
    free = permitted_pairs(gate(rows, loose, meets, now))
    assert permitted_pairs(gate(rows, strict, meets, now)) <= free
    spoiled = [replace(each, evidence=Evidence.INVALID) for each in rows]
    assert permitted_pairs(gate(spoiled, loose, meets, now)) == set()
    assert permitted_pairs(gate(rows, replace(strict, issuers={}), meets, now)) == set()


@settings(PATIENT)
@given(TABLES, MEETS, POLICIES, NOWS)
def test_only_what_an_issuer_may_sign_is_permitted_where_evidence_is_asked_for(
    rows: list[Row], meets: list[tuple[int, int]], policy: Policy, now: int
) -> None:
    strict = replace(policy, require_evidence=True)
    permitted = gate(rows, strict, meets, now).permitted()
    for number in permitted.granting_row.tolist():
        terms = rows[number].terms
        assert terms.origin.label not in NEVER_GRANT
        assert set(terms.purposes) & set(policy.granting_purposes)
        assert set(terms.purposes) <= set(policy.issuers[terms.issuer].permitted_purposes)
        assert terms.issuer != "login"


@settings(PATIENT)
@given(TABLES, MEETS, POLICIES, NOWS)
def test_a_permission_rests_on_a_grant_of_a_purpose_and_an_origin_that_the_policy_names(
    rows: list[Row], meets: list[tuple[int, int]], policy: Policy, now: int
) -> None:
    permitted = gate(rows, policy, meets, now).permitted()
    for number in permitted.granting_row.tolist():
        terms = rows[number].terms
        assert terms.status in (Status.GRANTED, Status.RENEWED)
        assert set(terms.purposes) & set(policy.granting_purposes)
        assert not any(one_use(key, root) for key in terms.purposes for root in SECURITY_ROOTS)
        assert terms.origin in policy.permitted_origins
        assert terms.origin.label not in NEVER_GRANT


@settings(PATIENT)
@given(TABLES, MEETS, POLICIES, NOWS)
def test_no_key_that_the_policy_does_not_name_grants_by_inheritance(
    rows: list[Row], meets: list[tuple[int, int]], policy: Policy, now: int
) -> None:
    """Ancestors and children of the required use, and of keys that grant, among them."""
    others = [
        replace(each.terms, purposes=tuple(set(each.terms.purposes) - set(policy.granting_purposes)))
        for each in rows
    ]
    rows = [replace(each, terms=terms) for each, terms in zip(rows, others, strict=True)]
    assert permitted_pairs(gate(rows, policy, meets, now)) == set()


@settings(PATIENT)
@given(
    *(TABLES, MEETS, POLICIES, NOWS, CODES, CODES, st.integers(0, 12)),
    *(st.sampled_from(REFUSING), st.integers(0, 3), TIMES),
)
def test_no_refusal_is_overridden(
    rows: list[Row],
    meets: list[tuple[int, int]],
    policy: Policy,
    now: int,
    subject: int | None,
    identifier: int | None,
    place: int,
    status: Status,
    above: int,
    received_at: int | None,
) -> None:
    """Of the required use or of any use that includes it; only a renewal lifts, and never an objection."""
    keys = policy.required_purpose.split(".")
    purposes = (".".join(keys[: max(1, len(keys) - above)]),)
    if status is not Status.OBJECTED:
        renewed = [each.terms.status is Status.RENEWED for each in rows]
        rows = [
            replace(each, terms=replace(each.terms, status=Status.GRANTED)) if again else each
            for each, again in zip(rows, renewed, strict=True)
        ]
    refusal = row(status, purposes, subject=subject, identifier=identifier, received_at=received_at)
    rows = [*rows[:place], refusal, *rows[place:]]
    for pair in permitted_pairs(gate(rows, policy, meets, now)):
        reached = [mine is None or mine == its for mine, its in zip((subject, identifier), pair, strict=True)]
        assert not all(reached) or (subject is None and identifier is None)


def any_column(data: st.DataObject, dtype: type, length: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    extreme = st.sampled_from([limits.min, limits.min + 1, 0, 1, limits.max - 1, limits.max])
    return data.draw(npst.arrays(dtype, length, elements=extreme | st.integers(limits.min, limits.max)))


@settings(PATIENT)
@given(st.data(), POLICIES, st.integers(), st.lists(TERMS | GRANTS, max_size=3))
def test_the_gate_never_raises_whatever_the_columns_hold(
    data: st.DataObject, policy: Policy, now: int, table: list[Terms]
) -> None:
    length = data.draw(st.integers(0, 6))
    names = ("subject", "identifier", "not_before", "expires_at", "received_at")
    assertions = Assertions(
        **{name: any_column(data, np.int64, length) for name in names},
        terms=any_column(data, np.int32, length),
        flaw=any_column(data, np.uint8, length),
        evidence=any_column(data, np.uint8, length),
        meets=any_column(data, np.int64, 4).reshape(2, 2),
        terms_table=table,
    )
    decisions = decide(assertions, policy, TAXONOMY, now)
    assert set(decisions.rows.tolist() + decisions.reasons.tolist()) <= {int(reason) for reason in Reason}
    outside = (assertions.terms < 0) | (assertions.terms >= len(table))
    assert (decisions.rows[outside] == Reason.MALFORMED_ROW).all()
