"""Calls that nobody expects: every method of every service, by every role, with messages that are valid, out
of place, repeated, spoiled, cut, too large or missing.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from random import Random
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from mutations import ODD_TEXTS, spoil_bytes

from purposematch.protocol.delivery import COLUMNS
from purposematch.v1 import (
    administration_pb2,
    answers_pb2,
    enrollment_pb2,
    log_pb2,
    matching_pb2,
    one_shot_matching_pb2,
)

__all__ = ["METHODS", "SECONDS", "Call", "Ended", "Known", "Stranger", "drained"]

_FILES: Any = (
    *(administration_pb2, answers_pb2, enrollment_pb2, log_pb2, matching_pb2),
    one_shot_matching_pb2,
)
METHODS: list[MethodDescriptor] = [
    method
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
SLOW = ("Audit", "Publish")
"""What takes a second, and is asked for now and then only."""
OFTEN = ("OpenSession", "Evaluate", "Commit", "Exchange")
HUGE = 3 * 2**20
SECONDS = 300.0
SHORT_SECONDS = 0.1

_TEXTS = [text for text in ODD_TEXTS if text.isprintable() and len(text) < 6_000]
_NUMBERS = (0, 1, 2, 3, 64, 255, 256, 257, 1_000, 1_064, 2**31 - 1, 2**31, 2**32 - 1)
_LARGE = (*_NUMBERS, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass
class Known:
    """What a stranger may have learned.

    Attributes:
        agreements: digests of agreements, by role.
        elements: valid encoded elements, 32 bytes each.
        commits: sessions, and entries that each would take.
        sessions: ids of sessions, whoever opened them.
        segments: addresses of segments.
        sent: what was sent before: a method and its messages.
    """

    agreements: dict[str, bytes]
    elements: bytes
    commits: list[tuple[bytes, bytes]]
    sessions: list[bytes] = field(default_factory=lambda: [bytes(16)])
    segments: list[bytes] = field(default_factory=lambda: [bytes(32)])
    sent: list[tuple[MethodDescriptor, list[bytes]]] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """A method, who calls it, with what, and whether the call is given up: before an answer, or after one."""

    method: MethodDescriptor
    role: str
    messages: list[bytes]
    given_up: str = ""


@dataclass(frozen=True)
class Ended:
    """How a call ended, and what came before."""

    call: Call
    code: grpc.StatusCode
    text: str
    answers: list[bytes]


class Stranger:
    """Makes up calls, and makes them.

    Args:
        channels: by role.
        known: what it knows; grows.
        random: decides everything.
    """

    def __init__(self, channels: dict[str, grpc.Channel], known: Known, random: Random) -> None:
        self._channels = channels
        self._known = known
        self._random = random
        self.role = ""

    def call(self) -> Call:
        """The next call."""
        random, known = self._random, self._known
        role = self.role = random.choice([*sorted(self._channels), "acme", "acme", "acme"])
        if known.sent and not random.randrange(5):
            method, messages = random.choice(known.sent)
        else:
            method = random.choice(self._methods(role))
            count = random.choice((0, 1, 1, 2, 3, 5)) if method.client_streaming else 1
            make = _MAKE.get(method.name, _nothing)
            messages = [make(self, GetMessageClass(method.input_type)()) for _ in range(count)]
            if method.name == "Enroll" and random.randrange(2):
                messages = self._delivery()
            if method.name == "Exchange" and random.randrange(2):
                messages = self._exchange()
        match random.randrange(14):
            case 0 | 1 if messages:
                at = random.randrange(len(messages))
                messages = [*messages[:at], spoil_bytes(messages[at], random), *messages[at + 1 :]]
            case 2:
                messages = [*messages, *messages]
            case 3 if messages:
                messages = [*messages[:-1], bytes(HUGE)]
            case 4 if method.client_streaming or not random.randrange(4):
                messages = messages[:-1]
            case 5:
                random.shuffle(messages)
        given_up = random.choice(("", "", "", "", "", "", "", "at once", "later"))
        known.sent.append((method, messages))
        del known.sent[:-40]
        return Call(method, role, messages, given_up)

    def _methods(self, role: str) -> list[MethodDescriptor]:
        """Mostly what the role may call."""
        wanted = _SERVICES.get(role, "")
        own = [method for method in METHODS if method.containing_service.name in wanted]
        chosen = own if own and self._random.randrange(4) else METHODS
        chosen = chosen + [method for method in chosen if method.name in OFTEN] * 2
        return [method for method in chosen if method.name not in SLOW or not self._random.randrange(12)]

    def begin(self, call: Call) -> Any:
        """Starts a call; all kinds look alike on the wire."""
        name = f"/{call.method.containing_service.full_name}/{call.method.name}"
        # gRPC's server lets a call wait for the message that its method takes.
        waits = not call.messages and not call.method.client_streaming
        made = self._channels[call.role].stream_stream(name)
        begun = made(iter(call.messages), timeout=SHORT_SECONDS if waits else SECONDS)
        if call.given_up == "at once":
            begun.cancel()
        return begun

    def end(self, call: Call, begun: Any) -> Ended:
        """Waits for the end of a call, and learns from it."""
        answers: list[bytes] = []
        try:
            for answer in begun:
                answers.append(answer)
                if call.given_up == "later":
                    begun.cancel()
        except grpc.RpcError:
            pass
        self._learn(call.method, answers)
        return Ended(call, begun.code(), begun.details() or "", answers)

    def _learn(self, method: MethodDescriptor, answers: Sequence[bytes]) -> None:
        if method.name == "OpenSession" and answers:
            opened = matching_pb2.OpenSessionResponse.FromString(answers[0])
            manifest = json.loads(opened.manifest.content)
            self._known.sessions.append(bytes.fromhex(json.loads(opened.grant.content)["session"]))
            self._known.segments.append(bytes.fromhex(manifest["segments"][0]["sha256"]))

    # What messages are filled with.

    def bytes_of(self, usual: Sequence[bytes]) -> bytes:
        """Mostly one of the usual values, the last ones most often."""
        match self._random.randrange(12):
            case 0:
                return self._random.randbytes(self._random.choice((0, 1, 15, 16, 17, 31, 32, 33)))
            case 1 | 2 | 3:
                return self._random.choice(usual)
            case _:
                return self._random.choice(usual[-4:])

    def session(self) -> bytes:
        """A session, of whoever it is."""
        return self.bytes_of(self._known.sessions)

    def id(self) -> bytes:
        """An id of a commit or a delivery: one of few, so that some come twice."""
        return self.bytes_of([bytes([number]) * 16 for number in range(6)])

    def number(self) -> int:
        """A number of 32 bits."""
        return self._random.choice(_NUMBERS) if self._random.randrange(3) else self._random.randrange(6)

    def large(self) -> int:
        """A number of 64 bits."""
        return self._random.choice(_LARGE) if self._random.randrange(3) else self._random.randrange(40)

    def elements(self) -> bytes:
        """A batch."""
        start = 32 * self._random.randrange(200)
        content = self._known.elements[start : start + 32 * self._random.choice((0, 1, 2, 64, 64, 256, 300))]
        return content if self._random.randrange(8) else spoil_bytes(content, self._random)

    def entries(self) -> bytes:
        """A part of a commit."""
        _, content = self._random.choice(self._known.commits)
        content = content[: 32 * self._random.choice((0, 1, 5, 1_000))]
        return content if self._random.randrange(4) else spoil_bytes(content, self._random)

    def commit(self) -> tuple[bytes, bytes]:
        """A session, and entries that it would take."""
        return self._random.choice(self._known.commits)

    def text(self, *usual: str) -> str:
        """Mostly one of the usual texts."""
        return self._random.choice(usual if usual and self._random.randrange(4) else _TEXTS)

    def segment(self) -> bytes:
        """The address of a segment."""
        return self.bytes_of(self._known.segments)

    def agreement(self) -> bytes:
        """The digest of an agreement, mostly of the one who calls."""
        usual = list(self._known.agreements.values())
        own = self._known.agreements.get(self.role)
        return own if own and self._random.randrange(6) else self.bytes_of(usual)

    def size(self) -> int:
        """The size of a list, mostly one that may be."""
        return self._random.choice((1_000, 1_064, 5_000, 999)) if self._random.randrange(5) else self.large()

    def rows(self, names: Sequence[str]) -> Any:
        """Some rows, of some columns."""
        count = self._random.choice((0, 1, 3, 20))
        columns = []
        for name in names:
            if not self._random.randrange(15):
                continue
            usual = _CELLS.get(name, ("",))
            cells = [self.text(*usual) if self._random.randrange(6) == 0 else usual[0] for _ in range(count)]
            if name == "subject_id":
                cells = [f"f{self._random.randrange(30)}" for _ in cells]
            columns.append(enrollment_pb2.Column(name=name, cells=cells))
        return enrollment_pb2.Rows(columns=columns)

    def _delivery(self) -> list[bytes]:
        """A whole delivery, nearly right."""
        rows = self.rows(COLUMNS)
        count = len(rows.columns[0].cells) if rows.columns else 0
        header = enrollment_pb2.DeliveryHeader(delivery_id=self.id(), region=self.text("", "US", "DE"))
        parts = [
            enrollment_pb2.EnrollRequest(header=header),
            enrollment_pb2.EnrollRequest(rows=rows),
            enrollment_pb2.EnrollRequest(end=enrollment_pb2.DeliveryEnd(rows=count)),
        ]
        return [part.SerializeToString() for part in parts]

    def chunk(self) -> Any:
        """A chunk of an exchange by VOLE, now and then of a length that one may have."""
        length = self._random.choice((0, 1, 31, 64, 4_128, 4_128, 32_640, 40_000, 1 << 20))
        content = (self._known.elements * (1 + length // max(1, len(self._known.elements))))[:length]
        if self._random.randrange(2):
            content = self._random.randbytes(length)
        number = self.number() if not self._random.randrange(4) else self._random.randrange(3)
        return one_shot_matching_pb2.ExchangeChunk(number=number, content=content)

    def beginning(self) -> Any:
        """The beginning of an exchange by VOLE."""
        return one_shot_matching_pb2.ExchangeBegin(session_id=self.session(), commit_id=self.id())

    def _exchange(self) -> list[bytes]:
        """An exchange as far as somebody comes who does not compute."""
        parts = [one_shot_matching_pb2.ExchangeRequest(begin=self.beginning())]
        parts += [one_shot_matching_pb2.ExchangeRequest(chunk=self.chunk()) for _ in range(3)]
        return [part.SerializeToString() for part in parts]

    def coin(self) -> bool:
        """True or false."""
        return self._random.randrange(2) == 1


_SERVICES = {
    "acme": ("MatchingService", "OneShotMatchingService", "LogService"),
    "rival": ("MatchingService",),
    "operator": ("AdministrationService", "AnswerService", "EnrollmentService"),
    "auditor": ("AnswerService", "LogService"),
    "collector": ("EnrollmentService",),
}
_USE = "marketing.advertising.third_party.targeted"
_CELLS: dict[str, tuple[str, ...]] = {
    "kind": ("email", "phone", "maid"),
    "value": ("somebody@example.com", "+4915112345678", "ab" * 32, "user3@example.com"),
    "value_format": ("raw", "sha256"),
    "purposes": (_USE, "essential.service.security", f"{_USE};marketing"),
    "origin": ("signup", "two_factor"),
    "status": ("granted", "withdrawn", "renewed"),
    "not_before": ("", "2024-01-01T00:00:00Z"),
    "expires_at": ("", "2034-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"),
    "hash_profile": ("", "uid2-v1"),
}


def _nothing(_stranger: Stranger, message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _filled(**fields: Callable[[Stranger], Any]) -> Callable[[Stranger, Any], bytes]:
    """Makes a message."""

    def make(stranger: Stranger, message: Any) -> bytes:
        values = {name: give(stranger) for name, give in fields.items()}
        return bytes(type(message)(**values).SerializeToString())

    return make


def _subject(stranger: Stranger, message: Any) -> bytes:
    if stranger.coin():
        message.subject_id = stranger.text("s1", "s2", "f3")
    else:
        message.identifier.kind = stranger.text("", "email", "phone")
        message.identifier.value = stranger.text("user1@example.com", "ab" * 32, "+4915112345678")
        message.identifier.region = stranger.text("", "US")
    return bytes(message.SerializeToString())


def _impact(stranger: Stranger, message: Any) -> bytes:
    usual = {
        "origins": ("signup", "two_factor"),
        "purposes": (_USE,),
        "notices": ("n1",),
        "sources": ("default", "collector"),
        "issuers": ("signup-service",),
    }
    for name, texts in usual.items():
        getattr(message, name).extend(
            stranger.text(*texts) for _ in repeat(None, 1 if stranger.coin() else 0)
        )
    for name in ("received_from", "received_to", "as_of"):
        if stranger.coin() and stranger.coin():
            setattr(message, name, stranger.text("2024-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"))
    if stranger.coin() and stranger.coin():
        message.advertiser = stranger.text("acme", "rival")
    return bytes(message.SerializeToString())


def _inclusion(stranger: Stranger, message: Any) -> bytes:
    message.tree_size = stranger.large()
    if stranger.coin():
        message.index = stranger.large()
    else:
        message.leaf_hash = stranger.segment()
    return bytes(message.SerializeToString())


def _commit(stranger: Stranger, message: Any) -> bytes:
    if stranger.coin():
        return _part(stranger, message)
    message.session_id, message.entries = stranger.commit()
    message.commit_id = stranger.id()
    return bytes(message.SerializeToString())


def _exchange(stranger: Stranger, message: Any) -> bytes:
    if stranger.coin():
        message.begin.CopyFrom(stranger.beginning())
    else:
        message.chunk.CopyFrom(stranger.chunk())
    return bytes(message.SerializeToString())


_part = _filled(session_id=Stranger.session, commit_id=Stranger.id, entries=Stranger.entries)


def _enroll(stranger: Stranger, message: Any) -> bytes:
    match stranger.number() % 4:
        case 0:
            message.header.delivery_id = stranger.id()
            message.header.batch_evidence = stranger.text("", "{}").encode()
            message.header.region = stranger.text("", "US")
        case 1:
            message.end.rows = stranger.large()
        case _:
            message.rows.CopyFrom(stranger.rows(COLUMNS))
    return bytes(message.SerializeToString())


_NAMING = ("subject_id", "kind", "value", "value_format", "hash_profile")
_MAKE: dict[str, Callable[[Stranger, Any], bytes]] = {
    "OpenSession": _filled(
        agreement_digest=Stranger.agreement,
        list_size=Stranger.size,
        engine=lambda s: s.number() % 5,
        cached=Stranger.large,
    ),
    "Exchange": _exchange,
    "Evaluate": _filled(
        session_id=Stranger.session, batch_number=Stranger.number, blinded_elements=Stranger.elements
    ),
    "FetchSegment": _filled(session_id=Stranger.session, sha256=Stranger.segment),
    "Commit": _commit,
    "GetCommit": _filled(session_id=Stranger.session, commit_id=Stranger.id),
    "CloseSession": _filled(session_id=Stranger.session),
    "FetchRemovals": _filled(epoch=Stranger.large),
    "AcknowledgeRemovals": _filled(epoch=Stranger.large, sha256=Stranger.segment),
    "GetSubject": _subject,
    "GetImpact": _impact,
    "GetInclusionProof": _inclusion,
    "GetConsistencyProof": _filled(old_size=Stranger.large, new_size=Stranger.large),
    "Enroll": _enroll,
    "Withdraw": _filled(
        delivery_id=Stranger.id,
        refusal=lambda s: s.number() % 4,
        purpose=lambda s: s.text("", _USE),
        region=lambda s: s.text("", "US"),
        named=lambda s: s.rows(_NAMING),
    ),
}


def drained(calls: Sequence[tuple[Call, Any]], stranger: Stranger) -> Iterator[Ended]:
    """The ends of calls that were begun together."""
    for call, begun in calls:
        yield stranger.end(call, begun)
