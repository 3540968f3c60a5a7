"""The connection to a platform: TLS with certificates of both sides.

The server's certificate must be signed by the authority in the credentials and carry the pinned name,
whatever address is dialled; the client shows its own certificate. A connection that is lost is made again by
gRPC when the next call needs it.

Not protected against: an authority that signs a second server. What such a server sends fails at the
pinned identity key, which is not the authority's.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import grpc
import grpc.aio

from purposematch.client.credentials import MemberCredentials
from purposematch.protocol.errors import InputError, UnavailableError
from purposematch.protocol.secret import reveal

__all__ = ["CONNECT_SECONDS", "check_address", "connected"]

CONNECT_SECONDS: Final = 20.0
"""How long a connection may take."""
KEEPALIVE_SECONDS: Final = 60
"""Seconds without anything from the platform after which it is asked whether it is still there; the
platform allows one question in half of that."""
KEEPALIVE_ANSWER_SECONDS: Final = 20
"""Seconds within which the platform must answer that, else the connection is lost."""
MAX_MESSAGE_BYTES: Final = 4 * 2**20
"""The longest message in either direction; a batch has at most 2 MiB and a little."""

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def check_address(address: str) -> str:
    """`address` if it has the form HOST:PORT.

    Raises:
        InputError: it has not.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None or not 0 < int(parts[2]) < 65_536:
        raise InputError("the platform's address must be HOST:PORT, such as match.example.com:8443")
    return address


@asynccontextmanager
async def connected(address: str, credentials: MemberCredentials) -> AsyncIterator[grpc.aio.Channel]:
    """Connects to a platform.

    Raises:
        InputError: the address is malformed.
        UnavailableError: nobody answers there, or not the platform of these credentials.
    """
    tls = grpc.ssl_channel_credentials(
        root_certificates=credentials.authority,
        private_key=reveal(credentials.key),
        certificate_chain=credentials.certificate,
    )
    options = [
        ("grpc.ssl_target_name_override", credentials.pin.server_name),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # A proxy from the environment would see nothing, but it could not tell the pinned name.
        ("grpc.enable_http_proxy", 0),
        # A peer that went without a word is noticed also where nothing is on its way.
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1_000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_SECONDS * 1_000),
        ("grpc.http2.max_pings_without_data", 0),
        # Whoever makes a call again must find that the connection is tried again, too.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    async with grpc.aio.secure_channel(check_address(address), tls, options) as channel:
        await _connect(channel, address)
        yield channel


async def _connect(channel: grpc.aio.Channel, address: str) -> None:
    state = channel.get_state(try_to_connect=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    if state is not grpc.ChannelConnectivity.READY:
        raise UnavailableError(
            f"no connection to {address}: nobody answers there, or not the platform that these credentials "
            "are for; check the address, the network, and that the credentials are this platform's"
        )
