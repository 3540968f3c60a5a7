"""Canaries: which inputs every generation holds."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.canary import CANARY_COUNT, canary_inputs
from purposematch.protocol.identifiers import CANARY_KIND, Kind

GENERATION = bytes(range(16))


def test_there_are_64_canaries_of_the_canary_kind() -> None:
    inputs = canary_inputs(GENERATION)
    assert CANARY_COUNT == 64
    assert inputs.shape == (64, 33)
    assert inputs.dtype == np.uint8
    assert inputs.flags.c_contiguous
    assert (inputs[:, 0] == 0xFF).all()


def test_no_identifier_has_the_kind_of_a_canary() -> None:
    assert CANARY_KIND == 0xFF
    assert CANARY_KIND not in set(Kind)


def test_a_canary_is_the_digest_of_domain_generation_and_number() -> None:
    expected = [
        hashlib.sha256(b"purposematch canary v1" + GENERATION + bytes([0, number])).digest()
        for number in range(64)
    ]
    assert [row[1:].tobytes() for row in canary_inputs(GENERATION)] == expected


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=5, unique=True))
def test_canaries_of_different_generations_are_all_different(generations: list[bytes]) -> None:
    canaries = {row.tobytes() for generation in generations for row in canary_inputs(generation)}
    assert len(canaries) == CANARY_COUNT * len(generations)
