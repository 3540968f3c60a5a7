"""Files of assertions with evidence, as a collector would deliver them: what enrollment is measured on."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from nacl.signing import SigningKey

from purposematch.protocol.assertions import Terms
from purposematch.protocol.evidence import BatchEvidence, CollectorKey
from purposematch.protocol.evidence_bytes import EvidenceColumns, batch_bytes, evidence_bytes
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.log.tree import string_leaf_hashes, tree_root
from purposematch.protocol.purpose import DEFAULT_PURPOSE, Origin, Status

__all__ = ["COLLECTOR", "ISSUERS", "PLATFORM_ID", "Collected", "Evidence", "collect"]

PLATFORM_ID = "ads.example"
_SEED = bytes(range(32))
COLLECTOR = CollectorKey(_SEED)
ISSUERS = {
    "signup-service": {
        "key": COLLECTOR.public_key.hex(),
        "permitted_purposes": [DEFAULT_PURPOSE],
        "permitted_origins": ["signup"],
    }
}
"""The policy's table of issuers that accepts the evidence of these files."""
_COLLECTED_AT = "2025-11-25T00:00:00Z"
_COLLECTED_MICROSECONDS = 1_764_028_800_000_000


class Evidence(StrEnum):
    """What the rows of a file have."""

    NONE = "no evidence"
    BATCH = "evidence of a batch"
    EACH = "a signature each"


@dataclass(frozen=True)
class Collected:
    """A file, the evidence that comes beside it, and what its signatures are over."""

    path: Path
    batch: BatchEvidence | None
    messages: list[bytes]
    signatures: list[bytes]


def collect(path: Path, size: int, evidence: Evidence) -> Collected:
    """Writes a CSV file of `size` different people with an e-mail digest each."""
    numbers = range(size)
    digests = [sha256(b"customer.%d@example.com" % number).digest() for number in numbers]
    salts = np.random.default_rng(size).integers(256, size=(size, 16), dtype=np.uint8)
    subject = pa.array([f"user-{number}" for number in numbers])
    about = EvidenceColumns(
        subject=subject,
        kind=np.full(size, Kind.EMAIL, np.uint8),
        digests=np.frombuffer(b"".join(digests), np.uint8).reshape(size, 32),
        terms=np.zeros(size, np.int64),
        terms_table=[Terms((DEFAULT_PURPOSE,), Origin.SIGNUP, Status.GRANTED, "default", "signup-service")],
        notice=pa.array(["ads-7"] * size),
        collected_at=np.full(size, _COLLECTED_MICROSECONDS),
        salts=salts,
    )
    written = evidence_bytes(PLATFORM_ID, Profile.PLAIN, about)
    key = SigningKey(_SEED)
    batch, messages, signatures = None, [], []
    if evidence is Evidence.BATCH:
        root = tree_root(string_leaf_hashes(written))
        signed = key.sign(batch_bytes(PLATFORM_ID, "signup-service", size, root)).signature
        batch = BatchEvidence("signup-service", root, signed)
    if evidence is Evidence.EACH:
        messages = written.to_pylist()
        with ThreadPoolExecutor(2) as pool:
            signatures = list(pool.map(lambda one: key.sign(one).signature, messages))
    columns: dict[str, list[str] | str] = {
        "kind": "email",
        "value": [digest.hex() for digest in digests],
        "value_format": "sha256",
        "purposes": DEFAULT_PURPOSE,
        "origin": "signup",
        "status": "granted",
        "notice_id": "ads-7",
        "not_before": "",
        "expires_at": "",
    }
    if evidence is not Evidence.NONE:
        columns["issuer"], columns["collected_at"] = "signup-service", _COLLECTED_AT
        columns["evidence_salt"] = [salt.tobytes().hex() for salt in salts]
        columns["evidence_signature"] = [each.hex() for each in signatures] or ""
    cells = {
        name: pa.repeat(value, size) if isinstance(value, str) else pa.array(value)
        for name, value in columns.items()
    }
    pa_csv.write_csv(pa.table({"subject_id": subject, **cells}), path)
    return Collected(path, batch, messages, signatures)
