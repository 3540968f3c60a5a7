"""Columns of identifiers: raw or pre-hashed text in, digests and a reason per refused row out.

Source: docs/protocol.md (private input) and docs/gate.md (spellings).

Does not protect the identifiers: SHA-256 of a phone number is found again by trying all of them. Digests are
treated like the values they stand for.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.batch_hash import sha256_strings
from purposematch.protocol.identifiers.canonical import Canonical, as_mask, as_text, text_bytes
from purposematch.protocol.identifiers.email import EMAIL_RULES, canonical_email, email_column, emails_agree
from purposematch.protocol.identifiers.kinds import Kind, Profile
from purposematch.protocol.identifiers.maid import canonical_maid, maid_column
from purposematch.protocol.identifiers.phone import (
    canonical_phone,
    checked_region,
    e164_column,
    phone_column,
    under_profile,
)
from purposematch.protocol.identifiers.prehashed import prehashed_column
from purposematch.protocol.identifiers.reasons import IdentifierReason

__all__ = [
    "IdentifierColumn",
    "canonical_value",
    "canonicalize",
    "digest_prehashed",
    "digest_raw",
    "hash_canonical",
    "other_profile_digests",
    "private_inputs",
    "write_private_inputs",
]


@dataclass(frozen=True)
class IdentifierColumn:
    """The digests of a column of identifiers of one kind.

    Attributes:
        digests: `(n, 32)` uint8, zeros where the row is refused.
        reasons: `(n,)` uint8, the `IdentifierReason` of every row, 0 where it is usable.
    """

    digests: NDArray[np.uint8] = field(repr=False)
    reasons: NDArray[np.uint8]


def canonical_value(value: str, kind: Kind, profile: Profile, region: str | None = None) -> str:
    """The canonical form of one raw value: the definition that `canonicalize` computes faster.

    The rules are in `canonical_email`, `canonical_phone` and `canonical_maid`.

    Raises:
        IdentifierError: the value has no canonical form; `reason` says why.
        InputError: `region` is not a region.
    """
    region = checked_region(region)
    match kind:
        case Kind.EMAIL:
            return canonical_email(value, profile)
        case Kind.PHONE:
            return canonical_phone(value, profile, region)
        case Kind.MAID:
            return canonical_maid(value)


def canonicalize(
    values: "pa.Array[Any]", kind: Kind, profile: Profile, region: str | None = None
) -> Canonical:
    """The canonical forms of a column of raw values.

    Args:
        values: `(n,)` Arrow strings; null is refused as EMPTY.
        kind: what the values are.
        profile: the rule.
        region: two-letter country code in which phone numbers without ``+`` are dialled.

    Raises:
        InputError: `region` is not a region, or the array does not hold text.
    """
    region = checked_region(region)
    texts = as_text(values)
    match kind:
        case Kind.EMAIL:
            return email_column(texts, profile)
        case Kind.PHONE:
            return phone_column(texts, profile, region)
        case Kind.MAID:
            return maid_column(texts)


def hash_canonical(values: "pa.Array[Any]") -> NDArray[np.uint8]:
    """SHA-256 of the UTF-8 bytes of every string, `(n, 32)` uint8; zeros where null."""
    texts = as_text(values)
    valid = as_mask(texts.is_valid()) if texts.null_count else None
    return sha256_strings(*text_bytes(texts), valid)


def digest_raw(
    values: "pa.Array[Any]", kind: Kind, profile: Profile, region: str | None = None
) -> IdentifierColumn:
    """The digests of a column of raw values; arguments and errors as for `canonicalize`."""
    canonical = canonicalize(values, kind, profile, region)
    return IdentifierColumn(hash_canonical(canonical.values), canonical.reasons)


def digest_prehashed(values: "pa.Array[Any]") -> IdentifierColumn:
    """The digests of a column of pre-hashed values: 64 hexadecimal digits or base64 of 32 bytes.

    Raises:
        InputError: the array does not hold text.
    """
    return IdentifierColumn(*prehashed_column(as_text(values)))


def other_profile_digests(
    values: "pa.Array[Any]", kind: Kind, profile: Profile, region: str | None = None
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The digests that a column of raw values has under the other five profiles.

    The registry keeps them beside the digest under `profile`, so that a refusal given in one spelling meets a
    grant in another.

    Returns:
        Rows `(m,)` int64 in ascending order and digests `(m, 32)` uint8: for every row the distinct digests
        that differ from its own. A row that is refused under `profile` but usable under another is there too.

    Raises:
        InputError: as for `canonicalize`.
    """
    region = checked_region(region)
    texts = as_text(values)
    rows = np.flatnonzero(~_profiles_agree(texts, kind))
    forms = _under_every_profile(texts.take(rows), kind, region)
    seen = [forms[profile].values]
    found_rows: list[NDArray[np.int64]] = []
    found_forms: list[pa.StringArray] = []
    for other in {id(form): form.values for form in forms.values()}.values():
        new = as_mask(other.is_valid())
        for earlier in seen:
            new &= ~as_mask(pc.equal(other, earlier))
        seen.append(other)
        found_rows.append(rows[new])
        found_forms.append(other.filter(pa.array(new)))
    all_rows = np.concatenate(found_rows)
    order = np.argsort(all_rows, kind="stable")
    return all_rows[order], hash_canonical(pa.concat_arrays(found_forms))[order]


def _profiles_agree(values: pa.StringArray, kind: Kind) -> NDArray[np.bool_]:
    """Rows for which it is certain that all profiles give the same canonical form or all refuse."""
    match kind:
        case Kind.EMAIL:
            return emails_agree(values)
        case Kind.PHONE:
            return np.zeros(len(values), np.bool_)
        case Kind.MAID:
            return np.ones(len(values), np.bool_)


def _under_every_profile(values: pa.StringArray, kind: Kind, region: str | None) -> dict[Profile, Canonical]:
    """The canonical forms under all six profiles; profiles with one rule share one object."""
    if kind is Kind.EMAIL:
        by_rule = {rule: email_column(values, profile) for profile, rule in EMAIL_RULES.items()}
        return {profile: by_rule[rule] for profile, rule in EMAIL_RULES.items()}
    if kind is Kind.MAID:
        return dict.fromkeys(Profile, maid_column(values))
    numbers = e164_column(values, region)
    forms = {profile: under_profile(numbers, profile) for profile in Profile}
    if (numbers.reasons == IdentifierReason.PHONE_REGION_MISSING).any():
        forms[Profile.GOOGLE] = phone_column(values, Profile.GOOGLE, region)
    return forms


def private_inputs(kinds: NDArray[np.uint8], digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The private inputs of the POPRF: kind byte, then digest.

    Args:
        kinds: `(n,)` uint8, a `Kind` or `CANARY_KIND` each.
        digests: `(n, 32)` uint8.

    Returns:
        `(n, 33)` uint8, C-contiguous.
    """
    inputs = np.empty((len(digests), 33), np.uint8)
    write_private_inputs(inputs, kinds, digests)
    return inputs


def write_private_inputs(
    target: NDArray[np.uint8], kinds: NDArray[np.uint8], digests: NDArray[np.uint8]
) -> None:
    """Writes what `private_inputs` returns to `target`, `(n, 33)` uint8."""
    target[:, 0] = kinds
    target[:, 1:] = digests
