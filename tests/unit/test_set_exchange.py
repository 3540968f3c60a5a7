"""Both halves of the set exchange against the plain intersection and a slow implementation; and cheats."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import slow_set_exchange as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from rehearsal import SECRET, SEED, Rehearsal
from samples import manifest, private_input, private_inputs, uniform

from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.ciphersuite import SET_EXCHANGE
from purposematch.protocol.dleq import Proof, composite_weights, prove
from purposematch.protocol.errors import DecodeError, LimitError, StateError, VerificationError
from purposematch.protocol.group import Bytes, Group
from purposematch.protocol.point_segments import PLANTED_COUNT
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.secret import reveal, reveal_array
from purposematch.protocol.set_exchange import meeting as meeting_module
from purposematch.protocol.set_exchange.advertiser import AdvertiserExchange, secret_order
from purposematch.protocol.set_exchange.meeting import check_planted, meet
from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
from purposematch.protocol.set_exchange.points import (
    MaskKey,
    list_points,
    list_secret,
    masks,
    scope_points,
)
from purposematch.protocol.set_exchange.weights import short_weights
from purposematch.protocol.transcript import transcript_hash

NAMES = ["platform", "count-2"]
names = pytest.mark.parametrize("name", NAMES)
OTHER_SEED = hashlib.sha256(b"another session").digest()


def encoded(batches: list[Any]) -> list[bytes]:
    """The elements of some batches, one after the other."""
    return [row.tobytes() for batch in batches for row in batch.elements]


@given(
    enrolled=st.sets(st.integers(0, 60), max_size=40),
    listed=st.sets(st.integers(0, 60), min_size=1, max_size=40),
    batch=st.integers(1, 130),
    segment=st.integers(1, 130),
    name=st.sampled_from(NAMES),
)
@settings(max_examples=25)
def test_the_lists_meet_where_the_plain_sets_do(
    group: Group, enrolled: set[int], listed: set[int], batch: int, segment: int, name: str
) -> None:
    run = Rehearsal(group, name, sorted(enrolled), sorted(listed), batch, segment)
    meeting = run.take(run.own(), run.returned())
    assert meeting.count == len(enrolled & listed)
    # Canaries meet, and are in no count.
    assert len(meeting.places) == len(enrolled & listed) + 64
    if name == "platform":
        assert run.matched(meeting) == enrolled & listed


@names
def test_every_byte_is_that_of_the_slow_implementation(group: Group, name: str) -> None:
    enrolled, listed = [1, 2, 3, 4], [3, 4, 5]
    run = Rehearsal(group, name, enrolled, listed, batch=33, segment=50)
    info, epoch = run.manifest.scope.info(), reveal(SECRET)
    canaries = [row.tobytes() for row in canary_inputs(run.manifest.generation)]
    contents = [*map(private_input, enrolled), *canaries]
    # What stands for the identifiers is the rehearsal's choice; canaries have theirs.
    mask_inputs = [content[7:23] for content in contents[:4]] + [canary[1:17] for canary in canaries]
    points = slow.point_list(epoch, name, info, contents, mask_inputs)
    assert [row.tobytes() for row in run.points] == points
    own = slow.own_elements(SEED, name, info, list(map(private_input, listed)), canaries)
    assert encoded(run.own()) == own
    returned = slow.returned_points(SEED, name, points)
    batches = run.returned()
    assert encoded(batches) == returned
    exponent, in_order = run.own()[0].exponent, [row.tobytes() for row in run.mask_inputs]
    assert len(slow.meet(epoch, name, exponent, own, returned, in_order)) == 2 + 64
    if name == "platform":
        transcript = transcript_hash(run.grant)
        parts = [(points[at : at + 50], returned[at : at + 50]) for at in range(0, len(points), 50)]
        proofs = [slow.prove(transcript, SEED, n, *part) for n, part in enumerate(parts)]
        assert [batch.proof and batch.proof.encode() for batch in batches] == proofs
    assert run.take(run.own(), batches).count == 2


@names
def test_what_is_made_again_is_the_same_bytes(group: Group, name: str) -> None:
    first, again = (Rehearsal(group, name, range(5), range(9), 30, 40) for _ in range(2))
    assert [batch.digest for batch in first.own()] == [batch.digest for batch in again.own()]
    assert [batch.digest for batch in first.returned()] == [batch.digest for batch in again.returned()]
    assert [batch.proof for batch in first.returned()] == [batch.proof for batch in again.returned()]
    other = Rehearsal(group, name, range(5), range(9), 30, 40, seed=OTHER_SEED)
    assert not set(encoded(other.own())) & set(encoded(first.own()))
    assert not set(encoded(other.returned())) & set(encoded(first.returned()))


def test_no_element_of_one_list_is_in_another(group: Group) -> None:
    lists = [Rehearsal(group, name, range(9), range(9)) for name in ("platform", "count-1", "count-2")]
    points = [row.tobytes() for run in lists for row in run.points]
    own = [element for run in lists for element in encoded(run.own())]
    assert len(set(points)) == len(points) == 3 * (9 + 64) + 2 * PLANTED_COUNT
    assert len(set(own)) == len(own)
    secrets = {reveal(list_secret(SECRET, name)) for name in ("platform", "count-1", "count-2")}
    assert len(secrets) == 3


def test_masks_make_points_that_nobody_ties_to_identifiers(group: Group) -> None:
    """The same identifier under another mask is another point, and no two identifiers share a mask."""
    inputs, info, secret = private_inputs(range(20)), manifest().scope.info(), list_secret(SECRET, "platform")
    assert isinstance(secret, MaskKey)
    keyed = uniform(20, 16)
    made = masks(group, secret, keyed)
    assert len({row.tobytes() for row in reveal_array(made)}) == 20
    hashed = scope_points(group, "platform", info, inputs)
    points = list_points(group, "platform", info, secret, inputs, keyed)
    others = list_points(group, "platform", info, secret, inputs, keyed[::-1].copy())
    encoded = [group.encode(each) for each in (hashed, points, others)]
    assert len({row.tobytes() for rows in encoded for row in rows}) == 60
    # Without its mask every point is the hash again: nothing else is in it.
    free = group.add_multiples(points, made, negate=True)
    assert (group.encode(free) == encoded[0]).all()


def test_an_order_is_a_permutation_that_depends_on_seed_and_use() -> None:
    seed = SessionSeed(SEED)
    for count in (0, 1, 7, 8, 9, 1_000, 65_537):
        assert np.array_equal(np.sort(secret_order(seed, "a", count)), np.arange(count))
    orders = [secret_order(SessionSeed(s), use, 1_000) for s in (SEED, OTHER_SEED) for use in "ab"]
    assert len({order.tobytes() for order in orders}) == 4
    # Where a number goes says nothing about it: correlations of random orders have deviation 1/sqrt(1000).
    for order in orders:
        assert abs(np.corrcoef(order, np.arange(1_000))[0, 1]) < 0.16


# Cheating: `platform` always refuses.


def swapped(batch: Any, i: int, j: int) -> Any:
    """A batch with two elements in each other's place."""
    elements = batch.elements.copy()
    elements[[i, j]] = elements[[j, i]]
    return replace(batch, elements=elements)


