"""What both sides of a match by the VOLE engine are: state machines that speak and listen in chunks.

Statement: a `Party` does no input or output. Its driver asks `turn`: on `SPEAK` it sends every chunk of
`outgoing`, on `LISTEN` it hands over one chunk of the peer to `receive`, on `DONE` it stops. The sequence of
messages is that of `Parameters.messages`, one side speaking at a time. Each chunk carries its number and has
one possible length, which is checked before anything is done with it, so that memory is bounded by the
declared sizes. A running SHA-256 over every chunk of both directions is compared by both sides at the end,
and no result is given out before.

::

    while party.turn is not Turn.DONE:
        if party.turn is Turn.SPEAK:
            for chunk in party.outgoing():
                send(chunk.number, chunk.content)
            party.prepare()  # while the peer computes
        else:
            party.receive(Chunk(*next_of_the_peer()))

Whatever error a party raises where it speaks or listens, it is of no use afterwards and says so by
`StateError`. A match that broke off is begun anew with new parties: nothing of a session may ever be used in
another. One thread drives a party; another may prepare it.

Secrets of a session are in ordinary arrays until its party is dropped; give it up when the match is done.

Not protected against: a peer that deviates from the protocol can cause wrong results, and as the receiver can
test whatever it can think of, see `sender`. Semi-honest, experimental, no published proof.
"""

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from typing import Final, TypeVar

import numpy as np

from purposematch.protocol.ciphersuite import VOLE_DOMAIN
from purposematch.protocol.errors import DecodeError, LimitError, StateError, VerificationError
from purposematch.protocol.group import Bytes, Group, RandomBytes
from purposematch.protocol.vole.parameters import NONCE_LENGTH, Parameters, Role

__all__ = ["ITEM_LENGTH", "Chunk", "Items", "Party", "Turn", "made"]

ITEM_LENGTH: Final = 33
"""Bytes of an item: the kind of the identifier, then its digest."""

_DIGESTS: Final = ("closing", "confirmation")
"""The messages that are nothing but the digest of everything before them."""


_Made = TypeVar("_Made")

Items = Bytes | Callable[[], Bytes]
"""Rows of bytes, or what gives them when they are needed."""


def made(value: _Made | None) -> _Made:
    """What an earlier message has made; the order of messages sees to it.

    Raises:
        StateError: it has not been made.
    """
    if value is None:
        raise StateError("a message", "another one before it")
    return value


