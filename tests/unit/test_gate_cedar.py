"""The gate against Cedar: all combinations of origin, purpose, status, validity and evidence."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cedarpy
import numpy as np
import pytest

from purposematch.protocol.assertions import NO_TIME, Assertions, Terms
from purposematch.protocol.evidence import CollectorKey
from purposematch.protocol.gate import decide
from purposematch.protocol.issuers import Issuer
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import (
    SECURITY_ROOTS,
    Evidence,
    Origin,
    Reason,
    Status,
    ancestors_or_self,
    is_under,
)
from purposematch.server.taxonomy import load_taxonomy

CEDAR = (Path(__file__).parents[1] / "gate.cedar").read_text(encoding="utf-8")
TAXONOMY = load_taxonomy()
SCREENS, STOLEN, LOGIN = (CollectorKey(bytes([n]) * 32).public_key for n in (1, 2, 3))

# The middle of the tree, so that the required use has both an ancestor that is no root, and a child.
REQUIRED = "marketing.advertising.third_party"
PURPOSES = {
    "exact": (REQUIRED,),
    "ancestor": ("marketing.advertising",),
    "child": ("marketing.advertising.third_party.targeted",),
    "sibling": ("marketing.advertising.first_party",),
    "unknown": ("marketing.advertising.secret",),
    "none": (),
    "bundled": (REQUIRED, "essential.service.security"),
    "two": (REQUIRED, "analytics"),
}
DAY = 24 * 3600 * 1_000_000
NOW = 1_000 * DAY
RECEIVED = NOW - 10 * DAY
VALIDITY = {
    "open": (None, None),
    "within": (NOW - DAY, NOW + 1),
    "not yet": (NOW + 1, None),
    "expired": (None, NOW),
    "old": (NOW - 50 * DAY, None),
}
EVIDENCE = [
    ("", Evidence.NONE),
    ("", Evidence.VALID),
    ("", Evidence.INVALID),
    *itertools.product(("screens", "stolen", "login", "unlisted"), Evidence),
]
ISSUERS = {
    "screens": Issuer(
        SCREENS, (REQUIRED, "marketing.advertising"), frozenset({Origin.PROFILE, Origin.SIGNUP})
    ),
    "stolen": Issuer(
        STOLEN, (REQUIRED,), frozenset({Origin.PROFILE}), revoked_at=NOW, compromised_since=RECEIVED
    ),
    "login": Issuer(LOGIN, SECURITY_ROOTS, frozenset({Origin.TWO_FACTOR, Origin.SIGNUP})),
}


def policy_of(require_evidence: bool, granting: tuple[str, ...], max_age_days: int | None) -> Policy:
    return Policy(
        required_purpose=REQUIRED,
        granting_purposes=granting,
        permitted_origins=frozenset({Origin.PROFILE, Origin.SIGNUP, Origin.MESSENGER}),
        strict_origins=False,
        max_consent_age_days=max_age_days,
        sources={"default": frozenset(Origin) - {Origin.MESSENGER}},
        taxonomy_digest=TAXONOMY.digest,
        require_evidence=require_evidence,
        issuers=ISSUERS,
    )


POLICIES = [
    policy_of(False, (REQUIRED,), None),
    policy_of(True, (REQUIRED,), None),
    policy_of(True, (REQUIRED, "marketing.advertising"), 30),
]
Case = tuple[Terms, tuple[int | None, int | None], Evidence]


def cases() -> list[Case]:
    def every() -> Iterator[Case]:
        for origin, purposes, status, times, (issuer, evidence) in itertools.product(
            Origin, PURPOSES.values(), Status, VALIDITY.values(), EVIDENCE
        ):
            yield Terms(purposes, origin, status, "default", issuer), times, evidence

    return list(every())


CASES = cases()


def columns(rows: list[Case], subjects: list[int]) -> Assertions:
    table = list(dict.fromkeys(terms for terms, _, _ in rows))
    position = {terms: place for place, terms in enumerate(table)}
    none = lambda value: NO_TIME if value is None else value  # noqa: E731
    return Assertions(
        subject=np.array(subjects, np.int64),
        identifier=np.zeros(len(rows), np.int64),
        terms=np.array([position[terms] for terms, _, _ in rows], np.int32),
        not_before=np.array([none(times[0]) for _, times, _ in rows], np.int64),
        expires_at=np.array([none(times[1]) for _, times, _ in rows], np.int64),
        received_at=np.full(len(rows), RECEIVED, np.int64),
        flaw=np.zeros(len(rows), np.uint8),
        evidence=np.array([evidence for _, _, evidence in rows], np.uint8),
        meets=np.zeros((0, 2), np.int64),
        terms_table=table,
    )


def entity(type_: str, name: str) -> dict[str, Any]:
    return {"__entity": {"type": type_, "id": name}}


def uses(keys: Any) -> list[dict[str, Any]]:
    return [entity("Purpose", key) for key in sorted(keys)]


def entities_of(policy: Policy) -> list[dict[str, Any]]:
    """The policy, its issuers and sources, and the tree of purposes, as Cedar takes them."""
    known = TAXONOMY.keys | {key for keys in PURPOSES.values() for key in keys}
    resource = {
        "required_purpose": entity("Purpose", policy.required_purpose),
        "granting_purposes": uses(policy.granting_purposes),
        "permitted_origins": [origin.label for origin in policy.permitted_origins],
        "require_evidence": policy.require_evidence,
        "taxonomy": uses(TAXONOMY.keys),
        "security_uses": uses(k for k in TAXONOMY.keys if any(is_under(k, root) for root in SECURITY_ROOTS)),
        "parts_of_required": uses(k for k in TAXONOMY.keys if is_under(k, policy.required_purpose)),
    }
    if policy.max_consent_age_days is not None:
        resource["max_age"] = policy.max_consent_age_days * DAY
    made = [{"uid": {"type": "Policy", "id": "ours"}, "attrs": resource, "parents": []}]
    for name, origins in policy.sources.items():
        attrs: dict[str, Any] = {"origins": [origin.label for origin in origins]}
        made.append({"uid": {"type": "Source", "id": name}, "attrs": attrs, "parents": []})
    for name in ("screens", "stolen", "login", "unlisted"):
        issuer = policy.issuers.get(name)
        attrs = {
            "permitted_purposes": uses(issuer.permitted_purposes if issuer else ()),
            "permitted_origins": [origin.label for origin in issuer.permitted_origins] if issuer else [],
        }
        if issuer and issuer.compromised_since is not None:
            attrs["compromised_since"] = issuer.compromised_since
        made.append({"uid": {"type": "Issuer", "id": name}, "attrs": attrs, "parents": []})
    for key in sorted(known):
        parents = [{"type": "Purpose", "id": parent} for parent in ancestors_or_self(key)[1:2]]
        made.append({"uid": {"type": "Purpose", "id": key}, "attrs": {}, "parents": parents})
    roots = {key.partition(".")[0] for key in known} | {"essential.service.authentication"}
    made += [
        {"uid": {"type": "Purpose", "id": key}, "attrs": {}, "parents": []} for key in sorted(roots - known)
    ]
    return made


def request_of(case: Case, action: str) -> dict[str, Any]:
    terms, (not_before, expires_at), evidence = case
    context: dict[str, Any] = {
        "status": terms.status.label,
        "origin": terms.origin.label,
        "purposes": uses(set(terms.purposes)),
        "now": NOW,
        "received_at": RECEIVED,
        "begins": RECEIVED if not_before is None else not_before,
        "evidence": evidence.name.lower(),
    }
    if not_before is not None:
        context["not_before"] = not_before
    if expires_at is not None:
        context["expires_at"] = expires_at
    if terms.issuer:
        context["issuer"] = entity("Issuer", terms.issuer)
    return {
        "principal": f'Source::"{terms.source}"',
        "action": f'Action::"{action}"',
        "resource": 'Policy::"ours"',
        "context": context,
    }


def cedar_allows(policy: Policy, action: str, chosen: list[Case]) -> list[bool]:
    requests = [request_of(case, action) for case in chosen]
    answers = cedarpy.is_authorized_batch(requests, CEDAR, entities_of(policy))
    for answer in answers:
        assert not answer.diagnostics.errors
    return [answer.allowed for answer in answers]


# Cedar takes a tenth of a millisecond for each, so every run asks about a part; `-m slow` asks about all.
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
@pytest.mark.parametrize("policy", POLICIES, ids=["optional", "required", "ancestor and age"])
def test_one_assertion_is_permitted_exactly_when_cedar_permits_it(policy: Policy, every: int) -> None:
    chosen = CASES[::every]
    decisions = decide(columns(chosen, list(range(len(chosen)))), policy, TAXONOMY, NOW)
    permitted = (decisions.rows == Reason.PERMITTED).tolist()
    allowed = cedar_allows(policy, "grant", chosen)
    different = [
        case for case, ours, theirs in zip(chosen, permitted, allowed, strict=True) if ours != theirs
    ]
    assert different == []
    assert 0 < sum(permitted) < len(permitted)


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 11])
def test_an_assertion_beside_a_good_grant_refuses_it_exactly_when_cedar_says_so(every: int) -> None:
    policy = POLICIES[1]
    chosen = CASES[::every]
    good = (
        Terms((REQUIRED,), Origin.PROFILE, Status.GRANTED, "default", "screens"),
        (None, None),
        Evidence.VALID,
    )
    rows = [row for case in chosen for row in (good, case)]
    subjects = [number for number in range(len(chosen)) for _ in range(2)]
    decisions = decide(columns(rows, subjects), policy, TAXONOMY, NOW)
    refused = (decisions.reasons != Reason.PERMITTED).tolist()
    assert refused == cedar_allows(policy, "refuse", chosen)
    assert 0 < sum(refused) < len(refused)
