"""Answers of a platform that sends anything: refused with an error of ours, or harmless on a terminal."""

import copy
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import answer_documents
import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from fake_platform import PLATFORM_ID, PURPOSE, certify
from hypothesis import given
from hypothesis import strategies as st
from platforms import Done, advertiser

from purposematch.client import answers as answers_module
from purposematch.client import ask_audit, ask_impact, ask_status, ask_subject, publish
from purposematch.protocol.credentials import MemberPin
from purposematch.protocol.errors import (
    DecodeError,
    IntegrityError,
    LimitError,
    PurposematchError,
    RefusedError,
    UnavailableError,
    VerificationError,
)
from purposematch.v1 import administration_pb2 as administration
from purposematch.v1 import answers_pb2 as answers

MEBIBYTE = 2**20
QUESTIONS: dict[str, Callable[..., Any]] = {
    "GetSubject": lambda **where: ask_subject("ada", **where),
    "GetImpact": ask_impact,
    "Audit": ask_audit,
    "GetStatus": ask_status,
    "Publish": publish,
}


@dataclass
class Nonsense(grpc.GenericRpcHandler):
    """Sends `parts`, bytes as they are, or ends every call with `code` and `said`."""

    folder: Path
    parts: list[bytes] = field(default_factory=list)
    code: grpc.StatusCode | None = None
    said: str = ""
    silent: threading.Event | None = None
    address: str = ""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def one(request: bytes, context: grpc.ServicerContext) -> bytes:
            self._refuse(context)
            return b"".join(self.parts)

        def several(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            self._refuse(context)
            yield from self.parts

        if details.method.endswith("/GetSubject"):
            return grpc.unary_stream_rpc_method_handler(several)
        return grpc.unary_unary_rpc_method_handler(one)

    def _refuse(self, context: grpc.ServicerContext) -> None:
        if self.silent is not None:
            self.silent.wait(60)
        if self.code is not None:
            context.abort(self.code, self.said)

    def answer(self, *messages: Any) -> None:
        """Says these messages, and nothing else that was said before."""
        self.parts = [each if isinstance(each, bytes) else each.SerializeToString() for each in messages]
        self.code, self.said = None, ""

    @property
    def where(self) -> dict[str, Any]:
        return {"platform": self.address, "credentials": self.folder}

    def ask(self, *question: str) -> Done:
        return advertiser(*question, "--platform", self.address, "--credentials", self.folder)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nonsense]:
    folder = tmp_path_factory.mktemp("operator")
    authority = certify("authority")
    server_key = certify("platform.example", authority, usage=ExtendedKeyUsageOID.SERVER_AUTH)
    client = certify("ops", authority, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    pin = MemberPin(PLATFORM_ID, secrets.token_bytes(32), "platform.example")
    (folder / "platform.json").write_bytes(pin.encode())
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "client.pem").write_bytes(client.pem)
    (folder / "client.key").write_bytes(client.key_pem)
    (folder / "client.key").chmod(0o600)
    talker = Nonsense(folder)
    unbounded = [("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(4), handlers=[talker], options=unbounded)
    tls = grpc.ssl_server_credentials(
        [(server_key.key_pem, server_key.pem)], authority.pem, require_client_auth=True
    )
    talker.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', tls)}"
    server.start()
    yield talker
    server.stop(None).wait()


@pytest.fixture
def talker(serving: Nonsense) -> Nonsense:
    serving.answer()
    return serving


def said(document: Any) -> bytes:
    return json.dumps(document).encode()


def message(method: str, document: bytes) -> Any:
    """An answer with a document."""
    return {
        "GetSubject": lambda: answers.GetSubjectResponse(content=document),
        "GetImpact": lambda: answers.GetImpactResponse(document=document),
        "Audit": lambda: answers.AuditResponse(passed=True, document=document),
        "GetStatus": lambda: administration.GetStatusResponse(document=document),
    }[method]()


DOCUMENTS: dict[str, Any] = {
    "GetSubject": answer_documents.SUBJECTS,
    "GetImpact": answer_documents.IMPACT,
    "Audit": answer_documents.AUDIT,
    "GetStatus": answer_documents.STATUS,
}


@pytest.mark.parametrize("method", DOCUMENTS)
def test_what_is_right_is_given_as_it_is(talker: Nonsense, method: str) -> None:
    talker.answer(message(method, said(DOCUMENTS[method])))
    assert QUESTIONS[method](**talker.where) == DOCUMENTS[method]


@pytest.mark.parametrize("method", DOCUMENTS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}{}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"leaves": NaN}',
        b'{"leaves": 1e999}',
        b'{"leaves": 1, "leaves": 1}',
        b'{"leaves": ' + b"9" * 5_000 + b"}",
        b'{"leaves": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"planted": "planted"}',
    ],
    ids=lambda content: content[:20],
)
def test_a_document_that_is_none_is_refused(talker: Nonsense, method: str, content: bytes) -> None:
    talker.answer(message(method, content))
    with pytest.raises(DecodeError, match="use the same version of purposematch on both sides") as caught:
        QUESTIONS[method](**talker.where)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("method", QUESTIONS)
