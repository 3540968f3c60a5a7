"""Answers bytes that are no message of their type like any other malformed message.

Left to itself, gRPC ends such a call with the code UNKNOWN and the text of a Python exception, and a handler
that reads a stream sees an exception that is not of our tree. Here both become a `DecodeError` within
`aborting`.

Not protected against: a call that ends without a message although its method takes one. gRPC leaves it open
until the client gives it up; it is one of the few that its connection may have.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from inspect import isasyncgenfunction
from typing import Any

import grpc
from google.protobuf.message import DecodeError as ProtobufDecodeError

from purposematch.protocol.errors import DecodeError
from purposematch.server.statuses import aborting

__all__ = ["MalformedInterceptor"]

_Context = grpc.aio.ServicerContext[Any, Any]
_MALFORMED = object()
"""Stands for a single message that could not be read, until there is a call to answer."""


class MalformedInterceptor(grpc.aio.ServerInterceptor):
    """Goes around every handler."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler with its messages read strictly; None where there is no such method."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _strict(handler, handler_call_details.method.rpartition("/")[2])


def _strict(handler: Any, method: str) -> Any:
    read, serve = handler.request_deserializer, handler.unary_unary or handler.unary_stream

    def read_part(content: bytes) -> Any:
        try:
            return read(content)
        except ProtobufDecodeError:
            raise _error() from None

    def read_only(content: bytes) -> Any:
        try:
            return read(content)
        except ProtobufDecodeError:
            return _MALFORMED

    async def answer(request: Any, context: _Context) -> Any:
        if request is _MALFORMED:
            async with aborting(context, method):
                raise _error()
        return await serve(request, context)

    async def answer_in_parts(request: Any, context: _Context) -> AsyncIterator[Any]:
        if request is _MALFORMED:
            async with aborting(context, method):
                raise _error()
        async with aclosing(serve(request, context)) as parts:
            async for part in parts:
                yield part

    write = handler.response_serializer
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler(answer, read_only, write)
        case False, True:
            # Some services write to the context and give nothing back, such as that of health.
            behavior = answer_in_parts if isasyncgenfunction(serve) else answer
            return grpc.unary_stream_rpc_method_handler(behavior, read_only, write)
        case True, False:
            return grpc.stream_unary_rpc_method_handler(handler.stream_unary, read_part, write)
        case _:
            return grpc.stream_stream_rpc_method_handler(handler.stream_stream, read_part, write)


def _error() -> DecodeError:
    return DecodeError("a message is not one of its type")
