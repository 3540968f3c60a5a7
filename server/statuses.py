"""The one table from the error tree to gRPC status codes.

A peer gets a fixed text for its code. Only a `RefusedError` speaks for itself: its texts are written for
the peer and hold nothing of anybody's. A `QuotaError` and a `BusyError` say in the status details, too, when
to try again (google.rpc.RetryInfo). Details go to the platform's own log.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from purposematch.protocol.errors import (
    BusyError,
    DecodeError,
    LimitError,
    NotAuthenticatedError,
    NotAuthorizedError,
    NotFoundError,
    PolicyError,
    PurposematchError,
    QuotaError,
    RefusedError,
    StateError,
    UnavailableError,
    VerificationError,
)
from purposematch.server import wire
from purposematch.server.calls import ObservedCall

__all__ = ["aborting", "place_only", "status_of"]

_log = logging.getLogger("purposematch.server")

# The first class that fits decides, so a subclass stands before its base.
_STATUSES: tuple[tuple[type[PurposematchError], grpc.StatusCode, str], ...] = (
    (NotAuthenticatedError, grpc.StatusCode.UNAUTHENTICATED, ""),
    (NotAuthorizedError, grpc.StatusCode.PERMISSION_DENIED, ""),
    (NotFoundError, grpc.StatusCode.NOT_FOUND, ""),
    (QuotaError, grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
    (RefusedError, grpc.StatusCode.FAILED_PRECONDITION, ""),
    (DecodeError, grpc.StatusCode.INVALID_ARGUMENT, "a field of the message is malformed"),
    (VerificationError, grpc.StatusCode.INVALID_ARGUMENT, "a commit does not prove what it claims"),
    (StateError, grpc.StatusCode.FAILED_PRECONDITION, "the session's state does not allow this message"),
    (LimitError, grpc.StatusCode.RESOURCE_EXHAUSTED, "a limit of the session was passed"),
    (BusyError, grpc.StatusCode.UNAVAILABLE, "the platform serves as many as it can; try again soon"),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE, "the platform is not ready; try again later"),
    (PolicyError, grpc.StatusCode.FAILED_PRECONDITION, "the platform's policy was refused"),
)


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """The status code and the text that a peer gets for an error."""
    for kind, code, text in _STATUSES:
        if isinstance(error, kind):
            return code, text or str(error)
    return grpc.StatusCode.INTERNAL, "the platform failed; its log says why"


@asynccontextmanager
async def aborting(context: grpc.aio.ServicerContext[Any, Any], method: str) -> AsyncIterator[None]:
    """Runs a handler's body, counts and traces it, and turns what it raises into the call's status."""
    call = ObservedCall(context, method)
    try:
        yield
    except Exception as error:
        call.end(error)
        # grpc.aio ends a call by an exception of its own, which must pass.
        if isinstance(error, grpc.aio.AbortError):
            raise
        code, text = status_of(error)
        if isinstance(error, PurposematchError):
            # Our own texts never hold anything identifying, and the operator needs them.
            level = logging.ERROR if code is grpc.StatusCode.INTERNAL else logging.INFO
            _log.log(level, "%s answered %s: %s: %s", method, code.name, type(error).__name__, error)
        else:
            _log.error("%s failed: %s", method, type(error).__name__, exc_info=place_only(error))
        if isinstance(error, QuotaError | BusyError):
            details = wire.format_retry(code.value[0], text, error.retry_seconds)
            await context.abort(code, text, ((wire.STATUS_DETAILS, details),))
        await context.abort(code, text)
    except BaseException as error:
        # The peer went away, or the server stops.
        call.end(error)
        raise
    else:
        call.end()


def place_only(error: Exception) -> tuple[type[Exception], Exception, Any]:
    """What the log gets of an error that is not ours: type and place; its text could hold anything."""
    return RuntimeError, RuntimeError(type(error).__name__), error.__traceback__
