"""Evidence: signatures of the systems that collect identifiers, made here and checked here.

For a collecting system, which needs nothing else of this package::

    from purposematch.protocol.evidence import CollectedAssertion, CollectorKey, sign_assertion

    key = CollectorKey.generate()           # once; key.public_key goes to the platform's operator
    signed = sign_assertion(key, "ads.example", Profile.PLAIN, CollectedAssertion(...))
    signed.columns()                        # the cells of that row in the file for `enroll`

`sign_batch` signs a whole file at once: one signature over the root of a Merkle tree (RFC 6962) of the
assertions, which is several times quicker to make and to check.

Source: docs/gate.md, *Evidence*; Ed25519 is RFC 8032 as libsodium (PyNaCl) has it: keys and points of small
order and signatures that are not canonical are refused. What is signed: `evidence_bytes`.

What this does not protect against: a collecting system that signs a lie, or whose key was stolen; the policy
says what a key may sign, and `issuer revoke` takes back what it signed. A batch holds as a whole: one
altered row invalidates the evidence of all rows of the file.
"""

import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
import pyarrow as pa
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from numpy.typing import NDArray

from purposematch.protocol.assertions import Terms
from purposematch.protocol.errors import DecodeError, InputError, VerificationError
from purposematch.protocol.evidence_bytes import SALT_LENGTH, EvidenceColumns, batch_bytes, evidence_bytes
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.issuers import ISSUER_NAME
from purposematch.protocol.merkle import leaf_hashes, merkle_root
from purposematch.protocol.purpose import Origin, Status
from purposematch.protocol.scope import check_platform_id, check_purpose
from purposematch.protocol.secret import Secret, reveal
from purposematch.protocol.signing import SIGNATURE_LENGTH
from purposematch.protocol.strict_json import Fields, canonical_json, decode_json

__all__ = [
    "MAX_BATCH_FILE_BYTES",
    "AssertionEvidence",
    "BatchEvidence",
    "CollectedAssertion",
    "CollectorKey",
    "sign_assertion",
    "sign_batch",
    "verify_batch",
    "verify_signatures",
]

MAX_BATCH_FILE_BYTES: Final = 4_096
"""The longest evidence file of a batch, in bytes."""

_DIGEST_LENGTH: Final = 32
_ROWS_A_THREAD: Final = 1_024
"""Signatures that one thread checks before it takes more."""


class CollectorKey(Secret):
    """The Ed25519 seed of a collecting system."""

    @classmethod
    def generate(cls, random_bytes: RandomBytes = secrets.token_bytes) -> Self:
        """A fresh one."""
        return cls(random_bytes(cls.LENGTH))

    @property
    def public_key(self) -> bytes:
        """What the platform's policy lists for the issuer, 32 bytes."""
        return bytes(SigningKey(reveal(self)).verify_key)


@dataclass(frozen=True, slots=True)
class CollectedAssertion:
    """What a collecting system knows of one statement, and signs.

    Attributes:
        issuer: the name of the collecting system in the platform's policy.
        source: the name under which the file will be delivered (`enroll --source`).
        subject: the platform's id of the person.
        kind: of the identifier.
        digest: SHA-256 of the canonical value under the platform's profile, 32 bytes.
        purposes: what the person was asked for: data-use keys.
        origin: the screen or process that it came from.
        status: what the person said.
        notice: what the person was shown; may be empty.
        collected_at: microseconds since 1970-01-01 UTC.

    Raises:
        InputError: a value can not be signed.
    """

    issuer: str
    source: str
    subject: str = field(repr=False)
    kind: Kind
    digest: bytes = field(repr=False)
    purposes: tuple[str, ...]
    origin: Origin
    status: Status
    notice: str
    collected_at: int

    def __post_init__(self) -> None:
        """Refuses what a platform would refuse to read."""
        try:
            for purpose in self.purposes:
                check_purpose(purpose)
        except DecodeError as error:
            raise InputError(str(error)) from None
        if not ISSUER_NAME.fullmatch(self.issuer) or not self.purposes:
            raise InputError("evidence needs the name of an issuer and at least one purpose")
        if self.origin is Origin.UNKNOWN or self.status is Status.UNREADABLE:
            raise InputError("evidence needs a known origin and status")
        if len(self.digest) != _DIGEST_LENGTH:
            raise InputError(f"the digest of a collected identifier must have {_DIGEST_LENGTH} bytes")
        for text in (self.subject, self.notice):
            # The platform reads cells without the white space around them.
            if text != text.strip():
                raise InputError("a subject or notice with white space around it can not be signed")
        if not self.subject:
            raise InputError("evidence is about a subject; name one")
        if not -(2**63) < self.collected_at < 2**63:
            raise InputError("the collection time must be microseconds since 1970-01-01 UTC")

    @property
    def terms(self) -> Terms:
        """What it shares with many others."""
        return Terms(self.purposes, self.origin, self.status, self.source, self.issuer)


