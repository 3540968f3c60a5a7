"""Every decoder of bytes, JSON or text that somebody else made, with valid samples of what it reads.

A signed document is signed here after it was spoiled: the parser behind the signature is what is tried.
"""

import hashlib
import os
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import samples
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import DecodeError as ProtobufDecodeError
from nacl.signing import SigningKey

from purposematch.client.columns import Column
from purposematch.client.receipt import SessionReceipt
from purposematch.client.saved_session import BatchResult, SavedSession
from purposematch.client.wire import retry_seconds, session_proof
from purposematch.protocol.agreement import Agreement
from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.ciphersuite import (
    MANIFEST_DOMAIN,
    NOISY_REPORT_DOMAIN,
    RECEIPT_DOMAIN,
    REMOVALS_DOMAIN,
    SESSION_DOMAIN,
)
from purposematch.protocol.credentials import MemberPin, PlatformPin
from purposematch.protocol.delegation import Delegation, DelegationDocument, DelegationRevocation
from purposematch.protocol.dleq import Proof
from purposematch.protocol.errors import DecodeError, PurposematchError
from purposematch.protocol.evidence import BatchEvidence
from purposematch.protocol.group import SodiumGroup, default_group
from purposematch.protocol.identifiers import Kind, Profile, digest_prehashed, digest_raw
from purposematch.protocol.index import Index, Segment
from purposematch.protocol.log.bundle import BundleHead, OpenedLeaf
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import Event, EventKind, Opening
from purposematch.protocol.log.note import open_note, sign_note
from purposematch.protocol.log.proofs import (
    consistency_proof,
    decode_proof,
    in_memory,
    inclusion_proof,
    verify_consistency,
    verify_inclusion,
)
from purposematch.protocol.log.session_proof import LeafProof, SessionProof, manifest_fields, session_fields
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import (
    CommitEntries,
    EvaluateReply,
    EvaluateRequest,
    Receipt,
    SessionGrant,
)
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.protocol.pair_ids import PairKey
from purposematch.protocol.policy import DEFAULT_POLICY_TOML, Policy
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.purpose import Origin, Status
from purposematch.protocol.removals import RemovalList
from purposematch.protocol.scalars import decode_public_scalar
from purposematch.protocol.scope import Scope
from purposematch.protocol.secret import reveal
from purposematch.protocol.signing import (
    AdvertiserSeed,
    SignedDocument,
    advertiser_public_key,
    identity_public_key,
    open_document,
)
from purposematch.protocol.strict_json import canonical_json, decode_json
from purposematch.server import wire
from purposematch.server.answers import parse_kind, parse_origin
from purposematch.server.config import ListenAddress
from purposematch.server.keys import KeyReference, load_root_key
from purposematch.server.lookup import guess_kind
from purposematch.server.pki import Role, create_authority, issue_client, peer_identity
from purposematch.server.policy_file import parse_policy
from purposematch.server.received import DeliveryDigest, parse_delivery_id, parse_rows
from purposematch.server.taxonomy import load_taxonomy
from purposematch.server.times import read_time, read_times
from purposematch.v1 import enrollment_pb2, log_pb2, matching_pb2

KEY = identity_public_key(samples.IDENTITY)
ORIGIN = log_origin("birdsite")
TAXONOMY = load_taxonomy()
GROUPS = [SodiumGroup(), default_group(1, os.environ)]
POLICY = Policy.from_mapping(tomllib.loads(DEFAULT_POLICY_TOML), TAXONOMY)


@dataclass(frozen=True)
class Target:
    """A decoder.

    Attributes:
        samples: what it reads.
        decode: the decoder.
        encode: gives the only bytes that decode to a value; None where a value has several spellings.
    """

    samples: tuple[bytes, ...]
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes] | None = None
    examples: int = field(default=40)


def _signed(domain: bytes, opened: Callable[[SignedDocument, bytes], Any]) -> Callable[[bytes], Any]:
    def decode(content: bytes) -> Any:
        return opened(_sign(domain, content), KEY)

    return decode


def _sign(domain: bytes, content: bytes) -> SignedDocument:
    message = len(domain).to_bytes(2, "big") + domain + content
    return SignedDocument(content, SigningKey(reveal(samples.IDENTITY)).sign(message).signature)


