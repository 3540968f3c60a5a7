"""The log in the registry: its leaves, what opens them, and its tree.

Leaves are appended in the caller's transaction, so that what happened and the leaf that says so are stored
together or not at all.

Source: RFC 6962 section 2.1; docs/log.md. Beside its leaves the log keeps tiles (C2SP tlog-tiles): appending
rewrites the last tile of a level, and a proof at 10^7 leaves reads at most seven.

Not protected against: somebody who writes to the database. They can rewrite the whole log, and signed
checkpoints that others hold are what shows it: keep the last one outside, and check it with `check_extends`.
Pages that SQLite has freed, copies of the file and backups may keep an erased opening; see docs/log.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, select, update

from purposematch.protocol.errors import IntegrityError, NotFoundError, PeerError
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.log import proofs
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import SALT_LENGTH, Event, Opening
from purposematch.protocol.log.proofs import Proof, Subtree
from purposematch.protocol.log.tiles import ReadTile, grown_tiles, in_tiles
from purposematch.protocol.log.tree import HASH_LENGTH
from purposematch.server.registry.bulk import insert_columns
from purposematch.server.registry.schema import log_leaf, log_tile

__all__ = [
    "Leaf",
    "append",
    "append_hashes",
    "check_extends",
    "checkpoint",
    "consistency_proof",
    "inclusion_proof",
    "leaf_index",
    "leaves",
    "root",
    "size",
]

_LEAVES_AT_A_TIME = 4_096

# Every session asks these a dozen times; building a question anew takes longer than its answer.
_LAST = select(func.max(log_leaf.c.index))
_LEAVES = (
    select(*(log_leaf.c[name] for name in ("index", "kind", "at", "salt", "content", "hash")))
    .where(log_leaf.c.index >= bindparam("begin"), log_leaf.c.index < bindparam("end"))
    .order_by(log_leaf.c.index)
)
_GROW_TILE = (
    update(log_tile)
    .where(log_tile.c.level == bindparam("at_level"), log_tile.c.index == bindparam("at_index"))
    .values(hashes=bindparam("content"))
)
_TILE = select(log_tile.c.hashes).where(
    log_tile.c.level == bindparam("level"), log_tile.c.index == bindparam("index")
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A stored leaf.

    Attributes:
        index: where it is, counted from 0.
        kind: the label of its `EventKind`.
        at: when it happened, microseconds since 1970-01-01 UTC.
        opening: what opens it; None if it was erased.
        hash: its hash in the tree, 32 bytes.
    """

    index: int
    kind: str
    at: int
    opening: Opening | None
    hash: bytes

    def event(self) -> Event:
        """What it is about.

        Raises:
            NotFoundError: its opening was erased.
            IntegrityError: its opening, kind or time does not fit its hash: something was altered.
        """
        if self.opening is None:
            raise NotFoundError("the opening of this leaf was erased")
        try:
            event = self.opening.event(self.hash)
        except PeerError:
            raise IntegrityError(f"the opening of leaf {self.index} of the log was altered") from None
        if (event.kind, event.at) != (self.kind, self.at):
            raise IntegrityError(f"the kind or the time of leaf {self.index} of the log was altered")
        return event


def append(connection: Connection, events: Sequence[Event], random_bytes: RandomBytes) -> range:
    """Appends events in their order; returns their positions in the log.

    Args:
        connection: a transaction that writes.
        events: any number.
        random_bytes: where the salts come from.

    Raises:
        IntegrityError: the log's tiles do not fit its leaves.
    """
    first = size(connection)
    if not events:
        return range(first, first)
    openings = [Opening.of(event, random_bytes) for event in events]
    hashes = [opening.leaf_hash() for opening in openings]
    places = range(first, first + len(events))
    columns: dict[str, Sequence[object]] = {
        "index": places,
        "kind": [event.kind.value for event in events],
        "at": [event.at for event in events],
        "salt": [opening.salt for opening in openings],
        "content": [opening.content for opening in openings],
        "hash": hashes,
    }
    insert_columns(connection, log_leaf, columns)
    append_hashes(connection, first, np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_LENGTH))
    return places


def append_hashes(connection: Connection, first: int, hashes: NDArray[np.uint8]) -> None:
    """Lets the tiles grow by (n, 32) leaf hashes, those of the leaves from `first` on; `append` does it.

    Raises:
        IntegrityError: the tiles do not fit `first` leaves.
    """
    new = []
    for tile in grown_tiles(_read_tile(connection), first, hashes):
        if tile.new:
            new.append(tile)
        else:
            grown = {"at_level": tile.level, "at_index": tile.index, "content": tile.content}
            connection.execute(_GROW_TILE, grown)
    if new:
        columns: dict[str, Sequence[object]] = {
            "level": [tile.level for tile in new],
            "index": [tile.index for tile in new],
            "hashes": [tile.content for tile in new],
        }
        insert_columns(connection, log_tile, columns)


