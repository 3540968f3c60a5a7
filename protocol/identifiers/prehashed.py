"""Identifiers that arrive as SHA-256 digests.

Source: the upload conventions of UID2, Google, Meta and X. Hexadecimal and base64 meet in the same 32 raw
bytes; what is recognisably something else is refused by name, and so are digests of placeholders.

Does not protect against a digest under another profile or of another kind: 32 bytes do not show what was
hashed, the declaration of the column has to be right.
"""

import binascii
import hashlib
import re
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.errors import IdentifierError
from purposematch.protocol.identifiers.canonical import as_mask, row_by_row, trim_ascii
from purposematch.protocol.identifiers.maid import ZERO_MAID
from purposematch.protocol.identifiers.raw import BASE64_DIGEST, HEX_DIGEST, PLACEHOLDERS, trimmed
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = ["digest_of_prehashed", "prehashed_column"]

_JUNK = frozenset(
    hashlib.sha256(spelling.encode()).digest()
    for text in (*PLACEHOLDERS, "", ZERO_MAID)
    for spelling in (text, text.upper(), text.capitalize(), text.replace("nan", "NaN"))
)
_JUNK_HEADS = np.unique(np.frombuffer(b"".join(digest[:8] for digest in _JUNK), np.uint64))

# The value of every ASCII hexadecimal digit; 0xFF for every other byte.
_NIBBLES = np.full(256, 0xFF, np.uint8)
for _digit in "0123456789abcdefABCDEF":
    _NIBBLES[ord(_digit)] = int(_digit, 16)

# The value of every letter of base64; 0xFF for every other byte.
_SEXTETS = np.full(256, 0xFF, np.uint8)
_SEXTETS[np.frombuffer((ascii_uppercase + ascii_lowercase + digits + "+/").encode(), np.uint8)] = np.arange(
    64
)

_WRONG = (
    (re.compile(r"[0-9A-Fa-f]{32}"), IdentifierReason.HASH_MD5),
    (re.compile(r"[0-9A-Fa-f]{40}"), IdentifierReason.HASH_SHA1),
    (re.compile(r"0[xX].*"), IdentifierReason.HASH_0X_PREFIX),
)


def digest_of_prehashed(value: str) -> bytes:
    """The 32 bytes that one pre-hashed value stands for.

    In order: trim Unicode white space and refuse what no value may be (`trimmed`); placeholders in place of a
    digest are refused; 64 hexadecimal digits in any case, or base64 of exactly 32 bytes with its padding, are
    taken unless they are the digest of a placeholder; everything else is refused by name.

    Raises:
        IdentifierError: the value stands for no digest.
    """
    text = trimmed(value)
    if text.lower() in PLACEHOLDERS:
        raise IdentifierError(IdentifierReason.PLACEHOLDER)
    if HEX_DIGEST.fullmatch(text):
        digest = bytes.fromhex(text)
    elif BASE64_DIGEST.fullmatch(text):
        digest = binascii.a2b_base64(text)
    else:
        raise IdentifierError(_what_it_is(text))
    if digest in _JUNK:
        raise IdentifierError(IdentifierReason.HASH_OF_PLACEHOLDER)
    return digest


def _what_it_is(text: str) -> IdentifierReason:
    for pattern, reason in _WRONG:
        if pattern.fullmatch(text):
            return reason
    try:
        inner = binascii.a2b_base64(text, strict_mode=True).decode("ascii")
    except ValueError:
        return IdentifierReason.HASH_SYNTAX
    return (
        IdentifierReason.HASH_BASE64_OF_HEX if HEX_DIGEST.fullmatch(inner) else IdentifierReason.HASH_SYNTAX
    )


def prehashed_column(values: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`digest_of_prehashed` for a whole column; well-formed digests never become Python objects.

    Returns:
        Digests `(n, 32)`, zeros where refused, and reasons `(n,)`, both uint8.
    """
    text = trim_ascii(values)
    lengths = pc.binary_length(text)
    digests = np.zeros((len(values), 32), np.uint8)
    clean = np.zeros(len(values), np.bool_)
    for width, decode in ((64, _from_hex), (44, _from_base64)):
        rows = np.flatnonzero(as_mask(pc.equal(lengths, pa.scalar(width))))
        decoded, good = decode(_letters(text.take(rows), width))
        # A digest that may be junk is left to the row-wise definition.
        good &= ~np.isin(decoded.view(np.uint64)[:, 0], _JUNK_HEADS)
        digests[rows[good]] = decoded[good]
        clean[rows[good]] = True
    # The odd rows come back as hexadecimal text, so that they can travel in a column.
    forms = pa.nulls(int(clean.sum()), values.type)
    column = row_by_row(values, clean, forms, lambda value: digest_of_prehashed(value).hex())
    found = as_mask(pc.is_valid(column.values))
    digests[found] = _from_hex(_letters(column.values.drop_null(), 64))[0]
    return digests, column.reasons


def _letters(texts: pa.StringArray, width: int) -> NDArray[np.uint8]:
    """The bytes of texts that all have the same length, `(n, width)` uint8."""
    if not len(texts):
        return np.empty((0, width), np.uint8)
    buffers: list[Any] = texts.buffers()
    _, offsets, content = buffers
    start = np.frombuffer(offsets, "i8" if pa.types.is_large_string(texts.type) else "i4")[texts.offset]
    letters: NDArray[np.uint8] = np.frombuffer(content, np.uint8)[start : start + len(texts) * width]
    return letters.reshape(-1, width)


def _from_hex(letters: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Decodes `(n, 64)` letters to `(n, 32)` bytes; the second result says which rows are well-formed."""
    nibbles = _NIBBLES[letters]
    good: NDArray[np.bool_] = nibbles.max(axis=1) < 16
    return np.ascontiguousarray(nibbles[:, 0::2] << 4 | nibbles[:, 1::2] & 15), good


def _from_base64(letters: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Decodes `(n, 44)` letters to `(n, 32)` bytes; the second result says which rows are well-formed."""
    sextets = _SEXTETS[letters]
    good: NDArray[np.bool_] = sextets[:, :43].max(axis=1) < 64
    good &= np.equal(letters[:, 43], ord("=")) & np.equal(sextets[:, 42] & 3, 0)
    first, second, third, fourth = np.moveaxis(sextets.reshape(-1, 11, 4), 2, 0)
    octets = np.stack([first << 2 | second >> 4, second << 4 | third >> 2, third << 6 | fourth], axis=2)
    return np.ascontiguousarray(octets.reshape(-1, 33)[:, :32]), good
