"""The row-wise definition of canonical forms: published cases, and every refusal by name."""

import hashlib
import json
from pathlib import Path

import pytest

from purposematch.protocol.errors import IdentifierError, InputError
from purposematch.protocol.identifiers import (
    CANARY_KIND,
    MAX_VALUE_BYTES,
    IdentifierReason,
    Kind,
    Profile,
    canonical_value,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "normalization.json"
CASES = json.loads(VECTORS.read_text("utf-8"))["cases"]
PROFILES = {profile.name.lower(): profile for profile in Profile}


def reason_of(value: str, kind: Kind, profile: Profile = Profile.PLAIN, region: str | None = None) -> str:
    with pytest.raises(IdentifierError) as caught:
        canonical_value(value, kind, profile, region)
    return IdentifierReason(caught.value.reason).name


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['profile']}-{case['kind']}-{case['input']!a}"
)
def test_a_published_case_comes_out_as_documented(case: dict[str, str]) -> None:
    kind, profile = Kind[case["kind"].upper()], PROFILES[case["profile"]]
    if case["canonical"] is None:
        assert reason_of(case["input"], kind, profile, case["region"]) != "USABLE"
    else:
        form = canonical_value(case["input"], kind, profile, case["region"])
        assert form == case["canonical"]
        assert hashlib.sha256(form.encode()).hexdigest() == case["sha256_hex"]


def test_the_kind_bytes_and_labels_are_fixed() -> None:
    assert {kind.label: int(kind) for kind in Kind} == {"email": 1, "phone": 2, "maid": 3}
    assert CANARY_KIND == 255


def test_every_reason_has_a_label_and_one_sentence_of_advice() -> None:
    for reason in IdentifierReason:
        assert reason.label == reason.name.lower()
        assert reason.advice.endswith(".")
    assert len({reason.advice for reason in IdentifierReason}) == len(IdentifierReason)
    assert max(IdentifierReason) < 256


def test_an_error_does_not_repeat_the_value() -> None:
    with pytest.raises(IdentifierError) as caught:
        canonical_value("jane example", Kind.EMAIL, Profile.PLAIN)
    assert "jane" not in repr(caught.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "EMPTY"),
        (" \t\u00a0\u2003\n", "EMPTY"),
        ("a" * 500 + "@example.com ", "USABLE"),
        ("a" * 501 + "@example.com", "TOO_LONG"),
        ("é" * 251 + "@example.com", "TOO_LONG"),
        ("\u0130" * 200 + "@example.com", "TOO_LONG"),
        ("\ud800@example.com", "NOT_UNICODE"),
        ("a\x00b@example.com", "CONTROL_CHARACTER"),
        ("a\tb@example.com", "CONTROL_CHARACTER"),
        ("a\x85b@example.com", "CONTROL_CHARACTER"),
        ("a\x7fb@example.com", "CONTROL_CHARACTER"),
        ("NULL", "PLACEHOLDER"),
        (" N/A ", "PLACEHOLDER"),
        ("Test@Test.com", "PLACEHOLDER"),
        ("Ab" * 32, "LOOKS_PREHASHED"),
        ("A" * 43 + "=", "LOOKS_PREHASHED"),
        ("first last@example.com", "INNER_WHITESPACE"),
        ("first\u00a0last@example.com", "INNER_WHITESPACE"),
        ("jane", "EMAIL_SYNTAX"),
        ("jane@", "EMAIL_SYNTAX"),
        ("jane@x@example.com", "EMAIL_SYNTAX"),
        ("@example.com", "EMAIL_LOCAL_EMPTY"),
    ],
)
def test_a_value_that_is_no_address_is_refused_by_name(value: str, reason: str) -> None:
    if reason == "USABLE":
        assert len(canonical_value(value, Kind.EMAIL, Profile.PLAIN).encode()) == MAX_VALUE_BYTES
    else:
        assert reason_of(value, Kind.EMAIL) == reason


