"""An advertiser that speaks to the service message by message, so that a test can say anything to it."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from platforms import PLATFORM_ID, LivePlatform

from purposematch.client.credentials import Credentials
from purposematch.protocol.advertiser import AdvertiserSession
from purposematch.protocol.group import Bytes, SodiumGroup
from purposematch.protocol.index import order_by_tag
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import CommitEntries, EvaluateReply, Receipt, SessionGrant
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.secret import SecretArray, reveal, reveal_array
from purposematch.protocol.signing import SignedDocument
from purposematch.server.certificates import store_certificate
from purposematch.server.credentials import read_certificate
from purposematch.server.pki import Role, issue_client, load_certified_key
from purposematch.v1 import (
    administration_pb2_grpc,
    answers_pb2_grpc,
    enrollment_pb2_grpc,
    log_pb2_grpc,
    matching_pb2_grpc,
)
from purposematch.v1 import matching_pb2 as v1

GROUP = SodiumGroup()
SECONDS = 60
"""Every call's deadline."""


def load(folder: Path) -> Credentials:
    """A credentials folder."""
    return Credentials.load(folder, datetime.now(UTC))


def email_inputs(values: Sequence[str]) -> Bytes:
    """The private inputs of canonical e-mail addresses, (n, 33)."""
    rows = b"".join(b"\x01" + sha256(value.encode()).digest() for value in values)
    return np.frombuffer(rows, np.uint8).reshape(-1, 33)


def tls(credentials: Credentials) -> grpc.ChannelCredentials:
    """What the advertiser shows and trusts."""
    return grpc.ssl_channel_credentials(
        credentials.authority, reveal(credentials.key), credentials.certificate
    )


def issued(plain: LivePlatform, role: Role, name: str, **other: Any) -> grpc.ChannelCredentials:
    """What somebody shows who was given a certificate, which is recorded unless `recorded` is False.

    `other`: also a time of issue, `now`, another `authority`, or another `platform_id`; certificates of these
    are never recorded.
    """
    tls_folder = plain.data_dir / "tls"
    authority = other.get("authority") or load_certified_key(tls_folder / "ca.pem", tls_folder / "ca.key")
    platform_id = other.get("platform_id", PLATFORM_ID)
    certified = issue_client(authority, platform_id, role, name, other.get("now") or datetime.now(UTC))
    folder = plain.folder / f"issued-{secrets.token_hex(4)}"
    folder.mkdir()
    certified.write(folder / "client.pem", folder / "client.key")
    if other.get("recorded", True) and not other.keys() & {"authority", "platform_id"}:
        record(plain, folder / "client.pem")
    return grpc.ssl_channel_credentials(
        (tls_folder / "ca.pem").read_bytes(),
        (folder / "client.key").read_bytes(),
        (folder / "client.pem").read_bytes(),
    )


def record(plain: LivePlatform, file: Path) -> None:
    """Records a certificate whether or not its holder is known."""
    with plain.opened() as platform:
        now = datetime.now(UTC)
        client = read_certificate(file, platform.data_dir, platform.config.platform_id, now)
        with platform.registry.writing() as connection:
            store_certificate(platform, connection, client)


