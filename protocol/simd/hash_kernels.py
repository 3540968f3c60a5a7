"""The loops over batches of messages: SHA-256 of strings of any length, SHA-512 of rows of one width.

Messages and digests are named by their addresses, because read-only buffers of Arrow must do as well as
arrays; the callers in `hashes` keep them alive. All scratch is in one workspace a call; it is overwritten
with zeros before a kernel returns, since messages may hold keys and raw identifiers.
"""

from typing import Any, Final

import numpy as np

from purposematch.protocol.simd import sha256, sha512
from purposematch.protocol.simd.kernel import kernel
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.sha2 import copy_bytes
from purposematch.protocol.simd.workspace import inner, wipe

__all__ = [
    "CHUNK_ROWS",
    "MAX_ENDING_WORDS",
    "WORKSPACE_256",
    "WORKSPACE_512",
    "sha256_messages",
    "sha512_messages",
]

CHUNK_ROWS: Final = 1024
"""Strings that are put in order of their length together, so that all lanes are busy."""

_LANES: Final = sha256.LANES_256
_CLASSES: Final = 12
"""Numbers of blocks that are told apart: 9 for strings of 512 bytes; longer ones share the last class."""
_LENGTH_BYTES: Final = 8
"""Bytes of the length at the end of the last block of SHA-256."""
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)

# The workspace of SHA-256, in 64-bit words.
_STATE: Final = 0
_FIRST: Final = _STATE + sha256.STATE
"""The state from which every message begins."""
_FEED: Final = _FIRST + sha256.STATE
_OUT: Final = _FEED + sha256.COLUMNS * _LANES
"""Where the digests go."""
_NOTHING: Final = _OUT + _LANES
"""64 zeros, for lanes that have nothing to read."""
_UNUSED: Final = _NOTHING + 8
"""The digest of lanes that have no message."""
_TAILS: Final = _UNUSED + 8
"""For each lane a copy of the end of its message, where 64 bytes could not be read in place."""
_ENDS: Final = _TAILS + 8 * _LANES
"""Where each class of lengths ends in the order."""
_ORDER: Final = _ENDS + 16
WORKSPACE_256: Final = _ORDER + CHUNK_ROWS
"""64-bit words, which should begin at a multiple of 64 bytes."""


@inner
def _blocks(length: int) -> int:
    """Blocks of a padded message of SHA-256."""
    return (length + 1 + _LENGTH_BYTES + sha256.BLOCK_BYTES - 1) // sha256.BLOCK_BYTES


@inner
def _in_order(offsets: Any, absent: Any, begin: int, end: int, workspace: Any) -> int:
    """Puts the rows of a chunk that have a message in order of their blocks; returns their number."""
    for i in range(_CLASSES):
        workspace[_ENDS + i] = 0
    for row in range(begin, end):
        if absent.shape[0] == 0 or not absent[row]:
            workspace[_ENDS + min(_blocks(offsets[row + 1] - offsets[row]), _CLASSES - 1)] += 1
    total = 0
    for i in range(_CLASSES):
        count = workspace[_ENDS + i]
        workspace[_ENDS + i] = total
        total += int(count)
    for row in range(begin, end):
        if absent.shape[0] == 0 or not absent[row]:
            place = _ENDS + min(_blocks(offsets[row + 1] - offsets[row]), _CLASSES - 1)
            workspace[_ORDER + np.int64(workspace[place])] = row
            workspace[place] += 1
    return total


@inner
def _feed(
    data: int, size: int, offsets: Any, before: int, begin: int, end: int, block: int, workspace: Any
) -> None:
    """Tells every lane where it stands at this block; `begin` and `end` are places in the order."""
    here = workspace.ctypes.data
    for lane in range(_LANES):
        address, left, bits, active = here + 8 * _NOTHING, sha256.DONE, 0, np.uint64(0)
        if begin + lane < end:
            row = np.int64(workspace[_ORDER + begin + lane])
            start = offsets[row]
            length = offsets[row + 1] - start
            last = _blocks(length) - 1
            if block <= last:
                active = _ALL
                if block == last:
                    bits = 8 * (before + length)
                at = block * sha256.BLOCK_BYTES
                if length >= at:
                    left = min(length - at, sha256.BLOCK_BYTES)
                    address = data + start + at
                    if start + at + sha256.BLOCK_BYTES > size:
                        tail = _TAILS + 8 * lane
                        copy_bytes(workspace, tail, 0, address, left)
                        address = here + 8 * tail
        workspace[_FEED + sha256.ADDRESS * _LANES + lane] = address
        workspace[_FEED + sha256.LEFT * _LANES + lane] = left
        workspace[_FEED + sha256.BITS * _LANES + lane] = bits
        workspace[_FEED + sha256.ACTIVE * _LANES + lane] = active


