"""Who was enrolled through given assertions, in which generations and sessions, and who learned of it.

Everything follows from the history of the pairs (`registry.history`): a pair counts as enrolled through an
assertion in the generations in which that assertion was what permitted it. Of people in audiences the number
is exact: the platform stored them. Of people that an advertiser learned of it cannot be, since nobody but the
advertiser knows its list: everybody who was enrolled through these assertions while a session of a disclosure
that shows matches to the advertiser was opened counts, and everybody who left in a key epoch in which it had
such a session: with the tags of its whole list it would find them on the list of removals.

Memory: about 150 bytes for each assertion of the registry, and 8 for each membership of an audience.

Not protected against: what advertisers keep, or passed on.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.ascending import ascending
from purposematch.protocol.audience import AudienceMode
from purposematch.server.recorded import Recorded
from purposematch.server.registry.columns import decision_columns, row_of
from purposematch.server.registry.happened import (
    Generations,
    Session,
    consent_ages,
    load_sessions,
)
from purposematch.server.registry.history import History, pair_history
from purposematch.server.registry.members import load_members
from purposematch.server.registry.schema import audience_change, commit

__all__ = [
    "MEMBERSHIP_SCHEMA",
    "AdvertiserImpact",
    "AudienceImpact",
    "Impact",
    "Memberships",
    "impact",
]

MEMBERSHIP_SCHEMA: Final = pa.schema(
    [(name, pa.string()) for name in ("session", "advertiser", "partner", "audience", "subject_id")]
)
"""The columns of `Impact.membership_rows`."""

_Item = TypeVar("_Item")
_Name = TypeVar("_Name", str, tuple[str, str, str])


@dataclass(frozen=True, slots=True)
class AdvertiserImpact:
    """What one advertiser has to do with it: sessions, and the two numbers of subjects as in `Impact`."""

    advertiser: str
    sessions: int
    subjects_in_audiences: int
    subjects_may_have_learned_of: int


@dataclass(frozen=True, slots=True)
class AudienceImpact:
    """An audience of an advertiser, or of one that a partner brought lists for, and how many subjects were
    ever put into it through these assertions."""

    advertiser: str
    partner: str | None
    audience: str
    subjects: int


@dataclass(frozen=True, eq=False)
class Memberships:
    """Whom one session put into its audience through these assertions: (m,) int64 codes of subjects."""

    session: Session
    audience: str
    members: NDArray[np.int64]

    @property
    def name(self) -> tuple[str, str, str]:
        """Advertiser, partner (empty if none) and audience: what tells one audience from another."""
        return self.session.advertiser, self.session.partner or "", self.audience


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
        memberships: those of each session that put somebody into an audience. Sessions that take people out
            of an audience make nobody a member.
        audiences: the audiences of these, in order.
        advertisers: those who opened these sessions, or may have learned of somebody otherwise, by name.
        erased_assertions: how many that were erased may have been meant: nobody can say whom they enrolled.
        erased_memberships: memberships of audiences through these; whose is not known any more either.
        expired_audiences: audiences that one of these sessions put people into who are deleted by now, their
            time being over; nobody can say who they were.
        recorded: what the answer was taken from.
        names: code -> subject id.
    """

    assertions: int
    enrolments: pa.Table = field(repr=False)
    subjects: pa.Table = field(repr=False)
    generations: NDArray[np.int64]
    sessions: list[Session]
    memberships: list[Memberships] = field(repr=False)
    audiences: list[AudienceImpact]
    advertisers: list[AdvertiserImpact]
    erased_assertions: int
    erased_memberships: int
    expired_audiences: int
    recorded: Recorded = field(repr=False)
    names: pa.StringArray = field(repr=False)

    def membership_rows(self) -> Iterator[pa.RecordBatch]:
        """A row for each membership, a batch for each session: `MEMBERSHIP_SCHEMA`, partner empty if none.

        All at once they would take a hundred bytes each, and there can be ten million.
        """
        for each in self.memberships:
            alike = [pa.repeat(text, len(each.members)) for text in (each.session.id, *each.name)]
            people = self.names.take(pa.array(each.members))
            yield pa.record_batch([*alike, people], schema=MEMBERSHIP_SCHEMA)

    def to_mapping(self) -> dict[str, object]:
        """The numbers, as `impact --json` prints them."""
        return {
            "assertions": self.assertions,
            "identifiers": len(self.enrolments["identifier"].unique()),
            "subjects": len(self.subjects),
            "generations": len(self.generations),
            "sessions": len(self.sessions),
            "audiences": len(self.audiences),
            "advertisers": [each.advertiser for each in self.advertisers],
            "partners": sorted({each.partner for each in self.sessions if each.partner is not None}),
            "subjects_in_audiences": _true(self.subjects["in_audiences"]),
            "subjects_advertisers_may_have_learned_of": _true(self.subjects["advertisers_may_have_learned"]),
            "erased_assertions": self.erased_assertions,
            "erased_memberships": self.erased_memberships,
            "expired_audiences": self.expired_audiences,
            "by_advertiser": [asdict(each) for each in self.advertisers],
            "by_audience": [asdict(each) for each in self.audiences],
        }


