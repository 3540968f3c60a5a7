"""gRPC status codes as errors of purposematch, with fixed texts that say what to do.

Of the platform's own status texts only a refusal's reason is repeated, shortened and without anything that
a terminal would take for a command.

Not protected against: a platform that lies about why it refuses.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Self

import grpc
import grpc.aio

from purposematch.client.wire import STATUS_DETAILS, retry_seconds
from purposematch.protocol.errors import (
    BusyError,
    NotAuthenticatedError,
    NotAuthorizedError,
    NotFoundError,
    PurposematchError,
    QuotaError,
    RefusedError,
    UnavailableError,
)

__all__ = ["CallStatus", "Texts", "status_of", "translate", "translated"]

Texts = Mapping[grpc.StatusCode, tuple[type[PurposematchError], str]]
"""What status codes mean: the error, and its text after what was being done."""

_LATER: Final = "try again later"

_LONGEST_WAIT: Final = 10 * 366 * 86_400
"""The longest wait that is shown, in seconds."""

_SAID_CHARACTERS: Final = 200
"""Characters of the platform's text that are shown at most."""

_AWAY: Final = (
    UnavailableError,
    f"the connection broke off, or the platform is not ready (it may be publishing); {_LATER}",
)
_TEXTS: Final[Texts] = {
    grpc.StatusCode.UNAVAILABLE: _AWAY,
    grpc.StatusCode.CANCELLED: _AWAY,
    grpc.StatusCode.ABORTED: _AWAY,
    grpc.StatusCode.DEADLINE_EXCEEDED: (UnavailableError, f"the platform did not answer in time; {_LATER}"),
    grpc.StatusCode.UNAUTHENTICATED: (
        NotAuthenticatedError,
        "the platform does not admit the client certificate: it is not recorded there, was revoked, or has "
        "expired; ask the platform for fresh credentials, or to record this certificate",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        NotAuthorizedError,
        "the role in the client certificate may not do this; use the credentials that are for it",
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


@dataclass(frozen=True, slots=True)
class CallStatus:
    """How a call ended: the code, the platform's text, and when it says to try again, in seconds, or None."""

    code: grpc.StatusCode
    said: str = ""
    retry_seconds: int | None = None

    @classmethod
    def of(cls, code: grpc.StatusCode, said: str | None, trailing: Iterable[tuple[str, str | bytes]]) -> Self:
        """The status with what is in the trailing metadata of the call."""
        details = next((value for key, value in trailing if key == STATUS_DETAILS), b"")
        return cls(code, said or "", retry_seconds(details) if isinstance(details, bytes) else None)


def translate(status: CallStatus, doing: str, texts: Texts = MappingProxyType({})) -> PurposematchError:
    """The error for a call that ended.

    Args:
        status: with any code but OK; its text counts for a refusal only.
        doing: what the call was for, the beginning of the text.
        texts: other errors and texts than those of a match, for some codes.
    """
    kind, text = texts.get(status.code) or _TEXTS.get(status.code, _FAILED)
    shown = "".join(character if character.isprintable() else "?" for character in status.said)
    refused = f"the platform refused: {shown[:_SAID_CHARACTERS]}"
    if status.code is grpc.StatusCode.FAILED_PRECONDITION and shown:
        text = refused
    if status.code is grpc.StatusCode.UNAVAILABLE and status.retry_seconds is not None:
        text = "the platform serves as many matches as it can at the moment; try again soon"
        return BusyError(f"{doing}: {text}", status.retry_seconds)
    if status.code is grpc.StatusCode.RESOURCE_EXHAUSTED and shown and status.retry_seconds is not None:
        wait = timedelta(seconds=min(status.retry_seconds, _LONGEST_WAIT))
        text = f"{refused}; try again in {wait} (hours:minutes:seconds)"
        return QuotaError(f"{doing}: {text}", status.retry_seconds)
    return kind(f"{doing}: {text}")


@contextmanager
def translated(doing: str, texts: Texts = MappingProxyType({})) -> Iterator[None]:
    """Raises what `translate` gives for a gRPC error in the block."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise translate(status_of(error), doing, texts) from None


def status_of(error: grpc.aio.AioRpcError) -> CallStatus:
    """How the call ended that raised this."""
    return CallStatus.of(error.code(), error.details(), error.trailing_metadata() or ())
