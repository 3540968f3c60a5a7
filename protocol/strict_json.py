"""Strict reading and canonical writing of the small JSON objects that two sides must read alike.

JSON (RFC 8259) leaves duplicate names, number ranges and depth to the reader, and two readers that
differ there see two documents. Here a name occurs once, the names are exactly the expected ones, and an
integer is neither a float nor a boolean. Whatever is wrong with the bytes, the error is a `DecodeError`
that names the field and never repeats its value.

Not protected against: a writer that tells something untrue in well-formed fields.
"""

import json
import math
from enum import StrEnum
from typing import Never, TypeVar

from purposematch.protocol.errors import DecodeError

__all__ = ["Fields", "canonical_json", "canonical_object", "decode_json"]

Choice = TypeVar("Choice", bound=StrEnum)


MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1
"""What every reader and every database holds without loss."""


class Fields:
    """The fields of one JSON object, after the check that exactly the expected ones are there."""

    def __init__(self, value: object, what: str, names: tuple[str, ...]) -> None:
        """Checks the names; `what` says in error texts which object is meant.

        Raises:
            DecodeError: `value` is not an object, or a field is missing or unknown.
        """
        if not isinstance(value, dict):
            raise DecodeError(f"the {what} is not a JSON object")
        missing = [name for name in names if name not in value]
        if missing:
            raise DecodeError(f"the {what} has no {missing[0]}")
        if len(value) != len(names):
            raise DecodeError(f"the {what} has a field that is not one of {', '.join(names)}")
        self._values = value
        self._what = what

    def value(self, name: str) -> object:
        """The field as it is, for a reader of its own."""
        value: object = self._values[name]
        return value

    def text(self, name: str) -> str:
        """The field as a string.

        Raises:
            DecodeError: it is not a string.
        """
        value = self._values[name]
        if type(value) is not str:
            raise DecodeError(f"{name} of the {self._what} is not a string")
        return value

    def integer(self, name: str, lowest: int = MIN_INTEGER, highest: int = MAX_INTEGER) -> int:
        """The field as an integer in a range; true, false and 1.0 are not integers.

        Raises:
            DecodeError: it is not an integer, or out of range.
        """
        value = self._values[name]
        if type(value) is not int:
            raise DecodeError(f"{name} of the {self._what} is not an integer")
        if not lowest <= value <= highest:
            raise DecodeError(f"{name} of the {self._what} is not between {lowest} and {highest}")
        return value

    def hexadecimal(self, name: str, length: int) -> bytes:
        """The field as `length` bytes, written in lower-case hexadecimal.

        Raises:
            DecodeError: it is anything else.
        """
        value = self.text(name)
        if len(value) != 2 * length or not set(value) <= set("0123456789abcdef"):
            raise DecodeError(f"{name} of the {self._what} is not {2 * length} lower-case hexadecimal digits")
        return bytes.fromhex(value)

    def array(self, name: str, most: int) -> list[object]:
        """The field as an array of at most `most` values.

        Raises:
            DecodeError: it is not an array, or a longer one.
        """
        value = self._values[name]
        if not isinstance(value, list) or len(value) > most:
            raise DecodeError(f"{name} of the {self._what} is not an array of at most {most} values")
        return value

    def choice(self, name: str, kind: type[Choice]) -> Choice:
        """The field as a member of the closed set `kind`.

        Raises:
            DecodeError: it is none of them.
        """
        value = self.text(name)
        if value not in [member.value for member in kind]:
            raise DecodeError(f"{name} of the {self._what} is not one of {', '.join(kind)}")
        return kind(value)


def decode_json(data: bytes, what: str, max_bytes: int) -> object:
    """The JSON value in `data`, UTF-8 without a byte order mark, at most `max_bytes` bytes long.

    Raises:
        DecodeError: `data` is too long, is not JSON, an object in it repeats a name, or a number in it is
            beyond what a float holds.
    """
    if len(data) > max_bytes:
        raise DecodeError(f"the {what} is longer than {max_bytes} bytes")

    def no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise DecodeError(f"the {what} repeats a field")
        return fields

    def no_constants(name: str) -> Never:
        # Python's reader would accept NaN and Infinity, which are not JSON.
        raise DecodeError(f"the {what} is not JSON")

    def finite(number: str) -> float:
        # 1e999 is JSON, but Python's reader makes an infinity of it, which no JSON can say.
        value = float(number)
        if not math.isfinite(value):
            raise DecodeError(f"the {what} holds a number that is too large")
        return value

    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=no_duplicates,
            parse_constant=no_constants,
            parse_float=finite,
        )
    except (ValueError, RecursionError):
        # The cause is left out: it would carry a part of the document into a traceback.
        raise DecodeError(f"the {what} is not JSON") from None
    return value


def canonical_json(value: dict[str, object]) -> bytes:
    """The one encoding of `value`: names sorted, no white space, ASCII only."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def canonical_object(value: object, what: str) -> bytes:
    """The canonical bytes of an object inside a document that was read.

    Raises:
        DecodeError: it is not an object, or nested too deeply to be written.
    """
    if not isinstance(value, dict):
        raise DecodeError(f"the {what} is not a JSON object")
    try:
        return canonical_json(value)
    except RecursionError:
        # Writing may need a deeper stack than reading did.
        raise DecodeError(f"the {what} is nested too deeply") from None
