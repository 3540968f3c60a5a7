"""A column of canonical values, and the way in which every kind fills it.

Each kind's module splits a column in two: *clean* rows, whose canonical form Arrow's kernels compute, and odd
rows, which go through the row-wise definition, once per distinct value. Both give the same answer on every
row; the kernels only save time, and the row-wise definition is the rule.

Not protected: canonical values are raw identifiers. They stay in the process that read them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.errors import IdentifierError, InputError
from purposematch.protocol.identifiers.raw import ASCII_WHITE_SPACE, MAX_VALUE_BYTES, PLACEHOLDERS
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = [
    "Canonical",
    "acceptable",
    "as_mask",
    "as_text",
    "plausible",
    "row_by_row",
    "text_bytes",
    "trim_ascii",
]

_PLACEHOLDERS = sorted(PLACEHOLDERS)
_MAY_BE_PLACEHOLDER = np.isin(
    np.arange(max(map(len, PLACEHOLDERS)) + 2), [len(text) for text in PLACEHOLDERS]
)
"""Whether a text of so many bytes may be a placeholder; the last entry is for all longer ones."""


@dataclass(frozen=True)
class Canonical:
    """A column of canonical values.

    Attributes:
        values: `(n,)` Arrow strings of the type that came in (string or large_string), null where refused.
        reasons: `(n,)` uint8, the `IdentifierReason` of every row, 0 where it is usable.
    """

    values: pa.StringArray = field(repr=False)
    reasons: NDArray[np.uint8]


def as_text(values: "pa.Array[Any]") -> pa.StringArray:
    """`values` as an Arrow array of type string or large_string, without a copy where it is one already.

    The annotation says StringArray for both: all that is done with them here is the same for either.

    Raises:
        InputError: the array holds something other than text.
    """
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return cast(pa.StringArray, values)
    if pa.types.is_dictionary(kind):
        return as_text(cast("pa.DictionaryArray[Any, Any]", values).dictionary_decode())
    if pa.types.is_null(kind) or pa.types.is_string_view(kind):
        return cast(pa.StringArray, values.cast(pa.string()))
    raise InputError(f"a column of identifiers holds {kind}, not text")


def text_bytes(texts: pa.StringArray) -> tuple[NDArray[np.signedinteger], NDArray[np.uint8]]:
    """The offsets `(n + 1,)` of n strings and the bytes into which they point, without a copy."""
    if not len(texts):
        return np.zeros(1, np.int32), np.empty(0, np.uint8)
    buffers: list[Any] = texts.buffers()
    _, offsets, content = buffers
    width = "i8" if pa.types.is_large_string(texts.type) else "i4"
    ends: NDArray[np.signedinteger] = np.frombuffer(offsets, width)
    return (
        ends[texts.offset : texts.offset + len(texts) + 1],
        np.frombuffer(b"" if content is None else content, np.uint8),
    )


def trim_ascii(values: pa.StringArray) -> pa.StringArray:
    """`values` without ASCII white space at the ends; the row-wise rule trims the rest of Unicode."""
    return pc.ascii_trim(values, characters=ASCII_WHITE_SPACE)


def as_mask(condition: pa.BooleanArray) -> NDArray[np.bool_]:
    """An Arrow array of booleans as a NumPy mask; null is False."""
    mask: NDArray[np.bool_] = condition.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def plausible(trimmed: pa.StringArray, pattern: str) -> NDArray[np.bool_]:
    """Rows of lower-case text that match `pattern` and are `acceptable`."""
    return as_mask(pc.match_substring_regex(trimmed, pattern)) & acceptable(trimmed)


def acceptable(trimmed: pa.StringArray) -> NDArray[np.bool_]:
    """Rows of lower-case text that are no placeholder and not too long."""
    lengths = np.diff(text_bytes(trimmed)[0])
    fits: NDArray[np.bool_] = lengths <= MAX_VALUE_BYTES
    # To look a text up is slow, and most are longer than any placeholder.
    some = np.flatnonzero(_MAY_BE_PLACEHOLDER.take(lengths, mode="clip"))
    if len(some):
        fits[some] &= ~as_mask(pc.is_in(trimmed.take(some), value_set=pa.array(_PLACEHOLDERS, trimmed.type)))
    return fits & as_mask(trimmed.is_valid()) if trimmed.null_count else fits


def row_by_row(
    values: pa.StringArray, clean: NDArray[np.bool_], forms: pa.StringArray, rule: Callable[[str], str]
) -> Canonical:
    """Completes a column: `forms` for the clean rows, `rule` for each distinct value of the others.

    Args:
        values: `(n,)` raw strings, null where there is none.
        clean: `(n,)`, True where the canonical form is known already.
        forms: the canonical forms of the clean rows, in their order.
        rule: the row-wise definition, which raises IdentifierError.
    """
    reasons = np.zeros(len(values), np.uint8)
    if clean.all():
        return Canonical(forms, reasons)
    odd = np.flatnonzero(~clean)
    # Through bytes: a Parquet file may hold strings that are not UTF-8, and Arrow does not look.
    raw = values.take(odd).cast(pa.large_binary() if pa.types.is_large_string(values.type) else pa.binary())
    encoded = cast("pa.DictionaryArray[Any, Any]", pc.dictionary_encode(raw))
    # The last place of the list is for null, whose code is -1.
    distinct: list[Any] = encoded.dictionary.to_pylist()
    answers = [_answer(content, rule) for content in distinct]
    answers.append((None, IdentifierReason.EMPTY))
    codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64) % len(answers)
    reasons[odd] = np.array([reason for _, reason in answers], np.uint8)[codes]
    pool = pa.concat_arrays([forms, pa.array([form for form, _ in answers], values.type)])
    position = np.empty(len(values), np.int64)
    position[clean] = np.arange(len(forms))
    position[odd] = codes + len(forms)
    return Canonical(pool.take(position), reasons)


def _answer(content: bytes, rule: Callable[[str], str]) -> tuple[str | None, int]:
    try:
        return rule(content.decode()), IdentifierReason.USABLE
    except UnicodeDecodeError:
        return None, IdentifierReason.NOT_UNICODE
    except IdentifierError as error:
        return None, error.reason
