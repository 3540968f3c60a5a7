"""The agreement, its digest, and the leak sheet."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.agreement import (
    ADVERTISER_NAME,
    LARGEST_DAILY_ELEMENTS,
    LARGEST_LIST_ELEMENTS,
    LARGEST_NUMBER,
    LARGEST_SESSIONS,
    LATEST_EXPIRY,
    RUNNABLE_DISCLOSURES,
    Agreement,
    Disclosure,
)
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.leak_sheet import leak_sheet
from purposematch.protocol.scope import PLATFORM_ID

AGREEMENT = Agreement(
    platform_id="example",
    advertiser="acme",
    purpose="marketing.advertising.third_party.targeted",
    profile=Profile.PLAIN,
    disclosure=Disclosure.BOTH,
    number=1,
    expires_at=1_798_761_600_000_000,
)

agreements = st.builds(
    Agreement,
    platform_id=st.from_regex(PLATFORM_ID, fullmatch=True),
    advertiser=st.from_regex(ADVERTISER_NAME, fullmatch=True),
    purpose=st.from_regex(r"[a-z0-9_]{1,20}(\.[a-z0-9_]{1,20}){0,4}", fullmatch=True),
    profile=st.sampled_from(Profile),
    disclosure=st.sampled_from(Disclosure),
    min_list_elements=st.integers(1, 10_000),
    max_list_elements=st.integers(10_000, LARGEST_LIST_ELEMENTS),
    daily_elements=st.integers(LARGEST_LIST_ELEMENTS, LARGEST_DAILY_ELEMENTS),
    daily_sessions=st.integers(1, LARGEST_SESSIONS),
    concurrent_sessions=st.integers(1, LARGEST_SESSIONS),
    number=st.integers(1, LARGEST_NUMBER),
    expires_at=st.integers(1, LATEST_EXPIRY),
)


def test_the_canonical_bytes_are_the_documented_ones() -> None:
    assert AGREEMENT.canonical_bytes() == (
        b'{"advertiser":"acme","concurrent_sessions":8,"daily_elements":10000000,"daily_sessions":100,'
        b'"disclosure":"both","expires_at":1798761600000000,"max_list_elements":10000000,'
        b'"min_list_elements":1000,"number":1,"platform_id":"example","profile":"plain-v1","purpose":"marketing.advertising.third_party.targeted"}'
    )


def test_the_digest_covers_the_domain_and_the_canonical_bytes() -> None:
    expected = hashlib.sha256(b"purposematch agreement v1" + AGREEMENT.canonical_bytes()).digest()
    assert AGREEMENT.digest == expected


@pytest.mark.parametrize(
    "other",
    [
        replace(AGREEMENT, platform_id="other"),
        replace(AGREEMENT, advertiser="other"),
        replace(AGREEMENT, purpose="marketing.advertising"),
        replace(AGREEMENT, profile=Profile.META),
        replace(AGREEMENT, disclosure=Disclosure.ADVERTISER),
        replace(AGREEMENT, min_list_elements=999),
        replace(AGREEMENT, max_list_elements=9_999_999),
        replace(AGREEMENT, number=2),
        replace(AGREEMENT, expires_at=1),
        replace(AGREEMENT, daily_elements=10_000_001),
        replace(AGREEMENT, daily_sessions=99),
        replace(AGREEMENT, concurrent_sessions=7),
    ],
)
def test_every_field_changes_the_digest(other: Agreement) -> None:
    assert other.digest != AGREEMENT.digest


@given(agreements)
def test_an_agreement_survives_its_canonical_bytes(agreement: Agreement) -> None:
    assert Agreement.from_mapping(json.loads(agreement.canonical_bytes())) == agreement


@given(agreements)
def test_an_agreement_survives_being_stored(agreement: Agreement) -> None:
    assert Agreement.decode(agreement.canonical_bytes()) == agreement


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", AGREEMENT.canonical_bytes()[:-1], b" " * 70_000])
def test_bytes_that_are_no_agreement_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="agreement"):
        Agreement.decode(data)


@pytest.mark.parametrize("disclosure", ["both", "advertiser", "platform", "count"])
def test_all_four_disclosures_are_values_of_an_agreement(disclosure: str) -> None:
    mapping = {**AGREEMENT.to_mapping(), "disclosure": disclosure}
    assert Agreement.from_mapping(mapping).disclosure == disclosure


@pytest.mark.parametrize("name", ["", "Acme", "_a", ".a", "-a", "a b", "a/b", "ä", "a" * 64, "a\n", "../a"])
def test_an_advertiser_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match="advertiser's name"):
        replace(AGREEMENT, advertiser=name)


@pytest.mark.parametrize("name", ["a", "0", "acme_1.eu-west", "a" * 63])
def test_an_advertiser_name_of_the_form_is_accepted(name: str) -> None:
    assert replace(AGREEMENT, advertiser=name).advertiser == name


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-1, 10), (11, 10), (1, LARGEST_LIST_ELEMENTS + 1)])
def test_limits_out_of_order_or_range_are_refused(low: int, high: int) -> None:
    with pytest.raises(DecodeError, match="min_list_elements"):
        replace(AGREEMENT, min_list_elements=low, max_list_elements=high)


@pytest.mark.parametrize("name", list(AGREEMENT.to_mapping()))
def test_a_missing_field_is_refused_even_if_it_has_a_default(name: str) -> None:
    mapping = AGREEMENT.to_mapping()
    del mapping[name]
    with pytest.raises(DecodeError, match=name):
        Agreement.from_mapping(mapping)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention", 1),
        ("number", 0),
        ("number", "1"),
        ("expires_at", 0),
        ("expires_at", 10**18),
        ("daily_elements", 10**13),
        ("daily_elements", 9_999_999),
        ("daily_sessions", 0),
        ("daily_sessions", 1.5),
        ("concurrent_sessions", 0),
        ("concurrent_sessions", 1_000_001),
        ("min_list_elements", True),
        ("min_list_elements", 1000.0),
        ("max_list_elements", "100000"),
        ("profile", "plain-v2"),
        ("disclosure", "everything"),
        ("disclosure", "BOTH"),
        ("advertiser", None),
        ("platform_id", ["example"]),
        ("purpose", {}),
    ],
)
def test_an_unknown_field_or_a_wrong_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(DecodeError):
        Agreement.from_mapping({**AGREEMENT.to_mapping(), name: value})


def _section(sheet: str, heading: str) -> str:
    """The points under the heading that begins so, up to the next heading."""
    lines = sheet.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading))
    points = []
    for line in lines[start + 1 :]:
        if not line.startswith("  "):
            break
        points.append(line)
    return "\n".join(points)


LEARNS_ROWS = "which rows of its list match"
LEARNS_ENROLLED = "how many identifiers the platform has enrolled"


@pytest.mark.parametrize(
    ("disclosure", "advertiser", "platform"),
    [
        (
            Disclosure.BOTH,
            [LEARNS_ROWS, "every later generation"],
            ["subjects (people) behind the tags", "commits"],
        ),
        (Disclosure.ADVERTISER, [LEARNS_ROWS, "every later generation"], []),
        (Disclosure.PLATFORM, ["noisy count of the subjects"], ["which of its subjects (people) match"]),
        (Disclosure.COUNT, ["noisy count of the identifiers"], ["exact count"]),
    ],
)
def test_the_sheet_says_who_learns_what(
    disclosure: Disclosure, advertiser: list[str], platform: list[str]
) -> None:
    sheet = leak_sheet(replace(AGREEMENT, disclosure=disclosure), 20_000)
    assert "purpose marketing.advertising.third_party.targeted, disclosure " + disclosure in sheet
    for words in [*advertiser, LEARNS_ENROLLED]:
        assert words in _section(sheet, "The advertiser (acme) learns")
    for words in [*platform, "20,000"]:
        assert words in _section(sheet, "The platform (example) learns")


def test_the_sheet_for_advertiser_says_that_the_platform_learns_the_size_only() -> None:
    sheet = leak_sheet(replace(AGREEMENT, disclosure=Disclosure.ADVERTISER), 20_000)
    learned = _section(sheet, "The platform (example) learns").splitlines()
    assert learned == ["  - the size of the list, in distinct identifiers: 20,000"]


@pytest.mark.parametrize("disclosure", [Disclosure.PLATFORM, Disclosure.COUNT])
def test_the_sheet_promises_rows_only_where_the_advertiser_gets_them(disclosure: Disclosure) -> None:
    sheet = leak_sheet(replace(AGREEMENT, disclosure=disclosure), None)
    assert LEARNS_ROWS not in sheet
    assert "not which rows" in _section(sheet, "The advertiser (acme) learns")


@pytest.mark.parametrize("disclosure", list(Disclosure))
def test_the_sheet_says_what_is_not_protected(disclosure: Disclosure) -> None:
    open_points = _section(leak_sheet(replace(AGREEMENT, disclosure=disclosure), None), "Not protected")
    for words in [
        "Sizes:",
        "invented identifiers",
        "under this agreement 10,006,400 a day at most, 300,192,000 in a key epoch",
        "nobody was left out",
    ]:
        assert words in open_points


@pytest.mark.parametrize(
    ("disclosure", "found"),
    [
        (Disclosure.BOTH, "find out which of them are enrolled"),
        (Disclosure.ADVERTISER, "find out which of them are enrolled"),
        (Disclosure.PLATFORM, "find out how many of them are enrolled"),
        (Disclosure.COUNT, "find out how many of them are enrolled"),
    ],
)
def test_the_sheet_says_what_guessing_finds_out(disclosure: Disclosure, found: str) -> None:
    sheet = leak_sheet(replace(AGREEMENT, disclosure=disclosure), None)
    assert found in _section(sheet, "Not protected")


@pytest.mark.parametrize("disclosure", RUNNABLE_DISCLOSURES)
def test_the_sheet_says_that_the_platform_can_see_later_who_matched(disclosure: Disclosure) -> None:
    open_points = _section(leak_sheet(replace(AGREEMENT, disclosure=disclosure), None), "Not protected")
    assert "Later use: the platform sees" in open_points


def test_the_sheet_without_a_size_names_no_number() -> None:
    sheet = leak_sheet(AGREEMENT, None)
    assert _section(sheet, "The platform (example) learns").endswith("in distinct identifiers")


@given(agreements, st.none() | st.integers(0, 10**9))
def test_the_sheet_is_plain_text_that_fits_a_terminal(agreement: Agreement, size: int | None) -> None:
    sheet = leak_sheet(agreement, size)
    assert sheet == sheet.strip()
    assert all(character == "\n" or character.isprintable() for character in sheet)
