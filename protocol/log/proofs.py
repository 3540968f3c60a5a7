"""Proofs that a leaf is in a tree, and that one tree is the beginning of another.

Source: RFC 6962 sections 2.1.1 and 2.1.2 for what a proof holds, RFC 9162 sections 2.1.3.2 and 2.1.4.2 for
how it is verified. A proof is a list of hashes of subtrees. Which subtrees these are is worked out here;
their hashes come from a function, so that leaves in memory (`in_memory`) and tiles in a database (`tiles`)
give the same proofs.

Not protected against: a root that nobody else has seen. A proof ties a leaf to a root; that everybody is
shown the same root is found by comparing checkpoints.
"""

from collections.abc import Callable, Sequence
from typing import Final

from purposematch.protocol.batch_hash import Bytes
from purposematch.protocol.errors import DecodeError, InputError, VerificationError
from purposematch.protocol.log.tree import EMPTY_ROOT, HASH_LENGTH, node_hash, tree_root

__all__ = [
    "MAX_PROOF_HASHES",
    "Proof",
    "Subtree",
    "consistency_proof",
    "decode_proof",
    "in_memory",
    "inclusion_proof",
    "inclusion_ranges",
    "verify_consistency",
    "verify_inclusion",
]

Proof = tuple[bytes, ...]
"""Hashes of subtrees, 32 bytes each, from the leaves up to the root."""
Subtree = Callable[[int, int], bytes]
"""Gives the hash of the subtree over the leaves `begin` up to, not including, `end`. It is asked only for
subtrees of the tree in question: complete ones, and those that reach its right edge."""

MAX_PROOF_HASHES: Final = 64
"""Hashes of a proof at most: one a level, and one more where a consistency proof begins inside the tree."""


def in_memory(leaves: Bytes) -> Subtree:
    """The subtrees of leaf hashes that are at hand, (n, 32) uint8."""
    return lambda begin, end: tree_root(leaves[begin:end])


def inclusion_proof(subtree: Subtree, index: int, size: int) -> Proof:
    """Proves that a leaf is in a tree (RFC 6962 section 2.1.1).

    Args:
        subtree: gives hashes of subtrees.
        index: the leaf, counted from 0.
        size: leaves in the tree.

    Raises:
        InputError: there is no such leaf.
    """
    return tuple(subtree(*place) for place in inclusion_ranges(index, size))


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The subtrees whose hashes an inclusion proof has, each from `begin` up to, not including, `end`.

    A proof that leads to a root shows that the tree has these subtrees, too.

    Raises:
        InputError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise InputError("the tree has no such leaf")
    ranges = []
    begin, end = 0, size
    while end - begin > 1:
        middle = _split(begin, end)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    return ranges[::-1]


def consistency_proof(subtree: Subtree, old: int, new: int) -> Proof:
    """Proves that the first `old` leaves are the beginning of the first `new` ones (RFC 6962 section 2.1.2).

    The proof is empty if the two are one tree, or `old` is 0.

    Raises:
        InputError: `old` is negative or above `new`.
    """
    if not 0 <= old <= new:
        raise InputError("the older tree is larger than the newer one")
    if old in (0, new):
        return ()
    ranges = []
    begin, end = 0, new
    while old != end:
        middle = _split(begin, end)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    if begin:
        # The verifier knows the old root, which is this subtree only if nothing stands left of it.
        ranges.append((begin, end))
    return tuple(subtree(*place) for place in reversed(ranges))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Checks that a leaf is in a tree (RFC 9162 section 2.1.3.2).

    Args:
        leaf: its hash, 32 bytes.
        index: where it is claimed to be, counted from 0.
        size: leaves in the tree.
        proof: the proof.
        root: the tree's root, 32 bytes.

    Raises:
        VerificationError: the proof does not show it.
    """
    if not 0 <= index < size:
        raise VerificationError("an inclusion proof is for a leaf outside the tree")
    node, last, found = index, size - 1, leaf
    for other in proof:
        if last == 0:
            raise VerificationError("an inclusion proof is too long")
        if node & 1 or node == last:
            found = node_hash(other, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, other)
        node, last = node >> 1, last >> 1
    if last or found != root:
        raise VerificationError("an inclusion proof does not lead to the root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Checks that one tree is the beginning of another (RFC 9162 section 2.1.4.2).

    Every tree begins with the empty one, which the RFC leaves out; its root is checked, its proof empty.

    Args:
        old: leaves of the older tree.
        old_root: its root, 32 bytes.
        new: leaves of the newer tree.
        new_root: its root, 32 bytes.
        proof: the proof.

    Raises:
        VerificationError: the proof does not show it, or `old` is above `new`.
    """
    if not 0 <= old <= new:
        raise VerificationError("a tree became smaller")
    if old in (0, new):
        if proof:
            raise VerificationError("a consistency proof is too long")
        if old_root != (EMPTY_ROOT if old == 0 else new_root) or (new == 0 and new_root != EMPTY_ROOT):
            raise VerificationError("two trees of one size have different roots")
        return
    if not proof:
        raise VerificationError("a consistency proof is empty")
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    # A complete older tree is a subtree of the newer one, and its root is then left out of the proof.
    first, *others = proof if node else (old_root, *proof)
    old_found = new_found = first
    for other in others:
        if last == 0:
            raise VerificationError("a consistency proof is too long")
        if node & 1 or node == last:
            old_found, new_found = node_hash(other, old_found), node_hash(other, new_found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new_found = node_hash(new_found, other)
        node, last = node >> 1, last >> 1
    if last or old_found != old_root or new_found != new_root:
        raise VerificationError("a consistency proof does not lead to the two roots")


def decode_proof(hashes: Sequence[bytes]) -> Proof:
    """A proof that arrived.

    Raises:
        DecodeError: it has too many hashes, or one is not 32 bytes long.
    """
    if len(hashes) > MAX_PROOF_HASHES:
        raise DecodeError(f"a proof has more than {MAX_PROOF_HASHES} hashes")
    if any(len(one) != HASH_LENGTH for one in hashes):
        raise DecodeError(f"a hash of a proof is not {HASH_LENGTH} bytes long")
    return tuple(hashes)


def _split(begin: int, end: int) -> int:
    """Where a tree over at least two leaves splits: at the largest power of two below its size."""
    return begin + (1 << ((end - begin - 1).bit_length() - 1))
