"""gRPC status codes as errors of purposematch, with fixed texts that say what to do.

Of the platform's own status texts only a refusal's reason is repeated, shortened and without anything that
a terminal would take for a command.

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

_SAID_CHARACTERS: Final = 200
"""Characters of the platform's text that are shown at most."""

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
        "a limit of the session is used up; ask the platform for a higher one",
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


def translate(code: grpc.StatusCode, doing: str, said: str | None = None) -> PurposematchError:
    """The error for a call that ended with `code`.

    Args:
        code: any but OK.
        doing: what the call was for, the beginning of the text.
        said: the platform's text, which counts for a refusal only.
    """
    kind, text = _TEXTS.get(code, _FAILED)
    if code is grpc.StatusCode.FAILED_PRECONDITION and said:
        shown = "".join(character if character.isprintable() else "?" for character in said)
        text = f"the platform refused: {shown[:_SAID_CHARACTERS]}"
    return kind(f"{doing}: {text}")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises what `translate` gives for a gRPC error in the block."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise translate(error.code(), doing, error.details()) from None
