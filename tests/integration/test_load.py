"""Clients that ask for more than they need: they cost bounded memory, and nobody else waits for them."""

import itertools
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from platforms import LivePlatform, customers, grants
from raw_client import RawClient, RawSession, connected, email_inputs, fails, load, tls

from purposematch.server.serve import MAX_CALLS, MAX_CALLS_OF_A_CLIENT, MAX_CALLS_OF_A_CONNECTION
from purposematch.v1 import matching_pb2 as v1

SILENCE_SECONDS = 5
BATCH = 1_024


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    platform = LivePlatform.create(
        tmp_path_factory.mktemp("load"),
        max_batch_elements=BATCH,
        silence_seconds=SILENCE_SECONDS,
        evaluation_threads=1,
    )
    platform.enroll(grants(1_100))
    platform.publish()
    return platform


@pytest.fixture(scope="module")
def served(platform: LivePlatform) -> Iterator[LivePlatform]:
    with platform.serving():
        yield platform


@pytest.fixture(scope="module")
def greedy(platform: LivePlatform) -> Path:
    return platform.admit("greedy")


@pytest.fixture(scope="module")
def modest(platform: LivePlatform) -> Path:
    return platform.admit("modest")


def full_batch(session: RawSession) -> Any:
    """A batch that may be sent again and again, free of charge."""
    inputs = email_inputs([f"user{number}@example.com" for number in range(BATCH)])
    return session.message(0, session.protocol.request(0, inputs).blinded.tobytes())


