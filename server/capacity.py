"""Whether one more advertiser can be served, by the rate at which this server is seen to evaluate.

Advertisers share the processor equally (`turns`), so each may count on the measured rate divided by their
number. One more is refused for a while where that would leave everybody with less than the least rate of the
settings, both when it opens a session and when it sends: whoever sends goes on well, and whoever does not yet
is told to come back.

Not protected against: many names of one advertiser, such as partners that bring lists for it. The platform
gives the names out.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from purposematch.protocol.errors import BusyError

__all__ = ["Capacity"]

RETRY_SECONDS: Final = 10
"""When whoever is refused may try again."""

REMEMBERED_SECONDS: Final = 10.0
"""Seconds of evaluation after which what was measured counts half."""

FORGOTTEN_SECONDS: Final = 60.0
"""Seconds without evaluation after which nothing is known: what was slow then may not be slow now."""


class Capacity:
    """Measures, and counts the advertisers that are being served.

    Args:
        least_rate: elements a second that everybody must be able to count on.
        at_a_time: turns at a time, each of which is measured by itself.
        clock: monotonic, in seconds.
    """

    def __init__(self, least_rate: int, at_a_time: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._measured_at = 0.0
        self._least_rate = least_rate
        self._at_a_time = at_a_time
        self._cost, self._seconds = 0.0, 0.0
        self._served: Counter[str] = Counter()

    @property
    def rate(self) -> float:
        """Elements a second that the server evaluates when busy; 0 where nothing was measured lately."""
        if self._clock() > self._measured_at + FORGOTTEN_SECONDS:
            return 0.0
        return self._at_a_time * self._cost / self._seconds if self._seconds else 0.0

    def measure(self, cost: int, seconds: float) -> None:
        """Takes note of one turn: what it cost in elements, and how long it took."""
        self._measured_at = self._clock()
        self._cost += cost
        self._seconds += seconds
        if self._seconds > REMEMBERED_SECONDS:
            self._cost, self._seconds = self._cost / 2, self._seconds / 2

    def demand(self, advertiser: str) -> None:
        """Checks that this advertiser can be served beside those that are.

        Raises:
            BusyError: it has to wait.
        """
        served = len(self._served)
        if served and advertiser not in self._served and 0 < self.rate < self._least_rate * (served + 1):
            raise BusyError(
                f"{served} advertisers are being served, at {self.rate:.0f} a second", RETRY_SECONDS
            )

    @contextmanager
    def serving(self, advertiser: str) -> Iterator[None]:
        """The advertiser is served while the body runs.

        Raises:
            BusyError: it has to wait.
        """
        self.demand(advertiser)
        self._served[advertiser] += 1
        try:
            yield
        finally:
            self._served[advertiser] -= 1
            self._served += Counter()  # forgets whoever is at zero
