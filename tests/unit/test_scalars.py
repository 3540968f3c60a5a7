"""Arithmetic in the scalar field, one by one and in batches, against integers."""

import pytest
import slow_poprf as slow
from hypothesis import given
from hypothesis import strategies as st
from samples import rows

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import Group, SecretScalar
from purposematch.protocol.scalars import (
    GROUP_ORDER,
    decode_public_scalar,
    random_scalar,
    scalar_add,
    scalar_invert,
    scalar_multiply_subtract,
    scalar_reduce,
)
from purposematch.protocol.secret import SecretArray, reveal, reveal_array

scalars = st.integers(1, slow.L - 1) | st.sampled_from([1, 2, slow.L - 2, slow.L - 1])


def secret(scalar: int) -> SecretScalar:
    return SecretScalar(slow.scalar_bytes(scalar))


@given(st.lists(scalars, max_size=6))
def test_inversion_agrees_with_a_power(group: Group, values: list[int]) -> None:
    inverses = reveal_array(group.invert(SecretArray(rows(map(slow.scalar_bytes, values)))))
    # Fermat: the order is prime.
    expected = [slow.scalar_bytes(pow(value, slow.L - 2, slow.L)) for value in values]
    assert [row.tobytes() for row in inverses] == expected
    for value, inverse in zip(values, expected, strict=True):
        assert reveal(scalar_invert(secret(value))) == inverse


@given(st.lists(st.binary(min_size=64, max_size=64), max_size=6))
def test_reduction_agrees_with_integers(group: Group, wide: list[bytes]) -> None:
    wide = [*wide, slow.L.to_bytes(64, "little"), b"\xff" * 64]
    expected = [slow.scalar_bytes(int.from_bytes(row, "little")) for row in wide]
    assert [row.tobytes() for row in group.reduce(rows(wide, 64))] == expected
    for row, scalar in zip(wide, expected, strict=True):
        if any(scalar):
            assert reveal(scalar_reduce(row)) == reveal(random_scalar(lambda n, row=row: row[:n])) == scalar
        else:
            with pytest.raises(DecodeError):
                scalar_reduce(row)


@given(scalars, scalars, scalars)
def test_arithmetic_on_single_scalars_agrees_with_integers(a: int, b: int, c: int) -> None:
    assert GROUP_ORDER == slow.L
    difference = scalar_multiply_subtract(secret(a), slow.scalar_bytes(b), secret(c))
    assert difference == slow.scalar_bytes(a - b * c)
    if (a + b) % slow.L:
        assert reveal(scalar_add(secret(a), secret(b))) == slow.scalar_bytes(a + b)


def test_a_sum_of_scalars_that_is_zero_is_refused() -> None:
    with pytest.raises(DecodeError, match="zero"):
        scalar_add(secret(5), secret(-5))


@pytest.mark.parametrize("length", [0, 31, 33, 63, 65])
def test_an_integer_of_another_length_is_no_scalar(length: int) -> None:
    with pytest.raises(DecodeError):
        scalar_reduce(b"\1" * length)
    with pytest.raises(DecodeError):
        decode_public_scalar(b"\1" * length)


def test_a_public_scalar_is_below_the_group_order() -> None:
    for value in (0, 1, slow.L - 1):
        content = value.to_bytes(32, "little")
        assert decode_public_scalar(content) == content
    for value in (slow.L, slow.L + 1, 2**252 + 2**251, 2**255, 2**256 - 1):
        with pytest.raises(DecodeError):
            decode_public_scalar(value.to_bytes(32, "little"))
