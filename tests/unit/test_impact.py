"""`impact` and `subject` against answers worked out by hand; `test_answers_slow` has random lives."""

import pytest
from registry_life import DAY, TARGETED, Life, said, signed

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.audience import AudienceChange, AudienceMode
from purposematch.protocol.errors import InputError
from purposematch.protocol.evidence import CollectorKey
from purposematch.protocol.identifiers import Kind
from purposematch.protocol.purpose import Origin
from purposematch.server.audiences import end_audience
from purposematch.server.erase import erase
from purposematch.server.impact import impact
from purposematch.server.lookup import guess_kind, identifier_keys, subjects_with
from purposematch.server.recorded import load_recorded, select_assertions, select_erased
from purposematch.server.registry.audiences import AudienceName
from purposematch.server.registry.happened import NEVER
from purposematch.server.selection import Selection
from purposematch.server.subject import about_subject
from purposematch.server.times import iso


@pytest.fixture
def life(tmp_path):
    made = Life(tmp_path)
    yield made
    made.registry.close()


def asked(life, selection=None, *, until=NEVER, advertiser=None):
    selection = selection or Selection()
    with life.registry.reading() as connection:
        recorded = load_recorded(connection, until)
        chosen = select_assertions(connection, recorded, selection)
        erased = select_erased(connection, recorded, selection)
        found = impact(connection, recorded, chosen, erased, advertiser)
        return found, set(recorded.said["id"].to_numpy()[chosen].tolist())


def told(life, subject):
    with life.registry.reading() as connection:
        return about_subject(connection, subject, life.now)


def test_a_selection_means_what_its_fields_say(life):
    life.rule(sources={"default": ["signup", "profile"], "crm": ["signup"]})
    life.enroll([said("a", "a@example.com", notice_id="n1"), said("b", "b@example.com", origin="profile")])
    middle = life.now + 1
    life.enroll([said("c", "c@example.com", purposes="analytics;marketing.advertising")], source="crm")
    for selection, ids in {
        Selection(): {1, 2, 3},
        Selection(notices=("n1", "n9")): {1},
        Selection(origins=(Origin.PROFILE,)): {2},
        Selection(sources=("crm",)): {3},
        Selection(purposes=("marketing",)): {1, 2, 3},
        Selection(purposes=(TARGETED,)): {1, 2},
        Selection(purposes=("marketing.advert",)): set(),
        Selection(received_from=middle): {3},
        Selection(received_to=middle): {1, 2},
        Selection(origins=(Origin.SIGNUP,), received_to=middle): {1},
    }.items():
        assert asked(life, selection)[1] == ids
    assert Selection().is_empty
    assert not Selection(received_to=0).is_empty
    assert Selection(origins=(Origin.SIGNUP,), received_to=0).to_mapping() == {
        "origins": ["signup"],
        "received_to": "1970-01-01T00:00:00Z",
    }


def test_assertions_are_chosen_by_who_signed_them(life):
    keys = {"screens": CollectorKey(b"\1" * 32), "shops": CollectorKey(b"\2" * 32)}
    life.rule(
        issuers={
            name: {
                "key": key.public_key.hex(),
                "permitted_purposes": [TARGETED],
                "permitted_origins": ["signup"],
            }
            for name, key in keys.items()
        }
    )
    report = life.enroll(
        [
            signed(keys["screens"], "screens", "a"),
            signed(keys["shops"], "shops", "b", notice_id="n1"),
            said("c", "c@example.com"),
            signed(keys["screens"], "shops", "d"),
            signed(keys["screens"], "screens", "e", notice_id="n1"),
        ]
    )
    assert report.read == 5
    life.publish()
    for selection, ids in {
        Selection(issuers=("screens",)): {1, 5},
        # What somebody signed in another one's name was laid at the door of the name.
        Selection(issuers=("shops",)): {2, 4},
        Selection(issuers=("screens", "shops")): {1, 2, 4, 5},
        Selection(issuers=("",)): {3},
        Selection(issuers=("screens",), notices=("n1",)): {5},
        Selection(issuers=("nobody",)): set(),
    }.items():
        assert asked(life, selection)[1] == ids
        assert not selection.is_empty
    assert Selection(issuers=("shops",)).to_mapping() == {"issuers": ["shops"]}
    assert asked(life, Selection(issuers=("screens",)))[0].to_mapping()["subjects"] == 2


