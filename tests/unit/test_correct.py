"""Corrections: labels that count in place of what was delivered, in one transaction, and for ever visible."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry_life import DAY, TARGETED, TAXONOMY, Life, said
from sqlalchemy import select

from purposematch.protocol.errors import InputError
from purposematch.protocol.gate import decide
from purposematch.protocol.purpose import Origin, Reason
from purposematch.server.correct import Labels, correct
from purposematch.server.recorded import load_recorded, select_assertions
from purposematch.server.registry import assertions_for_gate, corrections
from purposematch.server.registry.corrections import correct_terms, correction_after
from purposematch.server.registry.schema import assertion_chunk, corrected, correction, decision, metadata
from purposematch.server.selection import Selection
from purposematch.server.subject import about_subject

TWO_FACTOR = Labels(origin=Origin.TWO_FACTOR)


@pytest.fixture
def life(tmp_path):
    made = Life(tmp_path)
    yield made
    made.registry.close()


def run(life: Life, selection: Selection, labels: Labels = TWO_FACTOR, *, apply: bool = True):
    life.now += 60_000_000
    return correct(life.platform, selection, labels, why="it was the login screen", apply=apply)


def permitted(life: Life) -> set[str]:
    """The subjects whom the gate permits now."""
    with life.registry.reading() as connection:
        given_ = assertions_for_gate(connection)
    codes = decide(given_.assertions, life.policy, TAXONOMY, life.now).permitted().subject
    return set(given_.subjects.take(codes).to_pylist())


def content(life: Life) -> dict[str, list[tuple[object, ...]]]:
    with life.registry.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in metadata.sorted_tables
        }


def people(life: Life) -> None:
    life.enroll(
        [
            said("ann", "ann@example.com", notice_id="join-4"),
            said("bob", "bob@example.com", notice_id="join-4"),
            said("bob", "bob@example.com", notice_id="ads-7", origin="profile"),
            said("cyd", "cyd@example.com", notice_id="ads-7"),
            said("dan", "dan@example.com", notice_id="join-4", status="withdrawn"),
        ]
    )


def test_a_dry_run_says_what_would_happen_and_stores_nothing(life):
    people(life)
    life.publish()
    before = content(life)
    would = run(life, Selection(notices=("join-4",)), apply=False)
    assert content(life) == before
    done = run(life, Selection(notices=("join-4",)))
    assert would.to_mapping() | {"correction": 1} == done.to_mapping()
    # Ben's first label is corrected too, but it was his second that permitted.
    assert (done.impact.assertions, done.stops) == (2, 1)
    assert done.impact.to_mapping()["subjects"] == 1
    assert permitted(life) == {"bob", "cyd"}


def test_a_correction_keeps_the_rows_and_decides_again(life):
    people(life)
    life.publish()
    with life.registry.reading() as connection:
        rows = [tuple(row) for row in connection.execute(select(assertion_chunk))]
    run(life, Selection(notices=("join-4",)))
    with life.registry.reading() as connection:
        assert [tuple(row) for row in connection.execute(select(assertion_chunk))] == rows
        (made,) = connection.execute(select(correction)).all()
        assert [row.assertion for row in connection.execute(select(corrected))] == [1, 2]
        (last,) = connection.execute(select(decision).where(decision.c.subject == "ann")).all()
        about = about_subject(connection, "ann", life.now)
        assert (last.reason, last.granting) == (Reason.ORIGIN_NOT_PERMITTED, None)
        assert correction_after(connection, last.id - 1)
        assert not correction_after(connection, made.decisions)
    assert (made.why, made.assertions, made.origin, made.purposes) == ("it was the login screen", 2, 5, None)
    (told,) = about["assertions"]
    assert (told["origin"], told["reason_at_receipt"]) == ("signup", "PERMITTED")
    assert [(each["origin"], each["why"]) for each in told["corrections"]] == [
        ("two_factor", "it was the login screen")
    ]
    assert [each["reason"] for each in about["decisions"]] == ["PERMITTED", "ORIGIN_NOT_PERMITTED"]
    life.publish()
    assert {subject for subject, _, _ in life.generations[-1]} == {"bob", "cyd"}


@pytest.mark.parametrize("origin", [Origin.SIGNUP, Origin.MESSENGER])
def test_no_correction_takes_an_origin_out_of_those_that_never_grant(life, origin):
    people(life)
    run(life, Selection(notices=("join-4",)))
    # Also where the policy of today would not permit the new one: it may be another tomorrow.
    with pytest.raises(InputError, match="only takes permissions away"):
        run(life, Selection(origins=(Origin.TWO_FACTOR,)), Labels(origin))
    assert permitted(life) == {"bob", "cyd"}


def test_no_correction_lets_anybody_in(life):
    life.enroll([said("dee", "dee@example.com", origin="messenger", notice_id="m-1")])
    before = permitted(life)
    with pytest.raises(InputError, match="only takes permissions away"):
        run(life, Selection(notices=("m-1",)), Labels(Origin.SIGNUP))
    assert permitted(life) == before


@pytest.mark.parametrize("today", ["not begun", "permitted otherwise", "another policy"])
def test_no_correction_lets_anybody_in_later(life, today):
    """What was given for security must not wait for the day on which the gate would say yes."""
    given_ = said("eve", "eve@example.com", purposes="essential.service.security", notice_id="login")
    match today:
        case "not begun":
            life.enroll([given_ | {"not_before": "2025-07-01T00:00:00Z"}])
        case "permitted otherwise":
            life.enroll([said("eve", "eve@example.com", expires_at="2025-07-01T00:00:00Z"), given_])
        case "another policy":
            life.enroll([given_])
            life.rule(permitted_origins=["newsletter"])
    with pytest.raises(InputError, match="only takes permissions away"):
        run(life, Selection(notices=("login",)), Labels(purposes=(TARGETED,)))
    life.rule()
    life.now += 60 * DAY
    assert permitted(life) == set()


def test_no_correction_lets_anybody_in_whose_consent_has_not_begun(life):
    life.enroll(
        [said("eve", "eve@example.com", origin="messenger", notice_id="m", not_before="2025-07-01T00:00:00Z")]
    )
    with pytest.raises(InputError, match="only takes permissions away"):
        run(life, Selection(notices=("m",)), Labels(Origin.SIGNUP))


def test_a_bundle_with_security_is_not_taken_apart_by_a_correction(life):
    life.enroll([said("eve", "eve@example.com", purposes=f"{TARGETED};essential", notice_id="all-1")])
    life.rule(permitted_origins=["newsletter"])
    with pytest.raises(InputError, match="only takes permissions away"):
        run(life, Selection(notices=("all-1",)), Labels(purposes=(TARGETED,)))


def test_the_latest_correction_counts_and_selects(life):
    people(life)
    run(life, Selection(notices=("join-4",)))
    assert run(life, Selection(notices=("join-4",))).to_mapping()["assertions"] == 0
    done = run(life, Selection(origins=(Origin.TWO_FACTOR,)), Labels(Origin.CONTACT_IMPORT))
    assert (done.impact.assertions, done.stops) == (2, 0)
    assert permitted(life) == {"bob", "cyd"}
    run(life, Selection(notices=("join-4",)), Labels(purposes=("essential.service.security",)))
    assert permitted(life) == {"bob", "cyd"}
    with life.registry.reading() as connection:
        recorded = load_recorded(connection)
        chosen = select_assertions(connection, recorded, Selection(purposes=("essential",)))
        assert recorded.said["id"].to_numpy()[chosen].tolist() == [1, 2]
        # At the time of the first correction the second was not known.
        first = connection.scalar(select(correction.c.corrected_at).where(correction.c.id == 1))
        then = load_recorded(connection, first)
        chosen = select_assertions(connection, then, Selection(origins=(Origin.TWO_FACTOR,)))
        assert then.said["id"].to_numpy()[chosen].tolist() == [1, 2]


def test_a_refusal_is_never_corrected(life):
    people(life)
    done = run(life, Selection(sources=("default",)), Labels(purposes=("analytics",)))
    assert done.impact.assertions == 4
    with life.registry.reading() as connection:
        assert 5 not in connection.execute(select(corrected.c.assertion)).scalars().all()
    assert permitted(life) == set()


def test_under_strict_origins_a_correction_taints_others_too(life):
    life.rule(strict_origins=True)
    life.enroll([said("ann", "x@example.com", notice_id="join-4"), said("bob", "x@example.com")])
    for number in range(30):
        life.enroll([said(f"s{number}", f"u{number}@example.com")])
    life.publish()
    done = run(life, Selection(notices=("join-4",)))
    assert (done.impact.assertions, done.stops) == (1, 2)
    assert permitted(life) == {f"s{number}" for number in range(30)}


def test_what_arrives_later_is_judged_with_the_correction(life):
    life.rule(strict_origins=True)
    people(life)
    run(life, Selection(notices=("join-4",)))
    report = life.enroll([said("eve", "ann@example.com")])
    assert report.refused == {Reason.TAINTED: 1}


@pytest.mark.parametrize(
    ("selection", "labels", "says"),
    [
        (Selection(), TWO_FACTOR, "without a filter"),
        (Selection(notices=("n",)), Labels(), "--origin, --purposes"),
        (Selection(notices=("n",)), Labels(purposes=("marketing.ads",)), "taxonomy"),
    ],
)
def test_a_correction_that_says_too_little_is_refused(life, selection, labels, says):
    people(life)
    before = content(life)
    with pytest.raises(InputError, match=says):
        run(life, selection, labels)
    assert content(life) == before


@settings(max_examples=40)
@given(
    made=st.lists(st.dictionaries(st.integers(1, 20), st.integers(1, 9), min_size=1), max_size=4),
    asked=st.sets(st.integers(1, 20), min_size=1),
    few=st.booleans(),
)
def test_the_terms_that_count_are_those_of_the_latest_correction(made, asked, few):
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder))
        with life.registry.writing() as connection:
            for number, rows in enumerate(made, 1):
                values = {"corrected_at": number, "selection": "{}", "why": "", "decisions": 0}
                connection.execute(correction.insert().values(id=number, assertions=len(rows), **values))
                for id_, terms in rows.items():
                    row = {"assertion": id_, "correction": number, "terms": terms}
                    connection.execute(corrected.insert().values(row))
            ids = np.array(sorted(asked), np.int64)
            with pytest.MonkeyPatch.context() as patch:
                if not few:
                    patch.setattr(corrections, "_FEW", 0)
                for until in range(len(made) + 1):
                    counting: dict[int, int] = {}
                    for rows in made[:until]:
                        counting |= rows
                    found = correct_terms(connection, ids, np.zeros(len(ids), np.int64), until)
                    assert found.tolist() == [counting.get(id_, 0) for id_ in ids.tolist()]
        life.registry.close()


def test_purposes_are_what_a_correction_says(life):
    people(life)
    run(life, Selection(notices=("join-4",)), Labels(Origin.PROFILE, (TARGETED, "analytics")))
    assert permitted(life) == {"ann", "bob", "cyd"}
    with life.registry.reading() as connection:
        (told,) = about_subject(connection, "ann", life.now)["assertions"]
    assert told["corrections"][0]["purposes"] == [TARGETED, "analytics"]
