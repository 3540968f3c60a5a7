"""What is spoiled on its way ends a match with a typed error: no crash, no hang, no wrong result."""

from collections.abc import Callable

import numpy as np
import pytest
from vole_match import Pair, exchange, items, pair

from purposematch.protocol.errors import DecodeError, PeerError, StateError, VerificationError
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.parameters import Role, parameters
from purposematch.protocol.vole.party import Chunk, Turn

OWN, OTHERS = items(range(200)), items(range(100, 400))
SIZES = parameters(len(OWN), len(OTHERS))
SPOKEN = [(message.name, message.speaker, message.length) for message in SIZES.messages]
Change = Callable[[Chunk], list[Chunk]]


def meddled(engine: Engine, name: str, change: Change) -> tuple[Pair, Callable[[], Pair]]:
    """Both sides of a match of which the first chunk of one message is changed, and what lets them speak."""
    position = [message.name for message in SIZES.messages].index(name)
    both = pair(engine, OWN, OTHERS)
    seen = 0

    def meddle(role: Role, chunk: Chunk) -> list[Chunk]:
        nonlocal seen
        seen += 1
        return change(chunk) if seen == position + 1 else [chunk]

    return both, lambda: exchange(both, meddle)


def spoiled(engine: Engine, name: str, change: Change, expected: type[PeerError] = PeerError) -> Pair:
    """A match of which one message is spoiled: it fails, and gives no result that was not compared before."""
    both, run = meddled(engine, name, change)
    with pytest.raises(expected):
        run()
    if name == "confirmation":
        assert both.receiver.matches().rows.tolist() == list(range(100, 200))
    else:
        with pytest.raises(StateError):
            both.receiver.matches()
    return both


def flipped(place: int, bit: int) -> Change:
    def change(chunk: Chunk) -> list[Chunk]:
        content = bytearray(chunk.content)
        content[place] ^= 1 << bit
        return [Chunk(chunk.number, bytes(content))]

    return change


@pytest.mark.parametrize(("name", "speaker", "length"), SPOKEN, ids=[name for name, _, _ in SPOKEN])
def test_a_flipped_bit_anywhere_in_a_message(vole: Engine, name: str, speaker: Role, length: int) -> None:
    """First and last byte, and places between that are of every part of the message."""
    random = np.random.default_rng(length)
    places = {
        0,
        31,
        32,
        min(63, length - 1),
        length // 2,
        length - 1,
        *random.integers(length, size=8).tolist(),
    }
    for place in sorted(place for place in places if place < length):
        spoiled(vole, name, flipped(place, int(random.integers(8))))


@pytest.mark.parametrize("name", [name for name, _, _ in SPOKEN])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda chunk: [Chunk(chunk.number, chunk.content[:-1])], DecodeError),
        (lambda chunk: [Chunk(chunk.number, chunk.content + b"\0")], DecodeError),
        (lambda chunk: [Chunk(chunk.number, b"")], DecodeError),
        (lambda chunk: [Chunk(chunk.number, bytes(2**21))], DecodeError),
        (lambda chunk: [Chunk(chunk.number + 1, chunk.content)], StateError),
        (lambda chunk: [Chunk(-1, chunk.content)], StateError),
    ],
    ids=["short", "long", "empty", "huge", "number", "negative"],
)
def test_a_chunk_that_is_not_what_it_should_be(
    vole: Engine, name: str, change: Change, expected: type[PeerError]
) -> None:
    spoiled(vole, name, change, expected)


@pytest.mark.parametrize("name", [name for name, _, _ in SPOKEN])
def test_a_repeated_chunk(vole: Engine, name: str) -> None:
    _, run = meddled(vole, name, lambda chunk: [chunk, chunk])
    with pytest.raises(StateError):
        run()


@pytest.mark.parametrize("name", [name for name, _, _ in SPOKEN])
def test_a_missing_chunk(vole: Engine, name: str) -> None:
    """Either the next chunk has a number too much, or both listen, which a driver ends by its deadline."""
    both, run = meddled(vole, name, lambda chunk: [])
    try:
        run()
    except StateError:
        pass
    else:
        assert Turn.LISTEN in (both.receiver.turn, both.sender.turn)
    if name != "confirmation":
        with pytest.raises(StateError):
            both.receiver.matches()


def test_messages_of_another_session_are_refused(vole: Engine) -> None:
    earlier = exchange(pair(vole, OWN, OTHERS, "earlier")).said
    for position in range(len(earlier)):
        both = pair(vole, OWN, OTHERS, "later")
        count = 0

        def meddle(role: Role, chunk: Chunk, at: int = position) -> list[Chunk]:
            nonlocal count
            count += 1
            return [earlier[at][1]] if count == at + 1 else [chunk]

        with pytest.raises(VerificationError):
            exchange(both, meddle)


def test_outputs_that_do_not_ascend_are_refused(vole: Engine) -> None:
    def change(chunk: Chunk) -> list[Chunk]:
        count = len(OTHERS)
        keys = np.frombuffer(chunk.content, np.uint64, count)[::-1]
        return [Chunk(chunk.number, keys.tobytes() + chunk.content[8 * count :])]

    spoiled(vole, "outputs", change, DecodeError)


def test_a_party_that_failed_stays_failed(vole: Engine) -> None:
    both = spoiled(vole, "corrections", flipped(9, 1), VerificationError)
    failed = both.receiver
    with pytest.raises(StateError, match="failed"):
        failed.receive(Chunk(0, b""))
    with pytest.raises(StateError, match="failed"):
        failed.prepare()
    with pytest.raises(StateError, match="failed"):
        failed.outgoing()


def test_noise_in_place_of_every_message(vole: Engine) -> None:
    random = np.random.default_rng(5)
    for name, _, _ in SPOKEN:
        spoiled(vole, name, lambda chunk: [Chunk(chunk.number, random.bytes(len(chunk.content)))])
