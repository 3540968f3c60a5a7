"""Members of audiences as they are stored: chunks of the assertions that permit them.

The assertions of a change, ascending, are cut into chunks that are full, but for the last one. So there is
one way to store the same members, and another one is noticed.

Not protected against: somebody who writes to the database. What cannot be the members of a change is refused,
but another assertion in place of one is not noticed here.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, LargeBinary, Select, bindparam, cast, func, select, tuple_

from purposematch.protocol.errors import IntegrityError
from purposematch.server.registry.bulk import insert_columns
from purposematch.server.registry.schema import CHUNK_MEMBERS, audience_change, member_chunk

__all__ = ["DamagedMembersError", "drop_members", "load_members", "member_changes", "store_members"]

_Chunks = tuple[Sequence[int], Sequence[int], Sequence[Any]]
"""Change, first and granting of each of some rows, of whatever type the last one is."""

_ID: Final = np.dtype(">i8")
_OF_CHANGE: Final = (
    select(member_chunk).where(member_chunk.c.change == bindparam("change")).order_by(member_chunk.c.first)
)
# Of each change that has not ended the one chunk where an assertion can be.
_NEAR: Final = select(member_chunk).where(
    tuple_(member_chunk.c.change, member_chunk.c.first).in_(
        select(
            audience_change.c.number,
            select(func.max(member_chunk.c.first))
            .where(member_chunk.c.change == audience_change.c.number)
            .where(member_chunk.c.first <= bindparam("id"))
            .scalar_subquery(),
        ).where(audience_change.c.ended_at.is_(None))
    )
)


class DamagedMembersError(IntegrityError):
    """Members of an audience are damaged.

    Attributes:
        change: the number of the change that they are of.
    """

    def __init__(self, change: int, first: int) -> None:
        super().__init__(f"table member_chunk row {change} {first}: the members from there on are damaged")
        self.change = change


def store_members(connection: Connection, change: int, granting: NDArray[np.int64]) -> None:
    """Stores the members of a change, which has none yet.

    Args:
        connection: a transaction that writes.
        change: its number.
        granting: (n,) int64, the assertions that permit them, ascending and distinct.
    """
    content, width = granting.astype(_ID).tobytes(), CHUNK_MEMBERS * _ID.itemsize
    firsts = granting[::CHUNK_MEMBERS].tolist()
    columns = {
        "change": [change] * len(firsts),
        "first": firsts,
        "granting": [content[start : start + width] for start in range(0, len(content), width)],
    }
    insert_columns(connection, member_chunk, columns)


def load_members(connection: Connection, change: int) -> NDArray[np.int64]:
    """The assertions that permit the members of a change, (n,) int64, ascending; none where it has ended.

    Raises:
        DamagedMembersError: a chunk is damaged; the text names it.
    """
    chunks = _chunks(connection, _OF_CHANGE, change=change)
    granting, starts = _joined(chunks)
    wrong = starts != np.arange(len(starts)) * CHUNK_MEMBERS
    wrong[1:] |= granting[starts[1:]] <= granting[starts[1:] - 1]
    if wrong.any():
        raise _damaged(chunks, int(np.argmax(wrong)))
    return granting


def drop_members(connection: Connection, change: int) -> bytes:
    """Deletes the members of a change; SHA-256 over them, as `row_digests.audience_digest` has it, 32 bytes.

    Damaged ones go as well, or nobody's time would ever come. The digest is then another one than the log
    has, which the audit sees.

    Args:
        connection: a transaction that writes.
        change: its number.
    """
    of_change, digest = member_chunk.c.change == change, sha256()
    content = cast(member_chunk.c.granting, LargeBinary)
    for (part,) in connection.execute(select(content).where(of_change).order_by(member_chunk.c.first)):
        digest.update(part)
    connection.execute(member_chunk.delete().where(of_change))
    return digest.digest()


def member_changes(connection: Connection, id_: int) -> list[int]:
    """The numbers of the changes that have an assertion among their members; of those that have not ended.

    One chunk of each change is read, some microseconds.

    Raises:
        DamagedMembersError: a chunk is damaged; the text names it.
    """
    chunks = _chunks(connection, _NEAR, id=id_)
    granting, starts = _joined(chunks)
    places = np.searchsorted(starts, np.flatnonzero(granting == id_), "right") - 1
    return [chunks[0][place] for place in places.tolist()]


def _chunks(connection: Connection, question: Select[Any], **values: int) -> _Chunks:
    # An object for each row would take as long as everything else.
    rows = connection.execute(question, values).cursor.fetchall()
    changes, firsts, contents = zip(*rows, strict=True) if rows else ((), (), ())
    return changes, firsts, contents


def _joined(chunks: _Chunks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The assertions of k chunks, one after the other, and where each begins, (k,) int64.

    Raises:
        DamagedMembersError: a chunk is empty or too long, does not ascend, or begins with another assertion
            than its row says; the text names it.
    """
    _, firsts, contents = chunks
    # The database takes values of any type.
    lengths = [len(each) if isinstance(each, bytes) else 0 for each in contents]
    sizes = np.array(lengths, np.int64)
    wrong = (sizes == 0) | (sizes % _ID.itemsize != 0) | (sizes > CHUNK_MEMBERS * _ID.itemsize)
    if wrong.any():
        raise _damaged(chunks, int(np.argmax(wrong)))
    granting = np.frombuffer(b"".join(contents), _ID).astype(np.int64)
    starts = np.cumsum(sizes // _ID.itemsize) - sizes // _ID.itemsize
    found = granting[starts].tolist()
    if found != list(firsts):
        raise _damaged(chunks, [one == other for one, other in zip(found, firsts, strict=True)].index(False))
    rises = granting[1:] > granting[:-1]
    rises[starts[1:] - 1] = True
    if not rises.all():
        raise _damaged(chunks, int(np.searchsorted(starts, np.argmin(rises), "right")) - 1)
    return granting, starts


def _damaged(chunks: _Chunks, place: int) -> DamagedMembersError:
    changes, firsts, _ = chunks
    return DamagedMembersError(changes[place], firsts[place])
