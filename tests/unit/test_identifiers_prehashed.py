"""Pre-hashed columns: hexadecimal and base64 meet; what is something else is refused by name."""

import base64
import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.protocol.errors import IdentifierError, InputError
from purposematch.protocol.identifiers import IdentifierReason, digest_of_prehashed, digest_prehashed

DIGEST = hashlib.sha256(b"jane@example.com").digest()
HEX = DIGEST.hex()
BASE64 = base64.b64encode(DIGEST).decode()


def sha256_hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "value", [HEX, HEX.upper(), f" {HEX}\n", f"\u00a0{HEX}\u2003", BASE64, f"\t{BASE64} "]
)
def test_every_spelling_of_a_digest_gives_the_same_bytes(value: str) -> None:
    column = digest_prehashed(pa.array([value]))
    assert column.digests.tobytes() == DIGEST
    assert column.reasons.tolist() == [0]
    assert digest_of_prehashed(value) == DIGEST


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "EMPTY"),
        ("  ", "EMPTY"),
        ("null", "PLACEHOLDER"),
        (HEX[:32] + "\x00" + HEX[33:], "CONTROL_CHARACTER"),
        ("a" * 513, "TOO_LONG"),
        (hashlib.md5(b"x").hexdigest(), "HASH_MD5"),
        (hashlib.sha1(b"x").hexdigest(), "HASH_SHA1"),
        ("0x" + HEX, "HASH_0X_PREFIX"),
        ("0X" + HEX, "HASH_0X_PREFIX"),
        (base64.b64encode(HEX.encode()).decode(), "HASH_BASE64_OF_HEX"),
        (base64.b64encode(HEX.upper().encode()).decode(), "HASH_BASE64_OF_HEX"),
        (HEX[:-1], "HASH_SYNTAX"),
        (HEX[:-1] + "g", "HASH_SYNTAX"),
        (HEX[:-1] + "\u0661", "HASH_SYNTAX"),
        (HEX[:31] + " " + HEX[32:], "HASH_SYNTAX"),
        (BASE64[:-1], "HASH_SYNTAX"),
        (BASE64[:-1] + "A", "HASH_SYNTAX"),
        (BASE64[:-2] + "1=", "HASH_SYNTAX"),
        (base64.b64encode(DIGEST + b"x").decode(), "HASH_SYNTAX"),
        ("jane@example.com", "HASH_SYNTAX"),
        (sha256_hex(""), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("").upper(), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("null"), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("NULL"), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("None"), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("n/a"), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("na"), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("undefined"), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("NaN"), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("test@test.com"), "HASH_OF_PLACEHOLDER"),
        (base64.b64encode(hashlib.sha256(b"").digest()).decode(), "HASH_OF_PLACEHOLDER"),
        (sha256_hex("00000000-0000-0000-0000-000000000000"), "HASH_OF_PLACEHOLDER"),
    ],
)
def test_what_is_no_digest_is_refused_by_name(value: str | None, reason: str) -> None:
    # Among good rows, so that the whole column takes the way of hexadecimal digits.
    column = digest_prehashed(pa.array([HEX, value, BASE64]))
    assert [IdentifierReason(code).name for code in column.reasons] == ["USABLE", reason, "USABLE"]
    assert [digest.tobytes() for digest in column.digests] == [DIGEST, bytes(32), DIGEST]


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("", "e3b0c44298fc1c14"),
        ("null", "74234e98afe7498f"),
        ("none", "140bedbf9c3f6d56"),
        ("n/a", "a683c5c5349f6f7f"),
        ("na", "3d9fc4bde7ceef05"),
        ("undefined", "eb045d78d2731073"),
        ("nan", "9b2d5b4678781e53"),
        ("test@test.com", "f660ab912ec121d1"),
    ],
)
def test_the_junk_digests_are_the_published_ones(text: str, head: str) -> None:
    assert sha256_hex(text).startswith(head)
    with pytest.raises(IdentifierError, match="HASH_OF_PLACEHOLDER"):
        digest_of_prehashed(sha256_hex(text))


SPELLINGS = st.binary(min_size=32, max_size=32).flatmap(
    lambda digest: st.sampled_from(
        [
            digest.hex(),
            digest.hex().upper(),
            f" {digest.hex()}",
            base64.b64encode(digest).decode(),
            digest.hex()[1:],
        ]
    )
)
NEAR_HEX = st.text("0123456789abcdefABCDEFgG:@`/ \u0661", min_size=62, max_size=66)


@given(
    st.lists(st.none() | SPELLINGS | NEAR_HEX | st.text(max_size=8), max_size=12),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_column_gives_the_answer_of_the_row_wise_definition(
    values: list[str | None], large: bool, sliced: bool
) -> None:
    array = pa.array(["ab" * 32, *values], pa.large_string() if large else pa.string())
    rows = values if sliced else ["ab" * 32, *values]
    column = digest_prehashed(array.slice(1) if sliced else array)
    assert column.digests.shape == (len(rows), 32)
    for value, digest, code in zip(rows, column.digests, column.reasons.tolist(), strict=True):
        try:
            expected, reason = digest_of_prehashed(value or ""), 0
        except IdentifierError as error:
            expected, reason = bytes(32), error.reason
        assert (digest.tobytes(), code) == (expected, reason)


def test_a_column_that_is_not_text_is_refused() -> None:
    with pytest.raises(InputError):
        digest_prehashed(pa.array([DIGEST], pa.binary()))


def test_an_empty_column_stays_empty() -> None:
    column = digest_prehashed(pa.array([], pa.string()))
    assert (column.digests.shape, column.reasons.shape) == ((0, 32), (0,))
    assert column.digests.dtype == np.uint8
