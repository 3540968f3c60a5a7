"""The platform's half of matches by set exchange without gRPC: batches and the finish against the registry.

Every method takes the peer that the TLS layer authenticated and either answers or raises. They block, and are
called from worker threads; several may run at once, also for one session and in several processes.

What the advertiser is told is noisy: see `noisy_finish`.

Not protected against: an advertiser that invents list entries, which the agreement's quota and the budget of
its legal entity bound.
"""

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.errors import RefusedError, StateError, VerificationError
from purposematch.protocol.hashing import one_row
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.policy import Policy
from purposematch.protocol.set_exchange.meeting import Meeting, check_planted, meet
from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
from purposematch.protocol.set_exchange.platform import PlatformExchange
from purposematch.protocol.set_exchange.points import list_secret, planted_scalars
from purposematch.protocol.set_exchange.shape import Shape
from purposematch.protocol.signing import SignedDocument
from purposematch.server.noisy_finish import Finishing, admitted_subjects, store_answer
from purposematch.server.on_behalf import demand_in_force
from purposematch.server.open_sessions import OpenSessions
from purposematch.server.pki import PeerIdentity
from purposematch.server.platform import Platform
from purposematch.server.point_lists import list_of, mask_inputs
from purposematch.server.registry import exchanges, generations, quota, sessions
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.exchanges import Side
from purposematch.server.registry.sessions import SessionRow, SessionState

__all__ = ["SetMatching"]

EXPONENTS_HELD: Final = 16
"""Sessions whose A is held with its multiples, 64 KiB each, so that they are not made for each batch."""


