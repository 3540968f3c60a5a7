"""The signed manifest: its golden form, and every field that is not of its form."""

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from samples import IDENTITY, manifest

from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import MANIFEST_DOMAIN
from purposematch.protocol.errors import DecodeError, VerificationError
from purposematch.protocol.index import MAX_ADDITIONS, MAX_SEGMENT_BITS, Segment
from purposematch.protocol.manifest import MAX_COUNT, MAX_TIME, Manifest
from purposematch.protocol.point_segments import MAX_POINT_LISTS, MAX_POINT_SEGMENTS, PointSegment
from purposematch.protocol.signing import (
    MAX_DOCUMENT_LENGTH,
    SignedDocument,
    identity_public_key,
    sign_document,
)

PUBLIC = identity_public_key(IDENTITY)

GOLDEN = (
    # Addition segments: number of tags, SHA-256 of the bytes.
    '{"additions":[{"count":80,"sha256":"' + "03" * 32 + '"}],'
    # Enrolled identifiers: all tags without the canaries of the base and of every addition.
    '"count":172,'
    # The generation's random id, 16 bytes.
    '"generation":"0123456789abcdeffedcba9876543210",'
    # By name, the segments of the lists of the set exchange: number of points, SHA-256 of the bytes.
    '"point_lists":{"count-2":[{"count":200,"sha256":"' + "04" * 32 + '"},'
    '{"count":64,"sha256":"' + "06" * 32 + '"}],'
    '"platform":[{"count":236,"sha256":"' + "07" * 32 + '"}]},'
    # SHA-256 of the policy.
    '"policy":"' + "aa" * 32 + '",'
    # The POPRF's public key of the epoch.
    '"public_key":"e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76",'
    # Microseconds since 1970.
    '"published_at":1700000000000000,'
    # What the match is bound to.
    '"scope":{"epoch":7,"platform_id":"birdsite","profile":"plain-v1",'
    '"purpose":"marketing.advertising.third_party.targeted"},'
    # The base, in the order of the tags' prefixes.
    '"segments":[{"count":100,"sha256":"' + "01" * 32 + '"},{"count":120,"sha256":"' + "02" * 32 + '"}],'
    # SHA-256 of the taxonomy.
    '"taxonomy":"' + "bb" * 32 + '",'
    # No session opens from this microsecond on.
    '"valid_until":1700086400000000,'
    # Of this format.
    '"version":2,'
    # A commitment to the last assertion that was considered.
    f'"watermark":"{"05" * 32}"}}'
).encode()
SIGNATURE = bytes.fromhex(
    "249a4188c16008c994fbdfb5284f90fd9e1437a9475a7284075b0fd111a12316"
    "a288b776c24e2f09501a3aec71b121d7db1855c2e244b94a58356b6b9b86ca0f"
)


def signed(**changes: object) -> SignedDocument:
    """The golden manifest with fields replaced, signed anew; `...` leaves a field out."""
    fields: dict[str, Any] = json.loads(GOLDEN) | changes
    kept = {name: value for name, value in fields.items() if value is not ...}
    return sign_document(IDENTITY, MANIFEST_DOMAIN, kept)


def test_the_golden_manifest_is_written_and_read() -> None:
    document = manifest().sign(IDENTITY)
    assert document.content == GOLDEN
    assert document.signature == SIGNATURE
    assert Manifest.open(SignedDocument(GOLDEN, SIGNATURE), PUBLIC) == manifest()
    assert signed() == document


def test_the_digest_of_a_manifest_covers_content_and_signature() -> None:
    document = manifest().sign(IDENTITY)
    assert Manifest.digest(document) == hashlib.sha256(GOLDEN + SIGNATURE).digest()
    assert Manifest.digest(document) != Manifest.digest(signed(watermark="06" * 32))


def test_a_manifest_names_its_generation_and_all_its_segments() -> None:
    assert manifest().name == "0123456789abcdeffedcba9876543210"
    assert [segment.count for segment in manifest().all_segments] == [100, 120, 80]


@pytest.mark.parametrize("name", sorted(json.loads(GOLDEN)))
def test_a_missing_field_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match=f"has no {name}"):
        Manifest.open(signed(**{name: ...}), PUBLIC)


