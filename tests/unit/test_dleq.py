"""Batched proofs: everything that is changed in an exchange makes them fail, with a typed error."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import slow_poprf as slow
from hypothesis import given
from hypothesis import strategies as st
from samples import flip, private_inputs, rows

from purposematch.protocol.ciphersuite import MAX_PROOF_ELEMENTS, POPRF, Mode, Suite
from purposematch.protocol.dleq import Proof, prove, verify
from purposematch.protocol.errors import DecodeError, LimitError, VerificationError
from purposematch.protocol.group import Bytes, Elements, Group, SecretScalar
from purposematch.protocol.poprf import (
    EvaluationKey,
    SessionSeed,
    blind,
    evaluate_blinded,
    expand_blinds,
    public_key,
    tweaked_public_key,
    verify_evaluation,
)

KEY = SecretScalar(b"\5" * 31 + b"\0")
OTHER_KEY = SecretScalar(b"\6" * 31 + b"\0")
INFO = b"info"
SIZE = 5


def random_bytes(n: int) -> bytes:
    """Fixed bytes in place of random ones, so that a failure can be repeated."""
    return b"\x37" * n


@dataclass(frozen=True)
class Exchange:
    """One honest exchange, in bytes as they travel."""

    public: bytes
    blinded: Bytes
    evaluated: Bytes
    proof: bytes


@pytest.fixture(scope="module")
def exchange(group: Group) -> Exchange:
    blinded = blind(
        group, POPRF, private_inputs(range(SIZE)), expand_blinds(group, SessionSeed(bytes(32)), 0, SIZE)
    )
    evaluated, proof = evaluate_blinded(
        group, POPRF, EvaluationKey(group, POPRF, KEY, INFO), blinded, random_bytes
    )
    return Exchange(public_key(group, KEY), group.encode(blinded), group.encode(evaluated), proof.encode())


def check(
    group: Group,
    exchange: Exchange,
    *,
    info: bytes = INFO,
    public: bytes | None = None,
    blinded: Bytes | None = None,
    evaluated: Bytes | None = None,
    proof: bytes | None = None,
) -> None:
    """Verifies the exchange with something in it replaced."""
    verify_evaluation(
        group,
        POPRF,
        tweaked_public_key(group, POPRF, exchange.public if public is None else public, info),
        group.decode(exchange.blinded if blinded is None else blinded),
        group.decode(exchange.evaluated if evaluated is None else evaluated),
        Proof.decode(exchange.proof if proof is None else proof),
    )


def test_an_honest_exchange_is_accepted_by_both_implementations(group: Group, exchange: Exchange) -> None:
    check(group, exchange)
    t = int.from_bytes(b"\5" * 31 + b"\0", "little") + slow.info_scalar(INFO)
    points = [[slow.decode(row.tobytes()) for row in part] for part in (exchange.evaluated, exchange.blinded)]
    slow.verify(2, slow.multiply(t, slow.GENERATOR), *points, exchange.proof)


# Each example verifies a whole batch; the published position classes are all within reach.
bits = st.integers(0, 255) | st.sampled_from([0, 1, 7, 8, 247, 248, 252, 253, 254, 255])


@given(st.integers(0, 511) | st.sampled_from([0, 252, 253, 254, 255, 256, 508, 509, 510, 511]))
def test_a_flipped_bit_in_a_proof_is_refused(group: Group, exchange: Exchange, bit: int) -> None:
    with pytest.raises((VerificationError, DecodeError)):
        check(group, exchange, proof=flip(exchange.proof, bit))


@given(st.integers(0, SIZE - 1), bits)
def test_a_flipped_bit_in_an_evaluated_element_is_refused(
    group: Group, exchange: Exchange, number: int, bit: int
) -> None:
    changed = exchange.evaluated.copy()
    changed[number] = np.frombuffer(flip(changed[number].tobytes(), bit), np.uint8)
    with pytest.raises((VerificationError, DecodeError)):
        check(group, exchange, evaluated=changed)


@given(st.integers(0, SIZE - 1), bits)
def test_a_flipped_bit_in_a_blinded_element_is_refused(
    group: Group, exchange: Exchange, number: int, bit: int
) -> None:
    changed = exchange.blinded.copy()
    changed[number] = np.frombuffer(flip(changed[number].tobytes(), bit), np.uint8)
    with pytest.raises((VerificationError, DecodeError)):
        check(group, exchange, blinded=changed)


@given(bits)
def test_a_flipped_bit_in_the_public_key_is_refused(group: Group, exchange: Exchange, bit: int) -> None:
    with pytest.raises((VerificationError, DecodeError)):
        check(group, exchange, public=flip(exchange.public, bit))


@given(st.binary(max_size=50))
def test_a_proof_for_another_info_is_refused(group: Group, exchange: Exchange, info: bytes) -> None:
    if info != INFO:
        with pytest.raises(VerificationError):
            check(group, exchange, info=info)


@given(st.binary(min_size=64, max_size=64) | st.binary(max_size=130))
def test_arbitrary_bytes_are_no_proof(group: Group, exchange: Exchange, proof: bytes) -> None:
    with pytest.raises((VerificationError, DecodeError)):
        check(group, exchange, proof=proof)


@pytest.mark.parametrize("zero", ["challenge", "response", "both"])
def test_a_proof_of_zeros_is_refused(group: Group, exchange: Exchange, zero: str) -> None:
    challenge = exchange.proof[:32] if zero == "response" else bytes(32)
    response = exchange.proof[32:] if zero == "challenge" else bytes(32)
    with pytest.raises(VerificationError):
        check(group, exchange, proof=challenge + response)


def test_a_response_that_is_not_reduced_is_refused(group: Group, exchange: Exchange) -> None:
    # The same integer modulo the group order: a second encoding of the same proof.
    response = int.from_bytes(exchange.proof[32:], "little") + slow.L
    with pytest.raises(DecodeError):
        check(group, exchange, proof=exchange.proof[:32] + response.to_bytes(32, "little"))


@pytest.mark.parametrize("number", range(SIZE))
def test_another_key_for_one_element_is_refused(group: Group, exchange: Exchange, number: int) -> None:
    blinded = group.decode(exchange.blinded)
    other = EvaluationKey(group, POPRF, OTHER_KEY, INFO).evaluate(group, blinded)
    changed = exchange.evaluated.copy()
    changed[number] = group.encode(other)[number]
    with pytest.raises(VerificationError):
        check(group, exchange, evaluated=changed)
    # A proof that the dishonest platform makes anew over what it sends does not hold either.
    proof = EvaluationKey(group, POPRF, KEY, INFO).prove(
        group, POPRF, blinded, group.decode(changed), random_bytes
    )
    with pytest.raises(VerificationError):
        check(group, exchange, evaluated=changed, proof=proof.encode())


def test_another_key_for_the_whole_batch_is_refused(group: Group, exchange: Exchange) -> None:
    blinded = group.decode(exchange.blinded)
    other = EvaluationKey(group, POPRF, OTHER_KEY, INFO)
    evaluated, proof = evaluate_blinded(group, POPRF, other, blinded, random_bytes)
    with pytest.raises(VerificationError):
        check(group, exchange, evaluated=group.encode(evaluated), proof=proof.encode())
    check(
        group,
        exchange,
        evaluated=group.encode(evaluated),
        proof=proof.encode(),
        public=public_key(group, OTHER_KEY),
    )


@given(st.permutations(range(SIZE)))
def test_elements_in_another_order_are_refused(group: Group, exchange: Exchange, order: list[int]) -> None:
    if order != sorted(order):
        with pytest.raises(VerificationError):
            check(group, exchange, evaluated=exchange.evaluated[order])
        with pytest.raises(VerificationError):
            check(group, exchange, blinded=exchange.blinded[order])
        # Both sides of every pair moved: the proof is bound to the places as well.
        with pytest.raises(VerificationError):
            check(group, exchange, blinded=exchange.blinded[order], evaluated=exchange.evaluated[order])


def test_blinded_and_evaluated_elements_do_not_change_places(group: Group, exchange: Exchange) -> None:
    with pytest.raises(VerificationError):
        check(group, exchange, blinded=exchange.evaluated, evaluated=exchange.blinded)


def test_a_proof_for_a_part_of_a_batch_does_not_hold_for_it_alone(group: Group, exchange: Exchange) -> None:
    with pytest.raises(VerificationError):
        check(group, exchange, blinded=exchange.blinded[:-1], evaluated=exchange.evaluated[:-1])


def test_a_proof_of_another_mode_is_refused(group: Group, exchange: Exchange) -> None:
    with pytest.raises(VerificationError):
        verify(
            group,
            Suite.of(Mode.VOPRF),
            tweaked_public_key(group, POPRF, exchange.public, INFO),
            group.decode(exchange.evaluated),
            group.decode(exchange.blinded),
            Proof.decode(exchange.proof),
        )


def test_a_proof_by_the_slow_implementation_is_accepted(group: Group, exchange: Exchange) -> None:
    t = int.from_bytes(b"\5" * 31 + b"\0", "little") + slow.info_scalar(INFO)
    points = [[slow.decode(row.tobytes()) for row in part] for part in (exchange.evaluated, exchange.blinded)]
    proof = slow.prove(2, t, slow.multiply(t, slow.GENERATOR), *points, 1234567)
    check(group, exchange, proof=proof)
    assert proof != exchange.proof


@pytest.mark.parametrize("size", [256, 257])
def test_a_batch_of_several_chunks_is_proved_and_its_last_element_counts(group: Group, size: int) -> None:
    blinded = group.map_to_group(rows((slow.expand_message_xmd(b"%d" % i, b"", 64) for i in range(size)), 64))
    key = EvaluationKey(group, POPRF, KEY, INFO)
    evaluated, proof = evaluate_blinded(group, POPRF, key, blinded, random_bytes)
    verify_evaluation(group, POPRF, key.public, blinded, evaluated, proof)
    for number in (0, 255, size - 1):
        changed = group.encode(evaluated).copy()
        changed[number] = group.encode(key.public)[0]
        with pytest.raises(VerificationError):
            verify_evaluation(group, POPRF, key.public, blinded, group.decode(changed), proof)


def test_places_above_255_in_a_batch_are_hashed_as_the_slow_implementation_does(group: Group) -> None:
    blinded = group.map_to_group(rows((slow.expand_message_xmd(b"%d" % i, b"", 64) for i in range(258)), 64))
    key = EvaluationKey(group, POPRF, KEY, INFO)
    evaluated, proof = evaluate_blinded(group, POPRF, key, blinded, random_bytes)
    points = [[slow.decode(row.tobytes()) for row in group.encode(part)] for part in (evaluated, blinded)]
    public = slow.decode(group.encode(key.public).tobytes())
    slow.verify(2, public, *points, proof.encode())


class Uncomputed(Elements):
    """As many elements as one likes, with which nothing can be computed."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def rows(self, start: int, stop: int) -> "Uncomputed":
        raise AssertionError("work was spent before the limit was checked")


@pytest.mark.parametrize(
    ("c", "d"),
    [
        (0, 0),
        (MAX_PROOF_ELEMENTS + 1, MAX_PROOF_ELEMENTS + 1),
        (10**9, 10**9),
        (SIZE, SIZE + 1),
        (SIZE, 0),
        (0, SIZE),
        (MAX_PROOF_ELEMENTS, MAX_PROOF_ELEMENTS + 1),
    ],
)
def test_the_limit_of_a_proof_is_checked_before_any_work(
    group: Group, exchange: Exchange, c: int, d: int
) -> None:
    public = group.decode(rows([exchange.public]))
    attempts: list[Callable[[], object]] = [
        lambda: prove(group, POPRF, KEY, public, Uncomputed(c), Uncomputed(d), random_bytes),
        lambda: verify(group, POPRF, public, Uncomputed(c), Uncomputed(d), Proof.decode(exchange.proof)),
    ]
    for attempt in attempts:
        with pytest.raises(LimitError):
            attempt()


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 128])
def test_a_proof_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        Proof.decode(bytes(length))


def test_a_proof_decodes_to_what_was_encoded(exchange: Exchange) -> None:
    assert Proof.decode(exchange.proof).encode() == exchange.proof
