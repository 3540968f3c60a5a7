"""Prints the documents of `subject`, `impact` and `status` for people: on the platform, and from elsewhere.

Not protected against: a document without the fields of its kind. Whoever got one over the wire checks it
first.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from purposematch.console.output import report, report_facts, report_table
from purposematch.protocol.purpose import REASON_MEANINGS, Reason

__all__ = [
    "PAIRS_STOP",
    "report_audience",
    "report_audiences",
    "report_budgets",
    "report_impact",
    "report_reasons",
    "report_receipt",
    "report_status",
    "report_subjects",
]

PAIRS_STOP: Final = "pairs that stop being permitted"
"""What people are shown instead of `pairs`: of a subject and an identifier, permitted until then."""

_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z")

_NUMBERS: Final = {
    "assertions": "assertions",
    "identifiers": "identifiers",
    "subjects": "subjects",
    "generations": "generations",
    "sessions": "sessions",
    "audiences": "audiences",
    "advertisers": "advertisers",
    "partners": "partners",
    "subjects_in_audiences": "subjects in audiences (exact)",
    "subjects_advertisers_may_have_learned_of": "subjects advertisers may have learned of (upper bound)",
    "erased_assertions": "erased assertions",
    "erased_memberships": "erased memberships",
    "expired_audiences": "expired audiences",
}
"""What `impact` shows people, and under which names."""

_SECTIONS: Final = {
    "receipts": ("assertion", "delivery", "log_leaf", "log_size", "log_root", "position"),
    "decisions": ("decided_at", "identifier", "reason", "through_assertion", "policy_version"),
    "enrolled": ("identifier", "assertion", "first_generation", "last_generation"),
    "sessions": ("opened_at", "session", "advertiser", "partner", "disclosure", "generation"),
    "audiences": ("advertiser", "partner", "audience", "mode", "session", "assertion", "member"),
}
"""What `subject` shows people as tables, and in which columns; the JSON document has more."""

_HEADERS: Final = {"through_assertion": "assertion", "policy_version": "policy"}
"""Columns of `subject` with a shorter name, so that a row of a table has room in 80 columns."""

_OF_AUDIENCE: Final = {
    "changes": ("session", "mode", "made_at", "expires_at"),
    "exports": ("exported_at", "count", "format", "by", "log_leaf"),
}
"""What `audience show` shows people as tables, and in which columns."""

_SAID: Final = (
    *("subject_id", "kind", "origin", "purposes", "status", "notice_id", "source", "issuer"),
    *("received_at", "not_before", "expires_at", "reason_at_receipt", "corrected_to"),
)
"""What `subject` shows people of an assertion, a line each: too much for a row of a table."""


NONE_MEANT: Final = "no assertion is as the filters say; check how their values are spelt"


def report_impact(title: str, document: Mapping[str, Any], none_meant: str = NONE_MEANT) -> None:
    """Prints the numbers of an impact, and tables of the advertisers and audiences.

    Args:
        title: what it is of.
        document: as `impact --json` has it.
        none_meant: what to say on stderr where it is of no assertion.
    """
    if not document["assertions"]:
        print(none_meant, file=sys.stderr)
    values = {shown: document[name] for name, shown in _NUMBERS.items()}
    report_facts(
        title, {name: len(value) if isinstance(value, list) else value for name, value in values.items()}
    )
    report_table(
        "Subjects by advertiser",
        ("advertiser", "sessions", "in audiences", "may have learned of, at most"),
        (tuple(each.values()) for each in document["by_advertiser"]),
    )
    report_table(
        "Subjects by audience",
        ("advertiser", "partner", "audience", "subjects"),
        (
            (each["advertiser"], each["partner"] or "", each["audience"], each["subjects"])
            for each in document["by_audience"]
        ),
    )


def report_subjects(document: Mapping[str, Any]) -> None:
    """Prints what is known of each subject, and what was erased."""
    left = document["suppressed"]
    if left:
        columns = ("identifier", "erased_at", "erasure", "log_leaf", "why")
        rows = ([_cell(each[name]) for name in columns] for each in left)
        report_table("Erased, and refused since", _spaced(columns), rows)
    if not document["subjects"] and not left:
        report_facts("Nothing is known of it", {})
    for each in document["subjects"]:
        _report_subject(each)


def report_receipt(title: str, document: Mapping[str, Any]) -> None:
    """Prints the receipt of a withdrawal or an objection, without what only programs keep.

    Args:
        title: what was recorded.
        document: as `withdraw --json` has it.
    """
    shown = {PAIRS_STOP if name == "pairs" else name: document[name] for name in document}
    # The leaf is the same for all, and each has its place in the order of the file.
    del shown["checkpoint"], shown["receipts"]
    report(title, shown | {"purpose": shown["purpose"] or "every use"}, as_json=False)


def report_status(document: Mapping[str, Any]) -> None:
    """Prints how a platform is, and what to do about what is wrong."""
    parts = ("generation", "sessions", "log", "quotas", "budgets", "audiences", "certificates", "problems")
    report_facts("Platform", _facts({name: document[name] for name in document if name not in parts}))
    if document["generation"] is not None:
        report_facts("Generation", _facts(document["generation"]))
    report_facts("Sessions", document["sessions"])
    report_facts("Log", _facts(document["log"]))
    quotas = [[each[name] for name in ("advertiser", "quota", "left", "of")] for each in document["quotas"]]
    report_table("Quotas today", ("advertiser", "quota", "left", "of"), quotas)
    report_budgets(document["budgets"])
    report_audiences(document["audiences"])
    ends = [[each[name] for name in ("role", "name", "not_after")] for each in document["certificates"]]
    report_table("Certificates", ("role", "name", "last one ends"), ends)
    problems = [(each["problem"], each["remedy"]) for each in document["problems"]]
    report_table("Problems", ("what is wrong", "what to do"), problems)


def report_budgets(budgets: Iterable[Mapping[str, Any]]) -> None:
    """Prints what noisy counts have cost; a budget is a legal entity's, or of all together for a purpose."""
    rows = [
        (*(each[name] for name in ("name", "days", "spent", "left", "of")), (each["returns_at"] or "")[:10])
        for each in budgets
    ]
    columns = ("whose", "days", "spent", "left", "of", "returns")
    report_table("Budgets for noisy counts, in epsilon", columns, rows)


