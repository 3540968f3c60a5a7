"""The POPRF on batches, against RFC 9497 and a slow implementation of it."""

from collections.abc import Callable
from typing import Any

import pytest
import slow_poprf as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import private_inputs, rows, uniform

from purposematch.protocol.additive_blinding import additive_blind, additive_finalize
from purposematch.protocol.ciphersuite import MAX_INFO_LENGTH, POPRF, Mode, Suite
from purposematch.protocol.dleq import Proof, prove, verify
from purposematch.protocol.errors import DecodeError, LimitError
from purposematch.protocol.group import Elements, Group, SecretScalar
from purposematch.protocol.hashing import one_row
from purposematch.protocol.poprf import (
    MAX_BLINDS,
    EvaluationKey,
    SessionSeed,
    blind,
    derive_key,
    evaluate,
    evaluate_blinded,
    expand_blinds,
    finalize,
    output_hash,
    public_key,
    tweaked_public_key,
    verify_evaluation,
)
from purposematch.protocol.secret import SecretArray, reveal, reveal_array

Vectors = Callable[[str], Any]


def unhex(items: list[str]) -> list[bytes]:
    return [bytes.fromhex(item) for item in items]


def hexed(group: Group, elements: Elements) -> list[str]:
    return [row.tobytes().hex() for row in group.encode(elements)]


def blind_one_by_one(group: Group, suite: Suite, inputs: list[bytes], blinds: list[bytes]) -> Elements:
    """The RFC's batch has inputs of two lengths, and a batch of the product has one."""
    encoded = [
        group.encode(blind(group, suite, one_row(content), SecretArray(one_row(r))))[0].tobytes()
        for content, r in zip(inputs, blinds, strict=True)
    ]
    return group.decode(rows(encoded))


def nonce(case: dict[str, Any]) -> Callable[[int], bytes]:
    """A source of randomness that gives the published nonce of a proof, below the group order."""
    return lambda n: bytes.fromhex(case["proof_random_scalar"]).ljust(n, b"\0")


# RFC 9497, appendix A.1: every published value.


@pytest.mark.parametrize("mode", Mode)
def test_keys_are_those_of_rfc_9497(group: Group, vectors: Vectors, mode: Mode) -> None:
    published = vectors("rfc9497_ristretto255_sha512.json")["modes"][mode]
    seed, info = bytes.fromhex(published["key_seed"]), bytes.fromhex(published["key_info"])
    key = derive_key(group, Suite.of(mode), seed, info)
    assert reveal(key).hex() == published["secret_key"]
    assert slow.scalar_bytes(slow.derive_key(mode, seed, info)).hex() == published["secret_key"]
    if published["public_key"] is not None:
        assert public_key(group, key).hex() == published["public_key"]


@pytest.mark.parametrize("mode", [Mode.OPRF, Mode.VOPRF])
def test_the_modes_without_info_give_every_value_of_rfc_9497(
    group: Group, vectors: Vectors, mode: Mode
) -> None:
    published = vectors("rfc9497_ristretto255_sha512.json")["modes"][mode]
    suite, key = Suite.of(mode), SecretScalar(bytes.fromhex(published["secret_key"]))
    public = group.multiply_generator(key)
    assert len(published["cases"]) == (2 if mode is Mode.OPRF else 3)
    for case in published["cases"]:
        inputs, blinds = unhex(case["inputs"]), unhex(case["blinds"])
        blinded = blind_one_by_one(group, suite, inputs, blinds)
        assert hexed(group, blinded) == case["blinded_elements"]
        evaluated = group.multiply(blinded, key)
        assert hexed(group, evaluated) == case["evaluated_elements"]
        if mode is Mode.VOPRF:
            proof = prove(group, suite, key, public, blinded, evaluated, nonce(case))
            assert proof.encode().hex() == case["proof"]
            verify(group, suite, public, blinded, evaluated, Proof.decode(bytes.fromhex(case["proof"])))
        unblinded = group.multiply_each(evaluated, group.invert(SecretArray(rows(blinds))))
        outputs = [
            output_hash(one_row(content), group.encode(unblinded.rows(i, i + 1)), None).tobytes().hex()
            for i, content in enumerate(inputs)
        ]
        assert outputs == case["outputs"]


