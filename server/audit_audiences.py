"""The audit of audiences: every change is that of its commit, was granted, and ended no later than it may.

The replay hands events over as they come; what they say is computed again from the rows by the functions
that the writers used. Then changes are held against the grants and agreements of their sessions.

Not protected against: a file that was exported and not logged.
"""

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, select

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.audience import LARGEST_KEEP_DAYS
from purposematch.protocol.errors import IntegrityError, PeerError
from purposematch.protocol.log.events import Event
from purposematch.protocol.messages import SessionGrant
from purposematch.server.audit_leaves import integer_of, once, text_of
from purposematch.server.registry.audience_event import (
    audience_expiry_event,
    audience_export_event,
)
from purposematch.server.registry.audiences import AudienceName, audience_changes
from purposematch.server.registry.log import Leaf
from purposematch.server.registry.schema import agreement, audience_change, commit, release, session

__all__ = ["AudienceEvents", "audit_audiences"]

_DAY: Final = 24 * 3_600 * 1_000_000
_Same = Callable[[Leaf, Event, str, object, Callable[[], Event]], None]


class AudienceEvents:
    """Keeps what was done to audiences, as the log goes on.

    Args:
        connection: a snapshot.
        same: checks that the event of a leaf is what is computed from the row of a table.

    Attributes:
        changes: how many sessions changed an audience; their numbers count from 1.
        sessions: the ids of these.
        exports: how many exports were logged.
    """

    def __init__(self, connection: Connection, same: _Same) -> None:
        self._connection = connection
        self._same = same
        self._ended: set[str] = set()
        self.changes = self.exports = 0
        self.sessions: set[str] = set()

    @property
    def ended(self) -> int:
        """How many changes ended."""
        return len(self._ended)

    def commit(self, leaf: Leaf, session_id: str, change: object) -> None:
        """A commit changed an audience, or did not."""
        if isinstance(change, Mapping):
            self.changes += 1
            if change.get("number") != self.changes:
                raise IntegrityError(
                    f"table log_leaf row {leaf.index} names a change of an audience out of order"
                )
            self.sessions.add(session_id)

    def expiry(self, leaf: Leaf, event: Event) -> None:
        """A change ended, after it was made."""
        number = integer_of(leaf, event.fields, "number")
        if not 1 <= number <= self.changes:
            raise IntegrityError(f"table log_leaf row {leaf.index} ends a change that was not made")
        once(leaf, str(number), self._ended)
        again = lambda: audience_expiry_event(self._connection, number)  # noqa: E731
        self._same(leaf, event, "audience_change", number, again)

    def export(self, leaf: Leaf, event: Event) -> None:
        """An audience was exported; no row says it."""
        self.exports += 1
        advertiser, audience, file_format, by = (
            text_of(leaf, event.fields, name) for name in ("advertiser", "audience", "format", "by")
        )
        partner = event.fields.get("partner")
        of = AudienceName(advertiser, partner if isinstance(partner, str) else "", audience)
        count = integer_of(leaf, event.fields, "count")
        again = lambda: audience_export_event(of, count, file_format, by, event.at)  # noqa: E731
        self._same(leaf, event, "log_leaf", leaf.index, again)

    def no_end_without_event(self) -> None:
        """Checks that no change has ended without an event.

        Raises:
            IntegrityError: one has; the text names it.
        """
        columns = audience_change.c
        over = select(columns.number).where(
            columns.ended_at.is_not(None) | columns.ended_by.is_not(None) | columns.sha256.is_not(None)
        )
        for number in self._connection.execute(over.order_by(columns.number)).scalars():
            if str(number) not in self._ended:
                raise IntegrityError(f"table audience_change row {number} ended without an event in the log")


def audit_audiences(connection: Connection) -> None:
    """Checks that every commit did to audiences what its session was granted, and nothing else.

    Args:
        connection: a snapshot, whose rows are those of the log.

    Raises:
        IntegrityError: one did not; the text names it.
    """
    made = {each.session: each for each in audience_changes(connection)}
    answered = set(connection.execute(select(release.c.session)).scalars())
    question = (
        select(session.c.id, session.c.grant, agreement.c.content)
        .join(commit, commit.c.session == session.c.id)
        .join(agreement, agreement.c.digest == session.c.agreement)
        .order_by(session.c.id)
    )
    for row in connection.execute(question):
        change = made.get(row.id)
        try:
            disclosure = Agreement.decode(row.content).disclosure
            granted = SessionGrant.parse(row.grant).audience
        except PeerError as error:
            raise IntegrityError(f"table session row {row.id}: {error}") from None
        # A question that was answered before changes nothing.
        changes = disclosure is Disclosure.BOTH or (disclosure.makes_audience and row.id in answered)
        if changes is (change is None):
            raise IntegrityError(f"table audience_change has not what the commit of session {row.id} did")
        if change is None:
            continue
        if (change.of.name, change.mode) != (granted.name, granted.mode):
            raise IntegrityError(
                f"table audience_change row {change.number} is not what its session was granted"
            )
        if not change.made_at < change.expires_at <= change.made_at + LARGEST_KEEP_DAYS * _DAY:
            raise IntegrityError(f"table audience_change row {change.number} is kept for too long")
