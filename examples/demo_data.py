"""Two files for the demo, and the truth about them.

`write_demo_data` writes what a platform and an advertiser might really hold: accounts.csv, one assertion per
row, and customers.csv, a customer list. Both are made up from a seed: e-mail addresses lie under the reserved
domains of RFC 2606, phone numbers end in 01XX as numbers in films do.

The truth about them uses nothing of purposematch. A story says of each account whether its owner gave the
e-mail or the phone for advertising, and every value is written by spelling out a canonical form that is known
before; so what may match is a matter of looking it up.
"""

import base64
import csv
import hashlib
import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

__all__ = ["STORIES", "Identifier", "Row", "Truth", "write_demo_data"]

ADVERTISING = "marketing.advertising.third_party.targeted"
SECURITY = "essential.service.security"
NEWSLETTER = "marketing.communications.email"

FIRST_NAMES = ("ana", "ben", "chloe", "dmitri", "femi", "grace", "hiro", "josé", "mei", "nadia", "olu", "zoë")
LAST_NAMES = ("adler", "castro", "diallo", "evans", "garcía", "haddad", "ito", "kovacs", "müller", "ng")
DOMAINS = ("example.com", "example.net", "example.org", "mail.example", "shop.test")
ASSERTION_COLUMNS = (
    *("subject_id", "kind", "value", "value_format", "purposes", "origin", "status", "notice_id"),
    *("not_before", "expires_at", "hash_profile"),
)
CUSTOMER_COLUMNS = ("customer_id", "email", "phone", "email_sha256", "phone_sha256", "last_order")


class Identifier(NamedTuple):
    """An identifier as its owner would write it carefully: kind and canonical value (profile plain-v1)."""

    kind: str
    canonical: str


class Statement(NamedTuple):
    """One assertion of a story; times are days from now."""

    kind: str
    origin: str
    purposes: str = ADVERTISING
    status: str = "granted"
    begins: int = -300
    ends: int | None = 400
    subject: str = "account"  # or "housemate": another account; or "": a refusal for all subjects
    form: str = "any"  # or "other profile", "junk", "no offset": a row that can not be used


class Story(NamedTuple):
    """What became of an account's identifiers; `permitted` are the kinds that were given for advertising."""

    weight: int
    name: str
    permitted: tuple[str, ...]
    statements: tuple[Statement, ...]


_EMAIL = Statement("email", "newsletter")
_PHONE = Statement("phone", "purchase")

STORIES = (
    Story(22, "newsletter", ("email",), (_EMAIL,)),
    Story(14, "purchase", ("email", "phone"), (_EMAIL, _PHONE)),
    Story(6, "given twice in one delivery", ("email",), (_EMAIL, _EMAIL)),
    Story(12, "phone for two-factor", ("email",), (_EMAIL, Statement("phone", "two_factor", SECURITY))),
    Story(6, "two-factor labelled as advertising", (), (Statement("phone", "two_factor"),)),
    Story(2, "e-mail for two-factor", (), (Statement("email", "two_factor", SECURITY),)),
    Story(5, "phone for recovery", ("email",), (_EMAIL, Statement("phone", "account_recovery"))),
    Story(4, "phone from an address book", (), (Statement("phone", "contact_import"),)),
    Story(2, "both in one sentence", (), (Statement("phone", "signup", f"{SECURITY};{ADVERTISING}"),)),
    Story(2, "phone given again", ("phone",), (Statement("phone", "two_factor", SECURITY), _PHONE)),
    Story(
        *(1, "a family's phone", ("phone",)),
        (Statement("phone", "two_factor", SECURITY), _PHONE._replace(subject="housemate")),
    ),
    Story(4, "expired", (), (Statement("email", "signup", begins=-900, ends=-30),)),
    Story(1, "not yet", (), (Statement("email", "signup", begins=30),)),
    Story(4, "withdrawn", (), (_EMAIL, Statement("email", "profile", status="withdrawn", begins=-20))),
    Story(2, "refused", (), (Statement("email", "signup", status="refused"),)),
    Story(
        *(2, "objected, whatever the account", ()),
        (_PHONE, Statement("phone", "profile", status="objected", subject="")),
    ),
    Story(
        *(1, "changed their mind", ("email",)),
        (
            _EMAIL,
            Statement("email", "profile", status="withdrawn", begins=-90),
            Statement("email", "profile", status="renewed", begins=-10),
        ),
    ),
    Story(3, "for the newsletter alone", (), (Statement("email", "newsletter", NEWSLETTER),)),
    Story(1, "for advertising in general", (), (Statement("email", "signup", "marketing.advertising"),)),
    Story(1, "a purpose nobody knows", (), (Statement("email", "signup", "marketing.everything"),)),
    Story(1, "an origin nobody knows", (), (Statement("phone", "carrier_pigeon"),)),
    Story(2, "bought from a broker", (), (Statement("email", "data_broker"),)),
    Story(1, "hashed under another profile", (), (_EMAIL._replace(form="other profile"),)),
    Story(1, "a time without offset", (), (_EMAIL._replace(form="no offset"),)),
    Story(1, "no such address", (), (_EMAIL._replace(form="junk"),)),
    Story(1, "no such number", (), (_PHONE._replace(form="junk"),)),
)
_ONE_ROW = STORIES[0]


