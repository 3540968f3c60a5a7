"""When to try again: what the platform packs, the client reads, whatever else may stand there."""

import grpc
from hypothesis import given
from hypothesis import strategies as st

from purposematch.client.refusals import CallStatus, translate
from purposematch.client.wire import STATUS_DETAILS, retry_seconds
from purposematch.protocol.errors import PurposematchError, QuotaError, RefusedError
from purposematch.server import wire

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@given(st.integers(0, 10**9))
def test_the_client_reads_what_the_platform_packs(seconds: int) -> None:
    assert retry_seconds(wire.format_retry(8, "used up", seconds)) == seconds


@given(st.binary(max_size=200), st.text())
def test_other_details_are_no_help_and_no_harm(details: bytes, said: str) -> None:
    status = CallStatus.of(EXHAUSTED, said, [("other", "x"), (STATUS_DETAILS, details)])
    assert isinstance(translate(status, "opening the session"), PurposematchError)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_time_is_shown_or_left_out(seconds: int) -> None:
    details = wire.format_retry(8, "used up", seconds)
    error = translate(CallStatus.of(EXHAUSTED, "used up", [(STATUS_DETAILS, details)]), "opening")
    assert isinstance(error, RefusedError)
    assert isinstance(error, QuotaError) == (seconds >= 0)


def test_a_quota_is_told_in_the_platforms_words_with_the_time_to_wait() -> None:
    status = CallStatus(EXHAUSTED, "today's quota is used up\x1b[2J", 3_723)
    error = translate(status, "opening the session")
    assert isinstance(error, QuotaError)
    assert error.retry_seconds == 3_723
    assert str(error) == (
        "opening the session: the platform refused: today's quota is used up?[2J; try again in 1:02:03 "
        "(hours:minutes:seconds)"
    )