def test_bytes_that_are_no_message_are_refused(talker: Nonsense, method: str) -> None:
    talker.answer(b"\xff\xff\xff\xff")
    with pytest.raises(UnavailableError, match="bytes that are no message"):
        QUESTIONS[method](**talker.where)


@pytest.mark.parametrize("method", QUESTIONS)
@given(content=st.binary(max_size=200))
def test_any_bytes_end_in_an_error_of_ours(serving: Nonsense, method: str, content: bytes) -> None:
    serving.answer(content)
    with pytest.raises(PurposematchError):
        QUESTIONS[method](**serving.where)


@pytest.mark.parametrize("method", QUESTIONS)
def test_nothing_at_all_is_refused(talker: Nonsense, method: str) -> None:
    talker.answer()
    with pytest.raises(DecodeError):
        QUESTIONS[method](**talker.where)


def test_the_parts_of_a_document_are_put_together(talker: Nonsense) -> None:
    content = said(DOCUMENTS["GetSubject"])
    talker.answer(*(message("GetSubject", content[at : at + 7]) for at in range(0, len(content), 7)))
    assert ask_subject("ada", **talker.where) == DOCUMENTS["GetSubject"]


def test_what_is_too_long_is_refused(talker: Nonsense) -> None:
    talker.answer(*[message("GetSubject", b" " * MEBIBYTE)] * 33)
    with pytest.raises(LimitError, match="longer than this program reads; ask on the platform's own machine"):
        ask_subject("ada", **talker.where)
    for method in QUESTIONS:
        talker.answer(message(method, b" " * 5 * MEBIBYTE) if method in DOCUMENTS else b" " * 5 * MEBIBYTE)
        with pytest.raises(LimitError, match="longer than this program reads"):
            QUESTIONS[method](**talker.where)


def test_the_answer_to_another_question_is_refused(talker: Nonsense) -> None:
    talker.answer(message("GetSubject", said(DOCUMENTS["GetSubject"])))
    with pytest.raises(VerificationError, match="somebody else"):
        ask_subject("ben", **talker.where)
    # Whoever is named with an identifier is not known before.
    assert ask_subject(identifier="ben@example.com", **talker.where)["subjects"]
    other = {**DOCUMENTS["GetStatus"], "platform_id": "birdsite"}
    talker.answer(message("GetStatus", said(other)))
    with pytest.raises(VerificationError, match="another platform"):
        ask_status(**talker.where)


TIME = "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("asked", "selection"),
    [
        ({"origins": ["Signup", "two_factor"]}, {"origins": ["signup", "two_factor"]}),
        ({"purposes": ["marketing"]}, {"purposes": ["marketing"]}),
        ({"notices": ["a", "b"]}, {"notices": ["a", "b"]}),
        ({"sources": ["a"]}, {"sources": ["a"]}),
        ({"issuers": [""]}, {"issuers": [""]}),
        ({"received_from": "2026-01-31T13:00:00+01:00"}, {"received_from": TIME}),
        ({"received_to": TIME}, {"received_to": TIME}),
        ({"as_of": TIME}, None),
        ({"advertiser": "acme"}, None),
    ],
)
def test_a_filter_that_was_not_heeded_is_noticed(
    talker: Nonsense, asked: dict[str, Any], selection: dict[str, Any] | None
) -> None:
    document = DOCUMENTS["GetImpact"]
    heeded = document | (asked if selection is None else {"selection": selection})
    talker.answer(message("GetImpact", said(heeded)))
    assert ask_impact(**asked, **talker.where) == heeded
    with pytest.raises(VerificationError, match="another question"):
        ask_impact(**talker.where)
    others = [document]
    if selection is not None:
        ((name, value),) = selection.items()
        changed = [*value, "c"] if isinstance(value, list) else value.replace("2026", "2025")
        others.append(document | {"selection": {name: changed}})
    for other in others:
        talker.answer(message("GetImpact", said(other)))
        with pytest.raises(VerificationError, match="another question"):
            ask_impact(**asked, **talker.where)
    if selection is not None and isinstance(value, str):
        talker.answer(message("GetImpact", said(document | {"selection": {name: "planted"}})))
        with pytest.raises(DecodeError, match="a time in the platform's answer is none"):
            ask_impact(**asked, **talker.where)


