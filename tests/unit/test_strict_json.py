"""Strict JSON: what readers could disagree about is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.strict_json import Fields, canonical_json, decode_json


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}{}",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":[-1e999]}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b"[" * 50_000,
        b"9" * 5_000,
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_what_is_not_strict_json_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="thing"):
        decode_json(data, "thing", 60_000)


def test_a_document_over_the_limit_is_refused_before_it_is_read() -> None:
    assert decode_json(b'"12"', "thing", 4) == "12"
    with pytest.raises(DecodeError, match="longer than 4 bytes"):
        decode_json(b'"123"', "thing", 4)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_the_error_tree(data: bytes) -> None:
    try:
        value = decode_json(data, "thing", 150)
    except DecodeError:
        return
    assert value == json.loads(data)


def test_an_error_carries_no_part_of_the_document() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_json(b'{"planted@example.com": }', "thing", 150)
    assert caught.value.__cause__ is None
    assert "planted" not in str(caught.value)


def test_the_canonical_form_sorts_names_and_is_ascii() -> None:
    assert canonical_json({"b": 1, "a": "ä", "c": [True, None]}) == b'{"a":"\\u00e4","b":1,"c":[true,null]}'


def test_a_value_that_is_not_json_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": float("nan")})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(DecodeError, match="the thing has no b"):
        Fields({"a": 1}, "thing", ("a", "b"))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(DecodeError, match="not one of a, b"):
        Fields({"a": 1, "b": 2, "c": 3}, "thing", ("a", "b"))
