"""Hashing to the group and to scalars, against published vectors and the slow implementation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slow_poprf as slow
from hypothesis import given
from hypothesis import strategies as st
from samples import rows

from purposematch.protocol.ciphersuite import Mode, Suite
from purposematch.protocol.group import Group
from purposematch.protocol.hashing import expand_message_xmd, hash_to_group, hash_to_scalar, one_row

Vectors = Callable[[str], Any]


def test_expand_message_gives_the_values_of_rfc_9380(vectors: Vectors) -> None:
    published = vectors("rfc9380_expand_message_xmd_sha512.json")
    dst = published["dst"].encode()
    assert {case["len_in_bytes"] for case in published["cases"]} == {32, 128}
    assert len(published["cases"]) == 10
    for case in published["cases"]:
        message, length = case["msg"].encode(), case["len_in_bytes"]
        assert expand_message_xmd(one_row(message), dst, length).tobytes().hex() == case["uniform_bytes"]
        assert slow.expand_message_xmd(message, dst, length).hex() == case["uniform_bytes"]


@given(
    data=st.data(),
    width=st.integers(0, 300),
    count=st.integers(0, 5),
    dst=st.binary(max_size=255),
    length=st.integers(1, 255 * 64) | st.sampled_from([1, 63, 64, 65, 128, 255 * 64]),
)
def test_a_batch_expands_as_its_messages_do_one_by_one(
    data: st.DataObject, width: int, count: int, dst: bytes, length: int
) -> None:
    messages = data.draw(st.lists(st.binary(min_size=width, max_size=width), min_size=count, max_size=count))
    # A width of zero leaves nothing to infer the number of messages from.
    batch = np.frombuffer(b"".join(messages), np.uint8).reshape(count, width)
    length = min(length, 1000) if count > 1 else length
    expanded = expand_message_xmd(batch, dst, length)
    assert expanded.shape == (count, length)
    expected = [slow.expand_message_xmd(message, dst, length) for message in messages]
    assert [row.tobytes() for row in expanded] == expected


def test_rows_that_are_not_contiguous_expand_alike() -> None:
    batch = np.arange(200, dtype=np.uint8).reshape(5, 40)
    expected = expand_message_xmd(np.ascontiguousarray(batch[::2, 3:20]), b"dst", 64)
    assert (expand_message_xmd(batch[::2, 3:20], b"dst", 64) == expected).all()


@pytest.mark.parametrize(("dst", "length"), [(bytes(256), 64), (b"dst", 0), (b"dst", 255 * 64 + 1)])
def test_a_length_that_rfc_9380_does_not_define_is_refused(dst: bytes, length: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        expand_message_xmd(one_row(b"message"), dst, length)


def test_the_strings_that_separate_domains_are_those_of_rfc_9497(vectors: Vectors) -> None:
    modes = vectors("rfc9497_ristretto255_sha512.json")["modes"]
    assert [mode["mode_byte"] for mode in modes] == [Mode.OPRF, Mode.VOPRF, Mode.POPRF] == [0, 1, 2]
    for mode in modes:
        suite = Suite.of(Mode(mode["mode_byte"]))
        assert suite.hash_to_group_dst.hex() == mode["hash_to_group_dst"]
        assert suite.hash_to_scalar_dst == b"HashToScalar-" + suite.context
        assert suite.derive_key_dst == b"DeriveKeyPair" + suite.context
        assert suite.seed_dst == b"Seed-" + suite.context


@given(st.sampled_from(Mode), st.lists(st.binary(min_size=33, max_size=33), min_size=1, max_size=4))
def test_hashing_to_the_group_and_to_scalars_agrees_with_the_slow_implementation(
    group: Group, mode: Mode, messages: list[bytes]
) -> None:
    batch = rows(messages, 33)
    elements = group.encode(hash_to_group(group, Suite.of(mode), batch))
    assert [row.tobytes() for row in elements] == [slow.encode(slow.hash_to_group(mode, m)) for m in messages]
    scalars = hash_to_scalar(group, Suite.of(mode), batch)
    expected = [slow.scalar_bytes(slow.hash_to_scalar(mode, m)) for m in messages]
    assert [row.tobytes() for row in scalars] == expected
