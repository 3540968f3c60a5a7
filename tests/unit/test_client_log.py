"""What the client makes of a platform's log: what it keeps, compares and refuses, against a fake platform."""

import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_platform import PLATFORM_ID, FakePlatform, agreement, enrolled

from purposematch.client import MatchResult, Patience, match
from purposematch.client.checkpoints import KnownCheckpoint, LastCheckpoint
from purposematch.client.receipt import SessionReceipt
from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.errors import (
    ConfigurationError,
    DecodeError,
    ForkError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import Event, EventKind
from purposematch.protocol.signing import IdentitySeed, identity_public_key
from purposematch.v1 import matching_pb2 as v1

EMAILS = [f"user{number}@example.com" for number in range(9)]
ORIGIN = log_origin(PLATFORM_ID)
SEED = IdentitySeed(b"\5" * 32)
NOT_FOUND, UNAVAILABLE = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform(enrolled(EMAILS), agreement(disclosure=Disclosure.ADVERTISER))


def run(platform: FakePlatform, folder: Path) -> MatchResult:
    listed = folder / "list.csv"
    listed.write_text("email\n" + "\n".join(EMAILS) + "\n")
    with platform.serving():
        return match(
            listed,
            platform=platform.address,
            credentials=platform.write_credentials(folder / "credentials"),
            output=folder / "out.csv",
            patience=Patience(reconnect_seconds=0),
        )


def last_of(platform: FakePlatform, state: Path) -> LastCheckpoint:
    return LastCheckpoint.of_user(
        {"XDG_STATE_HOME": str(state)}, ORIGIN, identity_public_key(platform.identity)
    )


def kept(platform: FakePlatform, state: Path) -> Checkpoint:
    known = last_of(platform, state).load()
    assert known is not None
    return known.checkpoint


def refused(
    platform: FakePlatform, folder: Path, kind: type[Exception], text: str, *, sent: bool = False
) -> str:
    platform.calls.clear()
    (folder / "out.csv").unlink(missing_ok=True)
    (folder / "out.csv.receipt").unlink(missing_ok=True)
    (folder / "out.csv.tags").unlink(missing_ok=True)
    with pytest.raises(kind, match=text) as failed:
        run(platform, folder)
    assert ("Evaluate" in platform.calls) == sent
    assert {path.name for path in folder.iterdir()} <= {"list.csv", "credentials", "cache", "state"}
    return str(failed.value)


def test_the_first_session_keeps_a_checkpoint_and_asks_for_no_proof_of_it(
    platform: FakePlatform, tmp_path: Path, state: Path
) -> None:
    run(platform, tmp_path)
    # Manifest, session, its end; the one proof is from what was shown at the opening to what was at the end.
    assert kept(platform, state).size == 3
    assert platform.asked == [(2, 3)]
    run(platform, tmp_path)
    assert kept(platform, state).size == 6
    assert platform.asked == [(2, 3), (3, 5), (5, 6)]


def shown_to_another_session(platform: FakePlatform, state: Path, root: bytes | None = None) -> None:
    """Another session of this user is shown one leaf more, and keeps that; or another root of as many."""
    platform.log.append(Event(EventKind.OPERATOR_QUERY, 4, {}))
    last = last_of(platform, state)
    kept_note = platform.log.checkpoint(platform.identity)
    if root is not None:
        kept_note = Checkpoint(ORIGIN, len(platform.log.openings), root).sign(platform.identity)
    assert last.replace(last.load(), last.verified(kept_note))


def test_what_another_session_kept_meanwhile_is_compared_with_as_well_and_stays(
    platform: FakePlatform, tmp_path: Path, state: Path
) -> None:
    def meanwhile(answer: v1.CloseSessionResponse) -> v1.CloseSessionResponse:
        shown_to_another_session(platform, state)
        return answer

    platform.change_close = meanwhile
    run(platform, tmp_path)
    # The end was shown with three leaves; kept were two before, and now, by another process, are four.
    assert platform.asked == [(2, 3), (3, 4)]
    assert kept(platform, state).size == 4


def test_what_contradicts_another_session_of_this_user_is_a_fork(
    platform: FakePlatform, tmp_path: Path, state: Path
) -> None:
    def meanwhile(answer: v1.CloseSessionResponse) -> v1.CloseSessionResponse:
        shown_to_another_session(platform, state, root=bytes(32))
        return answer

    platform.change_close = meanwhile
    with pytest.raises(ForkError, match="the platform's log forked"):
        run(platform, tmp_path)


def test_a_process_knows_of_the_checkpoints_that_it_kept_itself_which_extends_which(
    platform: FakePlatform, state: Path
) -> None:
    last, shown = last_of(platform, state), []
    for _ in range(4):
        platform.log.append(Event(EventKind.OPERATOR_QUERY, 4, {}))
        shown.append(last.verified(platform.log.checkpoint(platform.identity)))
    assert last.replace(None, shown[0])
    assert last.replace(shown[0], shown[1])
    assert not last.replace(shown[0], shown[2])
    assert [last.has_seen_extend(one, shown[0]) for one in shown] == [True, True, False, False]
    assert not last.has_seen_extend(shown[0], shown[1])
    # Another process goes on, and this one can not know from what.
    assert last_of(platform, state).replace(shown[1], shown[2])
    assert last.replace(shown[2], shown[3])
    assert [last.has_seen_extend(shown[3], one) for one in shown] == [False, False, True, True]


def test_a_fork_that_took_the_place_of_the_last_checkpoint_meanwhile_is_noticed(
    platform: FakePlatform, tmp_path: Path, state: Path
) -> None:
    def meanwhile(_: v1.CloseSessionResponse) -> v1.CloseSessionResponse:
        # Removed, and kept anew by a session that began without it and was shown the fork.
        last = last_of(platform, state)
        last.path.unlink()
        platform.change_consistency = lambda proof: [bytes(32), *proof[1:]]
        answer = v1.CloseSessionResponse(proof=platform.proof())
        assert last.replace(None, last.verified(answer.proof.checkpoint))
        return answer

    platform.change_close = meanwhile
    with pytest.raises(ForkError, match="the platform's log forked"):
        run(platform, tmp_path)


def test_a_checkpoint_that_was_removed_meanwhile_is_still_compared_with(
    platform: FakePlatform, tmp_path: Path, state: Path
) -> None:
    def meanwhile(_: v1.CloseSessionResponse) -> v1.CloseSessionResponse:
        last_of(platform, state).path.unlink()
        platform.change_consistency = lambda proof: [bytes(32), *proof[1:]]
        return v1.CloseSessionResponse(proof=platform.proof())

    platform.change_close = meanwhile
    with pytest.raises(ForkError, match="the platform's log forked"):
        run(platform, tmp_path)


def test_the_receipt_shows_the_session(platform: FakePlatform, tmp_path: Path) -> None:
    platform.agreement = agreement()
    result = run(platform, tmp_path)
    receipt = SessionReceipt.load(tmp_path / "out.csv.receipt")
    opened = receipt.open(ORIGIN, identity_public_key(platform.identity))
    assert opened.advertiser == "acme"
    assert opened.grant.session.hex() == result.session
    assert opened.checkpoint.size == 3
    assert receipt.commit is not None


@pytest.mark.parametrize("leaves", [0, 1, 2, 3, 40])
def test_another_history_is_refused(platform: FakePlatform, tmp_path: Path, state: Path, leaves: int) -> None:
    run(platform, tmp_path)
    before = kept(platform, state)
    # As many leaves, fewer and more; none of them those that were shown.
    platform.log.openings.clear()
    for number in range(leaves):
        platform.log.append(Event(EventKind.OPERATOR_QUERY, number, {}))
    text = refused(platform, tmp_path, ForkError, "the platform's log forked")
    assert str(last_of(platform, state).path) in text
    assert kept(platform, state) == before


def test_an_older_log_is_refused_even_if_it_is_the_same_one(
    platform: FakePlatform, tmp_path: Path, state: Path
) -> None:
    run(platform, tmp_path)
    run(platform, tmp_path)
    run(platform, tmp_path)
    # An old copy was put back: everything in it is true.
    del platform.log.openings[3:]
    refused(platform, tmp_path, ForkError, "a tree became smaller")
    assert kept(platform, state).size == 9


@pytest.mark.parametrize(
    "change",
    [
        lambda proof: [],
        lambda proof: proof[:-1],
        lambda proof: [*proof, bytes(32)],
        lambda proof: [bytes(32), *proof[1:]],
        lambda proof: [bytes(31), *proof[1:]],
        lambda proof: [bytes(32)] * 65,
    ],
)
def test_a_consistency_proof_that_does_not_hold_is_a_fork(
    platform: FakePlatform, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    run(platform, tmp_path)
    platform.change_consistency = change
    refused(platform, tmp_path, ForkError, "the platform's log forked")


def test_a_platform_that_has_no_proof_to_give_is_refused(platform: FakePlatform, tmp_path: Path) -> None:
    run(platform, tmp_path)
    platform.refuse = {"GetConsistencyProof": NOT_FOUND}
    refused(platform, tmp_path, ForkError, "it gives no proof")


def test_silence_about_the_proof_decides_nothing(platform: FakePlatform, tmp_path: Path, state: Path) -> None:
    run(platform, tmp_path)
    platform.refuse = {"GetConsistencyProof": UNAVAILABLE}
    refused(platform, tmp_path, UnavailableError, "asking for a proof")
    assert not list(last_of(platform, state).path.parent.glob("fork-*"))
    platform.refuse = {}
    run(platform, tmp_path)


def test_a_platform_that_is_gone_at_the_end_leaves_the_receipt_of_the_beginning(
    platform: FakePlatform, tmp_path: Path, state: Path
) -> None:
    platform.refuse = {"CloseSession": UNAVAILABLE}
    run(platform, tmp_path)
    receipt = SessionReceipt.load(tmp_path / "out.csv.receipt")
    assert receipt.open(ORIGIN, identity_public_key(platform.identity)).checkpoint.size == 2
    assert kept(platform, state).size == 2


@pytest.mark.parametrize("disclosure", [Disclosure.BOTH, Disclosure.ADVERTISER])
def test_a_log_that_changes_during_the_session_is_refused_and_what_happened_is_told(
    tmp_path: Path, disclosure: Disclosure
) -> None:
    platform = FakePlatform(enrolled(EMAILS), agreement(disclosure=disclosure))

    def change(_: v1.CloseSessionResponse) -> v1.CloseSessionResponse:
        platform.log.openings.insert(0, platform.log.openings.pop())
        platform.session_leaf += 1
        platform.manifest_leaf += 1
        return v1.CloseSessionResponse(proof=platform.proof())

    platform.change_close = change
    # The leaf is not where it says any more, before the trees are compared.
    text = refused(platform, tmp_path, VerificationError, "no output was written", sent=True)
    assert platform.grant.session.hex() in text
    told = "the platform has received all 9 matches"
    assert (told in text) == (disclosure is Disclosure.BOTH) == (platform.committed is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "00" * 16},
        {"advertiser": "globex"},
        {"fingerprint": "00" * 32},
        {"agreement": "00" * 32},
        {"generation": "00" * 16},
        {"elements": 10},
        {"grant": "00" * 32},
        {"log_size": 0},
        {"more": 1},
    ],
)
def test_a_leaf_that_says_something_else_is_refused(
    platform: FakePlatform, tmp_path: Path, change: dict[str, Any]
) -> None:
    platform.change_session_event = lambda fields: fields | change
    refused(platform, tmp_path, VerificationError, "leaf|the log says something else")


