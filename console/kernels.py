"""The kernels for this processor, as a command line sees them: announced, compiled ahead, named.

Not protected against: two programs that compile at the same time do so twice; the cache stays whole.
"""

import os
import sys
from functools import cache

from purposematch.protocol.group import Group, default_group
from purposematch.protocol.simd.choice import LANES_FROM, announce_with, lanes_for

__all__ = ["announce_compilation", "announced_group", "warm_up"]


def announce_compilation() -> None:
    """Has every compilation of kernels announced on stderr, once in a process."""
    announce_with(_announce)


@cache
def _announce() -> None:
    print("compiling kernels for this processor, once, about 10 s", file=sys.stderr, flush=True)


def announced_group(threads: int | None = None) -> Group:
    """The group's back end for this process; a compilation is announced on stderr.

    Args:
        threads: how many threads share a batch; None for all cores.

    Raises:
        ConfigurationError: the environment names a back end that cannot be used here.
    """
    announce_compilation()
    return default_group(threads, os.environ)


def warm_up(group: Group) -> None:
    """Compiles all kernels, or loads them, so that no later call has to."""
    group.prepare()
    lanes_for(LANES_FROM)
