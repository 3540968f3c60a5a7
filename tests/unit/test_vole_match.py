"""Whole matches by the VOLE engine are exact, say as much whatever is in the lists, and can be proved."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
from vole_match import (
    BINDING,
    Pair,
    exchange,
    items,
    labels_of,
    matched,
    pair,
    plain_rows,
    stream,
)

from purposematch.protocol.errors import LimitError, StateError, UnavailableError, VerificationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.vole import receiver as receiver_module
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.parameters import Role, parameters
from purposematch.protocol.vole.party import Chunk, Party, Turn
from purposematch.protocol.vole.records import Meeting


@pytest.mark.parametrize("own", [0, 1, 2, 1_000])
@pytest.mark.parametrize("others", [0, 1, 2, 1_000])
def test_sizes_that_are_small(vole: Engine, own: int, others: int) -> None:
    for shift in (0, 1, own // 2, own):
        lists = items(range(own)), items(range(shift, shift + others))
        assert matched(vole, *lists).tolist() == plain_rows(*lists)


def test_nothing_and_everything_in_common(vole: Engine) -> None:
    own = items(range(3_000))
    assert matched(vole, own, items(range(3_000, 9_000))).tolist() == []
    assert matched(vole, own, own[::-1].copy()).tolist() == list(range(3_000))


def test_200_random_shapes(vole: Engine) -> None:
    random = np.random.default_rng(20_260)
    for turn in range(200):
        sizes = (2 ** random.uniform(0, 12, size=2)).astype(int) - 1
        span = int(random.integers(1, 2 * int(sizes.sum()) + 2))
        own, others = (items(random.integers(span, size=size)) for size in sizes)
        declared = tuple(int(size + random.integers(3)) for size in sizes)
        both = exchange(pair(vole, own, others, f"shape {turn}", declared=(declared[0], declared[1])))
        assert both.receiver.matches().rows.tolist() == plain_rows(own, others)


@pytest.mark.parametrize(("own", "others"), [(65_536, 1 << 20), (200_000, 3_000)])
def test_unequal_sizes(vole: Engine, own: int, others: int) -> None:
    random = np.random.default_rng(own)
    numbers = random.permutation(own + others)
    first, second = items(numbers[:own]), items(numbers[own // 2 : own // 2 + others])
    rows = matched(vole, first, second)
    known = np.isin(numbers[:own], numbers[own // 2 : own // 2 + others])
    assert np.array_equal(rows, np.flatnonzero(known))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1 << 20, 5_000_000])
def test_millions(vole: Engine, count: int) -> None:
    """The longer one has more items than the sender keeps in one block."""
    own, others = items(np.arange(count)), items(np.arange(count // 2, count // 2 + count)[::-1])
    assert np.array_equal(matched(vole, own, others), np.arange(count // 2, count))


def test_duplicates_on_both_sides(vole: Engine) -> None:
    own = items(np.array([5, 5, 5, 1, 2, 5, 9, 2]))
    others = items(np.array([2] * 500 + [5] * 3 + [7]))
    both = exchange(pair(vole, own, others))
    found = both.receiver.matches()
    assert found.rows.tolist() == [0, 1, 2, 4, 5, 7]
    assert len(set(found.places[[0, 1, 2, 4]].tolist())) == 1
    values = sent_outputs(both)
    assert len(set(values)) == len(others)


def sent_outputs(both: Pair) -> list[int]:
    """The sender's outputs as integers, in the order in which they were sent."""
    sizes = both.receiver.parameters
    before = sum(message.chunks for message in sizes.messages[:5])
    chunks = [chunk.content for _, chunk in both.said[before : before + sizes.messages[5].chunks]]
    values = []
    for content in chunks:
        count = len(content) // sizes.value_length
        keys = np.frombuffer(content, np.uint64, count).tolist()
        rest = content[8 * count :]
        width = sizes.value_length - 8
        values += [
            key | int.from_bytes(rest[width * i :][:width], "little") << 64 for i, key in enumerate(keys)
        ]
    return values


