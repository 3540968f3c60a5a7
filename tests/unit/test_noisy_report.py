"""The signed noisy report: its golden bytes, what it accepts, and the rounding on the noisy value."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import AGREEMENT, IDENTITY, flip, noisy_report

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.ciphersuite import NOISY_REPORT_DOMAIN
from purposematch.protocol.errors import DecodeError, PeerError, VerificationError
from purposematch.protocol.noisy_report import NoisyReport, Unit, reported_value
from purposematch.protocol.signing import SignedDocument, identity_public_key, sign_document

PUBLIC = identity_public_key(IDENTITY)
GOLDEN = (
    # SHA-256 of the agreement.
    '{"agreement":"' + "31" * 32 + '",'
    '"disclosure":"count",'
    # Millionths.
    '"epsilon":300000,'
    '"generation":"' + "33" * 16 + '",'
    '"label":"' + "32" * 32 + '",'
    '"legal_entity":"holding",'
    '"list_size":20000,'
    '"policy":"' + "34" * 32 + '",'
    # Microseconds since 1970.
    '"released_at":1700000000000002,'
    # 2 / 0.3 in millionths, rounded up.
    '"scale":6666667,'
    '"sensitivity":2,'
    '"session":"' + "30" * 16 + '",'
    '"unit":"identifiers",'
    # Below 100 it is 0.
    '"value":1230}'
).encode()
SIGNATURE = (
    "a33dbb294b3e111616fd0ae020693b110465438024fc45a5813d3db261106189"
    "b329cecf49afaf20724929867587e82bc1ef8351fc21048aa0e41d9966d4ba06"
)
WRONG: dict[str, list[object]] = {
    "agreement": ["", "31" * 31, "AA" * 32, 1],
    "disclosure": ["both", "advertiser", "COUNT", "platform", None, ["count"]],
    "epsilon": [999, 10_000_001, 0.3, "300000", None, 300_001],
    "generation": ["33" * 32, None],
    "label": ["32" * 16, None],
    "legal_entity": ["", "Holding", "a b", 1],
    "list_size": [0, 2**53 + 1, True],
    "policy": ["34" * 31, 0],
    "released_at": [-1, 2**63, 1.0],
    "scale": [6_666_666, 6_666_668, 0, "6666667"],
    "sensitivity": [0, 17, 1, 3, True],
    "session": ["30" * 32, ""],
    "unit": ["subjects", "people", None],
    "value": [-10, 5, 10, 90, 99, 105, 1_231, 1_230.0, None],
}


def signed(**changes: object) -> SignedDocument:
    """The golden document with fields replaced, signed anew; `...` leaves a field out."""
    mapping = {name: value for name, value in (json.loads(GOLDEN) | changes).items() if value is not ...}
    return sign_document(IDENTITY, NOISY_REPORT_DOMAIN, mapping)


def test_the_golden_report_is_written_and_read() -> None:
    document = noisy_report().sign(IDENTITY)
    assert document.content == GOLDEN
    assert document.signature.hex() == SIGNATURE
    assert document == signed()
    assert NoisyReport.open(document, PUBLIC) == NoisyReport.parse(GOLDEN) == noisy_report()


@pytest.mark.parametrize("name", json.loads(GOLDEN))
def test_a_missing_or_wrong_field_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match=f"has no {name}"):
        NoisyReport.open(signed(**{name: ...}), PUBLIC)
    for value in WRONG[name]:
        with pytest.raises(DecodeError):
            NoisyReport.open(signed(**{name: value}), PUBLIC)


def test_an_unknown_field_is_refused() -> None:
    for name in ("exact", "seed", ""):
        with pytest.raises(DecodeError):
            NoisyReport.open(signed(**{name: 1}), PUBLIC)


@given(st.integers(0, 8 * len(GOLDEN) - 1), st.integers(0, 511))
def test_a_flipped_bit_is_refused(content_bit: int, signature_bit: int) -> None:
    document = noisy_report().sign(IDENTITY)
    for changed in (
        SignedDocument(flip(document.content, content_bit), document.signature),
        SignedDocument(document.content, flip(document.signature, signature_bit)),
    ):
        with pytest.raises(VerificationError):
            NoisyReport.open(changed, PUBLIC)


@given(st.binary(max_size=400))
def test_bytes_that_are_no_report_raise_nothing_but_peer_errors(content: bytes) -> None:
    with pytest.raises(PeerError):
        NoisyReport.parse(content)


@pytest.mark.parametrize("name", [each.name for each in fields(NoisyReport)])
def test_every_field_is_signed(name: str) -> None:
    value: Any = getattr(noisy_report(), name)
    others: dict[str, object] = {
        "legal_entity": "other",
        "disclosure": Disclosure.PLATFORM,
        "value": 1_240,
        "sensitivity": 3,
    }
    changes = {name: others.get(name, bytes(len(value)) if isinstance(value, bytes) else value)}
    if isinstance(value, int) and name not in others:
        changes[name] = value + 1
    if name == "disclosure":
        changes["sensitivity"] = 1
    assert (
        replace(noisy_report(), **changes).sign(IDENTITY).signature != noisy_report().sign(IDENTITY).signature
    )


@given(st.integers(-(2**40), 2**40))
def test_a_value_is_told_as_below_100_or_to_the_nearest_ten(noisy: int) -> None:
    told = reported_value(noisy)
    if noisy < 100:
        assert told == 0
    else:
        assert told % 10 == 0
        assert told >= 100
        assert -5 <= told - noisy <= 5
        assert told != noisy - 5


def test_what_is_told_hides_which_value_below_100_it_was() -> None:
    assert {reported_value(noisy) for noisy in range(-1_000, 100)} == {0}
    assert [reported_value(noisy) for noisy in (100, 104, 105, 114, 115)] == [100, 100, 110, 110, 120]


@pytest.mark.parametrize(
    ("value", "list_size", "count", "rate"),
    [
        (0, 1_000, "below 100", ""),
        (100, 1_000, "100", "10 %"),
        (850, 1_000, "850", "85 %"),
        # 85.4, 85.5 and over a hundred: people may have more identifiers here than on the list.
        (8_540, 10_000, "8,540", "85 %"),
        (8_550, 10_000, "8,550", "over 85 %"),
        (2_000, 1_000, "2,000", "over 85 %"),
        (100, 10**9, "100", "0 %"),
        (1_230, 20_000, "1,230", "6 %"),
    ],
)
def test_a_report_in_words(value: int, list_size: int, count: str, rate: str) -> None:
    report = replace(noisy_report(), value=value, list_size=list_size)
    assert (report.count_text, report.rate_text) == (count, rate)


def test_unit_and_scale_follow_from_disclosure_and_epsilon() -> None:
    subjects = replace(noisy_report(), disclosure=Disclosure.PLATFORM, sensitivity=1, epsilon=250_000)
    assert (subjects.unit, subjects.scale) == (Unit.SUBJECTS, 4_000_000)
    assert (noisy_report().unit, noisy_report().scale) == (Unit.IDENTIFIERS, 6_666_667)
    for wrong in ({"disclosure": Disclosure.BOTH}, {"disclosure": Disclosure.PLATFORM}, {"value": 1_234}):
        with pytest.raises(DecodeError):
            replace(noisy_report(), **wrong)  # type: ignore[arg-type]


def test_a_report_answers_the_question_that_was_asked() -> None:
    report = noisy_report()
    asked = replace(
        AGREEMENT,
        legal_entity="holding",
        disclosure=Disclosure.COUNT,
        release_epsilon=500_000,
        identifiers_per_subject=3,
    )
    # An agreement that was made since with other noise is answered by what was stored.
    report.check_answers(asked, report.label, report.generation)
    platform = replace(asked, disclosure=Disclosure.PLATFORM, identifiers_per_subject=None)
    for agreement, label, generation in (
        (replace(asked, legal_entity="other"), report.label, report.generation),
        (platform, report.label, report.generation),
        (asked, bytes(32), report.generation),
        (asked, report.label, bytes(16)),
    ):
        with pytest.raises(VerificationError, match="another question"):
            report.check_answers(agreement, label, generation)
