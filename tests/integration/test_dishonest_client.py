"""What a client that does not keep to the protocol gets from the real server, and what it never gets."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from platforms import PLATFORM_ID, LivePlatform
from raw_client import RawClient, RawSession, connected, email_inputs, fails, issued, load

from purposematch.protocol.ciphersuite import ELEMENT_LENGTH
from purposematch.protocol.group import Bytes
from purposematch.protocol.messages import CommitEntries
from purposematch.protocol.secret import SecretArray
from purposematch.server.pki import Role
from purposematch.v1 import administration_pb2 as admin
from purposematch.v1 import matching_pb2 as v1

LISTED = [f"user{i}@example.com" for i in range(900)] + [f"nobody{i}@example.com" for i in range(100)]
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
PRECONDITION, EXHAUSTED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED

# RFC 9496 appendix A.3: non-canonical, negative, no square root; and the identity.
BAD_ELEMENTS = {
    "identity": bytes(32),
    "non-canonical": bytes.fromhex("00" + "ff" * 31),
    "larger than p": bytes.fromhex("f3" + "ff" * 30 + "7f"),
    "negative": bytes.fromhex("01" + "00" * 31),
    "non-square": bytes.fromhex("26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371"),
}


@pytest.fixture(scope="module")
def honest(plain: LivePlatform, acme: Path) -> Iterator[RawClient]:
    with connected(plain.address, load(acme)) as client:
        yield client


@pytest.fixture
def session(honest: RawClient) -> Iterator[RawSession]:
    opened = honest.open()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def evaluated(honest: RawClient) -> Iterator[tuple[RawSession, Bytes, SecretArray]]:
    """A session whose list was evaluated and nothing of it committed; no test here commits with success."""
    opened = honest.open()
    yield opened, *opened.run(email_inputs(LISTED))
    opened.close()


def _elements(count: int) -> bytes:
    """Valid elements."""
    from raw_client import GROUP

    uniform = np.frombuffer(secrets.token_bytes(64 * count), np.uint8).reshape(count, 64)
    return GROUP.encode(GROUP.map_to_group(uniform)).tobytes()


def _batches(plain: LivePlatform, session: RawSession) -> list[Any]:
    return plain.rows("SELECT number, elements FROM batch WHERE session = ? ORDER BY 1", session.id.hex())


def _state(plain: LivePlatform, session: RawSession) -> str:
    return str(plain.rows("SELECT state FROM session WHERE id = ?", session.id.hex())[0][0])


def _commits(plain: LivePlatform, session: RawSession) -> int:
    return int(plain.rows('SELECT count(*) FROM "commit" WHERE session = ?', session.id.hex())[0][0])


@pytest.mark.parametrize("name", BAD_ELEMENTS)
@pytest.mark.parametrize("place", ["first", "last"])
def test_an_element_that_is_none_is_refused_and_not_recorded(
    plain: LivePlatform, session: RawSession, name: str, place: str
) -> None:
    good = _elements(3)
    elements = BAD_ELEMENTS[name] + good if place == "first" else good + BAD_ELEMENTS[name]
    with fails(INVALID) as details:
        session.send(session.message(0, elements))
    assert details == ["a field of the message is malformed"]
    assert _batches(plain, session) == []
    assert _state(plain, session) == "open"
    assert len(session.send(session.message(0, good))) == 1


@pytest.mark.parametrize("length", [1, 31, 33, 63])
def test_elements_that_are_not_whole_are_refused(
    plain: LivePlatform, session: RawSession, length: int
) -> None:
    with fails(INVALID):
        session.send(session.message(0, _elements(2)[:length]))
    assert _batches(plain, session) == []


def test_a_batch_without_elements_is_refused(plain: LivePlatform, session: RawSession) -> None:
    with fails(EXHAUSTED):
        session.send(session.message(0, b""))
    assert _batches(plain, session) == []


def test_a_batch_number_out_of_range_is_refused(plain: LivePlatform, session: RawSession) -> None:
    with fails(EXHAUSTED):
        session.send(session.message(2**31, _elements(1)))
    assert _batches(plain, session) == []


def test_other_bytes_under_a_used_number_end_the_session(plain: LivePlatform, session: RawSession) -> None:
    session.send(session.message(0, _elements(5)))
    with fails(PRECONDITION):
        session.send(session.message(0, _elements(5)))
    assert _batches(plain, session) == [(0, 5)]
    assert _state(plain, session) == "ended"
    with fails(PRECONDITION):
        session.send(session.message(1, _elements(5)))


def test_the_same_bytes_again_are_answered_alike_and_free_of_charge(
    plain: LivePlatform, session: RawSession
) -> None:
    message = session.message(0, _elements(200))
    first, second = session.send(message, message)
    (third,) = session.send(message)
    answers = {answer.evaluated_elements for answer in (first, second, third)}
    assert len(answers) == 1
    assert len(answers.pop()) == 200 * ELEMENT_LENGTH
    assert _batches(plain, session) == [(0, 200)]
    # All that was declared is still there: 1,000 elements and 64 canaries.
    rest = [session.message(i, _elements(216)) for i in range(1, 5)]
    assert len(session.send(*rest)) == 4


def test_no_more_elements_are_evaluated_than_were_declared(plain: LivePlatform, session: RawSession) -> None:
    session.send(*(session.message(i, _elements(250)) for i in range(4)))
    with fails(EXHAUSTED):
        session.send(session.message(4, _elements(65)))
    session.send(session.message(4, _elements(64)))
    with fails(EXHAUSTED):
        session.send(session.message(5, _elements(1)))
    assert sum(count for _, count in _batches(plain, session)) == 1_064


def test_bad_batches_that_nobody_waits_for_are_no_errors_of_the_server(
    plain: LivePlatform, session: RawSession
) -> None:
    before = len(plain.log.read_text())
    bad = [session.message(number, b"") for number in range(8)]
    for _ in range(5):
        with fails(EXHAUSTED):
            session.send(*bad)
    # An answer to something else comes after whatever the server had to say of these.
    session.send(session.message(0, _elements(1)))
    assert "ERROR" not in plain.log.read_text()[before:]
    assert _batches(plain, session) == [(0, 1)]


def test_batches_sent_at_once_pass_no_limit_together(plain: LivePlatform, session: RawSession) -> None:
    with fails(EXHAUSTED):
        session.send(*(session.message(i, _elements(256)) for i in range(8)))
    assert sum(count for _, count in _batches(plain, session)) <= 1_064


def test_a_batch_above_the_session_s_size_is_refused(plain: LivePlatform, session: RawSession) -> None:
    assert session.grant.max_batch_elements == 256
    with fails(EXHAUSTED):
        session.send(session.message(0, _elements(257)))
    assert _batches(plain, session) == []


def test_a_message_above_the_size_limit_is_refused(session: RawSession) -> None:
    with fails(EXHAUSTED):
        session.send(session.message(0, bytes(5 * 2**20)))


@pytest.mark.parametrize("size", [0, 1, 999, 100_000_001, 2**64 - 1])
def test_a_list_of_a_size_that_was_not_agreed_opens_nothing(
    plain: LivePlatform, honest: RawClient, size: int
) -> None:
    before = plain.rows("SELECT count(*) FROM session")
    with fails(PRECONDITION):
        honest.open(size)
    assert plain.rows("SELECT count(*) FROM session") == before


def test_another_agreement_opens_nothing(honest: RawClient) -> None:
    request = v1.OpenSessionRequest(agreement_digest=bytes(32), list_size=1_000)
    with fails(PRECONDITION):
        honest.stub.OpenSession(request)
    for length in (0, 31, 33):
        request = v1.OpenSessionRequest(agreement_digest=bytes(length), list_size=1_000)
        with fails(INVALID):
            honest.stub.OpenSession(request)


@pytest.mark.parametrize("length", [0, 15, 17])
def test_ids_of_a_wrong_length_are_refused(honest: RawClient, session: RawSession, length: int) -> None:
    stub, wrong = honest.stub, bytes(length)
    calls = [
        lambda: list(
            stub.Evaluate(iter([v1.EvaluateRequest(session_id=wrong, blinded_elements=_elements(1))]))
        ),
        lambda: list(stub.FetchSegment(v1.FetchSegmentRequest(session_id=wrong, sha256=bytes(32)))),
        lambda: list(stub.FetchSegment(v1.FetchSegmentRequest(session_id=session.id, sha256=wrong))),
        lambda: stub.Commit(iter([v1.CommitRequest(session_id=wrong, commit_id=bytes(16))])),
        lambda: stub.Commit(iter([v1.CommitRequest(session_id=session.id, commit_id=wrong)])),
        lambda: stub.Commit(iter([])),
        lambda: stub.GetCommit(v1.GetCommitRequest(session_id=session.id, commit_id=wrong)),
        lambda: stub.CloseSession(v1.CloseSessionRequest(session_id=wrong)),
    ]
    for call in calls:
        with fails(INVALID):
            call()


def test_only_segments_of_the_session_s_generation_are_sent(honest: RawClient, session: RawSession) -> None:
    with fails(NOT_FOUND):
        honest.parts(session.id, bytes(32))
    (segment,) = session.manifest.segments
    assert len(honest.parts(session.id, segment.sha256)) == segment.count * 16


def _changed(entries: CommitEntries, row: int, *, tag: bytes = b"", mac: bytes = b"") -> CommitEntries:
    tags, macs = entries.tags.copy(), entries.macs.copy()
    if tag:
        tags[row] = np.frombuffer(tag, np.uint8)
    if mac:
        macs[row] = np.frombuffer(mac, np.uint8)
    return CommitEntries(tags, macs)


def test_a_commit_that_does_not_prove_itself_is_refused_whole(
    plain: LivePlatform, evaluated: tuple[RawSession, Bytes, SecretArray]
) -> None:
    session, tags, tokens = evaluated
    entries = session.entries(tags, tokens, range(5))
    twice = session.entries(tags, tokens, [0, 1, 2, 2])
    other_list = session.entries(tags, tokens, [0, 950])
    canary = session.entries(tags, tokens, [0, 1_000])
    flipped = bytes([entries.macs[2][0] ^ 1]) + entries.macs[2][1:].tobytes()
    swapped = CommitEntries(entries.tags, entries.macs[::-1].copy())
    (segment,) = session.manifest.segments
    index = session.client.parts(session.id, segment.sha256)
    own = {row.tobytes() for row in tags}
    foreign = next(index[i : i + 16] for i in range(0, len(index), 16) if index[i : i + 16] not in own)
    cases = {
        "a tag that is enrolled, and was never evaluated": _changed(entries, 2, tag=foreign),
        "a tag of nobody": _changed(entries, 2, tag=b"\x07" * 16),
        "a MAC with one bit changed": _changed(entries, 2, mac=flipped),
        "a MAC of zeros": _changed(entries, 4, mac=bytes(16)),
        "the MACs of other entries": swapped,
        "an entry twice": twice,
        "an identifier that did not match": other_list,
        "a canary": canary,
        "half an entry": entries.encode()[:-1],
    }
    told = set()
    for name, case in cases.items():
        with fails(INVALID) as details:
            session.commit(case, secrets.token_bytes(16))
        told.update(details)
        assert _commits(plain, session) == 0, name
    assert told == {"a commit does not prove what it claims", "a field of the message is malformed"}
    assert plain.audience(session.id.hex()) == []
    assert _state(plain, session) == "open"


def test_a_mac_of_another_session_proves_nothing(
    plain: LivePlatform, honest: RawClient, evaluated: tuple[RawSession, Bytes, SecretArray]
) -> None:
    session, tags, tokens = evaluated
    later = honest.open()
    later.send(later.message(0, _elements(64)))
    with fails(INVALID):
        later.commit(session.entries(tags, tokens, [0, 1]), b"y" * 16)
    assert _commits(plain, later) == 0
    # The tokens are the same ones in every session of the epoch, so this is what a commit may hold.
    assert later.receipt(later.commit(later.entries(tags, tokens, [0, 1]), b"y" * 16)).received == 2
    later.close()


def test_a_commit_has_at_most_as_many_entries_as_were_evaluated(
    plain: LivePlatform, honest: RawClient, evaluated: tuple[RawSession, Bytes, SecretArray]
) -> None:
    _, tags, tokens = evaluated
    session = honest.open()
    session.send(session.message(0, _elements(3)))
    with fails(EXHAUSTED):
        session.commit(session.entries(tags, tokens, range(4)), b"z" * 16)
    assert _commits(plain, session) == 0
    session.close()


def test_a_commit_is_idempotent_and_its_receipt_can_be_had_again(
    plain: LivePlatform, honest: RawClient, evaluated: tuple[RawSession, Bytes, SecretArray]
) -> None:
    _, tags, tokens = evaluated
    session = honest.open()
    session.send(session.message(0, _elements(100)))
    with fails(NOT_FOUND):
        session.find_commit(b"i" * 16)
    entries = session.entries(tags, tokens, range(20))
    first = session.commit(entries, b"i" * 16)
    assert session.commit(entries, b"i" * 16) == first
    assert session.find_commit(b"i" * 16) == first
    assert session.receipt(first).received == 20
    with fails(PRECONDITION):
        session.commit(session.entries(tags, tokens, range(19)), b"i" * 16)
    with fails(PRECONDITION):
        session.commit(entries, b"j" * 16)
    assert _commits(plain, session) == 1
    assert plain.audience(session.id.hex()) == sorted(f"s{i}" for i in range(20))
    session.close()
    session.close()
    assert session.find_commit(b"i" * 16) == first
    assert _state(plain, session) == "closed"


def test_a_commit_in_several_messages_is_one_commit(
    plain: LivePlatform, honest: RawClient, evaluated: tuple[RawSession, Bytes, SecretArray]
) -> None:
    _, tags, tokens = evaluated
    session = honest.open()
    session.send(session.message(0, _elements(100)))
    content = session.entries(tags, tokens, range(30)).encode()
    parts = [content[:320], b"", content[320:]]

    def message(part: bytes, commit_id: bytes = b"k" * 16) -> Any:
        return v1.CommitRequest(session_id=session.id, commit_id=commit_id, entries=part)

    with fails(INVALID):
        honest.stub.Commit(iter([message(parts[0]), message(parts[2], b"l" * 16)]))
    assert _commits(plain, session) == 0
    honest.stub.Commit(iter(map(message, parts)))
    assert session.receipt(session.find_commit(b"k" * 16)).received == 30
    session.close()


def test_a_commit_that_was_stored_is_answered_again_after_closing(
    honest: RawClient, evaluated: tuple[RawSession, Bytes, SecretArray]
) -> None:
    _, tags, tokens = evaluated
    session = honest.open()
    session.send(session.message(0, _elements(100)))
    entries = session.entries(tags, tokens, range(3))
    first = session.commit(entries, b"m" * 16)
    session.close()
    assert session.commit(entries, b"m" * 16) == first


def test_a_closed_session_takes_no_message(plain: LivePlatform, honest: RawClient) -> None:
    session = honest.open()
    session.close()
    for call in (
        lambda: session.send(session.message(0, _elements(1))),
        lambda: honest.parts(session.id, session.manifest.segments[0].sha256),
        lambda: session.commit(b"", b"n" * 16),
    ):
        with fails(PRECONDITION):
            call()
    assert _batches(plain, session) == []
    assert _commits(plain, session) == 0


def test_disclosure_advertiser_has_no_commit(plain: LivePlatform) -> None:
    with connected(plain.address, load(plain.admit("reader", "advertiser"))) as client:
        session = client.open()
        tags, tokens = session.run(email_inputs(LISTED))
        with fails(PRECONDITION):
            session.commit(session.entries(tags, tokens, [0, 1]), b"o" * 16)
        assert _commits(plain, session) == 0
        assert plain.audience(session.id.hex()) == []
        session.close()


def test_administration_is_for_operators_alone(plain: LivePlatform, acme: Path, honest: RawClient) -> None:
    calls = ("GetStatus", admin.GetStatusRequest()), ("Publish", admin.PublishRequest())
    before = plain.rows("SELECT count(*) FROM generation")
    for name, request in calls:
        with fails(grpc.StatusCode.PERMISSION_DENIED):
            getattr(honest.administration, name)(request)
    for role in (Role.AUDITOR, Role.PARTNER, Role.COLLECTOR):
        with connected(plain.address, load(acme), issued(plain, role, "acme")) as client:
            for name, request in calls:
                with fails(grpc.StatusCode.PERMISSION_DENIED):
                    getattr(client.administration, name)(request)
    assert plain.rows("SELECT count(*) FROM generation") == before


def test_an_operator_sees_and_publishes(plain: LivePlatform, acme: Path) -> None:
    with connected(plain.address, load(acme), issued(plain, Role.OPERATOR, "ops")) as client:
        status = client.administration.GetStatus(admin.GetStatusRequest())
        assert (status.platform_id, status.generation.count) == (PLATFORM_ID, 1_200)
        published = client.administration.Publish(admin.PublishRequest()).generation
        assert published.id != status.generation.id
        assert published.count == 1_200
        now = client.administration.GetStatus(admin.GetStatusRequest())
        assert now.generation.id == published.id
        # An operator is no advertiser.
        with fails(grpc.StatusCode.PERMISSION_DENIED):
            client.open()
