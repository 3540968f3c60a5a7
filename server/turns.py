"""Turns at the processor, given to whoever has had the least.

Start-time fair queuing (Goyal, Vin, Cheng 1997), first among advertisers and then among the sessions of one:
each has a clock that runs on by the cost of what it was given, and the waiting one whose clock is behind all
others has the next turn. Who comes, or comes back after a pause, begins at the present: a list of a thousand
never waits behind a list of ten million, nobody saves turns up, and an advertiser with eight sessions gets no
more than one with a single session.

Nothing here knows of threads: a turn lasts until it is given back.

Not protected against: work that costs more than was said. What is under way is never interrupted, so that a
newcomer waits for at most one turn of those who have one.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

__all__ = ["Turns"]

_Waiting = asyncio.Future[None]


class Turns:
    """A bounded number of turns at a time, for one event loop.

    Args:
        at_a_time: how many.
    """

    def __init__(self, at_a_time: int) -> None:
        self._free = at_a_time
        self._queue = _Queue()

    async def take(self, advertiser: str, session: bytes, cost: int) -> None:
        """Waits for a turn; whoever has one must call `give_back`, and who is cancelled here has none.

        Args:
            advertiser: who shares with the others.
            session: which of its sessions.
            cost: what the turn costs, such as the elements of a batch; 1 or more.
        """
        turn: _Waiting = asyncio.get_running_loop().create_future()
        self._queue.put((advertiser.encode(), session), cost, turn)
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            # It may have been given the turn just before.
            if not turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """A turn has ended."""
        self._free += 1
        self._give()

    def _give(self) -> None:
        while self._free and (taken := self._queue.take()) is not None:
            _, turn = taken
            if not turn.done():
                turn.set_result(None)
                self._free -= 1


class _Queue:
    """Who waits under one name: requests of its own, in order, or the queues of the names below it."""

    def __init__(self) -> None:
        self.clock = 0  # cost of what was taken from here, beginning at the present of the queue above
        self._present = 0  # the clock of whoever had the last turn
        self._own: deque[tuple[int, _Waiting]] = deque()
        self._below: dict[bytes, _Queue] = {}

    def __bool__(self) -> bool:
        return bool(self._own) or any(self._below.values())

    def put(self, path: Sequence[bytes], cost: int, turn: _Waiting) -> None:
        """Lets a request wait in the queue that the path leads to."""
        if not path:
            self._own.append((cost, turn))
            return
        below = self._below.setdefault(path[0], _Queue())
        if not below:
            below.clock = max(below.clock, self._present)
        below.put(path[1:], cost, turn)

    def take(self) -> tuple[int, _Waiting] | None:
        """The cost and the request whose turn it is, or None where nobody waits."""
        if self._own:
            return self._own.popleft()
        waiting = [below for below in self._below.values() if below]
        if not waiting:
            return None
        first = min(waiting, key=lambda below: below.clock)
        self._present = first.clock
        taken = first.take()
        if taken is not None:
            first.clock += taken[0]
        # Who has had no more than the others is as good as new, and so is everybody when nobody waits.
        if self:
            self._below = {
                name: below for name, below in self._below.items() if below or below.clock > self._present
            }
        else:
            self._below = {}
        return taken