def put(batch: Any, place: int, element: bytes | Bytes) -> Any:
    """A batch with one element replaced."""
    elements = batch.elements.copy()
    elements[place] = np.frombuffer(bytes(element), np.uint8)
    return replace(batch, elements=elements)


def cheats(run: Rehearsal, other: Rehearsal) -> dict[str, Callable[[list[Any]], Any]]:
    """What a client may give back instead, by name; each changes the first batch."""
    theirs = other.returned()
    group, first = run.group, run.points[run.advertiser.returned_places(0)]
    doubled = group.encode(group.multiply(group.decode(first[:1]), run.advertiser._a.__class__(TWO)))

    def reproved(batches: list[Any]) -> list[Any]:
        # The honest proof of another order: by itself it holds.
        forged = run.advertiser.give_back(0, first[::-1].copy())
        return [forged, *batches[1:]]

    return {
        "wrong order": lambda batches: [swapped(batches[0], 3, 4), *batches[1:]],
        "wrong order, proved": reproved,
        "another client's point": lambda b: [put(b[0], 5, theirs[0].elements[5].tobytes()), *b[1:]],
        "another client's batch": lambda b: [theirs[0], *b[1:]],
        "another exponent for one point": lambda b: [put(b[0], 0, doubled.tobytes()), *b[1:]],
        "the point itself": lambda b: [put(b[0], 6, first[6].tobytes()), *b[1:]],
        "a point twice": lambda b: [put(b[0], 7, b[0].elements[8].tobytes()), *b[1:]],
        "another batch's": lambda b: [replace(b[1], number=0), *b[1:]],
        "a proof of another batch": lambda b: [replace(b[0], proof=b[1].proof), *b[1:]],
    }


