"""How many calls one client may have under way, over all of its connections.

gRPC bounds the calls of a connection and of the server. This bound lies between, so that no client can take
all the calls there are, whatever number of connections it makes.

Not protected against: many clients that work together.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from purposematch.protocol.errors import BusyError

__all__ = ["PeerCalls"]

RETRY_SECONDS = 1
"""When to try again, in seconds."""


class PeerCalls:
    """Counts the calls of every client.

    Args:
        most: calls of one client under way at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: Counter[str] = Counter()

    @contextmanager
    def counted(self, client: str) -> Iterator[None]:
        """One more call of this client is under way while the body runs, with whatever certificate.

        Raises:
            BusyError: it has as many as it may.
        """
        if self._calls[client] >= self._most:
            raise BusyError(f"{client} has {self._most} calls under way", RETRY_SECONDS)
        self._calls[client] += 1
        try:
            yield
        finally:
            self._calls[client] -= 1
            if not self._calls[client]:
                del self._calls[client]