@pytest.mark.parametrize(
    ("value", "forms"),
    [
        ("\u2003Jane@Example.COM\u00a0", {"*": "jane@example.com"}),
        ("\tuser@example.com\n", {"*": "user@example.com"}),
        (
            "user@B\u00dcCHER.example",
            {"*": "user@b\u00fccher.example", "uid2 pair": "user@b\u00dccher.example"},
        ),
        ("\u0130pek@x.org", {"*": "i\u0307pek@x.org", "uid2 pair": "\u0130pek@x.org"}),
        ("\u212aelvin@x.org", {"*": "kelvin@x.org", "uid2 pair": "\u212aelvin@x.org"}),
        ("e\u0301@x.org", {"*": "e\u0301@x.org", "plain": "\u00e9@x.org"}),
        ("J\u030c@x.org", {"*": "j\u030c@x.org", "plain": "\u01f0@x.org", "uid2 pair": "j\u030c@x.org"}),
        ("\ufb01rst@x.org", {"*": "\ufb01rst@x.org"}),
        ("user@example.com.", {"*": "user@example.com."}),
        ("J.D+a@gmail.com", {"*": "j.d+a@gmail.com", "uid2 google": "jd@gmail.com"}),
        ("J.D+a@googlemail.com", {"*": "j.d+a@googlemail.com", "google": "jd@googlemail.com"}),
        (". a@gmail.com", {"uid2": "a@gmail.com", "meta x": ". a@gmail.com"}),
        ("a b@x.org", {"uid2 meta x pair": "a b@x.org"}),
    ],
)
def test_profiles_differ_only_where_their_rules_do(value: str, forms: dict[str, str]) -> None:
    expected = dict.fromkeys(PROFILES, forms["*"]) if "*" in forms else {}
    for names, form in forms.items():
        expected.update(dict.fromkeys(names.replace("*", "").split(), form))
    assert {name: canonical_value(value, Kind.EMAIL, PROFILES[name]) for name in expected} == expected


@pytest.mark.parametrize("profile", [Profile.PLAIN, Profile.GOOGLE])
def test_inner_white_space_is_refused_only_by_two_profiles(profile: Profile) -> None:
    assert reason_of("a b@x.org", Kind.EMAIL, profile) == "INNER_WHITESPACE"


@pytest.mark.parametrize(
    ("value", "region", "form"),
    [
        ("+441134960987", None, "+441134960987"),
        (" +44-113.496/0987 ", None, "+441134960987"),
        ("+44 (0)113 496 0987", None, "+441134960987"),
        ("+39 (0)6 698 12345", None, "+390669812345"),
        ("+39 06 698 12345", None, "+390669812345"),
        ("(+44) 113 496 0987", None, "+441134960987"),
        ("\uff0b\uff14\uff14113\u3000496\u00a00987", None, "+441134960987"),
        ("\u202a+44\u2010113\u2011496\u20150987\u202c", None, "+441134960987"),
        ("0113 496 0987", "GB", "+441134960987"),
        ("0113 496 0987", "gb", "+441134960987"),
        ("011 44 20 7183 8750", "US", "+442071838750"),
        ("0047 12 34 56 78", "DE", "+4712345678"),
        ("06 698 12345", "IT", "+390669812345"),
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("+52 1 55 1234 5678", "US", "+5215512345678"),
        ("+15550100", None, "+15550100"),
        ("+1234567", None, "+1234567"),
    ],
)
def test_a_phone_number_becomes_e164(value: str, region: str | None, form: str) -> None:
    assert canonical_value(value, Kind.PHONE, Profile.PLAIN, region) == form
    assert canonical_value(value, Kind.PHONE, Profile.META, region) == form[1:]