def resident_kib(platform: LivePlatform) -> int:
    """Memory of the server."""
    status = Path(f"/proc/{platform.server}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])


def one_small_match(client: RawClient, size: int = 1_000) -> None:
    session = client.open(size)
    session.run(email_inputs([f"user{number}@example.com" for number in range(size)]))
    session.close()


def logged(platform: LivePlatform, text: str, since: int) -> bool:
    """Whether the server wrote it, within two minutes: what is on the way has to be evaluated first."""
    for _ in range(1_200):
        if text in platform.log.read_text()[since:]:
            return True
        time.sleep(0.1)
    return False


def test_who_sends_without_reading_is_given_up_and_costs_bounded_memory(
    served: LivePlatform, greedy: Path, modest: Path
) -> None:
    written = len(served.log.read_text())
    with connected(served.address, load(greedy)) as client, connected(served.address, load(modest)) as other:
        one_small_match(other)
        session = client.open()
        message, sent, before = full_batch(session), 0, resident_kib(served)

        def flood() -> Iterator[Any]:
            nonlocal sent
            for _ in range(20_000):
                sent += 1
                yield message

        call = client.stub.Evaluate(flood(), timeout=300)
        time.sleep(1.0)
        one_small_match(other)
        assert logged(served, f"the client read nothing for {SILENCE_SECONDS} seconds", written)
        # 20,000 batches are 625 MiB; what is on the way are some MiB on either side.
        assert sent < 5_000
        assert resident_kib(served) - before < 64 * 1_024
        call.cancel()
        # Its session is there for another stream, and nothing was charged twice.
        assert len(session.send(message)) == 1
        session.close()


def test_a_million_tiny_messages_are_refused_early(served: LivePlatform, greedy: Path) -> None:
    with connected(served.address, load(greedy)) as client:
        session = client.open()
        element, answers = full_batch(session).blinded_elements[:32], 0
        tiny = (session.message(number, element) for number in range(1_000_000))
        with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
            for _ in client.stub.Evaluate(tiny, timeout=300):
                answers += 1
        # Two full batches would do for the list and its canaries.
        assert answers <= 8 + 4 * 2
        session.close()
    (batches,) = served.rows("select count(*) from batch where session = ?", session.id.hex())[0]
    assert batches <= 8 + 4 * 2


def test_many_large_lists_of_one_do_not_keep_a_small_list_waiting(
    served: LivePlatform, greedy: Path, modest: Path
) -> None:
    answers, ended = itertools.count(), threading.Event()
    with ExitStack() as stack:
        other = stack.enter_context(connected(served.address, load(modest)))
        small = other.open()
        message = full_batch(small)
        (first,) = small.send(message)
        large = stack.enter_context(connected(served.address, load(greedy)))
        sessions = [large.open() for _ in range(8)]

        def stream(session: RawSession) -> None:
            again = full_batch(session)
            endless = itertools.takewhile(lambda _: not ended.is_set(), itertools.repeat(again))
            for _ in large.stub.Evaluate(endless, timeout=300):
                next(answers)

        with ThreadPoolExecutor(8) as threads:
            streams = [threads.submit(stream, session) for session in sessions]
            try:
                while next(answers) < 200:
                    time.sleep(0.05)
                passed = []
                for _ in range(7):
                    before = next(answers)
                    # Byte-identical, and evaluated again.
                    (answer,) = small.send(message)
                    passed.append(next(answers) - before)
                    assert answer.evaluated_elements == first.evaluated_elements
            finally:
                ended.set()
            for each in streams:
                each.result(300)
        for session in (*sessions, small):
            session.close()
    # 64 batches of the eight sessions wait all the time. The small one waits for those under way, two, and
    # for one more of the other advertiser; some answers pass while it is on its way.
    assert sorted(passed)[3] < 16, passed


def test_one_client_can_not_take_all_calls(served: LivePlatform, greedy: Path, modest: Path) -> None:
    with ExitStack() as stack:
        ended = threading.Event()
        stack.callback(ended.set)
        clients = [stack.enter_context(connected_alone(served, greedy)) for _ in range(5)]
        session = clients[0].open()

        def waiting() -> Iterator[Any]:
            # It owes a message now and again, and so is not silent.
            while not ended.wait(0.5):
                yield message

        message = full_batch(session)
        calls = [
            client.stub.Evaluate(waiting(), timeout=300)
            for client in clients
            for _ in range(MAX_CALLS_OF_A_CLIENT // 4)
        ]
        refused = [call for call in calls if call_fails(call)]
        assert {call.code() for call in refused} == {grpc.StatusCode.UNAVAILABLE}
        assert len(refused) == len(calls) - MAX_CALLS_OF_A_CLIENT
        other = stack.enter_context(connected(served.address, load(modest)))
        one_small_match(other)


def call_fails(call: Any) -> bool:
    """Whether its first answer is an error."""
    try:
        next(call)
    except grpc.RpcError:
        return True
    return False


def test_calls_that_say_nothing_and_watchers_leave_calls_for_others(
    served: LivePlatform, greedy: Path, modest: Path
) -> None:
    """16 connections with 16 calls each would be all that the server takes."""
    with ExitStack() as stack:
        ended = threading.Event()
        stack.callback(ended.set)

        def nothing() -> Iterator[Any]:
            ended.wait(300)
            yield from ()

        answers = []
        for number in range(MAX_CALLS // MAX_CALLS_OF_A_CONNECTION):
            channel = stack.enter_context(channel_alone(served, greedy))
            if number % 2:
                watch = health_pb2_grpc.HealthStub(channel).Watch
                calls = [watch(health_pb2.HealthCheckRequest()) for _ in range(MAX_CALLS_OF_A_CONNECTION)]
            else:
                # A call of a method that takes one message, and the message does not come.
                hold = channel.stream_unary("/purposematch.v1.MatchingService/OpenSession")
                calls = [hold.future(nothing()) for _ in range(MAX_CALLS_OF_A_CONNECTION)]
            answers += calls
        time.sleep(1.0)
        with connected(served.address, load(modest)) as other:
            one_small_match(other)
        for call in answers:
            call.cancel()


def test_two_streams_that_commit_one_session_are_one(served: LivePlatform, modest: Path) -> None:
    with connected(served.address, load(modest)) as client:
        session = client.open()
        tags, tokens = session.run(email_inputs([f"user{number}@example.com" for number in range(1_000)]))
        entries = session.entries(tags, tokens, range(10))
        ended = threading.Event()

        def half() -> Iterator[Any]:
            yield v1.CommitRequest(session_id=session.id, commit_id=b"c" * 16, entries=entries.encode()[:32])
            ended.wait(300)

        earlier = client.stub.Commit.future(half(), timeout=300)
        time.sleep(1.0)
        # Whoever comes back is not refused because of what it left.
        assert session.receipt(session.commit(entries, b"c" * 16)).received == 10
        assert isinstance(earlier.exception(60), grpc.RpcError)
        ended.set()
        session.close()


def channel_alone(platform: LivePlatform, folder: Path) -> grpc.Channel:
    """A connection that shares nothing with other ones of this process."""
    credentials = load(folder)
    options = [
        ("grpc.ssl_target_name_override", credentials.pin.server_name),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.secure_channel(platform.address, tls(credentials), options)


def connected_alone(platform: LivePlatform, credentials: Path) -> Any:
    """A connection that shares nothing with other ones of this process."""
    return connected(platform.address, load(credentials), options=[("grpc.use_local_subchannel_pool", 1)])


def test_one_more_advertiser_is_told_to_come_back(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "slow", max_batch_elements=BATCH, least_rate=100_000_000)
    platform.enroll(grants(1_100))
    platform.publish()
    first, second = platform.admit("first"), platform.admit("second")
    listed = customers(tmp_path / "list.csv", 1_500)
    ended = threading.Event()
    with platform.serving(), connected(platform.address, load(first)) as client:
        session = client.open()
        message = full_batch(session)

        def waiting() -> Iterator[Any]:
            yield message
            ended.wait(60)

        call = client.stub.Evaluate(waiting(), timeout=300)
        next(call)
        # Alone it is served, whatever the rate; a second one would leave both with too little.
        with connected(platform.address, load(second)) as other, fails(grpc.StatusCode.UNAVAILABLE) as said:
            other.open()
        assert said == ["the platform serves as many as it can; try again soon"]
        refused = platform.match(listed, tmp_path / "out.csv", second)
        assert refused.code == 1
        assert "serves as many matches as it can" in refused.stderr
        timer = threading.Timer(2.0, ended.set)
        timer.start()
        done = platform.match(listed, tmp_path / "out.csv", second, "--patience", "60")
        assert done.code == 0, done.stderr
        timer.join()
        assert len(list(call)) == 0