class SetMatching:
    """The platform's half of matches by set exchange.

    Args:
        platform: the open platform.
        open_sessions: those of its peers.
    """

    def __init__(self, platform: Platform, open_sessions: OpenSessions) -> None:
        self._platform = platform
        self._sessions = open_sessions
        self._public = lru_cache(EXPONENTS_HELD)(lambda exponent: platform.group.decode(one_row(exponent)))

    def demand_session(self, peer: PeerIdentity, session_id: bytes) -> None:
        """Checks that a session is open and of this peer.

        Raises:
            NotAuthenticatedError, NotFoundError: the peer is not admitted, or has no such session.
            StateError: the session is not open.
            RefusedError: the agreement or the delegation is not in force any more.
        """
        self._sessions.usable(peer, session_id)

    def take_own(self, peer: PeerIdentity, session_id: bytes, batch: OwnBatch) -> None:
        """Takes a batch of the advertiser's own elements; it is stored when this returns.

        Raises:
            NotAuthenticatedError, NotFoundError: the peer is not admitted, or has no such session.
            StateError: the session is not open; or other bytes came under a used number, or another A, which
                ends the session.
            LimitError: there is no such batch, or it has another length.
            RefusedError: the agreement is not in force any more, or is of another disclosure.
            QuotaError: the day's quota has no room, see `quota.charge_elements`.
            DecodeError: an element is not valid; nothing was computed or stored.
        """
        platform = self._platform
        row, agreement = self._sessions.usable(peer, session_id)
        own = self._exchange(row, agreement)
        try:
            with platform.registry.reading() as connection:
                if not self._admits_own(connection, own, row, batch):
                    return
            marks = own.own_marks(batch)
            with platform.registry.writing() as connection:
                # The log says at a session's end which batches it had: none may follow.
                self._sessions.demand_open(self._sessions.owned(connection, peer, session_id))
                if not self._admits_own(connection, own, row, batch):
                    return
                now, charged = platform.clock(), own.shape.charged(batch.number)
                agreement = agreement_in_force(connection, row.advertiser, now)
                quota.charge_elements(connection, agreement, charged, now)
                recorded = sessions.Batch(batch.number, batch.digest, len(marks), charged, now)
                sessions.add_batch(connection, row.id, recorded)
                exchanges.note_exponent(connection, row.id, batch.exponent)
                exchanges.add_part(connection, row.id, Side.OWN, batch.number, batch.digest, marks)
        except StateError:
            self._sessions.end(row.id, SessionState.ENDED)
            raise

    def take_returned(self, peer: PeerIdentity, session_id: bytes, batch: ReturnedBatch) -> None:
        """Takes a batch of returned points; it is stored when this returns.

        Raises:
            NotAuthenticatedError, NotFoundError, RefusedError, LimitError, DecodeError: as `take_own`.
            StateError: the session is not open; or other bytes came under a used number, or points before any
                element, which ends the session.
            VerificationError: the proof does not hold; nothing was stored.
        """
        platform = self._platform
        row, agreement = self._sessions.usable(peer, session_id)
        exchange = self._exchange(row, agreement)
        stored = self._sessions.served(row.generation).stored
        try:
            with platform.registry.reading() as connection:
                known = exchanges.part_digest(connection, row.id, Side.RETURNED, batch.number)
                exponent = exchanges.demand_exchange(connection, row.id).exponent
            if exponent is None:
                raise StateError("points before any element", "the list's elements first")
            if not exchange.admit_returned(batch, known):
                return
            name = self._list(agreement)
            points = platform.store.segment(stored.manifest.point_lists[name][batch.number])
            inputs = None
            if exchange.in_order:
                inputs = mask_inputs(stored, name, *exchange.shape.returned_bounds(batch.number))
            marks = exchange.returned_marks(batch, self._public(exponent), points, inputs)
            with platform.registry.writing() as connection:
                self._sessions.demand_open(self._sessions.owned(connection, peer, session_id))
                known = exchanges.part_digest(connection, row.id, Side.RETURNED, batch.number)
                if exchange.admit_returned(batch, known):
                    exchanges.add_part(connection, row.id, Side.RETURNED, batch.number, batch.digest, marks)
        except StateError:
            self._sessions.end(row.id, SessionState.ENDED)
            raise

    def finish(self, peer: PeerIdentity, session_id: bytes, commit_id: bytes) -> SignedDocument:
        """Compares the lists, stores the audience that this makes and the noisy report, and gives that.

        The same id gives the report that was stored with it.

        Raises:
            NotAuthenticatedError, NotFoundError: the peer is not admitted, or has no such session.
            RefusedError: the agreement is not in force any more or of another disclosure, or the policy
                changed; `BudgetError` if the budget is spent.
            StateError: the session is not open, has another commit, or batches are missing.
            VerificationError: the lists do not fit, or points were not given back as they should; the session
                has ended, and nothing was stored.
        """
        platform = self._platform
        with platform.registry.reading() as connection:
            self._sessions.admit(connection, peer)
            row = self._sessions.owned(connection, peer, session_id)
            stored = sessions.find_commit(connection, row.id, commit_id)
            if stored is not None:
                # Whatever became of the agreement since: both sides must come to know the same.
                return stored.receipt
            self._sessions.demand_open(row)
            agreement = demand_in_force(connection, row, platform.clock())
        try:
            with platform.registry.reading() as connection:
                digest = self._complete(connection, row, agreement)
                meeting = self._meeting(connection, row, agreement)
        except VerificationError:
            # Parts are never replaced, so nothing better can follow.
            self._sessions.end(row.id, SessionState.ENDED)
            raise

        def counted(connection: Connection, policy: Policy, now: int) -> tuple[NDArray[np.int64], int]:
            return self._counted(connection, row, agreement, policy, meeting, now)

        finishing = Finishing(peer, session_id, commit_id, row, agreement, digest)
        return store_answer(platform, self._sessions, finishing, counted)

    def _counted(
        self,
        connection: Connection,
        row: SessionRow,
        agreement: Agreement,
        policy: Policy,
        meeting: Meeting,
        now: int,
    ) -> tuple[NDArray[np.int64], int]:
        """The assertions that admit an audience, none for `count`; and what is counted, exactly."""
        generation = generations.find_generation(connection, row.generation)
        if agreement.disclosure is Disclosure.COUNT:
            if policy.digest != generation.policy:
                # Nobody knows who matched, so the gate can not be asked about them again.
                raise RefusedError("the platform's policy changed since the session opened")
            return np.empty(0, np.int64), meeting.count
        table = self._sessions.served(row.generation).stored.table
        rows = table.point_rows[self._list(agreement)][meeting.places]
        pinned = table.granting_of(rows[rows >= 0])
        return admitted_subjects(self._platform, connection, generation, pinned, policy, now)

    def _complete(self, connection: Connection, row: SessionRow, agreement: Agreement) -> bytes:
        """What names everything that was sent, 32 bytes.

        Raises:
            StateError: batches are missing.
        """
        shape = self._exchange(row, agreement).shape
        digests = [exchanges.part_digests(connection, row.id, side) for side in Side]
        wanted = [shape.own_batches, len(shape.segments)]
        if [len(of_side) for of_side in digests] != wanted:
            raise StateError("the end of an exchange of which batches are missing", "all batches first")
        return hashlib.sha256(b"".join(digest for of_side in digests for digest in of_side)).digest()

    def _meeting(self, connection: Connection, row: SessionRow, agreement: Agreement) -> Meeting:
        """Where the lists meet.

        Raises:
            VerificationError: they do not fit, or points were not given back as they should.
        """
        exchange = self._exchange(row, agreement)
        own = np.concatenate(list(exchanges.part_marks(connection, row.id, Side.OWN)))
        if not exchange.in_order:
            exponent = exchanges.demand_exchange(connection, row.id).exponent or b""
            manifest = self._sessions.served(row.generation).stored.manifest
            secret = self._platform.key_store.load_epoch_secret(manifest.scope.epoch)
            scalars = planted_scalars(self._platform.group, secret, self._list(agreement))
            secret.wipe()
            planted = exchange.planted_marks(exponent, scalars)
            scalars.wipe()
            check_planted(
                planted,
                lambda: exchanges.part_marks(connection, row.id, Side.RETURNED),
                exchange.shape.points,
            )
        return meet(own, exchanges.part_marks(connection, row.id, Side.RETURNED))

    def _admits_own(
        self, connection: Connection, own: PlatformExchange, row: SessionRow, batch: OwnBatch
    ) -> bool:
        known = exchanges.part_digest(connection, row.id, Side.OWN, batch.number)
        return own.admit_own(batch, known, exchanges.demand_exchange(connection, row.id).exponent)

    def _exchange(self, row: SessionRow, agreement: Agreement) -> PlatformExchange:
        if row.engine is not MatchEngine.OPRF:
            raise RefusedError("the session is matched by VOLE, and not by a set exchange")
        name, platform = self._list(agreement), self._platform
        manifest = self._sessions.served(row.generation).stored.manifest
        epoch = platform.key_store.load_epoch_secret(manifest.scope.epoch)
        secret = list_secret(epoch, name)
        epoch.wipe()
        grant = SessionGrant.parse(row.grant)
        return PlatformExchange(platform.group, secret, grant, Shape.of(grant, manifest, name))

    def _list(self, agreement: Agreement) -> str:
        name = list_of(agreement)
        if name is None:
            raise RefusedError(f"a session under disclosure `{agreement.disclosure}` is no set exchange")
        return name
