"""The salts of assertions, in chunks of consecutive ones.

A delivery's event names the root of a tree over salted rows (`purposematch.protocol.log.batch`). Erasing
a salt unlinks the row; its commitment, which tells nothing without the salt, is kept (`erasures`) so that
the root can still be computed.

Not protected against: copies of the database that were made before an erasure.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select, update

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.events import SALT_LENGTH
from purposematch.server.registry.schema import CHUNK_ASSERTIONS, assertion_salt

__all__ = ["erase_salts", "load_salts", "store_salts"]

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


def erase_salts(connection: Connection, ids: NDArray[np.int64]) -> None:
    """Destroys salts.

    Args:
        connection: a transaction that writes.
        ids: n different assertions whose salts are not erased yet.

    Raises:
        IntegrityError: an assertion has no salt, or it was erased before.
    """
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