def test_nothing_is_left_to_prepare_or_not(vole: Engine) -> None:
    own, others = items(range(700)), items(range(300, 1_300))
    eager, lazy = (exchange(pair(vole, own, others), prepare=prepare) for prepare in (True, False))
    assert eager.said == lazy.said
    assert np.array_equal(eager.receiver.matches().rows, lazy.receiver.matches().rows)
    eager.receiver.prepare()
    eager.sender.prepare()


def test_another_thread_may_prepare_while_chunks_go_to_and_fro(vole: Engine) -> None:
    own, others = items(range(30_000)), items(range(20_000, 60_000))
    labels = labels_of(others, 16)
    alone = exchange(pair(vole, own, others, labels=labels), prepare=False)
    for _ in range(5):
        both, over = pair(vole, own, others, labels=labels), Event()

        def prepare(party: Party, over: Event = over) -> None:
            while not over.is_set():
                party.prepare()

        with ThreadPoolExecutor(2) as threads:
            preparing = [threads.submit(prepare, party) for party in (both.receiver, both.sender)]
            try:
                exchange(both, prepare=False)
            finally:
                over.set()
        for each in preparing:
            each.result()
        assert both.said == alone.said
        assert np.array_equal(both.receiver.labels(), alone.receiver.labels())


def test_what_can_not_be_prepared_is_told_again_where_it_is_needed(vole: Engine) -> None:
    """Whoever prepares in a thread of its own need not hand on what failed there."""

    def damaged() -> Bytes:
        raise UnavailableError("the registry is damaged")

    sizes, given = parameters(10, 10), items(range(10))
    receiver = vole.receiver(sizes, given, BINDING, stream("receiver"))
    sender = vole.sender(sizes, damaged, BINDING, stream("sender"))
    both = Pair(receiver, sender)

    def meddle(role: Role, chunk: Chunk) -> list[Chunk]:
        if role is Role.RECEIVER and chunk.number:
            with pytest.raises(UnavailableError):
                sender.prepare()
        return [chunk]

    with pytest.raises(UnavailableError, match="the registry is damaged"):
        exchange(both, meddle, prepare=False)
    with pytest.raises(StateError):
        sender.prepare()


