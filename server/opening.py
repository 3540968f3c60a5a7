"""Opening a session: who may, on which generation, and what it is computed with.

Everything is asked twice: before the grant is made, and in the transaction that stores it, since a
certificate, an agreement or a permission may have been taken back in between. It blocks, and is called from
worker threads.

Not protected against: enumeration. What bounds guessing is the agreement's daily quota, which is charged
here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.delegation import DelegatedList
from purposematch.protocol.errors import (
    DecodeError,
    IntegrityError,
    RefusedError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.label import LABEL_LENGTH
from purposematch.protocol.log.session_proof import SessionProof
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.match_engine import EngineChoice, MatchEngine
from purposematch.protocol.messages import SESSION_ID_LENGTH, SessionGrant
from purposematch.protocol.one_shot import auto_engine, why_not
from purposematch.protocol.signing import SignedDocument
from purposematch.server.checkpoints import check_log
from purposematch.server.freshness import Stale, freshness
from purposematch.server.on_behalf import owner_of
from purposematch.server.open_sessions import OpenSessions
from purposematch.server.pki import PeerIdentity
from purposematch.server.platform import Platform
from purposematch.server.point_lists import list_of
from purposematch.server.registry import exchanges, ledger, quota, sessions
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.release import known_answer
from purposematch.server.session_proofs import session_proof

__all__ = ["OpenedSession", "SessionOpening"]


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """What a peer gets when it opened a session."""

    grant: SignedDocument
    manifest: SignedDocument
    proof: SessionProof


class SessionOpening:
    """Opens the sessions of a platform's peers.

    Args:
        platform: the open platform.
        sessions: those of its peers.
        server_certificate: gives SHA-256 of the TLS certificate that new connections are shown, 32 bytes.
        has_vole: whether sessions can be opened for the VOLE engine.
    """

    def __init__(
        self,
        platform: Platform,
        sessions: OpenSessions,
        server_certificate: Callable[[], bytes],
        *,
        has_vole: bool,
    ) -> None:
        self._platform = platform
        self._sessions = sessions
        self._server_certificate = server_certificate
        self._has_vole = has_vole

    def open(
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
            self._sessions.admit(connection, peer)
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
            served = self._sessions.served(state.generation.name)
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
            self._sessions.admit(connection, peer)
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
