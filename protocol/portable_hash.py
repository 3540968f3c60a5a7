"""The hashes of `purposematch.protocol.batch_hash` by hashlib, one message after another.

This is the definition that the vector lanes are compared with, and what runs where there are none. Arguments
and results are described there.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["expand_message_xmd", "hmac_sha256", "hmac_sha256_keys", "joined", "sha256_strings", "sha512_rows"]

Bytes = NDArray[np.uint8]
Part = bytes | Bytes

_HMAC_BLOCK = 64
"""Bytes of SHA-256's input block, to which HMAC fills up its key."""
_XMD_BLOCK = 128
"""Bytes of SHA-512's input block (s_in_bytes)."""
_CHUNK_ROWS = 16_384
"""Rows that are hashed at a time: their Python objects stay in the processor's cache."""


def sha256_strings(offsets: NDArray[np.signedinteger], data: Bytes, valid: NDArray[np.bool_] | None) -> Bytes:
    """SHA-256 of every string."""
    sha256, content = hashlib.sha256, np.ascontiguousarray(data).data
    hashed = bytearray()
    for start in range(0, len(offsets) - 1, _CHUNK_ROWS):
        ends = offsets[start : start + _CHUNK_ROWS + 1].tolist()
        pairs = pairwise(ends)
        hashed += b"".join([sha256(content[begin:end]).digest() for begin, end in pairs])
    digests = np.frombuffer(hashed, np.uint8).reshape(-1, 32)
    if valid is not None:
        digests[~valid] = 0
    return digests


def hmac_sha256(key: bytes, messages: Bytes) -> Bytes:
    """HMAC-SHA-256 of every message under one key."""
    # The two hashes of HMAC are prepared once and copied: hmac.digest costs more than twice as much.
    padded = np.frombuffer(key.ljust(_HMAC_BLOCK, b"\0"), np.uint8)
    inner = hashlib.sha256((padded ^ 0x36).tobytes()).copy
    outer = hashlib.sha256((padded ^ 0x5C).tobytes()).copy
    macs = bytearray()
    for message in _each(messages):
        first = inner()
        first.update(message)
        second = outer()
        second.update(first.digest())
        macs += second.digest()
    return np.frombuffer(macs, np.uint8).reshape(-1, 32)


def hmac_sha256_keys(keys: Bytes, message: bytes) -> Bytes:
    """HMAC-SHA-256 of one message under every key."""
    sha256 = hashlib.sha256
    padded = np.zeros((len(keys), _HMAC_BLOCK), np.uint8)
    padded[:, : keys.shape[1]] = keys
    macs = bytearray()
    inner_pad, outer_pad = np.uint8(0x36), np.uint8(0x5C)
    for inner, outer in zip(_each(padded ^ inner_pad), _each(padded ^ outer_pad), strict=True):
        macs += sha256(bytes(outer) + sha256(bytes(inner) + message).digest()).digest()
    return np.frombuffer(macs, np.uint8).reshape(-1, 32)


def sha512_rows(parts: Sequence[Part]) -> Bytes:
    """SHA-512 of every row."""
    hashed = b"".join([hashlib.sha512(row).digest() for row in _each(joined(parts))])
    return np.frombuffer(bytearray(hashed), np.uint8).reshape(-1, 64)


def expand_message_xmd(parts: Sequence[Part], dst: bytes, length: int) -> Bytes:
    """expand_message_xmd of RFC 9380 section 5.3.1 with SHA-512, for every row."""
    sha512 = hashlib.sha512
    dst_prime = dst + bytes([len(dst)])
    suffix = length.to_bytes(2, "big") + b"\0" + dst_prime
    blocks = -(-length // sha512().digest_size)
    endings = [bytes([i]) + dst_prime for i in range(1, blocks + 1)]
    padded = sha512(bytes(_XMD_BLOCK))
    rows = joined(parts)
    out = bytearray()
    for row in _each(rows):
        state = padded.copy()
        state.update(row)
        state.update(suffix)
        b_0 = state.digest()
        uniform = b_i = sha512(b_0 + endings[0]).digest()
        for ending in endings[1:]:
            mixed = (int.from_bytes(b_0, "big") ^ int.from_bytes(b_i, "big")).to_bytes(len(b_0), "big")
            b_i = sha512(mixed + ending).digest()
            uniform += b_i
        out += uniform[:length]
    return np.frombuffer(out, np.uint8).reshape(len(rows), length)


def joined(parts: Sequence[Part]) -> Bytes:
    """The rows of messages that are given in parts, (n, width)."""
    count = next(len(part) for part in parts if not isinstance(part, bytes))
    columns = [np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part for part in parts]
    rows = np.empty((count, sum(column.shape[-1] for column in columns)), np.uint8)
    at = 0
    for column in columns:
        rows[:, at : at + column.shape[-1]] = column
        at += column.shape[-1]
    return rows


def _each(rows: Bytes) -> Iterator[memoryview]:
    count, width = rows.shape
    content = np.ascontiguousarray(rows).reshape(-1).data
    return (content[i * width : (i + 1) * width] for i in range(count))
