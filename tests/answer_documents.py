"""Documents of answers, one of each question, with every field that there can be."""

from typing import Any, Final

DIGEST: Final = "ab" * 32
TIME: Final = "2026-01-31T12:00:00Z"
LABELS: Final = {"origin": "signup", "purposes": ["marketing.advertising"]}

ASSERTION: Final[dict[str, Any]] = {
    "assertion": 7,
    "subject_id": "ada",
    "identifier": DIGEST,
    "kind": "email",
    **LABELS,
    "status": "granted",
    "source": "default",
    "issuer": "screens",
    "notice_id": "join-4",
    "delivery": 2,
    "received_at": TIME,
    "not_before": TIME,
    "expires_at": None,
    "reason_at_receipt": "PERMITTED",
    "corrections": [{"correction": 1, "corrected_at": TIME, "why": "login", **LABELS}],
}
SUBJECTS: Final[dict[str, Any]] = {
    "subjects": [
        {
            "subject_id": "ada",
            "assertions": [ASSERTION, {**ASSERTION, "identifier": None, "kind": None, "corrections": []}],
            "withdrawals": [8],
            "receipts": [
                {
                    "assertion": 8,
                    "delivery": 2,
                    "log_leaf": 5,
                    "log_size": 9,
                    "log_root": DIGEST,
                    "position": 0,
                }
            ],
            "decisions": [
                {
                    "identifier": DIGEST,
                    "reason": "WITHDRAWN",
                    "through_assertion": None,
                    "decided_at": TIME,
                    "policy": DIGEST,
                    "policy_version": 1,
                }
            ],
            "enrolled": [{"identifier": DIGEST, "assertion": 7, "first_generation": 1, "last_generation": 2}],
            "sessions": [
                {
                    "session": DIGEST[:32],
                    "advertiser": "acme",
                    "partner": "agency",
                    "disclosure": "both",
                    "generation": 1,
                    "opened_at": TIME,
                    "advertiser_may_have_learned": True,
                }
            ],
            "advertisers": ["acme"],
            "may_have_learned": ["acme"],
            "partners": ["agency"],
            "audiences": [
                {
                    "advertiser": "acme",
                    "partner": "agency",
                    "audience": "spring",
                    "mode": "add",
                    "session": DIGEST[:32],
                    "identifier": DIGEST,
                    "assertion": 7,
                    "expires_at": TIME,
                    "member": True,
                }
            ],
        }
    ],
    "suppressed": [
        {"identifier": DIGEST, "erasure": 1, "erased_at": TIME, "log_leaf": 8, "why": "was erased"}
    ],
}
IMPACT: Final[dict[str, Any]] = {
    "as_of": None,
    "advertiser": None,
    "selection": {},
    "assertions": 3,
    "identifiers": 2,
    "subjects": 2,
    "generations": 1,
    "sessions": 2,
    "audiences": 1,
    "advertisers": ["acme"],
    "partners": [],
    "subjects_in_audiences": 1,
    "subjects_advertisers_may_have_learned_of": 2,
    "erased_assertions": 0,
    "erased_memberships": 0,
    "expired_audiences": 0,
    "by_advertiser": [
        {
            "advertiser": "acme",
            "sessions": 2,
            "subjects_in_audiences": 1,
            "subjects_may_have_learned_of": 2,
        }
    ],
    "by_audience": [{"advertiser": "acme", "partner": None, "audience": "default", "subjects": 1}],
}
STATUS: Final[dict[str, Any]] = {
    "platform_id": "fake.example",
    "version": "0.1.0",
    "ready": False,
    "generation": {
        "id": DIGEST[:32],
        "purpose": "marketing.advertising",
        "profile": "plain-v1",
        "epoch": 1,
        "count": 20,
        "published_at": TIME,
        "age_seconds": 60,
        "valid_until": TIME,
    },
    "epoch_ends": TIME,
    "sessions": {"open": 1, "ended": 0, "closed": 2},
    "log": {"size": 9, "checkpoint_size": 9, "checkpoint_signed_at": None},
    "quotas": [{"advertiser": "acme", "quota": "daily_sessions", "left": 4, "of": 5}],
    "budgets": [
        {
            "holder": "legal_entity",
            "name": "acme",
            "days": 30,
            "spent": "0.25",
            "left": "0.75",
            "of": "1",
            "returns_at": None,
        }
    ],
    "audiences": [
        {
            "advertiser": "acme",
            "partner": None,
            "audience": "default",
            "sessions": 1,
            "changed_at": TIME,
            "expires_at": TIME,
        }
    ],
    "certificates": [{"role": "advertiser", "name": "acme", "not_after": "2026-11-25T12:00:00Z"}],
    "problems": [{"problem": "the policy file is refused", "remedy": "correct it"}],
}
AUDIT: Final[dict[str, Any]] = {"leaves": 9, "assertions": 3, "indexed": 2}
