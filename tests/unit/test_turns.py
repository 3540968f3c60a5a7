"""Turns: bounded, fair among advertisers and then among sessions, and never lost."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from purposematch.server.turns import Turns

Taken = list[tuple[str, bytes]]


def run(story: Callable[[Turns, Taken], Coroutine[Any, Any, None]], at_a_time: int = 1) -> Taken:
    """Who had turns, in order."""
    taken: Taken = []
    asyncio.run(story(Turns(at_a_time), taken))
    return taken


async def have(turns: Turns, taken: Taken, who: str, session: bytes = b"1", cost: int = 100) -> None:
    await turns.take(who, session, cost)
    taken.append((who, session))
    await asyncio.sleep(0)
    turns.give_back()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_no_more_turns_at_a_time_than_there_are() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        under_way, most = 0, 0

        async def one(number: int) -> None:
            nonlocal under_way, most
            await turns.take(f"a{number % 3}", b"1", 1)
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            turns.give_back()

        await asyncio.gather(*(one(number) for number in range(50)))
        assert most == 4

    run(story, at_a_time=4)


def test_a_session_has_its_turns_in_the_order_it_asked() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        order: list[int] = []

        async def one(number: int) -> None:
            await turns.take("acme", b"1", 1 + number % 5)
            order.append(number)
            turns.give_back()

        await asyncio.gather(*(one(number) for number in range(40)))
        assert order == sorted(order)

    run(story)


def test_a_small_list_does_not_wait_behind_a_large_one() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        large = [asyncio.create_task(have(turns, taken, "large", cost=8_192)) for _ in range(100)]
        await settle()
        before = len(taken)
        await have(turns, taken, "small", cost=1_064)
        assert len(taken) - before <= 3
        await asyncio.gather(*large)

    run(story)


def test_many_sessions_give_an_advertiser_no_more() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        tasks = [have(turns, taken, "many", bytes([number])) for number in range(8) for _ in range(20)]
        tasks += [have(turns, taken, "one") for _ in range(40)]
        await asyncio.gather(*tasks)

    taken = run(story)
    first = Counter(who for who, _ in taken[:80])
    assert abs(first["many"] - first["one"]) <= 2
    sessions = Counter(session for who, session in taken[:80] if who == "many")
    assert len(sessions) == 8
    assert max(sessions.values()) - min(sessions.values()) <= 1


def test_nobody_saves_turns_up_by_pausing() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        await asyncio.gather(*(have(turns, taken, "busy") for _ in range(50)))
        await have(turns, taken, "paused")
        await asyncio.gather(*(have(turns, taken, "busy") for _ in range(50)))
        both = [have(turns, taken, "busy") for _ in range(20)] + [
            have(turns, taken, "paused") for _ in range(20)
        ]
        await asyncio.gather(*both)

    last = Counter(who for who, _ in run(story)[-40:-20])
    assert abs(last["busy"] - last["paused"]) <= 2


def test_who_comes_back_at_once_is_not_new() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        # One asks again only when it was served; it has no more than its half for that.
        async def one_by_one() -> None:
            for _ in range(40):
                await have(turns, taken, "one by one", cost=1_000)

        await asyncio.gather(one_by_one(), *(have(turns, taken, "queued", cost=1_000) for _ in range(40)))

    first = Counter(who for who, _ in run(story)[:40])
    assert abs(first["one by one"] - first["queued"]) <= 2


def test_who_is_cancelled_while_it_waits_takes_no_turn() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        await turns.take("acme", b"1", 1)
        waiting = [asyncio.create_task(have(turns, taken, f"w{number}")) for number in range(5)]
        await settle()
        for task in waiting[:4]:
            task.cancel()
        turns.give_back()
        await waiting[4]
        assert taken == [("w4", b"1")]
        await asyncio.wait_for(turns.take("acme", b"1", 1), 1)

    run(story)


def test_a_turn_given_to_somebody_who_is_cancelled_goes_on() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        await turns.take("acme", b"1", 1)
        waiting = asyncio.create_task(have(turns, taken, "gone"))
        await settle()
        # It is given the turn and cancelled before it can run.
        turns.give_back()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        await asyncio.wait_for(have(turns, taken, "next"), 1)

    assert run(story) == [("next", b"1")]


def test_nothing_is_remembered_of_those_who_are_gone() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        for number in range(1_000):
            await have(turns, taken, f"a{number}", cost=number + 1)
            await have(turns, taken, "everybody", cost=2_000)
        assert len(turns._queue._below) <= 3

    run(story)


def test_nothing_is_remembered_of_sessions_that_come_one_after_the_other() -> None:
    async def story(turns: Turns, taken: Taken) -> None:
        for number in range(1_000):
            await have(turns, taken, "acme", number.to_bytes(2, "big"))
        assert not turns._queue._below

    run(story)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 8_192)), max_size=200))
def test_whoever_waits_all_the_time_has_as_much_as_the_others(asked: list[tuple[int, int, int]]) -> None:
    had: Counter[int] = Counter()
    left = Counter(who for who, _, _ in asked)

    async def story(turns: Turns, taken: Taken) -> None:
        async def one(who: int, session: int, cost: int) -> None:
            await turns.take(str(who), bytes([session]), cost)
            # As long as two wait, none is ahead of the other by more than one turn and what it costs.
            waiting = [each for each in left if left[each]]
            assert all(had[who] <= had[each] + 8_192 for each in waiting)
            had[who] += cost
            left[who] -= 1
            turns.give_back()

        await turns.take("first", b"1", 1)
        tasks = [asyncio.create_task(one(*each)) for each in asked]
        await settle()
        turns.give_back()
        await asyncio.gather(*tasks)

    run(story)
    assert had == Counter({who: sum(c for w, _, c in asked if w == who) for who, _, _ in asked})
