"""Hashes of a Merkle tree over batches: leaves, nodes, and the root level by level.

Source: RFC 6962 section 2.1 (the same as RFC 9162 section 2.1.1). A leaf is SHA-256(0x00 || data), a node is
SHA-256(0x01 || left || right), and a tree of n leaves splits at the largest power of two below n. The
two prefixes are what keeps a node from being passed off as a leaf.

Not protected against: data that can be guessed. A leaf hides nothing by itself; see `events` for the salt.
"""

from hashlib import sha256
from typing import Final

import numpy as np

from purposematch.protocol.batch_hash import Bytes, sha256_rows

__all__ = [
    "EMPTY_ROOT",
    "HASH_LENGTH",
    "MAX_LEAVES",
    "leaf_hash",
    "leaf_hashes",
    "node_hash",
    "parents",
    "tree_root",
]

HASH_LENGTH: Final = 32
"""Bytes of a hash of the tree."""
MAX_LEAVES: Final = 2**63 - 1
"""Leaves of a tree at most: the largest integer that every database stores."""
EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of a tree without leaves."""

_LEAF: Final = b"\0"
_NODE: Final = b"\1"
_ONE_BY_ONE: Final = 256
"""Hashes up to which hashlib is faster, one after another, than a batch is made."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf, 32 bytes."""
    return sha256(_LEAF + data).digest()


def leaf_hashes(data: Bytes) -> Bytes:
    """The hashes of n leaves of one width.

    Args:
        data: (n, width) uint8.

    Returns:
        (n, 32) uint8.
    """
    return sha256_rows(_LEAF, data)


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two hashes, 32 bytes."""
    return sha256(_NODE + left + right).digest()


def parents(hashes: Bytes) -> Bytes:
    """The nodes above 2n hashes that stand side by side.

    Args:
        hashes: (2n, 32) uint8.

    Returns:
        (n, 32) uint8.
    """
    return sha256_rows(_NODE, np.ascontiguousarray(hashes).reshape(-1, 2 * HASH_LENGTH))


def tree_root(leaves: Bytes) -> bytes:
    """The root of a tree.

    Args:
        leaves: (n, 32) uint8, leaf hashes in their order; n may be 0.

    Returns:
        32 bytes.
    """
    if not len(leaves):
        return EMPTY_ROOT
    # A hash without a neighbour goes up as it is: splitting at the largest power of two says the same.
    level = leaves
    while len(level) > _ONE_BY_ONE:
        even = len(level) // 2 * 2
        level = np.concatenate([parents(level[:even]), level[even:]])
    few: list[bytes] = [row.tobytes() for row in level]
    while len(few) > 1:
        above = [node_hash(left, right) for left, right in zip(few[::2], few[1::2], strict=False)]
        few = above + few[2 * len(above) :]
    return few[0]
