"""The root of a Merkle tree over a file's evidence.

Source: RFC 6962 section 2.1: a leaf is SHA-256(0x00 || entry), a node SHA-256(0x01 || left || right). Joining
neighbours level by level, with an odd last one carried up, gives the same tree as the RFC's recursion.

What this does not protect against: it gives no proofs for single leaves.
"""

import hashlib
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from purposematch.protocol.batch_hash import sha256_strings

__all__ = ["leaf_hashes", "merkle_root"]

# The published stubs of Arrow's functions know no mixture of arrays and plain values.
pc: Any = pyarrow.compute

_LEAF: Final = b"\x00"
_NODE: Final = 1
_HASH: Final = 32


def leaf_hashes(entries: pa.BinaryArray) -> NDArray[np.uint8]:
    """The leaves of n entries without nulls, (n, 32) uint8."""
    messages = pc.binary_join_element_wise(pa.scalar(_LEAF, pa.binary()), entries, b"")
    _, offsets, data = messages.buffers()
    starts = np.frombuffer(offsets, np.int32, len(messages) + 1, 4 * messages.offset)
    return sha256_strings(starts, np.frombuffer(data or b"", np.uint8))


def merkle_root(leaves: NDArray[np.uint8]) -> bytes:
    """The root over n leaf hashes, (n, 32) uint8; that of no leaves is SHA-256 of nothing."""
    if not len(leaves):
        return hashlib.sha256().digest()
    level = leaves
    while len(level) > 1:
        pairs = len(level) // 2
        nodes = np.empty((pairs, 1 + 2 * _HASH), np.uint8)
        nodes[:, 0] = _NODE
        nodes[:, 1:] = level[: 2 * pairs].reshape(pairs, 2 * _HASH)
        above = sha256_strings(np.arange(pairs + 1, dtype=np.int64) * nodes.shape[1], nodes.reshape(-1))
        level = np.concatenate([above, level[2 * pairs :]])
    return bytes(level[0])
