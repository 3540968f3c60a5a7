"""Identifiers that arrive as SHA-256 digests.

Source: adtech reference 1.3. Hexadecimal and base64 meet in the same 32 raw bytes; what is recognisably
something else is refused by name, and so are digests of placeholders.

Does not protect against a digest under another profile or of another kind: 32 bytes do not show what was
hashed, the declaration of the column has to be right.
"""

import binascii
import hashlib
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.errors import IdentifierError
from purposematch.protocol.identifiers.canonical import TextArray, as_mask, row_by_row, trim_ascii
from purposematch.protocol.identifiers.maid import ZERO_MAID
from purposematch.protocol.identifiers.raw import BASE64_DIGEST, HEX_DIGEST, PLACEHOLDERS, trimmed
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = ["digest_of_prehashed", "prehashed_column"]

_SPELLINGS: tuple[Callable[[str], str], ...] = (str.lower, str.upper, str.capitalize)
_JUNK = frozenset(
    hashlib.sha256(spelling(text).encode()).digest()
    for text in (*PLACEHOLDERS, "", "NaN", ZERO_MAID)
    for spelling in (*_SPELLINGS, str)
)
_JUNK_HEADS = np.unique(np.frombuffer(b"".join(digest[:8] for digest in _JUNK), np.uint64))

# The value of every ASCII hexadecimal digit; 0xFF for every other byte.
_NIBBLES = np.full(256, 0xFF, np.uint8)
for _digit in "0123456789abcdefABCDEF":
    _NIBBLES[ord(_digit)] = int(_digit, 16)

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


def prehashed_column(values: TextArray) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`digest_of_prehashed` for a whole column; hexadecimal values never become Python objects.

    Returns:
        Digests `(n, 32)`, zeros where refused, and reasons `(n,)`, both uint8.
    """
    text = trim_ascii(values)
    clean = as_mask(pc.equal(pc.binary_length(text), 64))
    letters = _letters(text if clean.all() else text.filter(pa.array(clean)), 64)
    digests = np.zeros((len(values), 32), np.uint8)
    decoded, good = _from_hex(letters)
    clean[clean] = good
    digests[clean] = decoded[good]
    # The odd rows come back as hexadecimal text, so that they can travel in the same column.
    forms = pa.nulls(int(clean.sum()), values.type)
    column = row_by_row(values, clean, forms, lambda value: digest_of_prehashed(value).hex())
    found = as_mask(pc.is_valid(column.values))
    digests[found] = _from_hex(_letters(column.values.drop_null(), 64))[0]
    return digests, column.reasons


def _letters(texts: TextArray, width: int) -> NDArray[np.uint8]:
    """The bytes of texts that all have the same length, `(n, width)` uint8."""
    if not len(texts):
        return np.empty((0, width), np.uint8)
    fixed = texts.cast(pa.binary(width)) if texts.offset or texts.null_count else texts
    content = fixed.buffers()[-1]
    return np.frombuffer(content, np.uint8, len(texts) * width).reshape(-1, width)


def _from_hex(letters: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Decodes `(n, 64)` letters; the second result says which rows are digits throughout and no junk."""
    nibbles = _NIBBLES[letters]
    good = (nibbles < 16).all(axis=1)
    digests = np.ascontiguousarray((nibbles[:, 0::2] << 4) | (nibbles[:, 1::2] & 0x0F))
    suspects = np.isin(digests.view(np.uint64)[:, 0], _JUNK_HEADS)
    return digests, good & ~suspects
