"""Canonical mobile advertising ids.

Source: RFC 9562 section 4 (the text form of UUIDs). Vendors disagree about the case of
the letters, so every profile here uses lower case.

Does not protect against ids that were reset since: they belong to nobody any more.
"""

import re

import pyarrow as pa
import pyarrow.compute as pc

from purposematch.protocol.errors import IdentifierError
from purposematch.protocol.identifiers.canonical import (
    Canonical,
    as_mask,
    plausible,
    row_by_row,
    trim_ascii,
)
from purposematch.protocol.identifiers.raw import check_is_raw, trimmed
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = ["ZERO_MAID", "canonical_maid", "maid_column"]

ZERO_MAID = "00000000-0000-0000-0000-000000000000"
"""What a device returns when its owner has limited advertising."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_CLEAN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def canonical_maid(value: str) -> str:
    """The canonical form of one mobile advertising id under every profile.

    In order: trim Unicode white space; refuse what no profile accepts (`trimmed`, `check_is_raw`); demand the
    8-4-4-4-12 form of a UUID; lower case. The UUID of zeros is refused.

    Raises:
        IdentifierError: the value has no canonical form.
    """
    text = trimmed(value)
    check_is_raw(text)
    if not _UUID.fullmatch(text):
        raise IdentifierError(IdentifierReason.MAID_SYNTAX)
    if text == ZERO_MAID:
        raise IdentifierError(IdentifierReason.MAID_ZERO)
    return text.lower()


def maid_column(values: pa.StringArray) -> Canonical:
    """`canonical_maid` for a whole column; well-formed ids never leave Arrow."""
    lowered = pc.ascii_lower(trim_ascii(values))
    clean = plausible(lowered, _CLEAN)
    clean &= ~as_mask(pc.equal(lowered, pa.scalar(ZERO_MAID, lowered.type)))
    forms = lowered if clean.all() else lowered.filter(pa.array(clean))
    return row_by_row(values, clean, forms, canonical_maid)
