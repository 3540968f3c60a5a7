"""Who was enrolled through given assertions, in which generations and sessions, and who learned of it.

Everything follows from the history of the pairs (`registry.history`): a pair counts as enrolled through an
assertion in the generations in which that assertion was what permitted it. Of people in audiences the number
is exact: the platform stored them. Of people that an advertiser learned of it cannot be, since nobody but the
advertiser knows its list: everybody who was enrolled through these assertions while a session of a disclosure
that shows matches to the advertiser was opened counts.

Memory: about 150 bytes for each assertion of the registry.

Not protected against: what advertisers keep, or passed on.
"""

from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.ascending import ascending
from purposematch.protocol.audience import AudienceMode
from purposematch.server.registry.columns import assertion_columns, decision_columns, row_of
from purposematch.server.registry.corrections import correct_terms
from purposematch.server.registry.erasures import erased_among
from purposematch.server.registry.happened import (
    NEVER,
    Deliveries,
    Generations,
    Session,
    consent_ages,
    load_deliveries,
    load_generations,
    load_sessions,
)
from purposematch.server.registry.history import HISTORY_COLUMNS, History, pair_history
from purposematch.server.registry.members import load_members
from purposematch.server.registry.schema import audience_change, commit
from purposematch.server.registry.terms_rows import load_terms
from purposematch.server.selection import SELECTION_COLUMNS, Selection

__all__ = ["AdvertiserImpact", "Impact", "Recorded", "impact", "load_recorded", "select_assertions"]


@dataclass(frozen=True, eq=False)
class Recorded:
    """What the registry held at a moment, n assertions.

    Attributes:
        until: the moment, microseconds since 1970.
        said: n rows, `id` and the columns for selection and history.
        terms: (n,) int64, `terms.id`, corrections included.
        received_at: (n,) int64.
        deliveries: all of them.
        generations: all of them.
    """

    until: int
    said: pa.Table = field(repr=False)
    terms: NDArray[np.int64]
    received_at: NDArray[np.int64]
    deliveries: Deliveries
    generations: Generations


@dataclass(frozen=True, slots=True)
class AdvertiserImpact:
    """What one advertiser has to do with it: sessions, and the two numbers of subjects as in `Impact`."""

    advertiser: str
    sessions: int
    subjects_in_audiences: int
    subjects_may_have_learned_of: int


@dataclass(frozen=True, eq=False)
class Impact:
    """The consequences of some assertions.

    Attributes:
        assertions: how many were meant.
        enrolments: a row for each pair and assertion that enrolled it: subject_id, identifier (keyed digest),
            assertion, first_generation and last_generation (numbers).
        subjects: a row for each subject enrolled or in an audience: subject_id, in_audiences,
            advertisers_may_have_learned.
        generations: positions in `recorded.generations` of those with an enrolment.
        sessions: those opened on these generations, and those that made one of the audiences.
        audiences: a row for each membership: session, advertiser, partner (empty if none), audience,
            subject_id. Sessions that take people out of an audience make nobody a member.
        advertisers: those who opened these sessions, by name.
        erased_assertions: how many of the assertions were erased: nobody can say whom they enrolled.
        erased_memberships: memberships of audiences through these; whose is not known any more either.
        recorded: what the answer was taken from.
    """

    assertions: int
    enrolments: pa.Table = field(repr=False)
    subjects: pa.Table = field(repr=False)
    generations: NDArray[np.int64]
    sessions: list[Session]
    audiences: pa.Table = field(repr=False)
    advertisers: list[AdvertiserImpact]
    erased_assertions: int
    erased_memberships: int
    recorded: Recorded = field(repr=False)

    def to_mapping(self) -> dict[str, object]:
        """The numbers, as `impact --json` prints them."""
        return {
            "assertions": self.assertions,
            "identifiers": len(self.enrolments["identifier"].unique()),
            "subjects": len(self.subjects),
            "generations": len(self.generations),
            "sessions": len(self.sessions),
            "audiences": len(self._by_audience()),
            "advertisers": [each.advertiser for each in self.advertisers],
            "partners": sorted({each.partner for each in self.sessions if each.partner is not None}),
            "subjects_in_audiences": len(self.audiences["subject_id"].unique()),
            "subjects_advertisers_may_have_learned_of": int(
                np.count_nonzero(self.subjects["advertisers_may_have_learned"].to_numpy())
            ),
            "erased_assertions": self.erased_assertions,
            "erased_memberships": self.erased_memberships,
            "by_advertiser": [asdict(each) for each in self.advertisers],
            "by_audience": [
                {
                    "advertiser": advertiser,
                    "partner": partner or None,
                    "audience": audience,
                    "subjects": subjects,
                }
                for advertiser, partner, audience, subjects in self._by_audience()
            ],
        }

    def _by_audience(self) -> list[tuple[str, str, str, int]]:
        """Every audience, and how many subjects were ever put into it."""
        names = ["advertiser", "partner", "audience"]
        counted = self.audiences.group_by(names).aggregate([("subject_id", "count_distinct")])
        columns = [counted[name].to_pylist() for name in (*names, "subject_id_count_distinct")]
        return sorted(zip(*columns, strict=True))


