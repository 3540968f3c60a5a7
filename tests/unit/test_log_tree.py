"""The log's tree and proofs: published values, the RFC's recursion, pymerkle, and every kind of tampering."""

import hashlib
import itertools

import numpy as np
import pymerkle
import pytest
import slow_tree
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.errors import DecodeError, InputError, IntegrityError, VerificationError
from purposematch.protocol.log.proofs import (
    MAX_PROOF_HASHES,
    consistency_proof,
    decode_proof,
    in_memory,
    inclusion_proof,
    inclusion_ranges,
    verify_consistency,
    verify_inclusion,
)
from purposematch.protocol.log.tiles import TILE_HASHES, grown_tiles, in_tiles
from purposematch.protocol.log.tree import EMPTY_ROOT, leaf_hash, leaf_hashes, tree_root

# The eight leaves and their values in the tests of google/certificate-transparency, which test RFC 6962.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (index, size) and the path.
PATHS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
# The older and the newer size, and the proof.
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
SIZES = range(0, 71)


def data_of(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest() for number in range(count)]


def rows(parts: list[bytes]):
    return np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), 32)


DATA = data_of(600)
HASHES = leaf_hashes(rows(DATA))


def root_of(size: int) -> bytes:
    return tree_root(HASHES[:size])


def hexes(proof) -> list[str]:
    return [one.hex() for one in proof]


def test_roots_are_the_published_ones() -> None:
    hashes = rows([leaf_hash(leaf) for leaf in LEAVES])
    assert [tree_root(hashes[:size]).hex() for size in range(9)] == ROOTS
    assert [slow_tree.root(LEAVES[:size]).hex() for size in range(9)] == ROOTS
    assert EMPTY_ROOT.hex() == ROOTS[0]


def test_proofs_are_the_published_ones_and_verify() -> None:
    hashes = rows([leaf_hash(leaf) for leaf in LEAVES])
    for (index, size), path in PATHS.items():
        assert hexes(inclusion_proof(in_memory(hashes), index, size)) == path
        proof = [bytes.fromhex(one) for one in path]
        verify_inclusion(leaf_hash(LEAVES[index]), index, size, proof, bytes.fromhex(ROOTS[size]))
    for (old, new), expected in CONSISTENCY.items():
        assert hexes(consistency_proof(in_memory(hashes), old, new)) == expected
        proof = [bytes.fromhex(one) for one in expected]
        verify_consistency(old, bytes.fromhex(ROOTS[old]), new, bytes.fromhex(ROOTS[new]), proof)


def test_every_small_tree_is_the_one_of_the_rfc() -> None:
    for size in SIZES:
        assert root_of(size) == slow_tree.root(DATA[:size])
        for index in range(size):
            proof = inclusion_proof(in_memory(HASHES), index, size)
            assert list(proof) == slow_tree.path(index, DATA[:size])
            verify_inclusion(HASHES[index].tobytes(), index, size, proof, root_of(size))
        for old in range(size + 1):
            proof = consistency_proof(in_memory(HASHES), old, size)
            if 0 < old < size:
                assert list(proof) == slow_tree.proof(old, DATA[:size])
            verify_consistency(old, root_of(old), size, root_of(size), proof)


def test_a_large_batch_has_the_root_that_hashlib_gives() -> None:
    # Large enough for the vector lanes.
    data = np.random.default_rng(4).integers(256, size=(5_001, 40), dtype=np.uint8)
    hashes = leaf_hashes(data)
    assert hashes[17].tobytes() == leaf_hash(data[17].tobytes())
    assert tree_root(hashes) == slow_tree.root([row.tobytes() for row in data])


def test_pymerkle_agrees() -> None:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for data in DATA[:70]:
        tree.append_entry(data)
    for size in range(1, 71):
        assert tree.get_root(size) == root_of(size)
        for index in range(size):
            leaf = HASHES[index].tobytes()
            theirs = tree.prove_inclusion(index + 1, size)
            # Its path holds the leaf too, and stands in the order of the tree.
            assert {*inclusion_proof(in_memory(HASHES), index, size), leaf} == {*theirs.path}
            pymerkle.verify_inclusion(leaf, root_of(size), theirs)
        for old in range(1, size):
            # Its proofs of consistency have another form; both lead to the same roots.
            pymerkle.verify_consistency(root_of(old), root_of(size), tree.prove_consistency(old, size))


