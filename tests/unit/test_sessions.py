"""Both sides of a match in memory: the match is the plain intersection, and every deviation is noticed."""

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_match import GENERATION, KEY, Match, Published, publish, random_bytes
from samples import SCOPE, flip, private_inputs, uniform

from purposematch.protocol.advertiser import Evaluation
from purposematch.protocol.canary import CANARY_COUNT, canary_inputs
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.errors import DecodeError, LimitError, PeerError, StateError, VerificationError
from purposematch.protocol.group import Group, SecretScalar
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.index import Index, cut, order_by_tag
from purposematch.protocol.messages import EvaluateReply, EvaluateRequest
from purposematch.protocol.platform import PlatformSession
from purposematch.protocol.poprf import EvaluationKey, SessionSeed, evaluate

OTHER_KEY = SecretScalar(b"\6" * 31 + b"\0")


@pytest.fixture(scope="module")
def published(group: Group) -> Published:
    return publish(group, range(0, 60, 2), bits=2)


@pytest.fixture
def match(group: Group, published: Published) -> Match:
    return Match(group, published, list(range(30)))


# The result.

numbers = st.sets(st.integers(0, 40), max_size=25)


@settings(max_examples=30)
@given(data=st.data(), enrolled=numbers, listed=numbers, bits=st.integers(0, 3), batch=st.integers(1, 100))
def test_the_match_is_the_plain_intersection(
    group: Group, data: st.DataObject, enrolled: set[int], listed: set[int], bits: int, batch: int
) -> None:
    shuffled = data.draw(st.permutations(sorted(listed | {0})))
    match = Match(group, publish(group, enrolled, bits=bits), shuffled, max(batch, 8))
    order = data.draw(st.permutations(range(match.advertiser.batches)))
    found, entries = match.run(order)
    assert sorted(found) == sorted(enrolled & set(shuffled))
    assert len(entries) == len(found)
    assert sorted(match.open_commit(entries)) == sorted(found)


def test_a_generation_of_nobody_matches_nobody(group: Group) -> None:
    found, entries = Match(group, publish(group, []), list(range(10))).run()
    assert found == []
    assert entries.encode() == b""


def test_the_same_digest_of_another_kind_does_not_match(group: Group, published: Published) -> None:
    match = Match(group, published, list(range(0, 20, 2)))
    match.inputs[:10, 0] = 2
    found, _ = match.run()
    assert found == []


def test_the_order_of_a_commit_says_nothing_about_the_order_of_the_list(
    group: Group, published: Published
) -> None:
    listed = list(range(30))
    _, one = Match(group, published, listed).run()
    _, other = Match(group, published, listed[::-1], batch=13).run()
    assert len(one) == 15
    assert one.encode() == other.encode()
    assert [row.tobytes() for row in one.tags] == sorted(row.tobytes() for row in one.tags)


def test_replies_may_come_in_another_order_than_the_requests(match: Match) -> None:
    requests = [match.request(number) for number in range(match.advertiser.batches)]
    found = 0
    for request in requests[::-1]:
        evaluation = match.advertiser.reply(match.answer(request))
        found += int(match.advertiser.matches(evaluation, match.published.index).sum())
    match.advertiser.close_list()
    assert found == 15


def test_batches_cover_the_list_and_then_the_canaries(match: Match) -> None:
    bounds = [match.advertiser.bounds(number) for number in range(match.advertiser.batches)]
    assert bounds == [(0, 16), (16, 32), (32, 48), (48, 64), (64, 80), (80, 94)]
    assert match.advertiser.elements == match.platform.max_elements == 94


def test_the_seed_is_gone_when_the_list_is_closed(match: Match) -> None:
    seed = match.advertiser._seed
    match.run()
    assert seed == SessionSeed(bytes(32))


# What the advertiser refuses of the platform's answers.


def test_another_key_for_one_batch_is_refused(match: Match, group: Group) -> None:
    other = PlatformSession(group, EvaluationKey(group, POPRF, OTHER_KEY, SCOPE.info()), match.grant)
    match.advertiser.reply(match.answer(match.request(0)))
    with pytest.raises(VerificationError):
        match.advertiser.reply(match.answer(match.request(1), other))


def test_the_key_of_another_scope_is_refused(match: Match, group: Group) -> None:
    scope = dataclasses.replace(SCOPE, epoch=8)
    other = PlatformSession(group, EvaluationKey(group, POPRF, KEY, scope.info()), match.grant)
    with pytest.raises(VerificationError):
        match.advertiser.reply(match.answer(match.request(0), other))


def test_the_reply_to_another_batch_is_refused(match: Match) -> None:
    first, second = match.request(0), match.request(1)
    replayed = dataclasses.replace(match.answer(first), number=1)
    with pytest.raises(VerificationError):
        match.advertiser.reply(replayed)
    match.advertiser.reply(match.answer(first))
    assert second.number == 1


