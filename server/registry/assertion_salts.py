"""The salts of assertions, in chunks of consecutive ones, and what is kept of those that were erased.

A delivery's event names the root of a tree over salted rows (`purposematch.protocol.log.batch`). Erasing
a salt unlinks the row; its commitment, which tells nothing without the salt, is kept so that the root can
still be computed.

Not protected against: copies of the database that were made before an erasure.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select, update

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.events import SALT_LENGTH
from purposematch.protocol.log.tree import HASH_LENGTH
from purposematch.server.registry.bulk import insert_columns
from purposematch.server.registry.schema import CHUNK_ASSERTIONS, assertion_salt, erased_assertion

__all__ = ["erase_salts", "erased_commitments", "load_salts", "store_salts"]

_Bytes = NDArray[np.uint8]
_ERASED: Final = np.uint8(0)


def store_salts(connection: Connection, first: int, salts: _Bytes) -> None:
    """Stores `(n, 16)` salts of the assertions `first` .. `first + n - 1`."""
    for start in range(0, len(salts), CHUNK_ASSERTIONS):
        chunk = salts[start : start + CHUNK_ASSERTIONS]
        row = {"first": first + start, "count": len(chunk), "salts": chunk.tobytes()}
        connection.execute(assertion_salt.insert(), row)


def load_salts(connection: Connection, first: int, count: int) -> _Bytes:
    """The salts of the assertions `first` .. `first + count - 1`, `(count, 16)`; zeros where one was erased.

    Raises:
        IntegrityError: some are missing.
    """
    salts = np.zeros((count, SALT_LENGTH), np.uint8)
    covered = 0
    for start, length in _places(connection, first, first + count):
        chunk = _chunk(connection, start, length)
        low, high = max(first, start), min(first + count, start + length)
        salts[low - first : high - first] = chunk[low - start : high - start]
        covered += high - low
    if covered != count:
        raise IntegrityError("the registry lacks the salts of some assertions")
    return salts


def erase_salts(connection: Connection, assertions: Sequence[int], commitments: _Bytes) -> None:
    """Destroys salts, and keeps the commitments in their place.

    Args:
        connection: a transaction that writes.
        assertions: n different ids whose salts are not erased yet.
        commitments: (n, 32) uint8, those of these assertions, in their order.

    Raises:
        IntegrityError: an assertion has no salt, or it was erased before.
    """
    ids = np.array(assertions, np.int64)
    left = len(ids)
    for start, length in _places(connection, int(ids.min()), int(ids.max()) + 1) if left else ():
        inside = ids[(ids >= start) & (ids < start + length)] - start
        if len(inside):
            chunk = _chunk(connection, start, length)
            if (chunk[inside] == _ERASED).all(axis=1).any():
                raise IntegrityError("the salt of an assertion was erased before")
            chunk[inside] = _ERASED
            here = assertion_salt.c.first == start
            connection.execute(update(assertion_salt).where(here).values(salts=chunk.tobytes()))
            left -= len(inside)
    if left:
        raise IntegrityError("the registry lacks the salts of some assertions")
    contents = [row.tobytes() for row in commitments]
    insert_columns(connection, erased_assertion, {"assertion": ids.tolist(), "commitment": contents})


def erased_commitments(connection: Connection, first: int, count: int) -> tuple[NDArray[np.int64], _Bytes]:
    """The erased ones of the assertions `first` .. `first + count - 1`.

    Returns:
        (m,) int64 positions, counted from `first`, ascending; and (m, 32) uint8, their commitments.

    Raises:
        IntegrityError: a commitment has a wrong length.
    """
    column = erased_assertion.c.assertion
    between = (column >= first) & (column < first + count)
    question = select(column, erased_assertion.c.commitment).where(between).order_by(column)
    rows = connection.execute(question).all()
    if any(len(commitment) != HASH_LENGTH for _, commitment in rows):
        raise IntegrityError("the commitment of an erased assertion has a wrong length")
    places = np.array([number for number, _ in rows], np.int64) - first
    joined = b"".join(commitment for _, commitment in rows)
    return places, np.frombuffer(joined, np.uint8).reshape(-1, HASH_LENGTH)


def _places(connection: Connection, begin: int, end: int) -> list[tuple[int, int]]:
    """The chunks with assertions from `begin` up to `end`: first assertion and count, in their order."""
    first, count = assertion_salt.c.first, assertion_salt.c.count
    # A chunk is no longer than CHUNK_ASSERTIONS, so that one that reaches `begin` starts near it.
    near = (first > begin - CHUNK_ASSERTIONS) & (first < end)
    rows = connection.execute(select(first, count).where(near).order_by(first)).all()
    return [(start, length) for start, length in rows if start + length > begin]


def _chunk(connection: Connection, first: int, count: int) -> _Bytes:
    """A copy of the salts of a chunk, (count, 16)."""
    salts = connection.scalar(select(assertion_salt.c.salts).where(assertion_salt.c.first == first)) or b""
    if len(salts) != count * SALT_LENGTH:
        raise IntegrityError("the registry lacks the salts of some assertions")
    return np.frombuffer(bytearray(salts), np.uint8).reshape(count, SALT_LENGTH)
