"""A random life of a registry, with everything that can happen in one, and plain counts of what came of it.

Who was enrolled through what is known from the publications themselves, and what the gate answers is asked
after every step; everything else is written down here as it happens, in Python objects, and counted one by
one. Nothing of `server.impact`, `server.subject`, `registry.history` or `registry.membership` is used.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from registry_life import DAY, TARGETED, TAXONOMY, Enrolment, Life, said, signed

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.audience import AudienceChange, AudienceMode
from purposematch.protocol.errors import InputError
from purposematch.protocol.evidence import CollectorKey
from purposematch.protocol.gate import decide
from purposematch.protocol.purpose import Origin, Reason
from purposematch.server.audiences import end_audience
from purposematch.server.correct import Labels, correct
from purposematch.server.erase import erase
from purposematch.server.lookup import identifier_keys
from purposematch.server.registry import assertions_for_gate
from purposematch.server.registry.audiences import AudienceName
from purposematch.server.selection import Selection
from purposematch.server.times import iso

SHOWS = (Disclosure.BOTH, Disclosure.ADVERTISER)
KEYS = {"screens": CollectorKey(b"\1" * 32), "shops": CollectorKey(b"\2" * 32)}
ISSUERS = {
    name: {"key": key.public_key.hex(), "permitted_purposes": [TARGETED], "permitted_origins": ["signup"]}
    for name, key in KEYS.items()
}


@dataclass
class Said:
    """An assertion, and what became of it."""

    row: dict[str, str]
    source: str
    received_at: int
    labels: list[tuple[int, str, tuple[str, ...]]]  # from when on, origin, purposes
    erased: bool = False

    def is_meant(self, selection: Selection, until: int) -> bool:
        """Whether a selection means it, as of a moment; one that was erased has no notice that is known."""
        _, origin, purposes = [each for each in self.labels if each[0] <= until][-1]
        notices = [] if self.erased else [self.row["notice_id"]]
        first, late = selection.received_from, selection.received_to
        return (
            (not selection.origins or origin in [each.label for each in selection.origins])
            and (not selection.purposes or any(_below(key, selection.purposes) for key in purposes))
            and (not selection.sources or self.source in selection.sources)
            and (not selection.issuers or self.row.get("issuer", "") in selection.issuers)
            and (not selection.notices or any(each in selection.notices for each in notices))
            and (first is None or first <= self.received_at)
            and (late is None or self.received_at < late)
        )


def _below(key: str, purposes: Sequence[str]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in purposes)


@dataclass
class Met:
    """A session, and what it did to an audience."""

    id: str
    advertiser: str
    partner: str | None
    at: int  # the position of its generation
    opened_at: int
    committed_at: int | None = None
    audience: AudienceChange | None = None
    members: list[Enrolment] = field(default_factory=list)
    ended: bool = False
    step: int = 0  # how many answers of the gate were written down when it committed

    @property
    def of(self) -> tuple[str, str | None, str]:
        """Which audience, once it committed."""
        assert self.audience is not None
        return self.advertiser, self.partner, self.audience.name

    def is_committed(self, until: int) -> bool:
        """Whether it had put somebody into an audience."""
        return (
            self.committed_at is not None
            and self.committed_at <= until
            and self.audience is not None
            and self.audience.mode.puts_in
        )


class Town(Life):
    """A random life. `answer` and `told` say what `impact` and `subject` should."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder)
        self.random = random.Random(seed)
        self.said: dict[int, Said] = {}
        self.met: list[Met] = []
        self.published: list[int] = []
        self.epochs: list[int] = []
        self.verdicts: list[dict[tuple[str, bytes], Reason]] = []  # after each step, of every pair
        self.disclosures = {
            "acme": Disclosure.BOTH,
            "bolt": Disclosure.ADVERTISER,
            "cove": Disclosure.PLATFORM,
            "dune": Disclosure.COUNT,
        }
        for name, disclosure in self.disclosures.items():
            self.admit(name, disclosure)
        self._values = {
            keyed: value
            for value in (f"u{number}@example.com" for number in range(20))
            for keyed in identifier_keys(self.registry, value, None, None)
        }
        self.delegations = {name: self.delegate(name, "agency") for name in ("acme", "cove")}
        self.rule()

    def rule(self, **changes: object) -> None:
        """Puts another policy in force: the issuers of the town, and `changes`."""
        sources = {"default": ["signup", "profile", "two_factor"], "crm": ["signup", "profile"]}
        super().rule(issuers=ISSUERS, sources=sources, **changes)

    def live(self, steps: int) -> None:
        """Lets so many things happen."""
        often = [self.deliver] * 5 + [self.issue] * 4 + [self.meet] * 10 + [self.commit_late] * 6
        seldom = [
            self.correct,
            self.correct,
            self.erase,
            self.erase,
            self.expire,
            self.rotate,
            self.legislate,
        ]
        for _ in range(steps):
            self.random.choice(often + seldom)()
            self.verdicts.append(self._verdicts())

    def _verdicts(self) -> dict[tuple[str, bytes], Reason]:
        with self.registry.reading() as connection:
            given = assertions_for_gate(connection)
        found = decide(given.assertions, self.policy, TAXONOMY, self.now)
        pairs = zip(
            given.subjects.take(pa.array(found.subjects)).to_pylist(),
            given.identifiers.take(pa.array(found.identifiers)).to_pylist(),
            strict=True,
        )
        return dict(zip(pairs, map(Reason, found.reasons.tolist()), strict=True))

    # What happens.

    def deliver(self) -> None:
        """Some rows arrive."""
        source = self.random.choice(["default", "default", "crm"])
        rows = [self._row(source) for _ in range(self.random.randrange(1, 9))]
        assert self.enroll(rows, source).read == len(rows)
        for row in rows:
            self._note(row, source)

    def _row(self, source: str) -> dict[str, str]:
        pick = self.random.choice
        subject, value = f"s{self.random.randrange(16)}", f"u{self.random.randrange(20)}@example.com"
        notice = pick(["n1", "n2", ""])
        if source == "default" and self.random.random() < 0.3:
            issuer = pick(sorted(KEYS))
            return signed(KEYS[pick([issuer, issuer, "shops"])], issuer, subject, value, notice_id=notice)
        status = pick(["granted"] * 16 + ["withdrawn"] * 4 + ["refused", "objected", "renewed", "renewed"])
        if status in ("withdrawn", "objected") and self.random.random() < 0.7:
            subject, value = pick([(subject, ""), ("", value)])
        ends = pick([None] * 8 + [5 * 60_000_000, 30 * 60_000_000])
        return said(
            subject,
            value,
            status=status,
            notice_id=notice,
            origin=pick(["signup", "signup", "profile", "profile", "two_factor"]),
            purposes=pick([TARGETED] * 5 + [f"{TARGETED};analytics", "essential.service.security"]),
            not_before=iso(self.now) if status == "renewed" else "",
            expires_at="" if ends is None else iso(self.now + ends),
        )

    def _note(self, row: dict[str, str], source: str) -> None:
        labels = (0, row["origin"], tuple(filter(None, row["purposes"].split(";"))))
        self.said[len(self.said) + 1] = Said(row, source, self.now, [labels])

    def issue(self) -> None:
        """A generation is published."""
        self.publish()
        self.published.append(self.now)
        self.epochs.append(self.epoch)

    def rotate(self) -> None:
        """The next generation is of another key epoch."""
        self.epoch += 1

    def legislate(self) -> None:
        """Another policy is in force, or an hour goes by."""
        self.rule(**self.random.choice([{}, {"strict_origins": True}, {"max_consent_age_days": 1}]))
        self.now += self.random.choice([0, DAY // 24, DAY])

    def meet(self) -> None:
        """Somebody opens a session, and may commit at once."""
        if not self.generations:
            return
        name = self.random.choice(["acme", "acme", "bolt", "cove", "cove", "dune"])
        partner = "agency" if name in self.delegations and self.random.random() < 0.2 else None
        opened = self.open(name, self.delegations[name] if partner else None)
        self.met.append(Met(opened, name, partner, len(self.generations) - 1, self.now))
        if self.random.random() < 0.5:
            self._commit(self.met[-1])

    def commit_late(self) -> None:
        """A session that was opened a while ago commits."""
        waiting = [each for each in self.met if each.committed_at is None]
        if waiting:
            self._commit(self.random.choice(waiting))

    def _commit(self, met: Met) -> None:
        if not self.disclosures[met.advertiser].makes_audience or met.committed_at is not None:
            return
        pinned = sorted(each for each in self.generations[met.at] if not self.said[each[2]].erased)
        members = self.random.sample(pinned, self.random.randrange(len(pinned) + 1))
        mode = self.random.choice([*AudienceMode])
        met.audience = AudienceChange(self.random.choice(["default", "loyal"]), mode)
        met.members = [self._admitted(each) for each in members]
        self.commit(met.id, met.members, met.audience)
        if mode is AudienceMode.REMOVE:
            met.members += self._inside_with(met)
        met.committed_at, met.step = self.now, len(self.verdicts)

    def _inside_with(self, met: Met) -> list[Enrolment]:
        """All through which those whom a session takes out of an audience were ever put in or taken out."""
        people = {subject for subject, _, _ in met.members}
        before = [each for each in self.met if each.committed_at and each.audience and each.of == met.of]
        found: dict[Enrolment, None] = {}
        for each in sorted(before, key=lambda each: each.committed_at or 0):
            assert each.audience
            if each.audience.mode is AudienceMode.REPLACE:
                found.clear()
            if not each.ended:
                found |= dict.fromkeys(each.members)
        known = [each for each in found if each[0] in people and not self.said[each[2]].erased]
        taken = {granting for _, _, granting in met.members}
        return [each for each in known if each[2] not in taken]

    def _admitted(self, pinned: Enrolment) -> Enrolment:
        """The same pair, maybe through what was said since, as the gate at a commit has it."""
        subject, keyed, granting = pinned
        own = self.said[granting].row
        same = [
            id_
            for id_, each in self.said.items()
            if id_ >= granting
            and not each.erased
            and (each.row["subject_id"], each.row["value"], each.row["status"])
            == (own["subject_id"], own["value"], "granted")
        ]
        return subject, keyed, self.random.choice([granting, *same])

    def correct(self) -> None:
        """Somebody finds out that a label was wrong."""
        selection = self.selection()
        labels = self.random.choice([Labels(Origin.TWO_FACTOR), Labels(purposes=("analytics",))])
        self.now += 60_000_000
        if selection.is_empty:
            return
        try:
            done = correct(self.platform, selection, labels, why="", apply=True)
        except InputError:
            return
        touched = 0
        for each in self.said.values():
            _, origin, purposes = each.labels[-1]
            new = (labels.origin.label if labels.origin else origin, labels.purposes or purposes)
            grants = each.row["status"] in ("granted", "renewed")
            if grants and new != (origin, purposes) and each.is_meant(selection, self.now):
                each.labels.append((self.now, *new))
                touched += 1
        assert done.impact.assertions == touched

    def erase(self) -> None:
        """Somebody is forgotten, or an address is."""
        self.now += 60_000_000
        subject, value = f"s{self.random.randrange(16)}", f"u{self.random.randrange(20)}@example.com"
        meant_by = {"subject_id": subject, "value": value}
        name = self.random.choice(["subject_id", "value"])
        keys = identifier_keys(self.registry, value, None, None) if name == "value" else []
        meant = [
            each
            for each in self.said.values()
            if not each.erased and each.source != "erasure" and each.row[name] == meant_by[name]
        ]
        try:
            done = erase(self.platform, None if keys else subject, keys, apply=True)
        except InputError:
            assert not meant
            return
        assert done.assertions == len(meant)
        for each in meant:
            each.erased = True
        entry = said("", status="objected", origin="unknown", purposes="", notice_id="")
        new = {self._values[bytes.fromhex(keyed)] for keyed in done.suppressed}
        # In the order in which they are stored.
        for value in dict.fromkeys(each.row["value"] for each in meant):
            if value in new:
                self._note(entry | {"value": value}, "erasure")

    def expire(self) -> None:
        """An audience is ended before its time."""
        names = sorted({each.of for each in self.met if each.audience and not each.ended}, key=str)
        if not names:
            return
        self.now += 60_000_000
        advertiser, partner, audience = self.random.choice(names)
        end_audience(self.platform, AudienceName(advertiser, partner or "", audience), "the operator")
        for each in self.met:
            each.ended |= each.audience is not None and each.of == (advertiser, partner, audience)

    # What is asked.

    def selection(self) -> Selection:
        """A random choice of assertions."""

        def some(*values: Any) -> tuple[Any, ...]:
            return tuple(self.random.sample(values, self.random.randrange(1, len(values))))

        fields: dict[str, Any] = {
            "origins": lambda: some(Origin.SIGNUP, Origin.PROFILE, Origin.TWO_FACTOR),
            "purposes": lambda: some("marketing", TARGETED, "essential", "analytics"),
            "sources": lambda: some("default", "crm", "erasure"),
            "issuers": lambda: some("screens", "shops", ""),
            "notices": lambda: some("n1", "n2", "n3"),
            "received_from": self.moment,
            "received_to": self.moment,
        }
        names = self.random.sample(sorted(fields), self.random.choice([0, 1, 1, 1, 2, 3]))
        return Selection(**{name: fields[name]() for name in names})

    def moment(self) -> int:
        """A time at which something happened, or just before."""
        times = [each.received_at for each in self.said.values()] + self.published
        times += [time for each in self.met for time in (each.opened_at, each.committed_at) if time]
        times += [each.opened_at for each in self.met if each.committed_at] * 2
        return self.random.choice(times or [self.now]) - self.random.choice([0, 0, 1])

    # What is true of it.

    def answer(self, selection: Selection, until: int, advertiser: str | None) -> dict[str, Any]:
        """What `impact` should say, and whom its lists should name."""
        known = {id_: each for id_, each in self.said.items() if each.received_at <= until}
        chosen = {id_ for id_, each in known.items() if each.is_meant(selection, until)}
        anyhow = Selection(**{n: getattr(selection, n) for n in selection.__slots__ if n != "notices"})
        erased = {id_ for id_, each in known.items() if each.erased and each.is_meant(anyhow, until)}
        sessions = [each for each in self.met if each.opened_at <= until]
        sessions = [each for each in sessions if advertiser in (None, each.advertiser)]
        through = {
            at: {each for each in self.generations[at] if each[2] in chosen - erased}
            for at, time in enumerate(self.published)
            if time <= until
        }
        opened_on = {each.at for each in sessions}
        left = {at: set(self._left(at, through)) for at in through}
        listed = {} if advertiser is None else self._listed(advertiser, left, sessions)
        enrolled = {
            (*each, at)
            for at, those in through.items()
            for each in those
            if advertiser is None or at in opened_on or each in listed.get(at, ())
        }
        with_enrolment = [at for at, those in through.items() if those]
        if advertiser is not None:
            with_enrolment = [at for at in with_enrolment if at in opened_on]
        put_in = {
            (each.id, subject): each
            for each in sessions
            if each.is_committed(until) and not each.ended
            for subject, _, granting in each.members
            if granting in chosen - erased
        }
        met = [each for each in sessions if through[each.at] or each.id in {id_ for id_, _ in put_in}]
        learned = {
            name: {subject for subject, _, _ in self._learned_by(name, through, left, sessions)}
            for name in self.disclosures
        }
        names = sorted({each.advertiser for each in met} | {name for name in learned if learned[name]})
        audiences = sorted({each.of for each in put_in.values()}, key=lambda of: (of[0], of[1] or "", of[2]))
        people = {subject for subject, *_ in enrolled} | {subject for _, subject in put_in}
        return {
            "assertions": len(chosen),
            "identifiers": len({identifier for _, identifier, _, _ in enrolled}),
            "subjects": len(people),
            "generations": len(with_enrolment),
            "sessions": len(met),
            "audiences": len(audiences),
            "advertisers": names,
            "partners": sorted({each.partner for each in met if each.partner}),
            "subjects_in_audiences": len({subject for _, subject in put_in}),
            "subjects_advertisers_may_have_learned_of": len(set().union(*learned.values())),
            "erased_assertions": len(erased),
            "erased_memberships": sum(
                len({granting for _, _, granting in each.members} & erased)
                for each in sessions
                if each.is_committed(until) and not each.ended
            ),
            "expired_audiences": len({each.of for each in met if each.is_committed(until) and each.ended}),
            "by_advertiser": [
                {
                    "advertiser": name,
                    "sessions": sum(each.advertiser == name for each in met),
                    "subjects_in_audiences": len(
                        {subject for (_, subject), each in put_in.items() if each.advertiser == name}
                    ),
                    "subjects_may_have_learned_of": len(learned[name]),
                }
                for name in names
            ],
            "by_audience": [
                {
                    "advertiser": of[0],
                    "partner": of[1],
                    "audience": of[2],
                    "subjects": len({subject for (_, subject), each in put_in.items() if each.of == of}),
                }
                for of in audiences
            ],
            "lists": {
                "subjects": {
                    (
                        subject,
                        subject in {each for _, each in put_in},
                        any(subject in each for each in learned.values()),
                    )
                    for subject in people
                },
                "enrolled": enrolled,
                "generations": with_enrolment,
                "sessions": {each.id for each in met},
                "memberships": {(session, *each.of, subject) for (session, subject), each in put_in.items()},
            },
        }

    def _left(self, at: int, through: dict[int, set[Enrolment]]) -> Iterator[Enrolment]:
        """Who was in a generation and was in the next one, of those there are by then, through nothing."""
        if at + 1 in through:
            there = {(subject, identifier) for subject, identifier, _ in self.generations[at + 1]}
            yield from (each for each in through[at] if each[:2] not in there)

    def _listed(
        self, name: str, left: dict[int, set[Enrolment]], sessions: Sequence[Met]
    ) -> dict[int, set[Enrolment]]:
        """Whom an advertiser with tags of its own may have found on the lists of removals, by generation."""
        if self.disclosures[name] not in SHOWS:
            return {}
        epochs = {self.epochs[each.at] for each in sessions if each.advertiser == name}
        return {at: those for at, those in left.items() if self.epochs[at] in epochs}

    def _learned_by(
        self,
        name: str,
        through: dict[int, set[Enrolment]],
        left: dict[int, set[Enrolment]],
        sessions: Sequence[Met],
    ) -> set[Enrolment]:
        """Whom an advertiser may have seen in an index, or on a list of removals."""
        if self.disclosures[name] not in SHOWS:
            return set()
        seen = [through[each.at] for each in sessions if each.advertiser == name]
        return set().union(*seen, *self._listed(name, left, sessions).values())

    def memberships(self, subject: str) -> dict[tuple[str, str | None, str], bool | None]:
        """Whether somebody is in each audience that it is or was in, as far as it follows from the steps.

        True for whom the gate permitted after every step since, False for who was taken out or took
        permission back, None where the gate refused for another reason meanwhile.
        """
        inside: dict[tuple[str, str | None, str], bool | None] = {}
        for met in sorted((each for each in self.met if each.committed_at), key=lambda each: each.step):
            assert met.audience is not None
            since = [self._since(met, each[:2]) for each in met.members if self._is_of(subject, each)]
            named = bool(since) and not met.ended
            best = True if True in since else None if None in since else False
            if met.audience.mode is AudienceMode.REPLACE:
                inside[met.of] = named and best
            elif named and met.audience.mode is AudienceMode.REMOVE:
                inside[met.of] = False
            elif named and inside.get(met.of) is not True:
                inside[met.of] = best if best is not False else inside.get(met.of, False)
        return inside

    def _is_of(self, subject: str, member: Enrolment) -> bool:
        return member[0] == subject and not self.said[member[2]].erased

    def _since(self, met: Met, pair: tuple[str, bytes]) -> bool | None:
        seen = [step.get(pair) for step in self.verdicts[met.step :]]
        if any(reason in (Reason.OBJECTED, Reason.WITHDRAWN, Reason.REFUSED) for reason in seen[1:]):
            return False
        return True if all(reason is Reason.PERMITTED for reason in seen) else None

    def told(self, subject: str) -> dict[str, Any]:
        """What `subject` should say of somebody, without what single assertions say."""
        known = {id_: each for id_, each in self.said.items() if not each.erased}
        own = {id_: each for id_, each in known.items() if each.row["subject_id"] == subject}
        values = {each.row["value"] for each in own.values()} - {""}
        about = {
            id_: each
            for id_, each in known.items()
            if id_ in own or (not each.row["subject_id"] and each.row["value"] in values)
        }
        through = {
            at: {each for each in those if each[0] == subject and each[2] in own}
            for at, those in enumerate(self.generations)
        }
        met = [each for each in self.met if through[each.at]]
        left = {at: set(self._left(at, through)) for at in through}
        learned = {name for name in self.disclosures if self._learned_by(name, through, left, self.met)}
        return {
            "assertions": sorted(about),
            "withdrawals": sorted(
                id_ for id_, each in about.items() if each.row["status"] not in ("granted", "renewed")
            ),
            "enrolled": {
                (identifier.hex(), granting, at)
                for at, those in through.items()
                for _, identifier, granting in those
            },
            "sessions": [each.id for each in met],
            "advertisers": sorted({each.advertiser for each in met} | learned),
            "may_have_learned": sorted(learned),
            "partners": sorted({each.partner for each in met if each.partner}),
            "audiences": sorted(
                (each.id, granting)
                for each in self.met
                if each.committed_at is not None and not each.ended
                for _, _, granting in each.members
                if granting in own
            ),
        }
