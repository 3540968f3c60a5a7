"""The entry point of `purposematch-platform`, which also runs where the extra `server` is missing."""

import gc
import sys
from importlib.util import find_spec
from typing import Final

__all__ = ["main"]

NEEDED: Final = ("fideslang", "opendp", "sqlalchemy", "tomlkit")
"""What only the platform needs, by the names that are imported."""


def main() -> int:
    """Runs the command line, or says what to install; returns the exit code."""
    missing = next((name for name in NEEDED if find_spec(name) is None), None)
    if missing is not None:
        print(
            f"error: the platform's side needs {missing}: run pip install 'purposematch[server]'",
            file=sys.stderr,
        )
        return 1
    # Nothing that is imported is ever garbage: looking for some takes a tenth of the time to start.
    gc.disable()
    from purposematch.server.cli import main as run

    gc.enable()
    return run()
