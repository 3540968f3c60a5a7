"""Checks evidence: many signatures on all cores, or the one signature over a whole file.

Source: docs/gate.md, *Evidence*; Ed25519 is RFC 8032 as libsodium (PyNaCl) has it: keys and points of small
order and signatures that are not canonical are refused.

What this does not protect against: a signature says who signed, not that it is true; whether that issuer may
sign it is for the gate.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import pyarrow as pa
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from numpy.typing import NDArray

from purposematch.protocol.errors import VerificationError
from purposematch.protocol.evidence import BatchEvidence
from purposematch.protocol.evidence_bytes import batch_bytes
from purposematch.protocol.merkle import merkle_root

__all__ = ["verify_batch", "verify_signatures"]

_ROWS_A_THREAD: Final = 1_024
"""Signatures that one thread checks before it takes more."""


def verify_signatures(
    keys: Sequence[bytes],
    key_of: NDArray[np.integer],
    messages: pa.BinaryArray,
    signatures: NDArray[np.uint8],
) -> NDArray[np.bool_]:
    """Which of n signatures hold, on all cores: libsodium runs outside the interpreter lock.

    Args:
        keys: Ed25519 public keys, 32 bytes each.
        key_of: (n,) positions in `keys`.
        messages: (n,) what was signed; a null was not.
        signatures: (n, 64) uint8.

    Returns:
        (n,) bool. It is no check that could be forgotten: the gate takes the outcome of every row.
    """
    holds = np.zeros(len(messages), bool)
    verifiers = [VerifyKey(key) for key in keys]

    def check(start: int) -> None:
        part = slice(start, start + _ROWS_A_THREAD)
        rows = zip(key_of[part].tolist(), messages[part].to_pylist(), signatures[part], strict=True)
        for place, (key, message, signature) in enumerate(rows, start):
            holds[place] = message is not None and _holds(verifiers[key], message, signature.tobytes())

    starts = range(0, len(messages), _ROWS_A_THREAD)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(check, starts):
            pass
    return holds


def verify_batch(key: bytes, platform_id: str, evidence: BatchEvidence, leaves: NDArray[np.uint8]) -> None:
    """Checks the evidence of a whole file.

    Args:
        key: the issuer's Ed25519 public key, 32 bytes.
        platform_id: of this platform.
        evidence: what came with the file.
        leaves: (n, 32) uint8, the leaf hashes of the file's evidence.

    Raises:
        VerificationError: the root is not that of these leaves, or it is not signed with `key`.
    """
    if merkle_root(leaves) != evidence.root:
        raise VerificationError("the evidence was not made for the rows of this file")
    message = batch_bytes(platform_id, evidence.issuer, len(leaves), evidence.root)
    if not _holds(VerifyKey(key), message, evidence.signature):
        raise VerificationError("the evidence is not signed with the key of its issuer")


def _holds(key: VerifyKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except BadSignatureError:
        return False
    return True
