"""The replay of who was admitted: certificates, delegations, and who opened sessions.

Not protected against: a certificate that was recorded for the wrong holder.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, select

from purposematch.protocol.delegation import Delegation
from purposematch.protocol.errors import IntegrityError, VerificationError
from purposematch.protocol.log.events import Event, EventKind
from purposematch.server.audit_leaves import integer_of, once, text_of
from purposematch.server.pki import Role
from purposematch.server.registry import events, schema
from purposematch.server.registry.delegations import find_delegation
from purposematch.server.registry.log import Leaf

__all__ = ["Admissions"]

_Same = Callable[[Leaf, Event, str, object, Callable[[], Event]], None]


class Admissions:
    """Keeps who was admitted when, as the log goes on.

    Args:
        connection: a snapshot.
        same: checks that the event of a leaf is what is computed from the row of a table.
    """

    def __init__(self, connection: Connection, same: _Same) -> None:
        self._connection = connection
        self._same = same
        self._certificates: set[str] = set()
        self._revoked: set[str] = set()
        self._delegations: set[str] = set()
        self._taken_back: set[str] = set()

    @property
    def certificates(self) -> set[tuple[object, ...]]:
        """The keys of those that were logged."""
        return {(bytes.fromhex(each),) for each in self._certificates}

    @property
    def delegations(self) -> set[tuple[object, ...]]:
        """The keys of those that were logged."""
        named = (each.split(" ") for each in self._delegations)
        return {(advertiser, int(number)) for advertiser, number in named}

    def certificate(self, leaf: Leaf, event: Event) -> None:
        """A certificate was recorded, or was revoked after it was."""
        name = text_of(leaf, event.fields, "fingerprint")
        began = event.kind is EventKind.CERTIFICATE
        once(leaf, name, self._certificates if began else self._revoked)
        again = events.certificate_event if began else events.certificate_revocation_event
        self._same(leaf, event, "certificate", name, lambda: again(self._connection, bytes.fromhex(name)))

    def delegation(self, leaf: Leaf, event: Event) -> None:
        """A delegation was recorded, or was revoked after it was."""
        name, number = text_of(leaf, event.fields, "advertiser"), integer_of(leaf, event.fields, "number")
        began = event.kind is EventKind.DELEGATION
        once(leaf, f"{name} {number}", self._delegations if began else self._taken_back)
        again = events.delegation_event if began else events.delegation_revocation_event
        self._same(
            leaf, event, "delegation", f"{name} {number}", lambda: again(self._connection, name, number)
        )
        stored = find_delegation(self._connection, name, number) if began else None
        try:
            if stored is not None:
                stored.document.check(stored.document.key)
        except VerificationError:
            raise IntegrityError(
                f"table delegation row {name} {number}: its advertiser did not sign it"
            ) from None

    def demand_opener(self, id_: str, fields: Mapping[str, object]) -> None:
        """Checks that who opened a session was admitted then: the advertiser, or a partner by a delegation.

        Args:
            id_: the session's.
            fields: of its event, which was computed again and is the same.

        Raises:
            IntegrityError: they were not.
        """
        shown, partner = str(fields["fingerprint"]), fields.get("partner")
        who = (Role.ADVERTISER, fields["advertiser"])
        if partner is not None:
            self._demand_delegation(id_, fields)
            who = (Role.PARTNER, partner)
        if shown in self._certificates and shown not in self._revoked:
            row = events.stored_row(self._connection, schema.certificate, fingerprint=bytes.fromhex(shown))
            if (row.role, row.name) == who:
                return
        raise IntegrityError(
            f"table session row {id_}: its certificate was not one of who opened it, at that time"
        )

    def no_revocation_without_event(self) -> None:
        """Checks that no certificate, and no delegation, was revoked without an event.

        Raises:
            IntegrityError: one was; the text names it.
        """
        columns = schema.certificate.c
        over = select(columns.fingerprint).where(
            columns.revoked_at.is_not(None) | columns.reason.is_not(None)
        )
        for fingerprint in self._connection.execute(over.order_by(columns.fingerprint)).scalars():
            _demand(fingerprint.hex(), self._revoked, "certificate")
        given = schema.delegation.c
        back = select(given.advertiser, given.number).where(
            given.revoked_at.is_not(None) | given.revocation.is_not(None)
        )
        for name, number in self._connection.execute(back.order_by(given.advertiser, given.number)):
            _demand(f"{name} {number}", self._taken_back, "delegation")

    def _demand_delegation(self, id_: str, fields: Mapping[str, object]) -> None:
        digest = bytes.fromhex(str(fields["delegation"]))
        row = events.stored_row(self._connection, schema.delegation, digest=digest)
        name = f"{row.advertiser} {row.number}"
        in_force = name in self._delegations and name not in self._taken_back
        if not in_force or fields["list"] not in Delegation.decode(row.content).lists:
            raise IntegrityError(f"table session row {id_}: no delegation was in force for its list")


def _demand(name: str, logged: set[str], table: str) -> None:
    if name not in logged:
        raise IntegrityError(f"table {table} row {name} was revoked without an event in the log")
