"""From strings to uniform bytes: canonical form, SHA-256, expand_message, and a plain loop beside them."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from purposematch.protocol import portable_hash
from purposematch.protocol.batch_hash import hmac_sha256, hmac_sha256_keys
from purposematch.protocol.ciphersuite import POPRF, WIDE_LENGTH
from purposematch.protocol.hashing import expand_message_xmd
from purposematch.protocol.identifiers import (
    Kind,
    Profile,
    canonicalize,
    digest_raw,
    hash_canonical,
    private_inputs,
)
from purposematch.protocol.poprf import output_hash

KEY = bytes(range(32))


def test_canonical_form_of_emails(measure: Any, material: Any, size: int) -> None:
    column = measure("canonical e-mail", canonicalize, material.emails, Kind.EMAIL, Profile.PLAIN)
    assert column.values.null_count == 0
    assert column.reasons.shape == (size,)


def test_canonical_form_of_phones(measure: Any, material: Any, size: int) -> None:
    column = measure("canonical phone", canonicalize, material.phones, Kind.PHONE, Profile.PLAIN)
    assert column.values.null_count == 0
    assert column.reasons.shape == (size,)


def test_sha256(measure: Any, material: Any, size: int) -> None:
    values = canonicalize(material.emails, Kind.EMAIL, Profile.PLAIN).values
    assert measure("SHA-256", hash_canonical, values).shape == (size, 32)


def test_expand_message(measure: Any, material: Any, size: int) -> None:
    dst = POPRF.hash_to_group_dst
    uniform = measure("expand_message", expand_message_xmd, material.inputs, dst, WIDE_LENGTH)
    assert uniform.shape == (size, WIDE_LENGTH)


def test_keyed_digests(measure: Any, material: Any, size: int) -> None:
    assert measure("HMAC of inputs", hmac_sha256, KEY, material.inputs).shape == (size, 32)


def test_commit_macs(measure: Any, material: Any, size: int) -> None:
    assert measure("HMAC under tokens", hmac_sha256_keys, _tokens(material), KEY).shape == (size, 32)


def test_output_hash(measure: Any, material: Any, size: int) -> None:
    elements = _tokens(material)
    outputs = measure("output hash", output_hash, material.inputs, elements, material.info)
    assert outputs.shape == (size, 64)


@pytest.mark.parametrize(
    "step", ["SHA-256", "expand_message", "HMAC of inputs", "HMAC under tokens", "output hash"]
)
def test_hashlib_on_the_same(measure: Any, material: Any, size: int, step: str) -> None:
    assert len(measure(f"bound: hashlib {step}", one_by_one(step, material))) == size


def test_strings_to_uniform_bytes(measure: Any, material: Any) -> None:
    uniform = measure("strings to uniform bytes", to_uniform_bytes, material.emails)
    assert uniform.tobytes() == b"".join(plain_loop(material.emails.to_pylist()))


def test_plain_hashlib_loop(measure: Any, material: Any, size: int) -> None:
    values = material.emails.to_pylist()
    assert len(measure("bound: hashlib loop", plain_loop, values)) == size


def to_uniform_bytes(values: pa.StringArray) -> NDArray[np.uint8]:
    """Canonical form, SHA-256, private input, expand_message: what an identifier costs before the group."""
    digests = digest_raw(values, Kind.EMAIL, Profile.PLAIN).digests
    inputs = private_inputs(np.full(len(digests), Kind.EMAIL, np.uint8), digests)
    return expand_message_xmd(inputs, POPRF.hash_to_group_dst, WIDE_LENGTH)


def one_by_one(step: str, material: Any) -> Callable[[], Any]:
    """A step one message after another, by hashlib; what it needs is made before."""
    if step == "SHA-256":
        values = canonicalize(material.emails, Kind.EMAIL, Profile.PLAIN).values
        texts = [value.encode() for value in values.to_pylist()]
        return lambda: [hashlib.sha256(text).digest() for text in texts]
    if step == "expand_message":
        inputs = [row.tobytes() for row in material.inputs]
        return lambda: [expanded(message) for message in inputs]
    if step == "HMAC of inputs":
        return lambda: portable_hash.hmac_sha256(KEY, material.inputs)
    tokens = _tokens(material)
    if step == "HMAC under tokens":
        return lambda: portable_hash.hmac_sha256_keys(tokens, KEY)
    middle = len(material.info).to_bytes(2, "big") + material.info + b"\0\x20"
    parts = [b"\0\x21", material.inputs, middle, tokens, b"Finalize"]
    return lambda: portable_hash.sha512_rows(parts)


def plain_loop(values: list[str]) -> list[bytes]:
    """From strings to uniform bytes, one string after another."""
    kind = bytes([Kind.EMAIL])
    return [expanded(kind + hashlib.sha256(value.strip().lower().encode()).digest()) for value in values]


def expanded(message: bytes) -> bytes:
    """64 uniform bytes in the fewest calls of hashlib (RFC 9380 section 5.3.1)."""
    dst = POPRF.hash_to_group_dst + bytes([len(POPRF.hash_to_group_dst)])
    b_0 = hashlib.sha512(bytes(128) + message + WIDE_LENGTH.to_bytes(2, "big") + b"\0" + dst).digest()
    return hashlib.sha512(b_0 + b"\1" + dst).digest()


def _tokens(material: Any) -> NDArray[np.uint8]:
    """Rows of 32 bytes."""
    return np.ascontiguousarray(material.inputs[:, 1:])
