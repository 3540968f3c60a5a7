import re

import pytest
from fideslang.default_taxonomy import DEFAULT_TAXONOMY
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.protocol.errors import PolicyError
from purposematch.protocol.purpose import (
    ADVERTISING_ROOT,
    DEFAULT_PURPOSE,
    FORBIDDEN_ORIGINS,
    SECURITY_ROOTS,
    Origin,
    Reason,
    Status,
    Taxonomy,
    ancestors_or_self,
    is_under,
)

FIDES_KEYS = [use.fides_key for use in DEFAULT_TAXONOMY.data_use if use.version_deprecated is None]
KEYS = st.lists(st.text("ab_", min_size=1, max_size=3), min_size=1, max_size=4).map(".".join)


def test_the_keys_that_the_code_names_are_keys_of_fideslang() -> None:
    taxonomy = Taxonomy.from_keys(FIDES_KEYS)
    for key in (ADVERTISING_ROOT, DEFAULT_PURPOSE, *SECURITY_ROOTS):
        assert key in taxonomy


def test_a_key_is_known_letter_for_letter() -> None:
    taxonomy = Taxonomy.from_keys(["a.b", "a"])
    assert "a.b" in taxonomy
    for unknown in ("", " a", "A", "a.", "a.b.c", "b", None, 1):
        assert unknown not in taxonomy


def test_the_digest_ignores_order_and_repetition() -> None:
    digest = Taxonomy.from_keys(["a", "a.b", "c"]).digest
    assert Taxonomy.from_keys(["c", "a.b", "a", "c"]).digest == digest
    assert len(digest) == 32


@pytest.mark.parametrize("other", [["a", "a.b"], ["a", "a.b", "d"], ["a", "a.bc"], ["aa", "b.c"]])
def test_other_keys_give_another_digest(other: list[str]) -> None:
    assert Taxonomy.from_keys(other).digest != Taxonomy.from_keys(["a", "a.b", "c"]).digest


def test_the_digest_of_a_small_taxonomy_is_fixed() -> None:
    # Written out by hand from the docstring: domain, number of keys, each key behind its length.
    import hashlib

    written = b"purposematch/taxonomy/v1\x00" + b"\0\0\0\2" + b"\0\1a" + b"\0\3a.b"
    assert Taxonomy.from_keys(["a.b", "a"]).digest == hashlib.sha256(written).digest()


@pytest.mark.parametrize("bad", ["", ".", "a.", ".a", "a..b", "a b", "ä", "a\n", "x" * 256])
def test_a_taxonomy_with_a_key_that_is_not_dotted_is_refused(bad: str) -> None:
    with pytest.raises(PolicyError, match="is not a dotted data-use key"):
        Taxonomy.from_keys(["a", bad])


def test_an_empty_taxonomy_is_refused() -> None:
    with pytest.raises(PolicyError, match="empty"):
        Taxonomy.from_keys([])


def test_ancestors_go_up_to_the_root() -> None:
    assert ancestors_or_self("a.b.c") == ("a.b.c", "a.b", "a")
    assert ancestors_or_self("a") == ("a",)


def test_a_longer_word_does_not_lie_under_a_shorter_one() -> None:
    assert is_under("a.b", "a.b")
    assert is_under("a.b.c", "a.b")
    assert not is_under("a.bc", "a.b")
    assert not is_under("a", "a.b")


@settings(deadline=None)
@given(KEYS, KEYS)
def test_lying_under_and_having_as_ancestor_are_the_same(key: str, root: str) -> None:
    assert is_under(key, root) == (root in ancestors_or_self(key))


@pytest.mark.parametrize("origin", [origin for origin in Origin if origin is not Origin.UNKNOWN])
def test_an_origin_is_read_back_from_its_label(origin: Origin) -> None:
    assert Origin.parse(origin.label) is origin
    assert Origin.parse(f" {origin.label.title()}\t") is origin


@pytest.mark.parametrize(
    "text", ["", "2fa", "two factor", "two-factor", "5", "parse", "label", "PROFİLE", "proﬁle"]
)
def test_a_word_that_is_no_origin_is_unknown(text: str) -> None:
    assert Origin.parse(text) is Origin.UNKNOWN


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.UNREADABLE])
def test_a_status_is_read_back_from_its_label(status: Status) -> None:
    assert Status.parse(status.label) is status
    assert Status.parse(f"\n{status.label.upper()} ") is status


@settings(deadline=None)
@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    word = text.strip().lower() if text.isascii() else ""
    assert (Origin.parse(text) is Origin.UNKNOWN) == (word not in {o.label for o in Origin if o})
    assert (Status.parse(text) is Status.UNREADABLE) == (word not in {s.label for s in Status if s})


def test_there_are_eleven_origins_and_four_of_them_are_forbidden() -> None:
    assert len(Origin) == 12
    assert {origin.label for origin in FORBIDDEN_ORIGINS} == {
        "two_factor",
        "account_recovery",
        "reauthentication",
        "contact_import",
    }


def test_the_reasons_are_the_closed_list_in_the_order_of_the_rules() -> None:
    listed = """PERMITTED NO_ASSERTION MALFORMED_ROW INVALID_IDENTIFIER PROFILE_MISMATCH UNKNOWN_PURPOSE
        UNKNOWN_ORIGIN OBJECTED WITHDRAWN REFUSED PURPOSE_NOT_PERMITTED MIXED_PURPOSE ORIGIN_NOT_PERMITTED
        TAINTED NOT_YET_VALID EXPIRED TOO_OLD SOURCE_NOT_PERMITTED EVIDENCE_MISSING EVIDENCE_INVALID
        ISSUER_NOT_AUTHORIZED"""
    assert [reason.name for reason in Reason] == re.split(r"\s+", listed)
    assert [reason.value for reason in Reason] == list(range(21))
