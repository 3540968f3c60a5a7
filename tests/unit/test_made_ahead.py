"""Work that is begun before it is needed: in order, two at a time; nothing goes on when nobody wants it."""

import asyncio
import time
from contextlib import aclosing

import pytest

from purposematch.client.threads import AT_A_TIME, beside, made_ahead


def test_results_come_in_order_and_so_many_are_made_at_a_time() -> None:
    under_way, most = set[int](), 0

    async def make(number: int) -> int:
        nonlocal most
        under_way.add(number)
        most = max(most, len(under_way))
        # The later ones are ready first.
        await asyncio.sleep(0.002 * (9 - number))
        under_way.remove(number)
        return number

    async def run() -> list[int]:
        async with aclosing(made_ahead(make, range(9))) as made:
            return [number async for number in made]

    assert asyncio.run(run()) == list(range(9))
    assert most == AT_A_TIME == 2


@pytest.mark.parametrize("end", ["failure", "closed"])
def test_nothing_goes_on_after_the_end(end: str) -> None:
    begun, ended = [], []

    async def make(number: int) -> int:
        begun.append(number)
        try:
            if number == 2 and end == "failure":
                raise ValueError("the second")
            await asyncio.sleep(0 if number < 3 else 60)
        finally:
            ended.append(number)
        return number

    async def run() -> None:
        async with aclosing(made_ahead(make, range(100))) as made:
            async for number in made:
                if number == 2:
                    return

    if end == "failure":
        with pytest.raises(ValueError, match="the second"):
            asyncio.run(run())
    else:
        asyncio.run(run())
    assert begun == sorted(ended)
    assert len(begun) <= 4


def test_what_was_begun_has_ended_whatever_became_of_the_body() -> None:
    ended = []

    def slow() -> str:
        time.sleep(0.05)
        ended.append(True)
        return "done"

    async def used() -> str:
        async with beside(slow) as work:
            return await work

    async def broken() -> None:
        async with beside(slow):
            raise ZeroDivisionError

    async def run() -> None:
        assert await used() == "done"
        with pytest.raises(ZeroDivisionError):
            await broken()
        assert len(ended) == 2
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
