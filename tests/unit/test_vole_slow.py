"""A match says, byte for byte, what a slow second implementation says, and what it said when frozen."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slow_vole as slow
from vole_match import BINDING, Pair, exchange, items, labels_of, pair, stream

from purposematch.protocol.group import Bytes
from purposematch.protocol.vole.engine import Engine

SMALL = {
    "nothing": (range(0), range(0)),
    "one": (range(1), range(1)),
    "some": (range(0, 40), range(20, 70)),
    "three columns": (range(0, 1_000), range(990, 1_003)),
}


def said(both: Pair) -> list[bytes]:
    """The messages, put together from their chunks, without the digests at the end."""
    chunks = iter([chunk.content for _, chunk in both.said])
    return [
        b"".join(next(chunks) for _ in range(message.chunks))
        for message in both.receiver.parameters.messages[:-2]
    ]


def slow_run(
    own: Bytes, others: Bytes, declared: tuple[int, int] | None = None
) -> tuple[list[bytes], list[int]]:
    sizes = declared or (len(own), len(others))
    randoms = (stream("test receiver"), stream("test sender"))
    lists = [[row.tobytes() for row in rows] for rows in (own, others)]
    return slow.run(sizes, *lists, BINDING, randoms)


@pytest.mark.parametrize("name", list(SMALL))
def test_a_match_is_what_the_slow_implementation_says(vole: Engine, name: str) -> None:
    own, others = (items(numbers) for numbers in SMALL[name])
    messages, rows = slow_run(own, others)
    both = exchange(pair(vole, own, others))

    assert [len(message) for message in said(both)] == [len(message) for message in messages]
    assert said(both) == messages
    assert both.receiver.matches().rows.tolist() == rows
    lengths = [message.chunk for message in both.receiver.parameters.messages[:-2]]
    digests = [chunk.content for _, chunk in both.said[-2:]]
    assert digests == slow.transcript(messages, lengths, BINDING)


def test_duplicates_and_missing_items_are_filled_as_the_slow_implementation_says(vole: Engine) -> None:
    own = items(np.array([5, 1, 5, 2, 9]))
    others = items(np.array([2, 2, 2, 7, 5, 7, 2]))
    declared = (8, 13)
    messages, rows = slow_run(own, others, declared)
    both = exchange(pair(vole, own, others, declared=declared))

    assert said(both) == messages
    assert both.receiver.matches().rows.tolist() == rows == [0, 2, 3]


@pytest.mark.parametrize("width", [1, 16, 20, 32])
def test_labels_are_hidden_as_the_slow_implementation_says(vole: Engine, width: int) -> None:
    own, others = items([5, 1, 2, 9]), items([2, 2, 7, 5, 7, 2])
    labels = labels_of(others, width)
    lists = [[row.tobytes() for row in rows] for rows in (own, others)]
    randoms = (stream("test receiver"), stream("test sender"))
    messages, rows = slow.run((4, 9), *lists, BINDING, randoms, [label.tobytes() for label in labels])
    both = exchange(pair(vole, own, others, declared=(4, 9), labels=labels))

    assert said(both) == messages
    assert both.receiver.matches().rows.tolist() == rows == [0, 2]
    assert np.array_equal(both.receiver.labels(), labels[[3, 0]])
    lengths = [message.chunk for message in both.receiver.parameters.messages[:-2]]
    assert [chunk.content for _, chunk in both.said[-2:]] == slow.transcript(messages, lengths, BINDING)


def test_the_frozen_transcript(vole: Engine, vectors: Callable[[str], Any]) -> None:
    frozen = vectors("vole-v1.json")
    for vector in frozen["matches"]:
        own, others = (items(np.array(vector[name], np.int64)) for name in ("receiver", "sender"))
        labels = labels_of(others, vector["label_length"]) if vector["label_length"] else None
        declared = tuple(vector["declared"])
        both = exchange(pair(vole, own, others, vector["seed"], declared=declared, labels=labels))
        digests = [hashlib.sha256(message).hexdigest() for message in said(both)]
        assert dict(zip(vector["messages"], digests, strict=True)) == vector["messages"]
        assert both.said[-1][1].content.hex() == vector["confirmation"]
        matches = both.receiver.matches()
        assert matches.rows.tolist() == vector["rows"]
        assert matches.places.tolist() == vector["places"]
        assert both.receiver.labels()[:4].tobytes().hex() == vector["labels"]


def test_the_frozen_messages_are_what_the_slow_implementation_says(vectors: Callable[[str], Any]) -> None:
    for vector in vectors("vole-v1.json")["matches"]:
        lists = [[row.tobytes() for row in items(vector[name])] for name in ("receiver", "sender")]
        randoms = (stream(f"{vector['seed']} receiver"), stream(f"{vector['seed']} sender"))
        others, width = items(vector["sender"]), vector["label_length"]
        labels = [label.tobytes() for label in labels_of(others, width)] if width else None
        messages, rows = slow.run(tuple(vector["declared"]), *lists, BINDING, randoms, labels)
        assert [hashlib.sha256(one).hexdigest() for one in messages] == list(vector["messages"].values())
        assert rows == vector["rows"]