TWO = b"\2".ljust(32, b"\0")
CHEATS = [
    *("wrong order", "wrong order, proved", "another client's point", "another client's batch"),
    *("another exponent for one point", "the point itself", "a point twice", "another batch's"),
    "a proof of another batch",
]


@pytest.mark.parametrize("cheat", CHEATS)
def test_platform_refuses_whatever_is_not_its_list_multiplied(group: Group, cheat: str) -> None:
    run = Rehearsal(group, "platform", range(36), range(20), 50, 50)
    other = Rehearsal(group, "platform", range(36), range(20), 50, 50, seed=OTHER_SEED)
    assert len(run.shape.segments) == 2
    assert set(CHEATS) == set(cheats(run, other))
    changed = cheats(run, other)[cheat](run.returned())
    with pytest.raises(VerificationError, match="not those of the list in their order"):
        run.take(run.own(), changed)
    assert run.take(run.own(), run.returned()).count == 20


def test_another_session_proves_nothing(group: Group) -> None:
    run = Rehearsal(group, "platform", range(10), range(10))
    returned = run.returned()
    run.platform = replace(run.platform, grant=replace(run.grant, session=b"\x77" * 16))
    with pytest.raises(VerificationError):
        run.take(run.own(), returned)


def test_every_changed_bit_of_a_proof_is_refused(group: Group) -> None:
    run = Rehearsal(group, "platform", range(3), range(3))
    (batch,) = run.returned()
    assert batch.proof is not None
    for bit in range(0, 512, 37):
        content = bytearray(batch.proof.encode())
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises((VerificationError, DecodeError)):
            run.take(run.own(), [replace(batch, proof=Proof.decode(bytes(content)))])


def test_weights_are_short_and_depend_on_everything_that_is_proved(group: Group) -> None:
    elements = group.map_to_group(uniform(40, 64))
    public, other = elements.rows(0, 1), elements.rows(39, 40)
    c, d = elements.rows(1, 20), elements.rows(20, 39)
    first = short_weights(group, SET_EXCHANGE, public, c, d)
    assert not first[:, 16:].any()
    assert first[:, 15].max() < 0x40
    # Bits 120 and up are in use.
    assert first[:, 15].max() > 0x0F
    encoded = group.encode(d).copy()
    encoded[[3, 4]] = encoded[[4, 3]]
    for changed in (
        short_weights(group, SET_EXCHANGE.bound_to(bytes(32)), public, c, d),
        short_weights(group, SET_EXCHANGE, other, c, d),
        short_weights(group, SET_EXCHANGE, public, d, c),
        short_weights(group, SET_EXCHANGE, public, c, group.decode(encoded)),
        short_weights(group, SET_EXCHANGE, public, c.rows(0, 18), d.rows(0, 18)),
    ):
        assert not (changed == first[: len(changed)]).all(axis=1).any()


