"""Makes evidence-v1.json, the vectors that a collecting system in another language can be checked against.

Run in the folder `tests`::

    python -m vectors.make_evidence

tests/unit/test_evidence.py encodes, hashes and signs all of it again with the standard library and PyNaCl,
and fails when the committed file differs. A difference means that evidence of the last release does not hold.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from purposematch.protocol.evidence import CollectedAssertion, CollectorKey, sign_assertion, sign_batch
from purposematch.protocol.evidence_bytes import EvidenceColumns, batch_bytes, evidence_bytes
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.purpose import DEFAULT_PURPOSE, Origin, Status
from purposematch.protocol.secret import reveal

FILE = Path(__file__).with_name("evidence-v1.json")
PLATFORM = "ads.example"
KEY = CollectorKey(bytes(range(32)))
SALTS = [bytes(range(start, start + 16)) for start in (0x10, 0x20, 0x30)]

ASSERTIONS = [
    CollectedAssertion(
        issuer="signup-service",
        source="default",
        subject="p1",
        kind=Kind.EMAIL,
        # SHA-256 of p1@example.com
        digest=bytes.fromhex("fc8a942d5e6ffccb36dcc2be4309f31486125e2dc4deaada25c7ca95c3f8453f"),
        purposes=(DEFAULT_PURPOSE,),
        origin=Origin.SIGNUP,
        status=Status.GRANTED,
        notice="ads-7",
        collected_at=1_764_028_800_000_000,
    ),
    CollectedAssertion(
        issuer="signup-service",
        source="accounts",
        subject="köln-2",
        kind=Kind.PHONE,
        digest=bytes(range(32)),
        purposes=("marketing.advertising.profiling", DEFAULT_PURPOSE, "analytics"),
        origin=Origin.PROFILE,
        status=Status.RENEWED,
        notice="",
        collected_at=-1,
    ),
    CollectedAssertion(
        issuer="signup-service",
        source="accounts",
        subject="p3",
        kind=Kind.MAID,
        digest=bytes([0xFF]) * 32,
        purposes=("marketing",),
        origin=Origin.NEWSLETTER,
        status=Status.WITHDRAWN,
        notice="leave-1",
        collected_at=2**40,
    ),
]

ABOUT = {
    "what": "Vectors of the evidence of purposematch, version 1. Byte strings are lower-case hexadecimal.",
    "message": "What an assertion's signature signs: see protocol/evidence_bytes.py and docs/gate.md.",
    "leaf": "RFC 6962 section 2.1: SHA-256 of 00 and message. The root is over the leaves in order.",
    "batch.message": "'purposematch evidence batch v1', platform id and issuer, each after its length in 2 "
    "bytes; the number of leaves in 8 bytes; the root.",
    "signature": "Ed25519 (RFC 8032) under the seed `key`.",
}


def message(assertion: CollectedAssertion, salt: bytes) -> bytes:
    columns = EvidenceColumns(
        subject=pa.array([assertion.subject]),
        kind=np.array([assertion.kind], np.uint8),
        digests=np.frombuffer(assertion.digest, np.uint8).reshape(1, 32),
        terms=np.zeros(1, np.int64),
        terms_table=[assertion.terms],
        notice=pa.array([assertion.notice]),
        collected_at=np.array([assertion.collected_at], np.int64),
        salts=np.frombuffer(salt, np.uint8).reshape(1, 16),
    )
    content: bytes = evidence_bytes(PLATFORM, Profile.PLAIN, columns)[0].as_py()
    return content


def document() -> dict[str, Any]:
    cases = []
    for assertion, salt in zip(ASSERTIONS, SALTS, strict=True):
        signed = sign_assertion(KEY, PLATFORM, Profile.PLAIN, assertion, lambda _, salt=salt: salt)
        cases.append(
            {
                "source": assertion.source,
                "subject": assertion.subject,
                "kind": assertion.kind.label,
                "digest": assertion.digest.hex(),
                "purposes": list(assertion.purposes),
                "origin": assertion.origin.label,
                "status": assertion.status.label,
                "notice": assertion.notice,
                "collected_at": assertion.collected_at,
                "salt": salt.hex(),
                "message": message(assertion, salt).hex(),
                "signature": signed.signature.hex(),
            }
        )
    batch, _ = sign_batch(KEY, PLATFORM, Profile.PLAIN, ASSERTIONS, lambda _: b"".join(SALTS))
    return {
        "about": ABOUT,
        "platform_id": PLATFORM,
        "profile": str(Profile.PLAIN),
        "issuer": batch.issuer,
        "key": reveal(KEY).hex(),
        "public_key": KEY.public_key.hex(),
        "assertions": cases,
        "batch": {
            "root": batch.root.hex(),
            "message": batch_bytes(PLATFORM, batch.issuer, len(ASSERTIONS), batch.root).hex(),
            "signature": batch.signature.hex(),
        },
    }


def main() -> None:
    FILE.write_text(json.dumps(document(), indent=2, ensure_ascii=True) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
