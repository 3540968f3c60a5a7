"""Evidence of n assertions: its bytes and the root over them, and n signatures."""

from typing import Any

import numpy as np
import pyarrow as pa
from nacl.signing import SigningKey

from purposematch.protocol.assertions import Terms
from purposematch.protocol.evidence_bytes import EvidenceColumns, evidence_bytes
from purposematch.protocol.evidence_checks import verify_signatures
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.log.tree import string_leaf_hashes, tree_root
from purposematch.protocol.purpose import DEFAULT_PURPOSE, Origin, Status

TERMS = Terms((DEFAULT_PURPOSE,), Origin.SIGNUP, Status.GRANTED, "default", "signup-service")


def columns(size: int) -> EvidenceColumns:
    random = np.random.default_rng(size)
    return EvidenceColumns(
        subject=pa.array([f"user-{number}" for number in range(size)]),
        kind=np.full(size, Kind.EMAIL, np.uint8),
        digests=random.integers(256, size=(size, 32), dtype=np.uint8),
        terms=np.zeros(size, np.int64),
        terms_table=[TERMS],
        notice=pa.array(["ads-7"] * size),
        collected_at=np.arange(size, dtype=np.int64),
        salts=random.integers(256, size=(size, 16), dtype=np.uint8),
    )


def test_batch(measure: Any, size: int) -> None:
    about = columns(size)

    def root() -> bytes:
        return tree_root(string_leaf_hashes(evidence_bytes("ads.example", Profile.PLAIN, about)))

    assert len(measure("evidence, root of a file", root)) == 32


def test_signatures(measure: Any, size: int) -> None:
    key = SigningKey(bytes(32))
    messages = evidence_bytes("ads.example", Profile.PLAIN, columns(size))
    content = b"".join(key.sign(message).signature for message in messages.to_pylist())
    signatures = np.frombuffer(content, np.uint8).reshape(size, 64)
    key_of = np.zeros(size, np.int64)
    keys = [bytes(key.verify_key)]

    assert measure("evidence, a signature each", verify_signatures, keys, key_of, messages, signatures).all()
