"""The audit's first part: the log in itself. Leaves, tiles, and the last checkpoint that was signed.

Not protected against: leaves that were rewritten, tiles and all, since the last checkpoint was signed.
"""

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.checkpoint import Checkpoint
from purposematch.protocol.log.tiles import grown_tiles
from purposematch.protocol.log.tree import HASH_LENGTH, tree_root
from purposematch.server.registry.schema import log_leaf, log_tile

__all__ = ["audit_log"]


def audit_log(connection: Connection, last: Checkpoint) -> int:
    """Checks that the log's tiles are those of its leaves, and that it extends a checkpoint.

    Args:
        connection: a snapshot.
        last: a checkpoint that was signed before.

    Returns:
        How many leaves there are.

    Raises:
        IntegrityError: it is not so; the text names the first row or file.
    """
    hashes = _hashes(connection)
    expected = {(tile.level, tile.index): tile.content for tile in grown_tiles(_no_tile, 0, hashes)}
    question = select(log_tile.c.level, log_tile.c.index, log_tile.c.hashes)
    stored = {(level, index): content for level, index, content in connection.execute(question)}
    for place in sorted(expected.keys() | stored.keys()):
        if expected.get(place) != stored.get(place):
            raise IntegrityError(
                f"table log_tile row {place[0]} {place[1]} does not fit the rows of table log_leaf"
            )
    if last.size > len(hashes) or tree_root(hashes[: last.size]) != last.root:
        raise IntegrityError("file log.checkpoint: table log_leaf does not extend what was signed last")
    return len(hashes)


def _hashes(connection: Connection) -> NDArray[np.uint8]:
    """The hashes of all leaves, (n, 32), in their order."""
    contents: list[bytes] = []
    question = select(log_leaf.c.index, log_leaf.c.hash).order_by(log_leaf.c.index)
    for index, content in connection.execute(question):
        if index != len(contents):
            raise IntegrityError(f"table log_leaf lacks row {len(contents)}, or has one too many before it")
        if len(content) != HASH_LENGTH:
            raise IntegrityError(f"table log_leaf row {index} has a hash of a wrong length")
        contents.append(content)
    return np.frombuffer(b"".join(contents), np.uint8).reshape(-1, HASH_LENGTH)


def _no_tile(_level: int, _index: int) -> bytes:
    return b""
