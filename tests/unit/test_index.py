"""The index: exact look-up, the order it relies on, and the arithmetic behind 16 bytes."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import flip, rows, uniform

from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.errors import DecodeError, VerificationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import (
    MAX_SEGMENT_BITS,
    MAX_SEGMENT_BYTES,
    SEGMENT_TAGS,
    Index,
    Segment,
    SortedTags,
    cut,
    find,
    order_by_tag,
    segment_bits,
)
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES

# Few different words make equal high words, equal low words and neighbours likely.
words = st.sampled_from([0, 1, 2, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]) | st.integers(
    0, 2**64 - 1
)
tags_of_words = st.builds(lambda high, low: high.to_bytes(8, "big") + low.to_bytes(8, "big"), words, words)
tag_sets = st.sets(tags_of_words | st.binary(min_size=16, max_size=16), max_size=70)


def batch(tags: object) -> Bytes:
    return rows(tags, TAG_LENGTH)  # type: ignore[arg-type]


def neighbours(tag: bytes) -> list[bytes]:
    """The tags just below and just above."""
    value = int.from_bytes(tag, "big")
    return [((value + step) % 2**128).to_bytes(16, "big") for step in (-1, 1)]


@given(tag_sets, tag_sets)
def test_find_agrees_with_a_dictionary(content: set[bytes], others: set[bytes]) -> None:
    ordered = sorted(content)
    places = {tag: place for place, tag in enumerate(ordered)}
    wanted = [*others, *content, *(near for tag in content for near in neighbours(tag))]
    expected = [places.get(tag, -1) for tag in wanted]
    assert find(batch(ordered), batch(wanted)).tolist() == expected
    known = SortedTags(batch(ordered))
    assert known.find(batch(wanted)).tolist() == expected
    assert not known.repeated


@given(tag_sets.filter(bool), st.data())
def test_sorted_tags_know_whether_one_comes_twice(content: set[bytes], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(sorted(content)))
    assert SortedTags(batch(sorted([*content, again]))).repeated


@given(tag_sets, st.lists(tag_sets, max_size=3), tag_sets, st.integers(0, 5))
def test_an_index_agrees_with_a_set(
    content: set[bytes], additions: list[set[bytes]], others: set[bytes], bits: int
) -> None:
    index = Index(cut(batch(sorted(content)), bits), [batch(sorted(tags)) for tags in additions])
    everything = content.union(*additions)
    wanted = [*others, *everything, *(near for tag in everything for near in neighbours(tag))]
    assert index.contains(batch(wanted)).tolist() == [tag in everything for tag in wanted]
    assert len(index) == len(content) + sum(map(len, additions))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 255, 256, 257, 1023, 1024, 1025])
@pytest.mark.parametrize("bits", [0, 1, 4])
def test_sizes_around_powers_of_two_are_found_whole(size: int, bits: int) -> None:
    tags = uniform(size, 16)
    tags = tags[order_by_tag(tags)]
    assert find(tags, tags).tolist() == list(range(size))
    assert find(tags, tags[::-1]).tolist() == list(range(size))[::-1]
    index = Index(cut(tags, bits))
    assert index.contains(tags).all()
    assert not index.contains(uniform(100, 16, "others")).any()
    assert index.contains(tags[:0]).shape == (0,)


def test_tags_that_are_not_contiguous_are_found() -> None:
    outputs = uniform(200, 64)
    tags = outputs[:, :16]
    ordered = tags[order_by_tag(tags)]
    assert (ordered[find(ordered, tags)] == tags).all()
    assert Index(cut(ordered, 2)).contains(tags[::3]).all()


def test_read_only_bytes_are_found() -> None:
    tags = sorted(row.tobytes() for row in uniform(50, 16))
    content = np.frombuffer(b"".join(tags), np.uint8).reshape(-1, 16)
    assert find(content, content).tolist() == list(range(50))


@given(st.lists(tags_of_words, max_size=50))
def test_the_order_is_the_order_of_the_bytes(tags: list[bytes]) -> None:
    content = batch(tags)
    assert [row.tobytes() for row in content[order_by_tag(content)]] == sorted(tags)


@given(tag_sets, st.integers(0, 6))
def test_a_cut_puts_every_tag_into_the_segment_of_its_prefix(content: set[bytes], bits: int) -> None:
    segments = cut(batch(sorted(content)), bits)
    assert len(segments) == 2**bits
    for number, segment in enumerate(segments):
        expected = [tag for tag in sorted(content) if int.from_bytes(tag, "big") >> 128 - bits == number]
        assert [row.tobytes() for row in segment] == expected


def test_the_number_of_segments_keeps_each_near_one_mebibyte() -> None:
    assert SEGMENT_TAGS * TAG_LENGTH == 2**20
    assert MAX_SEGMENT_BITS == 14
    small = {0: 0, 1: 0, 65_536: 0, 65_537: 1, 131_073: 1, 131_074: 2}
    large = {10**6: 4, 10**7: 8, 10**8: 11, 10**9: 14, 10**12: 14}
    for count, bits in (small | large).items():
        assert segment_bits(count) == bits


# What an index refuses.


@given(st.sets(st.binary(min_size=16, max_size=16), min_size=2, max_size=20), st.data())
def test_tags_out_of_order_are_refused(content: set[bytes], data: st.DataObject) -> None:
    ordered = sorted(content)
    order = data.draw(st.permutations(range(len(ordered))))
    if order != sorted(order):
        shuffled = batch([ordered[i] for i in order])
        with pytest.raises(VerificationError, match="ascending"):
            Index([shuffled])
        with pytest.raises(VerificationError, match="ascending"):
            Index([batch(ordered)], [shuffled])


@given(st.sets(tags_of_words, min_size=1, max_size=20), st.data())
def test_a_tag_that_is_twice_in_a_segment_is_refused(content: set[bytes], data: st.DataObject) -> None:
    repeated = batch(sorted([*content, data.draw(st.sampled_from(sorted(content)))]))
    with pytest.raises(VerificationError, match="ascending"):
        Index([repeated])
    with pytest.raises(VerificationError, match="ascending"):
        Index([batch([])], [repeated])


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_segments_that_change_places_are_refused(bits: int) -> None:
    tags = uniform(200, 16)
    segments = cut(tags[order_by_tag(tags)], bits)
    Index(segments)
    for other in range(1, 2**bits):
        swapped = list(segments)
        swapped[0], swapped[other] = swapped[other], swapped[0]
        with pytest.raises(VerificationError, match="range"):
            Index(swapped)


@pytest.mark.parametrize("edge", ["first", "last"])
def test_one_tag_of_another_range_is_refused(edge: str) -> None:
    tags = uniform(200, 16)
    segments = cut(tags[order_by_tag(tags)], 2)
    if edge == "first":
        segments[1] = np.concatenate([segments[0][-1:], segments[1]])
    else:
        segments[1] = np.concatenate([segments[1], segments[2][:1]])
    with pytest.raises(VerificationError, match="range"):
        Index(segments)


@pytest.mark.parametrize("count", [0, 3, 5, 6, 7])
def test_a_number_of_segments_that_is_no_power_of_two_is_refused(count: int) -> None:
    with pytest.raises(VerificationError, match="power of two"):
        Index([batch([])] * count)


# Segments.


def test_a_segment_is_checked_by_count_and_hash() -> None:
    tags = uniform(20, 16)
    segment, content = Segment.of(tags), tags.tobytes()
    assert segment == Segment(20, hashlib.sha256(content).digest())
    assert segment.name == hashlib.sha256(content).hexdigest()
    assert (segment.check(content) == tags).all()
    assert (segment.check(memoryview(content)) == tags).all()
    for damaged in (b"", content[:-1], content[:-16], content + b"\0", content + bytes(16), content[16:]):
        with pytest.raises(VerificationError):
            segment.check(damaged)
    with pytest.raises(VerificationError):
        Segment(21, segment.sha256).check(content)
    with pytest.raises(VerificationError):
        Segment(19, segment.sha256).check(content)


@given(st.integers(0, 20 * 128 - 1))
def test_a_flipped_bit_in_a_segment_is_refused(bit: int) -> None:
    tags = uniform(20, 16)
    with pytest.raises(VerificationError):
        Segment.of(tags).check(flip(tags.tobytes(), bit))


def test_an_empty_segment_is_the_hash_of_nothing() -> None:
    segment = Segment.of(batch([]))
    assert segment == Segment(0, hashlib.sha256(b"").digest())
    assert segment.check(b"").shape == (0, 16)
    assert Index([segment.check(b"")]).contains(uniform(3, 16)).tolist() == [False] * 3


def test_a_segment_is_written_as_count_and_hash_and_read_back() -> None:
    segment = Segment(3, b"\xab" * 32)
    assert segment.to_mapping() == {"count": 3, "sha256": "ab" * 32}
    assert Segment.from_mapping(segment.to_mapping()) == segment


MOST = MAX_SEGMENT_BYTES // TAG_LENGTH


@pytest.mark.parametrize(
    "change",
    [
        *({"count": value} for value in (-1, MOST + 1, 2**63, 1.0, True, "3", None, [3])),
        *(
            {"sha256": value}
            for value in ("AB" * 32, "ab" * 31, "ab" * 33, "", 3, None, " " + "ab" * 31 + "a")
        ),
        {"other": 1},
    ],
)
def test_a_segment_with_a_field_that_is_not_of_its_form_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        Segment.from_mapping(Segment(3, b"\xab" * 32).to_mapping() | change)


@pytest.mark.parametrize("value", [None, [], "x", {}, {"count": 3}, {"sha256": "ab" * 32}])
def test_a_segment_without_its_fields_is_refused(value: object) -> None:
    with pytest.raises(DecodeError):
        Segment.from_mapping(value)


# The arithmetic: tags and keyed digests are outputs of hash functions, so two different identifiers share
# one with probability 2^-bits; the union bound over all pairs is an upper bound for any shared one.


def test_a_false_match_has_probability_below_two_to_the_minus_40() -> None:
    enrolled, listed = 10**8, 10**7
    assert TAG_LENGTH == 16
    assert Fraction(enrolled * listed, 2 ** (8 * TAG_LENGTH)) < Fraction(1, 2**40)


def test_the_largest_lists_and_enrollments_stay_below_two_to_the_minus_40_as_well() -> None:
    largest_enrolled = 2**MAX_SEGMENT_BITS * SEGMENT_TAGS
    assert largest_enrolled > 10**9
    assert Fraction(largest_enrolled * 10**9, 2**128) < Fraction(1, 2**40)


def test_two_of_a_billion_keyed_digests_are_equal_with_probability_below_two_to_the_minus_40() -> None:
    # The birthday bound over n of them is n (n - 1) / 2 pairs.
    pairs = Fraction(10**9 * (10**9 - 1), 2)
    assert pairs / 2 ** (8 * KEYED_DIGEST_BYTES) < Fraction(1, 2**40)
    # Also the tags among themselves: a generation with an equal pair could not be published.
    assert pairs / 2 ** (8 * TAG_LENGTH) < Fraction(1, 2**40)