def size(connection: Connection) -> int:
    """How many leaves the log has."""
    last: int | None = connection.scalar(_LAST)
    return 0 if last is None else last + 1


def root(connection: Connection, at_size: int | None = None) -> bytes:
    """The root over the first leaves, 32 bytes.

    Args:
        connection: a snapshot.
        at_size: how many leaves; None for all.

    Raises:
        NotFoundError: the log has not that many.
        IntegrityError: a tile is missing or short.
    """
    return _subtree(connection)(0, _known_size(connection, at_size))


def checkpoint(connection: Connection, platform_id: str) -> Checkpoint:
    """The state of the log now; `Checkpoint.sign` signs it, in or after the transaction that it is read in.

    Raises:
        IntegrityError: a tile is missing or short.
    """
    now = size(connection)
    return Checkpoint(log_origin(platform_id), now, _subtree(connection)(0, now))


def check_extends(connection: Connection, last: Checkpoint) -> None:
    """Checks that the log still begins with what was signed before, which must hold before signing again.

    Raises:
        IntegrityError: the log was cut or rewritten.
    """
    if size(connection) < last.size or root(connection, last.size) != last.root:
        raise IntegrityError(
            "the log does not extend the last checkpoint that was signed: it was altered, or an older copy "
            "of the registry was put back; see Backup and restore in docs/operations.md"
        )


def inclusion_proof(connection: Connection, index: int, at_size: int) -> Proof:
    """Proves that leaf `index` is among the first `at_size` leaves.

    Raises:
        NotFoundError: the log has not that many leaves, or the leaf is not among them.
        IntegrityError: a tile is missing or short.
    """
    if not 0 <= index < _known_size(connection, at_size):
        raise NotFoundError("the log has no such leaf at this size")
    return proofs.inclusion_proof(_subtree(connection), index, at_size)


def consistency_proof(connection: Connection, old: int, new: int) -> Proof:
    """Proves that the log of `old` leaves is the beginning of that of `new`.

    Raises:
        NotFoundError: the log has not that many leaves, or `old` is above `new`.
        IntegrityError: a tile is missing or short.
    """
    if not 0 <= old <= _known_size(connection, new):
        raise NotFoundError("the log was never of these sizes in this order")
    return proofs.consistency_proof(_subtree(connection), old, new)


def leaf_index(connection: Connection, leaf_hash: bytes) -> int:
    """Where a leaf is.

    Args:
        connection: a snapshot.
        leaf_hash: its hash in the tree, 32 bytes.

    Raises:
        NotFoundError: the log has no such leaf.
    """
    found: int | None = connection.scalar(
        select(func.min(log_leaf.c.index)).where(log_leaf.c.hash == leaf_hash)
    )
    if found is None:
        raise NotFoundError("the log has no such leaf")
    return found


def leaves(connection: Connection, begin: int = 0, end: int | None = None) -> Iterator[Leaf]:
    """The leaves from `begin` up to, not including, `end`, in their order; some are in memory at a time.

    Raises:
        IntegrityError: a leaf has half an opening, or a salt of a wrong length.
    """
    while True:
        stop = begin + _LEAVES_AT_A_TIME if end is None else min(begin + _LEAVES_AT_A_TIME, end)
        rows = connection.execute(_LEAVES, {"begin": begin, "end": stop}).all()
        for index, kind, at, salt, content, found in rows:
            # Half an opening is not an erased one.
            if (salt is None) != (content is None) or (salt is not None and len(salt) != SALT_LENGTH):
                raise IntegrityError(
                    f"table log_leaf row {index}: the opening of leaf {index} of the log was altered"
                )
            yield Leaf(index, kind, at, None if salt is None else Opening(salt, content), found)
        if not rows or stop == end:
            return
        begin = stop


def _known_size(connection: Connection, at_size: int | None) -> int:
    now = size(connection)
    if at_size is None:
        return now
    if not 0 <= at_size <= now:
        raise NotFoundError("the log does not have so many leaves")
    return at_size


def _subtree(connection: Connection) -> Subtree:
    return in_tiles(_read_tile(connection))


def _read_tile(connection: Connection) -> ReadTile:
    def read(level: int, index: int) -> bytes:
        return connection.scalar(_TILE, {"level": level, "index": index}) or b""

    return read
