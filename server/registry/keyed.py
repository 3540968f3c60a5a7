"""Keyed digests: what stands for an identifier in the registry.

HMAC-SHA-256 (RFC 2104, FIPS 198-1) under the identifier key over the private input, kind byte || digest,
cut to 16 bytes. Somebody without the key can neither test a guess nor link two registries.

Not protected against: somebody who has the key can try all phone numbers.
"""

import hmac
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.batch_hash import hmac_sha256
from purposematch.protocol.identifiers import private_inputs
from purposematch.protocol.secret import reveal
from purposematch.server.keys import IdentifierKey
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES

__all__ = ["file_digest", "keyed_digests"]

_FILE_DOMAIN: Final = b"purposematch file v1"


def file_digest(key: IdentifierKey, sha256: bytes) -> bytes:
    """What stands for a delivered file: HMAC-SHA-256 over its SHA-256, 32 bytes.

    Of a file with one row everything but the identifier is known, so its plain digest would be as good as
    one of the identifier.
    """
    return hmac.digest(reveal(key), _FILE_DOMAIN + sha256, "sha256")


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
    whole = hmac_sha256(reveal(key), private_inputs(kinds, digests))
    return np.ascontiguousarray(whole[:, :KEYED_DIGEST_BYTES])
