"""The matching service without gRPC: sessions, batches, segments and commits against the registry.

Every method takes the peer that the TLS layer authenticated and either answers or raises. They block, and
are called from worker threads; several may run at once, also for one session and in several processes.

Not protected against: enumeration. An advertiser learns of every identifier on its list whether it is
enrolled, so what bounds guessing is the agreement's daily quota.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from purposematch.protocol.agreement import RUNNABLE_DISCLOSURES, Disclosure
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.errors import (
    IntegrityError,
    NotFoundError,
    RefusedError,
    StateError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.group import Bytes
from purposematch.protocol.log.session_proof import SessionProof
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import (
    SESSION_ID_LENGTH,
    CommitEntries,
    EvaluateReply,
    EvaluateRequest,
    Receipt,
    SessionGrant,
)
from purposematch.protocol.platform import PlatformSession
from purposematch.protocol.poprf import EvaluationKey
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.transcript import transcript_hash
from purposematch.server.audience import admitted_assertions
from purposematch.server.freshness import freshness
from purposematch.server.generations import StoredGeneration
from purposematch.server.peer import demand_advertiser
from purposematch.server.pki import PeerIdentity
from purposematch.server.platform import Platform
from purposematch.server.registry import generations, ledger, quota, sessions
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.sessions import SessionState
from purposematch.server.session_proofs import session_proof

__all__ = ["Matching", "OpenedSession"]

SERVED_GENERATIONS: Final = 4
"""Generations kept open at a time: the current one and those that older sessions are on."""

HEARD_MICROSECONDS: Final = 60 * 1_000_000
"""How often it is noted that a session sends something: a minute."""


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """What a peer gets when it opened a session."""

    grant: SignedDocument
    manifest: SignedDocument
    proof: SessionProof


@dataclass(frozen=True, slots=True)
class _Served:
    stored: StoredGeneration
    key: EvaluationKey


class Matching:
    """The platform's half of matches.

    Args:
        platform: the open platform.
        server_certificate: SHA-256 of the TLS certificate that is served, 32 bytes.
    """

    def __init__(self, platform: Platform, server_certificate: bytes) -> None:
        self._platform = platform
        self._server_certificate = server_certificate
        self._served = lru_cache(SERVED_GENERATIONS)(self._load)

    def open_session(self, peer: PeerIdentity, agreement_digest: bytes, list_size: int) -> OpenedSession:
        """Opens a session on the current generation.

        Raises:
            NotAuthenticatedError, NotAuthorizedError: the peer is no advertiser of this platform.
            RefusedError: no or another agreement is in force, its disclosure cannot be run, or the list is
                too small or too large for it.
            QuotaError: the agreement's quota has no room for the session now.
            UnavailableError: no generation is fresh; the publisher will see to it.
        """
        platform = self._platform
        now = platform.clock()
        with platform.registry.reading() as connection:
            owner = self._advertiser(peer, sessions.find_advertiser(connection, peer.name))
            agreement = agreement_in_force(connection, owner.name, now)
            state = freshness(platform, connection, now)
        if agreement.digest != agreement_digest:
            raise RefusedError(
                f"agreement {agreement.number} is in force and not the one in the credentials folder: accept "
                "that one, or let the platform record yours"
            )
        if agreement.disclosure not in RUNNABLE_DISCLOSURES:
            raise RefusedError(
                f"the agreement's disclosure is `{agreement.disclosure}`, which this platform cannot run yet"
            )
        limits = platform.config.limits
        least = max(agreement.min_list_elements, limits.min_list_elements)
        most = min(agreement.max_list_elements, limits.max_list_elements)
        if not least <= list_size <= most:
            raise RefusedError(
                f"a list must have {least} to {most} distinct identifiers under this agreement"
            )
        if state.generation is None or state.problem:
            raise UnavailableError(state.problem)
        if (state.generation.purpose, state.generation.profile) != (agreement.purpose, agreement.profile):
            raise RefusedError("the platform publishes for another purpose than the agreement's")
        try:
            served = self._served(state.generation.name)
        except (IntegrityError, VerificationError) as error:
            raise UnavailableError("the generation's files are damaged") from error
        grant = SessionGrant(
            session=platform.random_bytes(SESSION_ID_LENGTH),
            agreement=agreement.digest,
            manifest=Manifest.digest(served.stored.document),
            client_certificate=peer.fingerprint,
            server_certificate=self._server_certificate,
            list_size=list_size,
            max_batch_elements=limits.max_batch_elements,
            window=limits.batches_in_flight,
        )
        document = grant.sign(platform.identity)
        with platform.registry.writing() as connection:
            # A withdrawal or another generation may have come in since, and files of the old one be gone.
            if freshness(platform, connection, now) != state:
                raise UnavailableError("the generation was replaced meanwhile")
            # So may another agreement.
            if agreement_in_force(connection, owner.name, now) != agreement:
                raise RefusedError("the agreement was replaced meanwhile")
            quota.charge_session(connection, agreement, list_size, now)
            sessions.add_session(connection, grant, document, state.generation.name, owner, now)
            ledger.record_session(connection, grant.session.hex(), platform.random_bytes)
        proof = session_proof(platform, grant.session)
        return OpenedSession(document, served.stored.document, proof)

    def evaluate(self, peer: PeerIdentity, session_id: bytes, request: EvaluateRequest) -> EvaluateReply:
        """Evaluates one batch, recording it before the work.

        Raises:
            NotFoundError, NotAuthorizedError: no such session of this peer.
            StateError: the session is not open, or this batch number was used for other bytes; the latter
                ends the session.
            LimitError: the session has no elements left.
            RefusedError: the agreement is not in force any more.
            QuotaError: the day's quota has no room, see `quota.charge_elements`.
            DecodeError: an element is not valid; nothing was computed or stored.
        """
        platform = self._platform
        row = self._session(peer, session_id)
        session = self._protocol_session(row)
        elements = session.decode(request)
        try:
            with platform.registry.writing() as connection:
                # The log says at a session's end which batches it had: none may follow.
                self._demand_open(self._owned(peer, sessions.find_session(connection, session_id)))
                known = sessions.batch_digest(connection, row.id, request.number)
                before = sessions.evaluated_elements(connection, row.id)
                if session.admit(request, before, known):
                    count, now = len(elements), platform.clock()
                    charged = session.charged(before, count)
                    agreement = agreement_in_force(connection, row.advertiser, now)
                    quota.charge_elements(connection, agreement, charged, now)
                    recorded = sessions.Batch(request.number, request.digest, count, charged, now)
                    sessions.add_batch(connection, row.id, recorded)
        except StateError:
            self._end(row.id, SessionState.ENDED)
            raise
        return session.evaluate(request.number, elements, platform.random_bytes)

    def segment(self, peer: PeerIdentity, session_id: bytes, sha256: bytes) -> Bytes:
        """The tags of one segment of the session's generation, (n, 16).

        Raises:
            NotFoundError, NotAuthorizedError: no such session of this peer, or no such segment of its
                generation.
            StateError: the session is not open.
        """
        served = self._served(self._session(peer, session_id).generation)
        for segment in served.stored.manifest.all_segments:
            if segment.sha256 == sha256:
                return self._platform.store.segment(segment)
        raise NotFoundError("the session's generation has no such segment")

    def commit_limit(self, peer: PeerIdentity, session_id: bytes) -> int:
        """Entries that a commit of this session may have at most: what it had evaluated.

        Raises:
            NotFoundError: no such session of this peer. One that is not open any more may still repeat the
                commit that it made.
        """
        with self._platform.registry.reading() as connection:
            row = self._owned(peer, sessions.find_session(connection, session_id))
            return sessions.evaluated_elements(connection, row.id)

    def commit(
        self, peer: PeerIdentity, session_id: bytes, commit_id: bytes, entries: CommitEntries
    ) -> SignedDocument:
        """Stores a commit and the audience it makes, or returns the receipt stored under the same id.

        Raises:
            NotFoundError, NotAuthorizedError: no such session of this peer.
            RefusedError: the agreement's disclosure has no commit, or it is not in force any more.
            StateError: the session is not open, or has another commit, or other entries under this id.
            LimitError: more entries than the session evaluated.
            VerificationError: an entry does not prove what it claims; nothing was stored.
        """
        platform = self._platform
        digest = hashlib.sha256(entries.encode()).digest()
        with platform.registry.reading() as connection:
            self._advertiser(peer, sessions.find_advertiser(connection, peer.name))
            row = self._owned(peer, sessions.find_session(connection, session_id))
            stored = sessions.find_commit(connection, row.id, commit_id)
            if stored is not None:
                # Whatever became of the agreement since: both sides must come to know the same.
                return _repeated(stored, digest)
            self._demand_open(row)
            agreement = agreement_in_force(connection, row.advertiser, platform.clock())
            evaluated = sessions.evaluated_elements(connection, row.id)
        if agreement.disclosure is not Disclosure.BOTH:
            raise RefusedError("the agreement's disclosure has no commit")
        session = self._protocol_session(row)
        served = self._served(row.generation)
        table = served.stored.table
        rows = session.open_commit(entries, table.tags, table.tokens, evaluated)
        if not table.identifiers[rows].any(axis=1).all():
            raise VerificationError("a commit holds the tag of a canary")
        now = platform.clock()
        receipt = Receipt(
            session=session_id,
            commit=commit_id,
            generation=served.stored.manifest.generation,
            agreement=session.grant.agreement,
            transcript=transcript_hash(session.grant),
            received=len(entries),
            committed_at=now,
        )
        document = receipt.sign(platform.identity)
        policy = platform.policy()
        if policy.required_purpose != agreement.purpose:
            raise RefusedError("the platform's purpose changed since the session opened")
        with platform.registry.writing() as connection:
            # Another process may have stored the same commit while this one was checking it.
            stored = sessions.find_commit(connection, row.id, commit_id)
            if stored is not None:
                return _repeated(stored, digest)
            # An agreement that ended, or was replaced, took its sessions with it.
            self._demand_open(self._owned(peer, sessions.find_session(connection, session_id)))
            if sessions.has_other_commit(connection, row.id, commit_id):
                raise StateError("a second commit", "one commit in a session")
            pinned = table.granting_of(rows)
            generation = generations.find_generation(connection, row.generation)
            granting = admitted_assertions(connection, generation, pinned, policy, platform.taxonomy, now)
            commit = sessions.StoredCommit(digest, document)
            policy_id = ledger.record_policy(connection, policy, now, platform.random_bytes)
            sessions.add_commit(connection, receipt, commit, policy_id, granting)
            ledger.record_commit(connection, row.id, commit_id.hex(), platform.random_bytes)
        return document

    def find_commit(self, peer: PeerIdentity, session_id: bytes, commit_id: bytes) -> SignedDocument:
        """The stored receipt of a commit.

        Raises:
            NotFoundError, NotAuthorizedError: no such session of this peer, or no such commit.
        """
        with self._platform.registry.reading() as connection:
            row = self._owned(peer, sessions.find_session(connection, session_id))
            stored = sessions.find_commit(connection, row.id, commit_id)
        if stored is None:
            raise NotFoundError("the platform has not stored this commit")
        return stored.receipt

    def close_session(self, peer: PeerIdentity, session_id: bytes) -> SessionProof:
        """Closes a session, closing it twice is no error; what the log holds of it afterwards.

        Raises:
            NotFoundError, NotAuthorizedError: no such session of this peer.
        """
        with self._platform.registry.reading() as connection:
            row = self._owned(peer, sessions.find_session(connection, session_id))
        self._end(row.id, SessionState.CLOSED)
        return session_proof(self._platform, session_id)

    def _end(self, session_id: str, state: SessionState) -> None:
        platform = self._platform
        with platform.registry.writing() as connection:
            if sessions.close_session(connection, session_id, state, platform.clock()):
                ledger.record_session_ends(connection, [session_id], platform.random_bytes)

    def _session(self, peer: PeerIdentity, session_id: bytes) -> sessions.SessionRow:
        with self._platform.registry.reading() as connection:
            # Who is shut out is shut out of the sessions that are open, too.
            self._advertiser(peer, sessions.find_advertiser(connection, peer.name))
            row = self._owned(peer, sessions.find_session(connection, session_id))
            self._demand_open(row)
            now = self._platform.clock()
            agreement_in_force(connection, row.advertiser, now)
        if row.heard_at == row.opened_at or now > row.heard_at + HEARD_MICROSECONDS:
            with self._platform.registry.writing() as connection:
                sessions.note_heard(connection, row.id, now)
        return row

    def _demand_open(self, row: sessions.SessionRow) -> None:
        if row.state is not SessionState.OPEN:
            raise StateError(f"a message for a session that is {row.state}", "an open session")
        if self._platform.clock() >= row.opened_at + sessions.MAX_SESSION_MICROSECONDS:
            raise StateError("a message for a session that is a day old", "a session of today")

    def _owned(self, peer: PeerIdentity, row: sessions.SessionRow | None) -> sessions.SessionRow:
        # A stranger's session looks like none: ids are random, and nobody needs to test them.
        if row is None or row.advertiser != peer.name or row.fingerprint != peer.fingerprint:
            raise NotFoundError("no such session")
        return row

    def _advertiser(self, peer: PeerIdentity, found: sessions.Advertiser | None) -> sessions.Advertiser:
        return demand_advertiser(peer, self._platform.config.platform_id, found)

    def _protocol_session(self, row: sessions.SessionRow) -> PlatformSession:
        served = self._served(row.generation)
        return PlatformSession(self._platform.group, served.key, SessionGrant.parse(row.grant))

    def _load(self, name: str) -> _Served:
        platform = self._platform
        stored = platform.store.load(name)
        scope = stored.manifest.scope
        key = platform.key_store.load_epoch_key(scope.epoch)
        evaluation = EvaluationKey(platform.group, POPRF, key, scope.info())
        key.wipe()
        return _Served(stored, evaluation)


def _repeated(stored: sessions.StoredCommit, digest: bytes) -> SignedDocument:
    if stored.sha256 != digest:
        raise StateError("other entries under a used commit id", "an exact repetition")
    return stored.receipt