def _note(text: bytes) -> Checkpoint:
    """A checkpoint whose text was spoiled before it was signed."""
    try:
        return Checkpoint.open(sign_note(samples.IDENTITY, ORIGIN, text.decode()), ORIGIN, KEY)
    except UnicodeDecodeError:
        raise DecodeError("this can not be signed") from None


def _session_proof() -> SessionProof:
    events = [Event(EventKind.OPERATOR_QUERY, number, {}) for number in range(9)]
    events[2] = Event(EventKind.MANIFEST, 2, manifest_fields("ab" * 16, b"{}"))
    fields = session_fields(
        session="cd" * 16,
        advertiser="acme",
        fingerprint=bytes(32),
        agreement=bytes(32),
        generation="ab" * 16,
        elements=1_000,
        grant=b"{}",
        log_size=5,
    )
    events[5] = Event(EventKind.SESSION, 5, fields)
    openings = [Opening.of(event, bytes) for event in events]
    hashes = np.frombuffer(b"".join(opening.leaf_hash() for opening in openings), np.uint8).reshape(-1, 32)
    subtree = in_memory(hashes)
    leaves = [LeafProof(index, openings[index], inclusion_proof(subtree, index, 9)) for index in (5, 2)]
    return SessionProof(Checkpoint(ORIGIN, 9, subtree(0, 9)).sign(samples.IDENTITY), *leaves)


PROOF = _session_proof()
HASHES = np.arange(9 * 32, dtype=np.uint8).reshape(9, 32)
SUBTREE = in_memory(HASHES)


def _open_proof(content: bytes) -> SessionProof:
    proof = SessionProof.from_mapping(decode_json(content, "proof", 10**6))
    proof.open(ORIGIN, KEY)
    return proof


def _wire_proof(content: bytes) -> SessionProof:
    """The proof in a message of the wire, whose own parser is not ours."""
    return session_proof(_parsed(log_pb2.SessionProof(), content))


def _parsed(message: Any, content: bytes) -> Any:
    try:
        message.ParseFromString(content)
    except ProtobufDecodeError:
        raise DecodeError("this is no message") from None
    return message


def _wire_proof_sample() -> bytes:
    return bytes(wire.format_session_proof(PROOF).SerializeToString())


def _inclusion(content: bytes) -> None:
    """Index, size and hashes as they come."""
    index, size = (int.from_bytes(content[at : at + 8], "big") for at in (0, 8))
    hashes = [content[at : at + 32] for at in range(16, len(content), 32)]
    verify_inclusion(HASHES[4].tobytes(), index, size, decode_proof(hashes), SUBTREE(0, 9))


def _consistency(content: bytes) -> None:
    old, new = (int.from_bytes(content[at : at + 8], "big") for at in (0, 8))
    hashes = [content[at : at + 32] for at in range(16, len(content), 32)]
    verify_consistency(old, SUBTREE(0, 5), new, SUBTREE(0, 9), decode_proof(hashes))


def _numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "big") for value in values)


def _rows(content: bytes) -> DeliveryDigest:
    batch = parse_rows(_parsed(enrollment_pb2.Rows(), content), ("subject_id", "kind", "value"))
    digest = DeliveryDigest()
    digest.update(batch)
    return digest


def _rows_sample() -> bytes:
    columns = {"subject_id": ["s1", "", "é"], "kind": ["email", "phone", ""], "value": ["a@b.c", "", "x"]}
    rows = enrollment_pb2.Rows(
        columns=[enrollment_pb2.Column(name=name, cells=cells) for name, cells in columns.items()]
    )
    return rows.SerializeToString()


def _evaluate(content: bytes) -> EvaluateRequest:
    message = _parsed(matching_pb2.EvaluateRequest(), content)
    wire.parse_session_id(message.session_id)
    return wire.parse_evaluate(message)


def _commit(content: bytes) -> CommitEntries:
    message = _parsed(matching_pb2.CommitRequest(), content)
    wire.parse_session_id(message.session_id)
    wire.parse_commit_id(message.commit_id)
    wire.parse_digest(message.commit_id * 2)
    return CommitEntries.decode(message.entries)