def impact(
    connection: Connection,
    recorded: Recorded,
    chosen: NDArray[np.bool_],
    erased: NDArray[np.bool_],
    advertiser: str | None = None,
) -> Impact:
    """The consequences of the assertions `chosen`.

    Args:
        connection: the snapshot that `recorded` was loaded from.
        recorded: what to look at.
        chosen: which assertions, (n,) bool.
        erased: which of those that were erased may have been meant, (n,) bool.
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
    left = history.departures(events, generations)
    if advertiser is not None:
        met = _reached(history, events, opened_on, len(generations))
        met |= _listed(left, generations, sessions)
        events, left = events[met], left[met]
    change = np.bincount(history.begin[events], minlength=len(generations) + 1)
    change -= np.bincount(history.end[events], minlength=len(generations) + 1)
    with_enrolment = np.cumsum(change)[:-1] > 0
    if advertiser is not None:
        with_enrolment &= np.bincount(opened_on, minlength=len(generations)) > 0
    # A commit may have admitted a pair through a newer assertion than the one that its generation had.
    memberships, erased_memberships = _memberships(connection, recorded, history, chosen | erased, sessions)
    made_members = {each.session.id for each in memberships}
    meant = with_enrolment[opened_on].tolist()
    every = _grouped(sessions, lambda each: each.advertiser)
    sessions = [each for each, on in zip(sessions, meant, strict=True) if on or each.id in made_members]

    people = history.subject[history.pair[events]]
    may_know = np.zeros(len(history.subjects), bool)
    put_in = _grouped(memberships, lambda each: each.session.advertiser)
    advertisers = []
    concerned_by = _grouped(sessions, lambda each: each.advertiser)
    for name, theirs in every.items():
        shown_on = np.array([each.generation for each in theirs if each.shows_advertiser], np.int64)
        seen = _reached(history, events, shown_on, len(generations)) | _listed(left, generations, theirs)
        learned = np.zeros(len(history.subjects), bool)
        learned[people[seen]] = True
        opened = len(concerned_by.get(name, []))
        if opened or learned.any():
            may_know |= learned
            in_theirs = len(_subjects(put_in.get(name, [])))
            advertisers.append(AdvertiserImpact(name, opened, in_theirs, int(np.count_nonzero(learned))))
    audiences = [
        AudienceImpact(advertiser, partner or None, audience, len(_subjects(theirs)))
        for (advertiser, partner, audience), theirs in _grouped(memberships, lambda each: each.name).items()
    ]
    in_audiences = np.zeros(len(history.subjects), bool)
    in_audiences[_subjects(memberships)] = True
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
        memberships=memberships,
        audiences=audiences,
        advertisers=advertisers,
        erased_assertions=int(np.count_nonzero(erased)),
        erased_memberships=erased_memberships,
        expired_audiences=_expired(connection, sessions, until),
        recorded=recorded,
        names=history.subjects,
    )


def _reached(
    history: History, events: NDArray[np.int64], opened_on: NDArray[np.int64], generations: int
) -> NDArray[np.bool_]:
    """Which of `events` were in force at a generation in `opened_on`: (k,) bool."""
    before = np.zeros(generations + 1, np.int64)
    before[1:] = np.cumsum(np.bincount(opened_on, minlength=generations)[:generations])
    reached: NDArray[np.bool_] = before[history.end[events]] > before[history.begin[events]]
    return reached


def _listed(left: NDArray[np.int64], generations: Generations, sessions: list[Session]) -> NDArray[np.bool_]:
    """Which departures, (k,) key epochs, an advertiser may have found on a list of removals: (k,) bool.

    It has tags to look for in the epochs of its sessions.
    """
    shown_on = np.array([each.generation for each in sessions if each.shows_advertiser], np.int64)
    return np.isin(left, generations.epochs[shown_on])


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


def _memberships(
    connection: Connection,
    recorded: Recorded,
    history: History,
    chosen: NDArray[np.bool_],
    sessions: list[Session],
) -> tuple[list[Memberships], int]:
    """Those of `sessions` that put somebody into an audience through the assertions `chosen`, by session; and
    how many memberships are of assertions that were erased: each counts, for nobody knows whose it was."""
    by_id = {each.id: each for each in sessions}
    ids = recorded.said["id"].to_numpy()
    question = (
        select(audience_change.c.number, audience_change.c.session, audience_change.c.audience)
        .join(commit, commit.c.session == audience_change.c.session)
        .where(commit.c.committed_at <= recorded.until)
        .where(audience_change.c.mode != AudienceMode.REMOVE.value)
        .where(audience_change.c.ended_at.is_(None))
        .order_by(audience_change.c.session)
    )
    found, erased = [], 0
    for number, session, audience in connection.execute(question).all():
        if session not in by_id:
            continue
        place = row_of(ids, load_members(connection, number))
        speakers = history.speaker[place[chosen[place]]]
        members = ascending(speakers[speakers >= 0])
        erased += int(np.count_nonzero(speakers < 0))
        if len(members):
            found.append(Memberships(by_id[session], audience, members))
    return found, erased


def _expired(connection: Connection, sessions: list[Session], until: int) -> int:
    """How many audiences these sessions had put people into by then of whom nothing is left."""
    by_id = {each.id: each for each in sessions}
    question = (
        select(audience_change.c.session, audience_change.c.audience)
        .join(commit, commit.c.session == audience_change.c.session)
        .where(commit.c.committed_at <= until)
        .where(audience_change.c.mode != AudienceMode.REMOVE.value)
        .where(audience_change.c.ended_at.is_not(None))
    )
    rows = connection.execute(question).all()
    return len(
        {
            (by_id[session].advertiser, by_id[session].partner, audience)
            for session, audience in rows
            if session in by_id
        }
    )


def _subjects(memberships: list[Memberships]) -> NDArray[np.int64]:
    """The distinct subjects of some memberships, (m,) codes."""
    return ascending(np.concatenate([each.members for each in memberships] or [np.zeros(0, np.int64)]))


def _grouped(items: Iterable[_Item], name: Callable[[_Item], _Name]) -> dict[_Name, list[_Item]]:
    """The items of each name, in the order of names."""
    groups: dict[_Name, list[_Item]] = {}
    for each in items:
        groups.setdefault(name(each), []).append(each)
    return dict(sorted(groups.items()))


def _true(column: pa.ChunkedArray) -> int:
    return int(np.count_nonzero(column.to_numpy()))
