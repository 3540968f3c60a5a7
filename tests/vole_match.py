"""Drives both sides of a match by the VOLE engine in one process, and may meddle with what they say."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.group import Bytes, RandomBytes
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.parameters import Role, parameters
from purposematch.protocol.vole.party import Chunk, Party, Turn
from purposematch.protocol.vole.receiver import Receiver
from purposematch.protocol.vole.sender import Sender

BINDING = b"scope, agreement, session"


def stream(seed: str) -> RandomBytes:
    """Random bytes that are the same for the same seed: SHAKE-256 of seed and a counter."""
    calls = 0

    def random(count: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"{seed} {calls}".encode()).digest(count)

    return random


def items(numbers: NDArray[np.int64] | range | list[int]) -> Bytes:
    """An item for each number: a kind byte and a digest-like rest that depends on it."""
    made = np.zeros((len(numbers), 33), np.uint8)
    made[:, 0] = 1
    made[:, 1:9] = np.array(numbers, np.int64).reshape(-1, 1).view(np.uint8)
    return made


@dataclass
class Pair:
    """Both sides of a match, and what they said.

    Attributes:
        said: the chunks in the order in which they were sent, with who sent them.
    """

    receiver: Receiver
    sender: Sender
    said: list[tuple[Role, Chunk]] = field(default_factory=list)


def pair(
    engine: Engine,
    own: Bytes,
    others: Bytes,
    seed: str = "test",
    *,
    declared: tuple[int, int] | None = None,
    bindings: tuple[bytes, bytes] = (BINDING, BINDING),
    labels: Bytes | None = None,
) -> Pair:
    """Both sides, before the first message."""
    width = 0 if labels is None else labels.shape[1]
    sizes = parameters(*(declared or (len(own), len(others))), width)
    receiver = engine.receiver(sizes, own, bindings[0], stream(f"{seed} receiver"))
    return Pair(receiver, engine.sender(sizes, others, bindings[1], stream(f"{seed} sender"), labels))


def labels_of(others: Bytes, width: int) -> Bytes:
    """A label for each item, (n, width): byte i of it is byte i modulo 8 of the number, XOR i."""
    return np.tile(others[:, 1:9], -(-width // 8))[:, :width] ^ np.arange(width, dtype=np.uint8)


def nothing_changed(role: Role, chunk: Chunk) -> list[Chunk]:
    return [chunk]


def exchange(
    both: Pair, meddle: Callable[[Role, Chunk], list[Chunk]] = nothing_changed, *, prepare: bool = True
) -> Pair:
    """Lets both sides speak until nobody has anything to say.

    Args:
        both: before the first message.
        meddle: what becomes of a chunk on its way.
        prepare: whether both compute beforehand what they can.
    """
    parties: dict[Role, Party] = {Role.RECEIVER: both.receiver, Role.SENDER: both.sender}
    role = Role.SENDER
    while parties[role].turn is Turn.SPEAK:
        other = Role.RECEIVER if role is Role.SENDER else Role.SENDER
        for chunk in parties[role].outgoing():
            both.said.append((role, chunk))
            for arrived in meddle(role, chunk):
                parties[other].receive(arrived)
        if prepare:
            parties[role].prepare()
        role = other
    return both


def matched(engine: Engine, own: Bytes, others: Bytes, seed: str = "test") -> NDArray[np.int64]:
    """The rows of a whole match."""
    return exchange(pair(engine, own, others, seed)).receiver.matches().rows


def plain_rows(own: Bytes, others: Bytes) -> list[int]:
    """The same by a set of Python."""
    known = {row.tobytes() for row in others}
    return [i for i, row in enumerate(own) if row.tobytes() in known]
