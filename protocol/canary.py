"""Canaries: 64 inputs that every generation holds and every client must find.

Their kind byte, 0xFF, belongs to no identifier; their digests follow from the generation's random id,
which is fixed before building. The client evaluates them with its list and refuses the result unless
all are found. They are in no count, quota, output or commit.

They catch accidents: a wrong scope, profile or epoch, a stale or truncated index. They do not catch a
platform that omits entries on purpose, since it knows which inputs are canaries; against that stand the
signed count, the segment hashes, and probe subjects that an auditor enrolls and that the platform can
not tell from others.
"""

import hashlib
from typing import Final

import numpy as np

from purposematch.protocol.ciphersuite import CANARY_DOMAIN
from purposematch.protocol.group import Bytes
from purposematch.protocol.identifiers import CANARY_KIND, private_inputs

__all__ = ["CANARY_COUNT", "canary_inputs"]

CANARY_COUNT: Final = 64
"""Canaries in every generation."""


def canary_inputs(generation: bytes) -> Bytes:
    """The canaries' private inputs for a generation id, (64, 33)."""
    digests = b"".join(
        hashlib.sha256(CANARY_DOMAIN + generation + number.to_bytes(2, "big")).digest()
        for number in range(CANARY_COUNT)
    )
    kinds = np.full(CANARY_COUNT, CANARY_KIND, np.uint8)
    return private_inputs(kinds, np.frombuffer(digests, np.uint8).reshape(CANARY_COUNT, 32))
