"""Everything about one subject: what was said, what the gate answered, and where it was matched.

Source: GDPR article 15 is what such a request usually invokes. The answer holds keyed digests, never
identifiers: the registry has none. Of who was erased it tells what is left and why.

Not protected against: asking for the wrong person; who may ask is the operator's to decide.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, select

from purposematch.protocol.assertions import NO_TIME, Terms
from purposematch.protocol.audience import AudienceMode
from purposematch.protocol.identifiers import Kind
from purposematch.protocol.purpose import GRANTS, Reason
from purposematch.server.registry.audiences import AudienceName, audience_changes, memberships
from purposematch.server.registry.columns import assertion_columns, decision_columns, naming, spellings
from purposematch.server.registry.corrections import find_corrections
from purposematch.server.registry.erasures import suppressing
from purposematch.server.registry.happened import (
    Deliveries,
    Generations,
    Session,
    consent_ages,
    correction_times,
    load_deliveries,
    load_generations,
    load_sessions,
)
from purposematch.server.registry.history import HISTORY_COLUMNS, History, pair_history
from purposematch.server.registry.positions import log_positions
from purposematch.server.registry.schema import policy
from purposematch.server.registry.terms_rows import load_terms
from purposematch.server.times import iso

__all__ = ["about_subject", "identifiers_of", "suppressed"]

SUPPRESSED_BECAUSE: Final = (
    "what was known of this identifier was erased; its keyed digest is kept as an objection, so that it is "
    "refused when it comes again"
)

_COLUMNS = (*HISTORY_COLUMNS, "kind", "terms", "notice", "flaw")


def about_subject(connection: Connection, subject: str, now: int) -> dict[str, Any]:
    """The stable document of one subject, as an entry of `subject --json`.

    Args:
        connection: a snapshot.
        subject: its id.
        now: which audiences are over by then; microseconds since 1970.

    Returns:
        `subject_id`; `assertions`, with those by nobody named that are about its identifiers; `withdrawals`,
        which of them refuse; `receipts`, where the log says so; `decisions`, every answer of the gate in
        order; `enrolled`, from which to which generation and through what; `sessions` opened meanwhile;
        `advertisers` of these, and those who may have found it on a list of removals; of them those who
        `may_have_learned` of the subject; `partners` that opened some for them; `audiences`, exact: what
        sessions that matched it did to which audience, and whether it is a `member` of that now.
    """
    own = naming(connection, [subject], [])
    keys = assertion_columns(connection, ["identifier"], own)["identifier"].drop_null().unique().to_pylist()
    ids = np.union1d(own, naming(connection, [], [*keys, *spellings(connection, own)]))
    said = assertion_columns(connection, _COLUMNS, ids)
    named = said["subject"].to_pylist()
    # Of others who have the identifier, nothing is told.
    concerning = np.array([each in (subject, None) for each in named], bool)
    spoken = np.array([each == subject for each in named], bool)
    deliveries, generations = load_deliveries(connection), load_generations(connection)
    history = pair_history(
        said,
        decision_columns(connection, keys),
        deliveries,
        generations,
        consent_ages(connection),
        spoken,
    )
    digests = {row.id: row.digest.hex() for row in connection.execute(select(policy.c.id, policy.c.digest))}
    enrolled = _enrolled(history, generations)
    opened = load_sessions(connection, generations)
    sessions = _sessions(opened, history, generations)
    assertions = _assertions(connection, said.filter(pa.array(concerning)), deliveries)
    grants = {status.label for status in GRANTS}
    withdrawals = [each for each in assertions if each["status"] not in grants]
    learned = _may_have_learned(opened, sessions, history, generations)
    return {
        "subject_id": subject,
        "assertions": assertions,
        "withdrawals": [each["assertion"] for each in withdrawals],
        "receipts": _receipts(connection, withdrawals, deliveries),
        "decisions": _decisions(history, digests),
        "enrolled": enrolled,
        "sessions": sessions,
        "advertisers": sorted({*learned, *(each["advertiser"] for each in sessions)}),
        "may_have_learned": sorted(learned),
        "partners": sorted({each["partner"] for each in sessions if each["partner"] is not None}),
        "audiences": _audiences(connection, said.filter(pa.array(spoken)), history, now),
    }


def identifiers_of(connection: Connection, subject: str) -> list[bytes]:
    """The identifiers that a subject was ever named with, keyed digests in all spellings."""
    own = naming(connection, [subject], [])
    keys = assertion_columns(connection, ["identifier"], own)["identifier"].drop_null().unique().to_pylist()
    return [*keys, *spellings(connection, own)]


def suppressed(connection: Connection, keys: list[bytes]) -> list[dict[str, Any]]:
    """What erasures left of some identifiers, keyed digests: entries of `subject --json`, with the reason.

    Each has `identifier`, `erasure`, `erased_at`, `log_leaf` and `why`.
    """
    ids = naming(connection, [], keys)
    return [
        {
            "identifier": identifier.hex(),
            "erasure": each.erasure.id,
            "erased_at": iso(each.erasure.erased_at),
            "log_leaf": each.erasure.leaf,
            "why": SUPPRESSED_BECAUSE,
        }
        for each in suppressing(connection)
        for identifier in assertion_columns(
            connection, ["identifier"], ids[(ids >= each.assertions.start) & (ids < each.assertions.stop)]
        )["identifier"].to_pylist()
    ]


def _assertions(connection: Connection, said: pa.Table, deliveries: Deliveries) -> list[dict[str, Any]]:
    table, terms_ids = load_terms(connection)
    terms = dict(zip(terms_ids.tolist(), table, strict=True))
    ids = said["id"].to_numpy()
    corrections: dict[int, list[dict[str, Any]]] = {}
    for assertion, number, new, why, time in find_corrections(connection, ids):
        corrections.setdefault(assertion, []).append(
            {"correction": number, "corrected_at": iso(time), "why": why, **_labels(terms[new])}
        )
    at = deliveries.places(ids)
    return [
        {
            "assertion": row["id"],
            "subject_id": row["subject"],
            "identifier": row["identifier"] and row["identifier"].hex(),
            "kind": Kind(row["kind"]).label if row["kind"] else None,
            **_labels(terms[row["terms"]]),
            "status": terms[row["terms"]].status.label,
            "source": terms[row["terms"]].source,
            "issuer": terms[row["terms"]].issuer or None,
            "notice_id": row["notice"],
            "delivery": int(deliveries.ids[place]),
            "received_at": iso(int(deliveries.received_at[place])),
            "not_before": None if row["not_before"] == NO_TIME else iso(row["not_before"]),
            "expires_at": None if row["expires_at"] == NO_TIME else iso(row["expires_at"]),
            "reason_at_receipt": Reason(row["reason"]).name,
            "corrections": corrections.get(row["id"], []),
        }
        for row, place in zip(said.to_pylist(), at.tolist(), strict=True)
    ]


def _receipts(
    connection: Connection, withdrawals: list[dict[str, Any]], deliveries: Deliveries
) -> list[dict[str, Any]]:
    """Where the log says of each withdrawal, as its receipt said."""
    first = dict(zip(deliveries.ids.tolist(), deliveries.first_assertion.tolist(), strict=True))
    positions = log_positions(connection, {each["delivery"] for each in withdrawals})
    return [
        {
            "assertion": each["assertion"],
            "delivery": each["delivery"],
            **positions[each["delivery"]].to_mapping(),
            "position": each["assertion"] - first[each["delivery"]],
        }
        for each in withdrawals
        if each["delivery"] in positions
    ]


def _labels(terms: Terms) -> dict[str, Any]:
    return {"origin": terms.origin.label, "purposes": list(terms.purposes)}


def _decisions(history: History, digests: dict[int, str]) -> list[dict[str, Any]]:
    answers = [
        {
            "identifier": history.identifiers[history.identifier[history.pair[event]]].as_py().hex(),
            "reason": Reason(history.reason[event]).name,
            "through_assertion": None if history.granting[event] < 0 else int(history.granting[event]),
            "decided_at": iso(int(history.time[event])),
            "policy": digests[int(history.policy[event])],
            "policy_version": int(history.policy[event]),
        }
        for event in range(len(history.pair))
    ]
    return answers


def _enrolled(history: History, generations: Generations) -> list[dict[str, Any]]:
    return [
        {
            "identifier": history.identifiers[history.identifier[history.pair[event]]].as_py().hex(),
            "assertion": int(history.granting[event]),
            "first_generation": int(generations.numbers[history.begin[event]]),
            "last_generation": int(generations.numbers[history.end[event] - 1]),
        }
        for event in history.enrolled.tolist()
    ]


def _sessions(sessions: list[Session], history: History, generations: Generations) -> list[dict[str, Any]]:
    enrolled = np.zeros(len(generations) + 1, np.int64)
    np.add.at(enrolled, history.begin[history.enrolled], 1)
    np.add.at(enrolled, history.end[history.enrolled], -1)
    present = np.cumsum(enrolled) > 0
    return [
        {
            "session": each.id,
            "advertiser": each.advertiser,
            "partner": each.partner,
            "disclosure": each.disclosure.value,
            "generation": int(generations.numbers[each.generation]),
            "opened_at": iso(each.opened_at),
            "advertiser_may_have_learned": each.shows_advertiser,
        }
        for each in sessions
        if present[each.generation]
    ]


def _may_have_learned(
    opened: list[Session], sessions: list[dict[str, Any]], history: History, generations: Generations
) -> set[str]:
    """Advertisers whose `sessions` showed them, or with tags of an epoch in which an identifier left."""
    left = history.departures(history.enrolled, generations)
    listed = {
        each.advertiser
        for each in opened
        if each.shows_advertiser and generations.epochs[each.generation] in left
    }
    return listed | {each["advertiser"] for each in sessions if each["advertiser_may_have_learned"]}


def _audiences(connection: Connection, said: pa.Table, history: History, now: int) -> list[dict[str, Any]]:
    """What was done to audiences because of assertions, in order."""
    named = dict(zip(said["id"].to_pylist(), said["identifier"].to_pylist(), strict=True))
    found: dict[str, list[int]] = {}
    for session, granting in memberships(connection, sorted(named)):
        found.setdefault(session, []).append(granting)
    changes = audience_changes(connection) if found else []
    ids = said["id"].to_numpy()
    left = history.left_at_through(ids, correction_times(connection))
    left_at = dict(zip(ids.tolist(), left.tolist(), strict=True))
    inside: dict[AudienceName, bool] = {}
    for each in changes:
        named_here = each.session in found and each.is_live(now)
        put_in = named_here and each.mode.puts_in
        put_in = put_in and any(left_at[granting] < each.made_at for granting in found[each.session])
        if named_here or each.mode is AudienceMode.REPLACE:
            inside[each.of] = put_in or (each.mode is AudienceMode.ADD and inside.get(each.of, False))
    return [
        {
            **each.of.to_mapping(),
            "mode": each.mode.value,
            "session": each.session,
            "identifier": named[granting].hex(),
            "assertion": granting,
            "expires_at": iso(each.expires_at),
            "member": inside[each.of],
        }
        for each in changes
        if each.is_live(now)
        for granting in found.get(each.session, ())
    ]