def test_a_proof_with_the_weights_of_the_standard_does_not_hold(group: Group) -> None:
    run = Rehearsal(group, "platform", range(3), range(3))
    (batch,) = run.returned()
    suite = SET_EXCHANGE.bound_to(transcript_hash(run.grant))
    pairs = group.decode(run.points), group.decode(batch.elements)
    public, a = run.advertiser._public, run.advertiser._a
    for weigh, holds in ((short_weights, True), (composite_weights, False)):
        proof = prove(group, suite, a, public, *pairs, lambda length: b"\x17" * length, weigh)
        back = [replace(batch, proof=proof)]
        if holds:
            assert run.take(run.own(), back).count == 3
        else:
            with pytest.raises(VerificationError, match="not those of the list"):
                run.take(run.own(), back)


def test_no_mask_is_taken_off_what_nobody_proved(group: Group) -> None:
    run = Rehearsal(group, "platform", range(3), range(3))
    (batch,) = run.returned()
    unproved = replace(batch, proof=None)
    for back, inputs in ((unproved, run.mask_inputs), (batch, None), (unproved, None)):
        with pytest.raises(VerificationError, match="without a proof"):
            run.platform.returned_marks(back, run.advertiser._public, run.points, inputs)


def test_a_guessed_point_meets_only_whom_it_was_made_for(group: Group) -> None:
    """Whoever has a point and not its mask meets nothing with it, or with its multiple."""
    run = Rehearsal(group, "platform", range(30), range(20, 50))
    own, returned = run.own(), run.returned()
    assert run.take(own, returned).count == 10
    own[0] = put(own[0], 0, returned[0].elements[0])
    own[0] = put(own[0], 1, run.points[1])
    own[0] = put(own[0], 2, np.frombuffer(own[0].exponent, np.uint8))
    # What else is on the list still meets: 10 of it are enrolled.
    left = [run.listed[number] for number in run.advertiser.own_numbers(0)[3:]]
    assert run.take(own, returned).count == sum(number < 30 for number in left)


@names
def test_many_exponents_on_one_identifier_gain_nothing(group: Group, name: str) -> None:
    """Own elements a_i*H(y) under other exponents than that of the returned points meet nothing."""
    run = Rehearsal(group, name, range(30), range(20), 84, 500)
    own = run.own()
    victim = group.decode(own[0].elements[:1])
    for place in range(1, 20):
        scalar = run.advertiser._a.__class__(bytes([place + 1]).ljust(32, b"\0"))
        own[0] = put(own[0], place, group.encode(group.multiply(victim, scalar)).tobytes())
    assert run.take(own, run.returned()).count == 1


@names
def test_an_own_element_that_comes_twice_is_refused(group: Group, name: str) -> None:
    run = Rehearsal(group, name, range(9), range(9))
    own = run.own()
    with pytest.raises(VerificationError, match="came twice"):
        run.take([put(own[0], 1, own[0].elements[0].tobytes()), *own[1:]], run.returned())


@names
@pytest.mark.parametrize("what", ["scope", "generation", "a guess in a canary's place"])
def test_canaries_find_lists_that_do_not_fit(group: Group, name: str, what: str) -> None:
    run = Rehearsal(group, name, range(9), range(9))
    own = run.own()
    if what == "generation":
        stale = Rehearsal(group, name, range(9), range(9), canaries=b"\x01" * 16)
        run.points, run.manifest, run.advertiser = stale.points, stale.manifest, stale.advertiser
        own = Rehearsal(group, name, range(9), range(9)).own()
    elif what == "scope":
        scope = replace(run.manifest.scope, epoch=8)
        advertiser = AdvertiserExchange(
            group,
            name,
            run.grant,
            replace(run.manifest, scope=scope),
            SessionSeed(SEED),
            in_order=run.in_order,
        )
        run.advertiser = advertiser
        own = run.own()
    else:
        guess = Rehearsal(group, name, range(9), range(40, 49)).own()[0].elements[0]
        own[0] = put(own[0], -1, guess.tobytes())
    with pytest.raises(VerificationError, match="canaries"):
        run.take(own, run.returned())


