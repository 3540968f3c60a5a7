"""A platform in a few lines for tests of the client: real TLS, wire, proofs and signatures, no registry.

It answers honestly unless a test replaces one of its hooks. Nothing of `purposematch.server` is used, so
that the client is tested against the protocol and not against its own counterpart.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from purposematch.protocol.agreement import (
    DEFAULT_IDENTIFIERS_PER_SUBJECT,
    DEFAULT_RELEASE_EPSILON,
    LATEST_EXPIRY,
    Agreement,
    Disclosure,
)
from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.credentials import PlatformPin
from purposematch.protocol.errors import PeerError
from purposematch.protocol.group import SecretScalar, SodiumGroup
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.index import Segment, cut, order_by_tag
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import Event, EventKind, Opening
from purposematch.protocol.log.proofs import consistency_proof, in_memory, inclusion_proof
from purposematch.protocol.log.session_proof import manifest_fields, session_fields
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import CommitEntries, EvaluateRequest, Receipt, SessionGrant
from purposematch.protocol.platform import PlatformSession
from purposematch.protocol.poprf import EvaluationKey, evaluate, public_key
from purposematch.protocol.scalars import random_scalar
from purposematch.protocol.scope import Scope
from purposematch.protocol.signing import AdvertiserSeed, IdentitySeed, SignedDocument, identity_public_key
from purposematch.protocol.transcript import split_output, transcript_hash
from purposematch.v1 import log_pb2, log_pb2_grpc, matching_pb2_grpc
from purposematch.v1 import matching_pb2 as v1

PLATFORM_ID = "fake.example"
PURPOSE = "marketing.advertising.third_party.targeted"
GROUP = SodiumGroup()


def agreement(**changes: Any) -> Agreement:
    """An agreement with the platform, with the noise that its disclosure needs."""
    disclosure = changes.get("disclosure", Disclosure.BOTH)
    if disclosure.noisy:
        changes.setdefault("release_epsilon", DEFAULT_RELEASE_EPSILON)
    if disclosure is Disclosure.COUNT:
        changes.setdefault("identifiers_per_subject", DEFAULT_IDENTIFIERS_PER_SUBJECT)
    fields: dict[str, Any] = {
        "platform_id": PLATFORM_ID,
        "advertiser": "acme",
        "legal_entity": "acme",
        "number": 1,
        "purpose": PURPOSE,
        "profile": Profile.PLAIN,
        "disclosure": Disclosure.BOTH,
        "expires_at": LATEST_EXPIRY,
        "min_list_elements": 3,
        "max_list_elements": 100_000,
    }
    return Agreement(**(fields | changes))


@dataclass
class Certified:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def certify(
    name: str, issuer: Certified | None = None, *, days: int = 1, usage: x509.ObjectIdentifier | None = None
) -> Certified:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Certified(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def pass_through(message: Any) -> Any:
    return message


class FakeLog:
    """A log in memory; what is appended is an event, or anything."""

    def __init__(self) -> None:
        self.openings: list[Opening] = []

    def append(self, event: Event) -> int:
        self.openings.append(Opening.of(event, secrets.token_bytes))
        return len(self.openings) - 1

    @property
    def hashes(self) -> Any:
        content = b"".join(opening.leaf_hash() for opening in self.openings)
        return np.frombuffer(content, np.uint8).reshape(-1, 32)

    def checkpoint(self, seed: IdentitySeed) -> bytes:
        hashes = self.hashes
        return Checkpoint(log_origin(PLATFORM_ID), len(hashes), in_memory(hashes)(0, len(hashes))).sign(seed)

    def leaf(self, index: int) -> log_pb2.LeafProof:
        opening, hashes = self.openings[index], self.hashes
        return log_pb2.LeafProof(
            index=index,
            salt=opening.salt,
            event=opening.content,
            hashes=inclusion_proof(in_memory(hashes), index, len(hashes)),
        )


@dataclass
class FakePlatform(matching_pb2_grpc.MatchingServiceServicer, log_pb2_grpc.LogServiceServicer):
    """Enrolled are `inputs`, (n, 33). Hooks get what is about to be sent and give what is sent instead."""

    inputs: Any
    agreement: Agreement = field(default_factory=agreement)
    batch: int = 7
    window: int = 2
    segment_bits: int = 2
    profile: Profile | None = None
    left_out: int = 0
    change_grant: Callable[[dict[str, Any]], dict[str, Any]] = pass_through
    change_open: Callable[[v1.OpenSessionResponse], v1.OpenSessionResponse] = pass_through
    change_reply: Callable[[v1.EvaluateResponse], v1.EvaluateResponse] = pass_through
    change_segment: Callable[[bytes], bytes] = pass_through
    change_receipt: Callable[[dict[str, Any]], dict[str, Any]] = pass_through
    change_close: Callable[[v1.CloseSessionResponse], v1.CloseSessionResponse] = pass_through
    change_session_event: Callable[[dict[str, Any]], dict[str, Any]] = pass_through
    change_consistency: Callable[[list[bytes]], list[bytes]] = pass_through
    refuse: dict[str, grpc.StatusCode] = field(default_factory=dict)
    said: str = "what the platform says"
    end_evaluation_after: int | None = None
    lose_commit: str | None = None
    address: str = ""

    def __post_init__(self) -> None:
        self.calls: list[str] = []
        self.asked: list[tuple[int, int]] = []
        self.committed: Any = None
        self.log = FakeLog()
        self.in_flight = 0
        self.authority = certify("authority")
        self.server = certify("platform.example", self.authority, usage=ExtendedKeyUsageOID.SERVER_AUTH)
        self.client = certify("acme", self.authority, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        self.identity = IdentitySeed.generate(secrets.token_bytes)
        key = random_scalar(secrets.token_bytes)
        generation = secrets.token_bytes(16)
        scope = Scope(PLATFORM_ID, PURPOSE, self.profile or self.agreement.profile, 1)
        self.key = EvaluationKey(GROUP, POPRF, key, scope.info())
        inputs = np.concatenate([self.inputs, canary_inputs(generation)[self.left_out :]])
        tags, tokens = split_output(evaluate(GROUP, POPRF, self.key, inputs, scope.info()))
        order = order_by_tag(tags)
        self.tags = np.ascontiguousarray(tags[order])
        self.tokens = type(tokens)(tokens._content[order])
        self.segments = {
            Segment.of(part).sha256: part.tobytes() for part in cut(self.tags, self.segment_bits)
        }
        self.manifest = Manifest(
            generation=generation,
            scope=scope,
            public_key=public_key(GROUP, SecretScalar(key._content)),
            count=len(self.inputs) - self.left_out,
            watermark=bytes(32),
            published_at=2**62 - 1,
            valid_until=2**62,
            policy=bytes(32),
            taxonomy=bytes(32),
            segments=tuple(Segment.of(part) for part in cut(self.tags, self.segment_bits)),
            additions=(),
        ).sign(self.identity)
        self.name = generation.hex()

    def write_credentials(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        agreement = self.agreement
        public = identity_public_key(self.identity)
        pin = PlatformPin(agreement.platform_id, public, "platform.example", agreement.advertiser)
        (folder / "platform.json").write_bytes(pin.encode())
        document = AgreementDocument.offer(agreement, self.identity).accept(AdvertiserSeed(b"a" * 32))
        (folder / f"agreement-{agreement.number}.json").write_bytes(document.encode())
        (folder / "ca.pem").write_bytes(self.authority.pem)
        (folder / "client.pem").write_bytes(self.client.pem)
        (folder / "client.key").write_bytes(self.client.key_pem)
        (folder / "client.key").chmod(0o600)
        return folder

    @contextmanager
    def serving(self) -> Iterator["FakePlatform"]:
        server = grpc.server(ThreadPoolExecutor(4))
        matching_pb2_grpc.add_MatchingServiceServicer_to_server(self, server)
        log_pb2_grpc.add_LogServiceServicer_to_server(self, server)
        tls = grpc.ssl_server_credentials(
            [(self.server.key_pem, self.server.pem)], self.authority.pem, require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", tls)
        self.address = f"127.0.0.1:{port}"
        server.start()
        try:
            yield self
        finally:
            server.stop(None).wait()

    def _called(self, name: str, context: grpc.ServicerContext) -> None:
        self.calls.append(name)
        self._refuse(name, context)

    def _refuse(self, name: str, context: grpc.ServicerContext) -> None:
        if name in self.refuse:
            context.abort(self.refuse[name], self.said)

    def OpenSession(
        self, request: v1.OpenSessionRequest, context: grpc.ServicerContext
    ) -> v1.OpenSessionResponse:
        self._called("OpenSession", context)
        fields = {
            "session": secrets.token_bytes(16),
            "agreement": request.agreement_digest,
            "manifest": Manifest.digest(self.manifest),
            "client_certificate": self.client.certificate.fingerprint(hashes.SHA256()),
            "server_certificate": self.server.certificate.fingerprint(hashes.SHA256()),
            "list_size": request.list_size,
            "max_batch_elements": self.batch,
            "window": self.window,
        }
        self.grant = SessionGrant(**self.change_grant(fields))
        document = self.grant.sign(self.identity)
        named = manifest_fields(self.name, self.manifest.content)
        self.manifest_leaf = self.log.append(Event(EventKind.MANIFEST, 1, named))
        logged = session_fields(
            session=self.grant.session.hex(),
            advertiser=self.agreement.advertiser,
            fingerprint=self.grant.client_certificate,
            agreement=self.grant.agreement,
            generation=self.name,
            elements=self.grant.list_size,
            grant=document.content,
            log_size=len(self.log.openings),
        )
        self.session_leaf = self.log.append(Event(EventKind.SESSION, 2, self.change_session_event(logged)))
        return self.change_open(
            v1.OpenSessionResponse(
                grant=_message(document), manifest=_message(self.manifest), proof=self.proof()
            )
        )

    def proof(self) -> log_pb2.SessionProof:
        return log_pb2.SessionProof(
            checkpoint=self.log.checkpoint(self.identity),
            session=self.log.leaf(self.session_leaf),
            manifest=self.log.leaf(self.manifest_leaf),
        )

    def GetConsistencyProof(
        self, request: log_pb2.GetConsistencyProofRequest, context: grpc.ServicerContext
    ) -> log_pb2.GetConsistencyProofResponse:
        self.asked.append((request.old_size, request.new_size))
        self._refuse("GetConsistencyProof", context)
        proof = consistency_proof(in_memory(self.log.hashes), request.old_size, request.new_size)
        return log_pb2.GetConsistencyProofResponse(hashes=self.change_consistency(list(proof)))

    def Evaluate(
        self, requests: Iterator[v1.EvaluateRequest], context: grpc.ServicerContext
    ) -> Iterator[v1.EvaluateResponse]:
        self._called("Evaluate", context)
        for answered, message in enumerate(requests):
            if answered == self.end_evaluation_after:
                return
            request = EvaluateRequest.decode(message.batch_number, message.blinded_elements)
            session = PlatformSession(GROUP, self.key, self.grant)
            assert message.session_id == self.grant.session
            reply = session.evaluate(
                request.number, session.group.decode(request.blinded), secrets.token_bytes
            )
            yield self.change_reply(
                v1.EvaluateResponse(
                    batch_number=reply.number,
                    evaluated_elements=reply.evaluated.tobytes(),
                    proof=reply.proof.encode(),
                )
            )

    def FetchSegment(
        self, request: v1.FetchSegmentRequest, context: grpc.ServicerContext
    ) -> Iterator[v1.FetchSegmentResponse]:
        self._called("FetchSegment", context)
        content = self.change_segment(self.segments[request.sha256])
        for start in range(0, len(content), 24):
            yield v1.FetchSegmentResponse(content=content[start : start + 24])

    def Commit(
        self, requests: Iterator[v1.CommitRequest], context: grpc.ServicerContext
    ) -> v1.CommitResponse:
        self._called("Commit", context)
        if self.lose_commit == "on the way":
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        messages = list(requests)
        entries = CommitEntries.decode(b"".join(message.entries for message in messages))
        session = PlatformSession(GROUP, self.key, self.grant)
        try:
            rows = session.open_commit(entries, self.tags, self.tokens, self.grant.list_size)
        except PeerError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        self.committed = self.tags[rows]
        fields = {
            "session": self.grant.session,
            "commit": messages[0].commit_id,
            "generation": Manifest.open(self.manifest, identity_public_key(self.identity)).generation,
            "agreement": self.grant.agreement,
            "transcript": transcript_hash(self.grant),
            "received": len(entries),
            "committed_at": 1,
        }
        self.receipt = Receipt(**self.change_receipt(fields)).sign(self.identity)
        if self.lose_commit == "on the way back":
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return v1.CommitResponse(receipt=_message(self.receipt))

    def GetCommit(self, request: v1.GetCommitRequest, context: grpc.ServicerContext) -> v1.GetCommitResponse:
        self._called("GetCommit", context)
        if self.committed is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "none")
        return v1.GetCommitResponse(receipt=_message(self.receipt))

    def CloseSession(
        self, request: v1.CloseSessionRequest, context: grpc.ServicerContext
    ) -> v1.CloseSessionResponse:
        self._called("CloseSession", context)
        self.log.append(Event(EventKind.SESSION_END, 3, {"session": self.grant.session.hex()}))
        return self.change_close(v1.CloseSessionResponse(proof=self.proof()))


def _message(document: SignedDocument) -> v1.SignedDocument:
    return v1.SignedDocument(content=document.content, signature=document.signature)


def enrolled(emails: Sequence[str]) -> Any:
    """The private inputs of canonical e-mail addresses, (n, 33)."""
    rows = [b"\x01" + sha256(email.encode()).digest() for email in emails]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 33)
