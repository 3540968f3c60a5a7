"""Streams of one call: batches and their answers, parts of something long, and how a call ended.

What bounds a stream is silence, not its length: whatever comes, or goes out, begins a new count.

Not protected against: a platform that sends a little now and then keeps a client waiting.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import grpc
import grpc.aio

from purposematch.client.refusals import CallStatus, Texts, status_of, translate
from purposematch.client.wire import received
from purposematch.protocol.errors import StateError
from purposematch.protocol.messages import EvaluateReply, EvaluateRequest

if TYPE_CHECKING:
    from grpc.aio import StreamStreamCall, UnaryStreamCall

__all__ = ["Batches", "Ending", "Evaluations", "parts"]

STATUS_SECONDS: Final = 1.0
"""How long to wait for the status of a call that has failed already."""
STATUS_POLLS: Final = 100

_UNKNOWN_ENDING: Final = CallStatus(grpc.StatusCode.INTERNAL)

_Request = TypeVar("_Request")
_Message = TypeVar("_Message")
_Batch = TypeVar("_Batch")
_Answer = TypeVar("_Answer")


async def parts(
    call: "UnaryStreamCall[_Request, _Message]",
    doing: str,
    silence_seconds: float,
    texts: Texts = MappingProxyType({}),
) -> AsyncGenerator[_Message, None]:
    """The messages of a call, ended when none comes for so long.

    Args:
        call: begun, and not read from.
        doing: what it is for, the beginning of an error's text.
        silence_seconds: between two messages at most.
        texts: as `translate` takes them.

    Raises:
        UnavailableError, RefusedError: the call ended with an error, or was ended for silence.
    """
    try:
        while True:
            async with asyncio.timeout(silence_seconds):
                message = await call.read()
            if message is grpc.aio.EOF:
                return
            yield received(cast(_Message, message))
    except TimeoutError:
        raise translate(CallStatus(grpc.StatusCode.DEADLINE_EXCEEDED), doing, texts) from None
    except grpc.aio.AioRpcError as error:
        raise translate(status_of(error), doing, texts) from None
    finally:
        call.cancel()


class Ending:
    """Remembers how a call with a stream of requests ended.

    When a write fails because the call has ended, gRPC calls that INTERNAL, before or after the status that
    the platform gave, and keeps only the later of the two.

    Args:
        call: the call, not yet ended.
    """

    def __init__(self, call: grpc.aio.Call) -> None:
        self._call = call
        self._first = _UNKNOWN_ENDING
        call.add_done_callback(self._note_first)

    def _note_first(self, call: grpc.aio.Call) -> None:
        # The status is there already, so asking for it does not wait and the coroutine ends at once.
        try:
            _status(call).send(None)
        except StopIteration as answer:
            self._first = answer.value

    async def status(self) -> CallStatus:
        """The platform's status, INTERNAL if it gives none."""
        for _ in range(STATUS_POLLS):
            for ending in (self._first, await _status(self._call)):
                if ending.code is not grpc.StatusCode.INTERNAL:
                    return ending
            await asyncio.sleep(STATUS_SECONDS / STATUS_POLLS)
        return _UNKNOWN_ENDING


async def _status(call: grpc.aio.Call) -> CallStatus:
    return CallStatus.of(await call.code(), await call.details(), await call.trailing_metadata() or ())


class Batches(Generic[_Batch, _Answer]):
    """One stream of batches and their answers; one task may send while another receives.

    Args:
        call: the gRPC call.
        encode: makes the message of a batch.
        decode: makes the value of an answer.
        doing: what the stream is for, the beginning of an error's text.
        silence_seconds: how long nothing may come or go while an answer is waited for.
    """

    def __init__(
        self,
        call: "StreamStreamCall[Any, Any]",
        encode: Callable[[_Batch], Any],
        decode: Callable[[Any], _Answer],
        doing: str,
        silence_seconds: float,
    ) -> None:
        self._call = call
        self._encode = encode
        self._decode = decode
        self._doing = doing
        self._silence = silence_seconds
        self._waiting: asyncio.Timeout | None = None
        self._ending = Ending(call)

    async def send(self, batch: _Batch) -> bool:
        """Sends a batch; False if the stream has ended, of which `receive` tells the reason."""
        try:
            await self._call.write(self._encode(batch))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time() + self._silence)
        return True

    async def receive(self) -> _Answer:
        """The next answer, to whichever batch.

        Raises:
            StateError: the platform ended the stream.
            UnavailableError: the platform is silent for too long.
        """
        try:
            async with asyncio.timeout(self._silence) as self._waiting:
                message = await self._call.read()
        except TimeoutError:
            raise translate(CallStatus(grpc.StatusCode.DEADLINE_EXCEEDED), self._doing) from None
        except grpc.aio.AioRpcError:
            message = grpc.aio.EOF
        finally:
            self._waiting = None
        if message is not grpc.aio.EOF:
            return self._decode(received(message))
        status = await self._ending.status()
        if status.code is not grpc.StatusCode.OK:
            raise translate(status, self._doing)
        raise StateError("the end of the stream", "an answer to every batch")

    def cancel(self) -> None:
        """Ends the stream, whatever is still on its way."""
        self._call.cancel()


Evaluations = Batches[EvaluateRequest, EvaluateReply]
"""The stream of a list that is evaluated."""
