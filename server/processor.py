"""Where elements are evaluated: threads, the turns of sessions at them, and what that is measured for.

Not protected against: work that never ends holds its turn, also when nobody waits for its result any more.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from purposematch.server.capacity import Capacity
from purposematch.server.metrics import Metrics
from purposematch.server.turns import Turns

__all__ = ["Processor"]

LEAST_COST: Final = 512
"""What a batch costs at least, in elements: the work that comes with every batch, however small."""

_Result = TypeVar("_Result")


class Processor:
    """Runs the work of batches in threads, a bounded number at a time.

    Args:
        pool: the threads.
        at_a_time: batches at a time; a few more than cores, as some wait for the registry.
        least_rate: see `Capacity`.
        metrics: times the batches.

    Attributes:
        capacity: who is served.
    """

    def __init__(self, pool: ThreadPoolExecutor, at_a_time: int, least_rate: int, metrics: Metrics) -> None:
        self.capacity = Capacity(least_rate, at_a_time)
        self._pool = pool
        self._turns = Turns(at_a_time)
        self._metrics = metrics

    async def run(
        self,
        advertiser: str,
        session: bytes,
        elements: int,
        function: Callable[..., _Result],
        *arguments: object,
        measured: bool = True,
    ) -> _Result:
        """What `function` gives, called in a thread when it is the session's turn.

        Args:
            advertiser: whose batch it is.
            session: of which of its sessions.
            elements: of the batch.
            function: the work.
            arguments: its arguments.
            measured: whether it is the work that the rate is about.
        """
        cost = max(LEAST_COST, elements)
        with self._metrics.phase("waiting"):
            await self._turns.take(advertiser, session, cost)
        began = time.monotonic()
        work = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

        def ended(done: asyncio.Future[_Result]) -> None:
            self._turns.give_back()
            if not done.cancelled() and done.exception() is None and measured:
                self.capacity.measure(cost, time.monotonic() - began)

        work.add_done_callback(ended)
        with self._metrics.phase("computing"):
            # Nobody may wait for it any more, but its thread is busy until it is done.
            return await asyncio.shield(work)
