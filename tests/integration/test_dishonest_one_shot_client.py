"""A client that does not keep to the exchange by VOLE: every departure has its code, and nothing for free."""

import os
import queue
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from platforms import LivePlatform, assertion, grants, operator
from raw_client import SECONDS, RawClient, connected, email_inputs, fails, load

from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.group import Bytes, default_group
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import CommitEntries, SessionGrant
from purposematch.protocol.one_shot import binding, demand_canaries, sizes
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.vole.engine import open_engine, why_unavailable
from purposematch.protocol.vole.party import Chunk, Party, Turn
from purposematch.v1 import matching_pb2 as v1
from purposematch.v1 import one_shot_matching_pb2 as pb
from purposematch.v1.one_shot_matching_pb2_grpc import OneShotMatchingServiceStub

pytestmark = pytest.mark.skipif(why_unavailable(os.environ) is not None, reason="no VOLE engine here")

LISTED = 1_000
COMMIT = b"c" * 16
PRECONDITION, INVALID = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED, NOT_FOUND = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def cove(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(tmp_path_factory.mktemp("cove"), silence_seconds=3)
    platform.enroll(grants(1_200))
    platform.publish()
    with platform.serving():
        yield platform
    audited = operator("audit", "--data-dir", platform.data_dir)
    assert audited.code == 0, audited.stderr


@contextmanager
def admitted(cove: LivePlatform, name: str, disclosure: str = "both", *options: str) -> Iterator["Client"]:
    folder = cove.admit(name, disclosure, "--allow-experimental", *options)
    with connected(cove.address, load(folder)) as raw:
        yield Client(raw)


class Stream:
    """One call of Exchange."""

    def __init__(self, client: "Client") -> None:
        self._sent: queue.Queue[Any] = queue.Queue()
        self.call: Any = client.stub.Exchange(iter(self._sent.get, None), timeout=SECONDS)

    def begin(self, session: bytes, commit: bytes = COMMIT) -> None:
        self.say(pb.ExchangeRequest(begin=pb.ExchangeBegin(session_id=session, commit_id=commit)))

    def chunk(self, number: int, content: bytes) -> None:
        self.say(pb.ExchangeRequest(chunk=pb.ExchangeChunk(number=number, content=content)))

    def say(self, message: Any) -> None:
        self._sent.put(message)

    def end(self) -> None:
        self._sent.put(None)

    def heard(self) -> Any:
        return next(self.call)


class Client:
    """An advertiser whose agreement allows the engine."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self.credentials = raw.credentials
        channel: Any = raw.channel
        self.stub: Any = OneShotMatchingServiceStub(channel)
        self.engine = open_engine(default_group(1, os.environ), os.environ)

    def open(self, label: bytes = b"", engine: Any = v1.ENGINE_VOLE) -> tuple[SessionGrant, Manifest]:
        digest = self.credentials.agreement.digest
        request = v1.OpenSessionRequest(agreement_digest=digest, list_size=LISTED, label=label, engine=engine)
        answer = self.raw.stub.OpenSession(request, timeout=SECONDS)
        key = self.credentials.pin.identity_key
        documents = [SignedDocument(each.content, each.signature) for each in (answer.grant, answer.manifest)]
        return SessionGrant.open(documents[0], key), Manifest.open(documents[1], key)

    def party(self, grant: SessionGrant, manifest: Manifest, inputs: Bytes) -> Any:
        agreement = self.credentials.agreement
        declared = sizes(agreement.disclosure, grant, manifest)
        make = self.engine.sender if agreement.disclosure.noisy else self.engine.receiver
        bound = binding(manifest.scope, agreement.digest, grant)
        items = np.concatenate([inputs, canary_inputs(manifest.generation)])
        return make(declared, items, bound, secrets.token_bytes)

    def exchange(self, stream: Stream, party: Party, *, until: int | None = None) -> None:
        """Runs a party until it has heard so many chunks."""
        heard = 0
        while party.turn is not Turn.DONE and heard != until:
            if party.turn is Turn.LISTEN:
                message = stream.heard().chunk
                party.receive(Chunk(message.number, message.content))
                heard += 1
                continue
            for chunk in party.outgoing():
                stream.chunk(chunk.number, chunk.content)


def own_inputs(first: int = 0) -> Bytes:
    return email_inputs([f"user{i}@example.com" for i in range(first, first + LISTED)])


@pytest.fixture(scope="module")
def client(cove: LivePlatform) -> Iterator[Client]:
    with admitted(cove, "acme") as made:
        yield made


def test_an_exchange_by_hand_gives_what_a_commit_takes(cove: LivePlatform, client: Client) -> None:
    grant, manifest = client.open()
    party, stream = client.party(grant, manifest, own_inputs(300)), Stream(client)
    stream.begin(grant.session)
    client.exchange(stream, party)
    assert list(stream.call) == []
    matches, labels = party.matches(), party.labels()
    listed = demand_canaries(matches.rows, LISTED)
    assert matches.rows[listed].tolist() == list(range(900))
    entries = labels[listed]
    entries = entries[np.lexsort(entries[:, :16].T[::-1])]
    commit = CommitEntries(np.ascontiguousarray(entries[:, :16]), np.ascontiguousarray(entries[:, 16:]))
    message = v1.CommitRequest(session_id=grant.session, commit_id=COMMIT, entries=commit.encode())
    client.raw.stub.Commit(iter([message]), timeout=SECONDS)
    assert cove.audience(grant.session.hex()) == sorted(f"s{i}" for i in range(300, 1_200))
    # In another session, the same labels prove nothing.
    other, _ = client.open()
    replayed = v1.CommitRequest(session_id=other.session, commit_id=COMMIT, entries=commit.encode())
    with fails(EXHAUSTED):
        client.raw.stub.Commit(iter([replayed]), timeout=SECONDS)


def begun(client: Client, session: bytes) -> Stream:
    stream = Stream(client)
    stream.begin(session)
    assert stream.heard().chunk.number == 0
    return stream


CASES = {
    "a chunk of another length": (lambda stream: stream.chunk(0, bytes(100)), INVALID),
    "an empty chunk": (lambda stream: stream.chunk(0, b""), INVALID),
    "a chunk that is too long": (lambda stream: stream.chunk(0, bytes((1 << 20) + 1)), EXHAUSTED),
    "another number": (lambda stream: stream.chunk(1, bytes(4_128)), PRECONDITION),
    "no points": (lambda stream: stream.chunk(0, b"\xff" * 4_128), INVALID),
    "a second beginning": (lambda stream: stream.begin(bytes(16)), INVALID),
    "nothing in a message": (lambda stream: stream.say(pb.ExchangeRequest()), INVALID),
    "the end of the stream": (lambda stream: stream.end(), INVALID),
    "silence": (lambda stream: None, grpc.StatusCode.UNAVAILABLE),
}


@pytest.mark.parametrize("what", list(CASES))
def test_departures_have_their_code_and_the_session_stays(
    cove: LivePlatform, client: Client, what: str
) -> None:
    grant, _ = client.open()
    stream = begun(client, grant.session)
    say, code = CASES[what]
    say(stream)
    with fails(code):
        list(stream.call)
    stream.end()
    row = cove.rows("SELECT state, attempts FROM session WHERE id = ?", grant.session.hex())
    assert row == [("open", 1)]
    assert cove.rows("SELECT 1 FROM batch WHERE session = ?", grant.session.hex()) == []


BEGINNINGS = {
    "no beginning": (lambda grant: pb.ExchangeRequest(chunk=pb.ExchangeChunk(content=b"x")), INVALID),
    "a short session id": (
        lambda grant: pb.ExchangeRequest(begin=pb.ExchangeBegin(session_id=b"x", commit_id=COMMIT)),
        INVALID,
    ),
    "a short commit id": (
        lambda grant: pb.ExchangeRequest(begin=pb.ExchangeBegin(session_id=grant.session, commit_id=b"x")),
        INVALID,
    ),
    "no such session": (
        lambda grant: pb.ExchangeRequest(begin=pb.ExchangeBegin(session_id=bytes(16), commit_id=COMMIT)),
        NOT_FOUND,
    ),
}


@pytest.mark.parametrize("what", list(BEGINNINGS))
def test_a_wrong_beginning_has_its_code(client: Client, what: str) -> None:
    grant, _ = client.open()
    make, code = BEGINNINGS[what]
    stream = Stream(client)
    stream.say(make(grant))
    with fails(code):
        stream.heard()
    stream.end()


def test_a_session_has_one_engine(client: Client) -> None:
    curve, _ = client.open(engine=v1.ENGINE_OPRF)
    stream = Stream(client)
    stream.begin(curve.session)
    with fails(PRECONDITION) as told:
        stream.heard()
    assert told == ["the session is not matched by VOLE"]
    stream.end()
    grant, manifest = client.open()
    batch = v1.EvaluateRequest(session_id=grant.session, blinded_elements=b"\xe2" * 32)
    with fails(PRECONDITION):
        list(client.raw.stub.Evaluate(iter([batch]), timeout=SECONDS))
    segment = v1.FetchSegmentRequest(session_id=grant.session, sha256=manifest.segments[0].sha256)
    with fails(NOT_FOUND):
        list(client.raw.stub.FetchSegment(segment, timeout=SECONDS))
    with fails(INVALID):
        client.open(engine=7)


def test_a_later_attempt_ends_an_earlier_one(client: Client) -> None:
    grant, _ = client.open()
    first = begun(client, grant.session)
    second = begun(client, grant.session)
    with fails(grpc.StatusCode.UNAVAILABLE):
        list(first.call)
    first.end()
    second.call.cancel()
    second.end()


def test_another_list_in_a_further_attempt_is_paid_for(cove: LivePlatform) -> None:
    """Whoever breaks off to try another list pays for both, and for a third there is no room."""
    with admitted(cove, "hasty", "advertiser", "--daily-elements", "2000", "--max-list", "1000") as client:
        grant, manifest = client.open()
        for attempt, first in enumerate((0, 500)):
            party, stream = client.party(grant, manifest, own_inputs(first)), Stream(client)
            stream.begin(grant.session)
            client.exchange(stream, party, until=3)  # opening, extension, outputs
            stream.call.cancel()
            stream.end()
            batches = cove.rows(
                "SELECT number, charged FROM batch WHERE session = ? ORDER BY number", grant.session.hex()
            )
            assert batches == [(number, LISTED) for number in range(attempt + 1)]
        party, stream = client.party(grant, manifest, own_inputs(900)), Stream(client)
        stream.begin(grant.session)
        with fails(EXHAUSTED) as told:
            client.exchange(stream, party)
        assert "quota" in told[0]
        stream.end()
        # What was not paid for did not leave.
        assert len(cove.rows("SELECT 1 FROM batch WHERE session = ?", grant.session.hex())) == 2
        # And what was paid twice holds back nothing that others may use.
        with fails(EXHAUSTED):
            client.open()


def test_who_withdraws_while_the_exchange_runs_is_in_no_audience(cove: LivePlatform) -> None:
    with admitted(cove, "late", "platform", "--release-epsilon", "0.01") as client:
        grant, manifest = client.open(label=bytes(32))
        party, stream = client.party(grant, manifest, own_inputs()), Stream(client)
        stream.begin(grant.session)
        client.exchange(stream, party, until=2)  # choices, trees
        cove.enroll([assertion("s7", "email", "user7@example.com", status="withdrawn")])
        client.exchange(stream, party)
        assert stream.heard().HasField("report")
        assert cove.audience(grant.session.hex()) == sorted(f"s{i}" for i in range(LISTED) if i != 7)
        # It is told once: there is no other attempt.
        again = Stream(client)
        again.begin(grant.session)
        with fails(PRECONDITION):
            again.heard()
        again.end()


def test_a_list_without_canaries_is_refused(cove: LivePlatform) -> None:
    with admitted(cove, "blind", "platform", "--release-epsilon", "0.01") as client:
        grant, manifest = client.open(label=bytes(32))
        agreement = client.credentials.agreement
        bound = binding(manifest.scope, agreement.digest, grant)
        declared = sizes(agreement.disclosure, grant, manifest)
        party = client.engine.sender(declared, own_inputs(), bound, secrets.token_bytes)
        stream = Stream(client)
        stream.begin(grant.session)
        client.exchange(stream, party)
        with fails(INVALID):
            stream.heard()
        stream.end()
        assert cove.rows('SELECT 1 FROM "commit" WHERE session = ?', grant.session.hex()) == []


def test_an_agreement_that_does_not_allow_it_is_refused_by_the_platform_too(cove: LivePlatform) -> None:
    with connected(cove.address, load(cove.admit("plain"))) as raw, fails(PRECONDITION) as told:
        Client(raw).open()
    assert told == ["the agreement does not allow experimental engines"]


def test_a_platform_without_the_engine_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURPOSEMATCH_GROUP", "sodium")
    platform = LivePlatform.create(tmp_path / "sodium", min_list_elements=1)
    platform.enroll(grants(20))
    platform.publish()
    folder = platform.admit("acme", "both", "--allow-experimental")
    with platform.serving():
        monkeypatch.delenv("PURPOSEMATCH_GROUP")
        with connected(platform.address, load(folder)) as raw:
            with fails(PRECONDITION) as told:
                Client(raw).open()
            assert told == ["the platform has no VOLE engine"]
            grant, _ = Client(raw).open(engine=v1.ENGINE_AUTO)
            assert grant.engine.value == "oprf"
