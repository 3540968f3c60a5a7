"""Oblivious transfers by the thousand from 128 base ones.

Statement (Ishai, Kilian, Nissim, Petrank 2003): the *chooser* has N bits b and both keys of every base
transfer, the *owner* one of each, chosen by the bits of a block s. For i < 128

    chooser: T_i = PRG(key_i^0),  U_i = T_i + PRG(key_i^1) + b  (sent),     owner: Q_i = PRG(key_i) + s_i U_i.

Column j of T and of Q are blocks with Q_j = T_j + b_j s. Keys of transfer j: at the chooser H(j, T_j), at the
owner H(j, Q_j) for choice 0 and H(j, Q_j + s) for choice 1. H(j, x) = TMMO(x, j), which is correlation robust
with a tweak (ePrint 2019/074). PRG(key) is SHAKE-256 over the session's context, i, and the key.

Parameters: N as many as the trees have levels (`Parameters.transfers`), rounded up to whole blocks.

Semi-honest, experimental, no published proof of the whole: no check that the chooser used one b.
"""

import hashlib

import numpy as np

from purposematch.protocol.ciphersuite import VOLE_DOMAIN
from purposematch.protocol.group import Bytes
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.vole.aes import Words, tmmo
from purposematch.protocol.vole.session import Session

__all__ = ["choose", "own"]


def choose(
    session: Session, pairs: tuple[SecretArray, SecretArray], bits: Bytes, extended: int
) -> tuple[Bytes, Words]:
    """What the chooser sends, and its keys.

    Args:
        session: for the keys.
        pairs: of the base transfers, (128, 16) each.
        bits: the N choices, 0 or 1.
        extended: N rounded up to a multiple of 128.

    Returns:
        U, (128, extended / 8), and the keys, (N, 2) uint64.
    """
    packed = np.zeros(extended // 8, np.uint8)
    content = np.packbits(bits, bitorder="little")
    packed[: len(content)] = content
    zero, one = (_streams(session, keys, extended // 8) for keys in pairs)
    return zero ^ one ^ packed, _hashed(session, _columns(zero, len(bits)))


def own(session: Session, keys: SecretArray, bits: SecretArray, received: Bytes, count: int) -> list[Words]:
    """The owner's keys for choice 0 and choice 1, (count, 2) uint64 each.

    Args:
        session: for the keys.
        keys: of the base transfers, (128, 16).
        bits: the block s that chose them, (1, 16).
        received: U, (128, extended / 8), untrusted.
        count: N.
    """
    chosen = reveal_array(bits)
    unpacked = np.unpackbits(chosen.reshape(-1), bitorder="little")
    streams = _streams(session, keys, received.shape[1]) ^ received * unpacked[:, None]
    columns = _columns(streams, count)
    return [_hashed(session, columns), _hashed(session, columns ^ chosen.view(np.uint64))]


def _streams(session: Session, keys: SecretArray, length: int) -> Bytes:
    head = VOLE_DOMAIN + b" extension" + session.context
    streams = [
        hashlib.shake_256(head + bytes([i]) + key.tobytes()).digest(length)
        for i, key in enumerate(reveal_array(keys))
    ]
    return np.frombuffer(b"".join(streams), np.uint8).reshape(len(streams), length)


def _columns(rows: Bytes, count: int) -> Words:
    """The first columns of a matrix of bits, (128, bytes), as blocks (count, 2)."""
    bits = np.unpackbits(rows, axis=1, bitorder="little")[:, :count]
    return np.packbits(np.ascontiguousarray(bits.T), axis=1, bitorder="little").view(np.uint64)


def _hashed(session: Session, blocks: Words) -> Words:
    tweaks = np.zeros_like(blocks)
    tweaks[:, 0] = np.arange(len(blocks))
    return tmmo(session.transfer_key, blocks, tweaks)