@pytest.mark.parametrize(
    ("value", "region", "reason"),
    [
        ("call me", None, "PHONE_SYNTAX"),
        ("+", None, "PHONE_SYNTAX"),
        ("+0441134960987", None, "PHONE_SYNTAX"),
        ("+123456", None, "PHONE_SYNTAX"),
        ("+1234567890123456", None, "PHONE_SYNTAX"),
        ("+44 \u0661\u0661\u0663 496 0987", None, "PHONE_SYNTAX"),
        ("\u0660113 496 0987", "GB", "PHONE_SYNTAX"),
        ("0113 496 0987", None, "PHONE_REGION_MISSING"),
        ("0047 12 34 56 78", None, "PHONE_REGION_MISSING"),
        ("555-0100", "US", "PHONE_NOT_POSSIBLE"),
        ("911", "US", "PHONE_NOT_POSSIBLE"),
        ("+44 (0)1", None, "PHONE_NOT_POSSIBLE"),
        ("+442071838750 ext. 12", None, "PHONE_EXTENSION"),
        ("+442071838750;ext=12", None, "PHONE_EXTENSION"),
        ("+44 20 7183 8750 x12", None, "PHONE_EXTENSION"),
        ("020 7183 8750 #12", "GB", "PHONE_EXTENSION"),
        ("(650) 253-0000 - 503#", "US", "PHONE_EXTENSION"),
        ("none", None, "PLACEHOLDER"),
        ("1" * 64, None, "LOOKS_PREHASHED"),
        ("+44\x00113", None, "CONTROL_CHARACTER"),
    ],
)
def test_a_value_that_is_no_number_is_refused_by_name(value: str, region: str | None, reason: str) -> None:
    assert reason_of(value, Kind.PHONE, Profile.PLAIN, region) == reason


def test_uid2_takes_ten_digits_or_more() -> None:
    assert canonical_value("+1234567890", Kind.PHONE, Profile.UID2) == "+1234567890"
    assert reason_of("+123456789", Kind.PHONE, Profile.UID2) == "PHONE_SYNTAX"


def test_google_reads_bare_digits_as_international_only_without_a_region() -> None:
    assert canonical_value("1 800 555 0100", Kind.PHONE, Profile.GOOGLE) == "+18005550100"
    assert canonical_value("(800)555-0100", Kind.PHONE, Profile.GOOGLE, "US") == "+18005550100"
    assert canonical_value("(800)555-0100", Kind.PHONE, Profile.GOOGLE) == "+8005550100"
    assert reason_of("44 20 7183 8750 ext. 12", Kind.PHONE, Profile.GOOGLE) == "PHONE_EXTENSION"
    assert reason_of("0113 496 0987", Kind.PHONE, Profile.GOOGLE) == "PHONE_SYNTAX"


@pytest.mark.parametrize("region", ["", "XX", "USA", "+1"])
@pytest.mark.parametrize("kind", list(Kind))
def test_an_unknown_region_is_a_wrong_option_and_not_a_wrong_row(region: str, kind: Kind) -> None:
    with pytest.raises(InputError) as caught:
        canonical_value("+441134960987", kind, Profile.PLAIN, region)
    assert not isinstance(caught.value, IdentifierError)


@pytest.mark.parametrize("profile", list(Profile))
def test_a_maid_is_a_lower_case_uuid_under_every_profile(profile: Profile) -> None:
    value = " DD99CFF7-1111-4222-8333-0123456789aB\n"
    assert canonical_value(value, Kind.MAID, profile) == "dd99cff7-1111-4222-8333-0123456789ab"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("dd99cff7111142228333" + "0123456789ab", "MAID_SYNTAX"),
        ("{dd99cff7-1111-4222-8333-0123456789ab}", "MAID_SYNTAX"),
        ("dd99cff7-1111-4222-8333-0123456789ag", "MAID_SYNTAX"),
        ("00000000-0000-0000-0000-000000000000", "MAID_ZERO"),
        ("null", "PLACEHOLDER"),
    ],
)
def test_a_value_that_is_no_maid_is_refused_by_name(value: str, reason: str) -> None:
    assert reason_of(value, Kind.MAID) == reason
