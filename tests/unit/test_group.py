"""The group back ends: strict decoding, published values, and agreement with the slow implementation."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slow_poprf as slow
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from samples import flip, rows, uniform

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import Elements, Group, SecretScalar
from purposematch.protocol.group.sodium import CHUNK_ELEMENTS
from purposematch.protocol.secret import SecretArray, reveal_array

Vectors = Callable[[str], Any]
SIZES = [0, 1, 2, 7, 8, 9, 255, 256, 257, 511, 512, 513, 1000]
"""Around the size of a vector, and of the chunks that threads share a batch by."""

scalars = st.integers(1, slow.L - 1) | st.sampled_from([1, 2, slow.L - 2, slow.L - 1])
# Hashed, because all-zero bytes map to the identity, which no hash is known to reach.
wide_bytes = st.integers(0, 2**32).map(lambda number: hashlib.sha512(b"%d" % number).digest())


def secret(scalar: int) -> SecretScalar:
    return SecretScalar(slow.scalar_bytes(scalar))


def encoded(group: Group, elements: Elements) -> list[str]:
    return [row.tobytes().hex() for row in group.encode(elements)]


@pytest.fixture(scope="module")
def batch(group: Group) -> Elements:
    """As many elements as the largest test needs."""
    return group.map_to_group(uniform(max(SIZES), 64))


@pytest.fixture(scope="module")
def factors(group: Group) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return group.reduce(uniform(max(SIZES), 64, "factors"))


def test_the_chunk_size_is_the_one_that_these_tests_are_made_for() -> None:
    assert CHUNK_ELEMENTS == 256


# Published values.


def test_multiples_of_the_generator_are_those_of_rfc_9496(group: Group, vectors: Vectors) -> None:
    multiples = vectors("rfc9496_ristretto255.json")["generator_multiples"]
    assert len(multiples) == 16
    point = slow.IDENTITY
    for number, expected in enumerate(multiples):
        assert slow.encode(point).hex() == expected
        point = slow.add(point, slow.GENERATOR)
        if number:
            assert encoded(group, group.multiply_generator(secret(number))) == [expected]
            assert encoded(group, group.decode(rows([bytes.fromhex(expected)]))) == [expected]


def test_the_one_way_map_gives_the_values_of_rfc_9496(group: Group, vectors: Vectors) -> None:
    published = vectors("rfc9496_ristretto255.json")
    cases = [(case["uniform_bytes"], case["encoding"]) for case in published["one_way_map"]]
    assert len(cases) == 7
    same = published["same_output"]
    cases += [(uniform_bytes, same["encoding"]) for uniform_bytes in same["uniform_bytes"]]
    inputs = [bytes.fromhex(uniform_bytes) for uniform_bytes, _ in cases]
    expected = [encoding for _, encoding in cases]
    assert encoded(group, group.map_to_group(rows(inputs, 64))) == expected
    assert [slow.encode(slow.one_way_map(content)).hex() for content in inputs] == expected


# Decoding.


def test_each_of_the_29_invalid_encodings_is_refused_wherever_it_is_in_a_batch(
    group: Group, batch: Elements, vectors: Vectors
) -> None:
    invalid = vectors("rfc9496_ristretto255.json")["invalid_encodings"]
    assert len(invalid) == 29
    valid = group.encode(batch)[:513]
    for encoding in map(bytes.fromhex, invalid):
        with pytest.raises(slow.Refused):
            slow.decode(encoding)
        with pytest.raises(DecodeError):
            group.decode(rows([encoding]))
        for position in (0, 128, 255, 256, 257, 511, 512):
            # One chunk on either side is enough for every class of position.
            first = max(0, position - 257)
            damaged = valid[first : position + 3].copy()
            damaged[position - first] = np.frombuffer(encoding, np.uint8)
            with pytest.raises(DecodeError):
                group.decode(damaged)


@pytest.mark.parametrize("position", [0, 1, 255, 256, 257, 511, 512])
def test_the_identity_is_refused_wherever_it_is_in_a_batch(
    group: Group, batch: Elements, position: int
) -> None:
    damaged = group.encode(batch)[:513].copy()
    assert len(group.decode(damaged)) == 513
    damaged[position] = 0
    with pytest.raises(DecodeError):
        group.decode(damaged)


@pytest.mark.parametrize(
    "shape", [(32,), (0,), (1, 31), (1, 33), (2, 16), (0, 31), (1, 1, 32), (32, 1), (1, 0), (1, 64)]
)
def test_a_batch_of_another_shape_is_refused(group: Group, shape: tuple[int, ...]) -> None:
    with pytest.raises(DecodeError):
        group.decode(np.ones(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float64, np.bool_])
def test_a_batch_of_another_type_is_refused(group: Group, dtype: type) -> None:
    with pytest.raises(DecodeError):
        group.decode(np.zeros((1, 32), dtype))


@pytest.mark.parametrize("shape", [(64,), (1, 32), (1, 63), (1, 65), (1, 1, 64)])
def test_uniform_bytes_of_another_shape_are_refused(group: Group, shape: tuple[int, ...]) -> None:
    with pytest.raises(DecodeError):
        group.map_to_group(np.ones(shape, np.uint8))
    with pytest.raises(DecodeError):
        group.reduce(np.ones(shape, np.uint8))


def test_strided_batches_are_read_as_what_they_show(group: Group, batch: Elements) -> None:
    valid = group.encode(batch)[:8]
    wide = np.zeros((16, 40), np.uint8)
    wide[::2, 4:36] = valid
    assert (group.encode(group.decode(wide[::2, 4:36])) == valid).all()
    assert (group.encode(group.decode(valid[::-1])) == valid[::-1]).all()


@pytest.mark.parametrize("size", [1, 300])
def test_an_encoding_with_its_highest_bit_set_is_refused(group: Group, batch: Elements, size: int) -> None:
    # Some releases of libsodium ignore that bit.
    for number, encoding in enumerate([*group.encode(batch)[:20], np.zeros(32, np.uint8)]):
        damaged = group.encode(batch)[:size].copy()
        damaged[-number % size] = encoding
        damaged[-number % size, 31] |= 0x80
        with pytest.raises(DecodeError):
            group.decode(damaged)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64), st.integers(0, 255))
def test_arbitrary_bytes_decode_as_the_slow_implementation_says(
    group: Group, content: bytes, wide: bytes, bit: int
) -> None:
    valid = slow.encode(slow.one_way_map(wide))
    # Most arbitrary bytes are refused for their sign or their highest bit alone.
    likely = bytes([content[0] & 0xFE]) + content[1:31] + bytes([content[31] & 0x7F])
    for candidate in (content, likely, valid, flip(valid, bit), flip(valid, 255)):
        try:
            expected = slow.encode(slow.decode(candidate))
        except slow.Refused:
            with pytest.raises(DecodeError):
                group.decode(rows([candidate]))
        else:
            assert group.encode(group.decode(rows([candidate]))).tobytes() == expected == candidate


# Batches.


@pytest.mark.parametrize("size", SIZES)
def test_a_batch_of_any_size_computes_what_its_elements_compute_alone(
    group: Group, batch: Elements, factors: np.ndarray[Any, np.dtype[np.uint8]], size: int
) -> None:
    elements, own = batch.rows(0, size), factors[:size]
    assert len(elements) == len(group.decode(group.encode(elements))) == size
    key = secret(0x1234_5678_9ABC_DEF0 << 100)
    by_one = group.encode(group.multiply(elements, key))
    by_each = group.encode(group.multiply_each(elements, SecretArray(own)))
    mapped = group.encode(group.map_to_group(uniform(max(SIZES), 64)[:size]))
    inverted = reveal_array(group.invert(SecretArray(own)))
    assert by_one.shape == by_each.shape == mapped.shape == inverted.shape == (size, 32)
    assert (mapped == group.encode(elements)).all()
    for i in {0, 1, 254, 255, 256, 257, size // 2, size - 2, size - 1} & set(range(size)):
        point = slow.decode(group.encode(elements)[i].tobytes())
        factor = int.from_bytes(own[i].tobytes(), "little")
        assert by_each[i].tobytes() == slow.encode(slow.multiply(factor, point))
        assert group.encode(group.multiply(elements.rows(i, i + 1), key)).tobytes() == by_one[i].tobytes()
        assert inverted[i].tobytes() == slow.scalar_bytes(pow(factor, -1, slow.L))


@pytest.mark.parametrize("size", SIZES)
def test_one_thread_and_two_give_the_same_bytes(
    back_end: Callable[[int | None], Group], factors: np.ndarray[Any, np.dtype[np.uint8]], size: int
) -> None:
    one, two = back_end(1), back_end(2)
    wide, own = uniform(size, 64), factors[:size].copy()
    results = []
    for group in (one, two):
        elements = group.map_to_group(wide)
        multiplied = group.multiply_each(elements, SecretArray(own))
        scaled = group.multiply(group.decode(group.encode(multiplied)), secret(7))
        content = group.encode(scaled).tobytes()
        if size:
            content += group.encode(group.public_sum_of_products(elements, own)).tobytes()
        results.append(content)
    assert results[0] == results[1]


def test_an_error_in_one_thread_is_raised(back_end: Callable[[int | None], Group]) -> None:
    group = back_end(2)
    damaged = group.encode(group.map_to_group(uniform(600, 64))).copy()
    damaged[599] = 0xFF
    with pytest.raises(DecodeError):
        group.decode(damaged)


# Arithmetic.


@given(scalars, wide_bytes)
def test_multiplication_agrees_with_the_slow_implementation(group: Group, scalar: int, wide: bytes) -> None:
    elements = group.map_to_group(rows([wide], 64))
    expected = slow.encode(slow.multiply(scalar, slow.one_way_map(wide)))
    assert group.encode(group.multiply(elements, secret(scalar))).tobytes() == expected
    each = group.multiply_each(elements, SecretArray(rows([slow.scalar_bytes(scalar)])))
    assert group.encode(each).tobytes() == expected
    assert group.encode(group.multiply_generator(secret(scalar))).tobytes() == slow.encode(
        slow.multiply(scalar, slow.GENERATOR)
    )


@given(st.lists(st.tuples(scalars, wide_bytes), min_size=1, max_size=5))
@settings(max_examples=25)
def test_a_sum_of_products_agrees_with_the_slow_implementation(
    group: Group, terms: list[tuple[int, bytes]]
) -> None:
    elements = group.map_to_group(rows((wide for _, wide in terms), 64))
    factors = rows(slow.scalar_bytes(scalar) for scalar, _ in terms)
    total = slow.IDENTITY
    for scalar, wide in terms:
        total = slow.add(total, slow.multiply(scalar, slow.one_way_map(wide)))
    if slow.encode(total) == bytes(32):
        with pytest.raises(DecodeError):
            group.public_sum_of_products(elements, factors)
    else:
        assert group.encode(group.public_sum_of_products(elements, factors)).tobytes() == slow.encode(total)


@pytest.mark.parametrize("size", [255, 256, 257, 513])
def test_a_sum_of_products_over_several_chunks_is_the_sum_of_its_parts(
    group: Group, batch: Elements, factors: np.ndarray[Any, np.dtype[np.uint8]], size: int
) -> None:
    whole = group.public_sum_of_products(batch.rows(0, size), factors[:size])
    total = slow.IDENTITY
    products = group.multiply_each(batch.rows(0, size), SecretArray(factors[:size]))
    for row in group.encode(products):
        total = slow.add(total, slow.decode(row.tobytes()))
    assert group.encode(whole).tobytes() == slow.encode(total)


@given(scalars, scalars, st.booleans())
@settings(max_examples=25)
def test_a_combination_of_two_elements_agrees_with_the_slow_implementation(
    group: Group, a: int, b: int, generator: bool
) -> None:
    wide = uniform(2, 64)
    x, y = group.map_to_group(wide[:1]), group.map_to_group(wide[1:])
    slow_y = slow.GENERATOR if generator else slow.one_way_map(wide[1].tobytes())
    expected = slow.add(slow.multiply(a, slow.one_way_map(wide[0].tobytes())), slow.multiply(b, slow_y))
    left, right = rows([slow.scalar_bytes(a)])[0], rows([slow.scalar_bytes(b)])[0]
    result = group.public_multiply_add(left, x, right, None if generator else y)
    assert group.encode(result).tobytes() == slow.encode(expected)


@settings(max_examples=20)
@given(
    wide=st.tuples(st.binary(min_size=64, max_size=64), st.binary(min_size=64, max_size=64)),
    scalar=st.integers(1, slow.L - 1),
    generator=st.booleans(),
    negate=st.booleans(),
)
def test_a_multiple_of_one_element_is_added_as_the_slow_implementation_says(
    group: Group, wide: tuple[bytes, bytes], scalar: int, generator: bool, negate: bool
) -> None:
    mapped = group.map_to_group(rows(wide, 64))
    base = slow.GENERATOR if generator else slow.one_way_map(wide[1])
    expected = slow.add(slow.one_way_map(wide[0]), slow.multiply(-scalar if negate else scalar, base))
    # Nothing that was decoded is the identity, and a sum that is has a test of its own.
    assume(any(slow.encode(base)) and any(slow.encode(expected)))
    scalars = SecretArray(rows([slow.scalar_bytes(scalar)]))
    own = None if generator else mapped.rows(1, 2)
    result = group.add_multiples(mapped.rows(0, 1), scalars, own, negate=negate)
    assert group.encode(result).tobytes() == slow.encode(expected)


def test_a_zero_scalar_is_refused(group: Group, batch: Elements) -> None:
    zero, one = np.zeros(32, np.uint8), rows([slow.scalar_bytes(1)])[0]
    x = batch.rows(0, 1)
    mixed = rows([slow.scalar_bytes(5)] * 300)
    mixed[299] = 0
    attempts: list[Callable[[], object]] = [
        lambda: group.multiply(batch, secret(0)),
        lambda: group.multiply_each(batch.rows(0, 300), SecretArray(mixed)),
        lambda: group.multiply_generator(secret(0)),
        lambda: group.add_multiples(batch.rows(0, 300), SecretArray(mixed.copy())),
        lambda: group.add_multiples(batch.rows(0, 300), SecretArray(mixed.copy()), x),
        lambda: group.public_multiply_add(zero, x, one),
        lambda: group.public_multiply_add(one, x, zero),
        lambda: group.public_multiply_add(one, x, zero, x),
        lambda: group.public_sum_of_products(batch.rows(0, 300), mixed),
        lambda: group.invert(SecretArray(mixed)),
        lambda: group.invert(SecretArray(np.zeros((1, 32), np.uint8))),
    ]
    for attempt in attempts:
        with pytest.raises(DecodeError):
            attempt()


def test_a_sum_that_is_the_identity_is_refused(group: Group, batch: Elements) -> None:
    x = batch.rows(0, 1)
    one, minus = rows([slow.scalar_bytes(1)]), rows([slow.scalar_bytes(-1)])
    twice = group.decode(np.repeat(group.encode(x), 2, axis=0))
    with pytest.raises(DecodeError):
        group.public_multiply_add(one[0], x, minus[0], x)
    with pytest.raises(DecodeError):
        group.public_sum_of_products(twice, np.concatenate([one, minus]))
    with pytest.raises(DecodeError):
        group.public_sum_of_products(batch.rows(0, 0), one[:0])
    with pytest.raises(DecodeError):
        group.add_multiples(twice, SecretArray(np.concatenate([one, minus])), x)
    with pytest.raises(DecodeError):
        group.add_multiples(twice, SecretArray(np.concatenate([minus, one])), x, negate=True)


@pytest.mark.parametrize("size", [0, 1, 3, 300])
def test_scalars_that_do_not_fit_the_elements_are_refused(group: Group, batch: Elements, size: int) -> None:
    own = rows([slow.scalar_bytes(5)] * size)
    with pytest.raises(ValueError, match="do not fit"):
        group.multiply_each(batch.rows(0, 2), SecretArray(own))
    with pytest.raises(ValueError, match="do not fit"):
        group.add_multiples(batch.rows(0, 2), SecretArray(own))
    with pytest.raises(ValueError, match="do not fit"):
        group.public_sum_of_products(batch.rows(0, 2), own)


@pytest.mark.parametrize("width", [16, 31, 33, 64])
def test_scalars_of_another_width_are_refused(group: Group, batch: Elements, width: int) -> None:
    own = np.ones((2, width), np.uint8)
    with pytest.raises(DecodeError):
        group.multiply_each(batch.rows(0, 2), SecretArray(own))
    with pytest.raises(DecodeError):
        group.add_multiples(batch.rows(0, 2), SecretArray(own))
    with pytest.raises(DecodeError):
        group.public_sum_of_products(batch.rows(0, 2), own)
    with pytest.raises(DecodeError):
        group.invert(SecretArray(own))


def test_elements_of_another_back_end_are_refused(group: Group) -> None:
    class Foreign(Elements):
        def __len__(self) -> int:
            return 1

        def rows(self, start: int, stop: int) -> "Foreign":
            return self

    with pytest.raises(TypeError):
        group.encode(Foreign())
    with pytest.raises(TypeError):
        group.multiply(Foreign(), secret(2))
