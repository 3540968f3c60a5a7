"""A gRPC proxy between a real client and a real server that spoils chosen messages.

It ends TLS on both sides: towards the client it shows the server's certificate, towards the server the
client's own, which a test has both of. So it can do what the network can not: change what is inside. Messages
are counted over all calls of a session, each direction for itself, so that a fault can stand at every place,
and happens once. Bytes pass as they are, without being understood.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

import grpc
from fault_proxy import Side

from purposematch.client.credentials import Credentials
from purposematch.protocol.secret import reveal

__all__ = ["MessageFault", "MessageProxy", "Spoil", "message_proxy"]

DELAY_SECONDS = 0.2
REORDER_SECONDS = 0.3
"""How long a message waits for another one to pass it."""
CALLS = 64
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Spoil(StrEnum):
    """What becomes of a message."""

    DELAY = "delay"
    """It passes later."""
    DUPLICATE = "duplicate"
    """It passes twice."""
    DROP = "drop"
    """It does not pass, what follows does."""
    REORDER = "reorder"
    """The next one of its call passes first, if one comes soon."""
    TRUNCATE = "truncate"
    """Half of its bytes pass."""
    CORRUPT = "corrupt"
    """One bit of it is another."""
    BREAK = "break"
    """Its call ends before it, as if the connection had."""


@dataclass(frozen=True)
class MessageFault:
    """What happens to one message; `bit` chooses where it is changed."""

    side: Side
    message: int
    spoil: Spoil
    bit: int = 0


class MessageProxy:
    """Listens at `address` and passes every call on to the platform; made by `message_proxy`.

    Attributes:
        address: HOST:PORT.
        methods: the name of the method of every message that passed, in order, by side.
        happened: the faults that happened.
    """

    def __init__(self, credentials: Credentials) -> None:
        self.address = ""
        self.methods: dict[Side, list[str]] = {side: [] for side in Side}
        self.happened: list[MessageFault] = []
        self._credentials = credentials
        self._faults: dict[tuple[Side, int], MessageFault] = {}
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None

    def plan(self, target: str, *faults: MessageFault) -> None:
        """Begins to count anew, with these faults, towards a server at HOST:PORT."""
        with self._lock:
            self.methods = {side: [] for side in Side}
            self.happened = []
            self._faults = {(fault.side, fault.message): fault for fault in faults}
        self.turn_to(target)

    def turn_to(self, target: str) -> None:
        """Passes new calls on to another server."""
        self.close()
        shown = grpc.ssl_channel_credentials(
            self._credentials.authority, reveal(self._credentials.key), self._credentials.certificate
        )
        name = ("grpc.ssl_target_name_override", self._credentials.pin.server_name)
        self._channel = grpc.secure_channel(target, shown, [*_OPTIONS, name, ("grpc.enable_http_proxy", 0)])

    def close(self) -> None:
        """Ends the calls towards the server."""
        if self._channel is not None:
            self._channel.close()

    def serve(self, method: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """One call, whatever its kind: all look alike on the wire."""
        assert self._channel is not None
        name = method.rpartition("/")[2]
        ended = threading.Event()
        try:
            sent = self._spoiled(Side.CLIENT, name, requests, ended)
            call = self._channel.stream_stream(method)(self._until_broken(sent, lambda: call))
        except ValueError:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the proxy has turned to another server")
        if not context.add_callback(call.cancel):
            call.cancel()
        try:
            yield from self._spoiled(Side.SERVER, name, call, ended)
        except _BrokenError:
            call.cancel()
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke off")
        except grpc.RpcError as error:
            failed: Any = error
            context.set_trailing_metadata(failed.trailing_metadata() or ())
            context.abort(failed.code(), failed.details() or "")
        finally:
            ended.set()

    def _until_broken(self, messages: Iterator[bytes], call: Callable[[], Any]) -> Iterator[bytes]:
        """What the client sends, up to where its call is to end."""
        try:
            yield from messages
        except _BrokenError:
            call().cancel()

    def _fault(self, side: Side, method: str) -> MessageFault | None:
        with self._lock:
            number = len(self.methods[side])
            self.methods[side].append(method)
            fault = self._faults.pop((side, number), None)
            if fault is not None:
                self.happened.append(fault)
            return fault

    def _spoiled(
        self, side: Side, method: str, messages: Iterable[bytes], ended: threading.Event
    ) -> Iterator[bytes]:
        """The messages of one direction of a call, one or the other of them spoiled."""
        held: list[bytes] = []
        for message in _paced(messages, lambda: REORDER_SECONDS if held else None):
            if message is None:
                yield from held
                held.clear()
                continue
            fault = self._fault(side, method)
            match fault and fault.spoil:
                case Spoil.DELAY:
                    ended.wait(DELAY_SECONDS)
                case Spoil.REORDER:
                    held.append(message)
                    continue
                case Spoil.DROP:
                    continue
                case Spoil.BREAK:
                    raise _BrokenError
                case Spoil.DUPLICATE:
                    yield message
                case Spoil.TRUNCATE:
                    message = message[: len(message) // 2]
                case Spoil.CORRUPT if message and fault:
                    message = _flipped(message, fault.bit)
            yield message
            yield from held
            held.clear()
        yield from held


class _BrokenError(Exception):
    """A call is to end here."""


def _flipped(message: bytes, seed: int) -> bytes:
    at = Random(seed).randrange(8 * len(message))
    changed = bytearray(message)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def _paced(messages: Iterable[bytes], patience: Callable[[], float | None]) -> Iterator[bytes | None]:
    """The messages, and None whenever there is patience for so long only and none came."""
    waiting: queue.Queue[tuple[bytes | None, Exception | None]] = queue.Queue()

    def read() -> None:
        try:
            for message in messages:
                waiting.put((message, None))
            waiting.put((None, None))
        except Exception as error:
            waiting.put((None, error))

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            message, error = waiting.get(timeout=patience())
        except queue.Empty:
            yield None
            continue
        if error is not None:
            raise error
        if message is None:
            return
        yield message


class _AnyMethod(grpc.GenericRpcHandler):
    def __init__(self, proxy: MessageProxy) -> None:
        self._proxy = proxy

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._proxy.serve(method, requests, context)
        )


@contextmanager
def message_proxy(data_dir: Path, credentials: Credentials) -> Iterator[MessageProxy]:
    """Runs a proxy for one advertiser at one platform.

    Args:
        data_dir: the platform's, where the server's certificate is.
        credentials: the advertiser's.
    """
    proxy, tls = MessageProxy(credentials), data_dir / "tls"
    shown = grpc.ssl_server_credentials(
        [((tls / "server.key").read_bytes(), (tls / "server.pem").read_bytes())],
        (tls / "ca.pem").read_bytes(),
        require_client_auth=True,
    )
    server = grpc.server(ThreadPoolExecutor(CALLS), (_AnyMethod(proxy),), options=_OPTIONS)
    proxy.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', shown)}"
    server.start()
    try:
        yield proxy
    finally:
        proxy.close()
        server.stop(0).wait()