@dataclass(frozen=True, slots=True)
class AssertionEvidence:
    """The evidence of one assertion.

    Attributes:
        salt: 16 random bytes.
        signature: 64 bytes, empty where a batch's signature covers the assertion.
    """

    salt: bytes
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class BatchEvidence:
    """One signature for all assertions of a file.

    Attributes:
        issuer: who signed.
        root: of the Merkle tree over the assertions' evidence, in the order of the file, 32 bytes.
        signature: over `batch_bytes`, 64 bytes.
    """

    issuer: str
    root: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """The evidence file: JSON with `issuer`, `root` and `signature`, the latter in hexadecimal."""
        return canonical_json(
            {"issuer": self.issuer, "root": self.root.hex(), "signature": self.signature.hex()}
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Reads an evidence file.

        Raises:
            DecodeError: it is no JSON object with these three members in their form.
        """
        fields = Fields(
            decode_json(content, "evidence file", MAX_BATCH_FILE_BYTES),
            "evidence file",
            ("issuer", "root", "signature"),
        )
        issuer = fields.text("issuer")
        if not ISSUER_NAME.fullmatch(issuer):
            raise DecodeError("the issuer of the evidence file is not the name of an issuer")
        root = fields.hexadecimal("root", _DIGEST_LENGTH)
        return cls(issuer, root, fields.hexadecimal("signature", SIGNATURE_LENGTH))


def sign_assertion(
    key: CollectorKey,
    platform_id: str,
    profile: Profile,
    assertion: CollectedAssertion,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> AssertionEvidence:
    """Signs one assertion.

    Args:
        key: the collecting system's key.
        platform_id: the platform that it is for.
        profile: the platform's profile, under which the digest was made.
        assertion: what was collected.
        random_bytes: the source of the salt.

    Raises:
        InputError: a text is too long to be signed, or the platform id is none.
    """
    columns = _columns([assertion], random_bytes)
    (message,) = _messages(platform_id, profile, columns).to_pylist()
    return AssertionEvidence(columns.salts[0].tobytes(), _sign(key, message))


def sign_batch(
    key: CollectorKey,
    platform_id: str,
    profile: Profile,
    assertions: Sequence[CollectedAssertion],
    random_bytes: RandomBytes = secrets.token_bytes,
) -> tuple[BatchEvidence, list[AssertionEvidence]]:
    """Signs all assertions of a file at once, in their order in the file.

    Returns:
        What `enroll --evidence` takes, and the salt of each assertion.

    Raises:
        InputError: there are none, they name several issuers, or as `sign_assertion`.
    """
    issuers = {assertion.issuer for assertion in assertions}
    if len(issuers) != 1:
        raise InputError("the assertions of a batch have one issuer, and there is at least one")
    columns = _columns(assertions, random_bytes)
    root = merkle_root(leaf_hashes(_messages(platform_id, profile, columns)))
    (issuer,) = issuers
    signature = _sign(key, batch_bytes(platform_id, issuer, len(assertions), root))
    salts = [AssertionEvidence(salt.tobytes()) for salt in columns.salts]
    return BatchEvidence(issuer, root, signature), salts


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


def _columns(assertions: Sequence[CollectedAssertion], random_bytes: RandomBytes) -> EvidenceColumns:
    count = len(assertions)
    table = list(dict.fromkeys(each.terms for each in assertions))
    position = {terms: place for place, terms in enumerate(table)}
    digests = b"".join(each.digest for each in assertions)
    salts = random_bytes(SALT_LENGTH * count)
    return EvidenceColumns(
        subject=pa.array([each.subject for each in assertions], pa.string()),
        kind=np.array([each.kind for each in assertions], np.uint8),
        digests=np.frombuffer(digests, np.uint8).reshape(count, _DIGEST_LENGTH),
        terms=np.array([position[each.terms] for each in assertions], np.int64),
        terms_table=table,
        notice=pa.array([each.notice for each in assertions], pa.string()),
        collected_at=np.array([each.collected_at for each in assertions], np.int64),
        salts=np.frombuffer(salts, np.uint8).reshape(count, SALT_LENGTH),
    )


def _messages(platform_id: str, profile: Profile, columns: EvidenceColumns) -> pa.BinaryArray:
    try:
        check_platform_id(platform_id)
    except DecodeError as error:
        raise InputError(str(error)) from None
    messages = evidence_bytes(platform_id, profile, columns)
    if messages.null_count:
        raise InputError("a text of an assertion is too long to be signed")
    return messages


def _sign(key: CollectorKey, message: bytes) -> bytes:
    return SigningKey(reveal(key)).sign(message).signature


def _holds(key: VerifyKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except BadSignatureError:
        return False
    return True