@names
@pytest.mark.parametrize("element", [b"\0" * 32, b"\xff" * 32, b"\1" + b"\0" * 31, b"\0" * 31 + b"\x80"])
def test_an_invalid_element_is_refused_before_anything_is_computed(
    group: Group, name: str, element: bytes
) -> None:
    run = Rehearsal(group, name, range(9), range(9))
    own, returned = run.own(), run.returned()
    with pytest.raises(DecodeError):
        run.take([put(own[0], 4, element), *own[1:]], returned)
    with pytest.raises(DecodeError):
        run.take([replace(own[0], exponent=element), *own[1:]], returned)
    with pytest.raises(DecodeError):
        run.take(own, [put(returned[0], 4, element), *returned[1:]])


@names
def test_batches_have_their_numbers_lengths_and_proofs(group: Group, name: str) -> None:
    run = Rehearsal(group, name, range(30), range(60), 50, 60)
    own, returned, platform = run.own(), run.returned(), run.platform
    assert [len(batch.elements) for batch in own] == [50, 50, 24]
    assert platform.admit_own(own[0], None, None)
    assert not platform.admit_own(own[0], own[0].digest, own[0].exponent)
    assert not platform.admit_returned(returned[0], returned[0].digest)
    with pytest.raises(StateError):
        platform.admit_own(swapped(own[0], 0, 1), own[0].digest, own[0].exponent)
    with pytest.raises(StateError, match="exponent"):
        platform.admit_own(own[1], None, b"\x11" * 32)
    with pytest.raises(StateError):
        platform.admit_returned(swapped(returned[0], 0, 1), returned[0].digest)
    for wrong in (
        replace(own[0], number=3),
        replace(own[0], number=2),
        replace(own[2], elements=own[2].elements[:-1]),
    ):
        with pytest.raises(LimitError):
            platform.admit_own(wrong, None, None)
    last = returned[-1]
    for back in (replace(last, number=99), replace(last, elements=last.elements[:-1])):
        with pytest.raises(LimitError):
            platform.admit_returned(back, None)
    proof = None if run.in_order else Proof(b"\1" * 32, b"\1" * 32)
    with pytest.raises(VerificationError, match="proof"):
        platform.admit_returned(replace(last, proof=proof), None)
    for number in (-1, 2**31):
        with pytest.raises(LimitError):
            OwnBatch(number, own[0].exponent, own[0].elements)
        with pytest.raises(LimitError):
            ReturnedBatch(number, last.elements, None)
    with pytest.raises(LimitError):
        run.advertiser.own(0, canary_inputs(b"\0" * 16)[:3])
    with pytest.raises(LimitError):
        run.advertiser.give_back(0, run.points[:3])
    assert [run.shape.charged(number) for number in range(3)] == [50, 10, 0]


@given(
    content=st.binary(max_size=200),
    exponent=st.binary(min_size=30, max_size=34),
    number=st.integers(-1, 2**31),
)
def test_batches_are_parsed_or_refused(content: bytes, exponent: bytes, number: int) -> None:
    try:
        own = OwnBatch.decode(number, exponent, content)
        assert own.elements.tobytes() == content
        assert (len(own.exponent), len(content) % 32) == (32, 0)
    except (DecodeError, LimitError):
        pass
    try:
        returned = ReturnedBatch.decode(number, content, exponent * 2)
        assert len(returned.elements) > 0
    except (DecodeError, LimitError):
        pass
    # What is sent again must be the same: every part is in the digest.
    one = OwnBatch(1, b"\1" * 32, np.zeros((1, 32), np.uint8))
    digests = {
        one.digest,
        replace(one, number=2).digest,
        replace(one, exponent=b"\2" * 32).digest,
        replace(one, elements=np.ones((1, 32), np.uint8)).digest,
    }
    assert len(digests) == 4


# Cheating: `count` refuses with a probability.


def test_count_refuses_a_point_that_comes_twice_or_an_own_point_in_its_place(group: Group) -> None:
    run = Rehearsal(group, "count-2", range(30), range(20), 100, 100)
    returned = run.returned()
    assert run.take(run.own(), returned).count == 20
    # Whatever was planted at that place, a second copy elsewhere is found for certain.
    twice = put(returned[0], 0, returned[1].elements[0].tobytes())
    with pytest.raises(VerificationError):
        run.take(run.own(), [twice, *returned[1:]])
    # Any order does: nothing is known of it.
    assert run.take(run.own(), [swapped(returned[0], 3, 4), *returned[1:]]).count == 20


