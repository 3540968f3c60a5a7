"""A progress bar on stderr while long work runs, and nothing at all where nobody watches.

Not protected against: the description is shown as it is.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["progress"]


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Shows how far the work in the block is; the bar disappears when the block ends.

    Gives the function that is called with the amount of work done since its last call; it may be called
    from any thread.

    Args:
        description: what is being done, such as `Reading list.csv`.
        total: the amount of work; None if it is not known.
        unit: what the amount counts, such as `rows`; `bytes` are shown as kB, MB, GB.
    """
    if not sys.stderr.isatty():
        yield lambda amount: None
        return
    amount: list[ProgressColumn] = (
        [DownloadColumn()] if unit == "bytes" else [MofNCompleteColumn(), TextColumn(unit, markup=False)]
    )
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *amount,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)