@pytest.mark.parametrize("name", ["", "Version", "zz", "count ", "__class__"])
def test_an_unknown_field_is_refused(name: str) -> None:
    with pytest.raises(DecodeError):
        Manifest.open(signed(**{name: 1}), PUBLIC)


WRONG_TYPES: list[object] = [None, True, False, 1.0, 0.5, "1", "text", [], {}, [1], {"a": 1}]


@pytest.mark.parametrize("name", sorted(json.loads(GOLDEN)))
@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
def test_a_field_of_another_type_is_refused(name: str, value: object) -> None:
    # An empty list is a valid number of additions, but the count then no longer adds up.
    if (name, value) == ("point_lists", {}):
        assert Manifest.open(signed(point_lists={}), PUBLIC).point_lists == {}
        return
    with pytest.raises(DecodeError):
        Manifest.open(signed(**{name: value}), PUBLIC)


INTEGERS = {"count": MAX_COUNT, "published_at": MAX_TIME, "valid_until": MAX_TIME}


@pytest.mark.parametrize(("name", "most"), INTEGERS.items())
def test_an_integer_out_of_range_is_refused(name: str, most: int) -> None:
    for value in (-1, most + 1, 2**63, 2**64, -(2**63), 10**100):
        with pytest.raises(DecodeError):
            Manifest.open(signed(**{name: value}), PUBLIC)
    if name != "count":
        for value in (0, most):
            assert getattr(Manifest.open(signed(**{name: value}), PUBLIC), name) == value


@pytest.mark.parametrize("version", [0, 1, 3, -1, 2**63])
def test_another_version_is_refused(version: int) -> None:
    with pytest.raises(DecodeError):
        Manifest.open(signed(version=version), PUBLIC)


@pytest.mark.parametrize("name", ["generation", "public_key", "policy", "taxonomy"])
def test_bytes_that_are_not_lower_case_hexadecimal_of_their_length_are_refused(name: str) -> None:
    value = json.loads(GOLDEN)[name]
    for wrong in (
        *("", value[:-1], value[:-2], value + "0", value + "00", "g" + value[1:], " " + value[1:]),
        *(("ab" + value[2:]).upper(), "0x" + value[2:], "\u0661" + value[1:], value[:-1] + "\n"),
    ):
        with pytest.raises(DecodeError):
            Manifest.open(signed(**{name: wrong}), PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1},
        {"epoch": 2**63},
        {"epoch": "7"},
        {"platform_id": ""},
        {"platform_id": "Bird"},
        {"profile": "plain-v2"},
        {"purpose": ""},
        {"purpose": "marketing..advertising"},
        {"other": 1},
    ],
)
def test_a_scope_that_is_not_of_its_form_is_refused(change: dict[str, object]) -> None:
    scope = json.loads(GOLDEN)["scope"]
    with pytest.raises(DecodeError):
        Manifest.open(signed(scope=scope | change), PUBLIC)


@pytest.mark.parametrize("name", ["epoch", "platform_id", "profile", "purpose"])
def test_a_scope_with_a_missing_field_is_refused(name: str) -> None:
    scope = json.loads(GOLDEN)["scope"]
    del scope[name]
    with pytest.raises(DecodeError):
        Manifest.open(signed(scope=scope), PUBLIC)