def refusal_probability(points: int, changed: int) -> float:
    """1 - C(points - 128, changed) / C(points, changed), as docs/protocol.md derives it."""
    passes = 1.0
    for i in range(changed):
        passes *= (points - PLANTED_COUNT - i) / (points - i)
    return 1 - passes


@pytest.mark.parametrize("changed", [1, 2, 5])
def test_count_refuses_changed_points_as_often_as_the_docs_say(changed: int) -> None:
    """Points that are left out for others, at random places, 2,000 times; marks stand for points."""
    rng = np.random.default_rng(7)
    points, runs, refused = 1_280, 2_000, 0
    for _ in range(runs):
        returned = rng.integers(0, 256, (points, 16), dtype=np.uint8)
        planted = returned[rng.choice(points, PLANTED_COUNT, replace=False)]
        cheated = returned.copy()
        # The advertiser does not know what was planted, so any choice is as good as a random one.
        cheated[rng.choice(points, changed, replace=False)] = rng.integers(
            0, 256, (changed, 16), dtype=np.uint8
        )
        try:
            check_planted(planted, partial(list, [cheated]), points)
        except VerificationError:
            refused += 1
    expected = refusal_probability(points, changed)
    # Five deviations: it fails for a wrong formula and not by chance.
    assert abs(refused / runs - expected) < 5 * (expected * (1 - expected) / runs) ** 0.5


def test_a_client_that_uses_another_exponent_for_half_of_the_list_is_refused(group: Group) -> None:
    run = Rehearsal(group, "count-2", range(200), range(20), 100, 1_000)
    other = Rehearsal(group, "count-2", range(200), range(20), 100, 1_000, seed=OTHER_SEED)
    (mine,), (theirs,) = run.returned(), other.returned()
    half = mine.elements.copy()
    half[::2] = theirs.elements[::2]
    # It passes with a probability of 2^-128 about.
    with pytest.raises(VerificationError, match="planted"):
        run.take(run.own(), [replace(mine, elements=half)])


@pytest.mark.parametrize("at_a_time", [7, 64, 2**22])
def test_planted_points_and_repeats_are_found_in_blocks_of_any_length(
    monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(meeting_module, "POINTS_AT_A_TIME", at_a_time)
    returned = np.random.default_rng(1).integers(0, 256, (500, 16), dtype=np.uint8)
    planted = returned[100:228]

    def check(rows: Bytes) -> None:
        check_planted(planted, lambda: [rows[at : at + 13] for at in range(0, len(rows), 13)], len(rows))

    check(returned)
    repeated = returned.copy()
    repeated[450] = repeated[3]
    with pytest.raises(VerificationError, match="twice"):
        check(repeated)
    without = np.delete(returned, 150, axis=0)
    with pytest.raises(VerificationError, match="1 of 128"):
        check(without)


@given(
    own=st.sets(st.integers(0, 400), max_size=80),
    returned=st.sets(st.integers(0, 400), max_size=80),
    block=st.integers(1, 50),
)
def test_meeting_is_a_plain_intersection(own: set[int], returned: set[int], block: int) -> None:
    def mark(number: int) -> bytes:
        return hashlib.sha256(b"mark %d" % number).digest()[:16]

    def table(numbers: list[int]) -> Bytes:
        return np.frombuffer(b"".join(map(mark, numbers)), np.uint8).reshape(-1, 16)

    canaries = list(range(1_000, 1_064))
    theirs = sorted(returned) + canaries
    rows = table(theirs)
    found = meet(table(sorted(own) + canaries), [rows[at : at + block] for at in range(0, len(rows), block)])
    assert found.count == len(own & returned)
    assert {theirs[place] for place in found.places.tolist()} == (own & returned) | set(canaries)
