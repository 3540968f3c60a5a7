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

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.ascending import ascending
from purposematch.protocol.audience import AudienceMode
from purposematch.server.impact_result import AdvertiserImpact, AudienceImpact, Impact, Memberships
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

__all__ = ["impact"]

_Item = TypeVar("_Item")
_Name = TypeVar("_Name", str, tuple[str, str, str])


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

    people, everybody = history.subject[history.pair[events]], len(history.subjects)
    may_know = np.zeros(everybody, bool)
    made_by = _grouped(memberships, lambda each: each.session.advertiser)
    concerned_by = _grouped(sessions, lambda each: each.advertiser)
    advertisers = []
    for name, theirs in every.items():
        shown_on = np.array([each.generation for each in theirs if each.shows_advertiser], np.int64)
        seen = _reached(history, events, shown_on, len(generations)) | _listed(left, generations, theirs)
        learned = np.zeros(everybody, bool)
        learned[people[seen]] = True
        opened = len(concerned_by.get(name, []))
        if opened or learned.any():
            may_know |= learned
            put_in = int(np.count_nonzero(_put_in(made_by.get(name, []), everybody)))
            advertisers.append(AdvertiserImpact(name, opened, put_in, int(np.count_nonzero(learned))))
    audiences = [
        AudienceImpact(
            *(advertiser, partner or None, audience), int(np.count_nonzero(_put_in(theirs, everybody)))
        )
        for (advertiser, partner, audience), theirs in _grouped(memberships, lambda each: each.name).items()
    ]
    in_audiences = _put_in(memberships, everybody)
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
    found, erased = [], 0
    for number, session, audience in _made_members(connection, recorded.until, ended=False):
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
    return len(
        {
            (by_id[session].advertiser, by_id[session].partner, audience)
            for _, session, audience in _made_members(connection, until, ended=True)
            if session in by_id
        }
    )


def _made_members(connection: Connection, until: int, *, ended: bool) -> list[tuple[int, str, str]]:
    """Number, session and audience of what sessions did by then that put somebody in, by session.

    Args:
        connection: a snapshot.
        until: microseconds since 1970.
        ended: those whose members are deleted by now, or the others.
    """
    question = (
        select(audience_change.c.number, audience_change.c.session, audience_change.c.audience)
        .join(commit, commit.c.session == audience_change.c.session)
        .where(commit.c.committed_at <= until)
        .where(audience_change.c.mode != AudienceMode.REMOVE.value)
        .where(audience_change.c.ended_at.is_not(None) if ended else audience_change.c.ended_at.is_(None))
        .order_by(audience_change.c.session)
    )
    return [tuple(row) for row in connection.execute(question)]


def _put_in(memberships: list[Memberships], everybody: int) -> NDArray[np.bool_]:
    """Which of so many subjects are in some of the memberships, by code, (everybody,) bool."""
    marks = np.zeros(everybody, np.bool_)
    for each in memberships:
        marks[each.members] = True
    return marks


def _grouped(items: Iterable[_Item], name: Callable[[_Item], _Name]) -> dict[_Name, list[_Item]]:
    """The items of each name, in the order of names."""
    groups: dict[_Name, list[_Item]] = {}
    for each in items:
        groups.setdefault(name(each), []).append(each)
    return dict(sorted(groups.items()))
