"""Tries again what a lost connection broke off, for as long as somebody has patience.

Every call of a session may be made again: batches and commits are idempotent, segments are read only. Waits
grow exponentially up to a bound and are drawn at random, so that the clients of a platform that comes back
do not all come at once. A call that got further than before begins to count anew: what moves is not given up.

Not protected against: a platform that fails whatever it is asked looks like one that is away until patience
ends.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from purposematch.protocol.errors import BusyError, UnavailableError

__all__ = ["DEFAULT_PATIENCE", "RECONNECT_SECONDS", "SILENCE_SECONDS", "Patience", "Reconnect"]

FIRST_WAIT_SECONDS: Final = 0.25
"""The longest wait before the first new attempt; each wait is at least half of its bound."""
LONGEST_WAIT_SECONDS: Final = 10.0
"""What the wait between two attempts grows to."""
RECONNECT_SECONDS: Final = 60.0
"""How long a client tries to come back, unless told otherwise."""
SILENCE_SECONDS: Final = 300.0
"""How long a platform may say nothing while it owes an answer, unless told otherwise; opening a session
may have to wait for a publication."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client puts up with a platform that is away or silent.

    Attributes:
        reconnect_seconds: how long it tries to come back to a lost connection without getting any further;
            0 gives up at once.
        silence_seconds: how long the platform may say nothing while an answer is due. Whatever it sends
            begins a new count, so a slow connection ends nothing.
    """

    reconnect_seconds: float = RECONNECT_SECONDS
    silence_seconds: float = SILENCE_SECONDS


DEFAULT_PATIENCE: Final = Patience()
"""That of a client that was not told otherwise."""


class Reconnect:
    """Makes calls again.

    Args:
        seconds: how long, without any progress.
        clock: monotonic, in seconds.
        sleep: waits so many seconds.
        uniform: a random number between two.
    """

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform

    async def run(
        self, call: Callable[[], Awaitable[_Result]], done: Callable[[], int] = lambda: 0
    ) -> _Result:
        """What `call` gives, made again while the platform is unavailable.

        Args:
            call: makes the call; it must be harmless to make it again.
            done: how far it got, a number that grows.

        Raises:
            UnavailableError: of the last attempt, when patience has ended.
        """
        lost_at, bound, before = None, FIRST_WAIT_SECONDS, done()
        while True:
            try:
                return await call()
            except UnavailableError as error:
                now, got = self._clock(), done()
                if lost_at is None or got > before:
                    lost_at, bound, before = now, FIRST_WAIT_SECONDS, got
                wait = self._uniform(bound / 2, bound)
                if isinstance(error, BusyError):
                    # It said when; all who were told so come back at different times.
                    wait += error.retry_seconds
                if now + wait - lost_at > self._seconds:
                    raise
            await self._sleep(wait)
            bound = min(2 * bound, LONGEST_WAIT_SECONDS)
