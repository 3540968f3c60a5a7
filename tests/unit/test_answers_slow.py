"""`impact` and `subject` say what a plain count says, over random lives of a registry."""

import pytest
from slow_answers import Town

from purposematch.server.impact import impact
from purposematch.server.recorded import load_recorded, select_assertions, select_erased
from purposematch.server.registry.audiences import AudienceName, audience_changes
from purposematch.server.registry.happened import NEVER
from purposematch.server.registry.membership import members_after
from purposematch.server.selection import Selection
from purposematch.server.subject import about_subject

QUESTIONS = 60


@pytest.fixture(params=range(8))
def town(request, tmp_path):
    made = Town(tmp_path, request.param)
    made.live(90)
    yield made
    made.registry.close()


def asked(town, selection, until, advertiser):
    with town.registry.reading() as connection:
        recorded = load_recorded(connection, until)
        chosen = select_assertions(connection, recorded, selection)
        return impact(
            connection, recorded, chosen, select_erased(connection, recorded, selection), advertiser
        )


def lists(found):
    """What the lists of an answer name, as `Town.answer` has it."""
    at = {number: place for place, number in enumerate(found.recorded.generations.numbers.tolist())}
    return {
        "subjects": {tuple(row.values()) for row in found.subjects.to_pylist()},
        "enrolled": {
            (row["subject_id"], row["identifier"], row["assertion"], place)
            for row in found.enrolments.to_pylist()
            for place in range(at[row["first_generation"]], at[row["last_generation"]] + 1)
        },
        "generations": found.generations.tolist(),
        "sessions": {each.id for each in found.sessions},
        "memberships": {
            (row["session"], row["advertiser"], row["partner"] or None, row["audience"], row["subject_id"])
            for batch in found.membership_rows()
            for row in batch.to_pylist()
        },
    }


def test_the_numbers_and_the_lists_are_those_of_a_plain_count(town):
    questions = [(Selection(), NEVER, None)]
    for _ in range(QUESTIONS):
        until = town.random.choice([NEVER, NEVER, town.moment(), town.moment()])
        questions.append((town.selection(), until, town.random.choice([None, None, *town.disclosures])))
    for selection, until, advertiser in questions:
        found = asked(town, selection, until, advertiser)
        expected = town.answer(selection, until, advertiser)
        named, counted = expected.pop("lists"), lists(found)
        assert found.to_mapping() == expected
        if advertiser is not None:
            # What somebody was enrolled through is listed whole, also for generations of no session.
            assert {each[:3] for each in counted.pop("enrolled")} == {
                each[:3] for each in named.pop("enrolled")
            }
        assert counted == named


def test_a_subject_is_told_what_a_plain_count_finds(town):
    for subject in [f"s{number}" for number in range(16)]:
        with town.registry.reading() as connection:
            about = about_subject(connection, subject, town.now)
            expected = town.told(subject)
            named = ("withdrawals", "advertisers", "may_have_learned", "partners")
            found = {name: about[name] for name in named}
            found["assertions"] = [each["assertion"] for each in about["assertions"]]
            found["enrolled"] = {
                (each["identifier"], each["assertion"], number - 1)
                for each in about["enrolled"]
                for number in range(each["first_generation"], each["last_generation"] + 1)
            }
            found["sessions"] = [each["session"] for each in about["sessions"]]
            found["audiences"] = sorted((each["session"], each["assertion"]) for each in about["audiences"])
            assert found == expected
            for each in about["audiences"]:
                of = AudienceName(each["advertiser"], each["partner"] or "", each["audience"])
                inside = members_after(connection, audience_changes(connection, of), town.now)
                assert each["member"] == (subject in inside.subjects.to_pylist())


def test_whoever_took_permission_back_is_in_no_audience_any_more(town):
    for subject in [f"s{number}" for number in range(16)]:
        expected = town.memberships(subject)
        with town.registry.reading() as connection:
            for (advertiser, partner, audience), inside in expected.items():
                of = AudienceName(advertiser, partner or "", audience)
                members = members_after(connection, audience_changes(connection, of), town.now)
                found = subject in members.subjects.to_pylist()
                assert inside is None or found == inside


def test_lives_have_everything_in_them(tmp_path_factory):
    """So that the comparisons above compare something."""
    totals: dict[str, int] = {}
    for seed in range(8):
        town = Town(tmp_path_factory.mktemp("town"), seed)
        town.live(90)
        answer = town.answer(Selection(), NEVER, None)
        answer["epochs"] = len(set(town.epochs)) - 1
        answer["corrected"] = sum(len(each.labels) > 1 for each in town.said.values())
        inside = [each for number in range(16) for each in town.memberships(f"s{number}").values()]
        answer |= {"members": inside.count(True), "no members": inside.count(False)}
        answer["disclosures"] = len({each.advertiser for each in town.met}) == 4
        for name, value in answer.items():
            totals[name] = totals.get(name, 0) + (len(value) if isinstance(value, list | dict) else value)
        town.registry.close()
    assert all(totals.values()), totals
