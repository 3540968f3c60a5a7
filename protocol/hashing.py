"""Hashing to the group and to scalars: expand_message_xmd with SHA-512, on batches.

Source: RFC 9380 section 5.3.1 (expand_message_xmd), RFC 9497 section 4.1 (HashToGroup, HashToScalar).
Runs in time that depends on lengths only.
"""

from collections.abc import Sequence

import numpy as np

from purposematch.protocol.batch_hash import Part, expand_message_xmd
from purposematch.protocol.ciphersuite import WIDE_LENGTH, Suite
from purposematch.protocol.group import Bytes, Elements, Group

__all__ = ["expand_message_xmd", "hash_to_group", "hash_to_scalar", "one_row"]


def hash_to_group(group: Group, suite: Suite, inputs: Bytes | Sequence[Part]) -> Elements:
    """HashToGroup of RFC 9497 section 4.1 for (n, width) private inputs, or their parts."""
    return group.map_to_group(expand_message_xmd(inputs, suite.hash_to_group_dst, WIDE_LENGTH))


def hash_to_scalar(group: Group, suite: Suite, messages: Bytes | Sequence[Part]) -> Bytes:
    """HashToScalar of RFC 9497 section 4.1 for (n, width) public messages, or their parts; (n, 32)."""
    return group.reduce(expand_message_xmd(messages, suite.hash_to_scalar_dst, WIDE_LENGTH))


def one_row(message: bytes) -> Bytes:
    """A batch of one."""
    return np.frombuffer(message, np.uint8).reshape(1, -1)