def test_a_commit_that_admitted_through_a_newer_assertion_counts_for_that_one(life):
    life.admit("acme")
    life.enroll([said("a", "a@example.com", notice_id="old")])
    ((_, key, _),) = life.publish()
    session = life.open("acme")
    life.enroll([said("a", "a@example.com", notice_id="new")])
    life.commit(session, [("a", key, 2)])
    old, new = (asked(life, Selection(notices=(notice,)))[0].to_mapping() for notice in ("old", "new"))
    assert (old["subjects"], old["sessions"], old["subjects_in_audiences"]) == (1, 1, 0)
    assert (new["subjects"], new["sessions"], new["subjects_in_audiences"]) == (1, 1, 1)
    assert new["identifiers"] == 0


def test_whom_an_advertiser_finds_on_the_list_of_removals_counts(life):
    """It keeps the tags of its whole list, and fetches the list when somebody has left."""
    for name, disclosure in zip(("acme", "bolt", "cove", "dune"), Disclosure, strict=True):
        life.admit(name, disclosure)
    life.publish()
    life.open("acme")
    life.enroll([said("ann", "ann@example.com", notice_id="n1"), said("bob", "bob@example.com")])
    life.publish()
    life.open("cove")
    life.open("dune")
    before = life.now
    assert learned_by(life) == {"cove": (1, 0), "dune": (1, 0)}
    life.enroll([said("ann", status="withdrawn")])
    life.publish()
    left = life.now
    assert learned_by(life) == {"acme": (0, 1), "cove": (1, 0), "dune": (1, 0)}
    life.open("bolt")
    assert learned_by(life) == {"acme": (0, 1), "bolt": (0, 1), "cove": (1, 0), "dune": (1, 0)}
    assert learned_by(life, until=left - 1) == learned_by(life, until=before)
    assert learned_by(life, advertiser="acme") == {"acme": (0, 1)}
    numbers = asked(life, Selection(notices=("n1",)), advertiser="acme")[0].to_mapping()
    assert (numbers["subjects"], numbers["sessions"], numbers["generations"]) == (1, 0, 0)
    assert told(life, "ann")["advertisers"] == ["acme", "bolt", "cove", "dune"]
    assert told(life, "bob")["advertisers"] == ["bolt", "cove", "dune"]
    # Who is in the index again was not in it meanwhile.
    life.enroll([said("ann", "ann@example.com", status="renewed", not_before=iso(life.now + 1))])
    life.publish()
    assert learned_by(life)["acme"] == (0, 1)


def learned_by(life, **asking):
    """Sessions of each advertiser, and how many it may have learned of, through one notice."""
    found = asked(life, Selection(notices=("n1",)), **asking)[0].advertisers
    return {each.advertiser: (each.sessions, each.subjects_may_have_learned_of) for each in found}


def test_a_list_of_removals_is_of_one_key_epoch(life):
    life.admit("acme")
    life.publish()
    life.open("acme")
    life.enroll([said("ann", "ann@example.com", notice_id="n1")])
    life.publish()
    life.epoch = 2
    life.publish()
    life.enroll([said("ann", status="withdrawn")])
    life.publish()
    # She left after the epoch had ended in which the advertiser has tags.
    assert learned_by(life) == {}
    life.open("acme")
    assert learned_by(life) == {"acme": (0, 1)}


def test_who_was_erased_may_have_had_any_notice(life):
    life.admit("acme")
    life.enroll([said("ann", "ann@example.com", notice_id="n1"), said("bob", "bob@example.com")])
    members = life.publish()
    life.commit(life.open("acme"), sorted(members))
    erase(life.platform, "ann", [], apply=True)
    for selection, numbers in {
        Selection(): (3, 1, 1),
        Selection(notices=("n1",)): (0, 1, 1),
        Selection(notices=("n1",), origins=(Origin.PROFILE,)): (0, 0, 0),
    }.items():
        found = asked(life, selection)[0]
        assert (found.assertions, found.erased_assertions, found.erased_memberships) == numbers


def test_an_audience_that_is_over_is_counted_and_nobody_in_it(life):
    life.admit("acme")
    life.enroll([said("ann", "ann@example.com")])
    members = life.publish()
    for name in ("loyal", "loyal", "new"):
        life.commit(life.open("acme"), sorted(members), AudienceChange(name, AudienceMode.ADD))
    life.commit(life.open("acme"), sorted(members), AudienceChange("loyal", AudienceMode.REMOVE))
    before = life.now
    assert asked(life)[0].expired_audiences == 0
    end_audience(life.platform, AudienceName("acme", "", "loyal"), "the operator")
    # Also as of before: it is not known any more.
    for until in (NEVER, before):
        numbers = asked(life, until=until)[0].to_mapping()
        assert (numbers["audiences"], numbers["expired_audiences"]) == (1, 1)
    assert asked(life, until=1)[0].expired_audiences == 0
    assert asked(life, Selection(notices=("n1",)))[0].expired_audiences == 0