def test_the_poprf_gives_every_value_of_rfc_9497(group: Group, vectors: Vectors) -> None:
    published = vectors("rfc9497_ristretto255_sha512.json")["modes"][Mode.POPRF]
    key = SecretScalar(bytes.fromhex(published["secret_key"]))
    assert [case["batch"] for case in published["cases"]] == [1, 1, 2]
    for case in published["cases"]:
        inputs, blinds, info = unhex(case["inputs"]), unhex(case["blinds"]), bytes.fromhex(case["info"])
        server = EvaluationKey(group, POPRF, key, info)
        blinded = blind_one_by_one(group, POPRF, inputs, blinds)
        assert hexed(group, blinded) == case["blinded_elements"]
        evaluated, proof = evaluate_blinded(group, POPRF, server, blinded, nonce(case))
        assert hexed(group, evaluated) == case["evaluated_elements"]
        assert proof.encode().hex() == case["proof"]
        tweaked = tweaked_public_key(group, POPRF, bytes.fromhex(published["public_key"]), info)
        assert hexed(group, tweaked) == hexed(group, server.public)
        verify_evaluation(group, POPRF, tweaked, blinded, evaluated, proof)
        for i, content in enumerate(inputs):
            one, r = evaluated.rows(i, i + 1), SecretArray(one_row(blinds[i]))
            output = finalize(group, POPRF, one_row(content), info, one, r).tobytes()
            assert output.hex() == case["outputs"][i]
            assert evaluate(group, POPRF, server, one_row(content), info).tobytes() == output
            # With the other blinding the same output comes out.
            answer = server.evaluate(group, additive_blind(group, POPRF, one_row(content), r, tweaked))
            assert additive_finalize(group, POPRF, one_row(content), info, answer, r).tobytes() == output


@pytest.mark.parametrize("mode", Mode)
def test_the_slow_implementation_gives_every_value_of_rfc_9497(vectors: Vectors, mode: Mode) -> None:
    published = vectors("rfc9497_ristretto255_sha512.json")["modes"][mode]
    key = int.from_bytes(bytes.fromhex(published["secret_key"]), "little")
    for case in published["cases"]:
        inputs = unhex(case["inputs"])
        blinds = [int.from_bytes(r, "little") for r in unhex(case["blinds"])]
        info = bytes.fromhex(case["info"]) if mode is Mode.POPRF else None
        blinded = [slow.blind(mode, content, r) for content, r in zip(inputs, blinds, strict=True)]
        assert [slow.encode(point).hex() for point in blinded] == case["blinded_elements"]
        r = int.from_bytes(bytes.fromhex(case.get("proof_random_scalar", "")), "little")
        if info is None:
            public, evaluated = slow.multiply(key, slow.GENERATOR), [slow.multiply(key, p) for p in blinded]
            pairs, proof = (blinded, evaluated), slow.prove(mode, key, public, blinded, evaluated, r)
        else:
            public = slow.multiply(key + slow.info_scalar(info), slow.GENERATOR)
            evaluated, proof = slow.blind_evaluate(key, info, blinded, r)
            pairs = (evaluated, blinded)
        assert [slow.encode(point).hex() for point in evaluated] == case["evaluated_elements"]
        if mode is not Mode.OPRF:
            assert proof.hex() == case["proof"]
            slow.verify(mode, public, *pairs, proof)
        outputs = [
            slow.finalize(content, info, slow.unblind(r, point)).hex()
            for content, r, point in zip(inputs, blinds, evaluated, strict=True)
        ]
        assert outputs == case["outputs"]


# The whole exchange, against the slow implementation.


