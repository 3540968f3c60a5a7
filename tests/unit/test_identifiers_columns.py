"""Whole columns: the same answer as the row-wise definition on every input, and the digests made from it."""

import hashlib
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from purposematch.protocol.errors import IdentifierError, InputError
from purposematch.protocol.identifiers import (
    CANARY_KIND,
    IdentifierReason,
    Kind,
    Profile,
    canonical_value,
    canonicalize,
    digest_raw,
    hash_canonical,
    other_profile_digests,
    private_inputs,
)
from purposematch.protocol.identifiers.email import printable_with_one_at

NASTY = (
    "aAzZ09..++@@-- ()/[]x#;,\t\n\x00\x1c\x1f\x7f\x85\u00a0\u00ad\u0130\u0131\u212a\u00df\u03a3\ufb01"
    "\u0301\u030c\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u200b\u202a\u3000\uff0b\uff10\uff17\uff20"
    "\u0661\u06f3\u1fef\U0001f60a"
)
LETTERS = st.sampled_from(NASTY) | st.characters(codec="utf-8")
TEXT = st.text(LETTERS, max_size=12)
UUID = st.uuids().map(str)
DIGITS = st.text("0123456789", min_size=5, max_size=16)
PIECES = st.sampled_from(
    [
        "@",
        "@gmail.com",
        "@GMail.com",
        "@googlemail.com",
        "@x.org",
        "+",
        "(0)",
        "+44 (0)",
        " ext. 5",
        "null",
        ".",
    ]
)
VALUES = st.one_of(
    TEXT,
    st.lists(st.one_of(TEXT, PIECES, DIGITS), max_size=4).map("".join),
    st.tuples(TEXT, PIECES).map("".join),
    st.tuples(st.sampled_from(["+", " +", "+1 (", "0", "(0)", "+39 (0)"]), DIGITS).map("".join),
    UUID,
    UUID.map(str.upper),
    st.sampled_from(["Test@Test.com", "ab" * 32, "A" * 43 + "=", "00000000-0000-0000-0000-000000000000"]),
    st.sampled_from(
        ["a" * 501 + "@example.com", "\u0130" * 200 + "@x.org", "+" + " " * 520 + "441134960987"]
    ),
)
KINDS = st.sampled_from(Kind)
PROFILES = st.sampled_from(Profile)
REGIONS = st.sampled_from([None, "US", "GB", "IT"])


def row_wise(
    value: str | None, kind: Kind, profile: Profile, region: str | None
) -> tuple[str | None, IdentifierReason]:
    if value is None:
        return None, IdentifierReason.EMPTY
    try:
        return canonical_value(value, kind, profile, region), IdentifierReason.USABLE
    except IdentifierError as error:
        return None, IdentifierReason(error.reason)


