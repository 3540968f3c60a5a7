"""An advertiser of a set exchange that speaks to the service message by message, and keeps what it hears."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from raw_client import GROUP, SECONDS, RawClient, tls

from purposematch.client.credentials import Credentials
from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.group import Bytes
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.protocol.point_segments import list_name
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.set_exchange.advertiser import AdvertiserExchange
from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
from purposematch.protocol.signing import SignedDocument
from purposematch.v1 import matching_pb2 as v1
from purposematch.v1 import set_matching_pb2 as sets_v1
from purposematch.v1 import set_matching_pb2_grpc


@contextmanager
def set_stub(address: str, credentials: Credentials) -> Iterator[Any]:
    """The stub of set exchanges for the credentials."""
    options = [("grpc.ssl_target_name_override", credentials.pin.server_name), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(address, tls(credentials), options) as channel:
        yield set_matching_pb2_grpc.SetMatchingServiceStub(channel)


@dataclass
class RawSetSession:
    """One open set exchange; `heard` are the messages of the platform, by call, in their order."""

    client: RawClient
    stub: Any
    inputs: Bytes
    label: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    seed: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    heard: list[tuple[str, Any]] = field(default_factory=list)
    answer: Any = None

    def __post_init__(self) -> None:
        credentials = self.client.credentials
        agreement = credentials.agreement
        request = v1.OpenSessionRequest(
            agreement_digest=agreement.digest, list_size=len(self.inputs), label=self.label
        )
        self.answer = self.client.stub.OpenSession(request, timeout=SECONDS)
        self.heard.append(("OpenSession", self.answer))
        key = credentials.pin.identity_key
        self.grant = SessionGrant.open(_document(self.answer.grant), key)
        self.manifest = Manifest.open(_document(self.answer.manifest), key)
        self.name = list_name(agreement.disclosure, agreement.identifiers_per_subject)
        self.in_order = agreement.disclosure is Disclosure.PLATFORM
        self.protocol = self.exchange(self.seed)

    @property
    def id(self) -> bytes:
        """The session's id."""
        return self.grant.session

    def exchange(self, seed: bytes) -> AdvertiserExchange:
        """The honest half, from any seed."""
        return AdvertiserExchange(
            GROUP, self.name, self.grant, self.manifest, SessionSeed(seed), in_order=self.in_order
        )

    def own(self) -> list[OwnBatch]:
        """The honest batches of own elements."""
        batches = []
        for number in range(self.protocol.shape.own_batches):
            rows = self.inputs[self.protocol.own_numbers(number)]
            rows = np.concatenate([rows, self.protocol.own_canaries(number)])
            batches.append(self.protocol.own(number, rows))
        return batches

    def points(self) -> Bytes:
        """The platform's list, fetched and verified."""
        fetched = []
        for segment in self.manifest.point_lists[self.name]:
            request = v1.FetchSegmentRequest(session_id=self.id, sha256=segment.sha256)
            parts = list(self.client.stub.FetchSegment(request, timeout=SECONDS))
            self.heard += [("FetchSegment", part) for part in parts]
            fetched.append(segment.check(b"".join(part.content for part in parts)))
        return np.concatenate(fetched)

    def returned(self, points: Bytes, protocol: AdvertiserExchange | None = None) -> list[ReturnedBatch]:
        """The honest batches of returned points."""
        half = protocol or self.protocol
        return [
            half.give_back(number, points[half.returned_places(number)])
            for number in range(len(half.shape.segments))
        ]

    def send(self, batches: Sequence[OwnBatch]) -> list[int]:
        """Sends batches of own elements in one stream; the numbers that were answered."""
        messages = [
            sets_v1.SendElementsRequest(
                session_id=self.id,
                batch_number=batch.number,
                exponent=batch.exponent,
                elements=batch.elements.tobytes(),
            )
            for batch in batches
        ]
        answers = list(self.stub.SendElements(iter(messages), timeout=SECONDS))
        self.heard += [("SendElements", answer) for answer in answers]
        return [answer.batch_number for answer in answers]

    def give_back(self, batches: Sequence[ReturnedBatch]) -> list[int]:
        """Sends batches of returned points in one stream; the numbers that were answered."""
        messages = [
            sets_v1.ReturnPointsRequest(
                session_id=self.id,
                batch_number=batch.number,
                elements=batch.elements.tobytes(),
                proof=batch.proof.encode() if batch.proof else b"",
            )
            for batch in batches
        ]
        answers = list(self.stub.ReturnPoints(iter(messages), timeout=SECONDS))
        self.heard += [("ReturnPoints", answer) for answer in answers]
        return [answer.batch_number for answer in answers]

    def finish(self, commit: bytes = b"\x07" * 16) -> NoisyReport:
        """Has the exchange finished; the report, checked against the pin."""
        request = sets_v1.FinishExchangeRequest(session_id=self.id, commit_id=commit)
        answer = self.stub.FinishExchange(request, timeout=SECONDS)
        self.heard.append(("FinishExchange", answer))
        return NoisyReport.open(_document(answer.report), self.client.credentials.pin.identity_key)

    def find_commit(self, commit: bytes = b"\x07" * 16) -> SignedDocument:
        """The stored answer."""
        request = v1.GetCommitRequest(session_id=self.id, commit_id=commit)
        return _document(self.client.stub.GetCommit(request, timeout=SECONDS).receipt)

    def close(self) -> None:
        """Closes the session."""
        answer = self.client.stub.CloseSession(v1.CloseSessionRequest(session_id=self.id), timeout=SECONDS)
        self.heard.append(("CloseSession", answer))

    def run(self) -> NoisyReport:
        """An honest exchange from here to its end."""
        self.send(self.own())
        self.give_back(self.returned(self.points()))
        report = self.finish()
        self.close()
        return report


def _document(message: Any) -> SignedDocument:
    return SignedDocument(message.content, message.signature)