def load_recorded(connection: Connection, until: int = NEVER) -> Recorded:
    """Everything that was received, published and corrected at or before `until`."""
    deliveries = load_deliveries(connection, until)
    names = dict.fromkeys([*HISTORY_COLUMNS, *SELECTION_COLUMNS, "terms"])
    said = assertion_columns(connection, list(names))
    if until != NEVER:
        # A clock may have been set back, so a later delivery may have an earlier time.
        everything = load_deliveries(connection)
        received = everything.received_at[everything.places(said["id"].to_numpy())]
        said = said.filter(pa.array(received <= until))
    ids = said["id"].to_numpy()
    return Recorded(
        until=until,
        said=said,
        terms=correct_terms(connection, ids, said["terms"].to_numpy(), until),
        received_at=deliveries.received_at[deliveries.places(ids)],
        deliveries=deliveries,
        generations=load_generations(connection, until),
    )


def select_assertions(connection: Connection, recorded: Recorded, selection: Selection) -> NDArray[np.bool_]:
    """Which assertions of `recorded` a selection means, (n,) bool, by the labels that counted then."""
    table, ids = load_terms(connection)
    terms = np.searchsorted(ids, recorded.terms)
    return selection.chosen(recorded.said, terms, table, recorded.received_at)


def impact(
    connection: Connection, recorded: Recorded, chosen: NDArray[np.bool_], advertiser: str | None = None
) -> Impact:
    """The consequences of the assertions `chosen`, (n,) bool.

    Args:
        connection: the snapshot that `recorded` was loaded from.
        recorded: what to look at.
        chosen: which assertions.
        advertiser: look at the sessions of this one only, and at whom it had to do with.
    """
    until, generations = recorded.until, recorded.generations
    decided = decision_columns(connection)
    decided = decided.filter(pa.array(decided["decided_at"].to_numpy() <= until))
    history = pair_history(
        recorded.said, decided, recorded.deliveries, generations, consent_ages(connection), chosen
    )
    sessions = load_sessions(connection, generations, until)
    if advertiser is not None:
        sessions = [each for each in sessions if each.advertiser == advertiser]
    opened_on = np.array([each.generation for each in sessions], np.int64)

    # A pair may be permitted through an assertion that was not chosen.
    ids = recorded.said["id"].to_numpy()
    events = history.enrolled
    events = events[chosen[row_of(ids, history.granting[events])]]
    if advertiser is not None:
        events = events[_reached(history, events, opened_on, len(generations))]
    change = np.bincount(history.begin[events], minlength=len(generations) + 1)
    change -= np.bincount(history.end[events], minlength=len(generations) + 1)
    with_enrolment = np.cumsum(change)[:-1] > 0
    if advertiser is not None:
        with_enrolment &= np.bincount(opened_on, minlength=len(generations)) > 0
    # A commit may have admitted a pair through a newer assertion than the one that its generation had.
    member_of, members, audience_of = _audiences(connection, recorded, history, chosen, sessions)
    known = members >= 0
    erased_memberships = int(np.count_nonzero(~known))
    member_of, members = member_of[known], members[known]
    meant = with_enrolment[opened_on]
    meant[member_of] = True
    member_of = (np.cumsum(meant) - 1)[member_of]
    sessions = [each for each, kept in zip(sessions, meant.tolist(), strict=True) if kept]

    people = history.subject[history.pair[events]]
    in_audiences = np.zeros(len(history.subjects), bool)
    in_audiences[members] = True
    may_know = np.zeros(len(history.subjects), bool)
    advertisers = []
    for name in sorted({each.advertiser for each in sessions}):
        theirs = [each for each in sessions if each.advertiser == name]
        shown_on = np.array([each.generation for each in theirs if each.shows_advertiser], np.int64)
        learned = np.zeros(len(history.subjects), bool)
        learned[people[_reached(history, events, shown_on, len(generations))]] = True
        may_know |= learned
        own = np.array([each.advertiser == name for each in sessions], bool)[member_of]
        advertisers.append(
            AdvertiserImpact(name, len(theirs), len(ascending(members[own])), int(np.count_nonzero(learned)))
        )
    concerned = in_audiences.copy()
    concerned[people] = True
    people = np.flatnonzero(concerned)
    return Impact(
        assertions=int(np.count_nonzero(chosen)),
        enrolments=_enrolments(history, events, generations),
        subjects=pa.table(
            {
                "subject_id": history.subjects.take(pa.array(people)),
                "in_audiences": pa.array(in_audiences[people]),
                "advertisers_may_have_learned": pa.array(may_know[people]),
            }
        ),
        generations=np.flatnonzero(with_enrolment),
        sessions=sessions,
        audiences=pa.table(
            {
                "session": pa.array([each.id for each in sessions], pa.string()).take(pa.array(member_of)),
                "advertiser": pa.array([each.advertiser for each in sessions], pa.string()).take(
                    pa.array(member_of)
                ),
                "partner": pa.array([each.partner or "" for each in sessions], pa.string()).take(
                    pa.array(member_of)
                ),
                "audience": pa.array([audience_of.get(each.id) for each in sessions], pa.string()).take(
                    pa.array(member_of)
                ),
                "subject_id": history.subjects.take(pa.array(members)),
            }
        ),
        advertisers=advertisers,
        erased_assertions=int(np.count_nonzero(erased_among(connection, ids[chosen]))),
        erased_memberships=erased_memberships,
        recorded=recorded,
    )


