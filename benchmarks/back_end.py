"""The back end of the group that a benchmark runs on, chosen by its flag --group."""

import argparse
import os

from purposematch.protocol.group import GROUP_VARIABLE, Group, default_group

__all__ = ["add_group_flag", "environment", "make_group"]

DEFAULT = "default"


def add_group_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --group."""
    parser.add_argument(
        "--group",
        choices=[DEFAULT, "simd", "sodium"],
        default=DEFAULT,
        help="the group's back end; what the commands take (%(default)s)",
    )


def environment(name: str) -> dict[str, str]:
    """What makes a command take that back end."""
    return {} if name == DEFAULT else {GROUP_VARIABLE: name}


def make_group(name: str, threads: int) -> Group:
    """The back end as the commands would make it."""
    return default_group(threads, {**os.environ, **environment(name)})
