"""The group: each step of a match on one core, and libsodium's bare calls beside them."""

import os
import time
from typing import Any

import numpy as np
import pytest
import rbcl

from purposematch.protocol.additive_blinding import additive_blind, additive_finalize
from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, OUTPUT_LENGTH, POPRF, WIDE_LENGTH
from purposematch.protocol.dleq import Proof
from purposematch.protocol.group import Elements, Group, default_group
from purposematch.protocol.hashing import expand_message_xmd, hash_to_group
from purposematch.protocol.identifiers import Kind, Profile, digest_raw, private_inputs
from purposematch.protocol.poprf import verify_evaluation
from purposematch.protocol.secret import reveal_array


def test_hash_to_group(measure: Any, material: Any, one_core: Group, size: int) -> None:
    assert len(measure("hash to group", hash_to_group, one_core, POPRF, material.inputs)) == size


def test_strings_to_group_elements(measure: Any, material: Any, one_core: Group, size: int) -> None:
    def hash_strings() -> Elements:
        digests = digest_raw(material.emails, Kind.EMAIL, Profile.PLAIN).digests
        return hash_to_group(one_core, POPRF, private_inputs(np.full(size, Kind.EMAIL, np.uint8), digests))

    elements = measure("strings to group elements", hash_strings)
    expected = hash_to_group(one_core, POPRF, material.inputs)
    assert (one_core.encode(elements) == one_core.encode(expected)).all()


def test_blind(measure: Any, material: Any, one_core: Group, size: int) -> None:
    # The table of the key is made once a session, with its first batch.
    arguments = (material.inputs, material.blinds, material.key.public)
    blinded = measure("blind", additive_blind, one_core, POPRF, *arguments)
    assert one_core.encode(blinded).shape == (size, ELEMENT_LENGTH)


def test_evaluate(measure: Any, material: Any, one_core: Group, size: int) -> None:
    assert len(measure("evaluate", material.key.evaluate, one_core, material.blinded)) == size


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize("threads", [1, 2])
def test_evaluate_by_the_clock(measure: Any, material: Any, threads: int, size: int) -> None:
    group = default_group(threads, os.environ)
    assert (
        len(measure(f"clock: evaluate, {threads} threads", material.key.evaluate, group, material.blinded))
        == size
    )


def test_prove(measure: Any, material: Any, one_core: Group) -> None:
    # What is proved is made before the clock runs: the largest size is measured in a single round.
    assert material.batches
    proofs = measure("prove", _prove, material, one_core)
    _verify(material, one_core, proofs)


def test_verify(measure: Any, material: Any, one_core: Group) -> None:
    # A proof that does not hold raises.
    measure("verify", _verify, material, one_core, _prove(material, one_core))


def test_finalize(measure: Any, material: Any, one_core: Group, size: int) -> None:
    arguments = (material.inputs, material.info, material.evaluated, material.blinds)
    outputs = measure("finalize", additive_finalize, one_core, POPRF, *arguments)
    assert outputs.shape == (size, OUTPUT_LENGTH)


def test_bare_maps(measure: Any, material: Any, one_core: Group) -> None:
    rows = _rows(expand_message_xmd(material.inputs, POPRF.hash_to_group_dst, WIDE_LENGTH))
    points = measure(
        "bound: libsodium map", lambda: [rbcl.crypto_core_ristretto255_from_hash(r) for r in rows]
    )
    expected = one_core.encode(hash_to_group(one_core, POPRF, material.inputs))
    assert b"".join(points) == expected.tobytes()


def test_bare_multiplications(measure: Any, material: Any, one_core: Group) -> None:
    scalars = _rows(reveal_array(material.blinds))
    elements = hash_to_group(one_core, POPRF, material.inputs)
    points = _rows(one_core.encode(elements))

    def multiply() -> list[bytes]:
        pairs = zip(scalars, points, strict=True)
        return [rbcl.crypto_scalarmult_ristretto255(scalar, point) for scalar, point in pairs]

    products = measure("bound: libsodium multiply", multiply)
    expected = one_core.encode(one_core.multiply_each(elements, material.blinds))
    assert b"".join(products) == expected.tobytes()


def _prove(material: Any, group: Group) -> list[Proof]:
    """A proof for every batch."""
    return [
        material.key.prove(group, POPRF, blinded, evaluated, material.random.bytes)
        for blinded, evaluated in material.batches
    ]


def _verify(material: Any, group: Group, proofs: list[Proof]) -> None:
    for (blinded, evaluated), proof in zip(material.batches, proofs, strict=True):
        verify_evaluation(group, POPRF, material.key.public, blinded, evaluated, proof)


def _rows(batch: Any) -> list[bytes]:
    return [row.tobytes() for row in batch]
