"""Hashes of whole batches: SHA-256, HMAC-SHA-256, SHA-512 and expand_message_xmd.

Source: FIPS 180-4, RFC 2104, RFC 9380 section 5.3.1. Every function has two implementations of identical
bytes: vector lanes, which are several times faster on batches, and hashlib (`portable_hash`), which is used
for small batches and wherever lanes are not to be had; `purposematch.protocol.simd.choice` decides.

The time depends on lengths only. Not protected against: what the caller's own arrays keep in memory.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol import portable_hash
from purposematch.protocol.errors import InputError
from purposematch.protocol.simd.choice import lanes_for

__all__ = [
    "Part",
    "expand_message_xmd",
    "hmac_sha256",
    "hmac_sha256_keys",
    "sha256_rows",
    "sha256_strings",
    "sha512_rows",
]

Bytes = NDArray[np.uint8]
Part = bytes | Bytes
"""A part of n messages: bytes that all of them have, or an array (n, width)."""

HMAC_BLOCK: Final = 64
"""Bytes of SHA-256's input block: the longest key that HMAC does not hash first."""
SHA512_LENGTH: Final = 64
MAX_XMD_BLOCKS: Final = 255
MAX_DST_LENGTH: Final = 255
SHA256_LENGTH: Final = 32
_ROWS_AT_A_TIME: Final = 16_384
"""Rows that are put together from their parts at a time: they stay in the processor's cache."""


def sha256_strings(
    offsets: NDArray[np.signedinteger], data: Bytes, valid: NDArray[np.bool_] | None = None
) -> Bytes:
    """SHA-256 of n strings as Arrow has them; their bytes are not copied.

    Args:
        offsets: `(n + 1,)` int32 or int64; string i is the bytes from offsets[i] to offsets[i + 1].
        data: `(size,)`.
        valid: `(n,)`, false where there is no string; None if there are all.

    Returns:
        `(n, 32)`, zeros where there is no string.

    Raises:
        InputError: the offsets do not describe strings of `data`.
    """
    if offsets[0] < 0 or offsets[-1] > len(data) or (offsets[1:] < offsets[:-1]).any():
        raise InputError("a column of text has offsets outside its data")
    if lanes_for(len(offsets) - 1):
        from purposematch.protocol.simd import hashes

        return hashes.sha256_strings(offsets, data, valid)
    return portable_hash.sha256_strings(offsets, data, valid)


def sha256_rows(*parts: Part) -> Bytes:
    """SHA-256 of n messages, `(n, 32)`; their parts follow one another, and at least one is an array."""
    count = _count(parts)
    digests = np.empty((count, SHA256_LENGTH), np.uint8)
    for start in range(0, count, _ROWS_AT_A_TIME):
        chunk = slice(start, start + _ROWS_AT_A_TIME)
        rows = portable_hash.joined([part if isinstance(part, bytes) else part[chunk] for part in parts])
        offsets = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1]
        digests[chunk] = sha256_strings(offsets, rows.reshape(-1))
    return digests


def hmac_sha256(key: bytes, messages: Bytes) -> Bytes:
    """HMAC-SHA-256 of (n, width) messages under one key, `(n, 32)`."""
    if len(key) > HMAC_BLOCK:
        key = hashlib.sha256(key).digest()
    if lanes_for(len(messages)):
        from purposematch.protocol.simd import hashes

        return hashes.hmac_sha256(key, messages)
    return portable_hash.hmac_sha256(key, messages)


def hmac_sha256_keys(keys: Bytes, message: bytes) -> Bytes:
    """HMAC-SHA-256 of one message under every key of (n, width), width <= 64; `(n, 32)`.

    Raises:
        ValueError: the keys are too long.
    """
    if keys.shape[1] > HMAC_BLOCK:
        raise ValueError(f"keys of a batch have at most {HMAC_BLOCK} bytes")
    if lanes_for(len(keys)):
        from purposematch.protocol.simd import hashes

        return hashes.hmac_sha256_keys(keys, message)
    return portable_hash.hmac_sha256_keys(keys, message)


def sha512_rows(*parts: Part) -> Bytes:
    """SHA-512 of n messages, `(n, 64)`; their parts follow one another, and at least one is an array."""
    if lanes_for(_count(parts)):
        from purposematch.protocol.simd import hashes

        return hashes.sha512_rows(parts)
    return portable_hash.sha512_rows(parts)


def expand_message_xmd(messages: Bytes | Sequence[Part], dst: bytes, length: int) -> Bytes:
    """Expands n messages of one width to `length` uniform bytes each (RFC 9380 section 5.3.1, SHA-512).

    Args:
        messages: (n, width); or their parts, at least one of them an array.
        dst: the domain-separation tag, at most 255 bytes.
        length: bytes a message, at most 255 hashes' worth. Only 64, which is all that the protocol uses, is
            computed in lanes.

    Returns:
        `(n, length)`.

    Raises:
        ValueError: `dst` or `length` is out of range; both are constants of the program.
    """
    if not 0 < length <= MAX_XMD_BLOCKS * SHA512_LENGTH or len(dst) > MAX_DST_LENGTH:
        raise ValueError("expand_message_xmd: length or DST out of range")
    parts = [messages] if isinstance(messages, np.ndarray) else messages
    if length == SHA512_LENGTH and lanes_for(_count(parts)):
        from purposematch.protocol.simd import hashes

        return hashes.expand_message_xmd_64(parts, dst)
    return portable_hash.expand_message_xmd(parts, dst, length)


def _count(parts: Sequence[Part]) -> int:
    return next(len(part) for part in parts if not isinstance(part, bytes))
