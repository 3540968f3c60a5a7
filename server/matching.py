"""The matching service without gRPC: batches, segments and commits of sessions against the registry.

Every method takes the peer that the TLS layer authenticated and either answers or raises. They block, and
are called from worker threads; several may run at once, also for one session and in several processes.

Not protected against: enumeration. An advertiser learns of every identifier on its list whether it is
enrolled, so what bounds guessing is the agreement's daily quota.
"""

import hashlib
from collections.abc import Callable

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.errors import (
    NotFoundError,
    RefusedError,
    StateError,
    VerificationError,
)
from purposematch.protocol.group import Bytes
from purposematch.protocol.log.session_proof import SessionProof
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.messages import (
    CommitEntries,
    EvaluateReply,
    EvaluateRequest,
    Receipt,
    SessionGrant,
)
from purposematch.protocol.platform import PlatformSession
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.transcript import transcript_hash
from purposematch.server.audience import admitted_assertions, change_audience
from purposematch.server.on_behalf import demand_in_force
from purposematch.server.open_sessions import OpenSessions
from purposematch.server.opening import SessionOpening
from purposematch.server.pki import PeerIdentity
from purposematch.server.platform import Platform
from purposematch.server.point_lists import list_of
from purposematch.server.registry import generations, ledger, quota, sessions
from purposematch.server.registry.sessions import SessionState
from purposematch.server.session_proofs import session_proof

__all__ = ["Matching"]


