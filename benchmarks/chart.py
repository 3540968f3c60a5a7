"""The throughput tuner's picture: identifiers per second by batch size, one line for each number of threads.

Needs matplotlib (dependency group `tune`), which nothing else here does; so `benchmarks.tune` imports this
module by itself, and nothing is shown on a screen (the Agg renderer).
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.sweep import Measurement

__all__ = ["draw"]

PANEL_INCHES = (3.4, 2.9)


def draw(path: Path, title: str, measurements: Sequence[Measurement]) -> None:
    """Writes a PNG with a row of panels for each path, a panel for each number of batches in flight."""
    paths = list(dict.fromkeys(measured.path for measured in measurements))
    windows = sorted({measured.configuration.window for measured in measurements})
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(windows) + 0.6, height * len(paths) + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = figure.subplots(len(paths), len(windows), squeeze=False, sharex=True, sharey="row")
    for row, of_path in zip(panels, paths, strict=True):
        for panel, window in zip(row, windows, strict=True):
            shown = [m for m in measurements if m.path == of_path and m.configuration.window == window]
            _lines(panel, shown)
            panel.set_title(f"{of_path}, {window} in flight", fontsize="medium")
        row[0].set_ylabel("identifiers per second")
    batches = sorted({measured.configuration.batch for measured in measurements})
    for panel in panels[-1]:
        panel.set_xlabel("elements in a batch")
        panel.set_xticks(batches, [f"{batch:,}" for batch in batches], rotation=30)
        panel.xaxis.set_minor_locator(NullLocator())
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=120)


def _lines(panel: Axes, measurements: Sequence[Measurement]) -> None:
    for threads in sorted({measured.configuration.threads for measured in measurements}):
        line = sorted(
            (measured.configuration.batch, measured.per_second)
            for measured in measurements
            if measured.configuration.threads == threads
        )
        label = f"{threads} thread" if threads == 1 else f"{threads} threads"
        panel.plot(*zip(*line, strict=True), marker="o", label=label)
    panel.set_xscale("log", base=2)
    # From zero, so that a small difference looks small.
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.grid(alpha=0.3)
