"""What fails while a call is being given up is no error of the program."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from purposematch.protocol.errors import DecodeError
from purposematch.server import one_shot_service
from purposematch.server.one_shot_service import OneShotMatchingService
from purposematch.server.silence import heard


def reported(call: Callable[[], Coroutine[Any, Any, None]]) -> list[dict[str, Any]]:
    """What asyncio reports when a call is given up."""
    told: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        task = asyncio.create_task(call())
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(run())
    gc.collect()
    return told


async def fail_when_given_up() -> None:
    try:
        await asyncio.sleep(3_600)
    finally:
        raise DecodeError("an exchange goes on with something else than a chunk")


def test_a_read_that_fails_as_its_call_ends() -> None:
    async def messages() -> AsyncGenerator[bytes, None]:
        await fail_when_given_up()
        yield b""

    async def call() -> None:
        async for _ in heard(messages(), 60):
            pytest.fail("there is no message")

    assert reported(call) == []


def test_an_exchange_that_fails_as_its_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = cast(Any, None)
    processor = cast(Any, SimpleNamespace(capacity=SimpleNamespace(serving=nullcontext)))
    service = OneShotMatchingService(nothing, nothing, nothing, processor, silence_seconds=60)
    monkeypatch.setattr(one_shot_service, "aborting", lambda *arguments: nullcontext())
    monkeypatch.setattr(one_shot_service, "peer_of", lambda context: SimpleNamespace(name="acme"))
    monkeypatch.setattr(one_shot_service, "tell", lambda *arguments: fail_when_given_up())
    assert reported(lambda: service.Exchange(nothing, nothing)) == []