class Matching:
    """The platform's half of matches.

    Args:
        platform: the open platform.
        server_certificate: gives SHA-256 of the TLS certificate that new connections are shown, 32 bytes.
        has_vole: whether sessions can be opened for the VOLE engine.

    Attributes:
        sessions: those of the platform's peers.
        opening: opens them.
    """

    def __init__(
        self, platform: Platform, server_certificate: Callable[[], bytes], *, has_vole: bool = False
    ) -> None:
        self._platform = platform
        self.sessions = OpenSessions(platform)
        self.opening = SessionOpening(platform, self.sessions, server_certificate, has_vole=has_vole)

    def evaluate(self, peer: PeerIdentity, session_id: bytes, request: EvaluateRequest) -> EvaluateReply:
        """Evaluates one batch, recording it before the work.

        Its elements are decoded first: who sends what is none hears of that, whatever became of the session.

        Raises:
            DecodeError: an element is not valid; nothing was computed or stored.
            NotAuthenticatedError: the peer is not admitted.
            NotFoundError: no such session of this peer.
            StateError: the session is not open, or this batch number was used for other bytes; the latter
                ends the session.
            LimitError: the session has no elements left.
            RefusedError: the agreement is not in force any more, or its disclosure shows no matches.
            QuotaError: the day's quota has no room, see `quota.charge_elements`.
        """
        platform = self._platform
        # It takes a while, and others wait for whoever writes.
        elements = platform.group.decode(request.blinded)
        row = None
        try:
            with platform.registry.writing() as connection:
                # The log says at a session's end which batches it had: none may follow.
                row, agreement = self.sessions.used(connection, peer, session_id)
                _demand_batches(row, agreement)
                session = self._protocol_session(row)
                known = sessions.batch_digest(connection, row.id, request.number)
                before = sessions.evaluated_elements(connection, row.id)
                if session.admit(request, before, known):
                    count, now = len(elements), platform.clock()
                    charged = session.charged(before, count)
                    quota.charge_elements(connection, agreement, charged, now)
                    recorded = sessions.Batch(request.number, request.digest, count, charged, now)
                    sessions.add_batch(connection, row.id, recorded)
        except StateError:
            # A session that messages might come for was broken by this one.
            if row is not None:
                self.sessions.end(row.id, SessionState.ENDED)
            raise
        return session.evaluate(request.number, elements, platform.random_bytes)

    def demand_session(self, peer: PeerIdentity, session_id: bytes) -> None:
        """Checks that a session is open, of this peer, and evaluates batches, before these come.

        Raises:
            NotAuthenticatedError: the peer's certificate is not admitted.
            NotFoundError, NotAuthorizedError: no such session of this peer.
            StateError: the session is not open.
            RefusedError: it evaluates no batches, or the agreement or the delegation is not in force now.
        """
        row, agreement = self.sessions.usable(peer, session_id)
        _demand_batches(row, agreement)
        # What batches need of its generation is loaded here, and not where others wait for whoever writes.
        self.sessions.served(row.generation)

    def segment(self, peer: PeerIdentity, session_id: bytes, sha256: bytes) -> Bytes:
        """One segment of the session's generation: tags (n, 16), or points (n, 32) in a set exchange.

        Raises:
            NotAuthenticatedError: the peer is not admitted.
            NotFoundError: no such session of this peer, or no segment of its generation that its disclosure
                has a use for.
            StateError: the session is not open.
        """
        row, agreement = self.sessions.usable(peer, session_id)
        if row.engine is MatchEngine.VOLE:
            raise NotFoundError("this session is matched by VOLE, and has no use for segments")
        manifest = self.sessions.served(row.generation).stored.manifest
        name = list_of(agreement)
        for segment in manifest.all_segments if name is None else manifest.point_lists.get(name, ()):
            if segment.sha256 == sha256:
                return self._platform.store.segment(segment)
        raise NotFoundError("the session's generation has no such segment")

    def commit_limit(self, peer: PeerIdentity, session_id: bytes) -> int:
        """Entries that a commit of this session may have at most: what it had evaluated, of one list.

        Raises:
            NotAuthenticatedError: the peer is not admitted.
            NotFoundError: no such session of this peer. One that is not open any more may still repeat the
                commit that it made.
        """
        with self._platform.registry.reading() as connection:
            self.sessions.admit(connection, peer)
            row = self.sessions.owned(connection, peer, session_id)
            declared = SessionGrant.parse(row.grant).list_size + CANARY_COUNT
            return min(sessions.evaluated_elements(connection, row.id), declared)

    def commit(
        self, peer: PeerIdentity, session_id: bytes, commit_id: bytes, entries: CommitEntries
    ) -> SignedDocument:
        """Stores a commit and the audience it makes, or returns the receipt stored under the same id.

        Raises:
            NotAuthenticatedError: the peer is not admitted.
            NotFoundError: no such session of this peer.
            RefusedError: the agreement's disclosure has no commit, or it is not in force any more.
            StateError: the session is not open, or has another commit, or other entries under this id.
            LimitError: more entries than the session evaluated, or declared.
            VerificationError: an entry does not prove what it claims; nothing was stored.
        """
        platform = self._platform
        digest = hashlib.sha256(entries.encode()).digest()
        with platform.registry.reading() as connection:
            self.sessions.admit(connection, peer)
            row = self.sessions.owned(connection, peer, session_id)
            stored = sessions.find_commit(connection, row.id, commit_id)
            if stored is not None:
                # Whatever became of the agreement since: both sides must come to know the same.
                return _repeated(stored, digest)
            self.sessions.demand_open(row)
            agreement = demand_in_force(connection, row, platform.clock())
            evaluated = sessions.evaluated_elements(connection, row.id)
        if agreement.disclosure is not Disclosure.BOTH:
            raise RefusedError("the agreement's disclosure has no commit")
        session = self._protocol_session(row)
        served = self.sessions.served(row.generation)
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
            engine=session.grant.engine,
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
            self.sessions.demand_open(self.sessions.owned(connection, peer, session_id))
            if sessions.has_other_commit(connection, row.id, commit_id):
                raise StateError("a second commit", "one commit in a session")
            pinned = table.granting_of(rows)
            generation = generations.find_generation(connection, row.generation)
            granting = admitted_assertions(connection, generation, pinned, policy, platform.taxonomy, now)
            commit = sessions.StoredCommit(digest, document)
            policy_id = ledger.record_policy(connection, policy, now, platform.random_bytes)
            sessions.add_commit(connection, row.id, commit_id, now, commit, policy_id)
            change_audience(platform, connection, row, granting, now)
            ledger.record_commit(connection, row.id, commit_id.hex(), platform.random_bytes)
        return document

    def find_commit(self, peer: PeerIdentity, session_id: bytes, commit_id: bytes) -> SignedDocument:
        """The stored receipt of a commit.

        Raises:
            NotAuthenticatedError: the peer is not admitted.
            NotFoundError: no such session of this peer, or no such commit.
        """
        with self._platform.registry.reading() as connection:
            self.sessions.admit(connection, peer)
            row = self.sessions.owned(connection, peer, session_id)
            stored = sessions.find_commit(connection, row.id, commit_id)
        if stored is None:
            raise NotFoundError("the platform has not stored this commit")
        return stored.receipt

    def close_session(self, peer: PeerIdentity, session_id: bytes) -> SessionProof:
        """Closes a session, closing it twice is no error; what the log holds of it afterwards.

        Raises:
            NotAuthenticatedError: the peer is not admitted.
            NotFoundError: no such session of this peer.
        """
        with self._platform.registry.reading() as connection:
            self.sessions.admit(connection, peer)
            row = self.sessions.owned(connection, peer, session_id)
        self.sessions.end(row.id, SessionState.CLOSED)
        return session_proof(self._platform, session_id)

    def _protocol_session(self, row: sessions.SessionRow) -> PlatformSession:
        served = self.sessions.served(row.generation)
        return PlatformSession(self._platform.group, served.key, SessionGrant.parse(row.grant))


def _demand_batches(row: sessions.SessionRow, agreement: Agreement) -> None:
    """Demands that a session is one whose batches are evaluated."""
    if agreement.disclosure.noisy:
        # An evaluation would show the advertiser which of its rows match.
        raise RefusedError(f"disclosure `{agreement.disclosure}` shows no matches")
    if row.engine is MatchEngine.VOLE:
        raise RefusedError("the session is matched by VOLE, and evaluates no batches")


def _repeated(stored: sessions.StoredCommit, digest: bytes) -> SignedDocument:
    if stored.sha256 != digest:
        raise StateError("other entries under a used commit id", "an exact repetition")
    return stored.receipt