HOSTILE = "\x1b[2J\x9b\u202e\nevil"


def hostile(value: Any) -> Any:
    """The same document with commands for a terminal in every text but the subject's id."""
    if isinstance(value, dict):
        return {
            name: each if name in ("subject_id", "platform_id") else hostile(each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("method", "question"),
    [
        ("GetSubject", ("ask", "subject", "--identifier", "ada@example.com")),
        ("GetImpact", ("ask", "impact")),
        ("GetStatus", ("ask", "status")),
    ],
)
def test_a_terminal_is_told_nothing(talker: Nonsense, method: str, question: tuple[str, ...]) -> None:
    document = hostile(copy.deepcopy(DOCUMENTS[method]))
    talker.answer(message(method, said(document)))
    shown = talker.ask(*question)
    assert shown.code == 0, shown.stderr
    assert "?[2J???evil" in shown.stdout.replace("\n", "")
    assert all(line.isprintable() for line in shown.stdout.splitlines())
    whole = talker.ask(*question, "--json")
    assert whole.document == document
    assert whole.stdout[:-1].isprintable()


def test_what_an_audit_found_is_told_in_one_short_line(talker: Nonsense) -> None:
    talker.answer(answers.AuditResponse(problem=HOSTILE + "x" * 5_000))
    done = talker.ask("ask", "audit", "--json")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the platform's audit failed: ?[2J???evilxxx")
    assert len(done.stderr) < 1_100
    assert done.stderr[:-1].isprintable()
    with pytest.raises(IntegrityError):
        ask_audit(**talker.where)
    document = said(DOCUMENTS["Audit"])
    for both in (
        answers.AuditResponse(document=document),
        answers.AuditResponse(passed=True, problem="planted", document=document),
    ):
        talker.answer(both)
        with pytest.raises(DecodeError, match="neither passed nor failed"):
            ask_audit(**talker.where)


def test_a_generation_that_is_none_is_refused(talker: Nonsense) -> None:
    right = {
        "id": "ab" * 16,
        "purpose": PURPOSE,
        "profile": "plain-v1",
        "epoch": 2,
        "count": 20,
    }
    talker.answer(administration.PublishResponse(generation=administration.Generation(**right)))
    scope = {"platform_id": PLATFORM_ID, "purpose": PURPOSE, "profile": "plain-v1", "epoch": 2}
    assert publish(**talker.where) == {"generation": right["id"], "scope": scope, "count": 20}
    for wrong in (
        {"id": "AB" * 16},
        {"id": HOSTILE},
        {"purpose": HOSTILE},
        {"purpose": ""},
        {"profile": "planted"},
        {"epoch": 2**64 - 1},
    ):
        talker.answer(administration.PublishResponse(generation=administration.Generation(**right | wrong)))
        with pytest.raises(DecodeError, match="the same version") as caught:
            publish(**talker.where)
        assert "planted" not in str(caught.value)


@pytest.mark.parametrize("method", QUESTIONS)
@pytest.mark.parametrize("code", [each for each in grpc.StatusCode if each is not grpc.StatusCode.OK])
def test_every_status_is_an_error_that_says_what_to_do(
    talker: Nonsense, method: str, code: grpc.StatusCode
) -> None:
    talker.code = code
    for text in ("", HOSTILE + "x" * 5_000):
        talker.said = text
        with pytest.raises((RefusedError, UnavailableError, LimitError)) as caught:
            QUESTIONS[method](**talker.where)
        shown = str(caught.value)
        assert shown.isprintable()
        assert len(shown) < 400
        # What was said is shown of a refusal alone, and nothing here is a match.
        assert ("evil" in shown) == (bool(text) and code is grpc.StatusCode.FAILED_PRECONDITION)
        assert not {"session", "agreement", "advertiser", "matches"} & set(shown.replace(",", "").split())


@pytest.mark.parametrize("method", ["GetSubject", "GetStatus"])
def test_silence_ends(talker: Nonsense, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "SILENCE_SECONDS", 0.2)
    talker.silent = threading.Event()
    try:
        with pytest.raises(UnavailableError, match="did not answer in time; try again later"):
            QUESTIONS[method](**talker.where)
    finally:
        talker.silent.set()
        talker.silent = None