def _elements(content: bytes) -> bytes:
    """A batch of elements, on both back ends: they must take and give the same ones."""
    rows = EvaluateRequest.decode(0, content).blinded
    found = []
    for group in GROUPS:
        try:
            found.append(group.encode(group.decode(rows)).tobytes())
        except DecodeError:
            found.append(b"")
    assert len(set(found)) == 1
    if not found[0]:
        raise DecodeError("refused by both")
    return found[0]


def _segment(content: bytes) -> Index:
    """What came as a segment whose hash the platform signed; its order is the platform's to lie about."""
    segment = Segment(len(content) // 16, hashlib.sha256(content).digest())
    return Index([segment.check(content)])


def _removed(content: bytes) -> Any:
    digest = hashlib.sha256(content).digest()
    return RemovalList(samples.SCOPE, bytes(16), len(content) // 16, digest, False).check(content)


def _identifiers(content: bytes) -> None:
    """Texts as identifiers of every kind under every profile: each has a digest or a reason."""
    text = content.decode("utf-8", "replace")
    values = pa.array([text, *text.split()[:20]], pa.string())
    for kind in Kind:
        for profile in Profile:
            column = digest_raw(values, kind, profile, "US")
            assert len(column.digests) == len(column.reasons) == len(values)
    digest_prehashed(values)
    guess_kind(text)


def _words(content: bytes) -> None:
    """Texts that mean something or nothing, never an error."""
    text = content.decode("utf-8", "replace")
    Origin.parse(text)
    Status.parse(text)
    read_times(pa.array([text, text.strip(), ""], pa.string()))
    retry_seconds(content)


def _policy(content: bytes) -> Policy:
    return parse_policy(_text(content), Path("policy.toml"), TAXONOMY)


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise DecodeError("this is no text") from None


def _of_text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda content: parse(_text(content))


def _root_key(content: bytes) -> None:
    load_root_key(KeyReference("env", "K"), Path("."), {"K": _text(content)})


def saved_session() -> SavedSession:
    return SavedSession(
        seed=SessionSeed(bytes(range(32))),
        input="ab" * 32,
        inputs=b"i" * 32,
        columns=(Column("mail", Kind.EMAIL), Column("digest", Kind.PHONE, True)),
        region="DE",
        commit=b"c" * 16,
        opened_at=5,
        grant=samples.grant().sign(samples.IDENTITY),
        manifest=samples.manifest().sign(samples.IDENTITY),
        proof=PROOF,
    )


def _saved_again(content: bytes) -> SavedSession:
    return SavedSession.decode(SessionSeed(bytes(range(32))), content)


def _receipt() -> bytes:
    committed = samples.receipt().sign(samples.IDENTITY)
    return SessionReceipt(samples.grant().sign(samples.IDENTITY), committed, PROOF).encode()


def _opened_receipt(content: bytes) -> SessionReceipt:
    receipt = SessionReceipt.decode(content)
    with suppress(PurposematchError):
        receipt.open(ORIGIN, KEY)
    return receipt


def _agreement_document(content: bytes) -> AgreementDocument:
    document = AgreementDocument.decode(content)
    document.check_both(KEY)
    return document


def _delegation(content: bytes) -> DelegationDocument:
    document = DelegationDocument.decode(content)
    document.check(advertiser_public_key(AdvertiserSeed(b"\5" * 32)))
    return document


def _certificate() -> bytes:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return issue_client(
        create_authority("birdsite", now), "birdsite", Role.ADVERTISER, "acme", now
    ).certificate


def _policy_leaf() -> bytes:
    event = Event(EventKind.POLICY, 5, {"digest": "ab" * 32, "taxonomy": "cd" * 32})
    return OpenedLeaf(3, Opening.of(event, bytes), POLICY.canonical_bytes()).encode()


def _manifest_leaf() -> bytes:
    document = samples.manifest().sign(samples.IDENTITY)
    event = Event(EventKind.MANIFEST, 5, manifest_fields("ab" * 16, document.content))
    return OpenedLeaf(3, Opening.of(event, bytes), document.content, document.signature).encode()


def _content(document: SignedDocument) -> tuple[bytes, ...]:
    return (document.content,)


def _elements_sample() -> bytes:
    group = GROUPS[0]
    return group.encode(group.map_to_group(samples.uniform(3, 64))).tobytes()


@cache
def targets() -> Mapping[str, Target]:
    """All of them, by name."""
    tags = samples.uniform(8, 16)
    ascending = tags[np.lexsort(tags.T[::-1])].tobytes()
    document = AgreementDocument.offer(samples.AGREEMENT, samples.IDENTITY)
    accepted = document.accept(AdvertiserSeed(b"\5" * 32))
    delegation = Delegation(
        *("birdsite", "acme", 1, "agency", "marketing.advertising.third_party.targeted"),
        *(("autumn", "spring"), 5_000, 1_798_761_600_000_000),
    )
    delegated = DelegationDocument.sign(delegation, AdvertiserSeed(b"\5" * 32))
    revoked = DelegationRevocation.sign(delegation, AdvertiserSeed(b"\5" * 32))
    pin = MemberPin("birdsite", KEY, "birdsite.example")
    advertiser_pin = PlatformPin("birdsite", KEY, "birdsite.example", "acme")
    removed = RemovalList.of(samples.SCOPE, bytes(16), tags, True)
    event = Event(EventKind.SESSION, 5, {"id": "cd" * 16, "list": [1, None, True, {"a": -5}]})
    result = BatchResult(7, 3, np.array([1, 5], np.uint16), tags[:2], tags[2:4])
    certificate = _certificate()
    evidence = BatchEvidence("signup-service", bytes(range(32)), bytes(64))
    checkpoint = Checkpoint(ORIGIN, 12_345, bytes(range(32)))
    note = checkpoint.sign(samples.IDENTITY)
    elements, scalars = _elements_sample(), bytes(range(31)) + bytes(33)
    evaluate = matching_pb2.EvaluateRequest(session_id=bytes(16), batch_number=3, blinded_elements=elements)
    commit = matching_pb2.CommitRequest(session_id=bytes(16), commit_id=bytes(16), entries=bytes(64))
    grant = samples.grant().sign(samples.IDENTITY)
    return {
        "JSON": Target((b'{"a":[1,2.5,null,true,"x"],"b":{"c":{}}}',), lambda c: decode_json(c, "x", 10**6)),
        "agreement": Target(
            (samples.AGREEMENT.canonical_bytes(), samples.NOISY_AGREEMENT.canonical_bytes()), Agreement.decode
        ),
        "agreement file": Target((document.encode(), accepted.encode()), AgreementDocument.decode),
        "agreement with signatures": Target((accepted.encode(),), _agreement_document),
        "delegation": Target((delegation.canonical_bytes(),), Delegation.decode),
        "delegation file": Target((delegated.encode(),), _delegation),
        "revocation of a delegation": Target((revoked.encode(),), DelegationRevocation.decode),
        "noisy report": Target(
            _content(samples.noisy_report().sign(samples.IDENTITY)),
            _signed(NOISY_REPORT_DOMAIN, NoisyReport.open),
            lambda report: report.sign(samples.IDENTITY).content,
        ),
        "key of PAIR": Target((b"\5" + bytes(31),), PairKey.decode),
        "pin": Target((pin.encode(),), MemberPin.decode),
        "advertiser's pin": Target((advertiser_pin.encode(),), PlatformPin.decode),
        "scope": Target(
            (canonical_json(samples.SCOPE.to_mapping()),),
            lambda c: Scope.from_mapping(decode_json(c, "scope", 10**6)).info(),
        ),
        "manifest": Target(
            _content(samples.manifest().sign(samples.IDENTITY)),
            _signed(MANIFEST_DOMAIN, Manifest.open),
            lambda manifest: manifest.sign(samples.IDENTITY).content,
        ),
        "grant": Target(
            _content(grant),
            _signed(SESSION_DOMAIN, SessionGrant.open),
            lambda found: found.sign(samples.IDENTITY).content,
        ),
        "own grant": Target(_content(grant), SessionGrant.parse),
        "receipt of a commit": Target(
            _content(samples.receipt().sign(samples.IDENTITY)),
            _signed(RECEIPT_DOMAIN, Receipt.open),
            lambda receipt: receipt.sign(samples.IDENTITY).content,
        ),
        "own noisy report": Target(
            _content(samples.noisy_report().sign(samples.IDENTITY)), NoisyReport.parse
        ),
        "list of removals": Target(
            _content(removed.sign(samples.IDENTITY)),
            _signed(REMOVALS_DOMAIN, RemovalList.open),
            lambda found: found.sign(samples.IDENTITY).content,
        ),
        "signature": Target(
            (grant.signature,),
            lambda c: open_document(KEY, SESSION_DOMAIN, SignedDocument(grant.content, c), "grant"),
        ),
        "identity key": Target((KEY,), lambda c: open_document(c, SESSION_DOMAIN, grant, "grant")),
        "note": Target((note,), lambda c: open_note(c, ORIGIN, KEY)),
        "checkpoint": Target((checkpoint.text().encode(),), _note, lambda found: found.text().encode()),
        "event": Target((event.content,), Event.decode, lambda found: found.content),
        "proof of a session": Target((canonical_json(PROOF.to_mapping()),), _open_proof),
        "proof on the wire": Target((_wire_proof_sample(),), _wire_proof),
        "inclusion proof": Target((_numbers(4, 9) + b"".join(inclusion_proof(SUBTREE, 4, 9)),), _inclusion),
        "consistency proof": Target(
            (_numbers(5, 9) + b"".join(consistency_proof(SUBTREE, 5, 9)),), _consistency
        ),
        "head of a bundle": Target(
            (BundleHead("birdsite", KEY).encode(),), BundleHead.decode, lambda head: head.encode()
        ),
        "leaf of a bundle": Target(
            (_policy_leaf(), _manifest_leaf()), OpenedLeaf.decode, lambda leaf: leaf.encode()
        ),
        "batch evidence": Target((evidence.to_bytes(),), BatchEvidence.from_bytes),
        "canonical policy": Target(
            (POLICY.canonical_bytes(),), Policy.from_canonical, lambda policy: policy.canonical_bytes()
        ),
        "policy file": Target((DEFAULT_POLICY_TOML.encode(),), _policy),
        "DLEQ proof": Target((scalars,), Proof.decode, Proof.encode),
        "scalar": Target((b"\5" + bytes(31),), decode_public_scalar, bytes),
        "elements": Target((elements,), _elements, bytes),
        "reply": Target((scalars + elements,), lambda c: EvaluateReply.decode(3, c[64:], c[:64])),
        "batch on the wire": Target((evaluate.SerializeToString(),), _evaluate),
        "commit": Target((bytes(range(64)),), CommitEntries.decode, lambda entries: entries.encode()),
        "commit on the wire": Target((commit.SerializeToString(),), _commit),
        "rows on the wire": Target((_rows_sample(),), _rows),
        "delivery id": Target((bytes(16),), parse_delivery_id, bytes),
        "segment": Target((ascending,), _segment),
        "removed tags": Target((ascending,), _removed, lambda found: found.tobytes()),
        "certificate": Target(
            (certificate.public_bytes(Encoding.PEM), certificate.public_bytes(Encoding.DER)), peer_identity
        ),
        "session receipt": Target((_receipt(),), _opened_receipt, lambda receipt: receipt.encode()),
        "saved session": Target((saved_session().encode(),), _saved_again),
        "saved batch": Target(
            (result.encode(),), lambda c: BatchResult.decode(c, True), lambda found: found.encode()
        ),
        "identifiers": Target(
            (
                *(b"Jane.Doe+x@gmail.com", b"+49 151 12345678", b"38400000-8CF0-11BD-B23E-10B96E40000D"),
                *("ü@bücher.example".encode(), b"(555) 010-0100", b"ab" * 32),
            ),
            _identifiers,
            examples=24,
        ),
        "words": Target(
            (b"two_factor", b" Granted\n", b"2019-09-17T00:00:00Z", b"2019-09-17T00:00:00.5+02:00"), _words
        ),
        "time": Target((b"2019-09-17T00:00:00Z", b"2019-W38-2T00:00+02:00"), _of_text(read_time)),
        "origin": Target((b"two_factor",), _of_text(parse_origin)),
        "kind": Target((b"email",), _of_text(parse_kind)),
        "address": Target((b"127.0.0.1:7443", b"[::1]:0"), _of_text(ListenAddress.parse)),
        "reference to a key": Target((b"file:keys/root.key", b"env:ROOT"), _of_text(KeyReference.parse)),
        "root key": Target((b"ab" * 32, b"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="), _root_key),
    }
