"""Columns of times: two parsers, one meaning."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.assertions import NO_TIME
from purposematch.server import times
from purposematch.server.times import microseconds, read_times

ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28), timezones=ZONES)
TEXTS = st.one_of(
    MOMENTS.map(lambda moment: moment.isoformat()),
    MOMENTS.map(lambda moment: moment.isoformat(timespec="seconds").replace("+00:00", "Z")),
    st.from_regex(times._COMMON.replace("$", r"\Z")),
    st.sampled_from(
        ["", "now", "2025-01-01", "2025-01-01T00:00:00", "20250101T000000Z", "2025-02-30T00:00:00Z"]
    ),
    st.text(max_size=30),
)


@given(moment=MOMENTS)
def test_a_time_with_offset_is_read_exactly(moment):
    values, unreadable = read_times(pa.array([moment.isoformat()]))
    expected = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert values[0] == expected // timedelta(microseconds=1) == microseconds(moment)
    assert not unreadable[0]


@given(texts=st.lists(TEXTS, max_size=8))
def test_a_column_is_read_as_its_texts_are_one_by_one(texts):
    values, unreadable = read_times(pa.array(texts, pa.string()))
    assert values.tolist() == [times._read_one(text) for text in texts]
    assert unreadable.tolist() == [bool(text) and times._read_one(text) == NO_TIME for text in texts]


@pytest.mark.parametrize(
    "text", ["2025-06-01T12:00:00", "2025-06-01", "1750000000", "tomorrow", "0000-01-01T00:00:00Z"]
)
def test_a_time_without_offset_or_sense_is_unreadable(text):
    values, unreadable = read_times(pa.array([text, "", "2025-06-01T12:00:00+02:00"]))
    assert values[:2].tolist() == [NO_TIME, NO_TIME]
    assert unreadable.tolist() == [True, False, False]
    assert values.dtype == np.int64
