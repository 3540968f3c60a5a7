"""A registry whose life is told in steps: deliveries, publications without files, sessions, commits.

Publishing takes the decisions and the choice of pairs from the code that a platform runs and leaves the
tags out. What was enrolled in each generation is kept beside, as the truth that answers are compared with.
"""

import csv
import io
import itertools
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from sqlalchemy import func, select

from purposematch.protocol.agreement import LATEST_EXPIRY, Agreement, Disclosure
from purposematch.protocol.agreement_document import Acceptance, AgreementDocument
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.evidence import CollectedAssertion, CollectorKey, sign_assertion
from purposematch.protocol.gate import decide
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.policy import DEFAULT_POLICY_TOML, Policy
from purposematch.protocol.purpose import Origin, Status
from purposematch.server.enroll import EnrollReport, enroll
from purposematch.server.evaluation import enrolled_identifiers
from purposematch.server.keys import RootKey, derive_keys
from purposematch.server.registry import (
    Registry,
    assertions_for_gate,
    highest_assertion,
    highest_decision,
    open_registry,
    policy_id,
    record_decisions,
)
from purposematch.server.registry.agreements import add_agreement
from purposematch.server.registry.audiences import AudienceName, add_change
from purposematch.server.registry.schema import (
    advertiser,
    audience_change,
    commit,
    delegation,
    generation,
    session,
)
from purposematch.server.registry.sessions import SessionState
from purposematch.server.taxonomy import load_taxonomy
from purposematch.tables import open_table

KEYS = derive_keys(RootKey(b"r" * 32))
TAXONOMY = load_taxonomy()
TARGETED = "marketing.advertising.third_party.targeted"
START = 1_750_000_000_000_000
DAY = 86_400_000_000
COLUMNS = (
    *("subject_id", "kind", "value", "value_format", "purposes", "origin", "status"),
    *("notice_id", "not_before", "expires_at"),
)

Enrolment = tuple[str, bytes, int]
"""Subject, keyed digest, granting assertion."""


def said(subject: str, value: str = "", **other: str) -> dict[str, str]:
    """A row of an account file: a grant for advertising unless something else is said."""
    row = dict.fromkeys(COLUMNS, "") | {
        "subject_id": subject,
        "kind": "email" if value else "",
        "value": value,
        "value_format": "raw" if value else "",
        "purposes": TARGETED,
        "origin": "signup",
        "status": "granted",
    }
    return row | other


def signed(key: CollectorKey, issuer: str, subject: str, value: str = "", **other: str) -> dict[str, str]:
    """A row of somebody's e-mail address, with evidence that `issuer` gave, or another key in its name."""
    row = said(subject, value or f"{subject}@example.com", **other)
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