def _reached(
    history: History, events: NDArray[np.int64], opened_on: NDArray[np.int64], generations: int
) -> NDArray[np.bool_]:
    """Which of `events` were in force at a generation in `opened_on`: (k,) bool."""
    before = np.zeros(generations + 1, np.int64)
    before[1:] = np.cumsum(np.bincount(opened_on, minlength=generations)[:generations])
    reached: NDArray[np.bool_] = before[history.end[events]] > before[history.begin[events]]
    return reached


def _enrolments(history: History, events: NDArray[np.int64], generations: Generations) -> pa.Table:
    pair = history.pair[events]
    return pa.table(
        {
            "subject_id": history.subjects.take(pa.array(history.subject[pair])),
            "identifier": history.identifiers.take(pa.array(history.identifier[pair])),
            "assertion": pa.array(history.granting[events]),
            "first_generation": pa.array(generations.numbers[history.begin[events]]),
            "last_generation": pa.array(generations.numbers[history.end[events] - 1]),
        }
    )


def _audiences(
    connection: Connection,
    recorded: Recorded,
    history: History,
    chosen: NDArray[np.bool_],
    sessions: list[Session],
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, str]]:
    """Distinct memberships through the assertions `chosen`: positions in `sessions`, and subject codes; and
    the name of every session's audience.

    Of an assertion that was erased the code is -1; each of these is a membership of its own.
    """
    position = {each.id: at for at, each in enumerate(sessions)}
    ids = recorded.said["id"].to_numpy()
    question = (
        select(audience_change.c.number, audience_change.c.session, audience_change.c.audience)
        .join(commit, commit.c.session == audience_change.c.session)
        .where(commit.c.committed_at <= recorded.until)
        .where(audience_change.c.mode != AudienceMode.REMOVE.value)
        .where(audience_change.c.ended_at.is_(None))
        .order_by(audience_change.c.session)
    )
    parts, named = [], {}
    for number, session, audience in connection.execute(question).all():
        if session not in position:
            continue
        named[session] = audience
        granting = load_members(connection, number)
        place = row_of(ids, granting)
        speakers = history.speaker[place[chosen[place]]]
        members = np.concatenate([speakers[speakers < 0], ascending(speakers[speakers >= 0])])
        parts.append((np.full(len(members), position[session]), members))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), {}
    sessions_of, members_of = zip(*parts, strict=True)
    return np.concatenate(sessions_of), np.concatenate(members_of), named
