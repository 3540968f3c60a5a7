"""The digests that the match needs, sealed in chunks of consecutive assertions.

One AES-256-GCM call covers up to `CHUNK_ASSERTIONS` digests; its associated data names the place, so that a
chunk can be neither moved nor shortened.

Not protected against: somebody who holds the sealing key. Reading one digest opens its whole chunk.
"""

import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select, update

from purposematch.protocol.errors import IntegrityError
from purposematch.server.keys import SealingKey, seal, unseal
from purposematch.server.registry.schema import CHUNK_ASSERTIONS, digest_chunk

__all__ = ["digest_parts", "erase_digests", "load_digests", "store_digests"]

_DOMAIN: Final = b"purposematch registry digests v1"
_DIGEST_BYTES: Final = 32


def store_digests(connection: Connection, key: SealingKey, first: int, digests: NDArray[np.uint8]) -> None:
    """Seals and stores `(n, 32)` digests of the assertions `first` .. `first + n - 1`."""
    for start in range(0, len(digests), CHUNK_ASSERTIONS):
        chunk = digests[start : start + CHUNK_ASSERTIONS]
        sealed = seal(key, chunk.tobytes(), _place(first + start, len(chunk)))
        row = {"first": first + start, "count": len(chunk), "sealed": sealed}
        connection.execute(digest_chunk.insert(), row)


def load_digests(connection: Connection, key: SealingKey, assertions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The digests of assertions, in the order asked for; zeros where an assertion has none.

    Args:
        connection: a snapshot.
        key: the sealing key.
        assertions: `(n,)` int64 ids, in any order.

    Returns:
        `(n, 32)` uint8.

    Raises:
        IntegrityError: a chunk is missing or was altered.
    """
    if (assertions[1:] < assertions[:-1]).any():
        order = np.argsort(assertions)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return load_digests(connection, key, assertions[order]).take(place, axis=0)
    digests = np.empty((len(assertions), _DIGEST_BYTES), np.uint8)
    for part, some in digest_parts(connection, key, assertions):
        digests[part] = some
    return digests


def digest_parts(
    connection: Connection, key: SealingKey, assertions: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """The digests of assertions, chunk by chunk.

    Args:
        connection: a snapshot.
        key: the sealing key.
        assertions: `(n,)` int64 ids, ascending.

    Yields:
        Which of them, and their digests, `(k, 32)` uint8, as `load_digests` gives them.

    Raises:
        IntegrityError: a chunk is missing or was altered.
    """
    if not len(assertions):
        return
    places = connection.execute(
        select(digest_chunk.c.first, digest_chunk.c.count).order_by(digest_chunk.c.first)
    ).all()
    starts = np.searchsorted(assertions, [first for first, _ in places]).tolist()
    if not starts or starts[0]:
        raise IntegrityError("the registry lacks the digests of some assertions")
    sealed_chunk = select(digest_chunk.c.sealed)
    for (first, count), start, end in zip(places, starts, [*starts[1:], len(assertions)], strict=True):
        if start == end:
            continue
        sealed = connection.execute(sealed_chunk.where(digest_chunk.c.first == first)).scalar_one()
        chunk = np.frombuffer(unseal(key, sealed, _place(first, count)), np.uint8).reshape(-1, _DIGEST_BYTES)
        offsets = assertions[start:end] - first
        if len(chunk) != count or offsets[-1] >= count:
            raise IntegrityError("the registry lacks the digests of some assertions")
        yield slice(start, end), chunk.take(offsets, axis=0)


def erase_digests(connection: Connection, key: SealingKey, assertions: NDArray[np.int64]) -> None:
    """Seals the chunks of assertions again, without their digests.

    Args:
        connection: a transaction that writes.
        key: the sealing key.
        assertions: `(n,)` int64 ids, ascending.

    Raises:
        IntegrityError: a chunk was altered.
    """
    first, end = digest_chunk.c.first, digest_chunk.c.first + digest_chunk.c.count
    reached = (first <= int(assertions[-1])) & (end > int(assertions[0]))
    places = connection.execute(select(first, digest_chunk.c.count).where(reached)).all()
    for begin, count in places:
        inside = assertions[(assertions >= begin) & (assertions < begin + count)] - begin
        if not len(inside):
            continue
        digests = load_digests(connection, key, np.arange(begin, begin + count))
        digests[inside] = 0
        sealed = seal(key, digests.tobytes(), _place(begin, count))
        connection.execute(update(digest_chunk).where(first == begin).values(sealed=sealed))


def _place(first: int, count: int) -> bytes:
    return _DOMAIN + struct.pack(">QI", first, count)
