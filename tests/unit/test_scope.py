"""The scope: its canonical encoding and its strict JSON form."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.scope import LARGEST_EPOCH, PLATFORM_ID, PURPOSE_KEY, Scope

SCOPE = Scope("example", "marketing.advertising.third_party.targeted", Profile.PLAIN, 7)

scopes = st.builds(
    Scope,
    platform_id=st.from_regex(PLATFORM_ID, fullmatch=True),
    purpose=st.from_regex(r"[a-z0-9_]{1,20}(\.[a-z0-9_]{1,20}){0,4}", fullmatch=True),
    profile=st.sampled_from(Profile),
    epoch=st.integers(0, LARGEST_EPOCH),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_the_encoding_is_the_documented_one() -> None:
    expected = (
        b"purposematch scope v1"
        b"\x00\x07example"
        b"\x00\x2amarketing.advertising.third_party.targeted"
        b"\x00\x08plain-v1"
        b"\x00\x00\x00\x00\x00\x00\x00\x07"
    )
    assert SCOPE.info() == expected


def test_the_longest_encoding_fits_the_public_info_of_the_poprf() -> None:
    longest = Scope("a" * 63, "p" * 255, Profile.GOOGLE, LARGEST_EPOCH)
    assert len(longest.info()) <= 400


@pytest.mark.parametrize(
    "other",
    [
        replace(SCOPE, platform_id="example2"),
        replace(SCOPE, purpose="marketing.advertising.third_party"),
        replace(SCOPE, profile=Profile.META),
        replace(SCOPE, epoch=8),
    ],
)
def test_every_field_changes_the_encoding(other: Scope) -> None:
    assert other.info() != SCOPE.info()


@given(scopes, scopes)
def test_two_scopes_have_the_same_encoding_only_if_they_are_equal(first: Scope, second: Scope) -> None:
    assert (first.info() == second.info()) == (first == second)


def test_moving_a_character_between_fields_changes_the_encoding() -> None:
    assert Scope("ab", "c", Profile.PLAIN, 0).info() != Scope("a", "bc", Profile.PLAIN, 0).info()


@given(scopes)
def test_a_scope_survives_json(scope: Scope) -> None:
    assert Scope.from_mapping(json.loads(json.dumps(scope.to_mapping()))) == scope


@pytest.mark.parametrize(
    "platform_id", ["", "-a", ".a", "A", "a_b", "a b", "ä", "a" * 64, "a\n", "a/b", "a\0", "٣"]
)
def test_a_platform_id_of_another_form_is_refused(platform_id: str) -> None:
    with pytest.raises(DecodeError, match="platform id"):
        replace(SCOPE, platform_id=platform_id)


@pytest.mark.parametrize(
    "purpose", ["", ".", "a.", ".a", "a..b", "A", "a-b", "a b", "a\n", "a." * 127 + "aa", "٣"]
)
def test_a_purpose_of_another_form_is_refused(purpose: str) -> None:
    with pytest.raises(DecodeError, match="purpose"):
        replace(SCOPE, purpose=purpose)


def test_the_longest_purpose_is_accepted() -> None:
    longest = "a." * 127 + "a"
    assert PURPOSE_KEY.fullmatch(longest)
    assert replace(SCOPE, purpose=longest).purpose == longest


@pytest.mark.parametrize("epoch", [-1, LARGEST_EPOCH + 1])
def test_an_epoch_out_of_range_is_refused(epoch: int) -> None:
    with pytest.raises(DecodeError, match="epoch"):
        replace(SCOPE, epoch=epoch)


def _without(name: str) -> Callable[[dict[str, object]], object]:
    return lambda mapping: {key: value for key, value in mapping.items() if key != name}


def _with(name: str, value: object) -> Callable[[dict[str, object]], object]:
    return lambda mapping: {**mapping, name: value}


@pytest.mark.parametrize(
    "change",
    [
        *(_without(name) for name in SCOPE.to_mapping()),
        _with("extra", 1),
        _with("epoch", True),
        _with("epoch", 7.0),
        _with("epoch", "7"),
        _with("epoch", None),
        _with("platform_id", 1),
        _with("purpose", ["a"]),
        _with("profile", "plain-v2"),
        _with("profile", "PLAIN"),
        _with("profile", None),
        lambda _: None,
        lambda _: [],
        lambda mapping: list(mapping.items()),
    ],
)
def test_a_mapping_of_another_shape_is_refused(change: Callable[[dict[str, object]], object]) -> None:
    with pytest.raises(DecodeError):
        Scope.from_mapping(change(SCOPE.to_mapping()))


@given(json_values)
def test_an_arbitrary_value_is_never_a_scope(value: object) -> None:
    with pytest.raises(DecodeError):
        Scope.from_mapping(value)


@given(st.sampled_from(list(SCOPE.to_mapping())), json_values)
def test_an_arbitrary_field_raises_nothing_but_the_error_tree(name: str, value: object) -> None:
    mapping = {**SCOPE.to_mapping(), name: value}
    try:
        scope = Scope.from_mapping(mapping)
    except DecodeError:
        return
    assert scope.to_mapping() == mapping


def test_an_error_does_not_repeat_what_it_refuses() -> None:
    with pytest.raises(DecodeError) as caught:
        Scope.from_mapping({**SCOPE.to_mapping(), "planted@example.com": 1})
    assert "planted" not in str(caught.value)
