"""Who is at the other end of a call, and whether they are admitted.

TLS has verified the client certificate: who signed it, and that the peer has its key. That is not enough:
it must be recorded for its role and name, and not be revoked, and is looked up at every call, so that
somebody who is shut out stays on no connection.

Not protected against: an operator who records a certificate for the wrong holder.
"""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from purposematch.protocol.errors import DecodeError, NotAuthenticatedError, NotAuthorizedError
from purposematch.server.pki import PeerIdentity, Role, peer_identity
from purposematch.server.platform import Platform
from purposematch.server.registry.certificates import find_certificate

if TYPE_CHECKING:
    # Commands check roles too, and gRPC asks the environment how much to log when it is imported.
    import grpc

__all__ = ["admit", "demand_admitted", "peer_of"]


def peer_of(context: "grpc.aio.ServicerContext[Any, Any]") -> PeerIdentity:
    """The peer of a call, as its certificate says.

    Raises:
        NotAuthenticatedError: there is no client certificate, or it names nobody.
    """
    certificate = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
    if certificate is None:
        raise NotAuthenticatedError("a client certificate is needed")
    try:
        return peer_identity(certificate)
    except DecodeError:
        raise NotAuthenticatedError("the client certificate names no role") from None


def admit(platform: Platform, peer: PeerIdentity, *roles: Role) -> None:
    """As `demand_admitted`, by itself. It blocks: call it from a worker thread."""
    with platform.registry.reading() as connection:
        demand_admitted(platform, connection, peer, *roles)


def demand_admitted(platform: Platform, connection: Connection, peer: PeerIdentity, *roles: Role) -> None:
    """Checks that a peer has one of some roles at this platform, and that its certificate is admitted.

    Raises:
        NotAuthenticatedError: the certificate is for another platform, not recorded for its role and name,
            revoked or over. The text is for the peer and for the platform's log.
        NotAuthorizedError: it has another role.
    """
    if peer.platform_id != platform.config.platform_id:
        raise NotAuthenticatedError("the certificate is for another platform")
    if peer.role not in roles:
        raise NotAuthorizedError(f"this certificate is not one of the role {' or '.join(roles)}")
    recorded = find_certificate(connection, peer.fingerprint)
    which = f"the certificate of {peer.role} {peer.name}"
    if recorded is None or (recorded.role, recorded.name) != (peer.role, peer.name):
        raise NotAuthenticatedError(
            f"{which} is not recorded: the platform records it with purposematch-platform certificate add"
        )
    if recorded.revoked_at is not None:
        raise NotAuthenticatedError(
            f"{which} was revoked ({recorded.reason}): the platform issues or records another one"
        )
    # The handshake may have been long ago.
    if platform.clock() >= recorded.not_after:
        raise NotAuthenticatedError(
            f"{which} has expired: the platform issues or records another one, and then connect again"
        )
