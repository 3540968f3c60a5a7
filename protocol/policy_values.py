"""Reading the values of a policy file: lists of words, origins, truth values, times.

Every function says in its error where the value stands and what belongs there.

What this does not protect against: nothing here knows what the values mean; `policy` and `issuers` do.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from purposematch.protocol.errors import PolicyError
from purposematch.protocol.purpose import Origin

__all__ = [
    "SOURCE_NAME_FORM",
    "WHY_FORBIDDEN",
    "is_source_name",
    "labels",
    "read_origins",
    "read_strings",
    "read_time",
    "read_truth",
]

WHY_FORBIDDEN: Final = (
    "identifiers given for security or taken from other people's address books can never grant: in 2019 "
    "Twitter said that phone numbers and e-mail addresses given for two-factor authentication had been "
    "matched against advertisers' lists, and that it could not say how many people were affected"
)
"""Ends the error of a policy that would let such identifiers in."""

_SOURCE_NAME_LIMIT: Final = 255
"""Longest source name, in characters."""

SOURCE_NAME_FORM: Final = (
    f"a source name must be 1 to {_SOURCE_NAME_LIMIT} printable ASCII characters without spaces"
)
"""The error about a name that is none."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read_strings(value: object, where: str) -> tuple[str, ...]:
    """A list of strings.

    Raises:
        PolicyError: it is something else.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise PolicyError(f"{where} must be a list of strings")
    return tuple(value)


def read_origins(value: object, where: str) -> frozenset[Origin]:
    """A list of names of origins.

    Raises:
        PolicyError: it is no list of strings, or one of them names no origin.
    """
    origins = set()
    for text in read_strings(value, where):
        origin = Origin.parse(text)
        if origin is Origin.UNKNOWN:
            known = ", ".join(labels(set(Origin) - {Origin.UNKNOWN}))
            raise PolicyError(f"{where} names the unknown origin {text!r}; the origins are {known}")
        origins.add(origin)
    return frozenset(origins)


def read_truth(value: object, where: str) -> bool:
    """True or false.

    Raises:
        PolicyError: it is something else, such as a number or a word.
    """
    if not isinstance(value, bool):
        raise PolicyError(f"{where} must be true or false")
    return value


def read_time(value: object, where: str) -> int:
    """A time with offset, as TOML writes it, in microseconds since 1970-01-01 UTC.

    Raises:
        PolicyError: it is something else. A time without offset does not say when it is.
    """
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise PolicyError(f"{where} must be a time with offset and without quotes: 2027-01-31T00:00:00Z")
    return (value - _EPOCH) // timedelta(microseconds=1)


def labels(origins: Iterable[Origin]) -> list[str]:
    """The names of origins, in the order of their numbers."""
    return [origin.label for origin in sorted(origins)]


def is_source_name(text: str) -> bool:
    """Whether `text` can name a source: printable ASCII without spaces, and not too long."""
    return 0 < len(text) <= _SOURCE_NAME_LIMIT and text.isascii() and text.isprintable() and " " not in text
