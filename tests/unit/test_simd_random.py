"""The vector back end against libsodium, byte for byte, on many random inputs.

Four thousand of everything always, on fixed inputs; a hundred thousand in `make test-slow`, on others each
time, whose seed is printed where a test fails.
"""

import os
import secrets
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import (
    GROUP_VARIABLE,
    Bytes,
    Elements,
    Group,
    SecretScalar,
    SodiumGroup,
    default_group,
)
from purposematch.protocol.secret import SecretArray
from purposematch.protocol.simd.processor import LANES

FEW = 4_096
MANY = 100_000
SIZES = [0, 1, 7, 8, 9, 511, 512, 513]
"""Around the size of a vector and of a chunk."""
ONE = SecretScalar(bytes([1]) + bytes(31))
"""Multiplied by it, elements are encoded anew; what was decoded remembers its encoding."""
KEYS = 16
"""How many scalars share a batch, where one is for all of its elements."""

simd: Group = default_group(2, {**os.environ, GROUP_VARIABLE: "simd"})
sodium: Group = SodiumGroup(2)
COUNTS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]


def source_for(count: int) -> np.random.Generator:
    """The source of a test's inputs."""
    seed = secrets.randbits(64) if count == MANY else count
    print(f"the seed is {seed}")
    return np.random.default_rng(seed)


def random_rows(source: np.random.Generator, count: int, width: int) -> Bytes:
    return source.integers(0, 256, (count, width), np.uint8)


def random_elements(source: np.random.Generator, count: int) -> tuple[Elements, Elements]:
    """The same elements for both back ends: mapped in each, which another test compares."""
    wide = random_rows(source, count, 64)
    return simd.map_to_group(wide), sodium.map_to_group(wide)


def assert_same(fast: Elements, reference: Elements) -> None:
    assert len(fast) == len(reference)
    np.testing.assert_array_equal(simd.encode(fast), sodium.encode(reference))


def accepts(group: Group, encoded: Bytes) -> bool:
    try:
        group.decode(encoded)
    except DecodeError:
        return False
    return True


def parts(count: int, number: int) -> Iterator[slice]:
    """Slices that cut a batch into so many parts; their ends fall into any lane."""
    ends = [count * i // number for i in range(number + 1)]
    return (slice(*pair) for pair in pairwise(ends))


@pytest.mark.parametrize("count", COUNTS)
def test_random_bytes_are_mapped_as_in_libsodium(count: int) -> None:
    assert_same(*random_elements(source_for(count), count))


@pytest.mark.parametrize("count", COUNTS)
def test_random_bytes_are_reduced_as_in_libsodium(count: int) -> None:
    wide = random_rows(source_for(count), count, 64)
    np.testing.assert_array_equal(simd.reduce(wide), sodium.reduce(wide))


@pytest.mark.parametrize("count", COUNTS)
def test_random_elements_are_multiplied_each_as_in_libsodium(count: int) -> None:
    source = source_for(count)
    fast, reference = random_elements(source, count)
    # Any 32 bytes are a scalar, reduced or not.
    scalars = random_rows(source, count, 32)
    assert_same(
        simd.multiply_each(fast, SecretArray(scalars)), sodium.multiply_each(reference, SecretArray(scalars))
    )


@pytest.mark.parametrize("count", COUNTS)
def test_random_elements_are_multiplied_by_one_scalar_as_in_libsodium(count: int) -> None:
    source = source_for(count)
    fast, reference = random_elements(source, count)
    for part in parts(count, KEYS):
        key = SecretScalar(source.bytes(32))
        assert_same(
            simd.multiply(fast.rows(part.start, part.stop), key),
            sodium.multiply(reference.rows(part.start, part.stop), key),
        )


@pytest.mark.parametrize("count", COUNTS)
def test_random_strings_are_accepted_or_refused_as_in_libsodium(count: int) -> None:
    source = source_for(count)
    strings = random_rows(source, count, 32)
    # Most random strings are refused for their sign or their highest bit alone; half of these are not.
    strings[::2, 0] &= 0xFE
    strings[::2, 31] &= 0x7F
    accepted = np.array([accepts(sodium, strings[i : i + 1]) for i in range(count)])
    # A sixteenth of all strings is valid, a quarter of those that were changed.
    assert 0.14 < accepted.mean() < 0.18
    valid = strings[accepted]
    np.testing.assert_array_equal(simd.encode(simd.multiply(simd.decode(valid), ONE)), valid)
    # Each of the others is alone among valid ones, in every lane in turn.
    for number, string in enumerate(strings[~accepted]):
        block = valid[:LANES].copy()
        block[number % LANES] = string
        assert not accepts(simd, block), string.tobytes().hex()


@pytest.mark.parametrize("size", SIZES)
def test_a_batch_of_any_size_is_computed_as_in_libsodium(size: int) -> None:
    source = np.random.default_rng(size)
    fast, reference = random_elements(source, size)
    assert_same(fast, reference)
    wide, key = random_rows(source, size, 64), SecretScalar(source.bytes(32))
    scalars = sodium.reduce(wide)
    np.testing.assert_array_equal(simd.reduce(wide), scalars)
    expected = sodium.multiply(reference, key)
    expected_each = sodium.multiply_each(expected, SecretArray(scalars))
    for elements in (fast, simd.decode(sodium.encode(reference))):
        product = simd.multiply(elements, key)
        assert_same(product, expected)
        assert_same(simd.multiply_each(product, SecretArray(scalars)), expected_each)