class Row(NamedTuple):
    """What a row of the customer list holds: its usable identifiers."""

    identifiers: tuple[Identifier, ...]


@dataclass(frozen=True)
class Truth:
    """What is known of the two files before anything has read them.

    Attributes:
        permitted: identifiers that at least one account gave for advertising and nobody took back.
        two_factor_only: identifiers that every assertion about them calls `two_factor`.
        rows: the customer list, row by row.
    """

    permitted: frozenset[Identifier]
    two_factor_only: frozenset[Identifier]
    rows: tuple[Row, ...]

    def matched(self) -> list[str]:
        """The column `matched` of the right answer: true, false, or empty for a row that can not be used."""
        return [
            str(not self.permitted.isdisjoint(row.identifiers)).lower() if row.identifiers else ""
            for row in self.rows
        ]

    def listed(self) -> frozenset[Identifier]:
        """The distinct identifiers of the customer list."""
        return frozenset(identifier for row in self.rows for identifier in row.identifiers)


def write_demo_data(folder: Path, *, seed: int, accounts: int, customers: int, now: datetime) -> Truth:
    """Writes accounts.csv and customers.csv into `folder`.

    Args:
        folder: exists.
        seed: the same seed and time give the same files.
        accounts: assertions in accounts.csv, at least one.
        customers: rows in customers.csv.
        now: the time from which the ages of consents are counted, with offset.
    """
    chance = random.Random(seed)  # noqa: S311 - made-up data, no secrets
    platform = _Platform(chance, now)
    while len(platform.rows) < accounts:
        room = accounts - len(platform.rows) >= 3
        platform.tell(chance.choices(STORIES, [story.weight for story in STORIES])[0] if room else _ONE_ROW)
    chance.shuffle(platform.rows)
    _write(folder / "accounts.csv", ASSERTION_COLUMNS, platform.rows)

    advertiser = _Advertiser(chance, platform.people)
    while len(advertiser.rows) < customers:
        advertiser.add_row()
    _write(folder / "customers.csv", CUSTOMER_COLUMNS, advertiser.rows)
    return Truth(
        frozenset(platform.permitted),
        frozenset(one for one, origins in platform.origins.items() if origins == {"two_factor"}),
        tuple(map(Row, advertiser.identifiers)),
    )


