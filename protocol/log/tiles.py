"""Tiles: the complete subtrees of a log, in pieces of which a proof needs a few.

Source: C2SP tlog-tiles. Tile (level, index) holds up to 256 hashes: those of the complete subtrees of
256^level leaves, from the one at 256 * index on. Level 0 holds the leaf hashes. Only the last tile of a
level is partial, so that appending changes one tile a level, and a proof at 10^7 leaves reads at most seven.

Not protected against: tiles that were altered. The proofs made from them lead to no root then.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from purposematch.protocol.batch_hash import Bytes
from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.proofs import Subtree
from purposematch.protocol.log.tree import HASH_LENGTH, node_hash, parents, tree_root

__all__ = ["TILE_HASHES", "ReadTile", "Tile", "grown_tiles", "in_tiles"]

_HEIGHT: Final = 8
"""Levels of the tree in one level of tiles."""
TILE_HASHES: Final = 1 << _HEIGHT
"""Hashes of a full tile."""

ReadTile = Callable[[int, int], bytes]
"""Gives the content of tile (level, index): its hashes, 32 bytes each; empty if there is no such tile."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile that changed or appeared.

    Attributes:
        level: its level, from 0.
        index: its place in the level, from 0.
        content: its hashes, 32 bytes each.
        new: whether there was none before.
    """

    level: int
    index: int
    content: bytes
    new: bool


def in_tiles(read: ReadTile) -> Subtree:
    """The subtrees of a log that is kept in tiles; a tile is read once for each function that this returns.

    Raises:
        IntegrityError: (the function) a tile is missing or short.
    """
    tile = cache(lambda level, index: _rows(read(level, index)))

    def complete(height: int, number: int) -> bytes:
        """The hash of the complete subtree `number` of 2^height leaves."""
        level, above = divmod(height, _HEIGHT)
        index, first = divmod(number << above, TILE_HASHES)
        hashes = tile(level, index)[first : first + (1 << above)]
        if len(hashes) != 1 << above:
            raise IntegrityError("the log lacks hashes of some of its leaves")
        return tree_root(hashes)

    def subtree(begin: int, end: int) -> bytes:
        hashes = []
        while begin < end:
            height = (end - begin).bit_length() - 1
            hashes.append(complete(height, begin >> height))
            begin += 1 << height
        found = hashes.pop() if hashes else tree_root(np.empty((0, HASH_LENGTH), np.uint8))
        while hashes:
            found = node_hash(hashes.pop(), found)
        return found

    return subtree


def grown_tiles(read: ReadTile, size: int, leaves: Bytes) -> Iterator[Tile]:
    """The tiles that change or appear when leaves are appended.

    Args:
        read: gives the tiles as they are.
        size: leaves before.
        leaves: (n, 32) uint8, the hashes of the new leaves.

    Yields:
        Each such tile once, from level 0 upwards, whole.

    Raises:
        IntegrityError: the last tile of a level has another number of hashes than `size` says.
    """
    level, hashes = 0, leaves
    while len(hashes):
        first, kept = divmod(size, TILE_HASHES)
        if kept:
            before = _rows(read(level, first))
            if len(before) != kept:
                raise IntegrityError("the log's last tile does not fit the number of its leaves")
            hashes = np.concatenate([before, hashes])
        for start in range(0, len(hashes), TILE_HASHES):
            content = hashes[start : start + TILE_HASHES].tobytes()
            yield Tile(level, first + start // TILE_HASHES, content, new=start > 0 or kept == 0)
        hashes = hashes[: len(hashes) // TILE_HASHES * TILE_HASHES]
        for _ in range(_HEIGHT):
            hashes = parents(hashes)
        level, size = level + 1, first


def _rows(content: bytes) -> Bytes:
    if len(content) % HASH_LENGTH:
        raise IntegrityError("a tile of the log does not hold whole hashes")
    return np.frombuffer(content, np.uint8).reshape(-1, HASH_LENGTH)
