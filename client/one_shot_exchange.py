"""The exchange of a session by VOLE in which the advertiser learns what matches.

The result is written to the resume file as soon as it is there, so that a commit that breaks off needs no
other exchange, which would count as another list.

Semi-honest, experimental, no published proof. Not protected against: see `one_shot`.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from purposematch.client.channel import PlatformChannel
from purposematch.client.credentials import Credentials
from purposematch.client.customer_list import CustomerList
from purposematch.client.found_matches import FoundMatches
from purposematch.client.means import Means
from purposematch.client.one_shot import Attempts
from purposematch.client.opening import Opened
from purposematch.client.reconnect import Reconnect
from purposematch.client.saved_session import BatchResult
from purposematch.client.threads import to_its_end
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.errors import DecodeError, StateError
from purposematch.protocol.group import Bytes
from purposematch.protocol.messages import MAC_LENGTH
from purposematch.protocol.one_shot import demand_canaries
from purposematch.telemetry import span

__all__ = ["OneShotExchange"]


class OneShotExchange(FoundMatches):
    """What one session makes of one list by VOLE.

    Args:
        means: what else is needed.
        credentials: of this advertiser.
        opened: the session.
        customers: the list.
        keep: called in a worker thread with the results, cut as batches would be.

    Raises:
        ConfigurationError: there is no VOLE engine here.
        LimitError: a list is too large for it.
    """

    def __init__(
        self,
        means: Means,
        credentials: Credentials,
        opened: Opened,
        customers: CustomerList,
        keep: Callable[[BatchResult], object],
    ) -> None:
        super().__init__(len(customers))
        self._attempts = Attempts(means, credentials, opened, customers)
        self._progress = means.progress
        self._size = len(customers)
        self._batch = opened.grant.max_batch_elements
        self._keep = keep
        self._results: dict[int, BatchResult] = {}

    @property
    def complete(self) -> bool:
        """Whether the result is there."""
        return len(self._results) == -(-self._size // self._batch)

    def restore(self, results: Iterable[BatchResult]) -> int:
        """Takes over a result that another process had; identifiers of the list that it covers.

        Raises:
            StateError: a part comes twice, or is none of the session.
            DecodeError: a match is outside of its part, or canaries are missing.
        """
        for result in results:
            first = result.number * self._batch
            if result.number in self._results or first >= self._size:
                raise StateError(f"part {result.number} of a result again", "every part once")
            if len(result.places) and int(result.places.max()) >= min(self._batch, self._size - first):
                raise DecodeError("a match is outside of its part")
            if result.canaries != CANARY_COUNT:
                raise DecodeError("a result was kept without its canaries")
            self._results[result.number] = result
        return min(len(self._results) * self._batch, self._size)

    async def run(self, channel: PlatformChannel, reconnect: Reconnect) -> None:
        """Makes attempts until one comes to its end.

        Args:
            channel: the connection.
            reconnect: makes attempts again.

        Raises:
            PeerError: what the platform sent does not hold, or a canary is missing.
            RefusedError, UnavailableError: the platform ended the exchange, or is not there any more.
            InputError: the result cannot be kept.
        """
        attempts = self._attempts
        with (
            span("exchange", elements=self._size),
            self._progress("Matching", attempts.chunks, "chunks") as advance,
        ):

            async def attempt() -> None:
                party, _ = await attempts.make(channel, attempts.receiver, advance)
                matches, labels = party.matches(), party.labels()
                listed = demand_canaries(matches.rows, self._size)
                await to_its_end(self._take, matches.rows[listed], labels[listed])

            await reconnect.run(attempt, lambda: attempts.done)

    def close(self) -> None:
        """Demands that the result is there; sets `numbers` and `tags`.

        Raises:
            StateError: it is not.
        """
        if not self.complete:
            raise StateError("a result in part", "all of it")
        for number, result in sorted(self._results.items()):
            self.note(number * self._batch, result)
        self._results.clear()
        self.take_all()

    def _take(self, rows: NDArray[np.int64], labels: Bytes) -> None:
        """Cuts a result as batches would be, and keeps what is not kept yet."""
        for first in range(0, self._size, self._batch):
            part = slice(*np.searchsorted(rows, [first, first + self._batch]))
            macs = np.ascontiguousarray(labels[part, TAG_LENGTH:])
            number = first // self._batch
            result = BatchResult(
                number,
                CANARY_COUNT,
                (rows[part] - first).astype(np.uint16),
                np.ascontiguousarray(labels[part, :TAG_LENGTH]),
                macs if macs.shape[1] else np.empty((0, MAC_LENGTH), np.uint8),
            )
            if number not in self._results:
                self._keep(result)
            self._results[number] = result
