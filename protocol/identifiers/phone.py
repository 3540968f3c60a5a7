"""Canonical phone numbers.

Source: ITU-T E.164 and the published rules of UID2, Google, Meta, X and PAIR. A number that begins with ``+``
is judged by its syntax alone, so that two parties with different releases of `phonenumbers` give the same
answer; only numbers without ``+``, or with a trunk zero in brackets, need that library's tables.

Does not protect against numbers that nobody has, or that went to another person since.
"""

import re
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc

from purposematch.protocol.errors import IdentifierError, InputError
from purposematch.protocol.identifiers.canonical import (
    Canonical,
    as_mask,
    plausible,
    row_by_row,
    trim_ascii,
)
from purposematch.protocol.identifiers.kinds import Profile
from purposematch.protocol.identifiers.raw import check_is_raw, trimmed
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = ["canonical_phone", "checked_region", "e164_column", "phone_column", "under_profile"]

UID2_MIN_LENGTH = 11
"""The shortest phone number that uid2-v1 takes, in characters: ``+`` and ten digits."""

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
# White space, hyphens and dashes (U+2010 to U+2015, minus, soft hyphen), brackets, full stop, slash, and the
# marks of direction and of zero width that come along when a number is copied from an address book.
_SEPARATORS = re.compile(
    r"[\s\-./()\[\]\u2010-\u2015\u2212\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
_TRUNK_ZERO = re.compile(r"\(\s*0\s*\)")
_EXTENSION = re.compile(r"[0-9](?:;?ext(?:ensi[oó]n|n)?|anexo|int|доб|[x#~,;]{1,2})[:=]?[0-9]{1,7}#?$", re.I)

# The same in Arrow, for ASCII: digits and separators around one leading plus, and no trunk zero.
_CLEAN = r"^\+[1-9][0-9]{6,14}$"
_SPACED = r"^[-./()\[\] ]*\+[-./()\[\] 0-9]*$"
_SPACES = "-./()[] "


def checked_region(region: str | None) -> str | None:
    """`region` in upper case, or None.

    Raises:
        InputError: `region` is no region that phone numbers are assigned to.
    """
    if region is None:
        return None
    # Its tables are asked about few numbers, and take long to load: whoever needs them does.
    import phonenumbers

    code = region.upper()
    if code not in phonenumbers.SUPPORTED_REGIONS:
        raise InputError("the region of phone numbers must be a two-letter country code, such as DE or US")
    return code


def e164(value: str, region: str | None, *, digits_suffice: bool = False) -> str:
    """One raw phone number in E.164, ``+`` and 7 to 15 digits.

    In order: trim Unicode white space; refuse what no profile accepts (`trimmed`, `check_is_raw`); NFKC,
    which maps full-width digits; refuse text without any digit, digits of other scripts, and extensions.
    Then, if the first character that is no separator is ``+``: remove separators and demand ``+`` and 7 to 15
    digits without a leading zero; a trunk zero in brackets, as in ``+44 (0)113``, is left to `phonenumbers`,
    because Italy keeps its zero and Britain does not. Without ``+``: `phonenumbers` reads it as dialled in
    `region`, and it must be possible there with its area code.

    Args:
        value: the raw value.
        region: the declared region in upper case, or None.
        digits_suffice: read a number without ``+`` as if it had one, all non-digits deleted.

    Raises:
        IdentifierError: the value has no canonical form.
    """
    text = trimmed(value)
    check_is_raw(text)
    text = unicodedata.normalize("NFKC", text)
    dialled = _SEPARATORS.sub("", text)
    if not any(letter in "0123456789" for letter in dialled):
        raise IdentifierError(IdentifierReason.PHONE_SYNTAX)
    if any(letter.isdecimal() and not letter.isascii() for letter in dialled):
        raise IdentifierError(IdentifierReason.PHONE_SYNTAX)
    if _EXTENSION.search(dialled):
        raise IdentifierError(IdentifierReason.PHONE_EXTENSION)
    if dialled.startswith("+"):
        if _TRUNK_ZERO.search(text):
            return _read_by_tables(text, None)
    elif digits_suffice:
        dialled = "+" + "".join(letter for letter in dialled if letter in "0123456789")
    elif region is None:
        raise IdentifierError(IdentifierReason.PHONE_REGION_MISSING)
    else:
        return _read_by_tables(text, region)
    if not _E164.fullmatch(dialled):
        raise IdentifierError(IdentifierReason.PHONE_SYNTAX)
    return dialled


def _read_by_tables(text: str, region: str | None) -> str:
    import phonenumbers

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        raise IdentifierError(IdentifierReason.PHONE_SYNTAX) from None
    if number.extension:
        raise IdentifierError(IdentifierReason.PHONE_EXTENSION)
    # Stricter than is_possible_number: a local number without its area code belongs to many people.
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise IdentifierError(IdentifierReason.PHONE_NOT_POSSIBLE)
    form = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if not _E164.fullmatch(form):
        raise IdentifierError(IdentifierReason.PHONE_NOT_POSSIBLE)
    return form


def canonical_phone(value: str, profile: Profile, region: str | None) -> str:
    """The canonical form of one raw phone number: `e164`, and then

    * plain-v1, x-v1, pair-v1: as it is;
    * uid2-v1: at least ten digits;
    * google-v1: as it is; without a region, a number without ``+`` is read as if it had one;
    * meta-v1: without the ``+``.

    Raises:
        IdentifierError: the value has no canonical form.
    """
    number = e164(value, region, digits_suffice=_digits_suffice(profile, region))
    if profile is Profile.UID2 and len(number) < UID2_MIN_LENGTH:
        raise IdentifierError(IdentifierReason.PHONE_SYNTAX)
    return number[1:] if profile is Profile.META else number


def _digits_suffice(profile: Profile, region: str | None) -> bool:
    return profile is Profile.GOOGLE and region is None


def phone_column(values: pa.StringArray, profile: Profile, region: str | None) -> Canonical:
    """`canonical_phone` for a whole column."""
    numbers = e164_column(values, region, digits_suffice=_digits_suffice(profile, region))
    return under_profile(numbers, profile)


def e164_column(values: pa.StringArray, region: str | None, *, digits_suffice: bool = False) -> Canonical:
    """`e164` for a whole column; ASCII numbers that begin with ``+`` never leave Arrow."""
    numbers = trim_ascii(values)
    clean = plausible(numbers, _CLEAN)
    if not clean.all():
        spaced = plausible(numbers, _SPACED) & ~as_mask(
            pc.match_substring_regex(numbers, _TRUNK_ZERO.pattern)
        )
        spaced &= ~clean
        joined = numbers.filter(pa.array(spaced))
        for mark in _SPACES:
            joined = pc.replace_substring(joined, mark, "")
        numbers = pc.replace_with_mask(numbers, pa.array(spaced), joined)
        clean[spaced] = as_mask(pc.match_substring_regex(joined, _CLEAN))
        numbers = numbers.filter(pa.array(clean))
    return row_by_row(
        values, clean, numbers, lambda value: e164(value, region, digits_suffice=digits_suffice)
    )


def under_profile(numbers: Canonical, profile: Profile) -> Canonical:
    """A column of E.164 numbers as `profile` writes them."""
    if profile is Profile.META:
        return Canonical(pc.utf8_slice_codeunits(numbers.values, 1), numbers.reasons)
    if profile is Profile.UID2:
        short = as_mask(pc.less(pc.binary_length(numbers.values), pa.scalar(UID2_MIN_LENGTH)))
        if short.any():
            reasons = numbers.reasons.copy()
            reasons[short] = IdentifierReason.PHONE_SYNTAX
            null = pa.scalar(None, numbers.values.type)
            return Canonical(pc.if_else(pa.array(short), null, numbers.values), reasons)
    return numbers
