"""Somebody with the platform's keys rewrites rows, the log over them and its checkpoint: what is still named.

The log then agrees with the rows, and only readers who kept an older checkpoint see that it is another one.
Inside, what others signed, what was granted and what follows from other rows speak against a forger.
"""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eventful import eventful_platform
from platforms import LivePlatform
from sqlalchemy import Connection, Table, delete, select, update

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.audience import AudienceChange
from purposematch.protocol.delegation import Delegation
from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.events import Event, EventKind, Opening
from purposematch.protocol.log.tree import tree_root
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.signing import IdentitySeed
from purposematch.server.audit import audit
from purposematch.server.audit_replay import Replay
from purposematch.server.platform import Platform
from purposematch.server.registry import events, log, schema
from purposematch.server.registry.audience_event import commit_event
from purposematch.server.registry.log import Leaf

YEARS = 100 * 365 * 24 * 3_600 * 1_000_000


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    return eventful_platform(tmp_path_factory.mktemp("forged"))


@pytest.fixture
def copy(original: LivePlatform, tmp_path: Path) -> LivePlatform:
    shutil.copytree(original.data_dir, tmp_path / "platform")
    return LivePlatform(tmp_path)


def _rewrite(platform: Platform) -> None:
    """Makes every leaf what the rows say now, and the tree over them, and signs it."""
    computed: dict[int, Callable[[], Event]] = {}

    def note(
        _: Replay, leaf: Leaf, event: Event, table: str, row: object, again: Callable[[], Event]
    ) -> None:
        computed[leaf.index] = again

    hashes = np.empty((0, 32), np.uint8)
    table, row = schema.log_leaf, schema.generation
    with pytest.MonkeyPatch.context() as patch, platform.registry.writing() as connection:
        patch.setattr(Replay, "_same", note)
        with contextlib.suppress(IntegrityError):
            Replay(connection).run()
        for leaf in list(log.leaves(connection)):
            before = leaf.event()
            if leaf.kind == EventKind.GENERATION:
                # It names the root of the log just before.
                this = row.c.number == before.fields["number"]
                size = connection.scalar(select(row.c.log_size).where(this))
                connection.execute(update(row).where(this).values(log_root=tree_root(hashes[:size])))
            event = computed.get(leaf.index, lambda before=before: before)()
            opening = Opening.of(event, platform.random_bytes)
            values = {"at": event.at, "salt": opening.salt, "content": opening.content}
            here = update(table).where(table.c.index == leaf.index)
            connection.execute(here.values(hash=opening.leaf_hash(), **values))
            hashes = np.concatenate([hashes, np.frombuffer(opening.leaf_hash(), np.uint8)[None]])
        connection.execute(delete(schema.log_tile))
        log.append_hashes(connection, 0, hashes)
        signed = log.checkpoint(connection, platform.config.platform_id).sign(platform.identity)
    platform.data_dir.checkpoint.write_bytes(signed)


def _regrant(connection: Connection, row: Any, **changes: Any) -> None:
    """Gives a session another grant; nothing else of it changes."""
    grant = replace(SessionGrant.parse(row.grant), **changes)
    content = grant.sign(IdentitySeed(bytes(32))).content
    connection.execute(update(schema.session).where(schema.session.c.id == row.id).values(grant=content))


def _session(connection: Connection, advertiser: str = "acme") -> Any:
    """The first session of an advertiser that a commit changed an audience in."""
    changed = select(schema.audience_change.c.session).order_by(schema.audience_change.c.number).limit(1)
    here = schema.session.c.id == changed.scalar_subquery()
    return connection.execute(select(schema.session).where(here)).one()


def _set(table: Table, **values: object) -> Callable[[Connection], None]:
    def change(connection: Connection) -> None:
        assert connection.execute(update(table).values(values)).rowcount

    return change


def _longer_list(connection: Connection) -> None:
    row = _session(connection)
    content = connection.scalar(
        select(schema.agreement.c.content).where(schema.agreement.c.digest == row.agreement)
    )
    size = Agreement.decode(content).max_list_elements + 1
    _regrant(connection, row, list_size=size)
    connection.execute(update(schema.session).where(schema.session.c.id == row.id).values(elements=size))


