"""Small trees of which the sender of the match knows every leaf but one.

Statement (Goldreich, Goldwasser, Micali 1986; punctured as in SoftSpokenOT, ePrint 2022/192): the receiver
of the match owns n_C trees of depth k with random roots. The children of a node are MMO_left(node) and
MMO_right(node). The sender has a secret symbol Delta_j of k bits for each tree. For the children at each
level the owner sends the XOR of all left ones and the XOR of all right ones, each under one of the two keys
of an oblivious transfer; the sender opens the one beside the path to leaf Delta_j, most significant bit
first. It ends with every leaf but that one.

Parameters: k = 5 and n_C as many as a code word has bits (`purposematch.protocol.vole.parameters`).

Semi-honest, experimental, no published proof of the whole: no check that the owner's sums are right.
"""

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.group import Bytes, RandomBytes
from purposematch.protocol.vole.aes import Words, mmo
from purposematch.protocol.vole.parameters import BLOCK, LEAVES, TREE_DEPTH
from purposematch.protocol.vole.session import Session

__all__ = ["choices", "grow", "open_trees", "reordered"]


def grow(session: Session, random: RandomBytes, count: int) -> tuple[Words, Words]:
    """Trees with random roots.

    Args:
        session: for the keys.
        random: see `RandomBytes`.
        count: how many trees.

    Returns:
        The leaves, (count, 32, 2) uint64, and the XOR of all left and of all right children of each level,
        (2, count, k, 2).
    """
    nodes = np.frombuffer(random(BLOCK * count), np.uint64).reshape(count, 1, 2)
    sums = np.empty((2, count, TREE_DEPTH, 2), np.uint64)
    for level in range(TREE_DEPTH):
        nodes = _children(session, nodes)
        for side in (0, 1):
            sums[side, :, level] = np.bitwise_xor.reduce(nodes[:, side::2], axis=1)
    return nodes, sums


def choices(symbols: Bytes) -> Bytes:
    """The choice bits for these symbols, (count * k,): of each bit of a path the complement."""
    shifts = np.arange(TREE_DEPTH - 1, -1, -1, dtype=np.uint8)
    return (1 - (symbols[:, None] >> shifts & 1)).astype(np.uint8).reshape(-1)


def open_trees(session: Session, symbols: Bytes, sums: Words, keys: Words) -> Words:
    """All leaves but those of the symbols, which are zero; (count, 32, 2) uint64.

    Args:
        session: for the keys.
        symbols: which leaf stays unknown, (count,).
        sums: what the owner sent, (2, count, k, 2), untrusted.
        keys: of the transfers, (count * k, 2).
    """
    count = len(symbols)
    rows: NDArray[np.intp] = np.arange(count)
    sides = choices(symbols).reshape(count, TREE_DEPTH).astype(np.intp)
    opened = sums[sides, rows[:, None], np.arange(TREE_DEPTH)] ^ keys.reshape(count, TREE_DEPTH, 2)
    nodes = np.zeros((count, 1, 2), np.uint64)
    for level in range(TREE_DEPTH):
        unknown = (symbols >> (TREE_DEPTH - level)).astype(np.intp)
        nodes = _children(session, nodes)
        nodes[rows, 2 * unknown] = 0
        nodes[rows, 2 * unknown + 1] = 0
        side = sides[:, level]
        known = np.stack([np.bitwise_xor.reduce(nodes[:, one::2], axis=1) for one in (0, 1)])
        nodes[rows, 2 * unknown + side] = opened[:, level] ^ known[side, rows]
    return nodes


def reordered(leaves: Words, symbols: Bytes) -> Words:
    """Leaf x + Delta_j in place x: the unknown one comes first, where its weight is zero."""
    places = np.arange(LEAVES, dtype=np.intp)[None, :] ^ symbols[:, None].astype(np.intp)
    return np.ascontiguousarray(leaves[np.arange(len(symbols))[:, None], places])


def _children(session: Session, nodes: Words) -> Words:
    """(count, width, 2) to (count, 2 * width, 2)."""
    count, width, _ = nodes.shape
    left, right = mmo(session.left_key, nodes), mmo(session.right_key, nodes)
    return np.stack([left, right], axis=2).reshape(count, 2 * width, 2)