@given(st.lists(st.none() | VALUES, max_size=12), KINDS, PROFILES, REGIONS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_a_column_gives_the_answer_of_the_row_wise_definition(
    values: list[str | None], kind: Kind, profile: Profile, region: str | None, large: bool
) -> None:
    column = pa.array(values, pa.large_string() if large else pa.string())
    found = canonicalize(column, kind, profile, region)
    assert found.values.type == column.type
    assert found.reasons.dtype == np.uint8
    expected = [row_wise(value, kind, profile, region) for value in values]
    assert list(zip(found.values.to_pylist(), found.reasons.tolist(), strict=True)) == expected


TRICKY = [
    *(
        "J.D+a@gmail.com",
        "jd@GMAIL.com",
        "j.d@googlemail.com",
        "jd+a@googlemail.com",
        "j.d@gmail.com.",
        "+@gmail.com",
    ),
    *(
        ". a@gmail.com",
        "a b@x.org",
        "a@b@gmail.com",
        "\x1ca@x.org\x1f",
        "\u212aj@x.org",
        "\u0130j@x.org",
        "jane",
    ),
    *(
        "+44 (0)113 496 0987",
        "+39 ( 0 )6 698 12345",
        "(+44) 113 496 0987",
        "+1 (0)",
        "+123456789",
        "+1234567",
    ),
    *(
        "0113 496 0987",
        "1 800 555 0100",
        "+44 113 496 0987 x5",
        "+44\u2011113\u00a0496 0987",
        "(650) 253-0000 - 503#",
    ),
    *(
        "00000000-0000-0000-0000-000000000000",
        "DD99CFF7-1111-4222-8333-0123456789AB",
        "dd99cff7111142228333",
        "NaN",
    ),
    *(
        "Test@Test.com",
        "ab" * 32,
        "A" * 43 + "=",
        "a" * 501 + "@example.com",
        "+" + " " * 520 + "441134960987",
        None,
    ),
]


@pytest.mark.parametrize("region", [None, "US", "GB"])
@pytest.mark.parametrize("kind", list(Kind))
def test_tricky_values_come_out_alike_by_column_and_by_row(kind: Kind, region: str | None) -> None:
    column = pa.array(TRICKY)
    forms = {}
    for profile in Profile:
        found = canonicalize(column, kind, profile, region)
        forms[profile] = found.values.to_pylist()
        assert list(zip(forms[profile], found.reasons.tolist(), strict=True)) == [
            row_wise(value, kind, profile, region) for value in TRICKY
        ]
    for profile, own in forms.items():
        rows, digests = other_profile_digests(column, kind, profile, region)
        assert {(row, digest.tobytes()) for row, digest in zip(rows.tolist(), digests, strict=True)} == {
            (row, hashlib.sha256(form.encode()).digest())
            for other in forms.values()
            for row, form in enumerate(other)
            if form is not None and form != own[row]
        }


@given(VALUES, KINDS, PROFILES, REGIONS)
@example(". a@gmail.com", Kind.EMAIL, Profile.UID2, None)
@example("J\u030c@x.org", Kind.EMAIL, Profile.PLAIN, None)
@example("\u0391\u03a3.@gmail.com", Kind.EMAIL, Profile.GOOGLE, None)
@settings(max_examples=600, deadline=None)
def test_a_canonical_form_is_a_fixed_point_of_its_profile(
    value: str, kind: Kind, profile: Profile, region: str | None
) -> None:
    form, _ = row_wise(value, kind, profile, region)
    if form is not None:
        again = "+" + form if kind is Kind.PHONE and profile is Profile.META else form
        assert canonical_value(again, kind, profile, region) == form
        assert len(form.encode()) <= 512


@given(st.characters(codec="utf-8"), PROFILES)
@settings(max_examples=400, deadline=None)
def test_any_single_character_inside_an_address_has_a_stable_outcome(letter: str, profile: Profile) -> None:
    form, reason = row_wise(f"a{letter}B@x.org", Kind.EMAIL, profile, None)
    if form is None:
        assert reason in {
            IdentifierReason.CONTROL_CHARACTER,
            IdentifierReason.INNER_WHITESPACE,
            IdentifierReason.EMAIL_SYNTAX,
        }
    else:
        assert canonical_value(form, Kind.EMAIL, profile) == form


@given(st.lists(st.none() | VALUES, max_size=8), KINDS, PROFILES, REGIONS)
@settings(max_examples=200, deadline=None)
def test_other_profiles_give_every_distinct_digest_once(
    values: list[str | None], kind: Kind, profile: Profile, region: str | None
) -> None:
    expected = set()
    for row, value in enumerate(values):
        forms = {row_wise(value, kind, other, region)[0] for other in Profile}
        forms -= {None, row_wise(value, kind, profile, region)[0]}
        expected |= {(row, hashlib.sha256(form.encode()).digest()) for form in forms if form is not None}
    rows, digests = other_profile_digests(pa.array(values, pa.string()), kind, profile, region)
    assert rows.dtype == np.int64
    assert digests.shape == (len(rows), 32)
    found = [(row, digest.tobytes()) for row, digest in zip(rows.tolist(), digests, strict=True)]
    assert len(set(found)) == len(found)
    assert set(found) == expected
    assert rows.tolist() == sorted(rows.tolist())


@given(st.lists(st.none() | st.text(max_size=5), max_size=20), st.integers(0, 5))
@settings(deadline=None)
def test_hashing_a_slice_hashes_its_own_rows(values: list[str | None], start: int) -> None:
    digests = hash_canonical(pa.array(values, pa.string()).slice(start))
    assert digests.flags.c_contiguous
    assert [digest.tobytes() for digest in digests] == [
        bytes(32) if value is None else hashlib.sha256(value.encode()).digest() for value in values[start:]
    ]


def test_hashing_goes_on_after_the_first_portion() -> None:
    texts = [f"user{row}@example.com" for row in range(40_000)]
    digests = hash_canonical(pa.array([*texts, None]))
    assert digests[-1].tobytes() == bytes(32)
    for row in (0, 16_383, 16_384, 32_768, 39_999):
        assert digests[row].tobytes() == hashlib.sha256(texts[row].encode()).digest()


def test_refused_rows_have_zero_digests_and_a_reason() -> None:
    column = digest_raw(pa.array(["Jane@x.org", "jane", None, "jane@x.org"]), Kind.EMAIL, Profile.PLAIN)
    jane = hashlib.sha256(b"jane@x.org").digest()
    assert column.digests.dtype == np.uint8
    assert [digest.tobytes() for digest in column.digests] == [jane, bytes(32), bytes(32), jane]
    assert column.reasons.tolist() == [0, IdentifierReason.EMAIL_SYNTAX, IdentifierReason.EMPTY, 0]


@pytest.mark.parametrize("kind", list(Kind))
def test_an_empty_column_stays_empty(kind: Kind) -> None:
    empty = pa.array([], pa.string())
    assert digest_raw(empty, kind, Profile.PLAIN).digests.shape == (0, 32)
    rows, digests = other_profile_digests(empty, kind, Profile.PLAIN)
    assert (rows.shape, digests.shape) == ((0,), (0, 32))


@pytest.mark.parametrize("kind", list(Kind))
def test_bytes_that_are_not_utf8_are_a_refused_row(kind: Kind) -> None:
    raw = pa.array([b"jan\xe9@x.org", b"+44\xff1134960987", b"\xc0\x80", b"\xed\xa0\x80@x.org"])
    broken = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])
    for profile in Profile:
        assert set(canonicalize(broken, kind, profile, "GB").reasons) == {IdentifierReason.NOT_UNICODE}
    assert len(other_profile_digests(broken, kind, Profile.PLAIN, "GB")[0]) == 0


