"""Every call as metrics and traces see it: how long it took, how it ended, which trace it belongs to.

An interceptor puts what counts calls into the context of the task that serves a call, and `aborting`, which
is around the body of every handler, tells it of the end. So no service has to know of it.

Not protected against: a call that no handler was found for; gRPC answers it by itself and nobody counts it.
"""

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

from purposematch.protocol.errors import PurposematchError
from purposematch.server import wire
from purposematch.server.log_format import begin_call, note_session
from purposematch.server.metrics import Metrics
from purposematch.telemetry import ServedCall

__all__ = ["CountingInterceptor", "ObservedCall", "called_session", "note_call_session", "reason_of"]

_metrics: ContextVar[Metrics] = ContextVar("metrics")
_call: ContextVar["ObservedCall"] = ContextVar("call")


class CountingInterceptor(grpc.aio.ServerInterceptor):
    """Gives every call the metrics that it is counted in.

    Args:
        metrics: those.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._count_in = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Runs in the task that then serves the call."""
        _metrics.set(self._count_in)
        return await continuation(handler_call_details)


class ObservedCall:
    """One call that is being served.

    Args:
        context: of gRPC.
        method: its name.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], method: str) -> None:
        self._method = method
        self._began = time.monotonic()
        self._trace = ServedCall(method, context.invocation_metadata() or ())
        _call.set(self)
        begin_call()

    def note_session(self, session_id: bytes) -> None:
        """Says which session it is about."""
        self._trace.note(session=session_id.hex())

    def end(self, error: BaseException | None = None) -> None:
        """It has ended: well, or by an error."""
        self._trace.end(error)
        metrics = _metrics.get(None)
        if metrics is not None:
            seconds = time.monotonic() - self._began
            metrics.count_call(self._method, seconds, None if error is None else reason_of(error))


def note_call_session(session_id: bytes) -> None:
    """Says which session the call is about that the present task serves, to its log lines and its trace."""
    note_session(session_id)
    call = _call.get(None)
    if call is not None:
        call.note_session(session_id)


def called_session(sent: bytes) -> bytes:
    """The session that a message is about, which log and trace name from then on.

    Raises:
        DecodeError: it is no session id.
    """
    session_id = wire.parse_session_id(sent)
    note_call_session(session_id)
    return session_id


def reason_of(error: BaseException) -> str:
    """The label of an error: `refused` for a RefusedError, and `internal` for what is not of our tree."""
    if not isinstance(error, PurposematchError):
        return "cancelled" if not isinstance(error, Exception) else "internal"
    words = "".join(f"_{each.lower()}" if each.isupper() else each for each in type(error).__name__)
    return words.strip("_").removesuffix("_error")
