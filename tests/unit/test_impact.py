"""`impact` and `subject` against what publishing did, and against answers worked out by hand."""

import random
from hashlib import sha256

import pytest
from registry_life import DAY, START, TARGETED, Life, said

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.errors import InputError
from purposematch.protocol.evidence import CollectedAssertion, CollectorKey, sign_assertion
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.purpose import Origin, Status
from purposematch.server.impact import impact
from purposematch.server.lookup import guess_kind, identifier_keys, subjects_with
from purposematch.server.recorded import load_recorded, select_assertions
from purposematch.server.registry.happened import NEVER
from purposematch.server.selection import Selection
from purposematch.server.subject import about_subject

NOBODY_ERASED = {"erased_assertions": 0, "erased_memberships": 0}


@pytest.fixture
def life(tmp_path):
    made = Life(tmp_path)
    yield made
    made.registry.close()


def asked(life, selection=None, *, until=NEVER, advertiser=None):
    with life.registry.reading() as connection:
        recorded = load_recorded(connection, until)
        chosen = select_assertions(connection, recorded, selection or Selection())
        return impact(connection, recorded, chosen, advertiser), set(
            recorded.said["id"].to_numpy()[chosen].tolist()
        )


def told(life, subject):
    with life.registry.reading() as connection:
        return about_subject(connection, subject, life.now)


class Town(Life):
    """A random life of a registry, with sessions, and the plain answer to every question about it."""

    def __init__(self, folder, seed):
        super().__init__(folder)
        self.random = random.Random(seed)
        self.sessions: list[tuple[str, str, int, int]] = []  # id, advertiser, generation, opened at
        self.audiences: list[tuple[str, str, int, int]] = []  # session, subject, granting, committed at
        self.published: list[int] = []
        self.disclosures = {"acme": Disclosure.BOTH, "bolt": Disclosure.ADVERTISER, "cove": Disclosure.COUNT}
        for name, disclosure in self.disclosures.items():
            self.admit(name, disclosure)

    def live(self, steps):
        for _ in range(steps):
            self.random.choice([self.deliver, self.deliver, self.issue, self.meet, self.meet])()

    def deliver(self):
        pick = self.random.choice
        self.enroll(
            [
                said(
                    f"s{self.random.randrange(12)}",
                    f"u{self.random.randrange(15)}@example.com",
                    status=pick(["granted"] * 5 + ["withdrawn"]),
                    notice_id=pick(["n1", "n2", ""]),
                    origin=pick(["signup", "profile", "two_factor"]),
                )
                for _ in range(self.random.randrange(1, 6))
            ]
        )

    def issue(self):
        self.publish()
        self.published.append(self.now)

    def meet(self):
        if not self.generations:
            return
        name = self.random.choice(sorted(self.disclosures))
        opened, at = self.open(name), len(self.generations) - 1
        self.sessions.append((opened, name, at, self.now))
        if self.disclosures[name] is Disclosure.BOTH:
            enrolled = sorted(self.generations[at])
            members = self.random.sample(enrolled, self.random.randrange(len(enrolled) + 1))
            self.commit(opened, members)
            self.audiences += [(opened, subject, granting, self.now) for subject, _, granting in members]

    def answer(self, chosen, until, advertiser):
        sessions = [each for each in self.sessions if each[3] <= until and advertiser in (None, each[1])]
        generations = [at for at, time in enumerate(self.published) if time <= until]
        if advertiser is not None:
            generations = [at for at in generations if any(at == each[2] for each in sessions)]
        through = {at: {each for each in self.generations[at] if each[2] in chosen} for at in generations}
        enrolled = set().union(*through.values())
        met = [each for each in sessions if through[each[2]]]
        ids = {each[0] for each in met}
        owner = {each[0]: each[1] for each in met}
        in_audience = [a for a in self.audiences if a[0] in ids and a[2] in chosen and a[3] <= until]
        learned = {
            subject
            for _, name, at, _ in met
            if self.disclosures[name] is not Disclosure.COUNT
            for subject, _, _ in through[at]
        }
        return {
            "identifiers": len({identifier for _, identifier, _ in enrolled}),
            "subjects": len({subject for subject, _, _ in enrolled}),
            "generations": sum(bool(each) for each in through.values()),
            "sessions": len(met),
            "audiences": len({owner[each[0]] for each in in_audience}),
            "advertisers": sorted({each[1] for each in met}),
            "partners": [],
            "subjects_in_audiences": len({each[1] for each in in_audience}),
            "subjects_advertisers_may_have_learned_of": len(learned),
            "by_audience": [
                {
                    "advertiser": name,
                    "partner": None,
                    "audience": "default",
                    "subjects": len({each[1] for each in in_audience if owner[each[0]] == name}),
                }
                for name in sorted({owner[each[0]] for each in in_audience})
            ],
        }


@pytest.mark.parametrize("seed", range(6))
def test_the_numbers_are_those_of_a_plain_count(tmp_path, seed):
    town = Town(tmp_path, seed)
    town.live(30)
    times = [NEVER, *(each[3] for each in town.sessions[::3])]
    for selection in (Selection(), Selection(notices=("n1",)), Selection(origins=(Origin.PROFILE,))):
        for until in times:
            for advertiser in (None, "acme", "cove"):
                found, chosen = asked(town, selection, until=until, advertiser=advertiser)
                expected = {
                    "assertions": len(chosen),
                    **town.answer(chosen, until, advertiser),
                    **NOBODY_ERASED,
                }
                expected["by_advertiser"] = [
                    {
                        "advertiser": each,
                        "sessions": alone["sessions"],
                        "subjects_in_audiences": alone["subjects_in_audiences"],
                        "subjects_may_have_learned_of": alone["subjects_advertisers_may_have_learned_of"],
                    }
                    for each in expected["advertisers"]
                    for alone in [town.answer(chosen, until, each)]
                ]
                assert found.to_mapping() == expected
    town.registry.close()


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


def signed(key, issuer, subject, **other):
    """A row whose evidence `issuer` gave, or somebody who only says so."""
    row = said(subject, f"{subject}@example.com", **other)
    assertion = CollectedAssertion(
        issuer=issuer,
        source="default",
        subject=subject,
        kind=Kind.EMAIL,
        digest=sha256(row["value"].encode()).digest(),
        purposes=(TARGETED,),
        origin=Origin.parse(row["origin"]),
        status=Status.GRANTED,
        notice=row["notice_id"],
        collected_at=START,
    )
    return row | assertion.cells(sign_assertion(key, "birdsite", Profile.PLAIN, assertion))


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
