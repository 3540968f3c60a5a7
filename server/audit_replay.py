"""The audit's second part: the registry against the log, event after event, row after row.

Every event is computed again from the rows as they are now, by the functions that the writers used, and must
be the one in the log. Then no row may be left that no event is about.

Not protected against: batches of a session that is still open, which are logged when it ends.
"""

from collections.abc import Callable, Collection
from hashlib import sha256
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, select

from purposematch.protocol.errors import IntegrityError, NotFoundError, PurposematchError
from purposematch.protocol.log.events import Event, EventKind
from purposematch.server.audit_admissions import Admissions
from purposematch.server.audit_audiences import AudienceEvents
from purposematch.server.audit_leaves import integer_of, once, text_of
from purposematch.server.registry import events, log, schema
from purposematch.server.registry.audience_event import commit_event
from purposematch.server.registry.delivery_event import delivery_event
from purposematch.server.registry.erasure_event import erasure_event
from purposematch.server.registry.log import Leaf
from purposematch.server.registry.quota import used_by_day
from purposematch.server.registry.removals import all_lists, listed_nowhere, listed_tags
from purposematch.server.registry.sessions import SessionState

__all__ = ["Replay"]

_TABLES: Final = {
    "root": "assertion_chunk, terms, assertion_salt, evidence or erased_assertion",
    "statuses": "assertion_chunk or terms",
    "evidence_batch": "evidence_batch",
    "decisions": "decision or erased_decision",
    "erased_assertions": "erased_assertion",
    "erased_decisions": "erased_decision",
    "kept": "assertion_chunk, terms, decision, evidence, erased_assertion or erased_decision",
    "corrected": "corrected",
    "audience": "audience_change or member_chunk",
    "removals": "removal_list",
    "batches": "batch",
}
"""Which table a field of an event is computed from, where that is not the event's own."""


