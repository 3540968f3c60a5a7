"""What every call passes before its handler: who calls, how many calls they have, and what they sent.

Only an admitted certificate gets any further, of whatever role, also to the health service; the roles are the
services' own affair. Nobody has more than a share of all calls. Then messages are read strictly. Left to
itself, gRPC ends a call whose bytes are no message of their type with the text of a Python exception, and
keeps a call that takes one message and gets none open for ever, before any handler knows of it; so here every
method is one of a stream, which is the same on the wire.

Not protected against: connections, which cost the server a handshake and a little memory each.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import AsyncExitStack, aclosing
from inspect import isasyncgenfunction
from typing import Any

import grpc
from google.protobuf.message import DecodeError as ProtobufDecodeError

from purposematch.protocol.errors import DecodeError, PurposematchError, UnavailableError
from purposematch.server.peer import admit, peer_of
from purposematch.server.peer_calls import PeerCalls
from purposematch.server.pki import Role
from purposematch.server.platform import Platform
from purposematch.server.statuses import aborting

__all__ = ["Entrance"]

_Context = grpc.aio.ServicerContext[Any, Any]


class Entrance(grpc.aio.ServerInterceptor):
    """Goes around every handler.

    Args:
        platform: the open platform, whose registry says who is admitted.
        pool: where the registry is asked.
        calls: counts what every client has under way.
        silence_seconds: how long a client may keep the only message of a call to itself.
    """

    def __init__(self, platform: Platform, pool: Executor, calls: PeerCalls, silence_seconds: float) -> None:
        self._platform = platform
        self._pool = pool
        self._calls = calls
        self._silence_seconds = silence_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler behind this entrance; None where there is no such method."""
        handler = await continuation(handler_call_details)
        return (
            None if handler is None else self._around(handler, handler_call_details.method.rpartition("/")[2])
        )

    def _around(self, handler: Any, method: str) -> Any:
        read, write = handler.request_deserializer, handler.response_serializer
        single = not handler.request_streaming
        serve = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        def read_part(content: bytes) -> Any:
            try:
                return read(content)
            except ProtobufDecodeError:
                raise DecodeError("a message is not one of its type") from None

        async def enter(requests: AsyncIterator[Any], context: _Context, stack: AsyncExitStack) -> Any:
            try:
                peer = peer_of(context)
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._pool, admit, self._platform, peer, *Role)
                stack.enter_context(self._calls.counted(f"{peer.role} {peer.name}"))
                return await self._only(requests) if single else requests
            except PurposematchError as error:
                async with aborting(context, method):
                    raise error

        async def answer(requests: AsyncIterator[Any], context: _Context) -> Any:
            async with AsyncExitStack() as stack:
                return await serve(await enter(requests, context, stack), context)

        async def answer_in_parts(requests: AsyncIterator[Any], context: _Context) -> AsyncIterator[Any]:
            async with AsyncExitStack() as stack:
                given = await enter(requests, context, stack)
                async with aclosing(serve(given, context)) as parts:
                    async for part in parts:
                        yield part

        if not handler.response_streaming:
            return grpc.stream_unary_rpc_method_handler(answer, read_part, write)
        # Some write to the context and give nothing back.
        behavior = answer_in_parts if isasyncgenfunction(serve) else answer
        return grpc.stream_stream_rpc_method_handler(behavior, read_part, write)

    async def _only(self, requests: AsyncIterator[Any]) -> Any:
        """The only message of a call."""
        try:
            async with asyncio.timeout(self._silence_seconds):
                return await anext(aiter(requests))
        except StopAsyncIteration:
            raise DecodeError("a call ended without its message") from None
        except TimeoutError:
            raise UnavailableError(f"the client sent nothing for {self._silence_seconds:g} seconds") from None
