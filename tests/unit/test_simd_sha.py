"""Hashes of whole batches, in lanes and by hashlib: one gives the bytes of the other."""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import slow_poprf as slow
from hypothesis import given
from hypothesis import strategies as st
from samples import rows, uniform

from purposematch.protocol import batch_hash
from purposematch.protocol.batch_hash import (
    expand_message_xmd,
    hmac_sha256,
    hmac_sha256_keys,
    sha256_strings,
    sha512_rows,
)
from purposematch.protocol.ciphersuite import POPRF, Mode
from purposematch.protocol.errors import InputError
from purposematch.protocol.group import Bytes, SecretScalar, SodiumGroup
from purposematch.protocol.identifiers import hash_canonical
from purposematch.protocol.poprf import EvaluationKey, evaluate
from purposematch.protocol.simd.choice import LANES_FROM, lanes_for
from purposematch.protocol.simd.processor import INSTRUCTIONS


@pytest.fixture(scope="module", params=["hashlib", *(["lanes"] if INSTRUCTIONS else [])], autouse=True)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything is computed both ways, whatever the size of a batch."""
    lanes = request.param == "lanes"
    if lanes:
        assert lanes_for(LANES_FROM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_hash, "lanes_for", lambda count: lanes)
        yield request.param


def some(count: int, width: int, label: str = "some") -> Bytes:
    """Arbitrary rows of any width, zero included, that do not lie one after another."""
    return uniform(count, width + 2, label)[:, 1:-1]


@given(
    strings=st.lists(
        st.none() | st.binary(max_size=200) | st.binary(min_size=500, max_size=600), max_size=40
    ),
    before=st.binary(max_size=70),
    after=st.binary(max_size=70),
)
def test_strings_hash_alike_wherever_they_lie(
    strings: list[bytes | None], before: bytes, after: bytes
) -> None:
    present = [string or b"" for string in strings]
    offsets = np.cumsum([len(before), *map(len, present)])
    data = np.frombuffer(before + b"".join(present) + after, np.uint8)
    valid = np.array([string is not None for string in strings], np.bool_)
    expected = [bytes(32) if s is None else hashlib.sha256(s).digest() for s in strings]
    for kind in (np.int32, np.int64):
        found = sha256_strings(offsets.astype(kind), data, valid)
        assert [digest.tobytes() for digest in found] == expected
    assert [d.tobytes() for d in sha256_strings(offsets, data)] == [
        hashlib.sha256(s).digest() for s in present
    ]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_columns_of_arrow_hash_alike_with_nulls_and_slices(kind: Any) -> None:
    texts = [None if length % 11 == 5 else "ä" * (length % 3) + "x" * length for length in range(520)]
    whole = pa.array(texts, kind)
    for start, count in ((0, 520), (1, 519), (17, 300), (519, 1), (520, 0), (6, 9)):
        found = hash_canonical(whole.slice(start, count))
        expected = [
            bytes(32) if text is None else hashlib.sha256(text.encode()).digest()
            for text in texts[start : start + count]
        ]
        assert [digest.tobytes() for digest in found] == expected
    assert hash_canonical(pa.array([], kind)).shape == (0, 32)
    assert not hash_canonical(pa.nulls(3, kind)).any()


@pytest.mark.parametrize("offsets", [[-1, 2], [0, 9], [0, 3, 2], [4, 2]])
def test_offsets_that_point_outside_the_data_are_refused(offsets: list[int]) -> None:
    with pytest.raises(InputError, match="offsets outside its data"):
        sha256_strings(np.array(offsets, np.int32), np.zeros(8, np.uint8))


RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
]


@pytest.mark.parametrize(("key", "message", "mac"), RFC_4231)
def test_hmac_gives_the_values_of_rfc_4231(key: bytes, message: bytes, mac: str) -> None:
    for row in hmac_sha256(key, rows([message] * 3, len(message))):
        assert row.tobytes().hex() == mac
    if len(key) <= 64:
        for row in hmac_sha256_keys(rows([key] * 3, len(key)), message):
            assert row.tobytes().hex() == mac


@given(key=st.binary(max_size=140), width=st.integers(0, 200), count=st.integers(0, 40), message=st.binary())
def test_hmac_is_that_of_the_standard_library(key: bytes, width: int, count: int, message: bytes) -> None:
    batch = some(count, width, repr(message))
    expected = [hmac.digest(key, row.tobytes(), "sha256") for row in batch]
    assert [mac.tobytes() for mac in hmac_sha256(key, batch)] == expected
    keys = batch[:, :64]
    expected = [hmac.digest(row.tobytes(), message, "sha256") for row in keys]
    assert [mac.tobytes() for mac in hmac_sha256_keys(keys, message)] == expected


def test_keys_that_would_have_to_be_hashed_first_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 64 bytes"):
        hmac_sha256_keys(some(2, 65), b"message")


@given(
    width=st.integers(0, 300),
    other=st.integers(0, 64),
    middle=st.binary(max_size=150),
    count=st.integers(0, 20),
)
def test_parts_hash_like_the_message_that_they_make(
    width: int, other: int, middle: bytes, count: int
) -> None:
    left, right = some(count, width), some(count, other, "other")
    found = sha512_rows(b"head", left, middle, right, b"tail")
    expected = [
        hashlib.sha512(b"head" + a.tobytes() + middle + b.tobytes() + b"tail").digest()
        for a, b in zip(left, right, strict=True)
    ]
    assert [digest.tobytes() for digest in found] == expected


@given(width=st.integers(0, 300), count=st.integers(0, 20), dst=st.binary(max_size=255))
def test_messages_expand_as_in_the_slow_implementation(width: int, count: int, dst: bytes) -> None:
    messages = some(count, width)
    expected = [slow.expand_message_xmd(message.tobytes(), dst, 64) for message in messages]
    assert [row.tobytes() for row in expand_message_xmd(messages, dst, 64)] == expected
    cut = width // 2
    parts = [messages[:, :cut], messages[:, cut:]]
    assert [row.tobytes() for row in expand_message_xmd(parts, dst, 64)] == expected


def test_messages_expand_to_other_lengths_as_in_rfc_9380(vectors: Callable[[str], Any]) -> None:
    published = vectors("rfc9380_expand_message_xmd_sha512.json")
    for case in published["cases"]:
        message = case["msg"].encode()
        batch = np.frombuffer(message * 2, np.uint8).reshape(2, len(message))
        found = expand_message_xmd(batch, published["dst"].encode(), case["len_in_bytes"])
        assert [row.tobytes().hex() for row in found] == [case["uniform_bytes"]] * 2


def test_the_poprf_gives_the_outputs_of_rfc_9497(vectors: Callable[[str], Any]) -> None:
    group = SodiumGroup()
    published = vectors("rfc9497_ristretto255_sha512.json")["modes"][Mode.POPRF]
    key = SecretScalar(bytes.fromhex(published["secret_key"]))
    for case in published["cases"]:
        info = bytes.fromhex(case["info"])
        server = EvaluationKey(group, POPRF, key, info)
        for content, output in zip(map(bytes.fromhex, case["inputs"]), case["outputs"], strict=True):
            found = evaluate(group, POPRF, server, rows([content] * 9, len(content)), info)
            assert [row.tobytes().hex() for row in found] == [output] * 9


def test_columns_of_different_lengths_make_no_messages() -> None:
    with pytest.raises(ValueError, match=r"different|broadcast"):
        sha512_rows(some(3, 4), some(2, 4))