def test_a_reply_of_another_session_is_refused(group: Group, published: Published) -> None:
    one, other = (Match(group, published, list(range(30))) for _ in range(2))
    other.advertiser._seed = SessionSeed(b"o" * 32)
    one.request(0)
    with pytest.raises(VerificationError):
        one.advertiser.reply(other.answer(other.request(0)))


@pytest.mark.parametrize("count", [0, 1, 15, 17])
def test_a_reply_with_another_number_of_elements_is_refused(match: Match, count: int) -> None:
    reply = match.answer(match.request(0))
    elements = np.resize(reply.evaluated, (count, 32))
    with pytest.raises(DecodeError):
        match.advertiser.reply(dataclasses.replace(reply, evaluated=elements))


def test_a_reply_to_no_waiting_batch_is_refused(match: Match) -> None:
    reply = match.answer(match.request(0))
    for number in (-1, 1, 6, 2**31):
        with pytest.raises(StateError):
            match.advertiser.reply(dataclasses.replace(reply, number=number))
    match.advertiser.reply(reply)
    with pytest.raises(StateError):
        match.advertiser.reply(reply)


@settings(max_examples=50)
@given(number=st.integers(0, 15), bit=st.integers(0, 255))
def test_a_flipped_bit_in_a_reply_is_refused(
    group: Group, published: Published, number: int, bit: int
) -> None:
    match = Match(group, published, list(range(10)))
    reply = match.answer(match.request(0))
    changed = reply.evaluated.copy()
    changed[number] = np.frombuffer(flip(changed[number].tobytes(), bit), np.uint8)
    with pytest.raises((VerificationError, DecodeError)):
        match.advertiser.reply(dataclasses.replace(reply, evaluated=changed))


def test_a_refused_batch_does_not_count_as_answered(match: Match) -> None:
    # The caller goes on after an error; without this, closing would pass over the batch.
    for number in range(match.advertiser.batches):
        reply = match.answer(match.request(number))
        if number == 0:
            changed = dataclasses.replace(reply, evaluated=reply.evaluated[::-1])
            with pytest.raises(VerificationError):
                match.advertiser.reply(changed)
            with pytest.raises(StateError):
                match.advertiser.reply(reply)
        else:
            match.advertiser.matches(match.advertiser.reply(reply), match.published.index)
    with pytest.raises(StateError):
        match.advertiser.close_list()


# Requests.


def test_a_batch_is_requested_once(match: Match) -> None:
    request = match.request(0)
    with pytest.raises(StateError):
        match.request(0)
    match.advertiser.reply(match.answer(request))
    with pytest.raises(StateError):
        match.request(0)


def test_a_blind_never_covers_two_inputs(match: Match) -> None:
    first = match.request(0)
    with pytest.raises(DecodeError):
        match.advertiser.reply(EvaluateReply(0, first.blinded[:-1], match.answer(first).proof))
    first_input, stop = match.advertiser.bounds(0)
    with pytest.raises(StateError, match="other inputs"):
        match.advertiser.request(0, private_inputs(range(1_000, 1_000 + stop - first_input)))
    assert (match.request(0).blinded == first.blinded).all()


def test_a_batch_has_the_inputs_that_its_bounds_say(match: Match) -> None:
    for number, count in ((0, 15), (0, 17), (0, 0), (5, 16), (6, 0), (6, 16), (-1, 16)):
        with pytest.raises(LimitError):
            match.advertiser.request(number, private_inputs(range(count)))


def test_a_list_that_is_not_wholly_answered_is_not_closed(match: Match) -> None:
    with pytest.raises(StateError):
        match.advertiser.close_list()
    for number in range(match.advertiser.batches - 1):
        match.advertiser.matches(
            match.advertiser.reply(match.answer(match.request(number))), match.published.index
        )
        with pytest.raises(StateError):
            match.advertiser.close_list()
    match.request(match.advertiser.batches - 1)
    with pytest.raises(StateError):
        match.advertiser.close_list()


def test_a_session_that_starts_anew_with_its_seed_sends_the_same_bytes(
    group: Group, published: Published
) -> None:
    one, other = (Match(group, published, list(range(30))) for _ in range(2))
    for number in range(one.advertiser.batches):
        assert one.request(number).digest == other.request(number).digest


def test_no_element_is_sent_twice_even_for_equal_inputs(group: Group, published: Published) -> None:
    match = Match(group, published, [7] * 30)
    sent = [row.tobytes() for number in range(2) for row in match.request(number).blinded]
    assert len(set(sent)) == len(sent) == 32


# Canaries.


