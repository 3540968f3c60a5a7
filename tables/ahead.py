"""Items that are made in another thread, one ahead of their use.

Reading a table and using what was read share the time in this way, where what they do leaves Python: Arrow,
NumPy, hashes and files do. One item more is held than is in use, however slow the use is.

Not protected against: a generator that is neither used up nor closed. Its thread waits for it to be deleted.
"""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

__all__ = ["one_ahead"]

_Item = TypeVar("_Item")


def one_ahead(items: Generator[_Item, None, None]) -> Generator[_Item, None, None]:
    """The same items; the next one is made in another thread while one is being used.

    What making an item raises comes in the item's place, when everything before it was used. However this
    generator ends, the thread has ended then and `items` is closed, unless a second interrupt came meanwhile.

    Args:
        items: none of them None. They are made in one thread, which is not the caller's.
    """
    try:
        # The thread ends first: a generator can not be closed while it runs.
        with ThreadPoolExecutor(1) as beside:
            coming = beside.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = beside.submit(next, items, None)
                yield item
    finally:
        # Where the wait for the thread was interrupted, the generator runs on and goes with the thread.
        with suppress(ValueError):
            items.close()