def report_audiences(audiences: Iterable[Mapping[str, Any]]) -> None:
    """Prints what audiences a platform keeps, with the days of their times."""
    listed = list(audiences)
    columns = tuple(listed[0]) if listed else ()
    rows = (["" if each[name] is None else _day(each[name]) for name in columns] for each in listed)
    headers = [name.removesuffix("_at") for name in columns]
    report_table("Audiences", headers, rows)


def report_audience(title: str, document: Mapping[str, Any]) -> None:
    """Prints an audience, what sessions did to it, and who exported it when.

    Args:
        title: what it is of.
        document: as `audience show --json` has it. The purposes of changes are left to that: they are long.
    """
    report_facts(title, _facts({name: document[name] for name in document if name not in _OF_AUDIENCE}))
    for name, columns in _OF_AUDIENCE.items():
        rows = ([_cell(row[column]) for column in columns] for row in document[name])
        report_table(name.capitalize(), _spaced(columns), rows)


def report_reasons(names: Iterable[str]) -> None:
    """Prints what the reasons with these names mean, each once; nothing of those that are not known here."""
    known = [Reason[name] for name in dict.fromkeys(names) if name in Reason.__members__]
    if known:
        rows = [(each.name, REASON_MEANINGS[each]) for each in known]
        report_table("What that means", ("reason", "meaning"), rows)


def _report_subject(about: Mapping[str, Any]) -> None:
    report_facts(
        f"Subject {about['subject_id']}",
        {
            name: len(about[name])
            for name in ("assertions", "withdrawals", "decisions", "sessions", "audiences")
        }
        | {
            "advertisers": ", ".join(about["advertisers"]) or "none",
            "may have learned": ", ".join(about["may_have_learned"]) or "none",
        },
    )
    for entry in about["assertions"]:
        said = _with_correction(entry)
        facts = {name: _cell(said[name]) for name in _SAID if said.get(name) not in (None, "", [])}
        report_facts(f"Assertion {entry['assertion']}", _facts(facts))
    for title, columns in _SECTIONS.items():
        report_table(
            title.capitalize(),
            _spaced(tuple(_HEADERS.get(name, name) for name in columns)),
            ([_cell(row[name]) for name in columns] for row in about[title]),
        )
    report_reasons(each["reason"] for each in about["decisions"])


def _with_correction(entry: dict[str, Any]) -> dict[str, Any]:
    latest = (entry["corrections"] or [None])[-1]
    return entry | ({"corrected_to": [latest["origin"], *latest["purposes"]]} if latest else {})


def _cell(value: Any) -> object:
    # Digests are told apart by their beginnings; the JSON document has them whole.
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, str) and _TIME.fullmatch(value):
        return f"{value[:19]}Z"
    return value[:12] if isinstance(value, str) and len(value) >= 32 and value.isalnum() else value


def _day(value: Any) -> object:
    return value[:10] if isinstance(value, str) and _TIME.fullmatch(value) else value


def _facts(fields: Mapping[str, object]) -> dict[str, object]:
    return {name.replace("_", " "): "none" if value is None else value for name, value in fields.items()}


def _spaced(names: tuple[str, ...]) -> list[str]:
    return [name.replace("_", " ") for name in names]
