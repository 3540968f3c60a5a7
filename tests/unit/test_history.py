"""The history of pairs is what publishing did: compared over random lives of a registry."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry_life import DAY, TARGETED, Life, said

from purposematch.protocol.purpose import Reason
from purposematch.server.registry.columns import NONE, assertion_columns, decision_columns, naming
from purposematch.server.registry.happened import consent_ages, load_deliveries, load_generations
from purposematch.server.registry.history import HISTORY_COLUMNS, History, pair_history
from purposematch.server.times import iso


def history_of(life: Life, subjects: list[str] | None = None) -> History:
    with life.registry.reading() as connection:
        ids = None if subjects is None else naming(connection, subjects, [])
        said_ = assertion_columns(connection, HISTORY_COLUMNS, ids)
        identifiers = None if subjects is None else said_["identifier"].drop_null().unique().to_pylist()
        return pair_history(
            said_,
            decision_columns(connection, identifiers),
            load_deliveries(connection),
            load_generations(connection),
            consent_ages(connection),
        )


def enrolled(history: History, generation: int) -> set[tuple[str, bytes, int]]:
    subjects, identifiers = history.subjects.to_pylist(), history.identifiers.to_pylist()
    return {
        (
            subjects[history.subject[history.pair[event]]],
            identifiers[history.identifier[history.pair[event]]],
            int(history.granting[event]),
        )
        for event in history.enrolled.tolist()
        if history.begin[event] <= generation < history.end[event]
    }


def check(life: Life) -> None:
    history = history_of(life)
    for number, truth in enumerate(life.generations):
        assert enrolled(history, number) == truth
    # The same of a few, through the indexes.
    few = history_of(life, ["s0", "s1"])
    for number, truth in enumerate(life.generations):
        assert enrolled(few, number) == {each for each in truth if each[0] in ("s0", "s1")}


rows = st.tuples(
    st.sampled_from(["s0", "s1", "s2", ""]),
    st.sampled_from(
        ["a@example.com", "b@example.com", "B@example.com", "j.doe@gmail.com", "jdoe@gmail.com", ""]
    ),
    st.sampled_from(["granted", "granted", "granted", "withdrawn", "refused", "objected", "renewed"]),
    st.sampled_from(["signup", "signup", "two_factor", "partner"]),
    st.sampled_from([TARGETED, TARGETED, "essential.service.security", "marketing"]),
    # Expires so many microseconds after a publication at once could be: also while it is under way.
    st.sampled_from([None, None, None, 60, 200, 30_000_000]),
)
steps = st.lists(
    st.one_of(
        st.lists(rows, min_size=1, max_size=4),
        st.just("publish"),
        st.just("publish"),
        st.sampled_from(
            [{}, {"strict_origins": True}, {"max_consent_age_days": 1}, {"permitted_origins": ["partner"]}]
        ),
        st.just("a day"),
    ),
    max_size=14,
)


@settings(max_examples=60)
@given(steps=steps)
def test_the_history_says_who_was_in_each_generation_and_through_what(steps):
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder))
        try:
            for step in steps:
                if step == "publish":
                    life.publish()
                elif step == "a day":
                    life.now += DAY
                elif isinstance(step, dict):
                    life.rule(**step)
                else:
                    deliver(life, step)
            life.publish()
            check(life)
        finally:
            life.registry.close()


def deliver(life: Life, drawn: list[tuple[str, str, str, str, str, int | None]]) -> None:
    delivered = []
    for subject, value, status, origin, purpose, lasting in drawn:
        if not subject and not value:
            continue
        times = {"not_before": iso(life.now)} if status == "renewed" else {}
        if lasting:
            # A minute passes until the delivery and another until it is published.
            times["expires_at"] = iso(life.now + 120_000_000 + lasting)
        delivered.append(said(subject, value, status=status, origin=origin, purposes=purpose, **times))
    if delivered:
        life.enroll(delivered)


@pytest.fixture
def life(tmp_path):
    made = Life(tmp_path)
    yield made
    made.registry.close()


def test_the_events_of_a_pair_tell_its_answers_in_order(life):
    life.enroll([said("s0", "a@example.com")])
    life.publish()
    life.enroll([said("s0", status="withdrawn")])
    life.publish()
    history = history_of(life)
    assert history.reason.tolist() == [Reason.PERMITTED, Reason.WITHDRAWN]
    assert history.decided.tolist() == [False, True]
    assert history.granting.tolist() == [1, NONE]
    assert (history.begin.tolist(), history.end.tolist()) == ([0, 1], [1, 2])
    assert history.latest.tolist() == [1]
    assert history.id.tolist() == [1, 1]


def test_a_decision_stands_over_the_last_assertion_that_it_was_made_from(life):
    life.enroll([said("s0", "a@example.com")])
    life.publish()
    life.rule(permitted_origins=["partner"])
    life.publish()
    life.rule()
    life.publish()
    check(life)
    assert [bool(each) for each in life.generations] == [True, False, True]


@pytest.mark.parametrize("policy", [{}, {"max_consent_age_days": 1}])
def test_a_consent_that_ends_while_a_generation_is_made_was_not_in_it(life, policy):
    life.rule(**policy)
    times = {} if policy else {"expires_at": iso(life.now + 120_000_000 + 60)}
    life.enroll([said("s0", "a@example.com", **times), said("s1", "b@example.com")])
    # Of a consent that is a day old at most, the last microsecond is what a minute later is just over.
    life.now += DAY - 60_000_000 if policy else 0
    assert len(life.publish()) == (0 if policy else 1)
    check(life)
    assert len(history_of(life).enrolled) == (0 if policy else 1)


def test_what_no_generation_covers_yet_was_never_enrolled(life):
    life.publish()
    life.enroll([said("s0", "a@example.com")])
    history = history_of(life)
    assert (history.begin.tolist(), history.end.tolist()) == ([1], [1])
    assert not len(history.enrolled)


def test_nothing_has_no_history(life):
    history = history_of(life)
    assert len(history.pair) == len(history.latest) == 0
    life.enroll([said("", "a@example.com", status="withdrawn"), said("s0", status="withdrawn")])
    assert len(history_of(life).pair) == 0


def test_whole_columns_and_chosen_rows_are_the_same(life):
    life.enroll([said(f"s,{i}", f"ü{i}@example.com", notice_id="") for i in range(5)])
    life.enroll(
        [said("", "a@example.com", status="withdrawn", notice_id="n1"), said("s0é", status="objected")]
    )
    names = ("subject", "identifier", "kind", "terms", "notice", "not_before", "expires_at", "flaw", "reason")
    with life.registry.reading() as connection:
        everything = assertion_columns(connection, names)
        each = assertion_columns(connection, names, np.arange(1, 8))
    assert everything.to_pylist() == each.to_pylist()
    assert everything["subject"].null_count == 1
    assert everything["identifier"].null_count == 1