def _write(path: Path, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


class _Person(NamedTuple):
    number: int
    email: Identifier
    phone: Identifier


def _person(chance: random.Random, number: int) -> _Person:
    """Person `number`, whose e-mail and phone are nobody else's."""
    name = f"{chance.choice(FIRST_NAMES)}.{chance.choice(LAST_NAMES)}{number}"
    exchange, rest = divmod(number, 720 * 100)
    area, line = divmod(rest, 100)
    # Area codes have a second digit of 0 to 8; 720 of them with 100 lines each before the exchange changes.
    phone = f"+1{2 + area // 90}{area % 90:02d}{555 + exchange}01{line:02d}"
    return _Person(
        number, Identifier("email", f"{name}@{chance.choice(DOMAINS)}"), Identifier("phone", phone)
    )


@dataclass
class _Platform:
    """Collects assertions, and what is true of them."""

    chance: random.Random
    now: datetime
    people: list[_Person] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    permitted: set[Identifier] = field(default_factory=set)
    origins: dict[Identifier, set[str]] = field(default_factory=dict)

    def tell(self, story: Story) -> None:
        """Adds an account that has this story."""
        person = _person(self.chance, len(self.people))
        self.people.append(person)
        own = {"email": person.email, "phone": person.phone}
        self.permitted.update(own[kind] for kind in story.permitted)
        for statement in story.statements:
            self.rows.append(self._row(statement, person.number, own[statement.kind]))
            if statement.form != "junk":
                self.origins.setdefault(own[statement.kind], set()).add(statement.origin)

    def _row(self, statement: Statement, number: int, identifier: Identifier) -> list[str]:
        subjects = {"account": f"u{number:07d}", "housemate": f"u{number:07d}-b", "": ""}
        form, profile, value = "raw", "", _spelled(self.chance, identifier)
        if statement.form == "junk":
            value = _junk(self.chance, identifier.kind)
        elif statement.form == "other profile":
            form, profile, value = "sha256", "google-v1", _hashed(self.chance, identifier)
        elif self.chance.random() < 0.15:
            form, value = "sha256", _hashed(self.chance, identifier)
        ends = "" if statement.ends is None else self._time(statement.ends)
        begins = self._time(statement.begins)
        if statement.form == "no offset":
            begins = begins.removesuffix("+00:00")
        notice = f"{statement.origin}-{self.now.year - 1}"
        said = (statement.purposes, statement.origin, statement.status, notice)
        return [subjects[statement.subject], identifier.kind, value, form, *said, begins, ends, profile]

    def _time(self, days: int) -> str:
        return (self.now + timedelta(days=days)).isoformat(timespec="seconds")


@dataclass
class _Advertiser:
    """Collects customers: half of them have an account with the platform."""

    chance: random.Random
    people: list[_Person]
    rows: list[list[str]] = field(default_factory=list)
    identifiers: list[tuple[Identifier, ...]] = field(default_factory=list)
    _strangers: int = 0

    def add_row(self) -> None:
        """Adds a customer, now and then one who was added before or of whom nothing useful is known."""
        luck = self.chance.random()
        if luck < 0.03:
            kind = self.chance.choice(("email", "phone"))
            junk = _junk(self.chance, kind)
            self._append((), junk if kind == "email" else "", junk if kind == "phone" else "", "", "")
        elif luck < 0.06 and self.rows:
            self._spell_out(self.chance.choice(self.identifiers))
        else:
            person = self._customer()
            known = self.chance.choices(((person.email,), (person.phone,), person[1:]), (5, 2, 3))[0]
            self._spell_out(known)

    def _customer(self) -> _Person:
        if self.chance.random() < 0.5:
            return self.chance.choice(self.people)
        self._strangers += 1
        person = _person(self.chance, len(self.people) + self._strangers)
        if self.chance.random() < 0.1:
            # Under plain-v1 an address with a suffix is another address: it matches nobody's.
            known = self.chance.choice(self.people).email.canonical
            tagged = known.replace("@", f"+shop{self._strangers}@")
            return person._replace(email=Identifier("email", tagged))
        return person

    def _spell_out(self, identifiers: tuple[Identifier, ...]) -> None:
        cells = {"email": "", "phone": "", "email_sha256": "", "phone_sha256": ""}
        hashed = self.chance.random() < 0.1
        for identifier in identifiers:
            if hashed:
                cells[f"{identifier.kind}_sha256"] = _hashed(self.chance, identifier)
            else:
                cells[identifier.kind] = _spelled(self.chance, identifier)
        self._append(identifiers, *cells.values())

    def _append(self, identifiers: tuple[Identifier, ...], *cells: str) -> None:
        order = f"{self.chance.randrange(5, 900)}.{self.chance.randrange(100):02d}"
        self.rows.append([f"C{len(self.rows) + 1:06d}", *cells, order])
        self.identifiers.append(identifiers)


_EMAIL_SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    str,
    str.upper,
    str.title,
    lambda text: f" {text}  ",
    lambda text: f"\u00a0{text}",
    lambda text: unicodedata.normalize("NFD", text),
)
_PHONE_SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    str,
    str,
    lambda text: f"{text[:2]} ({text[2:5]}) {text[5:8]}-{text[8:]}",
    lambda text: f"{text[:2]}.{text[2:5]}.{text[5:8]}.{text[8:]}",
    lambda text: f" {text[:2]}-{text[2:5]}-{text[5:8]}-{text[8:]} ",
    lambda text: f"{text[:2]}\u00a0{text[2:5]}\u00a0{text[5:8]}\u2011{text[8:]}",
    lambda text: "+" + "".join(chr(0xFF10 + int(digit)) for digit in text[1:]),
    lambda text: f"({text[2:5]}) {text[5:8]}-{text[8:]}",  # as dialled within the region US
)
_JUNK = {
    "email": (
        "null",
        "n/a",
        "test@test.com",
        "anna.example.com",
        "@example.com",
        "two words@example.com",
        "",
    ),
    "phone": ("none", "12345", "+0 800 555 0100", "ask at the desk", "+1 212 555 0142 ext. 7", "---", ""),
}


def _spelled(chance: random.Random, identifier: Identifier) -> str:
    """One of the ways in which people write an identifier."""
    spellings = _EMAIL_SPELLINGS if identifier.kind == "email" else _PHONE_SPELLINGS
    return chance.choice(spellings)(identifier.canonical)


def _hashed(chance: random.Random, identifier: Identifier) -> str:
    """One of the ways in which systems write SHA-256."""
    digest = hashlib.sha256(identifier.canonical.encode()).digest()
    return chance.choice((digest.hex(), digest.hex().upper(), base64.b64encode(digest).decode()))


def _junk(chance: random.Random, kind: str) -> str:
    return chance.choice(_JUNK[kind])
