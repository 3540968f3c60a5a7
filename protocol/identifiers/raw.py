"""What happens to a raw value before its profile: trimming, and refusing what can be no identifier.

Source: docs/protocol.md, *From a value to a private input*. All checks are syntactic.

Does not protect against invented values: nobody can see that an address belongs to no one.
"""

import re

from purposematch.protocol.errors import IdentifierError
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = [
    "ASCII_WHITE_SPACE",
    "BASE64_DIGEST",
    "HEX_DIGEST",
    "MAX_VALUE_BYTES",
    "PLACEHOLDERS",
    "check_is_raw",
    "check_length",
    "trimmed",
]

MAX_VALUE_BYTES = 512
"""The longest raw value and the longest canonical form, in bytes of UTF-8."""

ASCII_WHITE_SPACE = " \t\n\v\f\r\x1c\x1d\x1e\x1f"
"""The ASCII characters that `str.strip` removes."""

PLACEHOLDERS = frozenset(
    {
        *(
            "null",
            "(null)",
            "<null>",
            "none",
            "nil",
            "n/a",
            "#n/a",
            "na",
            "n.a.",
            "undefined",
            "unknown",
            "nan",
        ),
        *("-", "--", ".", "?"),
        *("test@test.com", "none@none.com", "null@null.com", "na@na.com", "no@no.com", "noemail@noemail.com"),
    }
)
"""What systems and people write where there is no value, in lower case."""

HEX_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
"""32 bytes in hexadecimal."""

BASE64_DIGEST = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
"""32 bytes in base64; the last letter carries four bits, its other two are zero."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def trimmed(value: str) -> str:
    """`value` without Unicode white space at its ends.

    Raises:
        IdentifierError: with reason EMPTY, NOT_UNICODE, TOO_LONG or CONTROL_CHARACTER, checked in this order.
    """
    text = value.strip()
    if not text:
        raise IdentifierError(IdentifierReason.EMPTY)
    check_length(text)
    if _CONTROL.search(text):
        raise IdentifierError(IdentifierReason.CONTROL_CHARACTER)
    return text


def check_length(text: str) -> None:
    """Refuses a text that is longer than `MAX_VALUE_BYTES` or has no UTF-8 encoding at all.

    Raises:
        IdentifierError: with reason TOO_LONG or NOT_UNICODE.
    """
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise IdentifierError(IdentifierReason.NOT_UNICODE) from None
    if length > MAX_VALUE_BYTES:
        raise IdentifierError(IdentifierReason.TOO_LONG)


def check_is_raw(text: str) -> None:
    """Refuses trimmed text that stands in a raw column but is a placeholder or a digest.

    Raises:
        IdentifierError: with reason PLACEHOLDER or LOOKS_PREHASHED.
    """
    if text.lower() in PLACEHOLDERS:
        raise IdentifierError(IdentifierReason.PLACEHOLDER)
    if HEX_DIGEST.fullmatch(text) or BASE64_DIGEST.fullmatch(text):
        raise IdentifierError(IdentifierReason.LOOKS_PREHASHED)