def _another_digest(connection: Connection) -> None:
    """That of an agreement under which no session was opened."""
    second = schema.agreement.c.number == 2
    connection.execute(update(schema.agreement).where(second).values(digest=b"x" * 32))


def _other_list(connection: Connection) -> None:
    """The delegation that the advertiser signed is made one for another list."""
    row = connection.execute(select(schema.delegation)).one()
    other = replace(Delegation.decode(row.content), lists=("winter",))
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    values = {"content": other.canonical_bytes(), "digest": other.digest}
    connection.execute(update(schema.delegation).values(values))
    under = schema.session.c.delegation == row.digest
    connection.execute(update(schema.session).where(under).values(delegation=other.digest, list="winter"))


def _no_audience(connection: Connection) -> None:
    """A session of an agreement that makes audiences commits, and changes none."""
    table = schema.commit
    idle = schema.session.c.id.not_in(select(table.c.session))
    under = (schema.agreement.c.digest == schema.session.c.agreement) & (schema.agreement.c.number == 3)
    id_ = connection.scalar(select(schema.session.c.id).join(schema.agreement, under).where(idle))
    like = connection.execute(select(table).limit(1)).one()._asdict()
    connection.execute(table.insert().values(like | {"session": id_}))
    log.append(connection, [commit_event(connection, id_, like["id"])], bytes)


def _live(**values: object) -> Callable[[Connection], None]:
    """Changes what a session did to an audience that has not ended."""

    def change(connection: Connection) -> None:
        here = schema.audience_change.c.ended_at.is_(None)
        assert connection.execute(update(schema.audience_change).where(here).values(values)).rowcount == 1

    return change


FORGED: dict[str, tuple[Callable[[Connection], None], str]] = {
    "an agreement of another digest": (_another_digest, "agreement row acme 2 is not what was signed"),
    "a list that is longer than was granted": (
        _set(schema.session, elements=1_001),
        r"session row \w+ is not what was granted",
    ),
    "a grant of another session": (
        lambda connection: _regrant(connection, _session(connection), session=bytes(16)),
        r"session row \w+ is not what was granted",
    ),
    "a grant that is none": (_set(schema.session, grant=b"{}"), r"session row \w+: "),
    "a list that is longer than was agreed": (_longer_list, r"session row \w+ is not within its agreement"),
    "a delegation of another list": (_other_list, "delegation row acme 1: its advertiser did not sign it"),
    "an audience of another name": (_live(audience="other"), "audience_change row 1 is not what its session"),
    "a session that was to change another audience": (
        lambda connection: _regrant(connection, _session(connection), audience=AudienceChange("other")),
        "audience_change row 1 is not what its session",
    ),
    "an audience that is kept for a hundred years": (
        lambda connection: _live(expires_at=schema.audience_change.c.expires_at + YEARS)(connection),
        "audience_change row 1 is kept for too long",
    ),
    "a commit without an audience": (_no_audience, r"audience_change has not what the commit of session"),
    "a count that cost less": (_set(schema.release, epsilon=1), "release row 1 is not what its session"),
    "a count that was another's": (_set(schema.release, legal_entity="x"), "release row 1 is not what its"),
    "a count that was never signed": (_set(schema.release, signature=bytes(64)), "release row 1: "),
    "a generation for another use": (
        _set(schema.generation, purpose="marketing.advertising"),
        "generation row 1 is not what its manifest",
    ),
    "a generation of more identifiers": (
        _set(schema.generation, elements=7),
        "generation row 1 is not what its manifest",
    ),
    "a generation of earlier assertions": (
        _set(schema.generation, watermark=7),
        "generation row 1 is not what its manifest",
    ),
}
"""What is changed, and what the audit says when the log says the same."""