def note(size: int, root: bytes = bytes(32)) -> bytes:
    return Checkpoint(ORIGIN, size, root).sign(SEED)


@pytest.fixture
def last(tmp_path: Path) -> LastCheckpoint:
    return LastCheckpoint(tmp_path / "log", ORIGIN, identity_public_key(SEED))


def test_a_checkpoint_takes_the_place_of_the_one_it_was_compared_with(last: LastCheckpoint) -> None:
    one, two, three = (last.verified(note(size)) for size in (1, 2, 3))
    assert last.load() is None
    assert not last.replace(one, two)
    assert last.load() is None
    assert last.replace(None, one)
    assert not last.replace(None, two)
    assert not last.replace(two, three)
    assert last.load() == one
    assert last.replace(one, three)
    assert last.load() == three
    assert stat.S_IMODE(last.path.stat().st_mode) == 0o600
    assert [path.name for path in last.path.parent.iterdir()] == ["checkpoint"]


def test_of_many_writers_none_is_lost(last: LastCheckpoint) -> None:
    def climb() -> None:
        for _ in range(10):
            while True:
                before = last.load()
                size = before.checkpoint.size + 1 if before else 1
                if last.replace(before, last.verified(note(size))):
                    break

    threads = [threading.Thread(target=climb) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = last.load()
    assert known is not None
    assert known.checkpoint.size == 60


@pytest.mark.parametrize(
    "content", [b"", b"x", note(5)[:-1], note(5).replace(b"\n5\n", b"\n6\n"), b"\xff" * 9]
)
def test_a_damaged_file_is_not_taken_for_none(last: LastCheckpoint, content: bytes) -> None:
    assert last.replace(None, last.verified(note(5)))
    last.path.write_bytes(content)
    for action in (last.load, lambda: last.replace(None, last.verified(note(6)))):
        with pytest.raises(ConfigurationError, match="is damaged; put back a copy"):
            action()
    assert last.path.read_bytes() == content


def test_a_checkpoint_of_another_log_or_key_is_no_last_one(last: LastCheckpoint) -> None:
    stranger = Checkpoint(ORIGIN, 1, bytes(32)).sign(IdentitySeed(b"\6" * 32))
    with pytest.raises(VerificationError):
        last.verified(stranger)
    with pytest.raises(VerificationError):
        last.verified(Checkpoint(log_origin("otherbirds"), 1, bytes(32)).sign(SEED))


def test_evidence_of_a_fork_is_kept_once(last: LastCheckpoint) -> None:
    paths = {last.keep_fork(note(5), note(4), proof) for proof in (None, None, (bytes(32),))}
    assert len(paths) == 2
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)


def test_a_state_folder_that_cannot_be_written_stops_the_session_before_anything_is_sent(
    platform: FakePlatform, tmp_path: Path, state: Path
) -> None:
    state.write_text("a file")
    refused(platform, tmp_path, ConfigurationError, "XDG_STATE_HOME|cannot be read")


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    key = bytes(32)
    below = Path("purposematch", "logs", key.hex(), "checkpoint")
    for environ, root in (
        ({}, tmp_path / ".local" / "state"),
        ({"XDG_STATE_HOME": "relative"}, tmp_path / ".local" / "state"),
        ({"XDG_STATE_HOME": str(tmp_path / "s")}, tmp_path / "s"),
    ):
        assert LastCheckpoint.of_user(environ, ORIGIN, key).path == root / below


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"format":"purposematch receipt v2","grant":1,"commit":null,"proof":1}\n'],
)
def test_what_is_no_receipt_is_refused(content: bytes) -> None:
    with pytest.raises(DecodeError):
        SessionReceipt.decode(content)


def test_a_known_checkpoint_is_compared_by_its_note() -> None:
    checkpoint = Checkpoint(ORIGIN, 1, bytes(32))
    assert KnownCheckpoint(b"a", checkpoint) != KnownCheckpoint(b"b", checkpoint)
