"""How much is tried: a fixed number of inputs, always the same ones, in `make test`; new ones, for so many
seconds each, in `make fuzz`.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from purposematch.protocol.errors import PurposematchError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
"""How long each target is tried; 0 for the fixed number of inputs."""

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

_Value = TypeVar("_Value")


def check_text(error: PurposematchError) -> None:
    """An error says something, in one line, that can be written."""
    assert str(error)
    assert str(error).isprintable()
    str(error).encode()


def fuzz(strategy: SearchStrategy[_Value], check: Callable[[_Value], None], examples: int) -> None:
    """Checks values of a strategy: so many, or for as long as was asked for."""
    long = SECONDS > 0

    @settings(
        max_examples=4 * examples if long else examples,
        derandomize=not long,
        deadline=None,
        suppress_health_check=_SLOW_IS_FINE,
    )
    @given(strategy)
    def each(value: _Value) -> None:
        check(value)

    ends = time.monotonic() + SECONDS
    each()
    while time.monotonic() < ends:
        each()
