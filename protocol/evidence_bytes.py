"""The bytes that evidence signs, for many assertions at once.

Of one assertion, in this order; a text is its length in 2 bytes and then UTF-8, numbers are big-endian::

    text  "purposematch evidence v1"
    text  platform id        which platform it is for: evidence for one is useless at another
    text  issuer             who signs
    text  source             who delivers
    text  subject
    byte  kind               email 1, phone 2, maid 3
    text  profile            under which the digest was made, such as plain-v1
    32    digest             SHA-256 of the canonical value
    2     number of purposes, then each as a text, sorted, every one once
    text  origin             such as signup
    text  status             such as granted
    text  notice             empty if none was shown
    8     collection time    microseconds since 1970-01-01 UTC, signed
    16    salt               random: without it a leaf of the log over a phone number could be guessed

Every field has a fixed length or says its own, so no two assertions have the same bytes.

What this does not protect against: `not_before` and `expires_at` are not signed; whoever delivers a file says
them, and the age of a consent (`max_consent_age_days`) counts from there or from receipt: evidence that is
delivered late, or again, is as fresh as its delivery.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from purposematch.protocol.assertions import Terms
from purposematch.protocol.ciphersuite import EVIDENCE_BATCH_DOMAIN, EVIDENCE_DOMAIN
from purposematch.protocol.identifiers import Profile

__all__ = ["SALT_LENGTH", "EvidenceColumns", "batch_bytes", "evidence_bytes"]

# The published stubs of Arrow's functions know no mixture of arrays and plain values.
pc: Any = pyarrow.compute

SALT_LENGTH: Final = 16
"""Bytes of the salt of one assertion's evidence."""

MAX_TEXT_BYTES: Final = 65_535
"""The longest text that its length in 2 bytes can be written before."""


@dataclass(frozen=True, eq=False)
class EvidenceColumns:
    """What evidence says about n assertions of one platform and profile.

    Attributes:
        subject: (n,) strings without nulls.
        kind: (n,) uint8, a `Kind` each.
        digests: (n, 32) uint8 under the profile.
        terms: (n,) integers, positions in `terms_table`.
        terms_table: the distinct terms, of which all but the issuer's authority is signed.
        notice: (n,) strings without nulls.
        collected_at: (n,) int64, microseconds since 1970-01-01 UTC.
        salts: (n, 16) uint8.
    """

    subject: pa.StringArray = field(repr=False)
    kind: NDArray[np.uint8]
    digests: NDArray[np.uint8] = field(repr=False)
    terms: NDArray[np.integer]
    terms_table: Sequence[Terms]
    notice: pa.StringArray
    collected_at: NDArray[np.int64]
    salts: NDArray[np.uint8] = field(repr=False)


def evidence_bytes(platform_id: str, profile: Profile, about: EvidenceColumns) -> pa.BinaryArray:
    """The bytes to be signed for each of n assertions.

    A text longer than `MAX_TEXT_BYTES` has no bytes to be signed: null stands for them.
    """
    heads = [_said_by(platform_id, terms) for terms in about.terms_table]
    tails = [_said(terms) for terms in about.terms_table]
    positions = pa.array(about.terms)
    tail_of_digest = np.concatenate(
        [about.kind[:, np.newaxis], _repeated(_texts(profile), about), about.digests], 1
    )
    times = about.collected_at.astype(">i8").view(np.uint8).reshape(-1, 8)
    return pc.binary_join_element_wise(
        pa.array(heads, pa.binary()).take(positions),
        *_sized(about.subject),
        _fixed(tail_of_digest),
        pa.array(tails, pa.binary()).take(positions),
        *_sized(about.notice),
        _fixed(np.concatenate([times, about.salts], 1)),
        b"",
    )


def batch_bytes(platform_id: str, issuer: str, leaves: int, root: bytes) -> bytes:
    """The bytes that one signature over a whole file signs.

    Args:
        platform_id: as in the evidence of each row.
        issuer: who signs.
        leaves: how many assertions the tree has.
        root: of the Merkle tree (RFC 6962) over their evidence, 32 bytes.
    """
    return _texts(EVIDENCE_BATCH_DOMAIN, platform_id, issuer) + struct.pack(">Q", leaves) + root


def _texts(*parts: str | bytes) -> bytes:
    encoded = [part if isinstance(part, bytes) else part.encode() for part in parts]
    return b"".join(struct.pack(">H", len(part)) + part for part in encoded)


def _said_by(platform_id: str, terms: Terms) -> bytes | None:
    if len(terms.source.encode()) > MAX_TEXT_BYTES:
        return None
    return _texts(EVIDENCE_DOMAIN, platform_id, terms.issuer, terms.source)


def _said(terms: Terms) -> bytes | None:
    purposes = sorted(set(terms.purposes))
    if len(purposes) > MAX_TEXT_BYTES or any(len(key.encode()) > MAX_TEXT_BYTES for key in purposes):
        return None
    return struct.pack(">H", len(purposes)) + _texts(*purposes, terms.origin.label, terms.status.label)


def _sized(texts: pa.StringArray) -> tuple[pa.Array, pa.Array]:
    """The lengths of texts in 2 bytes each, null where that is too short, and the texts as bytes."""
    content = texts.cast(pa.binary())
    lengths = pc.binary_length(content).to_numpy()
    sizes = _fixed(lengths.astype(">u2").view(np.uint8).reshape(-1, 2))
    if len(lengths) and lengths.max() > MAX_TEXT_BYTES:
        sizes = pc.if_else(pa.array(lengths <= MAX_TEXT_BYTES), sizes, None)
    return sizes, content


def _repeated(content: bytes, about: EvidenceColumns) -> NDArray[np.uint8]:
    return np.broadcast_to(np.frombuffer(content, np.uint8), (len(about.kind), len(content)))


def _fixed(rows: NDArray[np.uint8]) -> pa.BinaryArray:
    """`(n, width)` uint8 as an Arrow array of byte strings."""
    count, width = rows.shape
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(width)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(rows))]
    return pa.BinaryArray.from_buffers(pa.binary(), count, buffers)
