"""The hashes of `purposematch.protocol.batch_hash` in vector lanes: what arrays become before the kernels.

Padding, constant parts and HMAC's two passes are arranged here; nothing here looks at a message. The kernels
release the GIL, so that threads can hash parts of a batch side by side. `choice.lanes_for` must have said
yes before anything here is called. Scratch that held keys or messages is overwritten.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.simd import hash_kernels as kernels
from purposematch.protocol.simd.processor import LANES

__all__ = [
    "expand_message_xmd_64",
    "hmac_sha256",
    "hmac_sha256_keys",
    "sha256_behind",
    "sha256_strings",
    "sha512_rows",
]

Bytes = NDArray[np.uint8]
Part = bytes | Bytes

SHA256_BLOCK: Final = 64
SHA256_LENGTH: Final = 32
INNER_PAD: Final = np.uint8(0x36)
OUTER_PAD: Final = np.uint8(0x5C)
SHA512_BLOCK: Final = 128
SHA512_LENGTH: Final = 64
_SHA512_LENGTH_FIELD: Final = 16
_CHUNK_KEYS: Final = 4096
"""Keys of which padded copies exist at a time."""


def sha256_strings(offsets: NDArray[np.signedinteger], data: Bytes, valid: NDArray[np.bool_] | None) -> Bytes:
    """See `purposematch.protocol.batch_hash.sha256_strings`."""
    count = len(offsets) - 1
    digests = np.zeros((count, SHA256_LENGTH), np.uint8)
    absent = np.zeros(0, np.bool_) if valid is None else ~valid
    _sha256(data, offsets.astype(np.int64), absent, b"", digests)
    return digests


def sha256_behind(prefix: bytes, rows: Bytes) -> Bytes:
    """SHA-256 of (n, width) rows, each behind the same prefix of whole blocks, 64 bytes each; (n, 32)."""
    return _sha256_rows(rows, prefix)


def hmac_sha256(key: bytes, messages: Bytes) -> Bytes:
    """See `purposematch.protocol.batch_hash.hmac_sha256`."""
    padded = np.zeros(SHA256_BLOCK, np.uint8)
    padded[: len(key)] = np.frombuffer(key, np.uint8)
    inner, outer = padded ^ INNER_PAD, padded ^ OUTER_PAD
    digests = _sha256_rows(_sha256_rows(messages, inner), outer)
    for secret in (padded, inner, outer):
        secret[:] = 0
    return digests


def hmac_sha256_keys(keys: Bytes, message: bytes) -> Bytes:
    """See `purposematch.protocol.batch_hash.hmac_sha256_keys`."""
    count, width = keys.shape
    digests = np.empty((count, SHA256_LENGTH), np.uint8)
    rows = min(count, _CHUNK_KEYS)
    # Every row is a whole message: the padded key, then what it authenticates.
    inner = np.empty((rows, SHA256_BLOCK + len(message)), np.uint8)
    outer = np.empty((rows, SHA256_BLOCK + SHA256_LENGTH), np.uint8)
    inner[:, width:SHA256_BLOCK], outer[:, width:SHA256_BLOCK] = INNER_PAD, OUTER_PAD
    inner[:, SHA256_BLOCK:] = np.frombuffer(message, np.uint8)
    for start in range(0, count, _CHUNK_KEYS):
        part = keys[start : start + _CHUNK_KEYS]
        some = len(part)
        np.bitwise_xor(part, INNER_PAD, out=inner[:some, :width])
        np.bitwise_xor(part, OUTER_PAD, out=outer[:some, :width])
        outer[:some, SHA256_BLOCK:] = _sha256_rows(inner[:some])
        digests[start : start + some] = _sha256_rows(outer[:some])
    inner[:], outer[:] = 0, 0
    return digests


def sha512_rows(parts: Sequence[Part]) -> Bytes:
    """See `purposematch.protocol.batch_hash.sha512_rows`."""
    return _sha512(parts, b"")


def expand_message_xmd_64(parts: Sequence[Part], dst: bytes) -> Bytes:
    """See `purposematch.protocol.batch_hash.expand_message_xmd_64`."""
    dst_prime = dst + bytes([len(dst)])
    first = [bytes(SHA512_BLOCK), *parts, SHA512_LENGTH.to_bytes(2, "big") + b"\0" + dst_prime]
    ending = b"\1" + dst_prime
    return _sha512(first, ending + _padding(SHA512_LENGTH + len(ending)))


def _sha256(
    data: Bytes, offsets: NDArray[np.int64], absent: NDArray[np.bool_], prefix: Part, digests: Bytes
) -> None:
    """SHA-256 of strings of `data`, each behind `prefix`, which is whole blocks."""
    workspace = _aligned(kernels.WORKSPACE_256)
    start = np.frombuffer(prefix, np.uint8)
    blocks = len(start) // SHA256_BLOCK
    kernels.sha256_messages(
        data.ctypes.data,
        data.size,
        offsets,
        absent,
        start.ctypes.data,
        blocks,
        digests.ctypes.data,
        workspace,
    )


def _sha256_rows(rows: Bytes, prefix: Part = b"") -> Bytes:
    """SHA-256 of (n, width) rows."""
    count, width = rows.shape
    digests = np.empty((count, SHA256_LENGTH), np.uint8)
    offsets = np.arange(count + 1, dtype=np.int64) * width
    _sha256(np.ascontiguousarray(rows), offsets, np.zeros(0, np.bool_), prefix, digests)
    return digests


def _sha512(parts: Sequence[Part], ending: bytes) -> Bytes:
    """SHA-512 of the parts of every row, side by side; with `ending`, of that hash and the ending."""
    columns = []
    template = b""
    arrays = []
    for part in parts:
        if isinstance(part, bytes):
            template += part
        else:
            row = np.ascontiguousarray(part)
            arrays.append(row)
            columns.append((row.ctypes.data, row.shape[1], len(template)))
            template += bytes(row.shape[1])
    template += _padding(len(template))
    count = len(arrays[0])
    if any(len(row) != count for row in arrays):
        raise ValueError("the columns of a message have different lengths")
    # The last block holds the padding and is never counted as constant, so that there is one to hash.
    constant = min(columns[0][2] // SHA512_BLOCK, len(template) // SHA512_BLOCK - 1)
    placed = np.array(columns, np.int64)
    placed[:, 2] -= constant * SHA512_BLOCK
    blocks = len(template) // SHA512_BLOCK - constant
    workspace = _aligned(kernels.WORKSPACE_512 + LANES * blocks * SHA512_BLOCK // 8)
    digests = np.empty((count, SHA512_LENGTH), np.uint8)
    kernels.sha512_messages(
        count, _words(template), constant, placed, _words(ending), digests.ctypes.data, workspace
    )
    return digests


def _padding(length: int) -> bytes:
    """What SHA-512 appends to a message of `length` bytes."""
    zeros = -(length + 1 + _SHA512_LENGTH_FIELD) % SHA512_BLOCK
    return b"\x80" + bytes(zeros) + (8 * length).to_bytes(_SHA512_LENGTH_FIELD, "big")


def _words(content: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(content, np.uint64).copy()


def _aligned(words: int) -> NDArray[np.uint64]:
    """Zeros that begin at a multiple of 64 bytes: vectors across two cache lines are slow."""
    spare = 64 // 8
    content: NDArray[np.uint64] = np.zeros(words + spare, np.uint64)
    begin = -content.ctypes.data // 8 % spare
    return content[begin : begin + words]
