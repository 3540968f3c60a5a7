"""Who can be served beside whom, and how many calls one client may have."""

import pytest

from purposematch.protocol.errors import BusyError
from purposematch.server.capacity import Capacity
from purposematch.server.peer_calls import PeerCalls


def test_before_anything_was_measured_everybody_is_served() -> None:
    capacity = Capacity(1_000_000, 2)
    assert capacity.rate == 0
    with capacity.serving("a"), capacity.serving("b"):
        capacity.demand("c")


def test_one_more_is_refused_where_it_would_leave_too_little() -> None:
    clock = [0.0]
    capacity = Capacity(1_000, 2, lambda: clock[0])
    capacity.measure(5_000, 4.0)
    assert capacity.rate == 2_500
    with capacity.serving("a"):
        with capacity.serving("b"):
            for ask in (lambda: capacity.demand("c"), lambda: capacity.serving("c").__enter__()):
                with pytest.raises(BusyError) as caught:
                    ask()
                assert caught.value.retry_seconds > 0
            # Whoever is served already shares what is its own.
            with capacity.serving("a"):
                pass
            with pytest.raises(BusyError):
                capacity.demand("c")
        capacity.demand("c")
        with capacity.serving("b"):
            # Nothing was evaluated for a long time: what was slow then may not be slow now.
            clock[0] = 61.0
            capacity.demand("c")


def test_one_alone_is_always_served() -> None:
    capacity = Capacity(1_000, 2)
    capacity.measure(1, 100.0)
    with capacity.serving("a"):
        pass
    capacity.demand("b")


def test_what_was_measured_long_ago_counts_less_and_less() -> None:
    capacity = Capacity(1_000, 1)
    for _ in range(100):
        capacity.measure(1_000, 1.0)
    for _ in range(100):
        capacity.measure(4_000, 1.0)
    assert 3_900 < capacity.rate <= 4_000


def test_a_client_has_a_bounded_number_of_calls_whatever_others_have() -> None:
    calls = PeerCalls(2)
    with calls.counted("a"), calls.counted("a"), calls.counted("b"):
        with pytest.raises(BusyError), calls.counted("a"):
            pass
        with calls.counted("b"):
            pass
    with calls.counted("a"), calls.counted("a"):
        pass
    assert not calls._calls
