"""What a peer is told of a failure, and what the platform's log is told."""

import asyncio
import logging
from typing import Any

import grpc
import pytest

from purposematch.protocol.errors import ConfigurationError, LimitError, RefusedError
from purposematch.server.statuses import aborting

PLANTED = "planted@example.com"


class Aborted(Exception):
    """What `abort` of this context raises."""


class Context:
    """Keeps what a call was ended with."""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def abort(self, code: grpc.StatusCode, text: str) -> None:
        raise Aborted(code, text)


def _answer(error: Exception) -> tuple[grpc.StatusCode, str]:
    async def handler() -> None:
        context: Any = Context()
        async with aborting(context, "Commit"):
            raise error

    with pytest.raises(Aborted) as caught:
        asyncio.run(handler())
    return caught.value.args[0], caught.value.args[1]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RefusedError("a list must have more"), grpc.StatusCode.FAILED_PRECONDITION, "a list must have more"),
        (
            LimitError("said to the log"),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "a limit of the session was passed",
        ),
        (
            ConfigurationError("keys/epoch-1.sealed is missing"),
            grpc.StatusCode.INTERNAL,
            "the platform failed; its log says why",
        ),
    ],
)
def test_an_error_of_ours_is_in_the_log_whatever_the_peer_is_told(
    error: Exception, code: grpc.StatusCode, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "purposematch.server"):
        assert _answer(error) == (code, text)
    assert f"Commit answered {code.name}: {type(error).__name__}: {error}" in caplog.text


def test_of_an_error_that_is_not_ours_only_type_and_place_are_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "purposematch.server"):
        code, text = _answer(KeyError(PLANTED))
    assert (code, PLANTED in text) == (grpc.StatusCode.INTERNAL, False)
    assert "Commit failed: KeyError" in caplog.text
    assert "test_statuses.py" in caplog.text
    assert PLANTED not in caplog.text
