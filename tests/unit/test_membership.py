"""Who is in an audience, after sessions and after what people said since."""

import pytest
from registry_life import DAY, START, Life, said

from purposematch.protocol.audience import AudienceChange, AudienceMode
from purposematch.protocol.purpose import Origin
from purposematch.server.correct import Labels, correct
from purposematch.server.erase import erase
from purposematch.server.registry.audiences import AudienceName, audience_changes
from purposematch.server.registry.membership import members_after
from purposematch.server.selection import Selection
from purposematch.server.subject import about_subject
from purposematch.server.times import iso

ACME = AudienceName("acme", "", "default")
ADD = AudienceChange("default", AudienceMode.ADD)
OUT_OF_IT = AudienceChange("default", AudienceMode.REMOVE)


@pytest.fixture
def village(tmp_path):
    """Ann and Bob in the audience of acme, through an address each; Ann gave another one, too."""
    life = Life(tmp_path)
    life.admit("acme")
    life.enroll(
        [said("ann", "ann@example.com"), said("bob", "bob@example.com"), said("ann", "a2@example.com")]
    )
    life.publish()
    match(life)
    yield life
    life.registry.close()


def match(life, change=ADD, subjects=("ann", "bob")):
    """A session that matches what these people are enrolled through, but for the second address."""
    session = life.open("acme")
    members = sorted(each for each in life.generations[-1] if each[0] in subjects and each[2] != 3)
    life.commit(session, members, change)


def inside(life):
    """Who is in, and how many have left; `subject` says the same."""
    with life.registry.reading() as connection:
        members = members_after(connection, audience_changes(connection, ACME), life.now)
        found = sorted(members.subjects.unique().to_pylist())
        for subject in ("ann", "bob"):
            told = {each["member"] for each in about_subject(connection, subject, life.now)["audiences"]}
            assert told <= {subject in found}
    return found, members.left


@pytest.mark.parametrize(
    "taken",
    [
        said("ann", status="withdrawn"),
        said("ann", "ann@example.com", status="refused"),
        said("ann", status="withdrawn", purposes="marketing"),
    ],
    ids=["by subject", "refused", "with a broader use"],
)
def test_whoever_takes_permission_back_leaves_until_another_match(village, taken):
    village.enroll([taken])
    assert inside(village) == (["bob"], 1)
    village.enroll(
        [said("ann", "ann@example.com", status="renewed", not_before=iso(village.now + 1_000_000))]
    )
    village.publish()
    # Enrolled again, and nobody matched it since.
    assert "ann" in {subject for subject, _, _ in village.generations[-1]}
    assert inside(village) == (["bob"], 1)
    match(village)
    assert inside(village) == (["ann", "bob"], 0)


@pytest.mark.parametrize(
    "taken", [said("ann", status="objected"), said("", "ann@example.com", status="withdrawn")]
)
def test_what_no_renewal_lifts_is_for_good(village, taken):
    village.enroll([taken])
    assert inside(village) == (["bob"], 1)
    village.enroll(
        [said("ann", "ann@example.com", status="renewed", not_before=iso(village.now + 1_000_000))]
    )
    village.publish()
    assert inside(village) == (["bob"], 1)


@pytest.mark.parametrize(
    "other",
    [
        said("ann", "ann@example.com", status="withdrawn", purposes="analytics"),
        said("ann", "ann@example.com", origin="two_factor", purposes="essential.service.security"),
        said("ann", "a2@example.com", status="withdrawn"),
        said("bob", "ann@example.com", status="granted"),
    ],
    ids=["another use", "a security prompt", "another address", "somebody else's consent"],
)
def test_what_leaves_the_permission_alone_leaves_the_member_in(village, other):
    village.enroll([other])
    village.publish()
    assert inside(village) == (["ann", "bob"], 0)


def test_whom_a_policy_refuses_is_out_while_it_does(village):
    village.rule(permitted_origins=["profile"])
    village.publish()
    assert inside(village) == ([], 2)
    village.rule()
    village.publish()
    assert inside(village) == (["ann", "bob"], 0)


def test_whose_label_was_wrong_is_out(village):
    labels, meant = Labels(Origin.TWO_FACTOR), Selection(received_from=START)
    village.now += 1
    correct(village.platform, meant, labels, why="a screen for codes", apply=True)
    assert inside(village) == ([], 2)
    # Asked again, and properly, she is enrolled; her match came of the wrong label.
    village.enroll([said("ann", "ann@example.com", origin="profile")])
    village.publish()
    assert inside(village) == ([], 2)
    match(village)
    assert inside(village) == (["ann"], 1)


def test_whoever_is_permitted_without_the_wrong_label_stays(village):
    village.enroll([said("ann", "ann@example.com", notice_id="codes")])
    village.publish()
    village.now += 1
    labels, meant = Labels(Origin.TWO_FACTOR), Selection(notices=("codes",))
    # What was said first permits her from now on.
    assert correct(village.platform, meant, labels, why="", apply=True).stops == 0
    assert inside(village) == (["ann", "bob"], 0)


@pytest.mark.parametrize("others", [0, 40])
def test_whoever_was_erased_is_nobody(village, others):
    """Also where so few of all are in the audience that only what is said of them is read."""
    village.enroll([said(f"c{number}", f"c{number}@example.com") for number in range(others)])
    for subject, left in ("bob", ["ann"]), ("ann", []):
        erase(village.platform, subject, [], apply=True)
        assert inside(village) == (left, 0)


def test_whoever_was_taken_out_stays_out_when_the_address_that_was_matched_is_erased(village):
    for subjects in (("ann", "bob"), ()):
        session = village.open("acme")
        pairs = [each for each in village.generations[-1] if each[0] in subjects or each[2] == 3]
        village.commit(session, pairs, ADD)
    assert inside(village) == (["ann", "bob"], 0)
    match(village, OUT_OF_IT, subjects=("ann",))
    (address,) = [key for subject, key, granting in village.generations[-1] if granting == 1]
    erase(village.platform, None, [address], apply=True)
    assert inside(village) == (["bob"], 0)


def test_whoever_a_session_took_out_has_not_left(village):
    village.enroll([said("ann", status="withdrawn")])
    match(village, OUT_OF_IT)
    assert inside(village) == ([], 0)


def test_a_time_that_is_over_keeps_nobody(village):
    village.now += 500 * DAY
    assert inside(village) == ([], 0)
