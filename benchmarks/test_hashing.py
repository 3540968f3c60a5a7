"""From strings to uniform bytes: canonical form, SHA-256, expand_message, and a plain loop beside them."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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


def plain_loop(values: list[str]) -> list[bytes]:
    """The same for one string after another, in the fewest calls of hashlib (RFC 9380 section 5.3.1)."""
    dst = POPRF.hash_to_group_dst + bytes([len(POPRF.hash_to_group_dst)])
    kind = bytes([Kind.EMAIL])
    uniform = []
    for value in values:
        digest = hashlib.sha256(value.strip().lower().encode()).digest()
        b_0 = hashlib.sha512(
            bytes(128) + kind + digest + WIDE_LENGTH.to_bytes(2, "big") + b"\0" + dst
        ).digest()
        uniform.append(hashlib.sha512(b_0 + b"\1" + dst).digest())
    return uniform
