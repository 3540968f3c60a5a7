"""Canonical e-mail addresses.

Source: the published rules of UID2, Google, Meta, X and PAIR; cases from their own documentation, with the
place where each was found, are in tests/vectors/normalization.json. There is no IDNA in any profile:
no vendor applies it.

Does not protect against an address that does not exist, and does not see that two addresses reach one person.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.errors import IdentifierError
from purposematch.protocol.identifiers.canonical import (
    Canonical,
    acceptable,
    as_mask,
    row_by_row,
    text_bytes,
    trim_ascii,
)
from purposematch.protocol.identifiers.kinds import Profile
from purposematch.protocol.identifiers.raw import check_is_raw, check_length, trimmed
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = [
    "EMAIL_RULES",
    "EmailRule",
    "canonical_email",
    "email_column",
    "emails_agree",
    "printable_with_one_at",
]

_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_WHITE_SPACE = re.compile(r"\s")

# Addresses whose canonical form depends on whether dots and suffixes are dropped.
_FOLDABLE = r"(?i)^[^@]*[.+][^@]*@(?:gmail|googlemail)\.com$"


def ascii_lower(text: str) -> str:
    """Lower-cases A to Z only."""
    return text.translate(_ASCII_LOWER)


def composed_lower(text: str) -> str:
    """NFC, then Unicode lower case, until nothing changes: lower case can undo NFC."""
    while (after := unicodedata.normalize("NFC", text).lower()) != text:
        text = after
    return text


@dataclass(frozen=True)
class EmailRule:
    """What one profile does to an e-mail address.

    Attributes:
        lower: how the whole address is made lower-case.
        folded: the domains in whose local part dots and everything from the first ``+`` are dropped.
        keeps_white_space: whether white space inside the address stays, or refuses the row.
    """

    lower: Callable[[str], str]
    folded: tuple[str, ...] = ()
    keeps_white_space: bool = True


EMAIL_RULES = {
    Profile.PLAIN: EmailRule(composed_lower, keeps_white_space=False),
    Profile.UID2: EmailRule(ascii_lower, folded=("gmail.com",)),
    Profile.GOOGLE: EmailRule(str.lower, folded=("gmail.com", "googlemail.com"), keeps_white_space=False),
    Profile.META: EmailRule(str.lower),
    Profile.X: EmailRule(str.lower),
    Profile.PAIR: EmailRule(ascii_lower),
}
"""The rule of every profile."""


def canonical_email(value: str, profile: Profile) -> str:
    """The canonical form of one raw e-mail address.

    In order: trim Unicode white space; refuse what no profile accepts (`trimmed`, `check_is_raw`); lower case
    as the profile has it; refuse inner white space unless the profile keeps it; demand exactly one ``@`` with
    something on both sides; under uid2-v1 (gmail.com) and google-v1 (gmail.com and googlemail.com, which stay
    two domains) drop from the local part everything from the first ``+``, all dots, and the white space that
    this leaves in front. Nothing else changes: no IDNA, no removal of comments or of a dot at the end.

    Raises:
        IdentifierError: the value has no canonical form.
    """
    text = trimmed(value)
    check_is_raw(text)
    rule = EMAIL_RULES[profile]
    text = rule.lower(text)
    if not rule.keeps_white_space and _WHITE_SPACE.search(text):
        raise IdentifierError(IdentifierReason.INNER_WHITESPACE)
    local, at, domain = text.partition("@")
    if not at or not domain or "@" in domain:
        raise IdentifierError(IdentifierReason.EMAIL_SYNTAX)
    if domain in rule.folded:
        local = local.partition("+")[0].replace(".", "").lstrip()
    if not local:
        raise IdentifierError(IdentifierReason.EMAIL_LOCAL_EMPTY)
    text = f"{local}@{domain}"
    check_length(text)
    return text


def email_column(values: pa.StringArray, profile: Profile) -> Canonical:
    """`canonical_email` for a whole column; printable ASCII addresses never leave Arrow."""
    lowered = pc.ascii_lower(trim_ascii(values))
    clean = printable_with_one_at(lowered) & acceptable(lowered)
    for domain in EMAIL_RULES[profile].folded:
        lowered, clean = _fold(lowered, clean, f"@{domain}")
    forms = lowered if clean.all() else lowered.filter(pa.array(clean))
    return row_by_row(values, clean, forms, lambda value: canonical_email(value, profile))


def printable_with_one_at(texts: pa.StringArray) -> NDArray[np.bool_]:
    """Rows `(n,)` of printable ASCII with one ``@`` inside: no white space, no control character, no DEL.

    These are the rows that match ``^[!-?A-~]+@[!-?A-~]+$``; looking at all bytes of the column at once is
    several times as fast.
    """
    offsets, content = text_bytes(texts)
    first, starts, ends = offsets[0], offsets[:-1] - offsets[0], offsets[1:] - offsets[0]
    content = content[first : offsets[-1]]
    ats = np.flatnonzero(np.equal(content, ord("@")))
    if len(ats) == len(texts) and (ats >= starts).all() and (ats < ends).all():
        clean: NDArray[np.bool_] = (ats > starts) & (ats < ends - 1)
    else:
        rows = np.searchsorted(ends, ats, side="right")
        clean = np.zeros(len(texts), np.bool_)
        clean[rows[(ats > starts[rows]) & (ats < ends[rows] - 1)]] = True
        clean &= np.equal(np.bincount(rows, minlength=len(texts)), 1)
    # One comparison for both ends of the range: what is below the first wraps around.
    odd = np.flatnonzero(content - np.uint8(ord("!")) > ord("~") - ord("!"))
    clean[np.searchsorted(ends, odd, side="right")] = False
    return clean & as_mask(texts.is_valid()) if texts.null_count else clean


def _fold(
    addresses: pa.StringArray, clean: NDArray[np.bool_], ending: str
) -> tuple[pa.StringArray, NDArray[np.bool_]]:
    """Drops dots and suffixes before `ending`; a row that has nothing left is not clean any more."""
    mask = as_mask(pc.ends_with(addresses, ending)) & clean
    if not mask.any():
        return addresses, clean
    local = pc.utf8_slice_codeunits(addresses.filter(pa.array(mask)), 0, -len(ending))
    local = cast(pa.StringArray, pc.list_element(pc.split_pattern(local, "+", max_splits=1), 0))
    local = pc.replace_substring(local, ".", "")
    clean = clean.copy()
    clean[mask] = as_mask(pc.not_equal(pc.binary_length(local), pa.scalar(0)))
    folded = _joined(local, ending)
    return pc.replace_with_mask(addresses, pa.array(mask), folded), clean


def _joined(local: pa.StringArray, ending: str) -> pa.StringArray:
    endings = pa.repeat(pa.scalar(ending, local.type), len(local))
    return pc.binary_join_element_wise(local, endings, pa.repeat(pa.scalar("", local.type), len(local)))


def emails_agree(values: pa.StringArray) -> NDArray[np.bool_]:
    """Rows `(n,)` that certainly have one form under all six profiles, or none under any.

    That is printable ASCII with nothing to drop, and everything without an ``@``.
    """
    text = trim_ascii(values)
    clean = printable_with_one_at(text)
    foldable = as_mask(pc.match_substring_regex(text, _FOLDABLE))
    return (clean & ~foldable) | ~as_mask(pc.match_substring(text, "@"))
