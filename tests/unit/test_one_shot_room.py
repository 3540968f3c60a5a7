"""Who has room for an attempt by VOLE, and how the latest attempt at a session replaces the others."""

import asyncio
from concurrent.futures import CancelledError as LoadDropped
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from types import SimpleNamespace
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


def test_an_attempt_that_breaks_off_keeps_its_room_while_its_list_is_loaded() -> None:
    """However often it is broken off: nobody has a list loaded for each of many attempts at a time."""
    nothing, may_end = cast(Any, None), Event()
    attempt = cast(Any, SimpleNamespace(load=may_end.wait, own=Future()))

    async def run(service: OneShotMatchingService) -> None:
        async def attempted() -> None:
            async with service._alone(b"session"):
                with service._room("acme", MAX_ITEMS):
                    async with service._loading(attempt):
                        await asyncio.sleep(3_600)

        task = asyncio.create_task(attempted())
        for _ in range(3):
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            assert service._held["acme"] == MAX_ITEMS
        may_end.set()
        async with asyncio.timeout(10):
            with suppress(asyncio.CancelledError):
                await task
        assert task.cancelled()
        assert not service._held

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(run(OneShotMatchingService(nothing, pool, nothing, nothing, silence_seconds=1)))


@pytest.mark.parametrize("breaks_off", [False, True])
def test_a_list_is_prepared_after_it_was_loaded_unless_the_attempt_broke_off(breaks_off: bool) -> None:
    """Room is kept until that has ended; what nobody needs any more keeps neither room nor a thread."""
    loaded, may_end, prepared = Event(), Event(), Event()
    peer, nothing = SimpleNamespace(name="acme"), cast(Any, None)

    def prepare() -> None:
        prepared.set()
        may_end.wait(60)

    attempt = cast(Any, SimpleNamespace(load=loaded.wait, own=Future(), prepare=prepare))
    attempt.peer, attempt.session_id = peer, b"session"

    async def run(pool: ThreadPoolExecutor) -> None:
        async def in_thread(_name: str, _session: bytes, _items: int, function: Any, **_: object) -> Any:
            return await asyncio.get_running_loop().run_in_executor(pool, function)

        processor = cast(Any, SimpleNamespace(run=in_thread))
        service = OneShotMatchingService(nothing, pool, nothing, processor, silence_seconds=1)

        async def attempted() -> None:
            with service._room("acme", 1):
                async with service._loading(attempt):
                    await asyncio.sleep(3_600)

        task = asyncio.create_task(attempted())
        await asyncio.sleep(0)
        if not breaks_off:
            loaded.set()
            assert await asyncio.to_thread(prepared.wait, 10)
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert service._held["acme"] == 1
        loaded.set()
        may_end.set()
        async with asyncio.timeout(10):
            with suppress(asyncio.CancelledError):
                await task
        assert not service._held

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(run(pool))
    assert prepared.is_set() is not breaks_off


def test_a_load_that_is_dropped_leaves_nobody_waiting() -> None:
    nothing, may_end = cast(Any, None), Event()
    pool = ThreadPoolExecutor(1)
    service = OneShotMatchingService(nothing, pool, nothing, nothing, silence_seconds=1)
    attempt = cast(Any, SimpleNamespace(load=lambda: None, own=Future()))

    async def run() -> None:
        async with service._loading(attempt):
            pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(LoadDropped):
            attempt.own.result(timeout=0)

    pool.submit(may_end.wait)
    asyncio.run(run())
    may_end.set()
    pool.shutdown()