@settings(max_examples=12)
@given(
    key=st.integers(1, slow.L - 1),
    info=st.binary(max_size=400),
    seed=st.binary(min_size=32, max_size=32),
    first=st.integers(0, MAX_BLINDS - 3),
    contents=st.lists(st.binary(min_size=33, max_size=33), min_size=1, max_size=3),
    r=st.integers(1, slow.L - 1),
)
def test_the_exchange_agrees_with_the_slow_implementation_in_every_value(
    group: Group, key: int, info: bytes, seed: bytes, first: int, contents: list[bytes], r: int
) -> None:
    inputs, count = rows(contents, 33), len(contents)
    secret = SecretScalar(slow.scalar_bytes(key))
    blinds = expand_blinds(group, SessionSeed(seed), first, count)
    slow_blinds = [
        int.from_bytes(slow.chacha20_block(seed, first + i, b"blinds v1\0\0\0"), "little") % slow.L
        for i in range(count)
    ]
    assert [row.tobytes() for row in reveal_array(blinds)] == [slow.scalar_bytes(b) for b in slow_blinds]

    blinded = blind(group, POPRF, inputs, blinds)
    slow_blinded = [slow.blind(2, content, b) for content, b in zip(contents, slow_blinds, strict=True)]
    assert hexed(group, blinded) == [slow.encode(point).hex() for point in slow_blinded]

    server = EvaluationKey(group, POPRF, secret, info)
    evaluated, proof = evaluate_blinded(
        group, POPRF, server, blinded, lambda n: slow.scalar_bytes(r).ljust(n, b"\0")
    )
    slow_evaluated, slow_proof = slow.blind_evaluate(key, info, slow_blinded, r)
    assert hexed(group, evaluated) == [slow.encode(point).hex() for point in slow_evaluated]
    assert proof.encode() == slow_proof

    tweaked = tweaked_public_key(group, POPRF, public_key(group, secret), info)
    verify_evaluation(group, POPRF, tweaked, blinded, evaluated, proof)
    # The other blinding sends other elements, which are those of its formula, and gives the same outputs.
    added = additive_blind(group, POPRF, inputs, blinds, tweaked)
    slow_key = slow.multiply(key + slow.info_scalar(info), slow.GENERATOR)
    expected = [
        slow.add(slow.blind(2, content, 1), slow.multiply(b, slow_key))
        for content, b in zip(contents, slow_blinds, strict=True)
    ]
    assert hexed(group, added) == [slow.encode(point).hex() for point in expected]
    answered, proof = evaluate_blinded(group, POPRF, server, added, lambda n: b"\1" * n)
    verify_evaluation(group, POPRF, tweaked, added, answered, proof)
    same = additive_finalize(group, POPRF, inputs, info, answered, blinds)

    outputs = finalize(group, POPRF, inputs, info, evaluated, blinds)
    assert (same == outputs).all()
    assert [row.tobytes() for row in outputs] == [slow.evaluate(key, info, content) for content in contents]
    assert (evaluate(group, POPRF, server, inputs, info) == outputs).all()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_outputs_do_not_depend_on_blinds_or_on_how_a_list_is_batched(group: Group, count: int) -> None:
    inputs, key = private_inputs(range(count)), SecretScalar(b"\5" * 31 + b"\0")
    server = EvaluationKey(group, POPRF, key, b"info")
    expected = evaluate(group, POPRF, server, inputs, b"info")
    for seed in (b"a" * 32, b"b" * 32):
        blinds = expand_blinds(group, SessionSeed(seed), 0, count)
        evaluated = server.evaluate(group, blind(group, POPRF, inputs, blinds))
        assert (finalize(group, POPRF, inputs, b"info", evaluated, blinds) == expected).all()
        evaluated = server.evaluate(group, additive_blind(group, POPRF, inputs, blinds, server.public))
        assert (additive_finalize(group, POPRF, inputs, b"info", evaluated, blinds) == expected).all()
    half = count // 2
    parts = [evaluate(group, POPRF, server, part, b"info") for part in (inputs[:half], inputs[half:])]
    assert b"".join(part.tobytes() for part in parts) == expected.tobytes()


def test_an_empty_batch_has_no_outputs(group: Group) -> None:
    server = EvaluationKey(group, POPRF, SecretScalar(b"\5" * 31 + b"\0"), b"info")
    assert evaluate(group, POPRF, server, private_inputs([]), b"info").shape == (0, 64)
    assert len(expand_blinds(group, SessionSeed(bytes(32)), 0, 0)) == 0


def test_another_info_key_or_kind_gives_other_outputs(group: Group) -> None:
    inputs, key = private_inputs(range(5)), b"\5" * 31 + b"\0"
    phones = inputs.copy()
    phones[:, 0] = 2
    outputs = [
        evaluate(group, POPRF, EvaluationKey(group, POPRF, SecretScalar(k), info), content, info)
        for k, info, content in (
            (key, b"info", inputs),
            (key, b"inf", inputs),
            (key, b"info\0", inputs),
            (key, b"", inputs),
            (key[::-1], b"info", inputs),
            (key, b"info", phones),
        )
    ]
    assert len({row.tobytes() for output in outputs for row in output}) == 5 * len(outputs)


# Blinds.


def test_every_range_of_blinds_can_be_expanded_by_itself(group: Group) -> None:
    seed = SessionSeed(bytes(range(32)))
    whole = reveal_array(expand_blinds(group, seed, 0, 300))
    assert len({row.tobytes() for row in whole}) == 300
    for first, count in ((0, 1), (1, 1), (255, 3), (299, 1), (17, 200)):
        part = reveal_array(expand_blinds(group, seed, first, count))
        assert (part == whole[first : first + count]).all()


