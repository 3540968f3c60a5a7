"""The matching service without gRPC: sessions, batches, segments and commits against the registry.

Every method takes the peer that the TLS layer authenticated and either answers or raises. They block, and
are called from worker threads; several may run at once, also for one session and in several processes.

Not protected against: enumeration. An advertiser learns of every identifier on its list whether it is
enrolled, so what bounds guessing is the agreement's daily quota.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.delegation import DelegatedList
from purposematch.protocol.errors import (
    DecodeError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    StateError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.group import Bytes
from purposematch.protocol.label import LABEL_LENGTH
from purposematch.protocol.log.session_proof import SessionProof
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.match_engine import EngineChoice, MatchEngine
from purposematch.protocol.messages import (
    SESSION_ID_LENGTH,
    CommitEntries,
    EvaluateReply,
    EvaluateRequest,
    Receipt,
    SessionGrant,
)
from purposematch.protocol.one_shot import auto_engine, why_not
from purposematch.protocol.platform import PlatformSession
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.transcript import transcript_hash
from purposematch.server.audience import admitted_assertions, change_audience
from purposematch.server.checkpoints import check_log
from purposematch.server.freshness import Stale, freshness
from purposematch.server.on_behalf import demand_in_force, owner_of
from purposematch.server.open_sessions import OpenSessions
from purposematch.server.pki import PeerIdentity
from purposematch.server.platform import Platform
from purposematch.server.point_lists import list_of
from purposematch.server.registry import exchanges, generations, ledger, quota, sessions
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.sessions import SessionState
from purposematch.server.release import known_answer
from purposematch.server.session_proofs import session_proof

__all__ = ["Matching", "OpenedSession"]


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """What a peer gets when it opened a session."""

    grant: SignedDocument
    manifest: SignedDocument
    proof: SessionProof


class Matching:
    """The platform's half of matches.

    Args:
        platform: the open platform.
        server_certificate: gives SHA-256 of the TLS certificate that new connections are shown, 32 bytes.
        has_vole: whether sessions can be opened for the VOLE engine.

    Attributes:
        sessions: those of the platform's peers.
    """

    def __init__(
        self, platform: Platform, server_certificate: Callable[[], bytes], *, has_vole: bool = False
    ) -> None:
        self._platform = platform
        self._has_vole = has_vole
        self._server_certificate = server_certificate
        self.sessions = OpenSessions(platform)

    def open_session(
        self,
        peer: PeerIdentity,
        agreement_digest: bytes,
        list_size: int,
        delegated: DelegatedList | None = None,
        label: bytes = b"",
        audience: AudienceChange | None = None,
        engine: EngineChoice = EngineChoice.OPRF,
        cached: int = 0,
    ) -> OpenedSession | SignedDocument:
        """Opens a session on the current generation; or gives the signed answer, if it is known already.

        Args:
            peer: the advertiser, or a partner.
            agreement_digest: of the advertiser's agreement that the peer holds, 32 bytes.
            list_size: distinct identifiers in the list.
            delegated: under which delegation a partner brings which list; None of an advertiser.
            label: what the peer calls the list under a noisy disclosure, 32 bytes; empty under others.
            engine: what the peer wants it computed with.
            cached: tags, or points, that the peer has kept, for `EngineChoice.AUTO`.

        Raises:
            NotAuthenticatedError, NotAuthorizedError: the peer is not admitted as an advertiser or partner.
            RefusedError: no or another agreement is in force, or the list is too small or too large for it; a
                partner has no delegation for it, see `owner_of`; VOLE is asked for and not to be had; or, as
                `BudgetError`, the budget of the legal entity is spent.
            DecodeError: a label is missing, or there is one that nothing asks for.
            QuotaError: the agreement's quota has no room for the session now.
            UnavailableError: no generation is fresh; the publisher will see to it.
            ConfigurationError, IntegrityError: the log does not extend the last checkpoint, see `check_log`.
        """
        platform = self._platform
        now = platform.clock()
        with platform.registry.reading() as connection:
            self.sessions.admit(connection, peer)
            owner, most_delegated = owner_of(connection, peer, delegated, now)
            agreement = agreement_in_force(connection, owner, now)
            state = freshness(platform, connection, now)
        if agreement.digest != agreement_digest:
            raise RefusedError(
                f"agreement {agreement.number} is in force and not the one in the credentials folder: accept "
                "that one, or let the platform record yours"
            )
        if len(label) != (LABEL_LENGTH if agreement.disclosure.noisy else 0):
            raise DecodeError("a session under a noisy disclosure has a label, and no other has")
        if audience is not None and not agreement.disclosure.makes_audience:
            raise DecodeError(f"a session under disclosure `{agreement.disclosure}` changes no audience")
        limits = platform.config.limits
        least = max(agreement.min_list_elements, limits.min_list_elements)
        most = min(agreement.max_list_elements, limits.max_list_elements, most_delegated)
        if not least <= list_size <= most:
            raise RefusedError(
                f"a list must have {least} to {most} distinct identifiers under this agreement"
            )
        if state.generation is None or state.problem:
            raise UnavailableError(state.problem)
        if (state.generation.purpose, state.generation.profile) != (agreement.purpose, agreement.profile):
            raise RefusedError("the platform publishes for another purpose than the agreement's")
        try:
            served = self.sessions.served(state.generation.name)
        except (IntegrityError, VerificationError) as error:
            raise UnavailableError("the generation's files are damaged") from error
        name, manifest = list_of(agreement), served.stored.manifest
        computed = self._engine(agreement, engine, list_size, manifest.count, cached)
        if name is not None:
            if computed is MatchEngine.OPRF:
                self._demand_list(manifest, name)
            known = (agreement, label, state.generation.name, platform.policy(), now)
            with platform.registry.reading() as connection:
                answer = known_answer(platform, connection, *known)
            if answer is not None:
                return answer
        # A session that is added to a log which was cut can not be shown to anybody.
        check_log(platform)
        grant = SessionGrant(
            session=platform.random_bytes(SESSION_ID_LENGTH),
            agreement=agreement.digest,
            manifest=Manifest.digest(served.stored.document),
            client_certificate=peer.fingerprint,
            server_certificate=self._server_certificate(),
            list_size=list_size,
            max_batch_elements=limits.max_batch_elements,
            window=limits.batches_in_flight,
            delegation=None if delegated is None else delegated.digest,
            audience=audience or USUAL_CHANGE,
            engine=computed,
        )
        document = grant.sign(platform.identity)
        with platform.registry.writing() as connection:
            # A withdrawal or another generation may have come in since, and files of the old one be gone.
            if freshness(platform, connection, now) != state:
                raise UnavailableError("the generation was replaced meanwhile")
            # So may another agreement, and certificate and delegation may have been revoked.
            self.sessions.admit(connection, peer)
            owner_of(connection, peer, delegated, now)
            if agreement_in_force(connection, owner, now) != agreement:
                raise RefusedError("the agreement was replaced meanwhile")
            quota.charge_session(connection, agreement, list_size, now)
            listed = None if delegated is None else delegated.name
            sessions.add_session(connection, grant, document, state.generation.name, owner, now, listed)
            if name is not None:
                exchanges.add_exchange(connection, grant.session.hex(), label)
            ledger.record_session(connection, grant.session.hex(), platform.random_bytes)
        proof = session_proof(platform, grant.session)
        return OpenedSession(document, served.stored.document, proof)

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

    def _engine(
        self, agreement: Agreement, wanted: EngineChoice, list_size: int, enrolled: int, cached: int
    ) -> MatchEngine:
        """What a session is computed with."""
        if wanted is EngineChoice.OPRF:
            return MatchEngine.OPRF
        reason = why_not(agreement, list_size, enrolled)
        if reason is None and not self._has_vole:
            reason = "the platform has no VOLE engine"
        if wanted is EngineChoice.VOLE:
            if reason is not None:
                raise RefusedError(reason)
            return MatchEngine.VOLE
        if reason is not None:
            return MatchEngine.OPRF
        return auto_engine(agreement, list_size, enrolled, cached)

    def _demand_list(self, manifest: Manifest, name: str) -> None:
        """Demands the list that an agreement needs, and the secret that it was made with."""
        secret = self._platform.data_dir.epoch_secret(manifest.scope.epoch)
        if name not in manifest.point_lists or not secret.exists():
            raise UnavailableError(Stale.POINT_LISTS)

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
