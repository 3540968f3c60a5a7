import dataclasses
import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
from fideslang.default_taxonomy import DEFAULT_TAXONOMY
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.protocol.errors import DecodeError, PolicyError
from purposematch.protocol.policy import DEFAULT_POLICY_TOML, Policy
from purposematch.protocol.purpose import DEFAULT_PURPOSE, FORBIDDEN_ORIGINS, Origin, Taxonomy

TAXONOMY = Taxonomy.from_keys(
    use.fides_key for use in DEFAULT_TAXONOMY.data_use if use.version_deprecated is None
)
DEPRECATED = [use.fides_key for use in DEFAULT_TAXONOMY.data_use if use.version_deprecated is not None]
PERMITTED_BY_DEFAULT = {Origin.PROFILE, Origin.SIGNUP, Origin.NEWSLETTER, Origin.PURCHASE}


def mapping(**changes: Any) -> dict[str, Any]:
    """A policy file as parsed; a change to None leaves the key out."""
    document: dict[str, Any] = {
        "required_purpose": DEFAULT_PURPOSE,
        "granting_purposes": [DEFAULT_PURPOSE],
        "permitted_origins": ["profile", "signup"],
        "sources": {"default": ["profile", "signup"]},
    }
    document.update(changes)
    return {key: value for key, value in document.items() if value is not None}


def load(**changes: Any) -> Policy:
    return Policy.from_mapping(mapping(**changes), TAXONOMY)


def test_the_default_policy_file_loads() -> None:
    policy = Policy.from_mapping(tomllib.loads(DEFAULT_POLICY_TOML), TAXONOMY)
    assert policy.required_purpose == "marketing.advertising.third_party.targeted"
    assert policy.granting_purposes == ("marketing.advertising.third_party.targeted",)
    assert policy.permitted_origins == PERMITTED_BY_DEFAULT
    assert policy.strict_origins is False
    assert policy.max_consent_age_days is None
    assert policy.sources == {"default": frozenset(Origin) - {Origin.UNKNOWN}}
    assert policy.taxonomy_digest == TAXONOMY.digest


def test_the_cap_on_age_that_the_default_file_shows_can_be_switched_on() -> None:
    text = DEFAULT_POLICY_TOML.replace("# max_consent_age_days", "max_consent_age_days")
    assert Policy.from_mapping(tomllib.loads(text), TAXONOMY).max_consent_age_days == 730


def test_the_lines_of_the_default_policy_file_fit_a_screen() -> None:
    assert max(map(len, DEFAULT_POLICY_TOML.splitlines())) <= 115
    assert DEFAULT_POLICY_TOML.isascii()