class Life:
    """A registry in a folder. Every step takes a minute unless a test moves the clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = START
        self.registry: Registry = open_registry(
            folder / "registry.sqlite", KEYS.identifier, KEYS.sealing, Profile.PLAIN
        )
        self.rule()
        self.generations: list[set[Enrolment]] = []
        self.epoch = 1
        self._numbers = itertools.count(1)
        self._agreements: dict[str, bytes] = {}
        self._partners: dict[bytes | None, str] = {None: ""}
        self._brought: dict[str, tuple[str, str]] = {}

    @property
    def platform(self) -> Any:
        """What commands need of a platform that runs no server and publishes no files."""
        return SimpleNamespace(
            registry=self.registry,
            taxonomy=TAXONOMY,
            policy=lambda: self.policy,
            clock=lambda: self.now,
            random_bytes=secrets.token_bytes,
            config=SimpleNamespace(platform_id="birdsite"),
        )

    def rule(self, **changes: object) -> None:
        """Puts another policy in force: the default one with `changes`."""
        self.policy = Policy.from_mapping(tomllib.loads(DEFAULT_POLICY_TOML) | changes, TAXONOMY)

    def enroll(self, rows: Sequence[Mapping[str, str]], source: str = "default") -> EnrollReport:
        """Delivers rows."""
        self.now += 60_000_000
        text = io.StringIO()
        columns = dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)])
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file = self.folder / "delivery.csv"
        file.write_text(text.getvalue())
        with open_table(file) as table:
            return enroll(
                table,
                self.registry,
                self.policy,
                TAXONOMY,
                lambda: self.now,
                platform_id="birdsite",
                source=source,
            )

    def publish(self) -> set[Enrolment]:
        """Publishes; who is in the generation, and through what."""
        self.now += 60_000_000
        with self.registry.writing() as connection:
            given = assertions_for_gate(connection)
            decisions = decide(given.assertions, self.policy, TAXONOMY, self.now)
            policy = policy_id(connection, self.policy, self.now)
            record_decisions(connection, given, decisions, policy, self.now, secrets.token_bytes)
            found = enrolled_identifiers(given, decisions.permitted(), self.policy, self.now)
            rows = np.searchsorted(given.ids, found.granting)
            subjects = given.subjects.take(given.assertions.subject[rows]).to_pylist()
            identifiers = given.identifiers.take(given.assertions.identifier[rows]).to_pylist()
            enrolled = set(zip(subjects, identifiers, found.granting.tolist(), strict=True))
            self.add_generation(connection, len(self.generations) + 1, policy, highest_assertion(connection))
        self.generations.append(enrolled)
        return enrolled

    def add_generation(self, connection: Any, number: int, policy: int, watermark: int) -> None:
        """Records a generation, whoever is in it."""
        self._insert(
            connection,
            generation,
            id=f"{number:032x}",
            number=number,
            purpose=TARGETED,
            profile=Profile.PLAIN,
            epoch=self.epoch,
            policy=policy,
            watermark=watermark,
            decisions=highest_decision(connection),
            elements=0,
            published_at=self.now,
            valid_until=self.now + DAY,
            manifest=b"",
            table_sha256=bytes(32),
            log_size=0,
            log_root=bytes(32),
        )

    def admit(self, name: str, disclosure: Disclosure = Disclosure.BOTH) -> None:
        """Adds an advertiser."""
        noise = {"release_epsilon": 250_000} if disclosure.noisy else {}
        if disclosure is Disclosure.COUNT:
            noise["identifiers_per_subject"] = 2
        agreement = Agreement(
            "town", name, name, 1, TARGETED, Profile.PLAIN, disclosure, LATEST_EXPIRY, **noise
        )
        document = AgreementDocument(agreement, bytes(64))
        with self.registry.writing() as connection:
            self._insert(connection, advertiser, name=name, added_at=self.now)
            add_agreement(connection, document, Acceptance(bytes(32), bytes(64)), self.now)
        self._agreements[name] = agreement.digest

    def delegate(self, name: str, partner: str) -> bytes:
        """Lets a partner bring lists for an advertiser; what names that."""
        digest = secrets.token_bytes(32)
        unread = {
            "content": b"",
            "advertiser_key": bytes(32),
            "signature": bytes(64),
            "recorded_at": self.now,
        }
        with self.registry.writing() as connection:
            of = {"advertiser": name, "number": 1, "partner": partner, "digest": digest}
            self._insert(connection, delegation, **of, **unread)
        self._partners[digest] = partner
        return digest

    def open(self, name: str, delegated: bytes | None = None) -> str:
        """Opens a session of an advertiser, or of its partner, on the latest generation; its id."""
        self.now += 60_000_000
        id_ = f"{next(self._numbers):032x}"
        with self.registry.writing() as connection:
            self._insert(
                connection,
                session,
                id=id_,
                advertiser=name,
                fingerprint=bytes(32),
                agreement=self._agreements[name],
                generation=f"{len(self.generations):032x}",
                elements=1_000,
                delegation=delegated,
                grant=b"",
                log_size=0,
                state=SessionState.OPEN,
                opened_at=self.now,
                heard_at=self.now,
            )
        self._brought[id_] = (name, self._partners[delegated])
        return id_

    def commit(
        self, session_id: str, members: Sequence[Enrolment], audience: AudienceChange = USUAL_CHANGE
    ) -> None:
        """Stores what a session does to an audience."""
        self.now += 60_000_000
        with self.registry.writing() as connection:
            self._insert(
                connection,
                commit,
                session=session_id,
                id=secrets.token_hex(16),
                sha256=bytes(32),
                receipt=b"",
                signature=bytes(64),
                policy=1,
                committed_at=self.now,
            )
            granting = np.array([granting for _, _, granting in members], np.int64)
            of = AudienceName(*self._brought[session_id], audience.name)
            add_change(connection, session_id, of, audience.mode, self.now + 395 * DAY, granting)

    @staticmethod
    def last_change(connection: Any) -> int:
        """The number of the latest change of an audience."""
        return int(connection.execute(select(func.count()).select_from(audience_change)).scalar_one())

    @staticmethod
    def _insert(connection: Any, table: Any, **values: object) -> None:
        connection.execute(table.insert().values(**values))
