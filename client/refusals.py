"""gRPC status codes as errors of purposematch, with fixed texts that say what to do.

The platform's own status texts are not repeated: they come from outside, and a terminal would show them.

Not protected against: a platform that lies about why it refuses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc

from purposematch.protocol.errors import (
    NotAuthenticatedError,
    NotAuthorizedError,
    NotFoundError,
    PurposematchError,
    RefusedError,
    UnavailableError,
)

__all__ = ["translate", "translated"]

_LATER: Final = "try again later"

_AWAY: Final = (
    UnavailableError,
    f"the connection broke off, or the platform is not ready (it may be publishing); {_LATER}",
)
_TEXTS: Final[dict[grpc.StatusCode, tuple[type[PurposematchError], str]]] = {
    grpc.StatusCode.UNAVAILABLE: _AWAY,
    grpc.StatusCode.CANCELLED: _AWAY,
    grpc.StatusCode.ABORTED: _AWAY,
    grpc.StatusCode.DEADLINE_EXCEEDED: (UnavailableError, f"the platform did not answer in time; {_LATER}"),
    grpc.StatusCode.UNAUTHENTICATED: (
        NotAuthenticatedError,
        "the platform does not accept the client certificate; ask it for fresh credentials",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        NotAuthorizedError,
        "the platform has no advertiser with this certificate; ask it for fresh credentials",
    ),
    grpc.StatusCode.NOT_FOUND: (
        NotFoundError,
        "the platform does not know this session, or not what was asked for in it; start again",
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (
        RefusedError,
        "the platform refused: the agreement in the credentials is not the one in force, the list is smaller "
        "or larger than the agreement allows, or the session has ended; ask the platform which",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        RefusedError,
        "a limit of the session or the day's quota is used up; wait, or ask the platform for a higher one",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        RefusedError,
        "this is no purposematch platform, or one of another version; check the address",
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (
        RefusedError,
        "the platform could not read what was sent; use the same version of purposematch on both sides",
    ),
}
_FAILED: Final = (
    UnavailableError,
    f"the platform failed; {_LATER}, and tell the platform if it fails again",
)


def translate(code: grpc.StatusCode, doing: str) -> PurposematchError:
    """The error for a call that ended with `code`.

    Args:
        code: any but OK.
        doing: what the call was for, the beginning of the text.
    """
    kind, text = _TEXTS.get(code, _FAILED)
    return kind(f"{doing}: {text}")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises what `translate` gives for a gRPC error in the block."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise translate(error.code(), doing) from None
