"""The sessions of peers, for both services of a match: whose one is, whether it goes on, and its generation.

Not protected against: whoever has an advertiser's certificate and key is that advertiser.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.errors import NotFoundError, StateError
from purposematch.protocol.poprf import EvaluationKey
from purposematch.server.generations import StoredGeneration
from purposematch.server.on_behalf import demand_in_force
from purposematch.server.peer import demand_admitted
from purposematch.server.pki import PeerIdentity, Role
from purposematch.server.platform import Platform
from purposematch.server.registry import ledger, sessions
from purposematch.server.registry.sessions import SessionState

__all__ = ["OpenSessions", "Served"]

SERVED_GENERATIONS: Final = 4
"""Generations kept open at a time: the current one and those that older sessions are on."""

HEARD_MICROSECONDS: Final = 60 * 1_000_000
"""How often it is noted that a session sends something: a minute."""


@dataclass(frozen=True, slots=True)
class Served:
    """A generation that sessions are on, and the key that evaluates for it."""

    stored: StoredGeneration
    key: EvaluationKey


class OpenSessions:
    """The sessions of a platform's peers.

    Args:
        platform: the open platform.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.served = lru_cache(SERVED_GENERATIONS)(self._load)

    def admit(self, connection: Connection, peer: PeerIdentity) -> None:
        """Demands that a peer is an advertiser or a partner of this platform, now.

        Raises:
            NotAuthenticatedError, NotAuthorizedError: see `demand_admitted`.
        """
        demand_admitted(self._platform, connection, peer, Role.ADVERTISER, Role.PARTNER)

    def owned(self, connection: Connection, peer: PeerIdentity, session_id: bytes) -> sessions.SessionRow:
        """A session of the peer, open or not, whichever of its certificates it shows.

        It may renew one while a session is open; when the one that opened it is revoked, the session ends.

        Raises:
            NotFoundError: there is none of this peer. A stranger's looks like none: ids are random, and
                nobody needs to test them.
        """
        row = sessions.find_session(connection, session_id)
        if row is None or (row.partner or row.advertiser) != peer.name:
            raise NotFoundError("no such session")
        if peer.role is not (Role.ADVERTISER if row.partner is None else Role.PARTNER):
            raise NotFoundError("no such session")
        return row

    def demand_open(self, row: sessions.SessionRow) -> None:
        """Demands that messages of a session may still come.

        Raises:
            StateError: it has ended.
        """
        if row.state is not SessionState.OPEN:
            raise StateError(f"a message for a session that is {row.state}", "an open session")
        if self._platform.clock() >= row.opened_at + sessions.MAX_SESSION_MICROSECONDS:
            raise StateError("a message for a session that is a day old", "a session of today")

    def usable(self, peer: PeerIdentity, session_id: bytes) -> tuple[sessions.SessionRow, Agreement]:
        """An open session of a peer, and the agreement that it runs under; notes that a message came for it.

        Raises:
            NotAuthenticatedError, NotAuthorizedError: the peer is not admitted as an advertiser or partner.
            NotFoundError: no such session of this peer.
            StateError: it is not open.
            RefusedError: its agreement, or its delegation, is not in force any more.
        """
        with self._platform.registry.reading() as connection:
            row, agreement, now = self._checked(connection, peer, session_id)
        if _unheard(row, now):
            with self._platform.registry.writing() as connection:
                sessions.note_heard(connection, row.id, now)
        return row, agreement

    def used(
        self, connection: Connection, peer: PeerIdentity, session_id: bytes
    ) -> tuple[sessions.SessionRow, Agreement]:
        """As `usable`, within a transaction that writes: nothing of it changes until that ends.

        Where the transaction does not come about, neither does the note.
        """
        row, agreement, now = self._checked(connection, peer, session_id)
        if _unheard(row, now):
            sessions.note_heard(connection, row.id, now)
        return row, agreement

    def _checked(
        self, connection: Connection, peer: PeerIdentity, session_id: bytes
    ) -> tuple[sessions.SessionRow, Agreement, int]:
        # Who is shut out is shut out of the sessions that are open, too.
        self.admit(connection, peer)
        row = self.owned(connection, peer, session_id)
        self.demand_open(row)
        now = self._platform.clock()
        return row, demand_in_force(connection, row, now), now

    def end(self, session_id: str, state: SessionState) -> None:
        """Ends a session and logs it; one that has ended stays as it is."""
        platform = self._platform
        with platform.registry.writing() as connection:
            if sessions.close_session(connection, session_id, state, platform.clock()):
                ledger.record_session_ends(connection, [session_id], platform.random_bytes)

    def _load(self, name: str) -> Served:
        platform = self._platform
        stored = platform.store.load(name)
        scope = stored.manifest.scope
        key = platform.key_store.load_epoch_key(scope.epoch)
        evaluation = EvaluationKey(platform.group, POPRF, key, scope.info())
        key.wipe()
        return Served(stored, evaluation)


def _unheard(row: sessions.SessionRow, now: int) -> bool:
    """Whether it is to be noted that a message came."""
    return row.heard_at == row.opened_at or now > row.heard_at + HEARD_MICROSECONDS
