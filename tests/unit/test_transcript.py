"""The transcript hash and the MACs that commit matches."""

import dataclasses
import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import flip, grant, uniform

from purposematch.protocol.errors import VerificationError
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.transcript import commit_macs, split_output, transcript_hash, verify_commit_macs

TRANSCRIPT = transcript_hash(grant())
BOUND = {"agreement": 32, "session": 16, "manifest": 32, "client_certificate": 32, "server_certificate": 32}


def test_the_transcript_hash_covers_the_fields_in_this_order() -> None:
    expected = hashlib.sha256(
        b"purposematch transcript v1"
        + b"\x11" * 32  # the agreement
        + b"\x10" * 16  # the session
        + b"\x12" * 32  # the signed manifest
        + b"\x13" * 32  # the client's certificate
        + b"\x14" * 32  # the platform's certificate
    ).digest()
    assert expected == TRANSCRIPT


@pytest.mark.parametrize("name", BOUND)
@given(data=st.data())
def test_another_value_of_a_bound_field_gives_another_transcript_hash(name: str, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, 8 * BOUND[name] - 1))
    changed = dataclasses.replace(grant(), **{name: flip(getattr(grant(), name), bit)})
    assert transcript_hash(changed) != TRANSCRIPT


def test_two_bound_fields_do_not_change_places() -> None:
    one = grant()
    for first, second in (("agreement", "manifest"), ("client_certificate", "server_certificate")):
        swapped = dataclasses.replace(one, **{first: getattr(one, second), second: getattr(one, first)})
        assert transcript_hash(swapped) != TRANSCRIPT


def test_an_output_is_split_into_tag_and_token() -> None:
    output = uniform(5, 64)
    tags, tokens = split_output(output)
    assert tags.shape == (5, 16)
    assert len(tokens) == 5
    assert (tags == output[:, 0:16]).all()
    assert (reveal_array(tokens) == output[:, 16:48]).all()


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_mac_is_a_truncated_hmac_of_the_transcript_hash_under_the_token(count: int) -> None:
    # The tokens are a view into the outputs, as they are in a session.
    _, tokens = split_output(uniform(count, 64))
    macs = commit_macs(tokens, TRANSCRIPT)
    assert macs.shape == (count, 16)
    expected = [
        hmac.new(token.tobytes(), TRANSCRIPT, hashlib.sha256).digest()[:16] for token in reveal_array(tokens)
    ]
    assert [mac.tobytes() for mac in macs] == expected
    verify_commit_macs(tokens, macs, TRANSCRIPT)


@given(st.integers(0, 7 * 128 - 1))
def test_a_flipped_bit_in_a_mac_is_refused(bit: int) -> None:
    tokens = SecretArray(uniform(7, 32))
    macs = flip(commit_macs(tokens, TRANSCRIPT).tobytes(), bit)
    with pytest.raises(VerificationError):
        verify_commit_macs(tokens, np.frombuffer(macs, np.uint8).reshape(-1, 16), TRANSCRIPT)


@given(st.integers(0, 255))
def test_macs_of_another_transcript_are_refused(bit: int) -> None:
    tokens = SecretArray(uniform(7, 32))
    with pytest.raises(VerificationError):
        verify_commit_macs(tokens, commit_macs(tokens, flip(TRANSCRIPT, bit)), TRANSCRIPT)


def test_macs_of_other_tokens_or_in_another_order_are_refused() -> None:
    tokens, others = SecretArray(uniform(7, 32)), SecretArray(uniform(7, 32, "others"))
    macs = commit_macs(tokens, TRANSCRIPT)
    for wrong in (commit_macs(others, TRANSCRIPT), macs[::-1], macs[:-1], np.concatenate([macs, macs[:1]])):
        with pytest.raises(VerificationError):
            verify_commit_macs(tokens, wrong, TRANSCRIPT)


def test_the_comparison_is_the_constant_time_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, wrong = SecretArray(uniform(2, 32)), np.zeros((2, 16), np.uint8)
    seen: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        seen.append((bytes(a), bytes(b)))
        return True

    monkeypatch.setattr("hmac.compare_digest", compare)
    verify_commit_macs(tokens, wrong, TRANSCRIPT)
    assert seen == [(commit_macs(tokens, TRANSCRIPT).tobytes(), wrong.tobytes())]
