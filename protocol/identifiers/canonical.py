"""A column of canonical values, and the way in which every kind fills it.

Each kind's module splits a column in two: *clean* rows, whose canonical form Arrow's kernels compute, and odd
rows, which go through the row-wise definition, once per distinct value. Both give the same answer on every
row; the kernels only save time, and the row-wise definition is the rule.

Not protected: canonical values are raw identifiers. They stay in the process that read them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.errors import IdentifierError, InputError
from purposematch.protocol.identifiers.raw import ASCII_WHITE_SPACE, MAX_VALUE_BYTES, PLACEHOLDERS
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = ["Canonical", "TextArray", "as_mask", "as_text", "plausible", "row_by_row", "trim_ascii"]

TextArray: TypeAlias = "pa.Array[Any]"
"""An Arrow array of type string or large_string."""

_PLACEHOLDERS = sorted(PLACEHOLDERS)


@dataclass(frozen=True)
class Canonical:
    """A column of canonical values.

    Attributes:
        values: `(n,)` Arrow strings, null where the row is refused.
        reasons: `(n,)` uint8, the `IdentifierReason` of every row, 0 where it is usable.
    """

    values: TextArray = field(repr=False)
    reasons: NDArray[np.uint8]


def as_text(values: TextArray) -> TextArray:
    """`values` as an Arrow array of type string or large_string, without a copy where it is one already.

    Raises:
        InputError: the array holds something other than text.
    """
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values
    if pa.types.is_dictionary(kind):
        return as_text(values.dictionary_decode())  # type: ignore[attr-defined]
    if pa.types.is_null(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.string())
    raise InputError(f"a column of identifiers holds {kind}, not text")


def trim_ascii(values: TextArray) -> TextArray:
    """`values` without ASCII white space at the ends; rows that are not ASCII are left to the row-wise rule."""
    return pc.ascii_trim(values, characters=ASCII_WHITE_SPACE)


def as_mask(condition: Any) -> NDArray[np.bool_]:
    """An Arrow array of booleans as a NumPy mask; null is False."""
    mask: NDArray[np.bool_] = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return mask


def plausible(trimmed: TextArray, pattern: str) -> NDArray[np.bool_]:
    """Rows of lower-case text that match `pattern`, are no placeholder and are not too long."""
    fits = pc.less_equal(pc.binary_length(trimmed), MAX_VALUE_BYTES)
    placeholder = pc.is_in(trimmed, value_set=pa.array(_PLACEHOLDERS, trimmed.type))
    return as_mask(pc.match_substring_regex(trimmed, pattern)) & as_mask(fits) & ~as_mask(placeholder)


def row_by_row(
    values: TextArray, clean: NDArray[np.bool_], forms: TextArray, rule: Callable[[str], str]
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
    raw = values.take(pa.array(odd)).cast(
        pa.large_binary() if pa.types.is_large_string(values.type) else pa.binary()
    )
    encoded = pc.dictionary_encode(raw)
    # The last place of the list is for null, whose code is -1.
    answers = [_answer(content, rule) for content in encoded.dictionary.to_pylist()]
    answers.append((None, IdentifierReason.EMPTY))
    codes = pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64) % len(answers)
    reasons[odd] = np.array([reason for _, reason in answers], np.uint8)[codes]
    pool = pa.concat_arrays([forms, pa.array([form for form, _ in answers], values.type)])
    position = np.empty(len(values), np.int64)
    position[clean] = np.arange(len(forms))
    position[odd] = codes + len(forms)
    return Canonical(pool.take(pa.array(position)), reasons)


def _answer(content: bytes, rule: Callable[[str], str]) -> tuple[str | None, int]:
    try:
        return rule(content.decode()), IdentifierReason.USABLE
    except UnicodeDecodeError:
        return None, IdentifierReason.NOT_UNICODE
    except IdentifierError as error:
        return None, error.reason
