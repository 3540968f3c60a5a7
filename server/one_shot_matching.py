"""The platform's half of matches by VOLE without gRPC: attempts at an exchange, what they cost and end in.

An attempt lives in one process, and its secrets with it. One that breaks off is made anew by new parties with
fresh randomness; nothing of it is kept. So that nobody can try list after list, results are paid for before
they leave: the first attempt that comes to the platform's outputs uses what the session has declared, every
further one counts as another list. Where the platform receives, it is counted when it has the result, once.

Every method takes the peer that the TLS layer authenticated and either answers or raises. They block, and are
called from worker threads; one attempt is used by one thread at a time, while another may prepare it.

Semi-honest, experimental, no published proof. Not protected against: an advertiser that cheats. Where it
receives it can test whatever it can think of against the whole list, and no quota sees it, see `vole.sender`.
Where the platform receives it can make it see matches that are none.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.canary import CANARY_COUNT, canary_inputs
from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.errors import (
    IntegrityError,
    LimitError,
    RefusedError,
    StateError,
    UnavailableError,
)
from purposematch.protocol.group import Bytes
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.one_shot import (
    binding,
    demand_canaries,
    first_result_chunk,
    label_length,
    receives,
    sizes,
)
from purposematch.protocol.policy import Policy
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.transcript import commit_macs, transcript_hash
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.party import Chunk, Party
from purposematch.server.generations import StoredGeneration
from purposematch.server.noisy_finish import Finishing, admitted_subjects, store_answer
from purposematch.server.one_shot_items import load_items
from purposematch.server.open_sessions import OpenSessions
from purposematch.server.pki import PeerIdentity
from purposematch.server.platform import Platform
from purposematch.server.registry import generations, quota, sessions
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.sessions import Batch, SessionRow, SessionState

__all__ = ["MAX_ATTEMPTS", "Attempt", "OneShotMatching"]

MAX_ATTEMPTS: Final = 16
"""Attempts at the exchange of a session; each costs the platform time, whether or not it gets far."""


@dataclass(frozen=True, slots=True)
class OwnSide:
    """What the platform brings to an attempt.

    Attributes:
        items: (n, 33), its private inputs, and the canaries behind them.
        rows: (n,) int64, the row of the generation's table that each private input is.
        labels: (n, w), of its items, where the advertiser receives.
    """

    items: Bytes = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)
    labels: Bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at the exchange of a session.

    Attributes:
        peer: whose session it is.
        session_id, commit_id: as it began, 16 bytes each.
        row, agreement: of the session.
        grant: of the session.
        party: the platform's.
        load: loads what the platform brings, to be called once, in a thread of its own; whatever becomes of
            that, its end is in `own`.
        own: what the platform brings, which the party waits for when it needs it.
        first_result: the number of the platform's chunk that must be paid for before it is sent; None where
            the platform receives.
    """

    peer: PeerIdentity
    session_id: bytes
    commit_id: bytes
    row: SessionRow
    agreement: Agreement
    grant: SessionGrant
    party: Party
    load: Callable[[], None]
    own: Future[OwnSide]
    first_result: int | None

    @property
    def items(self) -> int:
        """Items of both sides, as declared: what its memory and its time grow with."""
        return self.party.parameters.n_receiver + self.party.parameters.n_sender

    def prepare(self) -> None:
        """Has the party do what it can beforehand, if what the platform brings is there.

        It may be called in a thread while the exchange goes on.
        """
        if self.own.done():
            self.party.prepare()

    def take(self, chunk: Chunk) -> None:
        """Takes the advertiser's next chunk, and prepares while the next one is on its way.

        Raises:
            PeerError: it is not what it should be; the attempt has failed.
        """
        self.party.receive(chunk)
        self.prepare()