@given(data=st.data(), size=st.integers(1, 600))
def test_a_proof_of_inclusion_shows_nothing_else(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaf, proof, root = (
        HASHES[index].tobytes(),
        inclusion_proof(in_memory(HASHES), index, size),
        root_of(size),
    )
    verify_inclusion(leaf, index, size, proof, root)
    wrong = [
        (flipped(data, leaf), index, size, proof, root),
        (leaf, index, size, proof, flipped(data, root)),
        (leaf, size, size, proof, root),
        (leaf, -1, size, proof, root),
        (leaf, index, size, (*proof, root), root),
        (leaf, index, index, proof, root),
    ]
    if proof:
        other = data.draw(st.integers(0, size - 1).filter(lambda other: other != index))
        wrong += [
            (leaf, other, size, proof, root),
            (leaf, index, size, proof[:-1], root),
            (leaf, index, size, proof[1:], root),
            (leaf, index, size, altered(data, proof), root),
        ]
    for arguments in wrong:
        with pytest.raises(VerificationError):
            verify_inclusion(*arguments)


@given(data=st.data(), new=st.integers(1, 600))
def test_a_proof_of_consistency_shows_nothing_else(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(0, new))
    old_root, new_root = root_of(old), root_of(new)
    proof = consistency_proof(in_memory(HASHES), old, new)
    verify_consistency(old, old_root, new, new_root, proof)
    wrong = [
        (old, flipped(data, old_root), new, new_root, proof),
        (new + 1, old_root, new, new_root, proof),
        (-1, old_root, new, new_root, proof),
        (old, old_root, new, new_root, (*proof, new_root)),
    ]
    if old:
        wrong.append((old, old_root, new, flipped(data, new_root), proof))
    if proof:
        wrong += [
            (old, old_root, new, new_root, proof[:-1]),
            (old, old_root, new, new_root, proof[1:]),
            (old, old_root, new, new_root, ()),
            (old, old_root, new, new_root, altered(data, proof)),
            (old, old_root, old, new_root, proof),
            (0, old_root, new, new_root, proof),
        ]
    for arguments in wrong:
        with pytest.raises(VerificationError):
            verify_consistency(*arguments)


@given(st.data(), st.integers(1, 40))
def test_a_proof_of_inclusion_shows_the_subtrees_that_it_has(data: st.DataObject, size: int) -> None:
    leaves = np.array([np.frombuffer(leaf_hash(bytes([number])), np.uint8) for number in range(size)])
    index = data.draw(st.integers(0, size - 1))
    ranges = inclusion_ranges(index, size)
    proof = inclusion_proof(in_memory(leaves), index, size)
    assert [tree_root(leaves[begin:end]) for begin, end in ranges] == list(proof)
    # With the leaf itself they are the whole tree, once.
    covered = sorted([(index, index + 1), *ranges])
    assert covered[0][0] == 0
    assert covered[-1][1] == size
    assert all(one[1] == two[0] for one, two in itertools.pairwise(covered))


def test_every_flipped_bit_of_a_proof_is_refused() -> None:
    inclusion, consistency = PATHS[5, 8], CONSISTENCY[6, 8]
    leaf, root = leaf_hash(LEAVES[5]), bytes.fromhex(ROOTS[8])
    for place in range(3 * 256):
        proof = [bytearray.fromhex(one) for one in inclusion]
        proof[place // 256][place % 256 // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            verify_inclusion(leaf, 5, 8, [bytes(one) for one in proof], root)
        proof = [bytearray.fromhex(one) for one in consistency]
        proof[place // 256][place % 256 // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            verify_consistency(6, bytes.fromhex(ROOTS[6]), 8, root, [bytes(one) for one in proof])


def test_a_rewritten_leaf_breaks_consistency() -> None:
    changed = HASHES.copy()
    changed[3, 0] ^= 1
    for new in (8, 9, 300):
        proof = consistency_proof(in_memory(changed), 7, new)
        with pytest.raises(VerificationError):
            verify_consistency(7, root_of(7), new, tree_root(changed[:new]), proof)


def test_a_second_tree_of_the_same_size_is_a_fork() -> None:
    with pytest.raises(VerificationError, match="different roots"):
        verify_consistency(7, root_of(7), 7, root_of(8), ())
    with pytest.raises(VerificationError, match="different roots"):
        verify_consistency(0, EMPTY_ROOT, 0, root_of(1), ())


def test_there_are_no_proofs_of_what_is_not_there() -> None:
    for index, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(InputError):
            inclusion_proof(in_memory(HASHES), index, size)
    for old, new in ((4, 3), (-1, 3)):
        with pytest.raises(InputError):
            consistency_proof(in_memory(HASHES), old, new)


def test_a_proof_that_is_none_is_not_decoded() -> None:
    assert decode_proof([bytes(32)]) == (bytes(32),)
    for hashes in ([bytes(31)], [bytes(32), b""], [bytes(32)] * (MAX_PROOF_HASHES + 1)):
        with pytest.raises(DecodeError):
            decode_proof(hashes)


class Tiles(dict):
    """Tiles in memory, which count how often they are read."""

    reads = 0

    def read(self, level: int, index: int) -> bytes:
        self.reads += 1
        return self.get((level, index), b"")

    def grow(self, size: int, leaves) -> None:
        for tile in grown_tiles(self.read, size, leaves):
            assert tile.new == ((tile.level, tile.index) not in self)
            self[tile.level, tile.index] = tile.content


@given(steps=st.lists(st.integers(0, 700), min_size=1, max_size=6), data=st.data())
def test_tiles_give_the_proofs_of_the_whole_tree(steps: list[int], data: st.DataObject) -> None:
    count = sum(steps)
    leaves = np.random.default_rng(count).integers(256, size=(count, 32), dtype=np.uint8)
    tiles, size = Tiles(), 0
    for step in steps:
        tiles.grow(size, leaves[size : size + step])
        size += step
    subtree = in_tiles(tiles.read)
    assert subtree(0, count) == tree_root(leaves)
    if count:
        # Older sizes are answered from the tiles of the newest.
        then = data.draw(st.integers(1, count))
        index = data.draw(st.integers(0, then - 1))
        assert subtree(0, then) == tree_root(leaves[:then])
        assert inclusion_proof(subtree, index, then) == inclusion_proof(in_memory(leaves), index, then)
        assert consistency_proof(subtree, index, then) == consistency_proof(in_memory(leaves), index, then)


def test_a_proof_reads_a_few_tiles() -> None:
    count = 3 * TILE_HASHES**2 + 5 * TILE_HASHES + 7
    leaves = np.random.default_rng(5).integers(256, size=(count, 32), dtype=np.uint8)
    tiles = Tiles()
    tiles.grow(0, leaves)
    tiles.reads = 0
    inclusion_proof(in_tiles(tiles.read), 70_000, count)
    assert tiles.reads <= 5
    tiles.reads = 0
    tiles.grow(count, leaves[:1])
    assert tiles.reads == 1


def test_a_lost_or_cut_tile_is_noticed() -> None:
    tiles = Tiles()
    tiles.grow(0, HASHES)
    for place, content in ((0, 0), b""), ((0, 1), HASHES[:3].tobytes()), ((0, 2), bytes(33)), ((1, 0), b""):
        damaged = Tiles(tiles)
        damaged[place] = content
        with pytest.raises(IntegrityError):
            [inclusion_proof(in_tiles(damaged.read), index, 600) for index in range(0, 600, 5)]
    damaged = Tiles(tiles)
    damaged[0, 2] = damaged[0, 2][:-32]
    with pytest.raises(IntegrityError):
        damaged.grow(600, HASHES[:1])


def flipped(data: st.DataObject, value: bytes) -> bytes:
    """`value` with one bit changed."""
    place = data.draw(st.integers(0, 8 * len(value) - 1))
    changed = bytearray(value)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def altered(data: st.DataObject, proof) -> tuple[bytes, ...]:
    """A proof with one bit changed."""
    place = data.draw(st.integers(0, len(proof) - 1))
    return (*proof[:place], flipped(data, proof[place]), *proof[place + 1 :])
