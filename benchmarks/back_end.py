"""The back end of the group that a benchmark runs on, chosen by its flag --group."""

import argparse
import os

from purposematch.protocol import group as back_ends
from purposematch.protocol.group import Group, SodiumGroup

__all__ = ["add_group_flag", "environment", "make_group"]

GROUP_VARIABLE = "PURPOSEMATCH_GROUP"
DEFAULT = "default"


def add_group_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --group, which offers what this version has."""
    names = [DEFAULT, SodiumGroup.name]
    if hasattr(back_ends, "default_group"):
        names.append("simd")
    parser.add_argument(
        "--group",
        choices=names,
        default=DEFAULT,
        help="the group's back end; what the commands take (%(default)s)",
    )


def environment(name: str) -> dict[str, str]:
    """What makes a command take that back end."""
    return {} if name == DEFAULT else {GROUP_VARIABLE: name}


def make_group(name: str, threads: int) -> Group:
    """The back end as the commands would make it."""
    if hasattr(back_ends, "default_group"):
        group: Group = back_ends.default_group(threads, {**os.environ, **environment(name)})
        return group
    return SodiumGroup(threads)