@kernel("void(intp, intp, int64[::1], boolean[::1], intp, intp, intp, uint64[::1])")
def sha256_messages(
    data: Any,
    size: Any,
    offsets: Any,
    absent: Any,
    prefix: Any,
    prefix_blocks: Any,
    digests: Any,
    workspace: Any,
) -> None:
    """SHA-256 of n strings, each behind the same prefix.

    Args:
        data: the address of the bytes in which the strings lie.
        size: how many bytes there are.
        offsets: (n + 1,), string i being the bytes from offsets[i] to offsets[i + 1].
        absent: (n,), true for rows to leave out; or (0,).
        prefix: the address of what every message begins with.
        prefix_blocks: how many blocks of 64 bytes that is.
        digests: the address of n times 32 bytes for the digests; those of absent rows are not written.
        workspace: WORKSPACE_256 words.
    """
    here = workspace.ctypes.data
    count = offsets.shape[0] - 1
    before = prefix_blocks * sha256.BLOCK_BYTES
    for i in range(8):
        workspace[_NOTHING + i] = 0
    sha256.begin(workspace, _FIRST)
    for block in range(prefix_blocks):
        for lane in range(_LANES):
            workspace[_FEED + sha256.ADDRESS * _LANES + lane] = prefix + block * sha256.BLOCK_BYTES
            workspace[_FEED + sha256.LEFT * _LANES + lane] = sha256.BLOCK_BYTES
            workspace[_FEED + sha256.BITS * _LANES + lane] = 0
            workspace[_FEED + sha256.ACTIVE * _LANES + lane] = _ALL
        sha256.absorb(workspace, _FIRST, _FEED)
    for chunk in range(0, count, CHUNK_ROWS):
        total = _in_order(offsets, absent, chunk, min(chunk + CHUNK_ROWS, count), workspace)
        for begin in range(0, total, _LANES):
            end = min(begin + _LANES, total)
            blocks = 0
            for lane in range(_LANES):
                address = here + 8 * _UNUSED
                if begin + lane < end:
                    row = np.int64(workspace[_ORDER + begin + lane])
                    blocks = max(blocks, _blocks(offsets[row + 1] - offsets[row]))
                    address = digests + 32 * row
                workspace[_OUT + lane] = address
            sha256.resume(workspace, _STATE, _FIRST)
            for block in range(blocks):
                _feed(data, size, offsets, before, begin, end, block, workspace)
                sha256.absorb(workspace, _STATE, _FEED)
            sha256.finish(workspace, _STATE, _OUT)
    wipe(workspace, 0, workspace.shape[0])


MAX_ENDING_WORDS: Final = 40
"""What can follow a digest: 257 bytes of expand_message_xmd, padded to whole blocks."""
# The workspace of SHA-512, in 64-bit words.
_STATE_512: Final = 0
_FIRST_512: Final = _STATE_512 + sha512.STATE
_BLOCK_512: Final = _FIRST_512 + sha512.STATE
_OUT_512: Final = _BLOCK_512 + sha512.BLOCK
_UNUSED_512: Final = _OUT_512 + LANES
_ENDINGS_512: Final = _UNUSED_512 + 8
_ROWS_512: Final = _ENDINGS_512 + MAX_ENDING_WORDS
"""From here on, the padded messages of all lanes."""
WORKSPACE_512: Final = _ROWS_512
"""64-bit words, and 16 more for every lane and block. It should begin at a multiple of 64 bytes."""


@kernel("void(intp, uint64[::1], intp, int64[:, ::1], uint64[::1], intp, uint64[::1])")
def sha512_messages(
    count: Any, template: Any, constant: Any, columns: Any, endings: Any, digests: Any, workspace: Any
) -> None:
    """SHA-512 of n messages that differ in some columns only, and of these digests with an ending.

    Args:
        count: n.
        template: the padded message, 16 words a block, whatever stands in the columns.
        constant: how many of its first blocks hold no column.
        columns: (k, 3): the address of (n, width) bytes, their width, and where they stand in the message
            after those first blocks.
        endings: if the digest is to be hashed once more, the rest of that message, padded: at most
            MAX_ENDING_WORDS; or (0,).
        digests: the address of n times 64 bytes for the digests.
        workspace: WORKSPACE_512 words and 16 more for every lane and block that is not constant.
    """
    here = workspace.ctypes.data
    constant_words = constant * sha512.BLOCK_WORDS
    stride = template.shape[0] - constant_words
    sha512.begin(workspace, _FIRST_512)
    for at in range(0, constant_words, sha512.BLOCK_WORDS):
        copy_bytes(workspace, _ROWS_512, 0, template.ctypes.data + 8 * at, 8 * sha512.BLOCK_WORDS)
        sha512.read_constant(workspace, _BLOCK_512, _ROWS_512)
        sha512.absorb(workspace, _FIRST_512, _BLOCK_512)
    copy_bytes(workspace, _ENDINGS_512, 0, endings.ctypes.data, 8 * endings.shape[0])
    for lane in range(LANES):
        source = template.ctypes.data + 8 * constant_words
        copy_bytes(workspace, _ROWS_512 + lane * stride, 0, source, 8 * stride)
    for begin in range(0, count, LANES):
        for lane in range(LANES):
            row = begin + lane
            workspace[_OUT_512 + lane] = digests + 64 * row if row < count else here + 8 * _UNUSED_512
            if row < count:
                for i in range(columns.shape[0]):
                    source = columns[i, 0] + row * columns[i, 1]
                    copy_bytes(workspace, _ROWS_512 + lane * stride, columns[i, 2], source, columns[i, 1])
        sha512.resume(workspace, _STATE_512, _FIRST_512)
        for at in range(0, stride, sha512.BLOCK_WORDS):
            sha512.read_rows(workspace, _BLOCK_512, _ROWS_512 + at, stride)
            sha512.absorb(workspace, _STATE_512, _BLOCK_512)
        if endings.shape[0]:
            sha512.begin_again(workspace, _BLOCK_512, _STATE_512, _ENDINGS_512)
            sha512.absorb(workspace, _STATE_512, _BLOCK_512)
            for at in range(sha512.STATE_WORDS, endings.shape[0], sha512.BLOCK_WORDS):
                sha512.read_constant(workspace, _BLOCK_512, _ENDINGS_512 + at)
                sha512.absorb(workspace, _STATE_512, _BLOCK_512)
        sha512.finish(workspace, _STATE_512, _OUT_512)
    wipe(workspace, 0, workspace.shape[0])
