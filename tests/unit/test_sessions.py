"""Both sides of a match in memory: the match is the plain intersection, and every deviation is noticed."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import AGREEMENT, IDENTITY, SCOPE, flip, private_inputs, rows, uniform

from purposematch.protocol.advertiser import AdvertiserSession, Evaluation, check_grant
from purposematch.protocol.canary import CANARY_COUNT, canary_inputs
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.errors import DecodeError, LimitError, PeerError, StateError, VerificationError
from purposematch.protocol.group import Bytes, Group, SecretScalar
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.index import Index, Segment, cut, order_by_tag
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import CommitEntries, EvaluateReply, EvaluateRequest, SessionGrant
from purposematch.protocol.platform import PlatformSession
from purposematch.protocol.poprf import EvaluationKey, SessionSeed, evaluate, public_key
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.signing import SignedDocument, identity_public_key
from purposematch.protocol.transcript import split_output, transcript_hash

KEY = SecretScalar(b"\5" * 31 + b"\0")
OTHER_KEY = SecretScalar(b"\6" * 31 + b"\0")
GENERATION = b"g" * 16
CERTIFICATE = hashlib.sha256(b"the certificate of acme").digest()


def random_bytes(n: int) -> bytes:
    return b"\x37" * n


@dataclass
class Published:
    """A generation as the platform keeps it."""

    key: EvaluationKey
    identifiers: list[int]
    tags: Bytes
    tokens: SecretArray
    document: SignedDocument
    index: Index


def publish(
    group: Group,
    enrolled: Collection[int],
    *,
    bits: int = 0,
    key: SecretScalar = KEY,
    scope: Any = SCOPE,
    generation: bytes = GENERATION,
) -> Published:
    """Evaluates what is enrolled and the canaries, and signs it all."""
    own = EvaluationKey(group, POPRF, key, scope.info())
    inputs = np.concatenate([private_inputs(sorted(enrolled)), canary_inputs(generation)])
    tags, tokens = split_output(evaluate(group, POPRF, own, inputs, scope.info()))
    order = order_by_tag(tags)
    segments = cut(np.ascontiguousarray(tags[order]), bits)
    manifest = Manifest(
        generation=generation,
        scope=scope,
        public_key=public_key(group, key),
        count=len(enrolled),
        watermark=1,
        published_at=0,
        valid_until=1,
        policy=bytes(32),
        taxonomy=bytes(32),
        segments=tuple(map(Segment.of, segments)),
        additions=(),
    )
    numbers = [*sorted(enrolled), *[-1] * CANARY_COUNT]
    return Published(
        key=own,
        identifiers=[numbers[i] for i in order],
        tags=np.ascontiguousarray(tags[order]),
        tokens=SecretArray(reveal_array(tokens)[order]),
        document=manifest.sign(IDENTITY),
        index=Index(
            [
                segment.check(content.tobytes())
                for segment, content in zip(manifest.segments, segments, strict=True)
            ]
        ),
    )


@dataclass
class Match:
    """One session, both sides, over messages that are turned into bytes and back."""

    group: Group
    published: Published
    listed: list[int]
    batch: int = 16
    manifest: Manifest = field(init=False)
    grant: SessionGrant = field(init=False)
    advertiser: AdvertiserSession = field(init=False)
    platform: PlatformSession = field(init=False)
    inputs: Bytes = field(init=False)

    def __post_init__(self) -> None:
        public = identity_public_key(IDENTITY)
        grant = SessionGrant(
            session=b"s" * 16,
            agreement=AGREEMENT.digest,
            manifest=Manifest.digest(self.published.document),
            client_certificate=CERTIFICATE,
            server_certificate=b"p" * 32,
            list_size=len(self.listed),
            max_batch_elements=self.batch,
            window=4,
        ).sign(IDENTITY)
        self.manifest = Manifest.open(self.published.document, public)
        self.grant = SessionGrant.open(grant, public)
        check_grant(
            self.grant,
            self.manifest,
            Manifest.digest(self.published.document),
            AGREEMENT,
            CERTIFICATE,
            len(self.listed),
        )
        seed = SessionSeed(hashlib.sha256(b"seed").digest())
        self.advertiser = AdvertiserSession(self.group, self.grant, self.manifest, seed, len(self.listed))
        self.platform = PlatformSession(self.group, self.published.key, self.grant)
        self.inputs = np.concatenate([private_inputs(self.listed), self.advertiser.canaries])

    def request(self, number: int) -> EvaluateRequest:
        first, stop = self.advertiser.bounds(number)
        request = self.advertiser.request(number, self.inputs[first:stop])
        return EvaluateRequest.decode(request.number, request.blinded.tobytes())

    def answer(self, request: EvaluateRequest, platform: PlatformSession | None = None) -> EvaluateReply:
        platform = platform or self.platform
        reply = platform.evaluate(request.number, platform.decode(request), random_bytes)
        return EvaluateReply.decode(reply.number, reply.evaluated.tobytes(), reply.proof.encode())

    def run(self, order: list[int] | None = None) -> tuple[list[int], CommitEntries]:
        """The whole exchange: which identifiers of the list match, and the commit."""
        before, found, tags, tokens = 0, [], [], []
        for number in order or range(self.advertiser.batches):
            request = self.request(number)
            assert self.platform.admit(request, before, None)
            before += len(request.blinded)
            evaluation = self.advertiser.reply(self.answer(request))
            hits = self.advertiser.matches(evaluation, self.published.index)
            places = np.flatnonzero(hits)
            found += [self.listed[evaluation.first + int(place)] for place in places]
            tags.append(evaluation.tags[places])
            tokens.append(reveal_array(evaluation.tokens)[places])
        assert before == self.platform.max_elements
        self.advertiser.close_list()
        entries = self.advertiser.commit(np.concatenate(tags), SecretArray(np.concatenate(tokens)))
        return found, CommitEntries.decode(entries.encode())

    def open_commit(self, entries: CommitEntries, evaluated: int | None = None) -> list[int]:
        """The identifiers that the platform finds behind a commit."""
        evaluated = self.platform.max_elements if evaluated is None else evaluated
        places = self.platform.open_commit(entries, self.published.tags, self.published.tokens, evaluated)
        return [self.published.identifiers[place] for place in places]


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


# What the advertiser refuses before it sends anything.


def checked(published: Published, **changes: Any) -> None:
    manifest = Manifest.open(published.document, identity_public_key(IDENTITY))
    given: dict[str, Any] = {
        "agreement": AGREEMENT,
        "certificate": CERTIFICATE,
        "list_size": 30,
        "manifest": manifest,
        "digest": Manifest.digest(published.document),
    }
    grant = SessionGrant(b"s" * 16, AGREEMENT.digest, given["digest"], CERTIFICATE, b"p" * 32, 30, 16, 4)
    given |= changes
    check_grant(
        grant,
        given["manifest"],
        given["digest"],
        given["agreement"],
        given["certificate"],
        given["list_size"],
    )


def test_a_grant_that_is_what_was_agreed_is_accepted(published: Published) -> None:
    checked(published)


def test_a_grant_that_differs_from_what_was_agreed_is_refused(published: Published) -> None:
    manifest = Manifest.open(published.document, identity_public_key(IDENTITY))
    for what, changes in {
        "the agreement": {"agreement": dataclasses.replace(AGREEMENT, max_list_elements=5)},
        "the manifest": {"digest": bytes(32)},
        "the client certificate": {"certificate": bytes(32)},
        "the list size": {"list_size": 31},
        "the platform": {"platform_id": "fishsite"},
        "the purpose": {"purpose": "marketing.advertising.first_party.targeted"},
        "the profile": {"profile": Profile.UID2},
    }.items():
        if what in ("the platform", "the purpose", "the profile"):
            other = dataclasses.replace(manifest.scope, **changes)
            changes = {"manifest": dataclasses.replace(manifest, scope=other)}
        with pytest.raises(VerificationError, match=what):
            checked(published, **changes)


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
        platform.evaluate(0, platform.decode(request), random_bytes)


def test_an_invalid_element_is_refused_before_anything_is_computed(match: Match) -> None:
    valid = match.request(0).blinded.tobytes()
    assert len(match.platform.decode(EvaluateRequest.decode(0, valid))) == 16
    for damaged in (b"\xff" * 32, bytes(32), bytes(31) + b"\x80", flip(valid[:32], 255)):
        with pytest.raises(DecodeError):
            match.platform.decode(EvaluateRequest.decode(0, valid + damaged))


# Commits.


@pytest.fixture(scope="module")
def committed(group: Group, published: Published) -> tuple[Match, CommitEntries]:
    match = Match(group, published, list(range(30)))
    found, entries = match.run()
    assert sorted(match.open_commit(entries)) == sorted(found) == list(range(0, 30, 2))
    return match, entries


Committed = tuple[Match, CommitEntries]


def test_a_commit_may_leave_matches_out_and_come_in_any_order(committed: Committed) -> None:
    match, entries = committed
    for order in ([], [3], [14, 0, 7], list(range(15))[::-1]):
        part = CommitEntries(entries.tags[order], entries.macs[order])
        whole = match.open_commit(entries)
        assert match.open_commit(part) == [whole[place] for place in order]


def test_a_tag_that_is_twice_in_a_commit_is_refused(committed: Committed) -> None:
    match, entries = committed
    for place in (0, 7, 14):
        order = [*range(15), place]
        with pytest.raises(VerificationError, match="twice"):
            match.open_commit(CommitEntries(entries.tags[order], entries.macs[order]))


def test_a_tag_that_is_not_in_the_generation_is_refused(committed: Committed) -> None:
    match, entries = committed
    for place in (0, 7, 14):
        tags = entries.tags.copy()
        tags[place] = uniform(1, 16, "unknown")[0]
        with pytest.raises(VerificationError, match="not in the generation"):
            match.open_commit(CommitEntries(tags, entries.macs))


@settings(max_examples=50)
@given(bit=st.integers(0, 15 * 256 - 1))
def test_a_flipped_bit_in_a_commit_is_refused(committed: Committed, bit: int) -> None:
    match, entries = committed
    with pytest.raises(VerificationError):
        match.open_commit(CommitEntries.decode(flip(entries.encode(), bit)))


def test_macs_that_change_places_are_refused(committed: Committed) -> None:
    match, entries = committed
    with pytest.raises(VerificationError, match="MAC"):
        match.open_commit(CommitEntries(entries.tags, entries.macs[::-1]))


def test_a_tag_from_the_index_cannot_be_committed_without_its_token(committed: Committed) -> None:
    # Whoever has the index has every tag; 58 is enrolled and not on the list.
    match, entries = committed
    place = match.published.identifiers.index(58)
    tags = np.concatenate([entries.tags, match.published.tags[place : place + 1]])
    for mac in (bytes(16), entries.macs[0].tobytes(), b"\xff" * 16):
        with pytest.raises(VerificationError, match="MAC"):
            match.open_commit(CommitEntries(tags, np.concatenate([entries.macs, rows([mac], 16)])))


def test_more_entries_than_were_evaluated_are_refused(committed: Committed) -> None:
    match, entries = committed
    assert len(match.open_commit(entries, evaluated=15)) == 15
    for evaluated in (0, 1, 14):
        with pytest.raises(LimitError):
            match.open_commit(entries, evaluated=evaluated)


@pytest.mark.parametrize(
    "name", ["session", "agreement", "manifest", "client_certificate", "server_certificate"]
)
def test_a_commit_of_another_transcript_is_refused(committed: Committed, name: str) -> None:
    match, entries = committed
    grant = dataclasses.replace(match.grant, **{name: flip(getattr(match.grant, name), 3)})
    assert transcript_hash(grant) != match.advertiser.transcript
    other = dataclasses.replace(match.platform, grant=grant)
    with pytest.raises(VerificationError, match="MAC"):
        other.open_commit(entries, match.published.tags, match.published.tokens, 94)


@given(st.binary(max_size=200))
def test_arbitrary_commits_raise_nothing_outside_the_error_tree(committed: Committed, content: bytes) -> None:
    match, _ = committed
    opened: list[int] = []
    with contextlib.suppress(PeerError):
        opened = match.open_commit(CommitEntries.decode(content))
    assert opened == []
