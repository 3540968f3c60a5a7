"""AES-128 under fixed keys, as a permutation, on batches of blocks.

Statement: pi_K(x) is AES-128 encryption (FIPS 197) of the block x under K. MMO_K(x) = pi_K(x) + x is one-way;
TMMO_K(x, t) = pi_K(pi_K(x) + t) + pi_K(x) is a tweakable hash that is circular correlation robust (Guo, Katz,
Wang, Yu, ePrint 2019/074), if AES under a key that nobody chose is an ideal permutation. Keys are public and
belong to one session (`purposematch.protocol.vole.session`).

Semi-honest, experimental, no published proof. Not for general use: there is no decryption, and the key
schedule looks up a table by the bytes of the key.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from purposematch.protocol.simd.lanes import Lanes, step
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.vole.blocks import encrypt, load, load_keys, store, words_at
from purposematch.protocol.vole.kernels import vole_kernel

__all__ = ["Words", "aligned", "mmo", "permute", "round_keys", "tmmo"]

Words = NDArray[np.uint64]
KEY_LENGTH: Final = 16
_SIDE_BY_SIDE: Final = 4
"""Vectors in flight."""
_GROUP: Final = _SIDE_BY_SIDE * LANES
"""Words that one turn of the loop encrypts."""


def _substitution() -> list[int]:
    """The S-box: inverses in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, and an affine map."""
    powers = [1]
    for _ in range(254):
        tripled = powers[-1] << 1 ^ powers[-1]
        powers.append(tripled ^ 0x11B if tripled >> 8 else tripled)
    logarithms = {power: exponent for exponent, power in enumerate(powers)}
    box = []
    for byte in range(256):
        inverse = powers[-logarithms[byte] % 255] if byte else 0
        rotations = (inverse << turn | inverse >> (8 - turn) for turn in range(5))
        image = 0x63
        for rotated in rotations:
            image ^= rotated & 0xFF
        box.append(image)
    return box


_BOX: Final = _substitution()


def round_keys(key: bytes) -> Words:
    """The 11 round keys of a key of 16 bytes, (22,) uint64."""
    columns = [list(key[at : at + 4]) for at in range(0, KEY_LENGTH, 4)]
    constant = 1
    for i in range(4, 44):
        column = list(columns[-1])
        if i % 4 == 0:
            column = [_BOX[byte] for byte in column[1:] + column[:1]]
            column[0] ^= constant
            constant = constant << 1 ^ (0x11B if constant >> 7 else 0)
        columns.append([a ^ b for a, b in zip(columns[-4], column, strict=True)])
    return np.frombuffer(bytes(byte for column in columns for byte in column), np.uint64).copy()


@step(0, 4)
def _permute(lanes: Lanes, keys: Any, source: Any, target: Any, groups: Any) -> None:
    """Encrypts groups of vectors from one address to another."""
    builder = lanes.builder
    round_keys = load_keys(lanes, keys)

    def body(index: Any, state: list[Any]) -> list[Any]:
        at = builder.mul(index, ir.Constant(index.type, _GROUP))
        places = [builder.add(at, ir.Constant(at.type, i * LANES)) for i in range(_SIDE_BY_SIDE)]
        blocks = [load(lanes, words_at(lanes, source, place)) for place in places]
        for place, block in zip(places, encrypt(lanes, round_keys, blocks), strict=True):
            store(lanes, words_at(lanes, target, place), block)
        return state

    lanes.loop(groups, [], body)


@vole_kernel("void(uint64[::1], uint64[::1], uint64[::1])")
def permute_groups(keys: Any, source: Any, target: Any) -> None:
    """pi of every block of an array of whole groups, at least one."""
    groups = source.shape[0] // _GROUP
    _permute(keys, keys.ctypes.data, source.ctypes.data, target.ctypes.data, groups)


def permute(keys: Words, blocks: Words) -> Words:
    """pi of every block.

    Args:
        keys: of `round_keys`.
        blocks: (.., 2) uint64.
    """
    flat = np.zeros(max(-(-blocks.size // _GROUP), 1) * _GROUP, np.uint64)
    flat[: blocks.size] = blocks.reshape(-1)
    permute_groups(keys, flat, flat)
    return flat[: blocks.size].reshape(blocks.shape)


def mmo(keys: Words, blocks: Words) -> Words:
    """MMO of every block of (.., 2) uint64."""
    return permute(keys, blocks) ^ blocks


def tmmo(keys: Words, blocks: Words, tweaks: Words) -> Words:
    """TMMO of every block of (.., 2) uint64 under the tweak in its place."""
    inner = permute(keys, blocks)
    return permute(keys, inner ^ tweaks) ^ inner


def aligned(words: int) -> Words:
    """Zeros that begin at a multiple of 64 bytes: vectors across two cache lines are slow."""
    spare = 64 // 8
    content: Words = np.zeros(words + spare, np.uint64)
    begin = -content.ctypes.data // 8 % spare
    return content[begin : begin + words]
