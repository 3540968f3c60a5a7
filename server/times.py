"""Reads columns of ISO 8601 times with offset into microseconds.

Source: ISO 8601 as Python's `datetime.fromisoformat` reads it. A time without offset says nothing about
when something happened, so it is unreadable here. Common spellings are parsed by Arrow for the whole
column, every other distinct text by `datetime`.

Not protected against: clocks of other systems.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.assertions import NO_TIME
from purposematch.protocol.errors import InputError

__all__ = ["iso", "microseconds", "moment", "read_time", "read_times"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_COMMON: Final = (
    r"^[12][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{3}|\.[0-9]{6})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""What both parsers read alike."""


def microseconds(time: datetime) -> int:
    """Microseconds from 1970-01-01T00:00:00Z to `time`, which has an offset."""
    return (time - _EPOCH) // _MICROSECOND


def moment(time: int) -> datetime:
    """The inverse of `microseconds`, in UTC."""
    return _EPOCH + time * _MICROSECOND


def iso(time: int) -> str:
    """`time` in ISO 8601, UTC."""
    return moment(time).isoformat().replace("+00:00", "Z")


def read_time(text: str) -> int:
    """Microseconds since 1970-01-01 UTC of one ISO 8601 time with offset.

    Raises:
        InputError: it is none.
    """
    time = _read_one(text.strip())
    if time == NO_TIME:
        raise InputError("a time is ISO 8601 with offset, such as 2019-09-17T00:00:00Z")
    return time


def read_times(texts: pa.StringArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Reads a column of times.

    Args:
        texts: (n,) strings without nulls and without white space around them; empty means no time.

    Returns:
        Microseconds since 1970-01-01 UTC, (n,) int64, `NO_TIME` where empty or unreadable; and a mask (n,) of
        the unreadable ones.
    """
    encoded = texts.dictionary_encode()
    distinct = encoded.dictionary
    times = _read_common(distinct)
    if times is None:
        times = np.array([_read_one(text) for text in distinct.to_pylist()], np.int64)
    codes = encoded.indices.to_numpy()
    values = times[codes]
    return values, (values == NO_TIME) & pc.not_equal(texts, "").to_numpy(zero_copy_only=False)


def _read_common(texts: pa.StringArray) -> NDArray[np.int64] | None:
    """All of `texts` at once, or None if one of them is neither empty nor in the common spelling."""
    if not len(texts):
        return np.zeros(0, np.int64)
    empty = pc.equal(texts, "")
    if not pc.all(pc.or_(empty, pc.match_substring_regex(texts, _COMMON))).as_py():
        return None
    try:
        moments = pc.if_else(empty, None, texts).cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:
        return None
    values: NDArray[np.int64] = moments.cast(pa.int64()).fill_null(NO_TIME).to_numpy()
    return values


def _read_one(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
        return NO_TIME if time.tzinfo is None else microseconds(time)
    except (ValueError, OverflowError):
        return NO_TIME
