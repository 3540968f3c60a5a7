"""Keyed digests: what stands for an identifier in the registry.

HMAC-SHA-256 (RFC 2104, FIPS 198-1) under the identifier key over the private input, kind byte || digest,
cut to 16 bytes. Somebody without the key can neither test a guess nor link two registries.

Not protected against: somebody who has the key can try all phone numbers.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.identifiers import private_inputs
from purposematch.protocol.secret import reveal
from purposematch.server.keys import IdentifierKey
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES

__all__ = ["keyed_digests"]

_BLOCK_BYTES: Final = 64
_INPUT_BYTES: Final = 33


def keyed_digests(
    key: IdentifierKey, kinds: NDArray[np.uint8], digests: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The keyed digests of identifiers.

    Args:
        key: the identifier key.
        kinds: `(n,)` uint8, a `Kind` each.
        digests: `(n, 32)` uint8, under any profile.

    Returns:
        `(n, 16)` uint8.
    """
    # The two hashes of HMAC are prepared once and copied: hmac.digest costs more than twice as much.
    padded = np.frombuffer(reveal(key).ljust(_BLOCK_BYTES, b"\0"), np.uint8)
    inner = hashlib.sha256((padded ^ 0x36).tobytes()).copy
    outer = hashlib.sha256((padded ^ 0x5C).tobytes()).copy
    inputs = private_inputs(kinds, digests).tobytes()
    keyed = []
    for start in range(0, len(inputs), _INPUT_BYTES):
        first = inner()
        first.update(inputs[start : start + _INPUT_BYTES])
        second = outer()
        second.update(first.digest())
        keyed.append(second.digest())
    whole = np.frombuffer(b"".join(keyed), np.uint8).reshape(-1, 32)
    return np.ascontiguousarray(whole[:, :KEYED_DIGEST_BYTES])
