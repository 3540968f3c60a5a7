"""Batches that are made ahead: the same, in order, with the same errors, and none behind the end."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from purposematch.client.threads import ahead


def test_all_items_come_in_their_order_from_another_thread() -> None:
    makers = set()

    def items() -> Iterator[int]:
        for number in range(5):
            makers.add(threading.current_thread())
            yield number

    assert list(ahead(items())) == list(range(5))
    assert threading.current_thread() not in makers
    assert list(ahead(iter(()))) == []


def test_the_next_item_is_made_while_one_is_used() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    with closing(ahead(items())) as made:
        assert next(made) == 1
        assert second.wait(10)


def test_an_error_comes_behind_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    made = ahead(items())
    assert next(made) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(made)


def test_nothing_is_made_after_it_was_closed() -> None:
    made_so_far = []

    def items() -> Iterator[int]:
        while True:
            made_so_far.append(len(made_so_far))
            yield made_so_far[-1]

    with closing(ahead(items())) as made:
        assert next(made) == 0
    assert made_so_far in ([0], [0, 1])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
