"""Who is at the other end of a call, from the client certificate that TLS has verified."""

from typing import TYPE_CHECKING, Any

from purposematch.protocol.errors import DecodeError, NotAuthenticatedError, NotAuthorizedError
from purposematch.server.pki import PeerIdentity, Role, peer_identity
from purposematch.server.registry.sessions import Advertiser

if TYPE_CHECKING:
    # Commands check roles too, and gRPC asks the environment how much to log when it is imported.
    import grpc

__all__ = ["demand_advertiser", "demand_member", "demand_role", "peer_of"]


def peer_of(context: "grpc.aio.ServicerContext[Any, Any]") -> PeerIdentity:
    """The peer of a call.

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


def demand_member(peer: PeerIdentity, platform_id: str) -> None:
    """Checks that a peer was certified by this platform, in any role.

    Raises:
        NotAuthenticatedError: the certificate is for another platform.
    """
    if peer.platform_id != platform_id:
        raise NotAuthenticatedError("the certificate is for another platform")


def demand_role(peer: PeerIdentity, platform_id: str, *roles: Role) -> None:
    """Checks that a peer has one of some roles at this platform.

    Raises:
        NotAuthenticatedError: the certificate is for another platform.
        NotAuthorizedError: it has another role.
    """
    demand_member(peer, platform_id)
    if peer.role not in roles:
        raise NotAuthorizedError(f"this certificate is not one of the role {' or '.join(roles)}")


def demand_advertiser(peer: PeerIdentity, platform_id: str, found: Advertiser | None) -> Advertiser:
    """Checks that a peer is the advertiser that the registry has under its name.

    Raises:
        NotAuthenticatedError: the certificate is for another platform.
        NotAuthorizedError: it has another role, or is not the one that was recorded.
    """
    demand_role(peer, platform_id, Role.ADVERTISER)
    if found is None or found.fingerprint != peer.fingerprint:
        raise NotAuthorizedError("this certificate is not one of a current advertiser")
    return found