@pytest.mark.parametrize("width", [0, 16])
def test_results_are_the_same_when_preparing_fails_once(
    vole: Engine, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Outputs are written where what they are made from is; so whoever tries again begins before that."""
    own, others = items(range(3_000)), items(range(1_000, 5_000))
    labels = labels_of(others, width) if width else None
    both, failed, meeting = pair(vole, own, others, labels=labels), Event(), receiver_module.Meeting

    def no_memory(*arguments: Any) -> Meeting:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        return meeting(*arguments)

    def meddle(role: Role, chunk: Chunk) -> list[Chunk]:
        if role is Role.SENDER and both.receiver._evaluator is not None and not failed.is_set():
            with pytest.raises(MemoryError):
                both.receiver.prepare()
        return [chunk]

    monkeypatch.setattr(receiver_module, "Meeting", no_memory)
    exchange(both, meddle, prepare=False)
    assert failed.is_set()
    assert both.receiver.matches().rows.tolist() == list(range(1_000, 3_000))
    if labels is not None:
        assert np.array_equal(both.receiver.labels(), labels[:2_000])


def test_the_bytes_on_the_wire_depend_on_the_declared_sizes_only(vole: Engine) -> None:
    declared = (2_500, 1_500)
    lists = [
        (items(range(2_500)), items(range(1_500))),
        (items(range(2_500)), items(range(5_000, 6_500))),
        (items(np.zeros(2_500, np.int64)), items(np.zeros(1_500, np.int64))),
        (items(range(0)), items(range(3))),
    ]
    shapes = set()
    for i, (own, others) in enumerate(lists):
        both = exchange(pair(vole, own, others, f"shape {i}", declared=declared))
        shapes.add(tuple((role, chunk.number, len(chunk.content)) for role, chunk in both.said))
    assert len(shapes) == 1
    (shape,) = shapes
    for role in Role:
        assert sum(length for who, _, length in shape if who is role) == parameters(*declared).bytes_from(
            role
        )
        assert sum(who is role for who, _, _ in shape) == parameters(*declared).chunks_from(role)


def test_outputs_are_sorted_and_uniform(vole: Engine) -> None:
    """Chi-square over their bytes, 255 degrees of freedom each: 420 has a probability below 10^-9."""
    both = exchange(pair(vole, items(range(100)), items(range(5_000, 45_000))))
    values = sent_outputs(both)
    assert values == sorted(values, key=lambda value: (value % 2**64, value >> 64))
    content = np.array([list(value.to_bytes(10, "little")) for value in values], np.uint8)
    for place in range(10):
        counts = np.bincount(content[:, place], minlength=256)
        expected = len(values) / 256
        assert ((counts - expected) ** 2 / expected).sum() < 420


@pytest.mark.parametrize("message", ["choices", "extension", "trees", "corrections"])
def test_what_is_masked_is_uniform(vole: Engine, message: str) -> None:
    """The same over many sessions of the same lists; of the choices the encodings are left out."""
    chunks = []
    for i in range(12):
        both = exchange(pair(vole, items(range(50)), items(range(50)), f"session {i}"))
        position = [one.name for one in both.receiver.parameters.messages].index(message)
        content = both.said[position][1].content
        chunks.append(content[:32] if message == "choices" else content)
    assert len(set(chunks)) == len(chunks)
    if message != "choices":
        counts = np.bincount(np.frombuffer(b"".join(chunks), np.uint8), minlength=256)
        expected = counts.sum() / 256
        assert ((counts - expected) ** 2 / expected).sum() < 420


def test_sides_that_are_bound_to_something_else_do_not_meet(vole: Engine) -> None:
    own = items(range(100))
    both = pair(vole, own, own, bindings=(b"purpose one", b"purpose two"))
    with pytest.raises(VerificationError):
        exchange(both)
    with pytest.raises(StateError):
        both.receiver.matches()


# Order of calls, and what is given to begin with.


def test_calls_out_of_order_are_refused(vole: Engine) -> None:
    own = items(range(10))
    both = pair(vole, own, own)
    assert (both.receiver.turn, both.sender.turn) == (Turn.LISTEN, Turn.SPEAK)
    with pytest.raises(StateError):
        both.receiver.outgoing()
    with pytest.raises(StateError):
        both.receiver.matches()
    with pytest.raises(StateError):
        both.receiver.labels()
    both.receiver.prepare()
    both.sender.prepare()
    first = list(both.sender.outgoing())
    with pytest.raises(StateError):
        both.sender.outgoing()
    both.receiver.receive(first[0])
    with pytest.raises(StateError):
        both.receiver.receive(first[0])


def test_a_second_iterator_is_refused(vole: Engine) -> None:
    both = pair(vole, items(range(1)), items(range(1)))
    both.sender.outgoing()
    with pytest.raises(StateError):
        both.sender.outgoing()


def test_an_iterator_that_is_not_used_up_ends_the_match(vole: Engine) -> None:
    both = pair(vole, items(range(200_000)), items(range(1)))
    both.receiver.receive(next(both.sender.outgoing()))
    both.sender.receive(next(both.receiver.outgoing()))
    both.receiver.receive(next(both.sender.outgoing()))
    spoken = both.receiver.outgoing()
    both.sender.receive(next(spoken))
    del spoken
    with pytest.raises(StateError, match="failed"):
        both.receiver.outgoing()


def test_items_of_another_shape_or_more_than_declared_are_refused(vole: Engine) -> None:
    sizes = parameters(5, 6)
    for wrong in (items(range(5))[:, :32], items(range(5)).astype(np.int16), items(range(5)).reshape(-1)):
        with pytest.raises(ValueError, match="33"):
            vole.receiver(sizes, wrong, b"", stream("wrong"))
    with pytest.raises(LimitError):
        vole.receiver(sizes, items(range(6)), b"", stream("wrong"))
    with pytest.raises(LimitError):
        vole.sender(sizes, items(range(7)), b"", stream("wrong"))
