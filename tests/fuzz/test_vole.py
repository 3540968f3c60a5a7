"""Both sides of a match by VOLE are given anything at any point: one of our errors says why not, in time, and
nothing stays in memory.

What is altered on its way may never give a result. A peer that cheats, and so agrees about the transcript,
may cause wrong ones, but none that there can not be.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from budget import check_text, fuzz
from hypothesis import strategies as st
from mutations import spoil_bytes
from vole_match import BINDING, Pair, exchange, items, stream

from purposematch.protocol.errors import PurposematchError, StateError
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.parameters import Role, parameters
from purposematch.protocol.vole.party import Chunk, Party

EXAMPLES = 80
SECONDS = 2.0
"""Of this thread's own time, for a match with one chunk spoiled."""
GROWTH_BYTES = 65_536
PEAK_BYTES = 32 * 2**20

OWN, OTHERS, WIDTH = items(range(60)), items(range(40, 130)), 32
SIZES = parameters(len(OWN), len(OTHERS), WIDTH)
MATCHED = list(range(40, 60))
LABELS = np.arange(len(OTHERS) * WIDTH, dtype=np.uint64).astype(np.uint8).reshape(-1, WIDTH)
POINTS = [message for message in SIZES.messages if message.length]
"""Messages of this match; each is one chunk."""


@dataclass(frozen=True)
class Spoiled:
    """What becomes of one message: which one, by what chance, and how it comes."""

    point: int
    random: Random
    kind: str


KINDS = ("spoiled", "of this length", "number", "twice", "not at all", "another one", "anything")
anywhere = st.builds(
    Spoiled,
    st.integers(0, len(POINTS) - 1),
    st.randoms(use_true_random=False),
    st.sampled_from(KINDS),
)


def made(engine: Engine) -> Pair:
    receiver = engine.receiver(SIZES, OWN, BINDING, stream("receiver"))
    return Pair(receiver, engine.sender(SIZES, OTHERS, BINDING, stream("sender"), LABELS))


def same_length(content: bytes, random: Random) -> bytes:
    """Other bytes, as many: some bits flipped, everything at random, or one byte again and again."""
    match random.randrange(3):
        case 0:
            changed = bytearray(content)
            for _ in range(random.randrange(1, 4)):
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
            return bytes(changed)
        case 1:
            return random.randbytes(len(content))
        case _:
            return bytes([random.choice((0, 1, 127, 128, 255))]) * len(content)


def arrived(chunk: Chunk, how: Spoiled, said: list[tuple[Role, Chunk]]) -> list[Chunk]:
    """What comes in place of a chunk."""
    random = how.random
    match how.kind:
        case "spoiled":
            return [Chunk(chunk.number, spoil_bytes(chunk.content, random))]
        case "of this length":
            return [Chunk(chunk.number, same_length(chunk.content, random))]
        case "number":
            return [Chunk(random.choice((0, 1, 2, 7, 2**32 - 1, -1)), chunk.content)]
        case "twice":
            return [chunk, chunk]
        case "not at all":
            return []
        case "another one":
            return [random.choice(said)[1]]
        case _:
            return [Chunk(chunk.number, random.randbytes(random.choice((0, 1, 32, 64, 5_000, 1 << 20))))]


def altered(engine: Engine, how: Spoiled) -> None:
    """Spoils a message on its way; a result is right, or there is none."""
    both, seen, changed = made(engine), -1, False

    def meddle(role: Role, chunk: Chunk) -> list[Chunk]:
        nonlocal seen, changed
        seen += 1
        if seen != how.point:
            return [chunk]
        comes = arrived(chunk, how, both.said)
        changed = comes != [chunk]
        return comes

    began = time.thread_time()
    try:
        exchange(both, meddle)
    except PurposematchError as error:
        assert changed
        check_text(error)
    assert time.thread_time() - began < SECONDS
    try:
        rows = both.receiver.matches().rows.tolist()
    except StateError:
        assert changed
        return
    # The last message is for the sender alone, and what comes behind the one before it is too late.
    assert not changed or how.point >= len(POINTS) - 2
    assert rows == MATCHED
    assert (both.receiver.labels() == LABELS[: len(MATCHED)]).all()


def cheat(party: Party, name: str, change: Callable[[bytes], bytes]) -> None:
    """Has a party say something else in one message, and believe that it said so."""
    write = party._write

    def instead(asked: str) -> Iterator[bytes]:
        for content in write(asked):
            yield change(content) if asked == name else content

    party._write = instead


def cheated(engine: Engine, how: Spoiled) -> None:
    """Has one side cheat in one message; whatever results, there can be."""
    both, message = made(engine), POINTS[how.point]
    speaker: Party = both.receiver if message.speaker is Role.RECEIVER else both.sender
    cheat(speaker, message.name, lambda content: same_length(content, how.random))
    began = time.thread_time()
    try:
        exchange(both)
    except PurposematchError as error:
        check_text(error)
    assert time.thread_time() - began < SECONDS
    with suppress(StateError):
        matches, labels = both.receiver.matches(), both.receiver.labels()
        rows, places = matches.rows.tolist(), matches.places.tolist()
        assert rows == sorted(set(rows) & set(range(len(OWN))))
        assert set(places) <= set(range(len(OTHERS)))
        assert labels.shape == (len(rows), WIDTH)


def test_every_message_is_one_chunk() -> None:
    assert {message.chunks for message in POINTS} == {1}


def test_what_is_altered_on_its_way_gives_no_result(vole: Engine) -> None:
    for point in range(len(POINTS)):
        for kind in KINDS:
            altered(vole, Spoiled(point, Random(f"{point} {kind}"), kind))
    fuzz(anywhere, lambda how: altered(vole, how), EXAMPLES)


def test_a_peer_that_cheats_causes_errors_of_ours_or_results_that_there_can_be(vole: Engine) -> None:
    for point in range(len(POINTS)):
        cheated(vole, Spoiled(point, Random(point), "of this length"))
    fuzz(anywhere, lambda how: cheated(vole, how), EXAMPLES)


@pytest.mark.parametrize("fail", [altered, cheated])
def test_matches_that_fail_leave_nothing_in_memory(
    vole: Engine, fail: Callable[[Engine, Spoiled], None]
) -> None:
    def run() -> int:
        for point in range(len(POINTS)):
            fail(vole, Spoiled(point, Random(point), KINDS[point % len(KINDS)]))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        # Whatever is made once is made by now.
        run()
        before = run()
        assert run() - before < GROWTH_BYTES
        assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    finally:
        tracemalloc.stop()
