"""Corrects labels: "these assertions were mislabelled", and everything that follows from it.

A correction never changes a row. It says which terms count from now on; the gate then decides again for every
pair that is touched, and what is not permitted any more is out of every session that opens and every commit
that is made from then on. Refusals are never corrected: a label can not make one weaker. And no correction
lets anybody in: what was given for two-factor can not be relabelled into a match, by nobody.

A dry run does all of it inside the database and takes it back, so what it says is what would happen; other
writers wait meanwhile.

Not protected against: what advertisers learned before, which the answer lists; and an operator who corrects
what was right, which shows in the registry for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.ascending import ascending
from purposematch.protocol.assertions import Terms
from purposematch.protocol.errors import InputError
from purposematch.protocol.gate import decide
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import (
    FORBIDDEN_ORIGINS,
    GRANTS,
    Origin,
    Reason,
    Taxonomy,
    concerns_security,
)
from purposematch.protocol.verdicts import PASSES, first_failure
from purposematch.server.impact import impact
from purposematch.server.impact_result import Impact
from purposematch.server.platform import Platform
from purposematch.server.recorded import Recorded, load_recorded, select_assertions, select_erased
from purposematch.server.registry import (
    GateInput,
    assertions_for_gate,
    highest_decision,
    ledger,
    most_of_all,
    record_decisions,
)
from purposematch.server.registry.corrections import Correction, add_correction, close_correction
from purposematch.server.registry.terms_rows import load_terms, store_terms
from purposematch.server.selection import Selection

__all__ = ["Corrected", "Labels", "correct"]

_NO_WAY_IN: Final = (
    "a correction only takes permissions away, and this one would permit somebody: ask the people again and "
    "enroll what they say"
)


@dataclass(frozen=True, slots=True)
class Labels:
    """What mislabelled assertions should have said; None leaves it as it is."""

    origin: Origin | None = None
    purposes: tuple[str, ...] | None = None

    def of(self, terms: Terms) -> Terms:
        """`terms` with these labels."""
        return replace(
            terms,
            origin=terms.origin if self.origin is None else self.origin,
            purposes=terms.purposes if self.purposes is None else self.purposes,
        )


@dataclass(frozen=True, eq=False)
class Corrected:
    """What a correction did, or would do.

    Attributes:
        correction: its number, None for a dry run and where no label changed.
        impact: of the assertions whose labels it changes, before it.
        stops: pairs that were permitted and are not any more.
    """

    correction: int | None
    impact: Impact = field(repr=False)
    stops: int

    def to_mapping(self) -> dict[str, object]:
        """The stable document of `correct --json`, without what the command adds."""
        return {
            "correction": self.correction,
            **self.impact.to_mapping(),
            "pairs": self.stops,
        }


class _Rehearsed(Exception):
    """Takes a dry run back, and carries what it found."""

    def __init__(self, result: Corrected) -> None:
        super().__init__()
        self.result = result


def correct(platform: Platform, selection: Selection, labels: Labels, *, why: str, apply: bool) -> Corrected:
    """Corrects the grants that a selection means, or says what that would do.

    Args:
        platform: the open platform.
        selection: which assertions, by the labels that count now.
        labels: what they should have said.
        why: the reason, to be kept.
        apply: do it; else nothing is stored.

    Raises:
        InputError: the selection is empty, no label is given, a purpose is not in the taxonomy, or somebody
            would be permitted who was not.
        PolicyError: the policy file is refused.
    """
    if selection.is_empty:
        raise InputError("say which assertions were mislabelled: without a filter it would be all of them")
    if labels == Labels():
        raise InputError("say what they should have been: --origin, --purposes, or both")
    unknown = [key for key in labels.purposes or () if key not in platform.taxonomy]
    if unknown:
        raise InputError("a purpose is not a data-use key of the taxonomy")
    policy = platform.policy()
    try:
        with platform.registry.writing() as connection:
            result = _correct(connection, platform, policy, selection, labels, why)
            if not apply:
                raise _Rehearsed(replace(result, correction=None))
    except _Rehearsed as rehearsed:
        return rehearsed.result
    return result


def _correct(
    connection: Connection,
    platform: Platform,
    policy: Policy,
    selection: Selection,
    labels: Labels,
    why: str,
) -> Corrected:
    now = platform.clock()
    recorded = load_recorded(connection)
    table, terms_ids = load_terms(connection)
    meant = select_assertions(connection, recorded, selection)
    changes = [each.status in GRANTS and labels.of(each) != each for each in table]
    differs = np.array(changes, bool)[np.searchsorted(terms_ids, recorded.terms)]
    meant &= differs
    old = ascending(np.searchsorted(terms_ids, recorded.terms[meant])).tolist()
    _demand_no_way_in([table[at] for at in old], labels, policy, platform.taxonomy)
    found = impact(connection, recorded, meant, select_erased(connection, recorded, selection) & differs)
    if not meant.any():
        return Corrected(None, found, 0)

    # The pairs stay the same, so the gate's answers before and after stand in the same order.
    given = _touched(connection, recorded, meant)
    before = decide(given.assertions, policy, platform.taxonomy, now)
    assertions = recorded.said["id"].to_numpy()[meant]
    made = Correction(
        corrected_at=now,
        selection=selection.to_mapping(),
        origin=None if labels.origin is None else int(labels.origin),
        purposes=None if labels.purposes is None else ";".join(labels.purposes),
        why=why,
    )
    number = add_correction(
        connection, made, assertions, _new_terms(connection, recorded.terms[meant], labels)
    )
    given = _touched(connection, recorded, meant)
    after = decide(given.assertions, policy, platform.taxonomy, now)
    number_of_policy = ledger.record_policy(connection, policy, now, platform.random_bytes)
    changed = record_decisions(connection, given, after, number_of_policy, now, platform.random_bytes)
    close_correction(connection, number, highest_decision(connection))
    ledger.record_correction(connection, number, changed, platform.random_bytes)
    was, is_ = before.reasons == Reason.PERMITTED, after.reasons == Reason.PERMITTED
    if (is_ & ~was).any():
        raise InputError(_NO_WAY_IN)
    return Corrected(number, found, int(np.count_nonzero(was & ~is_)))


def _demand_no_way_in(meant: Sequence[Terms], labels: Labels, policy: Policy, taxonomy: Taxonomy) -> None:
    """Refuses labels that would open the gate on another day.

    That nobody is permitted at this moment is not enough: a consent may begin tomorrow, another one of the
    same person may end, and what was given for security must not wait for another policy.
    """
    for old in meant:
        new = labels.of(old)
        passes = [first_failure(each, policy, taxonomy) == PASSES for each in (old, new)]
        if passes == [False, True] or (_for_security(old) and not _for_security(new)):
            raise InputError(_NO_WAY_IN)


def _for_security(terms: Terms) -> bool:
    """Whether terms can never grant, whatever a policy says: by their origin or by what they name."""
    return terms.origin in FORBIDDEN_ORIGINS or any(map(concerns_security, terms.purposes))


def _new_terms(connection: Connection, old: NDArray[np.int64], labels: Labels) -> NDArray[np.int64]:
    """`terms.id` with the new labels in place of each `terms.id`, (n,) int64."""
    table, ids = load_terms(connection)
    distinct, inverse = np.unique(np.searchsorted(ids, old), return_inverse=True)
    wanted = [labels.of(table[at]) for at in distinct.tolist()]
    table, ids = store_terms(connection, wanted)
    at = {terms: place for place, terms in enumerate(table)}
    return ids[np.array([at[terms] for terms in wanted], np.int64)][inverse]


def _touched(connection: Connection, recorded: Recorded, meant: NDArray[np.bool_]) -> GateInput:
    """What the gate needs for every pair that the assertions `meant` have to do with."""
    if most_of_all(connection, int(np.count_nonzero(meant))):
        return assertions_for_gate(connection)
    said = recorded.said.filter(pa.array(meant))
    keys = said["identifier"].drop_null().unique().to_pylist()
    return assertions_for_gate(connection, keys, said["subject"].drop_null().unique().to_pylist())
