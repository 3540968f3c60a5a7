"""Items made in another thread: in order, one ahead, and nothing goes on when nobody wants them."""

import threading
from collections.abc import Generator
from contextlib import closing

import pytest

from purposematch.tables.ahead import one_ahead


class Source:
    """Numbers below a count; what became of making them. The number `fails` can not be made."""

    def __init__(self, count: int, fails: int | None = None) -> None:
        self.count = count
        self.fails = fails
        self.made: list[int] = []
        self.threads = set[int]()
        self.closed = False

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(self.count):
                self.threads.add(threading.get_ident())
                if number == self.fails:
                    raise ValueError(str(number))
                self.made.append(number)
                yield number
        finally:
            self.closed = True


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_all_items_come_in_order_and_at_most_one_ahead(count: int) -> None:
    source = Source(count)
    used = []
    for item in one_ahead(source.items()):
        used.append(item)
        assert len(source.made) - len(used) in (0, 1)
    assert used == list(range(count))
    assert source.closed
    assert threading.get_ident() not in source.threads


def test_the_next_item_is_made_while_one_is_used() -> None:
    made = threading.Event()

    def items() -> Generator[str, None, None]:
        yield "first"
        made.set()
        yield "second"

    with closing(one_ahead(items())) as ahead:
        assert next(ahead) == "first"
        assert made.wait(10)
        assert list(ahead) == ["second"]


def test_a_failure_comes_when_all_before_it_was_used() -> None:
    source, before = Source(9, fails=3), threading.active_count()
    ahead = one_ahead(source.items())
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(ahead)
    assert source.closed
    assert threading.active_count() == before


@pytest.mark.parametrize("fails", [None, 3])
def test_no_thread_goes_on_when_it_is_closed_early(fails: int | None) -> None:
    source, before = Source(9, fails), threading.active_count()
    with closing(one_ahead(source.items())) as ahead:
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    assert source.closed
    assert source.made in ([0, 1, 2], [0, 1, 2, 3])
    assert threading.active_count() == before