class Turn(Enum):
    """What a party does next."""

    SPEAK = "speak"
    LISTEN = "listen"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a message.

    Attributes:
        number: counts the chunks that its speaker has sent in this match, from 0, over all messages.
        content: at most `MAX_CHUNK` bytes, never empty.
    """

    number: int
    content: bytes


class Party(ABC):
    """One side of a match; see `purposematch.protocol.vole.receiver` and `.sender`.

    Attributes:
        parameters: the sizes of the match.
        role: which side this is.
    """

    role: Role

    def __init__(
        self, parameters: Parameters, items: Items, binding: bytes, random: RandomBytes, group: Group
    ) -> None:
        """Begins at the first message, which the sender speaks.

        Args:
            parameters: of the declared sizes.
            items: (n, 33) uint8, n at most what this side declares; or what gives them, called once when they
                are first needed. What it raises, and what is wrong with them, is raised there then.
            binding: what both sides must agree about, in one canonical encoding: the scope, the digest of the
                agreement as each side has it, the id of the session. It enters every hash of an item.
            random: see `RandomBytes`.
            group: for the base oblivious transfers.

        Raises:
            LimitError: there are more items than declared.
            ValueError: the items are not (n, 33) bytes.
        """
        self.parameters = parameters
        self._given = items if callable(items) else self._checked(items)
        self._random = random
        self._group = group
        # Not known before the items are chosen, so that nobody can have chosen them by it.
        self._nonce = random(NONCE_LENGTH)
        self._messages = [message for message in parameters.messages if message.length]
        self._current = 0
        self._chunk = 0
        self._next = dict.fromkeys(Role, 0)
        self._preparing = Lock()
        self._binding = binding
        self._transcript = hashlib.sha256(VOLE_DOMAIN + b" transcript" + hashlib.sha256(binding).digest())
        self._failed = False
        self._speaking = False

    @property
    def _items(self) -> Bytes:
        """The items, which may have to be waited for."""
        if callable(self._given):
            self._given = self._checked(self._given())
        return self._given

    def _checked(self, items: Bytes) -> Bytes:
        declared = self.parameters.n_receiver if self.role is Role.RECEIVER else self.parameters.n_sender
        if items.ndim != 2 or items.shape[1] != ITEM_LENGTH or items.dtype != np.uint8:
            raise ValueError(f"items are rows of {ITEM_LENGTH} bytes")
        if len(items) > declared:
            raise LimitError(f"there are {len(items)} items, and {declared} were declared")
        return items

    @property
    def turn(self) -> Turn:
        """Whether this side speaks or listens next, or all is said."""
        if self._current == len(self._messages):
            return Turn.DONE
        return Turn.SPEAK if self._messages[self._current].speaker is self.role else Turn.LISTEN

    def outgoing(self) -> Generator[Chunk, None, None]:
        """Computes and gives the chunks of this side's next messages, until it is the peer's turn.

        They are to be sent in this order. The iterator computes as it goes along and must be used up.

        Raises:
            StateError: it is not this side's turn, or the party failed before.
            VerificationError, DecodeError, UnavailableError: see the sides.
        """
        self._check(Turn.SPEAK)
        if self._speaking:
            raise StateError("a second iterator", "the first one to be used up")
        self._speaking = True
        return self._speak()

    def receive(self, chunk: Chunk) -> None:
        """Takes the peer's next chunk.

        Raises:
            StateError: it is not the peer's turn, the chunk is not the next one, or the party failed before.
            DecodeError: it has a wrong length, or its content can not be decoded.
            VerificationError: the transcripts of both sides differ.
        """
        self._check(Turn.LISTEN)
        try:
            self._receive(chunk)
        except BaseException:
            self._failed = True
            raise

    def prepare(self) -> None:
        """Does what can be done without anything more of the peer; the second time it does nothing.

        It takes up to seconds. A driver that calls it where it would wait otherwise, or in another thread
        while chunks go to and fro, saves that time; one that does not gets the same results. Where a thread
        is at it, another one does nothing. What it raises is raised again where its result is needed.

        Raises:
            StateError: the party failed before.
            UnavailableError: an encoding failed by chance, once in about 2^50 matches; begin anew.
        """
        if self._failed:
            raise StateError("a party that failed", "a new one")
        if self._preparing.acquire(blocking=False):
            try:
                self._prepare()
            finally:
                self._preparing.release()

    def transcript(self) -> bytes:
        """SHA-256 of all chunks of both sides so far, 32 bytes; both have the same when all have arrived."""
        return self._transcript.digest()

    def _finish_preparing(self) -> None:
        """Sees to it that everything is prepared, also where another thread is at it."""
        with self._preparing:
            self._prepare()

    @abstractmethod
    def _prepare(self) -> None:
        """See `prepare`. What fails can be tried again; it is never called by two threads at a time."""

    def _speak(self) -> Generator[Chunk, None, None]:
        try:
            while self.turn is Turn.SPEAK:
                message = self._messages[self._current]
                index = 0
                for content in self._write(message.name):
                    # Whoever uses up the iterator learns of a failure; nothing short or long leaves.
                    if len(content) != message.chunk_length(index):
                        raise RuntimeError(f"a chunk of the message {message.name} has a wrong length")
                    yield self._count(content)
                    index += 1
                if index != message.chunks:
                    raise RuntimeError(f"the message {message.name} has a wrong number of chunks")
        except GeneratorExit:
            # The driver gave up; what was not said can not be said any more.
            self._failed = self._failed or self.turn is Turn.SPEAK
            raise
        except BaseException:
            self._failed = True
            raise
        finally:
            self._speaking = False

    def _receive(self, chunk: Chunk) -> None:
        message = self._messages[self._current]
        expected = self._next[message.speaker]
        if chunk.number != expected:
            raise StateError(f"chunk {chunk.number}", f"chunk {expected}, of the message {message.name}")
        index = self._chunk
        if len(chunk.content) != message.chunk_length(index):
            raise DecodeError(
                f"a chunk of the message {message.name} has {len(chunk.content)} bytes, "
                f"not {message.chunk_length(index)}"
            )
        name = message.name
        if name in _DIGESTS and not hmac.compare_digest(chunk.content, self.transcript()):
            raise VerificationError("the transcripts of both sides differ: something was altered on the way")
        self._count(chunk.content)
        self._read(name, index, chunk.content)

    def _count(self, content: bytes) -> Chunk:
        """Notes that the next chunk was sent or received."""
        message = self._messages[self._current]
        number = self._next[message.speaker]
        head = bytes([self._current]) + number.to_bytes(8, "little") + len(content).to_bytes(4, "little")
        self._transcript.update(head)
        self._transcript.update(content)
        self._next[message.speaker] = number + 1
        self._chunk += 1
        if self._chunk == message.chunks:
            self._chunk = 0
            self._current += 1
        return Chunk(number, content)

    @abstractmethod
    def _write(self, name: str) -> Iterator[bytes]:
        """The chunks of an own message."""

    @abstractmethod
    def _read(self, name: str, index: int, content: bytes) -> None:
        """Takes a chunk of a message of the peer."""

    def _check(self, turn: Turn) -> None:
        if self._failed:
            raise StateError("a party that failed", "a new one")
        if self.turn is not turn:
            raise StateError(f"a party that is to {self.turn.value}", f"one that is to {turn.value}")
