"""The history of pairs: every answer that the gate gave, and the generations in which it was in force.

This is the one place that turns what the registry keeps into "who was enrolled through what, and when". It
follows the definition at `schema.decision`: at a generation, the answer for a (subject, identifier) is
its latest decision that the generation covers, unless the generation covers an assertion of the pair that
is newer than that decision; then it is what that assertion showed at its receipt.

So the answers of a pair are a list of events, each an assertion or a decision. An event is visible from
the first generation that covers it and in force until the next one is visible.

Not protected against: a database in which rows were altered or removed.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.assertions import NO_TIME
from purposematch.protocol.purpose import Reason
from purposematch.server.registry.columns import NONE, row_of
from purposematch.server.registry.happened import NEVER, Deliveries, Generations

__all__ = ["HISTORY_COLUMNS", "NEVER", "PUBLISHING_MICROSECONDS", "History", "pair_history"]

TAKEN_BACK: Final = (Reason.OBJECTED, Reason.WITHDRAWN, Reason.REFUSED)
"""What the gate answers where a person took permission back, or did not give it."""

PUBLISHING_MICROSECONDS: Final = 50
"""A generous estimate of what publishing takes, for each assertion; what ends sooner is left out."""

HISTORY_COLUMNS: Final = ("subject", "identifier", "reason", "not_before", "expires_at")
"""What `pair_history` needs of assertions."""

_DAY: Final = timedelta(days=1) // timedelta(microseconds=1)


@dataclass(frozen=True, eq=False)
class History:
    """e events of p pairs, those of a pair side by side in the order in which they took effect.

    Attributes:
        subjects: code -> subject.
        identifiers: code -> keyed digest.
        speaker: (n,) int64, the subject's code of each row of `said`, -1 where none is named.
        subject: (p,) int64 codes of each pair.
        identifier: (p,) int64 codes of each pair.
        pair: (e,) int64, ascending.
        decided: (e,) bool, the event is a decision; else an assertion.
        id: (e,) int64, `decision.id` or `assertion.id`.
        reason: (e,) uint8, the `Reason` that it gave.
        granting: (e,) int64, the assertion through which it permits, `NONE` where it refuses.
        policy: (e,) int64, `policy.id`.
        time: (e,) int64, when it was decided or received, microseconds since 1970.
        begin: (e,) int64, the first position in `Generations` at which it is in force.
        end: (e,) int64, one above the last, and `begin` where it never was. Where it permits, this ends with
            the consent, as publishing does.
    """

    subjects: pa.StringArray = field(repr=False)
    identifiers: pa.FixedSizeBinaryArray = field(repr=False)
    speaker: NDArray[np.int64]
    subject: NDArray[np.int64]
    identifier: NDArray[np.int64]
    pair: NDArray[np.int64]
    decided: NDArray[np.bool_]
    id: NDArray[np.int64]
    reason: NDArray[np.uint8]
    granting: NDArray[np.int64]
    policy: NDArray[np.int64]
    time: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]

    @property
    def enrolled(self) -> NDArray[np.int64]:
        """The events through which a pair was in a generation, (k,) positions."""
        return np.flatnonzero((self.granting != NONE) & (self.begin < self.end))

    def departures(self, events: NDArray[np.int64], generations: Generations) -> NDArray[np.int64]:
        """The key epoch whose list of removals says that a pair left when an event ended; 0 where none does.

        A list holds tags of identifiers: where somebody else's consent kept one in the index, it does not
        say so.

        Args:
            events: (k,) positions, of `enrolled`.
            generations: those that the history was made with.

        Returns:
            (k,) int64.
        """
        enrolled = self.enrolled
        ended = self.end[enrolled] < len(generations)
        goes_on = self.pair[enrolled[1:]] == self.pair[enrolled[:-1]]
        goes_on &= self.begin[enrolled[1:]] == self.end[enrolled[:-1]]
        ended[:-1] &= ~goes_on
        left = ended[np.searchsorted(enrolled, events)]
        epochs = np.zeros(len(events), np.int64)
        epochs[left] = generations.epochs[self.end[events[left]] - 1]
        return epochs

    def left_at(self, corrected_at: NDArray[np.int64]) -> NDArray[np.int64]:
        """When permission for each pair was last taken back, or found never to have been there.

        What was permitted before that is over; what is permitted after it begins anew.

        Args:
            corrected_at: (k,) int64, the times of all corrections, microseconds since 1970.

        Returns:
            (p,) int64 microseconds since 1970; -1 where it never was, and `NEVER` where the latest answer
            refuses, for whatever reason.
        """
        # A row and what the gate makes of it have one time: the last event of a moment is what it came to.
        ends_moment = np.ones(len(self.pair), bool)
        ends_moment[:-1] = (self.pair[1:] != self.pair[:-1]) | (self.time[1:] != self.time[:-1])
        taken = np.isin(self.reason, TAKEN_BACK)
        taken |= self.decided & (self.granting == NONE) & np.isin(self.time, corrected_at)
        taken &= ends_moment
        left = np.full(len(self.subject), -1)
        np.maximum.at(left, self.pair[taken], self.time[taken])
        left[self.granting[self.latest] == NONE] = NEVER
        return left

    def left_at_through(
        self, assertions: NDArray[np.int64], corrected_at: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """`left_at` of the pair that each of some assertions is about, (n,) int64; NEVER of who was erased.

        Args:
            assertions: (n,) int64, ascending and distinct.
            corrected_at: as of `left_at`.
        """
        # Who was erased has no events.
        events = np.flatnonzero(~self.decided & np.isin(self.id, assertions))
        left = np.full(len(assertions), NEVER)
        left[np.searchsorted(assertions, self.id[events])] = self.left_at(corrected_at)[self.pair[events]]
        return left

    @property
    def latest(self) -> NDArray[np.int64]:
        """The event of each pair that is the answer now, (p,) positions."""
        return np.append(np.flatnonzero(self.pair[1:] != self.pair[:-1]), len(self.pair) - 1)[
            : len(self.subject)
        ]


def pair_history(
    said: pa.Table,
    decided: pa.Table,
    deliveries: Deliveries,
    generations: Generations,
    ages: dict[int, int | None],
    rows: NDArray[np.bool_] | None = None,
) -> History:
    """The history of the pairs that assertions name.

    Args:
        said: every assertion of these pairs, more may be there: `id` and `HISTORY_COLUMNS`.
        decided: every decision about them, as `decision_columns` gives it.
        deliveries: all that brought assertions of `said`.
        generations: those that are asked about.
        ages: the oldest consent of each policy, as `consent_ages` gives it.
        rows: (n,) bool, the rows of `said` whose pairs are wanted; None for all.
    """
    subjects, subject = _encoded(said["subject"])
    identifiers, identifier = _encoded(said["identifier"])
    width = max(len(identifiers), 1)
    ids = said["id"].to_numpy()
    both = np.flatnonzero((subject >= 0) & (identifier >= 0))
    of_decided = _key_of(decided, subjects, identifiers, width)
    decided = decided.filter(pa.array(of_decided >= 0))
    number = np.concatenate([ids[both], decided["id"].to_numpy()])
    key = np.concatenate([subject[both] * width + identifier[both], of_decided[of_decided >= 0]])
    asked = np.zeros(len(key), bool)
    asked[: len(both)] = True if rows is None else rows[both]
    # A decision comes after every assertion that it was made from, and before those that came later.
    order = np.argsort(
        np.concatenate([ids[both] * 2, decided["assertions"].to_numpy() * 2 + 1]), kind="stable"
    )
    order = order[np.argsort(key[order], kind="stable")]
    key = key[order]
    first = np.ones(len(key), bool)
    first[1:] = key[1:] != key[:-1]
    pair = np.cumsum(first) - 1
    meant = np.zeros(int(first.sum()), bool)
    meant[pair[asked[order]]] = True
    kept = meant[pair]
    order, wanted = order[kept], key[first][meant]
    pair = (np.cumsum(meant) - 1)[pair[kept]]

    place = deliveries.places(ids[both])
    reasons = said["reason"].to_numpy()[both]
    own = np.where(reasons == Reason.PERMITTED, ids[both], NONE)
    seen = np.searchsorted(generations.watermark, ids[both])
    decisions_seen = np.searchsorted(generations.decisions, decided["id"].to_numpy())
    begin = np.concatenate([seen, decisions_seen])[order]
    end = np.full(len(pair), len(generations))
    same = np.flatnonzero(pair[1:] == pair[:-1])
    end[same] = begin[same + 1]
    history = History(
        subjects=subjects,
        identifiers=identifiers,
        speaker=subject,
        subject=wanted // width,
        identifier=wanted % width,
        pair=pair,
        decided=order >= len(both),
        id=number[order],
        reason=np.concatenate([reasons, decided["reason"].to_numpy()])[order].astype(np.uint8),
        granting=np.concatenate([own, decided["granting"].to_numpy()])[order],
        policy=np.concatenate([deliveries.policy[place], decided["policy"].to_numpy()])[order],
        time=np.concatenate([deliveries.received_at[place], decided["decided_at"].to_numpy()])[order],
        begin=begin,
        end=np.maximum(end, begin),
    )
    _end_with_consent(history, said, deliveries, generations, ages)
    return history


def _end_with_consent(
    history: History,
    said: pa.Table,
    deliveries: Deliveries,
    generations: Generations,
    ages: dict[int, int | None],
) -> None:
    """Takes away the generations that left a permitted pair out, because its consent was about to end."""
    granted = history.enrolled
    ids = history.granting[granted]
    at = row_of(said["id"].to_numpy(), ids)
    expires = said["expires_at"].to_numpy()[at]
    ends = np.where(expires == NO_TIME, NEVER, expires)
    for policy, days in ages.items():
        under = np.flatnonzero(history.policy[granted] == policy) if days is not None else ()
        if days is None or not len(under):
            continue
        begins = said["not_before"].to_numpy()[at[under]]
        received = deliveries.received_at[deliveries.places(ids[under])]
        begins = np.where(begins == NO_TIME, received, begins)
        ends[under] = np.minimum(ends[under], begins + days * _DAY + 1)
    # Assertion ids count from 1 without gaps, so the watermark is the number of assertions.
    in_service = generations.published_at + generations.watermark * PUBLISHING_MICROSECONDS
    left_out = np.searchsorted(in_service, ends)
    history.end[granted] = np.minimum(history.end[granted], np.maximum(left_out, history.begin[granted]))


def _encoded(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """The distinct values, and the code of each row, -1 for null."""
    encoded = column.combine_chunks().dictionary_encode()
    codes: NDArray[np.int64] = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    return encoded.dictionary, codes


def _key_of(decided: pa.Table, subjects: pa.Array, identifiers: pa.Array, width: int) -> NDArray[np.int64]:
    """The pair of each decision as subject * width + identifier, -1 where `said` names no such thing."""
    subject = pc.index_in(decided["subject"], subjects).fill_null(-1).to_numpy().astype(np.int64)
    identifier = pc.index_in(decided["identifier"], identifiers).fill_null(-1).to_numpy().astype(np.int64)
    return np.where((subject >= 0) & (identifier >= 0), subject * width + identifier, -1)