class OneShotMatching:
    """The platform's half of matches by VOLE.

    Args:
        platform: the open platform.
        open_sessions: those of its peers.
        engine: the VOLE engine; None where there is none.
    """

    def __init__(self, platform: Platform, open_sessions: OpenSessions, engine: Engine | None) -> None:
        self._platform = platform
        self._sessions = open_sessions
        self._engine = engine

    def declared(self, peer: PeerIdentity, session_id: bytes) -> int:
        """How many items both sides of an open session have declared, with canaries.

        Raises:
            NotAuthenticatedError, NotFoundError: the peer is not admitted, or has no such session.
            StateError: the session is not open.
            RefusedError: it is not matched by VOLE; the platform has no VOLE engine; or the agreement or the
                delegation is not in force any more.
        """
        row, _ = self._usable(peer, session_id)
        grant = SessionGrant.parse(row.grant)
        return (
            grant.list_size + self._sessions.served(row.generation).stored.manifest.count + 2 * CANARY_COUNT
        )

    def begin(self, peer: PeerIdentity, session_id: bytes, commit_id: bytes) -> Attempt:
        """Begins an attempt, which is counted.

        Raises:
            NotAuthenticatedError, NotFoundError, RefusedError: see `declared`.
            StateError: the session is not open, or has its result already.
            LimitError: it had all its attempts; it has ended.
            UnavailableError: the generation's files are damaged. The party raises it where the registry is.
        """
        platform = self._platform
        row, agreement = self._usable(peer, session_id)
        try:
            with platform.registry.writing() as connection:
                self._sessions.demand_open(self._sessions.owned(connection, peer, session_id))
                if sessions.has_commit(connection, row.id):
                    raise StateError("an exchange after the commit", "the end of the session")
                if sessions.count_attempt(connection, row.id) > MAX_ATTEMPTS:
                    raise LimitError(f"a session has {MAX_ATTEMPTS} attempts at its exchange")
        except LimitError:
            self._sessions.end(row.id, SessionState.ENDED)
            raise
        grant = SessionGrant.parse(row.grant)
        stored = self._sessions.served(row.generation).stored
        own: Future[OwnSide] = Future()

        def load() -> None:
            try:
                own.set_result(self._own_side(agreement.disclosure, grant, stored))
            except BaseException as error:
                # Whoever waits for it hears of it.
                own.set_exception(error)

        party = self._party(agreement, grant, stored.manifest, own)
        first = first_result_chunk(party.parameters) if receives(agreement.disclosure) else None
        ids = (peer, session_id, commit_id)
        return Attempt(*ids, row, agreement, grant, party, load, own, first)

    def pay(self, attempt: Attempt) -> None:
        """Counts an attempt whose next chunk has results in it; the first is what the session declared.

        Raises:
            StateError: the session is not open any more, or has its result already.
            QuotaError: the day's quota has no room for another list.
            RefusedError: the agreement is not in force any more.
        """
        with self._platform.registry.writing() as connection:
            row = self._sessions.owned(connection, attempt.peer, attempt.session_id)
            self._sessions.demand_open(row)
            if sessions.has_commit(connection, row.id):
                raise StateError("an exchange after the commit", "the end of the session")
            self._charge(connection, attempt, self._platform.clock())

    def finish(self, attempt: Attempt) -> SignedDocument:
        """What the platform has found: stores the audience of it and the noisy report, and gives that.

        Raises:
            VerificationError: a canary does not match; nothing was stored.
            StateError, RefusedError, QuotaError: see `store_answer` and `pay`.
        """
        from purposematch.protocol.vole.receiver import Receiver

        if not isinstance(attempt.party, Receiver):
            raise StateError("the end of an exchange that gives the platform nothing", "a commit")
        matched, rows = attempt.party.matches().rows, attempt.own.result().rows
        listed = matched[demand_canaries(matched, len(rows))]
        table = self._sessions.served(attempt.row.generation).stored.table
        pinned = table.granting_of(np.sort(rows[listed]))
        platform = self._platform

        def counted(connection: Connection, policy: Policy, now: int) -> tuple[NDArray[np.int64], int]:
            generation = generations.find_generation(connection, attempt.row.generation)
            return admitted_subjects(platform, connection, generation, pinned, policy, now)

        def charge(connection: Connection, now: int) -> None:
            self._charge(connection, attempt, now)

        finishing = Finishing(
            *(attempt.peer, attempt.session_id, attempt.commit_id),
            *(attempt.row, attempt.agreement, attempt.party.transcript()),
        )
        return store_answer(platform, self._sessions, finishing, counted, charge)

    def _usable(self, peer: PeerIdentity, session_id: bytes) -> tuple[SessionRow, Agreement]:
        row, agreement = self._sessions.usable(peer, session_id)
        if row.engine is not MatchEngine.VOLE or not agreement.allow_experimental:
            raise RefusedError("the session is not matched by VOLE")
        if self._engine is None:
            raise RefusedError("the platform has no VOLE engine")
        return row, agreement

    def _charge(self, connection: Connection, attempt: Attempt, now: int) -> None:
        row, size = attempt.row, attempt.grant.list_size
        agreement = agreement_in_force(connection, row.advertiser, now)
        quota.charge_elements(connection, agreement, size, now)
        number = sessions.recorded_batches(connection, row.id)
        recorded = Batch(number, attempt.party.transcript(), size + CANARY_COUNT, size, now)
        sessions.add_batch(connection, row.id, recorded)

    def _party(
        self, agreement: Agreement, grant: SessionGrant, manifest: Manifest, own: Future[OwnSide]
    ) -> Party:
        if self._engine is None:
            raise RefusedError("the platform has no VOLE engine")
        declared = sizes(agreement.disclosure, grant, manifest)
        bound = binding(manifest.scope, agreement.digest, grant)
        random = self._platform.random_bytes
        if not receives(agreement.disclosure):
            return self._engine.receiver(declared, lambda: own.result().items, bound, random)
        items, labels = (lambda: own.result().items), (lambda: own.result().labels)
        return self._engine.sender(declared, items, bound, random, labels)

    def _own_side(self, disclosure: Disclosure, grant: SessionGrant, stored: StoredGeneration) -> OwnSide:
        """What the platform brings.

        Raises:
            UnavailableError: the registry is damaged.
        """
        registry, table = self._platform.registry, stored.table
        try:
            with registry.reading() as connection:
                canaries = canary_inputs(stored.manifest.generation)
                items, rows = load_items(connection, registry.sealing_key, table, canaries)
        except IntegrityError as error:
            raise UnavailableError(str(error)) from None
        labels = np.zeros((len(items), label_length(disclosure)), np.uint8)
        if receives(disclosure):
            labels[: len(rows), :TAG_LENGTH] = table.tags.take(rows, axis=0)
        if disclosure is Disclosure.BOTH:
            tokens = SecretArray(reveal_array(table.tokens).take(rows, axis=0))
            labels[: len(rows), TAG_LENGTH:] = commit_macs(tokens, transcript_hash(grant))
            tokens.wipe()
        return OwnSide(items, rows, labels)
