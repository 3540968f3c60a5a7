"""The entry point of `purposematch-platform`, which also runs where the extra `server` is missing."""

import sys

__all__ = ["main"]

NEEDED = frozenset({"fideslang", "opendp", "sqlalchemy", "tomlkit"})
"""What only the platform needs, by the names that are imported."""


def main() -> int:
    """Runs the command line, or says what to install; returns the exit code."""
    try:
        from purposematch.server.cli import main as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in NEEDED:
            raise
        print(
            f"error: the platform's side needs {error.name}: run pip install 'purposematch[server]'",
            file=sys.stderr,
        )
        return 1
    return run()
