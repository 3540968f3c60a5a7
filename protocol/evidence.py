"""Evidence: signatures of the systems that collect identifiers.

For a collecting system, which needs nothing else of this package::

    from purposematch.protocol.evidence import CollectedAssertion, CollectorKey, sign_assertion

    key = CollectorKey.generate()           # once; key.public_key goes to the platform's operator
    assertion = CollectedAssertion(...)
    signed = sign_assertion(key, "ads.example", Profile.PLAIN, assertion)
    assertion.cells(signed)                 # the cells of that row in the file for `enroll`

`sign_batch` signs a whole file at once: one signature over the root of a Merkle tree (RFC 6962) of the
assertions, which is several times quicker to make and to check.

Source: docs/gate.md, *Evidence*; Ed25519 is RFC 8032 as libsodium (PyNaCl) has it. What is signed is in
`evidence_bytes`; the platform's checks are in `evidence_checks`.

What this does not protect against: a collecting system that signs a lie, or whose key was stolen; the policy
says what a key may sign, and `issuer revoke` takes back what it signed. A batch holds as a whole: one
altered row invalidates the evidence of all rows of the file.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Self

import numpy as np
import pyarrow as pa
from nacl.signing import SigningKey

from purposematch.protocol.assertions import Terms
from purposematch.protocol.errors import DecodeError, InputError
from purposematch.protocol.evidence_bytes import SALT_LENGTH, EvidenceColumns, batch_bytes, evidence_bytes
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.issuers import ISSUER_NAME
from purposematch.protocol.log.tree import string_leaf_hashes, tree_root
from purposematch.protocol.policy_values import SOURCE_NAME_FORM, is_source_name
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
]

MAX_BATCH_FILE_BYTES: Final = 4_096
"""The longest evidence file of a batch, in bytes."""

_DIGEST_LENGTH: Final = 32


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
        if not is_source_name(self.source):
            raise InputError(SOURCE_NAME_FORM)
        for text in (self.subject, self.notice):
            _check_cell(text)
        if not self.subject:
            raise InputError("evidence is about a subject; name one")
        try:
            _moment(self.collected_at)
        except OverflowError:
            raise InputError("the collection time is microseconds since 1970-01-01 UTC") from None

    @property
    def terms(self) -> Terms:
        """What it shares with many others."""
        return Terms(self.purposes, self.origin, self.status, self.source, self.issuer)

    def cells(self, evidence: "AssertionEvidence") -> dict[str, str]:
        """The evidence columns of its row in the file for `enroll`."""
        return {
            "issuer": self.issuer,
            "collected_at": _moment(self.collected_at).isoformat(),
            "evidence_salt": evidence.salt.hex(),
            "evidence_signature": evidence.signature.hex(),
        }


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
    root = tree_root(string_leaf_hashes(_messages(platform_id, profile, columns)))
    (issuer,) = issuers
    signature = _sign(key, batch_bytes(platform_id, issuer, len(assertions), root))
    salts = [AssertionEvidence(salt.tobytes()) for salt in columns.salts]
    return BatchEvidence(issuer, root, signature), salts


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


def _check_cell(text: str) -> None:
    """Refuses a text that would not come out of a cell as it was signed."""
    # The platform reads cells without the white space around them.
    if text != text.strip():
        raise InputError("a subject or notice with white space around it can not be signed")
    # A line break stops a whole file, and a zero byte a whole delivery.
    if any(character in text for character in "\r\n\0"):
        raise InputError("a subject or notice with a line break or a zero byte can not be signed")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("a subject or notice that is no Unicode text can not be signed") from None


def _moment(time: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)


def _sign(key: CollectorKey, message: bytes) -> bytes:
    return SigningKey(reveal(key)).sign(message).signature