def test_an_ancestor_of_the_required_use_may_grant() -> None:
    policy = load(granting_purposes=[DEFAULT_PURPOSE, "marketing.advertising"])
    assert policy.granting_purposes == ("marketing.advertising", DEFAULT_PURPOSE)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"required_purpose": "marketing.communications.email"},
            "does not lie under 'marketing.advertising'",
        ),
        ({"required_purpose": "essential.service.security"}, "does not lie under"),
        ({"required_purpose": "marketing"}, "does not lie under"),
        ({"required_purpose": "marketing.advertising.secret"}, "not a purpose of the taxonomy"),
        ({"required_purpose": 7}, "required_purpose must be a string"),
        ({"granting_purposes": []}, "granting_purposes is empty"),
        ({"granting_purposes": ["marketing"]}, "root of the taxonomy; use a narrower key"),
        ({"granting_purposes": ["collect"]}, "root of the taxonomy"),
        ({"granting_purposes": ["marketing.advertising.profiling"]}, "nor an ancestor of it; remove it"),
        ({"granting_purposes": ["essential.service.security"]}, "nor an ancestor of it"),
        ({"granting_purposes": ["marketing.advertisin"]}, "not a purpose of the taxonomy"),
        ({"granting_purposes": DEFAULT_PURPOSE}, "granting_purposes must be a list of strings"),
        ({"granting_purposes": [1]}, "granting_purposes must be a list of strings"),
        ({"permitted_origins": []}, "permitted_origins is empty"),
        ({"permitted_origins": ["unknown"]}, "unknown origin 'unknown'; the origins are profile, signup"),
        ({"permitted_origins": ["2fa"]}, "unknown origin '2fa'"),
        ({"strict_origins": 1}, "strict_origins must be true or false"),
        ({"strict_origins": "yes"}, "strict_origins must be true or false"),
        ({"max_consent_age_days": 0}, "from 1 to 36500"),
        ({"max_consent_age_days": 10**30}, "from 1 to 36500"),
        ({"max_consent_age_days": True}, "whole number of days"),
        ({"max_consent_age_days": 1.5}, "whole number of days"),
        ({"sources": ["default"]}, "sources must be a table"),
        ({"sources": {"crm": ["profile"]}}, "sources lacks 'default'"),
        ({"sources": {"default": ["2fa"]}}, "sources.default names the unknown origin '2fa'"),
        ({"sources": {"default": "profile"}}, "sources.default must be a list of strings"),
        ({"sources": {"default": [], "": []}}, "printable ASCII"),
        ({"sources": {"default": [], "a b": []}}, "printable ASCII"),
        ({"sources": {"default": [], "é": []}}, "printable ASCII"),
        ({"strict_origin": True}, "unknown policy key 'strict_origin'; remove it"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused_and_told_why(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        load(**changes)


@pytest.mark.parametrize("key", ["required_purpose", "granting_purposes", "permitted_origins", "sources"])
def test_a_policy_that_lacks_a_key_is_refused(key: str) -> None:
    with pytest.raises(PolicyError, match=f"lacks {key}"):
        load(**{key: None})


@pytest.mark.parametrize("origin", sorted(FORBIDDEN_ORIGINS))
def test_a_policy_that_permits_a_forbidden_origin_is_refused_and_told_about_2019(origin: Origin) -> None:
    with pytest.raises(PolicyError, match=f"remove {origin.label} .* in 2019 Twitter said .* two-factor"):
        load(permitted_origins=["profile", origin.label.upper()])


def test_a_policy_made_without_a_file_passes_the_same_checks() -> None:
    policy = load()
    with pytest.raises(PolicyError, match="2019"):
        dataclasses.replace(policy, permitted_origins=frozenset({Origin.TWO_FACTOR}))
    with pytest.raises(PolicyError, match="unknown origin can not grant"):
        dataclasses.replace(policy, permitted_origins=frozenset({Origin.UNKNOWN}))
    with pytest.raises(PolicyError, match="root"):
        dataclasses.replace(policy, granting_purposes=("marketing",))


def test_a_source_may_claim_an_origin_that_can_not_grant() -> None:
    assert load(sources={"default": [], "security": ["two_factor"]}).sources["security"] == {
        Origin.TWO_FACTOR
    }


def test_a_deprecated_purpose_is_not_accepted() -> None:
    assert DEPRECATED
    for key in DEPRECATED:
        assert key not in TAXONOMY


def test_a_policy_can_not_be_changed() -> None:
    sources = {"default": frozenset({Origin.PROFILE})}
    policy = dataclasses.replace(load(), sources=sources)
    before = policy.digest
    sources["default"] = frozenset(Origin)
    assert policy.digest == before
    with pytest.raises(TypeError):
        policy.sources["default"] = frozenset(Origin)  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.strict_origins = True  # type: ignore[misc]


def test_the_digest_ignores_how_the_file_was_written() -> None:
    one = load(sources={"default": ["profile", "signup"], "crm": []}, strict_origins=False)
    two = load(
        sources={"crm": [], "default": ["Signup", "profile", "profile"]},
        permitted_origins=["signup", "profile"],
        granting_purposes=[DEFAULT_PURPOSE, DEFAULT_PURPOSE],
    )
    assert one == two
    assert one.canonical_bytes() == two.canonical_bytes()
    assert one.digest == two.digest
    assert len(one.digest) == 32


@pytest.mark.parametrize(
    "changes",
    [
        {
            "required_purpose": "marketing.advertising.third_party",
            "granting_purposes": ["marketing.advertising"],
        },
        {"granting_purposes": ["marketing.advertising"]},
        {"permitted_origins": ["profile"]},
        {"strict_origins": True},
        {"max_consent_age_days": 1},
        {"sources": {"default": ["profile"]}},
        {"sources": {"default": ["profile", "signup"], "crm": []}},
    ],
)
def test_every_part_of_a_policy_is_in_its_digest(changes: dict[str, Any]) -> None:
    assert load(**changes).digest != load().digest


def test_another_taxonomy_gives_another_digest() -> None:
    smaller = Taxonomy.from_keys(TAXONOMY.keys - {"sales"})
    assert Policy.from_mapping(mapping(), smaller).digest != load().digest


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(DEFAULT_PURPOSE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*mapping(), "strict_origins", "max_consent_age_days", "x"]), JUNK))
def test_whatever_a_policy_file_holds_only_policy_errors_come_out(changes: dict[str, Any]) -> None:
    try:
        policy = Policy.from_mapping({**mapping(), **changes}, TAXONOMY)
    except PolicyError:
        return
    assert not policy.permitted_origins & FORBIDDEN_ORIGINS


ISSUER = {
    "key": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "permitted_purposes": [DEFAULT_PURPOSE],
    "permitted_origins": ["signup"],
    "expires_at": datetime(2028, 1, 1, tzinfo=UTC),
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_consent_age_days": 7, "strict_origins": True},
        {"issuers": {"a": ISSUER}, "require_evidence": True},
    ],
)
def test_a_policy_comes_back_from_its_canonical_bytes(changes: dict[str, Any]) -> None:
    policy = load(**changes)
    again = Policy.from_canonical(policy.canonical_bytes())
    assert again == policy
    assert again.digest == policy.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"strict_origins":false', b'"strict_origins":0'),
        (b'"strict_origins":false,', b""),
        (b'"max_consent_age_days":null', b'"max_consent_age_days":0'),
        (b'"sources":{', b'"sources":[{'),
        (b'"profile","signup"', b'"signup","profile"'),
        (b'"permitted_origins":["profile"', b'"permitted_origins":["two_factor"'),
        (b"{", b"{ "),
        (b'"taxonomy":"', b'"taxonomy":"AB'),
        (b'"key":"3d', b'"key":"3D'),
        (b'"expires_at":1', b'"expires_at":"1'),
        (b'"revoked_at":null', b'"revoked_at":5'),
    ],
)
def test_only_canonical_bytes_are_a_stored_policy(old: bytes, new: bytes) -> None:
    content = load(issuers={"a": ISSUER}).canonical_bytes()
    assert old in content
    with pytest.raises(DecodeError):
        Policy.from_canonical(content.replace(old, new, 1))
