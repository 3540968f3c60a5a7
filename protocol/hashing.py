"""Hashing to the group and to scalars: expand_message_xmd with SHA-512, on batches.

Source: RFC 9380 section 5.3.1 (expand_message_xmd), RFC 9497 section 4.1 (HashToGroup, HashToScalar).
Runs in time that depends on lengths only.
"""

import hashlib

import numpy as np

from purposematch.protocol.ciphersuite import HASH_LENGTH, WIDE_LENGTH, Suite
from purposematch.protocol.group import Bytes, Elements, Group

__all__ = ["expand_message_xmd", "hash_to_group", "hash_to_scalar", "one_row"]

_BLOCK_LENGTH = 128
"""Bytes of SHA-512's input block (s_in_bytes)."""


def expand_message_xmd(messages: Bytes, dst: bytes, length: int) -> Bytes:
    """Expands n messages of one width to `length` uniform bytes each (RFC 9380 section 5.3.1).

    Args:
        messages: (n, width).
        dst: the domain-separation tag, at most 255 bytes.
        length: bytes a message, at most 255 hashes' worth.

    Returns:
        (n, length).

    Raises:
        ValueError: `dst` or `length` is out of range; both are constants of the program.
    """
    blocks = -(-length // HASH_LENGTH)
    if not 0 < blocks <= 255 or len(dst) > 255:
        raise ValueError("expand_message_xmd: length or DST out of range")
    dst_prime = dst + bytes([len(dst)])
    suffix = length.to_bytes(2, "big") + b"\0" + dst_prime
    endings = [bytes([i]) + dst_prime for i in range(1, blocks + 1)]
    padded = hashlib.sha512(bytes(_BLOCK_LENGTH))
    sha512, width = hashlib.sha512, messages.shape[1]
    content = np.ascontiguousarray(messages).reshape(-1).data
    out = bytearray()
    for start in range(0, width * len(messages), width) if width else [0] * len(messages):
        state = padded.copy()
        state.update(content[start : start + width])
        state.update(suffix)
        b_0 = state.digest()
        uniform = b_i = sha512(b_0 + endings[0]).digest()
        for ending in endings[1:]:
            mixed = (int.from_bytes(b_0, "big") ^ int.from_bytes(b_i, "big")).to_bytes(HASH_LENGTH, "big")
            b_i = sha512(mixed + ending).digest()
            uniform += b_i
        out += uniform[:length]
    return np.frombuffer(out, np.uint8).reshape(len(messages), length)


def hash_to_group(group: Group, suite: Suite, inputs: Bytes) -> Elements:
    """HashToGroup of RFC 9497 section 4.1 for (n, width) private inputs."""
    return group.map_to_group(expand_message_xmd(inputs, suite.hash_to_group_dst, WIDE_LENGTH))


def hash_to_scalar(group: Group, suite: Suite, messages: Bytes) -> Bytes:
    """HashToScalar of RFC 9497 section 4.1 for (n, width) public messages; (n, 32)."""
    return group.reduce(expand_message_xmd(messages, suite.hash_to_scalar_dst, WIDE_LENGTH))


def one_row(message: bytes) -> Bytes:
    """A batch of one."""
    return np.frombuffer(message, np.uint8).reshape(1, -1)