@pytest.mark.parametrize("name", FORGED)
def test_what_others_signed_or_other_rows_say_speaks_against_a_forger(copy: LivePlatform, name: str) -> None:
    change, text = FORGED[name]
    with copy.opened() as platform:
        with platform.registry.writing() as connection:
            change(connection)
        _rewrite(platform)
        with pytest.raises(IntegrityError, match=text) as error:
            audit(platform)
        assert "of the log" not in str(error.value)


def test_a_log_that_was_rewritten_and_signed_again_says_nothing_by_itself(copy: LivePlatform) -> None:
    """That is what the checkpoints are for which readers keep."""
    with copy.opened() as platform:
        with platform.registry.writing() as connection:
            before = log.checkpoint(connection, platform.config.platform_id)
            _set(schema.correction, why="another reason")(connection)
        _rewrite(platform)
        audit(platform)
        with (
            platform.registry.reading() as connection,
            pytest.raises(IntegrityError, match="does not extend"),
        ):
            log.check_extends(connection, before)


APPENDED: dict[str, tuple[Event, str]] = {
    "an epoch that never began ends": (events.epoch_end_event(99, 0), "ends an epoch that never began"),
    "decisions out of their order": (
        Event(EventKind.DECISIONS, 0, {"first": 1, "count": 1, "sha256": "", "policy": ""}),
        "names decisions out of their order",
    ),
    "an audience ends that was not made": (
        Event(EventKind.AUDIENCE_EXPIRY, 0, {"number": 99}),
        "ends a change that was not made",
    ),
    "an erasure in another place": (
        Event(EventKind.ERASURE, 0, {"leaf": 0}),
        "is an erasure of another place",
    ),
    "a session without an id": (Event(EventKind.SESSION, 0, {}), "lacks id"),
    "an acknowledgement without an epoch": (
        Event(EventKind.REMOVAL_ACKNOWLEDGEMENT, 0, {"advertiser": "acme"}),
        "lacks epoch",
    ),
    "a delivery that was not stored": (
        Event(EventKind.DELIVERY, 0, {"decisions": {"first": 1, "count": 0}}),
        "names decisions out of their order",
    ),
    "a manifest that was not published": (Event(EventKind.MANIFEST, 0, {}), "generation lacks row 4"),
    "an exported audience without a name": (Event(EventKind.AUDIENCE_EXPORT, 0, {}), "lacks advertiser"),
    "a kind that nothing appends": (Event(EventKind.ISSUER, 0, {}), "is of a kind that nothing appends"),
}


@pytest.mark.parametrize("name", APPENDED)
def test_a_leaf_of_nothing_that_happened_is_named(copy: LivePlatform, name: str) -> None:
    event, text = APPENDED[name]
    with copy.opened() as platform:
        with platform.registry.writing() as connection:
            log.append(connection, [event], platform.random_bytes)
        with pytest.raises(IntegrityError, match=text):
            audit(platform)


REPEATED = (
    *(EventKind.ADVERTISER, EventKind.CERTIFICATE, EventKind.CERTIFICATE_REVOCATION, EventKind.AGREEMENT),
    *(EventKind.AGREEMENT_END, EventKind.DELEGATION, EventKind.DELEGATION_REVOCATION, EventKind.SESSION),
    *(EventKind.SESSION_END, EventKind.EPOCH, EventKind.POLICY, EventKind.DELIVERY, EventKind.CORRECTION),
    *(EventKind.MANIFEST, EventKind.GENERATION, EventKind.COMMIT, EventKind.RELEASE, EventKind.DECISIONS),
    *(EventKind.AUDIENCE_EXPIRY, EventKind.REMOVAL_ACKNOWLEDGEMENT),
)


@pytest.mark.parametrize("kind", REPEATED)
def test_what_happened_once_is_not_logged_twice(copy: LivePlatform, kind: EventKind) -> None:
    with copy.opened() as platform:
        with platform.registry.writing() as connection:
            again = [leaf.event() for leaf in log.leaves(connection) if leaf.kind == kind]
            log.append(connection, again[:1], platform.random_bytes)
        with pytest.raises(IntegrityError):
            audit(platform)
