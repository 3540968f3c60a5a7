"""What the throughput tuner tries, and what it makes of the measurements: nothing here measures.

Every configuration is measured several times, interleaved with all others, and its fastest run counts: other
work on the machine only ever makes a run slower. How far the runs of one configuration lie apart is the
noise; a difference that it may explain decides nothing.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import NamedTuple

from rich import box
from rich.table import Table

__all__ = [
    "MAX_TOLERANCE",
    "Configuration",
    "Measurement",
    "as_csv",
    "as_mapping",
    "as_toml",
    "choose",
    "grid",
    "noise",
    "table",
    "thread_counts",
    "trust",
]

MAX_TOLERANCE = 0.05
"""Share of time by which a smaller configuration may at most be slower than the fastest and still be chosen;
less where the noise is less."""

COLUMNS = (
    *("path", "batch", "window", "threads", "runs", "seconds", "identifiers_per_second"),
    *("ratio_to_best", "noise", "chosen"),
)


class Configuration(NamedTuple):
    """Elements in a batch, batches under way, and threads of the group on each side."""

    batch: int
    window: int
    threads: int

    @property
    def size(self) -> tuple[int, int, int]:
        """What it takes, for comparison: threads, then elements under way, then batches under way."""
        return self.threads, self.batch * self.window, self.window


@dataclass(frozen=True, slots=True)
class Measurement:
    """One configuration on one path.

    Attributes:
        path: `hashing` or `match`.
        configuration: what was tried.
        identifiers: how many went through in a run.
        seconds: of every run, by the clock.
    """

    path: str
    configuration: Configuration
    identifiers: int
    seconds: tuple[float, ...]

    @property
    def fastest(self) -> float:
        """Seconds of the fastest run."""
        return min(self.seconds)

    @property
    def per_second(self) -> float:
        """Identifiers per second of the fastest run."""
        return self.identifiers / self.fastest

    @property
    def spread(self) -> float | None:
        """By what share the slowest run took longer than the fastest; None if there was one run."""
        return max(self.seconds) / self.fastest - 1 if len(self.seconds) > 1 else None


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the number of cores."""
    powers = (2**i for i in range(cores.bit_length()))
    return tuple(sorted({*powers, cores} - {0}))


def grid(
    batches: Sequence[int], windows: Sequence[int], threads: Sequence[int], identifiers: int
) -> list[Configuration]:
    """All combinations that a list of that many identifiers can tell apart.

    A larger batch than the list, or more batches under way than there are, would be measured twice: of these
    the smallest is kept.
    """

    def useful(values: Sequence[int], enough: int) -> list[int]:
        ordered = sorted(values)
        return [value for i, value in enumerate(ordered) if i == 0 or ordered[i - 1] < enough]

    return [
        Configuration(batch, window, count)
        for batch in useful(batches, identifiers)
        for window, count in product(useful(windows, -(-identifiers // batch)), sorted(threads))
    ]


def noise(measurements: Iterable[Measurement]) -> float | None:
    """The median spread; None where nothing was measured twice."""
    spreads = [measured.spread for measured in measurements if measured.spread is not None]
    return median(spreads) if spreads else None


def trust(measurements: Sequence[Measurement]) -> str:
    """How far the measurements of one path can be trusted, in a sentence."""
    known = noise(measurements)
    if known is None:
        return "noise: unknown, because everything ran once"
    limit = min(measured.fastest for measured in measurements) * (1 + known)
    alike = sum(measured.fastest <= limit for measured in measurements)
    told = "the best is clear" if alike == 1 else f"{alike} of {len(measurements)} can not be told apart"
    return f"noise: runs of one configuration lie {known:.0%} apart (median), so {told}"


def choose(measurements: Sequence[Measurement]) -> Measurement:
    """The smallest configuration that is as fast as the fastest, as far as the noise tells.

    Args:
        measurements: of one path, at least one.
    """
    known = noise(measurements)
    tolerance = MAX_TOLERANCE if known is None else min(known, MAX_TOLERANCE)
    limit = min(measured.fastest for measured in measurements) * (1 + tolerance)
    return min(
        (measured for measured in measurements if measured.fastest <= limit),
        key=lambda measured: (measured.configuration.size, measured.fastest),
    )


def as_mapping(measured: Measurement, best: Measurement, chosen: Measurement) -> dict[str, object]:
    """One row of the results; `best` and `chosen` are of the same path."""
    return dict(
        zip(
            COLUMNS,
            (
                measured.path,
                *measured.configuration,
                len(measured.seconds),
                round(measured.fastest, 4),
                round(measured.per_second),
                round(best.fastest / measured.fastest, 4),
                None if measured.spread is None else round(measured.spread, 4),
                measured is chosen,
            ),
            strict=True,
        )
    )


def as_csv(rows: Iterable[dict[str, object]]) -> str:
    """The rows of `as_mapping` with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_toml(chosen: Configuration) -> str:
    """What to write into the platform's `platform.toml`."""
    return (
        "[limits]\n"
        f"max_batch_elements = {chosen.batch}\n"
        f"batches_in_flight = {chosen.window}\n"
        f"evaluation_threads = {chosen.threads}\n"
    )


def table(title: str, measurements: Sequence[Measurement], chosen: Measurement) -> Table:
    """The measurements of one path, fastest first."""
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in ("batch", "in flight", "threads", "identifiers/s", "ratio to best", "noise"):
        shown.add_column(name, justify="right")
    shown.add_column("")
    ordered = sorted(measurements, key=lambda measured: measured.fastest)
    for measured in ordered:
        batch, window, threads = measured.configuration
        shown.add_row(
            *(f"{batch:,}", f"{window:,}", f"{threads:,}", f"{measured.per_second:,.0f}"),
            f"{ordered[0].fastest / measured.fastest:.2f}",
            "?" if measured.spread is None else f"{measured.spread:.0%}",
            "chosen" if measured is chosen else "",
            style="bold" if measured is chosen else None,
        )
    return shown
