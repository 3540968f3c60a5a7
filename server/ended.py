"""How a task has ended that nobody may wait for any more.

asyncio reports every exception of a task that nobody took note of, as an error of the program. What fails
while its call is being given up would be a line in the log about nothing.

Not protected against: what is looked at here and nowhere else is not told to anybody.
"""

import asyncio
from typing import Any

__all__ = ["look_at"]


def look_at(ended: "asyncio.Future[Any]") -> None:
    """Takes note of how a task ended; to be called when it is done."""
    if not ended.cancelled():
        ended.exception()
