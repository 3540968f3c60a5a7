"""What the VOLE engine is built from, against `cryptography`, hashlib and Python integers."""

import hashlib
import itertools
import os

import numpy as np
import pytest
import slow_vole as slow
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from vole_match import items, stream

from purposematch.protocol.errors import DecodeError, LimitError
from purposematch.protocol.group import SodiumGroup
from purposematch.protocol.secret import reveal_array
from purposematch.protocol.simd.hashes import sha256_behind
from purposematch.protocol.vole import aes, extension, trees
from purposematch.protocol.vole.base_transfers import BaseChooser, BaseSender
from purposematch.protocol.vole.code import check_bits, parity_rows
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.parameters import (
    DISTANCE,
    MAX_CHUNK,
    MAX_RECEIVER,
    MAX_SENDER,
    TREE_DEPTH,
    Parameters,
    Role,
    parameters,
)
from purposematch.protocol.vole.rows import Rows, digest_items
from purposematch.protocol.vole.session import Session


def session_of(sizes: Parameters, binding: bytes = b"binding") -> Session:
    return Session.of(sizes, binding, b"s" * 32, b"r" * 32)


@pytest.mark.parametrize("count", [0, 1, 7, 16, 17, 1_003])
def test_aes_is_that_of_cryptography(vole: Engine, count: int) -> None:
    key, content = os.urandom(16), os.urandom(16 * count)
    blocks = np.frombuffer(content, np.uint64).reshape(-1, 2)
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # a permutation of every block

    assert aes.permute(aes.round_keys(key), blocks).tobytes() == cipher.update(content)


