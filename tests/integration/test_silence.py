"""Streams that are ended for silence, and those that are slow and go on."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from platforms import LivePlatform, grants
from raw_client import RawClient, connected, email_inputs, fails, load

SILENCE_SECONDS = 2


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(
        tmp_path_factory.mktemp("silence"), max_batch_elements=256, silence_seconds=SILENCE_SECONDS
    )
    platform.enroll(grants(1_100))
    platform.publish()
    with platform.serving():
        yield platform


@pytest.fixture(scope="module")
def client(impatient: LivePlatform) -> Iterator[RawClient]:
    credentials: Path = impatient.admit("acme")
    with connected(impatient.address, load(credentials)) as connection:
        yield connection


def batches(session: Any) -> list[Any]:
    inputs = np.concatenate(
        [email_inputs([f"user{i}@example.com" for i in range(1_000)]), session.protocol.canaries]
    )
    messages = []
    for number in range(session.protocol.batches):
        first, stop = session.protocol.bounds(number)
        request = session.protocol.request(number, inputs[first:stop])
        messages.append(session.message(number, request.blinded.tobytes()))
    return messages


@pytest.mark.parametrize("call", ["Evaluate", "Commit"])
def test_a_silent_stream_is_ended_and_its_session_stays(client: RawClient, call: str) -> None:
    session = client.open()
    began = time.monotonic()

    def silent() -> Iterator[Any]:
        time.sleep(4 * SILENCE_SECONDS)
        yield from ()

    with fails(grpc.StatusCode.UNAVAILABLE):
        answer = getattr(client.stub, call)(silent(), timeout=60)
        list(answer) if call == "Evaluate" else answer
    assert SILENCE_SECONDS * 0.9 < time.monotonic() - began < 4 * SILENCE_SECONDS
    assert len(session.send(*batches(session))) == session.protocol.batches


def test_a_slow_stream_goes_on_for_longer_than_it_may_be_silent(client: RawClient) -> None:
    session = client.open()
    began = time.monotonic()

    def slow() -> Iterator[Any]:
        for message in batches(session):
            time.sleep(0.5 * SILENCE_SECONDS)
            yield message

    assert len(list(client.stub.Evaluate(slow(), timeout=60))) == session.protocol.batches
    assert time.monotonic() - began > 2 * SILENCE_SECONDS