def split(total: int, parts: int) -> list[dict[str, object]]:
    """As many segments as wanted that hold as many tags as wanted."""
    counts = [total // parts + (1 if part < total % parts else 0) for part in range(parts)]
    return [Segment(count, b"\0" * 32).to_mapping() for count in counts]


@pytest.mark.parametrize("parts", [1, 2, 4, 8, 1 << MAX_SEGMENT_BITS])
def test_a_power_of_two_of_segments_is_read(parts: int) -> None:
    opened = Manifest.open(signed(segments=split(220, parts)), PUBLIC)
    assert len(opened.segments) == parts


@pytest.mark.parametrize("parts", [0, 3, 5, 6, 7, 9, 1 << (MAX_SEGMENT_BITS + 1)])
def test_any_other_number_of_segments_is_refused(parts: int) -> None:
    with pytest.raises(DecodeError):
        Manifest.open(signed(segments=split(220, parts) if parts else []), PUBLIC)


def test_there_are_at_most_eight_additions() -> None:
    assert MAX_ADDITIONS == 8
    for count in (0, 1, 8):
        additions = split(count * 70, count) if count else []
        enrolled = 220 + 70 * count - CANARY_COUNT * (1 + count)
        document = signed(additions=additions, count=enrolled, point_lists={})
        assert len(Manifest.open(document, PUBLIC).additions) == count
    enrolled = 220 + 70 * 9 - CANARY_COUNT * 10
    with pytest.raises(DecodeError):
        Manifest.open(signed(additions=split(70 * 9, 9), count=enrolled), PUBLIC)


@pytest.mark.parametrize("count", [0, 171, 173, 172 + CANARY_COUNT, 300])
def test_segments_that_do_not_add_up_to_the_count_are_refused(count: int) -> None:
    with pytest.raises(DecodeError, match="add up"):
        Manifest.open(signed(count=count), PUBLIC)


def test_a_manifest_of_nobody_holds_the_canaries_only() -> None:
    empty = dataclasses.replace(
        manifest(), count=0, segments=(Segment(CANARY_COUNT, b"\1" * 32),), additions=(), point_lists={}
    )
    assert Manifest.open(empty.sign(IDENTITY), PUBLIC) == empty


def points(*counts: int) -> list[dict[str, object]]:
    """Segments of points with these counts."""
    return [PointSegment(count, b"\0" * 32).to_mapping() for count in counts]


@pytest.mark.parametrize(
    "name", ["", "both", "count", "count-", "count-0", "count-17", "count-02", "Platform"]
)
def test_a_list_of_points_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match="is named"):
        Manifest.open(signed(point_lists={name: points(236)}), PUBLIC)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("platform", 236, 236), ("count-1", 192, 364), ("count-16", 192, 364)]
)
def test_a_list_of_points_fits_the_enrolled_number(name: str, least: int, most: int) -> None:
    for total in (least, most):
        for counts in ((total,), (100, total - 100)):
            opened = Manifest.open(signed(point_lists={name: points(*counts)}), PUBLIC)
            assert sum(segment.count for segment in opened.point_lists[name]) == total
    for total in (0, least - 1, most + 1):
        with pytest.raises(DecodeError, match="does not fit"):
            Manifest.open(signed(point_lists={name: points(total)}), PUBLIC)


def test_a_list_has_a_bounded_number_of_segments_and_a_manifest_of_lists() -> None:
    for wrong in ([], {}, "x", points(*[1] * (MAX_POINT_SEGMENTS + 1))):
        with pytest.raises(DecodeError, match="segments"):
            Manifest.open(signed(point_lists={"platform": wrong}), PUBLIC)
    lists = {f"count-{number}": points(200) for number in range(1, MAX_POINT_LISTS + 2)}
    with pytest.raises(DecodeError, match="at most"):
        Manifest.open(signed(point_lists=lists), PUBLIC)


def test_the_largest_lists_leave_room_in_a_manifest() -> None:
    # 10^8 identifiers in every list, and as many tags.
    segments = points(*[24_415] * MAX_POINT_SEGMENTS)
    lists = {f"count-{number}": segments for number in range(1, MAX_POINT_LISTS + 1)}
    tags = [Segment(48_829, b"\0" * 32).to_mapping()] * 2_048
    content = json.dumps({"lists": lists, "tags": tags}, separators=(",", ":"))
    assert len(content) + len(GOLDEN) < MAX_DOCUMENT_LENGTH


def test_an_error_text_repeats_no_value_of_the_manifest() -> None:
    for change in ({"generation": "planted-value"}, {"count": 987654321}, {"public_key": "planted-value"}):
        with pytest.raises(DecodeError) as caught:
            Manifest.open(signed(**change), PUBLIC)
        assert "planted-value" not in str(caught.value)
        assert "987654321" not in str(caught.value)


def test_a_manifest_is_bound_to_the_pinned_key() -> None:
    with pytest.raises(VerificationError):
        Manifest.open(SignedDocument(GOLDEN, SIGNATURE), bytes(32))