def test_a_slice_of_a_column_is_read_from_its_own_start() -> None:
    column = pa.array(["a@x.org", " B@x.org ", "c.d@gmail.com", None, "e"]).slice(1, 3)
    found = canonicalize(column, Kind.EMAIL, Profile.UID2)
    assert found.values.to_pylist() == ["b@x.org", "cd@gmail.com", None]


@pytest.mark.parametrize(
    "kind", [pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.large_string()]
)
def test_text_of_every_arrow_type_is_read(kind: pa.DataType) -> None:
    column = pa.array(["A@x.org", None, "A@x.org"]).cast(kind)
    assert canonicalize(column, Kind.EMAIL, Profile.PLAIN).values.to_pylist() == ["a@x.org", None, "a@x.org"]


def test_a_column_of_nothing_but_null_is_empty_rows() -> None:
    assert set(canonicalize(pa.nulls(3), Kind.PHONE, Profile.PLAIN).reasons) == {IdentifierReason.EMPTY}


def test_a_column_of_numbers_is_refused_as_a_whole() -> None:
    with pytest.raises(InputError, match="int64"):
        canonicalize(pa.array([441134960987]), Kind.PHONE, Profile.PLAIN)


def test_an_unknown_region_is_refused_even_without_rows() -> None:
    for call in (canonicalize, digest_raw, other_profile_digests):
        with pytest.raises(InputError, match="region"):
            call(pa.array([], pa.string()), Kind.PHONE, Profile.PLAIN, "ZZ")


def test_a_private_input_is_the_kind_byte_and_the_digest() -> None:
    digests = np.arange(96, dtype=np.uint8).reshape(3, 32)
    kinds = np.array([Kind.EMAIL, Kind.MAID, CANARY_KIND], np.uint8)
    inputs = private_inputs(kinds, digests)
    assert inputs.flags.c_contiguous
    assert [row.tobytes() for row in inputs] == [
        bytes([kind]) + digest.tobytes() for kind, digest in zip(kinds.tolist(), digests, strict=True)
    ]


def test_no_identifier_shows_in_a_repr() -> None:
    column = pa.array(["jane@example.com"])
    assert "jane" not in repr(canonicalize(column, Kind.EMAIL, Profile.PLAIN))
    assert "digests" not in repr(digest_raw(column, Kind.EMAIL, Profile.PLAIN))


@given(
    st.lists(st.none() | st.text("ab@@.+ \x7f\x00!~é", max_size=5), max_size=8),
    st.integers(0, 3),
    st.sampled_from([pa.string(), pa.large_string()]),
)
def test_printable_addresses_are_those_that_match_the_pattern(
    texts: list[str | None], start: int, kind: Any
) -> None:
    column = pa.array(texts, kind).slice(start)
    pattern = re.compile(r"[!-?A-~]+@[!-?A-~]+")
    expected = [text is not None and bool(pattern.fullmatch(text)) for text in texts[start:]]
    assert printable_with_one_at(column).tolist() == expected
