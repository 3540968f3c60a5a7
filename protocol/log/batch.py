"""A tree of its own for a batch of assertions, whose root is all that the log's leaf names.

So a million assertions cost the log one leaf. Each assertion becomes a row of fixed width, docs/log.md has
the layout, and the row's leaf in the batch's tree holds::

    SHA-256("purposematch log assertion v1" || salt, 16 bytes || row, 236 bytes)

Everything that could be guessed, an identifier above all, is behind the salt of that row alone: destroying
one salt unlinks one assertion.

Not protected against: rows that say something else than what arrived; comparing with the registry finds it.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from purposematch.protocol.assertions import Terms
from purposematch.protocol.batch_hash import Bytes, sha256_rows, sha256_strings
from purposematch.protocol.ciphersuite import LOG_ASSERTION_DOMAIN, LOG_TERMS_DOMAIN
from purposematch.protocol.errors import InputError
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.identifiers.canonical import text_bytes
from purposematch.protocol.log.events import SALT_LENGTH
from purposematch.protocol.log.tree import leaf_hashes, tree_root
from purposematch.protocol.strict_json import canonical_json

__all__ = [
    "IDENTIFIER_LENGTH",
    "ROW_BYTES",
    "AssertionColumns",
    "assertion_rows",
    "batch_root",
    "commit_rows",
    "fresh_salts",
    "name_digest",
    "terms_digest",
]

IDENTIFIER_LENGTH: Final = 16
"""Bytes of the keyed digest that stands for an identifier."""
_DIGEST: Final = 32
_DIGESTS: Final = ("terms", "issuer", "proof")
"""The columns of a batch that are digests already."""

_ROW: Final = np.dtype(
    [
        ("id", ">i8"),
        ("kind", "u1"),
        ("flaw", "u1"),
        ("reason", "u1"),
        ("evidence", "u1"),
        ("not_before", ">i8"),
        ("expires_at", ">i8"),
        ("identifier", "u1", IDENTIFIER_LENGTH),
        ("subject", "u1", _DIGEST),
        ("notice", "u1", _DIGEST),
        ("terms", "u1", _DIGEST),
        ("issuer", "u1", _DIGEST),
        ("spellings", "u1", _DIGEST),
        ("proof", "u1", _DIGEST),
    ]
)
ROW_BYTES: Final = _ROW.itemsize
"""Bytes of a row: 236."""


@dataclass(frozen=True, eq=False)
class AssertionColumns:
    """n assertions as the registry keeps them. Times are microseconds since 1970-01-01 UTC.

    Attributes:
        id: (n,) int64, the number of the assertion.
        subject: (n,) strings, null where none was given.
        identifier: (n,) Arrow fixed-size binary of 16 bytes, keyed digests; null where it could not be read.
        kind: (n,) uint8, a `Kind`, 0 where it could not be read.
        terms: (n, 32) uint8, see `terms_digest`.
        notice: (n,) strings, null where none was given.
        not_before: (n,) int64, `NO_TIME` where empty.
        expires_at: (n,) int64, `NO_TIME` where empty.
        flaw: (n,) uint8, 0 or the `Reason` that the reader found.
        reason: (n,) uint8, the `Reason` at receipt.
        evidence: (n,) uint8, what was found of its evidence; 0 where there was none.
        issuer: (n, 32) uint8, see `name_digest`; zeros where there was no evidence.
        spellings: (n,) lists of keyed digests of 16 bytes, the other spellings of each identifier.
        proof: (n, 32) uint8, SHA-256 of the evidence that is stored; zeros where there is none.

    Raises:
        InputError: a column has another length or shape.
    """

    id: NDArray[np.int64]
    subject: pa.StringArray
    identifier: pa.FixedSizeBinaryArray
    kind: NDArray[np.uint8]
    terms: Bytes
    notice: pa.StringArray
    not_before: NDArray[np.int64]
    expires_at: NDArray[np.int64]
    flaw: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    evidence: NDArray[np.uint8]
    issuer: Bytes
    spellings: pa.ListArray
    proof: Bytes

    def __post_init__(self) -> None:
        """Checks that every column has a value for every row."""
        keyed = (self.identifier.type, self.spellings.type.value_type)
        if keyed != (pa.binary(IDENTIFIER_LENGTH),) * 2:
            raise InputError(f"the identifiers of a batch are not keyed digests of {IDENTIFIER_LENGTH} bytes")
        for name, column in vars(self).items():
            shape = (len(column),) if isinstance(column, pa.Array) else column.shape
            wanted = (len(self), _DIGEST) if name in _DIGESTS else (len(self),)
            if shape != wanted:
                raise InputError(f"the column {name} of a batch has the shape {shape}")

    def __len__(self) -> int:
        """The number of assertions, n."""
        return len(self.id)


def terms_digest(terms: Terms) -> bytes:
    """What a row names its terms by: SHA-256 over a domain string and their canonical JSON, 32 bytes."""
    mapping: dict[str, object] = {
        "purposes": list(terms.purposes),
        "origin": int(terms.origin),
        "status": int(terms.status),
        "source": terms.source,
    }
    return sha256(LOG_TERMS_DOMAIN + canonical_json(mapping)).digest()


def name_digest(name: str) -> bytes:
    """What a row names its issuer by: SHA-256 of the name in UTF-8, 32 bytes."""
    return sha256(name.encode()).digest()


def fresh_salts(count: int, random_bytes: RandomBytes) -> Bytes:
    """Salts for `count` rows, (count, 16) uint8."""
    return np.frombuffer(random_bytes(count * SALT_LENGTH), np.uint8).reshape(count, SALT_LENGTH)


def assertion_rows(columns: AssertionColumns) -> Bytes:
    """The rows of n assertions, (n, 236) uint8. What is absent is zeros."""
    rows = np.zeros(len(columns), _ROW)
    for name in ("id", "kind", "flaw", "reason", "evidence", "not_before", "expires_at", *_DIGESTS):
        rows[name] = getattr(columns, name)
    rows["subject"] = _text_digests(columns.subject)
    rows["notice"] = _text_digests(columns.notice)
    rows["identifier"] = _identifiers(columns.identifier)
    rows["spellings"] = _list_digests(columns.spellings)
    return rows.view(np.uint8).reshape(len(columns), ROW_BYTES)


def commit_rows(columns: AssertionColumns, salts: Bytes) -> Bytes:
    """The commitments of n assertions: the data of their leaves in the batch's tree.

    Args:
        columns: the assertions.
        salts: (n, 16) uint8, one for each.

    Returns:
        (n, 32) uint8.

    Raises:
        InputError: there is not one salt for each.
    """
    if salts.shape != (len(columns), SALT_LENGTH):
        raise InputError(f"the salts of a batch have the shape {salts.shape}")
    return sha256_rows(LOG_ASSERTION_DOMAIN, salts, assertion_rows(columns))


def batch_root(commitments: Bytes) -> bytes:
    """The root of a batch's tree, 32 bytes.

    Args:
        commitments: (n, 32) uint8, from `commit_rows`; of erased assertions, those that were kept.
    """
    return tree_root(leaf_hashes(commitments))


def _text_digests(texts: pa.StringArray) -> Bytes:
    offsets, content = text_bytes(texts)
    valid = None if texts.null_count == 0 else texts.is_valid().to_numpy(zero_copy_only=False)
    return sha256_strings(offsets, content, valid)


def _list_digests(lists: pa.ListArray) -> Bytes:
    """SHA-256 over the keyed digests of each list, one after the other; zeros for an empty list."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    if not len(lists) or offsets[0] == offsets[-1]:
        return np.zeros((len(lists), _DIGEST), np.uint8)
    content = _identifiers(lists.values).reshape(-1)
    return sha256_strings(offsets * IDENTIFIER_LENGTH, content, offsets[1:] > offsets[:-1])


def _identifiers(values: pa.FixedSizeBinaryArray) -> Bytes:
    if not len(values):
        return np.empty((0, IDENTIFIER_LENGTH), np.uint8)
    buffers: list[Any] = values.buffers()
    every = np.frombuffer(buffers[1], np.uint8)[: (values.offset + len(values)) * IDENTIFIER_LENGTH]
    rows = every.reshape(-1, IDENTIFIER_LENGTH)[values.offset :]
    if values.null_count:
        # What lies under a null is not said anywhere.
        rows = np.where(values.is_valid().to_numpy(zero_copy_only=False)[:, None], rows, np.uint8(0))
    return rows
