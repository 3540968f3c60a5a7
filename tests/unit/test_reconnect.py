"""Calls that are made again: how often, after which waits, and when patience ends."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.client.reconnect import LONGEST_WAIT_SECONDS, Reconnect
from purposematch.protocol.errors import RefusedError, UnavailableError


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def reconnect(self, seconds: float, uniform: Callable[[float, float], float] = max) -> Reconnect:
        return Reconnect(seconds, clock=lambda: self.now, sleep=self.sleep, uniform=uniform)


def failing(times: int) -> Callable[[], "asyncio.Future[int]"]:
    """A call that is unavailable so many times; then it says how often it was made."""
    made = 0

    async def call() -> int:
        nonlocal made
        made += 1
        if made <= times:
            raise UnavailableError("away")
        return made

    return call  # type: ignore[return-value]


@given(st.integers(0, 9))
def test_waits_double_up_to_a_bound(times: int) -> None:
    clock = Clock()
    assert asyncio.run(clock.reconnect(1e6).run(failing(times))) == times + 1
    assert clock.waits == [min(0.25 * 2**i, LONGEST_WAIT_SECONDS) for i in range(times)]


def test_waits_are_drawn_from_the_upper_half() -> None:
    clock, drawn = Clock(), []

    def least(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    asyncio.run(clock.reconnect(60, least).run(failing(3)))
    assert drawn == [(0.125, 0.25), (0.25, 0.5), (0.5, 1.0)]


@pytest.mark.parametrize("seconds", [0, 1, 60])
def test_patience_ends_in_time_with_the_last_reason(seconds: float) -> None:
    clock = Clock()
    with pytest.raises(UnavailableError, match="away"):
        asyncio.run(clock.reconnect(seconds).run(failing(10**6)))
    assert clock.now <= seconds


def test_whoever_gets_further_is_not_given_up() -> None:
    clock, done = Clock(), 0

    async def call() -> None:
        nonlocal done
        done += 1
        if done < 100:
            raise UnavailableError("away")

    asyncio.run(clock.reconnect(0.3).run(call, lambda: done))
    assert clock.waits == [0.25] * 99


def test_a_refusal_is_not_asked_for_again() -> None:
    clock = Clock()

    async def call() -> None:
        raise RefusedError("no")

    with pytest.raises(RefusedError):
        asyncio.run(clock.reconnect(60).run(call))
    assert not clock.waits