@pytest.mark.parametrize("missing", ["all", "one", "of another generation"])
def test_an_index_without_its_canaries_is_refused(group: Group, published: Published, missing: str) -> None:
    match = Match(group, published, list(range(30)))
    canaries = canary_inputs(GENERATION)
    stale = {
        "all": canaries[:0],
        "one": canaries[1:],
        "of another generation": canary_inputs(b"h" * 16),
    }[missing]
    own = evaluate(
        group,
        POPRF,
        published.key,
        np.concatenate([private_inputs(range(0, 60, 2)), stale]),
        SCOPE.info(),
    )
    tags = own[:, :16]
    match.published = dataclasses.replace(published, index=Index([tags[order_by_tag(tags)]]))
    with pytest.raises(VerificationError, match="canaries"):
        match.run()


@pytest.mark.parametrize(
    "other",
    [{"epoch": 8}, {"purpose": "marketing.advertising.first_party.targeted"}, {"profile": Profile.UID2}],
)
def test_the_index_of_another_scope_is_refused(
    group: Group, published: Published, other: dict[str, Any]
) -> None:
    match = Match(group, published, list(range(30)))
    foreign = publish(group, range(0, 60, 2), scope=dataclasses.replace(SCOPE, **other))
    match.published = dataclasses.replace(published, index=foreign.index)
    with pytest.raises(VerificationError, match="only 0 of 64 canaries"):
        match.run()


def test_a_truncated_index_is_refused(group: Group, published: Published) -> None:
    match = Match(group, published, list(range(30)))
    segments = cut(published.tags, 1)
    match.published = dataclasses.replace(published, index=Index([segments[0], segments[1][:0]]))
    with pytest.raises(VerificationError, match="canaries"):
        match.run()


def test_canaries_are_in_no_result(match: Match) -> None:
    for number in range(match.advertiser.batches):
        evaluation = match.advertiser.reply(match.answer(match.request(number)))
        assert isinstance(evaluation, Evaluation)
        hits = match.advertiser.matches(evaluation, match.published.index)
        assert len(hits) == max(0, min(16, 30 - evaluation.first))
    match.advertiser.close_list()


# What the platform refuses.


def test_an_exact_repetition_is_free_and_answered_with_the_same_elements(match: Match) -> None:
    request = match.request(0)
    assert match.platform.admit(request, 0, None) is True
    # Free even where the session has no element left.
    assert match.platform.admit(request, match.platform.max_elements, request.digest) is False
    one, again = match.answer(request), match.answer(request)
    assert one.evaluated.tobytes() == again.evaluated.tobytes()


@given(st.integers(0, 16 * 256 - 1))
def test_other_bytes_under_a_used_number_are_refused(group: Group, published: Published, bit: int) -> None:
    match = Match(group, published, list(range(30)))
    request = EvaluateRequest.decode(0, uniform(16, 32).tobytes())
    changed = EvaluateRequest.decode(0, flip(request.blinded.tobytes(), bit))
    with pytest.raises(StateError):
        match.platform.admit(changed, 0, request.digest)
    with pytest.raises(StateError):
        match.platform.admit(EvaluateRequest.decode(0, request.blinded[:-1].tobytes()), 0, request.digest)


def test_a_batch_above_the_agreed_size_is_refused(match: Match) -> None:
    match.platform.admit(EvaluateRequest(0, uniform(16, 32)), 0, None)
    with pytest.raises(LimitError):
        match.platform.admit(EvaluateRequest(0, uniform(17, 32)), 0, None)


def test_a_session_above_the_declared_size_is_refused(match: Match) -> None:
    most = match.platform.max_elements
    assert most == 30 + CANARY_COUNT
    match.platform.admit(EvaluateRequest(9, uniform(16, 32)), most - 16, None)
    for before in (most - 15, most, 10**9):
        with pytest.raises(LimitError):
            match.platform.admit(EvaluateRequest(9, uniform(16, 32)), before, None)


@given(st.binary(min_size=32, max_size=320))
def test_arbitrary_bytes_in_a_batch_raise_nothing_outside_the_error_tree(
    group: Group, published: Published, content: bytes
) -> None:
    platform = Match(group, published, [1]).platform
    with contextlib.suppress(PeerError):
        request = EvaluateRequest.decode(0, content)
        platform.evaluate(0, platform.group.decode(request.blinded), random_bytes)


def test_an_invalid_element_is_refused_before_anything_is_computed(match: Match) -> None:
    valid = match.request(0).blinded.tobytes()
    assert len(match.platform.group.decode(EvaluateRequest.decode(0, valid).blinded)) == 16
    for damaged in (b"\xff" * 32, bytes(32), bytes(31) + b"\x80", flip(valid[:32], 255)):
        with pytest.raises(DecodeError):
            match.platform.group.decode(EvaluateRequest.decode(0, valid + damaged).blinded)
