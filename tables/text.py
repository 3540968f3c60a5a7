"""Any column of a table as text: what a CSV file would hold in its place.

Numbers become decimal digits, times ISO 8601, truth `true` and `false`, and what is missing the empty
text. Whole numbers stored as floating point, which is how a phone column with gaps leaves many tools,
lose their fraction and exponent.

Not repaired: digits that a floating-point column has already lost (beyond 2^53).
"""

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from purposematch.protocol.errors import TableError

__all__ = ["has_text", "text_column"]

# The published stubs of Arrow's functions know no mixture of arrays and plain values.
pc: Any = pyarrow.compute

_EXACT_FLOAT: Final = float(2**53)
"""Whole numbers below this one are exact in a 64-bit float."""

_TRUE: Final = pa.scalar("true", pa.string())
_FALSE: Final = pa.scalar("false", pa.string())


def has_text(type_: pa.DataType) -> bool:
    """Whether values of this type can be written as the text of one cell."""
    if pa.types.is_dictionary(type_):
        return has_text(type_.value_type)
    return not (pa.types.is_nested(type_) or isinstance(type_, pa.BaseExtensionType))


def text_column(batch: pa.RecordBatch, name: str) -> pa.StringArray:
    """The column `name` of `batch` as strings without nulls.

    Raises:
        TableError: the column is missing, holds lists or records, or bytes that are not UTF-8.
    """
    if name not in batch.schema.names:
        raise TableError(f'column "{name}" is missing')
    column = batch.column(name)
    if not has_text(column.type):
        raise TableError(f'column "{name}" holds values of type {column.type}; store it as text')
    try:
        text = _as_text(column)
    except pa.ArrowException:
        raise TableError(
            f'column "{name}" of type {column.type} cannot be read as text; store it as text in UTF-8'
        ) from None
    filled: pa.StringArray = pc.fill_null(text, "") if text.null_count else text
    return filled


def _as_text(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        return _as_text(column.dictionary_decode())
    if pa.types.is_floating(column.type):
        return _float_as_text(column.cast(pa.float64()))
    if pa.types.is_boolean(column.type):
        # Several times faster than to cast.
        return pc.if_else(column, _TRUE, _FALSE)
    text = column.cast(pa.string())
    if pa.types.is_timestamp(column.type):
        return pc.replace_substring(text, pattern=" ", replacement="T", max_replacements=1)
    return text


def _float_as_text(column: Any) -> Any:
    whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), _EXACT_FLOAT))
    digits = pc.if_else(whole, column, 0.0).cast(pa.int64()).cast(pa.string())
    # A value that is not a number is how some tools say that there is none.
    known = pc.if_else(pc.is_nan(column), None, column)
    return pc.if_else(whole, digits, known.cast(pa.string()))