def test_aes_of_the_standard() -> None:
    """FIPS 197, appendix A.1: the last round key."""
    keys = aes.round_keys(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    assert keys[20:].tobytes().hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"


@given(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
)
def test_one_way_and_tweakable_hashes(vole: Engine, key: bytes, block: bytes, tweak: bytes) -> None:
    blocks, tweaks = (np.frombuffer(one, np.uint64).reshape(1, 2) for one in (block, tweak))
    x, t = slow.number(block), slow.number(tweak)

    assert slow.number(aes.mmo(aes.round_keys(key), blocks).tobytes()) == slow.mmo(key, x)
    assert slow.number(aes.tmmo(aes.round_keys(key), blocks, tweaks).tobytes()) == slow.tmmo(key, x, t)


@pytest.mark.parametrize("width", [1, 33, 55, 56, 64, 200])
def test_sha256_behind_a_prefix(vole: Engine, width: int) -> None:
    rows = np.frombuffer(os.urandom(37 * width), np.uint8).reshape(37, width)
    for prefix in (b"", os.urandom(64), os.urandom(128)):
        expected = b"".join(hashlib.sha256(prefix + row.tobytes()).digest() for row in rows)
        assert sha256_behind(prefix, rows).tobytes() == expected


# The code.


@pytest.mark.parametrize(("distance", "checks"), [(32, 117), (26, 93), (22, 77), (16, 57)])
def test_lengths_of_codes(distance: int, checks: int) -> None:
    """The table of the reference: codes [197, 80, 32], [173, 80, 26], [157, 80, 22], [137, 80, 16]."""
    assert check_bits(distance) == checks


@given(st.integers(0, 2**96 - 1), st.sampled_from([80, 88, 96]))
def test_words_are_remainders_of_polynomials(value: int, bits: int) -> None:
    value %= 2**bits
    rows = parity_rows(bits, DISTANCE)
    word = value
    for i, row in enumerate(rows):
        if value >> i & 1:
            word ^= row << bits

    assert word == slow.code_word(value, bits)
    assert value == 0 or word.bit_count() >= DISTANCE


def test_light_messages_have_heavy_words() -> None:
    """All messages of weight up to 3; the bound says 26 for every message."""
    rows = [1 << i | row << 96 for i, row in enumerate(parity_rows(96, DISTANCE))]
    lightest = min(
        (a ^ b ^ c).bit_count() for a, b, c in itertools.combinations([0, 0, *rows], 3) if a ^ b ^ c
    )
    assert lightest == DISTANCE


def test_codes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        check_bits(25)
    with pytest.raises(ValueError, match="no word"):
        parity_rows(200, DISTANCE)


# The parameters.


@pytest.mark.parametrize(
    ("sizes", "bits", "trees_", "slots"),
    [
        ((0, 0), 80, 173, 256),
        ((1 << 16, 1 << 16), 80, 173, 72_346),
        ((1 << 20, 1 << 20), 80, 173, 1_153_690),
        ((1 << 20, (1 << 20) + 1), 88, 181, 1_153_690),
        ((1 << 24, 1 << 24), 88, 181, 18_455_194),
        ((10**7, 10**8), 96, 189, 11_000_256),
        ((1 << 24, 1 << 32), 96, 189, 18_455_194),
    ],
)
def test_the_table_of_the_reference(sizes: tuple[int, int], bits: int, trees_: int, slots: int) -> None:
    found = parameters(*sizes)
    need = 40 + sum(max(size - 1, 0).bit_length() for size in sizes)

    assert (found.value_bits, found.code_length, found.slots) == (bits, trees_, slots)
    assert found.value_bits >= need
    assert TREE_DEPTH * DISTANCE >= 128


def test_bytes_of_a_million_by_a_million() -> None:
    found = parameters(1 << 20, 1 << 20)
    assert round(found.bytes_from(Role.RECEIVER) / 2**20, 2) == 23.83
    assert round(found.bytes_from(Role.SENDER) / 2**20, 2) == 10.01


@given(st.integers(0, MAX_RECEIVER), st.integers(0, MAX_SENDER))
def test_chunks_make_up_messages(n_receiver: int, n_sender: int) -> None:
    found = parameters(n_receiver, n_sender)
    for message in found.messages:
        count = message.chunks
        assert message.chunk <= MAX_CHUNK
        assert (count == 0) == (message.length == 0)
        if count:
            last = message.chunk_length(count - 1)
            assert 0 < last <= message.chunk
            assert (count - 1) * message.chunk + last == message.length


@pytest.mark.parametrize("sizes", [(-1, 0), (0, -1), (MAX_RECEIVER + 1, 0), (0, MAX_SENDER + 1)])
def test_sizes_out_of_range_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(LimitError):
        parameters(*sizes)


# Keys, transfers and trees.


def test_all_that_is_agreed_enters_the_keys() -> None:
    sizes = parameters(5, 6)
    contexts = {
        Session.of(sizes, b"a", b"s" * 32, b"r" * 32).context,
        Session.of(sizes, b"b", b"s" * 32, b"r" * 32).context,
        Session.of(sizes, b"a", b"t" * 32, b"r" * 32).context,
        Session.of(sizes, b"a", b"s" * 32, b"q" * 32).context,
        Session.of(parameters(6, 6), b"a", b"s" * 32, b"r" * 32).context,
        Session.of(parameters(5, 7), b"a", b"s" * 32, b"r" * 32).context,
    }
    assert len(contexts) == 6
    session = session_of(sizes)
    names = ["left", "right", "transfer", "stream", "output", "further", "band low", "band high"]
    names += ["label 0", "label 1"]
    assert len({session.expand(name, 16) for name in names}) == len(names)
    assert [one.tolist() for one in session.label_keys] == [
        aes.round_keys(session.expand(name, 16)).tolist() for name in names[-2:]
    ]


def test_transfers_and_trees_give_the_sender_every_leaf_but_one(vole: Engine) -> None:
    sizes = parameters(10, 10)
    session = session_of(sizes)
    group, random = SodiumGroup(1), stream("transfers")
    sender = BaseSender(group, random)
    chooser = BaseChooser(group, random, sender.element)
    pairs = sender.pairs(session.context, chooser.chosen)
    keys = reveal_array(chooser.keys(session.context))
    bits = np.unpackbits(reveal_array(chooser.bits).reshape(-1), bitorder="little")
    zero, one = (reveal_array(half) for half in pairs)
    assert np.array_equal(np.where(bits[:, None] == 1, one, zero), keys)
    assert not (np.where(bits[:, None] == 1, zero, one) == keys).all(axis=1).any()

    symbols = np.frombuffer(random(sizes.code_length), np.uint8) & np.uint8(31)
    sent, own = extension.choose(session, pairs, trees.choices(symbols), sizes.extended)
    halves = extension.own(session, chooser.keys(session.context), chooser.bits, sent, sizes.transfers)
    leaves, sums = trees.grow(session, random, sizes.code_length)
    opened = trees.open_trees(session, symbols, sums ^ np.stack(halves).reshape(sums.shape), own)
    places = np.arange(sizes.code_length)
    assert len({leaf.tobytes() for leaf in leaves.reshape(-1, 2)}) == 32 * sizes.code_length
    assert not opened[places, symbols].any()
    leaves = leaves.copy()
    leaves[places, symbols] = 0
    assert np.array_equal(opened, leaves)
    assert not trees.reordered(opened, symbols)[:, 0].any()


def test_elements_that_are_none_are_refused() -> None:
    group, random = SodiumGroup(1), stream("bad elements")
    for wrong in (bytes(32), b"\xff" * 32):
        with pytest.raises(DecodeError):
            BaseChooser(group, random, wrong)
    sender = BaseSender(group, random)
    chosen = BaseChooser(group, random, sender.element).chosen.copy()
    for wrong in (bytes(32), b"\xff" * 32, sender.element):
        chosen[77] = np.frombuffer(wrong, np.uint8)
        with pytest.raises(DecodeError):
            sender.pairs(bytes(32), chosen)


# Rows.


@pytest.mark.parametrize("declared", [(0, 0), (30, 2_000), (20_000, 3_000), (MAX_RECEIVER, 500)])
def test_rows_are_in_the_order_of_their_starts(vole: Engine, declared: tuple[int, int]) -> None:
    sizes = parameters(*declared)
    session = session_of(sizes)
    digests = digest_items(session, items(range(declared[1])))
    rows = Rows.of(sizes, digests)
    span = sizes.slots - 255
    starts = [((int(word) >> 25) * span) >> 39 for word in rows.digests[: len(rows), 0]]

    assert starts == sorted(starts)
    assert not starts or (starts[0] >= 0 and starts[-1] < span)
    assert np.array_equal(digests[rows.numbers], rows.digests[: len(rows)])
    assert np.array_equal(np.sort(rows.numbers), np.arange(declared[1]))


def test_rows_of_one_item_many_times(vole: Engine) -> None:
    sizes = parameters(50_000, 50_000)
    digests = digest_items(session_of(sizes), items(np.zeros(50_000, np.int64)))
    assert np.array_equal(Rows.of(sizes, digests).numbers, np.arange(50_000))


def test_digests_are_sha256_behind_the_prefix_of_the_session(vole: Engine) -> None:
    session = session_of(parameters(20_000, 20_000))
    some = items(range(20_000))
    digests = digest_items(session, some).view(np.uint8)
    for i in (0, 1, 16_383, 16_384, 19_999):
        assert digests[i].tobytes() == hashlib.sha256(session.item_prefix + some[i].tobytes()).digest()
