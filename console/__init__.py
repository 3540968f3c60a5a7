"""What both command lines share: how they start and end, report, and show progress.

Both `purposematch` and `purposematch-platform` are Typer apps made by `new_app` and run by `run`. Exit
codes: 0 done, 1 refused or failed with a reason on stderr, 2 wrong usage, 130 interrupted.

Not protected against: a caller that puts identifiers into its own reports or error texts.
"""

from purposematch.console.kernels import announced_group, warm_up
from purposematch.console.output import emit_json, report, report_counts, report_facts, report_table
from purposematch.console.progress import progress
from purposematch.console.running import (
    TRACEBACK_VARIABLE,
    end_within,
    example,
    new_app,
    run,
    run_program,
    show_version,
)

__all__ = [
    "TRACEBACK_VARIABLE",
    "announced_group",
    "emit_json",
    "end_within",
    "example",
    "new_app",
    "progress",
    "report",
    "report_counts",
    "report_facts",
    "report_table",
    "run",
    "run_program",
    "show_version",
    "warm_up",
]
