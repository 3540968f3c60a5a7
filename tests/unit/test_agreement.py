"""The agreement, its digest, and the leak sheet."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.agreement import (
    ADVERTISER_NAME,
    LARGEST_DAILY_ELEMENTS,
    LARGEST_EPSILON,
    LARGEST_IDENTIFIERS_PER_SUBJECT,
    LARGEST_LIST_ELEMENTS,
    LARGEST_NUMBER,
    LARGEST_SESSIONS,
    LATEST_EXPIRY,
    LEAST_EPSILON,
    Agreement,
    Disclosure,
)
from purposematch.protocol.epsilon import epsilon_of, epsilon_text
from purposematch.protocol.errors import DecodeError, InputError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.leak_sheet import leak_sheet
from purposematch.protocol.scope import PLATFORM_ID

AGREEMENT = Agreement(
    platform_id="example",
    advertiser="acme",
    legal_entity="acme",
    purpose="marketing.advertising.third_party.targeted",
    profile=Profile.PLAIN,
    disclosure=Disclosure.BOTH,
    number=1,
    expires_at=1_798_761_600_000_000,
)

NOISE = {
    Disclosure.BOTH: {},
    Disclosure.ADVERTISER: {},
    Disclosure.PLATFORM: {"release_epsilon": 250_000},
    Disclosure.COUNT: {"release_epsilon": 250_000, "identifiers_per_subject": 2},
}


def agreed(disclosure: Disclosure, **changes: Any) -> Agreement:
    """The agreement with another disclosure, and the noise that this one needs."""
    return replace(AGREEMENT, disclosure=disclosure, **(NOISE[disclosure] | changes))


def _with_noise(fields: dict[str, Any], epsilon: int, identifiers: int) -> Agreement:
    noise = dict(zip(("release_epsilon", "identifiers_per_subject"), (epsilon, identifiers), strict=True))
    return Agreement(**fields, **{name: noise[name] for name in NOISE[fields["disclosure"]]})


_fields = st.fixed_dictionaries(
    dict(
        platform_id=st.from_regex(PLATFORM_ID, fullmatch=True),
        advertiser=st.from_regex(ADVERTISER_NAME, fullmatch=True),
        legal_entity=st.from_regex(ADVERTISER_NAME, fullmatch=True),
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
)
agreements = st.builds(
    _with_noise,
    _fields,
    st.integers(LEAST_EPSILON, LARGEST_EPSILON),
    st.integers(1, LARGEST_IDENTIFIERS_PER_SUBJECT),
)


def test_the_canonical_bytes_are_the_documented_ones() -> None:
    assert AGREEMENT.canonical_bytes() == (
        b'{"advertiser":"acme","concurrent_sessions":8,"daily_elements":10000000,"daily_sessions":100,'
        b'"disclosure":"both","expires_at":1798761600000000,"legal_entity":"acme","max_list_elements":10000000,'
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
        replace(AGREEMENT, legal_entity="other"),
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
        agreed(Disclosure.PLATFORM),
        agreed(Disclosure.COUNT),
    ],
)
def test_every_field_changes_the_digest(other: Agreement) -> None:
    assert other.digest != AGREEMENT.digest


@pytest.mark.parametrize(
    "change",
    [{"release_epsilon": 250_001}, {"identifiers_per_subject": 3}, {"disclosure": Disclosure.PLATFORM}],
)
def test_the_noise_changes_the_digest(change: dict[str, Any]) -> None:
    noisy = agreed(Disclosure.COUNT)
    if "disclosure" in change:
        change = change | {"identifiers_per_subject": None}
    assert replace(noisy, **change).digest != noisy.digest


def test_the_canonical_bytes_of_a_noisy_one_are_the_documented_ones() -> None:
    assert agreed(Disclosure.COUNT).canonical_bytes() == (
        b'{"advertiser":"acme","concurrent_sessions":8,"daily_elements":10000000,"daily_sessions":100,'
        b'"disclosure":"count","expires_at":1798761600000000,"identifiers_per_subject":2,'
        b'"legal_entity":"acme","max_list_elements":10000000,"min_list_elements":1000,"number":1,'
        b'"platform_id":"example","profile":"plain-v1","purpose":"marketing.advertising.third_party.targeted",'
        b'"release_epsilon":250000}'
    )


@pytest.mark.parametrize("disclosure", Disclosure)
@pytest.mark.parametrize("name", ["release_epsilon", "identifiers_per_subject"])
def test_noise_is_agreed_where_there_is_some_and_nowhere_else(disclosure: Disclosure, name: str) -> None:
    mapping = agreed(disclosure).to_mapping()
    if name in NOISE[disclosure]:
        del mapping[name]
        wrong: dict[str, Any] = {name: None}
    else:
        mapping[name] = 2_000
        wrong = {name: 2}
    with pytest.raises(DecodeError, match=f"{name}|is not one of"):
        Agreement.from_mapping(mapping)
    with pytest.raises(DecodeError, match=f"(needs|has no) {name}"):
        replace(agreed(disclosure), **wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("release_epsilon", LEAST_EPSILON - 1),
        ("release_epsilon", LARGEST_EPSILON + 1),
        ("release_epsilon", 0.25),
        ("release_epsilon", None),
        ("release_epsilon", "250000"),
        ("identifiers_per_subject", 0),
        ("identifiers_per_subject", LARGEST_IDENTIFIERS_PER_SUBJECT + 1),
        ("identifiers_per_subject", True),
        ("disclosure", ["count"]),
        ("disclosure", {"count": 1}),
    ],
)
def test_noise_out_of_range_or_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(DecodeError):
        Agreement.from_mapping({**agreed(Disclosure.COUNT).to_mapping(), name: value})


def test_one_subject_changes_a_count_by_what_is_agreed() -> None:
    assert agreed(Disclosure.PLATFORM).sensitivity == 1
    assert agreed(Disclosure.COUNT, identifiers_per_subject=5).sensitivity == 5
    with pytest.raises(DecodeError, match="not noisy"):
        _ = AGREEMENT.sensitivity


@pytest.mark.parametrize(
    ("text", "millionths"), [("0.25", 250_000), ("1", 10**6), ("0.000001", 1), ("20", 2 * 10**7)]
)
def test_an_epsilon_is_read_and_written_as_a_decimal_number(text: str, millionths: int) -> None:
    assert (epsilon_of(text), epsilon_text(millionths)) == (millionths, text)


@given(st.integers(0, 10**12 - 1))
def test_an_epsilon_survives_its_text(millionths: int) -> None:
    assert epsilon_of(epsilon_text(millionths)) == millionths


@pytest.mark.parametrize(
    "text", ["", "0,25", ".5", "1.", "1e-3", "-1", "+1", "0.0000001", "nan", "\u0661", " 1"]
)
def test_what_is_no_decimal_number_is_no_epsilon(text: str) -> None:
    with pytest.raises(InputError, match="decimal number"):
        epsilon_of(text)


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
    mapping = agreed(Disclosure(disclosure)).to_mapping()
    assert Agreement.from_mapping(mapping).disclosure == disclosure


@pytest.mark.parametrize("name", ["", "Acme", "_a", ".a", "-a", "a b", "a/b", "ä", "a" * 64, "a\n", "../a"])
def test_an_advertiser_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match="an advertiser's name"):
        replace(AGREEMENT, advertiser=name)
    with pytest.raises(DecodeError, match="a legal entity's name"):
        replace(AGREEMENT, legal_entity=name)


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
    sheet = leak_sheet(agreed(disclosure), 20_000)
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
    sheet = leak_sheet(agreed(disclosure), None)
    assert LEARNS_ROWS not in sheet
    assert "not which rows" in _section(sheet, "The advertiser (acme) learns")


@pytest.mark.parametrize("disclosure", list(Disclosure))
def test_the_sheet_says_what_is_not_protected(disclosure: Disclosure) -> None:
    open_points = _section(leak_sheet(agreed(disclosure), None), "Not protected")
    # In a set exchange the platform demands the canaries, so that nothing can be guessed in their place.
    day, epoch = ("10,000,000", "300,000,000") if disclosure.noisy else ("10,006,400", "300,192,000")
    for words in [
        "Sizes:",
        "invented identifiers",
        f"under this agreement {day} a day at most, {epoch} in a key epoch",
        "nobody was left out",
    ]:
        assert words in open_points
    # Where the platform learns nothing of matches, it has nothing to learn by inventing.
    assert ("Invented entries" in open_points) == (disclosure is not Disclosure.ADVERTISER)


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
    sheet = leak_sheet(agreed(disclosure), None)
    assert found in _section(sheet, "Not protected")


@pytest.mark.parametrize("disclosure", [Disclosure.BOTH, Disclosure.ADVERTISER])
def test_the_sheet_says_that_the_platform_can_see_later_who_matched(disclosure: Disclosure) -> None:
    open_points = _section(leak_sheet(agreed(disclosure), None), "Not protected")
    assert "Later use: the platform sees" in open_points


@pytest.mark.parametrize(
    ("disclosure", "changes", "words"),
    [
        (
            Disclosure.PLATFORM,
            {},
            ["subjects (people) who match", "has scale 4 (epsilon 0.25)", "less than 13"],
        ),
        (Disclosure.COUNT, {}, ["at most 2 of a subject", "has scale 8 (epsilon 0.25)", "less than 25"]),
        (
            Disclosure.COUNT,
            {"identifiers_per_subject": 3, "release_epsilon": 10**6},
            ["most 3", "scale 3 (epsilon 1)"],
        ),
    ],
)
def test_the_sheet_says_how_much_noise_there_is_and_what_it_costs(
    disclosure: Disclosure, changes: dict[str, Any], words: list[str]
) -> None:
    sheet = leak_sheet(agreed(disclosure, legal_entity="holding", **changes), None)
    assert "legal entity holding" in sheet
    for each in words:
        assert each in _section(sheet, "The advertiser (acme) learns")
    assert "of what legal entity holding has" in _section(sheet, "Not protected")


@pytest.mark.parametrize("disclosure", [each for each in Disclosure if each is not Disclosure.COUNT])
def test_the_sheet_says_what_the_experimental_engine_does_not_stop(disclosure: Disclosure) -> None:
    """See `test_vole_deviation`: who receives, and cheats, tests whatever it can think of."""
    sheet = leak_sheet(agreed(disclosure, allow_experimental=True), None)
    assert "Stays hidden, by VOLE only from a side that does not cheat" in sheet
    open_points = _section(sheet, "Not protected")
    advertiser = "every phone number, whether it is enrolled: neither the size of its list nor its quota"
    platform = "A platform that cheats can find out of any identifier that it can think of"
    receives, other = (platform, advertiser) if disclosure.noisy else (advertiser, platform)
    assert receives in open_points
    assert other not in open_points
    # The bound on guessing is not left to stand alone.
    assert ("Nothing of this holds for one that cheats by VOLE" in open_points) is not disclosure.noisy
    assert "VOLE" not in leak_sheet(agreed(disclosure), None)


def test_the_sheet_of_an_exact_one_speaks_of_no_noise() -> None:
    sheet = leak_sheet(AGREEMENT, None)
    assert "nois" not in sheet
    assert "Budget" not in sheet


def test_the_sheet_without_a_size_names_no_number() -> None:
    sheet = leak_sheet(AGREEMENT, None)
    assert _section(sheet, "The platform (example) learns").endswith("in distinct identifiers")


@given(agreements, st.none() | st.integers(0, 10**9))
def test_the_sheet_is_plain_text_that_fits_a_terminal(agreement: Agreement, size: int | None) -> None:
    sheet = leak_sheet(agreement, size)
    assert sheet == sheet.strip()
    assert all(character == "\n" or character.isprintable() for character in sheet)
