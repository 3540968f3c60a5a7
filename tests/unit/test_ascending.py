"""Distinct integers, against Python's sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.ascending import ascending


@given(st.lists(st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)), max_size=50))
def test_the_distinct_values_of_a_list_are_those_of_its_set(values: list[int]) -> None:
    given_values = np.array(values, np.int64)
    assert ascending(given_values).tolist() == sorted(set(values))
    assert given_values.tolist() == values


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64])
def test_the_type_stays(dtype: type) -> None:
    assert ascending(np.array([2, 1, 2], dtype)).dtype == dtype
    assert ascending(np.array([], dtype)).tolist() == []
