"""The audit's look at evidence: what counted when it arrived still holds, signature by signature.

Every assertion whose evidence was found valid must have it: a signature over its bytes as they are now, or a
place in a batch whose root is signed. The keys are those of the policy under which its delivery was judged.

Memory: that of the deliveries with evidence, one at a time.

Not protected against: a collector's key that somebody else holds. Evidence that was destroyed with its person
can not be checked; the erasure is in the log.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, select

from purposematch.protocol.errors import IntegrityError, VerificationError
from purposematch.protocol.evidence import BatchEvidence
from purposematch.protocol.evidence_bytes import EvidenceColumns, evidence_bytes
from purposematch.protocol.evidence_checks import verify_batch, verify_signatures
from purposematch.protocol.log.tree import string_leaf_hashes
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import Evidence
from purposematch.server.platform import Platform
from purposematch.server.registry import load_digests
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.schema import delivery, erased_assertion, evidence, evidence_batch
from purposematch.server.registry.terms_rows import load_terms

__all__ = ["audit_evidence"]

_SIGNATURE_BYTES = 64
_SALT_BYTES = 16
_LEAF_BYTES = 32


@dataclass(frozen=True, eq=False)
class _Stored:
    """The rows of `evidence` of one delivery, k of them. Zeros stand for NULL.

    Attributes:
        ids: (k,) int64, assertions, ascending.
        collected_at: (k,) int64.
        salts, signatures, leaves: (k, 16), (k, 64) and (k, 32) uint8.
        has_salt, signed: (k,) bool.
    """

    ids: NDArray[np.int64]
    collected_at: NDArray[np.int64]
    salts: NDArray[np.uint8]
    signatures: NDArray[np.uint8]
    leaves: NDArray[np.uint8]
    has_salt: NDArray[np.bool_]
    signed: NDArray[np.bool_]


def audit_evidence(platform: Platform, connection: Connection, policies: dict[int, Policy]) -> int:
    """Verifies the stored evidence of all assertions; how many were found valid again.

    Args:
        platform: the open platform.
        connection: a snapshot whose assertions, terms and digests were checked already.
        policies: all policies, by id.

    Raises:
        IntegrityError: evidence that counted does not hold, or is not there; the text names the first row.
    """
    erased = np.array(connection.execute(select(erased_assertion.c.assertion)).scalars().all(), np.int64)
    checked = 0
    for row in connection.execute(select(delivery).order_by(delivery.c.id)).all():
        if row.assertions:
            checked += _delivery(platform, connection, row, policies[row.policy], erased)
    return checked


def _delivery(
    platform: Platform,
    connection: Connection,
    row: Row[Any],
    policy: Policy,
    erased: NDArray[np.int64],
) -> int:
    first, count = row.first_assertion, row.assertions
    _, said = load_chunks(connection, np.arange(first, first + count))
    valid = np.flatnonzero(said["evidence"].to_numpy() == Evidence.VALID) + first
    if not len(valid):
        return 0
    stored = _stored(connection, first, count)
    lost = np.setdiff1d(np.setdiff1d(valid, stored.ids), erased)
    if len(lost):
        raise IntegrityError(f"table evidence lacks row {lost[0]}")
    terms_table, terms_ids = load_terms(connection)
    said = said.take(pa.array(stored.ids - first))
    terms = np.searchsorted(terms_ids, said["terms"].to_numpy())
    about = EvidenceColumns(
        subject=said["subject"].fill_null(""),
        kind=said["kind"].to_numpy(),
        digests=load_digests(connection, platform.registry.sealing_key, stored.ids),
        terms=terms,
        terms_table=terms_table,
        notice=said["notice"].fill_null(""),
        collected_at=stored.collected_at,
        salts=stored.salts,
    )
    messages = evidence_bytes(platform.config.platform_id, platform.config.profile, about)
    issuer = np.array([each.issuer for each in terms_table], object)[terms]
    counted = np.isin(stored.ids, valid) & ~np.isin(stored.ids, erased)
    own = np.flatnonzero(counted & stored.signed)
    signed = messages.take(pa.array(own))
    _signatures(policy, issuer[own].tolist(), signed, stored.signatures[own], stored.ids[own])
    shared = np.flatnonzero(counted & ~stored.signed)
    if len(shared):
        covered = _batch(platform, connection, row.id, policy, messages, stored, issuer)
        outside = np.setdiff1d(shared, covered)
        if len(outside):
            raise IntegrityError(f"table evidence row {stored.ids[outside[0]]}: no signature covers it")
    return len(own) + len(shared)


def _stored(connection: Connection, first: int, count: int) -> _Stored:
    columns = [evidence.c[name] for name in ("assertion", "collected_at", "salt", "signature", "leaf")]
    number = evidence.c.assertion
    question = select(*columns).where(number >= first, number < first + count).order_by(number)
    rows = connection.execute(question).cursor.fetchall()
    ids, times, salts, signatures, leaves = zip(*rows, strict=True) if rows else ((),) * 5
    return _Stored(
        ids=np.array(ids, np.int64),
        collected_at=np.array(times, np.int64),
        salts=_bytes(salts, _SALT_BYTES),
        signatures=_bytes(signatures, _SIGNATURE_BYTES),
        leaves=_bytes(leaves, _LEAF_BYTES),
        has_salt=np.array([each is not None for each in salts], bool),
        signed=np.array([each is not None for each in signatures], bool),
    )


def _bytes(values: tuple[bytes | None, ...], width: int) -> NDArray[np.uint8]:
    nothing = bytes(width)
    joined = b"".join(nothing if each is None else each for each in values)
    return np.frombuffer(joined, np.uint8).reshape(len(values), width)


def _signatures(
    policy: Policy,
    issuers: list[str],
    messages: pa.BinaryArray,
    signatures: NDArray[np.uint8],
    ids: NDArray[np.int64],
) -> None:
    names = sorted(set(issuers))
    unknown = [name for name in names if name not in policy.issuers]
    if unknown:
        place = issuers.index(unknown[0])
        raise IntegrityError(f"table evidence row {ids[place]}: the policy of that time knew no such issuer")
    keys = [policy.issuers[name].key for name in names]
    key_of = np.array([names.index(name) for name in issuers], np.int64)
    failed = np.flatnonzero(~verify_signatures(keys, key_of, messages, signatures))
    if len(failed):
        raise IntegrityError(f"table evidence row {ids[failed[0]]}: the signature does not hold")


def _batch(
    platform: Platform,
    connection: Connection,
    number: int,
    policy: Policy,
    messages: pa.BinaryArray,
    stored: _Stored,
    issuer: NDArray[np.object_],
) -> NDArray[np.int64]:
    """Checks the one signature of a delivery over the rows that have none, erased ones included.

    Returns:
        (c,) int64, the rows of `stored` that it covers.
    """
    question = select(evidence_batch).where(evidence_batch.c.delivery == number)
    row = connection.execute(question).one_or_none()
    if row is None:
        raise IntegrityError(f"table evidence_batch lacks row {number}")
    given = BatchEvidence(row.issuer, row.root, row.signature)
    written = messages.is_valid().to_numpy(zero_copy_only=False)
    mine = np.flatnonzero(~stored.signed & (issuer == row.issuer) & written)
    leaves = string_leaf_hashes(messages.take(pa.array(mine)))
    leaves = np.where(stored.has_salt[mine, None], leaves, stored.leaves[mine])
    try:
        if row.issuer not in policy.issuers:
            raise VerificationError("the policy of that time knew no such issuer")
        verify_batch(policy.issuers[row.issuer].key, platform.config.platform_id, given, leaves)
    except VerificationError as error:
        raise IntegrityError(f"table evidence_batch row {number}: {error}") from None
    return mine