def test_blinds_of_another_seed_are_other_blinds(group: Group) -> None:
    first = reveal_array(expand_blinds(group, SessionSeed(bytes(32)), 0, 50))
    second = reveal_array(expand_blinds(group, SessionSeed(b"\1" + bytes(31)), 0, 50))
    assert not (first == second).all(axis=1).any()


def test_the_last_blind_of_a_seed_is_there_and_no_further_one(group: Group) -> None:
    seed = bytes(range(32))
    last = reveal_array(expand_blinds(group, SessionSeed(seed), MAX_BLINDS - 1, 1))
    wide = slow.chacha20_block(seed, MAX_BLINDS - 1, b"blinds v1\0\0\0")
    assert last.tobytes() == slow.scalar_bytes(int.from_bytes(wide, "little"))
    for first, count in ((MAX_BLINDS, 1), (MAX_BLINDS - 1, 2), (-1, 1)):
        with pytest.raises(LimitError):
            expand_blinds(group, SessionSeed(seed), first, count)


def test_the_slow_chacha20_gives_the_block_of_rfc_8439() -> None:
    # Section 2.3.2.
    block = slow.chacha20_block(bytes(range(32)), 1, bytes.fromhex("000000090000004a00000000"))
    assert block.hex().startswith("10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e")
    assert block.hex().endswith("d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e")


# Refusals.


def test_info_has_at_most_65535_bytes(group: Group) -> None:
    key, public = SecretScalar(b"\5" * 31 + b"\0"), public_key(group, SecretScalar(b"\5" * 31 + b"\0"))
    longest = bytes(MAX_INFO_LENGTH)
    server = EvaluationKey(group, POPRF, key, longest)
    assert hexed(group, server.public) == hexed(group, tweaked_public_key(group, POPRF, public, longest))
    with pytest.raises(LimitError):
        EvaluationKey(group, POPRF, key, longest + b"\0")
    with pytest.raises(LimitError):
        tweaked_public_key(group, POPRF, public, longest + b"\0")


def test_a_key_that_the_info_cancels_is_refused_on_both_sides(group: Group) -> None:
    opposite = SecretScalar(slow.scalar_bytes(-slow.info_scalar(b"info")))
    with pytest.raises(DecodeError):
        EvaluationKey(group, POPRF, opposite, b"info")
    with pytest.raises(DecodeError):
        tweaked_public_key(group, POPRF, public_key(group, opposite), b"info")


@pytest.mark.parametrize(
    "public", [b"", bytes(31), bytes(32), bytes(33), b"\xff" * 32, b"\1" + bytes(31), bytes(31) + b"\x80"]
)
def test_a_public_key_that_is_no_element_is_refused(group: Group, public: bytes) -> None:
    with pytest.raises(DecodeError):
        tweaked_public_key(group, POPRF, public, b"info")


def test_as_many_blinds_as_inputs_are_needed(group: Group) -> None:
    blinds = expand_blinds(group, SessionSeed(bytes(32)), 0, 2)
    with pytest.raises(ValueError, match="do not fit"):
        blind(group, POPRF, private_inputs(range(3)), blinds)
    with pytest.raises(ValueError, match="do not fit"):
        additive_blind(group, POPRF, private_inputs(range(3)), blinds, group.map_to_group(uniform(1, 64)))


def test_what_the_platform_receives_is_spread_over_the_group(group: Group) -> None:
    # The same input a hundred times: nothing of what is sent repeats, and no bit of it is fixed but the two
    # that every canonical encoding has at zero.
    inputs = rows([private_inputs([1]).tobytes()] * 100, 33)
    blinds, key = expand_blinds(group, SessionSeed(b"s" * 32), 0, 100), group.map_to_group(uniform(1, 64))
    for sent in (
        group.encode(blind(group, POPRF, inputs, blinds)),
        group.encode(additive_blind(group, POPRF, inputs, blinds, key)),
    ):
        assert len({row.tobytes() for row in sent}) == 100
        ones = [sum(int(row.tobytes().hex(), 16) >> bit & 1 for row in sent) for bit in range(256)]
        assert sorted(ones)[:2] == [0, 0]
        assert 20 < sorted(ones)[2] <= sorted(ones)[-1] < 80