def test_a_subject_is_told_everything_about_itself_and_nothing_about_others(life):
    life.admit("acme")
    life.enroll(
        [
            said("ann", "J.Doe@gmail.com", notice_id="n1"),
            said("bob", "J.Doe@gmail.com", origin="two_factor"),
            said(
                "ann",
                "+15550100001",
                kind="phone",
                origin="two_factor",
                purposes="essential.service.security",
            ),
        ]
    )
    (member,) = life.publish()
    session = life.open("acme")
    life.commit(session, [member])
    life.enroll([said("", "jdoe@gmail.com", status="withdrawn"), said("cyd", status="objected")])
    life.publish()
    life.open("acme")
    about = told(life, "ann")
    assert [each["assertion"] for each in about["assertions"]] == [1, 3, 4]
    assert about["assertions"][0] | {"received_at": "", "identifier": ""} == {
        "assertion": 1,
        "subject_id": "ann",
        "identifier": "",
        "kind": "email",
        "origin": "signup",
        "purposes": [TARGETED],
        "status": "granted",
        "source": "default",
        "issuer": None,
        "notice_id": "n1",
        "delivery": 1,
        "received_at": "",
        "not_before": None,
        "expires_at": None,
        "reason_at_receipt": "PERMITTED",
        "corrections": [],
    }
    assert about["withdrawals"] == [4]
    reasons = {each["reason"] for each in about["decisions"]}
    assert reasons == {"PERMITTED", "PURPOSE_NOT_PERMITTED", "WITHDRAWN"}
    assert {each["policy"] for each in about["decisions"]} == {life.policy.digest.hex()}
    assert {each["policy_version"] for each in about["decisions"]} == {1}
    (enrolled,) = about["enrolled"]
    assert (enrolled["assertion"], enrolled["first_generation"], enrolled["last_generation"]) == (1, 1, 1)
    assert [each["session"] for each in about["sessions"]] == [session]
    assert about["advertisers"] == ["acme"]
    assert [each["session"] for each in about["audiences"]] == [session]
    assert "bob" not in str(about)
    assert told(life, "nobody")["assertions"] == []


def test_an_identifier_is_found_in_every_spelling_and_for_everybody_who_has_it(life):
    life.enroll([said("ann", "J.Doe@gmail.com"), said("bob", "jdoe@gmail.com"), said("cyd", "x@example.com")])
    with life.registry.reading() as connection:
        for spelling in ("j.doe@gmail.com", "JDOE@gmail.com", " j.d.oe+news@gmail.com"):
            keys = identifier_keys(life.registry, spelling, None, None)
            assert subjects_with(connection, keys) == ["ann", "bob"]
        assert subjects_with(connection, identifier_keys(life.registry, "y@example.com", None, None)) == []


@pytest.mark.parametrize(
    ("value", "kind"), [("+1", None), ("", None), ("no address", Kind.EMAIL), ("0" * 63 + "1", None)]
)
def test_an_identifier_that_cannot_be_read_is_refused_without_repeating_it(life, value, kind):
    with pytest.raises(InputError) as refused:
        identifier_keys(life.registry, value, kind, None)
    assert not value or value not in str(refused.value)


def test_a_digest_is_looked_up_as_the_kind_that_is_named(life):
    digest = "ab" * 32
    life.enroll([said("ann", digest, value_format="sha256")])
    with life.registry.reading() as connection:
        keys = identifier_keys(life.registry, digest.upper(), Kind.EMAIL, None)
        assert subjects_with(connection, keys) == ["ann"]
        assert subjects_with(connection, identifier_keys(life.registry, digest, Kind.PHONE, None)) == []


def test_the_kind_of_a_raw_identifier_is_guessed():
    assert guess_kind("a@example.com") is Kind.EMAIL
    assert guess_kind("+1 555 0100") is Kind.PHONE
    assert guess_kind("38400000-8cf0-11bd-b23e-10b96e40000d") is Kind.MAID


def test_a_consent_that_ran_out_is_enrolled_no_longer(life):
    life.rule(max_consent_age_days=1)
    life.enroll([said("a", "a@example.com")])
    life.publish()
    life.now += DAY
    life.publish()
    assert asked(life)[0].to_mapping()["generations"] == 1