@contextmanager
def connected(
    address: str,
    credentials: Credentials,
    shown: grpc.ChannelCredentials | None = None,
    *,
    options: Sequence[tuple[str, Any]] = (),
) -> Iterator["RawClient"]:
    """Connects with the credentials, or with other ones shown."""
    usual = [("grpc.ssl_target_name_override", credentials.pin.server_name), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(address, shown or tls(credentials), [*usual, *options]) as channel:
        yield RawClient(channel, credentials)


@contextmanager
def fails(code: grpc.StatusCode) -> Iterator[list[str]]:
    """The block must end with this status; its text is put into the list."""
    details: list[str] = []
    with pytest.raises(grpc.RpcError) as caught:
        yield details
    error: Any = caught.value
    assert error.code() is code, (error.code(), error.details())
    details.append(error.details() or "")


class RawClient:
    """The stubs of one connection."""

    def __init__(self, channel: grpc.Channel, credentials: Credentials) -> None:
        self.credentials = credentials
        self.channel = channel
        self.stub: Any = matching_pb2_grpc.MatchingServiceStub(channel)
        self.log: Any = log_pb2_grpc.LogServiceStub(channel)
        self.administration: Any = administration_pb2_grpc.AdministrationServiceStub(channel)
        self.enrollment: Any = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        self.answers: Any = answers_pb2_grpc.AnswerServiceStub(channel)

    def open(self, list_size: int = 1_000) -> "RawSession":
        """Opens a session."""
        agreement = self.credentials.agreement.digest
        request = v1.OpenSessionRequest(agreement_digest=agreement, list_size=list_size)
        answer = self.stub.OpenSession(request, timeout=SECONDS)
        return RawSession(self, answer, list_size)

    def parts(self, session: bytes, sha256: bytes) -> bytes:
        """The bytes of a segment."""
        request = v1.FetchSegmentRequest(session_id=session, sha256=sha256)
        return b"".join(part.content for part in self.stub.FetchSegment(request, timeout=SECONDS))


@dataclass
class RawSession:
    """One open session."""

    client: RawClient
    answer: Any
    list_size: int
    grant: SessionGrant = field(init=False)
    manifest: Manifest = field(init=False)
    protocol: AdvertiserSession = field(init=False)

    def __post_init__(self) -> None:
        key = self.client.credentials.pin.identity_key
        self.grant = SessionGrant.open(_document(self.answer.grant), key)
        self.manifest = Manifest.open(_document(self.answer.manifest), key)
        seed = SessionSeed(secrets.token_bytes(32))
        self.protocol = AdvertiserSession(GROUP, self.grant, self.manifest, seed, self.list_size)

    @property
    def id(self) -> bytes:
        """The session's id."""
        return self.grant.session

    def message(self, number: int, elements: bytes) -> Any:
        """A message of one batch."""
        return v1.EvaluateRequest(session_id=self.id, batch_number=number, blinded_elements=elements)

    def send(self, *messages: Any) -> list[Any]:
        """Evaluates messages in one stream; the answers."""
        return list(self.client.stub.Evaluate(iter(messages), timeout=SECONDS))

    def run(self, inputs: Bytes) -> tuple[Bytes, SecretArray]:
        """Has a whole list evaluated, honestly; tags and tokens of all of it and of the canaries."""
        assert len(inputs) == self.list_size
        everything = np.concatenate([inputs, self.protocol.canaries])
        messages = []
        for number in range(self.protocol.batches):
            first, stop = self.protocol.bounds(number)
            request = self.protocol.request(number, everything[first:stop])
            messages.append(self.message(number, request.blinded.tobytes()))
        tags, tokens = np.empty((len(everything), 16), np.uint8), np.empty((len(everything), 32), np.uint8)
        for reply in self.send(*messages):
            decoded = EvaluateReply.decode(reply.batch_number, reply.evaluated_elements, reply.proof)
            evaluation = self.protocol.reply(decoded)
            rows = slice(evaluation.first, evaluation.first + len(evaluation.tags))
            tags[rows], tokens[rows] = evaluation.tags, reveal_array(evaluation.tokens)
        return tags, SecretArray(tokens)

    def entries(self, tags: Bytes, tokens: SecretArray, rows: Iterable[int]) -> CommitEntries:
        """The honest commit of some rows of what `run` gave."""
        at = np.array(list(rows), np.int64)
        at = at[order_by_tag(tags[at])]
        return self.protocol.commit(tags[at], SecretArray(reveal_array(tokens)[at]))

    def commit(self, entries: CommitEntries | bytes, commit_id: bytes) -> SignedDocument:
        """Commits in one message; the signed receipt."""
        content = entries if isinstance(entries, bytes) else entries.encode()
        message = v1.CommitRequest(session_id=self.id, commit_id=commit_id, entries=content)
        answer = self.client.stub.Commit(iter([message]), timeout=SECONDS)
        return _document(answer.receipt)

    def find_commit(self, commit_id: bytes) -> SignedDocument:
        """The stored receipt."""
        request = v1.GetCommitRequest(session_id=self.id, commit_id=commit_id)
        return _document(self.client.stub.GetCommit(request, timeout=SECONDS).receipt)

    def close(self) -> None:
        """Closes the session."""
        self.client.stub.CloseSession(v1.CloseSessionRequest(session_id=self.id), timeout=SECONDS)

    def receipt(self, document: SignedDocument) -> Receipt:
        """A receipt, checked against the pin."""
        return Receipt.open(document, self.client.credentials.pin.identity_key)


def _document(message: Any) -> SignedDocument:
    return SignedDocument(message.content, message.signature)
