"""Who has room for an attempt by VOLE, and how the latest attempt at a session takes the place of the others."""

import asyncio
from typing import Any, cast

import pytest

from purposematch.protocol.errors import BusyError
from purposematch.server.one_shot_service import MAX_ITEMS, OneShotMatchingService

HALF = MAX_ITEMS // 2


@pytest.fixture
def service() -> OneShotMatchingService:
    nothing = cast(Any, None)
    return OneShotMatchingService(nothing, nothing, nothing, nothing, silence_seconds=1)


def test_one_attempt_is_let_in_whatever_it_declares(service: OneShotMatchingService) -> None:
    for _ in range(2):
        with service._room("acme", 3 * MAX_ITEMS), pytest.raises(BusyError), service._room("bolt", 1):
            pytest.fail("there is no room")


def test_an_advertiser_does_not_take_all_of_the_room_from_others(service: OneShotMatchingService) -> None:
    with service._room("acme", HALF - 10), service._room("acme", 10):
        with pytest.raises(BusyError), service._room("acme", 1):
            pytest.fail("it has half")
        with service._room("bolt", HALF), pytest.raises(BusyError), service._room("cork", 1):
            pytest.fail("there is no room")
        with service._room("cork", HALF):
            pass
    assert not service._held


def test_the_latest_attempt_begins_when_the_one_before_has_left(service: OneShotMatchingService) -> None:
    """Each declares more than is free beside another one, and the one before takes its time to leave."""
    inside: list[str] = []

    async def attempt(name: str) -> None:
        async with service._alone(b"session"):
            with service._room("acme", MAX_ITEMS):
                inside.append(name)
                try:
                    await asyncio.sleep(3_600)
                finally:
                    for _ in range(5):
                        await asyncio.sleep(0)
                    inside.remove(name)

    async def run() -> list[object]:
        tasks = []
        for name in ("first", "second", "third"):
            tasks.append(asyncio.create_task(attempt(name)))
            async with asyncio.timeout(10):
                while inside != [name]:
                    await asyncio.sleep(0)
        tasks[-1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    ended = asyncio.run(run())
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 3
    assert not service._held
    assert not service._under_way