class Replay:
    """Goes through the log and keeps what each event accounts for.

    Attributes:
        policies, deliveries, assertions, decisions, generations, corrections, erasures: how many were
            logged; ids count from 1.
        erased_assertions, erased_decisions: how many positions the erasures list.
        queries: questions of operators that were logged.
        releases: noisy counts that were paid for; ids count from 1.
        audiences: what was done to audiences.
        epochs, ended_epochs: epochs that began, and those whose key was destroyed.
        advertisers: names.
        agreements, ended_agreements: name and number of those that came into force, and that were ended.
        sessions, ended: ids of those that were opened, and of those that ended.
        commits: pairs of session and commit id.
        acknowledged: advertiser, epoch and number of the lists of removals that were applied.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._admissions = Admissions(connection, self._same)
        self.audiences = AudienceEvents(connection, self._same)
        self.policies = self.deliveries = self.assertions = self.decisions = self.generations = 0
        self.corrections = self.erasures = self.erased_assertions = self.erased_decisions = 0
        self.queries = self.releases = self._manifests = 0
        self._released_at = 0
        self.epochs: set[str] = set()
        self.ended_epochs: set[str] = set()
        self.agreements: set[str] = set()
        self.ended_agreements: set[str] = set()
        self.advertisers: set[str] = set()
        self.sessions: set[str] = set()
        self.ended: set[str] = set()
        self.commits: set[tuple[str, str]] = set()
        self.acknowledged: set[tuple[str, int, int]] = set()

    def run(self) -> None:
        """Checks every event and every row.

        Raises:
            IntegrityError: something was altered, removed or added; the text names the first row.
        """
        for leaf in log.leaves(self._connection):
            self._check(leaf, _opened(leaf))
        self._no_row_without_event()

    def _check(self, leaf: Leaf, event: Event) -> None:
        connection, fields = self._connection, event.fields
        match event.kind:
            case EventKind.POLICY:
                self.policies += 1
                number = self.policies
                self._same(leaf, event, "policy", number, lambda: events.policy_event(connection, number))
            case EventKind.DELIVERY:
                self.deliveries += 1
                number, decided = self.deliveries, self._decided(leaf, fields.get("decisions"))
                again = lambda: delivery_event(connection, number, decided)  # noqa: E731
                self._same(leaf, event, "delivery", number, again)
                self.assertions += integer_of(leaf, fields, "count")
            case EventKind.DECISIONS:
                decided = self._decided(leaf, fields)
                again = lambda: events.decisions_event(connection, decided)  # noqa: E731
                self._same(leaf, event, "decision or erased_decision", decided.start, again)
            case EventKind.CORRECTION:
                self.corrections += 1
                number, decided = self.corrections, self._decided(leaf, fields.get("decisions"))
                again = lambda: events.correction_event(connection, number, decided)  # noqa: E731
                self._same(leaf, event, "correction", number, again)
            case EventKind.ERASURE:
                self.erasures += 1
                number = self.erasures
                if fields.get("leaf") != leaf.index:
                    raise IntegrityError(f"table log_leaf row {leaf.index} is an erasure of another place")
                again = lambda: erasure_event(connection, number)  # noqa: E731
                self._same(leaf, event, "erasure", number, again)
                self.erased_assertions += _positions(fields["erased_assertions"])
                self.erased_decisions += _positions(fields["erased_decisions"])
            case EventKind.EPOCH:
                epoch = integer_of(leaf, fields, "number")
                if "destroyed" in fields:
                    self._ended_epoch(leaf, event, epoch)
                    return
                once(leaf, str(epoch), self.epochs)
                self._same(leaf, event, "generation", epoch, lambda: events.epoch_event(connection, epoch))
            case EventKind.MANIFEST:
                self._manifests += 1
                number = self._manifests
                again = lambda: events.manifest_event(connection, number)  # noqa: E731
                self._same(leaf, event, "generation", number, again)
                self._at_its_place(leaf, schema.generation, "number", number)
            case EventKind.OPERATOR_QUERY:
                self.queries += 1
                by, query, salt, asked = (
                    text_of(leaf, fields, name) for name in ("by", "query", "salt", "parameters")
                )
                again = lambda: events.operator_query_event(  # noqa: E731
                    by, query, bytes.fromhex(salt), bytes.fromhex(asked), event.at
                )
                self._same(leaf, event, "log_leaf", leaf.index, again)
            case EventKind.GENERATION:
                self.generations += 1
                number = self.generations
                again = lambda: events.generation_event(connection, number)  # noqa: E731
                self._same(leaf, event, "generation", number, again)
            case EventKind.ADVERTISER:
                name = once(leaf, text_of(leaf, fields, "advertiser"), self.advertisers)
                self._same(leaf, event, "advertiser", name, lambda: events.advertiser_event(connection, name))
            case EventKind.CERTIFICATE | EventKind.CERTIFICATE_REVOCATION:
                self._admissions.certificate(leaf, event)
            case EventKind.AGREEMENT | EventKind.AGREEMENT_END:
                self._agreement(leaf, event)
            case EventKind.DELEGATION | EventKind.DELEGATION_REVOCATION:
                self._admissions.delegation(leaf, event)
            case EventKind.REMOVAL_ACKNOWLEDGEMENT:
                name = text_of(leaf, fields, "advertiser")
                epoch, number = (integer_of(leaf, fields, each) for each in ("epoch", "number"))
                if (name, epoch, number) in self.acknowledged:
                    raise IntegrityError(f"table log_leaf row {leaf.index} repeats an event")
                self.acknowledged.add((name, epoch, number))
                again = lambda: events.acknowledgement_event(connection, name, epoch, number)  # noqa: E731
                self._same(leaf, event, "removal_acknowledgement", f"{name} {epoch} {number}", again)
            case EventKind.SESSION:
                id_ = once(leaf, text_of(leaf, fields, "id"), self.sessions)
                self._same(leaf, event, "session", id_, lambda: events.session_event(connection, id_))
                self._at_its_place(leaf, schema.session, "id", id_)
                self._admissions.demand_opener(id_, fields)
            case EventKind.SESSION_END:
                id_ = once(leaf, text_of(leaf, fields, "session"), self.ended)
                self._same(leaf, event, "session", id_, lambda: events.session_end_event(connection, id_))
            case EventKind.COMMIT:
                session, id_ = text_of(leaf, fields, "session"), text_of(leaf, fields, "commit")
                if (session, id_) in self.commits:
                    raise IntegrityError(f"table log_leaf row {leaf.index} repeats an event")
                self.commits.add((session, id_))
                again = lambda: commit_event(connection, session, id_)  # noqa: E731
                self._same(leaf, event, "commit", f"{session} {id_}", again)
                self.audiences.commit(leaf, session, fields.get("audience"))
            case EventKind.AUDIENCE_EXPIRY:
                self.audiences.expiry(leaf, event)
            case EventKind.AUDIENCE_EXPORT:
                self.audiences.export(leaf, event)
            case EventKind.RELEASE:
                self._release(leaf, event)
            case _:
                raise IntegrityError(f"table log_leaf row {leaf.index} is of a kind that nothing appends")

    def _release(self, leaf: Leaf, event: Event) -> None:
        """A noisy count was paid for, and not before an earlier one: budgets would return too soon."""
        self.releases += 1
        number = self.releases
        again = lambda: events.release_event(self._connection, number)  # noqa: E731
        self._same(leaf, event, "release", number, again)
        if event.at < self._released_at:
            raise IntegrityError(f"table release row {number} was paid for before an earlier one")
        self._released_at = event.at

    def _agreement(self, leaf: Leaf, event: Event) -> None:
        """An agreement came into force, or was ended after it did."""
        name, number = text_of(leaf, event.fields, "advertiser"), integer_of(leaf, event.fields, "number")
        began = event.kind is EventKind.AGREEMENT
        once(leaf, f"{name} {number}", self.agreements if began else self.ended_agreements)
        again = events.agreement_event if began else events.agreement_end_event
        self._same(
            leaf, event, "agreement", f"{name} {number}", lambda: again(self._connection, name, number)
        )

    def _same(self, leaf: Leaf, event: Event, table: str, row: object, again: Callable[[], Event]) -> None:
        where = f"table {table} row {row}"
        found = _computed(where, again)
        if found.content == event.content:
            return
        names = sorted(event.fields.keys() | found.fields.keys())
        changed = [name for name in names if event.fields.get(name) != found.fields.get(name)]
        named = _TABLES.get(changed[0]) if changed else None
        what = where if named is None else f"table {named}, of {table} row {row}"
        raise IntegrityError(f"{what}: it is not what leaf {leaf.index} of the log says")

    def _at_its_place(self, leaf: Leaf, table: Table, key: str, row: object) -> None:
        """Checks that a leaf which is opened to advertisers is where its row says that it is."""
        stored = events.stored_row(self._connection, table, **{key: row})
        if stored.log_size != leaf.index:
            raise IntegrityError(
                f"table {table.name} row {row}: leaf {leaf.index} of the log is not where it says"
            )

    def _ended_epoch(self, leaf: Leaf, event: Event, epoch: int) -> None:
        """An epoch's key was destroyed, once, and after the epoch began."""
        if str(epoch) not in self.epochs:
            raise IntegrityError(f"table log_leaf row {leaf.index} ends an epoch that never began")
        once(leaf, str(epoch), self.ended_epochs)
        self._same(leaf, event, "log_leaf", leaf.index, lambda: events.epoch_end_event(epoch, event.at))

    def _decided(self, leaf: Leaf, value: object) -> range:
        """The next decisions, as many as an event says."""
        first, count = (value.get("first"), value.get("count")) if isinstance(value, dict) else (0, 0)
        if first != self.decisions + 1 or not isinstance(count, int) or count < 0:
            raise IntegrityError(f"table log_leaf row {leaf.index} names decisions out of their order")
        self.decisions += count
        return range(first, first + count)

    def _no_row_without_event(self) -> None:
        if self._manifests != self.generations:
            raise IntegrityError("table log_leaf has not one manifest for each generation")
        ids = (
            (schema.policy.c.id, self.policies),
            (schema.delivery.c.id, self.deliveries),
            (schema.decision.c.id, self.decisions),
            (schema.generation.c.number, self.generations),
            (schema.removal_list.c.number, self.generations),
            (schema.removed_tag.c.removed, self.generations),
            (schema.removed_tag.c.returned, self.generations),
            (schema.correction.c.id, self.corrections),
            (schema.corrected.c.correction, self.corrections),
            (schema.erasure.c.id, self.erasures),
            (schema.release.c.id, self.releases),
            (schema.audience_change.c.number, self.audiences.changes),
            (schema.member_chunk.c.change, self.audiences.changes),
            (schema.erased_assertion.c.erasure, self.erasures),
            (schema.erased_decision.c.erasure, self.erasures),
            (schema.evidence.c.assertion, self.assertions),
            (schema.evidence_batch.c.delivery, self.deliveries),
        )
        for column, highest in ids:
            self._none(column.table, (column < 1) | (column > highest))
        self._only(schema.advertiser, ("name",), {(name,) for name in self.advertisers})
        self._only(schema.certificate, ("fingerprint",), self._admissions.certificates)
        self._only(schema.agreement, ("advertiser", "number"), {_named(each) for each in self.agreements})
        self._only(schema.delegation, ("advertiser", "number"), self._admissions.delegations)
        self._admissions.no_revocation_without_event()
        self._usage()
        self._only(schema.session, ("id",), {(id_,) for id_ in self.sessions})
        self._only(schema.batch, ("session",), {(id_,) for id_ in self.sessions})
        self._only(schema.commit, ("session", "id"), self.commits)
        changed = {(id_,) for id_ in self.audiences.sessions}
        self._only(schema.audience_change, ("session",), changed)
        self.audiences.no_end_without_event()
        keys = ("advertiser", "epoch", "number")
        self._only(schema.removal_acknowledgement, keys, self.acknowledged)
        self._removals()
        state, closed_at = schema.session.c.state, schema.session.c.closed_at
        over = select(schema.agreement).where(schema.agreement.c.ended_at.is_not(None))
        for row in self._connection.execute(over):
            if f"{row.advertiser} {row.number}" not in self.ended_agreements:
                raise IntegrityError(
                    f"table agreement row {row.advertiser} {row.number} ended without an event in the log"
                )
        left = select(schema.session.c.id).where((state != SessionState.OPEN) | closed_at.is_not(None))
        for id_ in self._connection.execute(left.order_by(schema.session.c.id)).scalars():
            if id_ not in self.ended:
                raise IntegrityError(f"table session row {id_} ended without an event in the log")

    def _removals(self) -> None:
        """Checks that the tags which left are those of every list that was signed."""
        for epoch, number, digest in all_lists(self._connection):
            tags = listed_tags(self._connection, epoch, number)
            if sha256(tags.tobytes()).digest() != digest:
                raise IntegrityError(f"table removed_tag is not what list {epoch} {number} of removals says")
        # A row that is on no list changes none of them.
        row = listed_nowhere(self._connection)
        if row is not None:
            raise IntegrityError(f"table removed_tag row {row} is on no list of removals")

    def _usage(self) -> None:
        """Checks that what counts against the quotas is what sessions and batches come to."""
        stored = select(
            schema.usage.c.advertiser, schema.usage.c.day, schema.usage.c.elements, schema.usage.c.sessions
        )
        counted = {
            (name, day): (elements, opened)
            for name, day, elements, opened in self._connection.execute(stored)
        }
        expected = used_by_day(self._connection)
        for name, day in sorted(counted.keys() | expected.keys()):
            if counted.get((name, day)) != expected.get((name, day)):
                raise IntegrityError(
                    f"table usage row {name} {day} is not what its sessions and batches come to"
                )

    def _none(self, table: Table, condition: ColumnElement[bool]) -> None:
        key = next(iter(table.primary_key))
        row = self._connection.scalar(select(key).where(condition).limit(1))
        if row is not None:
            raise IntegrityError(f"table {table.name} row {row} has no event in the log")

    def _only(self, table: Table, names: tuple[str, ...], known: Collection[tuple[object, ...]]) -> None:
        columns = [table.c[name] for name in names]
        for row in self._connection.execute(select(*columns).distinct().order_by(*columns)):
            if tuple(row) not in known:
                named = (each.hex() if isinstance(each, bytes) else str(each) for each in row)
                raise IntegrityError(f"table {table.name} row {' '.join(named)} has no event in the log")


def _computed(where: str, read: Callable[[], Event]) -> Event:
    """What is computed from a row; whatever is wrong with its values, the error says where."""
    try:
        return read()
    except (PurposematchError, ValueError, TypeError, AttributeError, OverflowError) as error:
        # Other texts than ours may repeat values.
        text = str(error) if isinstance(error, PurposematchError) else "a value has a wrong type"
        raise IntegrityError(f"{where}: {text}") from None


def _opened(leaf: Leaf) -> Event:
    try:
        return leaf.event()
    except NotFoundError:
        raise IntegrityError(f"table log_leaf row {leaf.index} has no opening, and no erasure") from None
    except IntegrityError as error:
        raise IntegrityError(f"table log_leaf row {leaf.index}: {error}") from None


def _positions(listed: object) -> int:
    """How many ids the runs of an event hold, which was computed again and is the same."""
    return sum(count for _, count in listed) if isinstance(listed, list) else 0


def _named(agreement: str) -> tuple[str, int]:
    name, number = agreement.split(" ")
    return name, int(number)
