"""A delegation and its revocation: what is signed, by whom, and what is refused."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from purposematch.protocol.agreement import LATEST_EXPIRY, Agreement, Disclosure
from purposematch.protocol.delegation import (
    MAX_LISTS,
    Delegation,
    DelegationDocument,
    DelegationRevocation,
    OnBehalf,
)
from purposematch.protocol.errors import DecodeError, PurposematchError, VerificationError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.leak_sheet import leak_sheet
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.signing import AdvertiserSeed, IdentitySeed, advertiser_public_key
from purposematch.protocol.transcript import transcript_hash

SEED, OTHER = AdvertiserSeed(b"a" * 32), AdvertiserSeed(b"b" * 32)
KEY = advertiser_public_key(SEED)
DELEGATION = Delegation(
    platform_id="example",
    advertiser="acme",
    number=1,
    partner="agency",
    purpose="marketing.advertising.third_party.targeted",
    lists=("autumn", "spring"),
    max_list_elements=5_000,
    expires_at=1_798_761_600_000_000,
)
DOCUMENT = DelegationDocument.sign(DELEGATION, SEED)
REVOCATION = DelegationRevocation.sign(DELEGATION, SEED)
GRANT = SessionGrant(bytes(16), bytes(32), bytes(32), bytes(32), bytes(32), 1_000, 256, 8)


def test_what_is_signed_is_its_canonical_json_under_a_domain_of_its_own() -> None:
    content = (
        b'{"advertiser":"acme","expires_at":1798761600000000,"lists":["autumn","spring"],'
        b'"max_list_elements":5000,"number":1,"partner":"agency","platform_id":"example",'
        b'"purpose":"marketing.advertising.third_party.targeted"}'
    )
    assert DELEGATION.canonical_bytes() == content
    domain = b"purposematch delegation v1"
    assert DELEGATION.digest == hashlib.sha256(domain + content).digest()
    VerifyKey(KEY).verify(len(domain).to_bytes(2, "big") + domain + content, DOCUMENT.signature)
    domain = b"purposematch revocation v1"
    content = b'{"delegation":"' + DELEGATION.digest.hex().encode() + b'"}'
    VerifyKey(KEY).verify(len(domain).to_bytes(2, "big") + domain + content, REVOCATION.signature)


@given(
    st.builds(
        Delegation,
        platform_id=st.sampled_from(["example", "ads.example"]),
        advertiser=st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True),
        number=st.integers(1, 1_000_000),
        partner=st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True),
        purpose=st.just(DELEGATION.purpose),
        lists=st.sets(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,9}", fullmatch=True), min_size=1, max_size=9).map(
            lambda names: tuple(sorted(names))
        ),
        max_list_elements=st.integers(1, 10**9),
        expires_at=st.integers(1, LATEST_EXPIRY),
    )
)
def test_what_is_written_is_read_back(delegation: Delegation) -> None:
    document = DelegationDocument.sign(delegation, SEED)
    assert DelegationDocument.decode(document.encode()) == document
    assert Delegation.decode(delegation.canonical_bytes()) == delegation
    document.check(KEY)
    revocation = DelegationRevocation.sign(delegation, SEED)
    assert DelegationRevocation.decode(revocation.encode()) == revocation
    revocation.check(KEY)


WRONG: list[dict[str, Any]] = [
    {"platform_id": "Example"},
    {"advertiser": ""},
    {"partner": "Agency"},
    {"purpose": "Marketing"},
    {"number": 0},
    {"lists": ()},
    {"lists": ("spring", "autumn")},
    {"lists": ("spring", "spring")},
    {"lists": ("a list",)},
    {"lists": tuple(f"l{i:03}" for i in range(MAX_LISTS + 1))},
    {"max_list_elements": 0},
    {"expires_at": 0},
    {"expires_at": LATEST_EXPIRY + 1},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_a_field_that_is_not_of_its_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        replace(DELEGATION, **change)
    content = json.loads(DOCUMENT.encode())
    content["delegation"] |= {name: list(v) if isinstance(v, tuple) else v for name, v in change.items()}
    with pytest.raises(DecodeError):
        DelegationDocument.decode(json.dumps(content).encode())


@pytest.mark.parametrize("name", [*DELEGATION.to_mapping(), "more"])
def test_a_missing_or_unknown_field_is_refused(name: str) -> None:
    content = json.loads(DOCUMENT.encode())
    if content["delegation"].pop(name, None) is None:
        content["delegation"][name] = 1
    with pytest.raises(DecodeError):
        DelegationDocument.decode(json.dumps(content).encode())


CHANGES: list[dict[str, Any]] = [
    {"partner": "mallory"},
    {"advertiser": "globex"},
    {"lists": ("autumn", "spring", "winter")},
    {"expires_at": DELEGATION.expires_at + 1},
    {"max_list_elements": 50_000},
    {"number": 2},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_delegation_that_was_changed_is_not_the_advertisers(change: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        replace(DOCUMENT, delegation=replace(DELEGATION, **change)).check(KEY)


def test_another_key_signs_nothing_in_the_advertisers_name() -> None:
    other = DelegationDocument.sign(DELEGATION, OTHER)
    for forged in (other, replace(other, key=KEY), replace(DOCUMENT, key=other.key)):
        with pytest.raises(VerificationError):
            forged.check(KEY)
    revoked = DelegationRevocation.sign(DELEGATION, OTHER)
    for forgery in (revoked, replace(revoked, key=KEY), replace(REVOCATION, digest=bytes(32))):
        with pytest.raises(VerificationError):
            forgery.check(KEY)
    # One is not the other, though the same key signed both.
    with pytest.raises(VerificationError):
        replace(DOCUMENT, signature=REVOCATION.signature).check(KEY)
    with pytest.raises(DecodeError):
        DelegationDocument.decode(REVOCATION.encode())
    with pytest.raises(DecodeError):
        DelegationRevocation.decode(DOCUMENT.encode())


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_the_error_tree(data: bytes) -> None:
    for parse in (Delegation.decode, DelegationDocument.decode, DelegationRevocation.decode):
        with pytest.raises(PurposematchError):
            parse(data)


def test_only_a_list_that_is_named_can_be_brought() -> None:
    assert OnBehalf(DELEGATION, "spring").delegated.digest == DELEGATION.digest
    with pytest.raises(DecodeError):
        OnBehalf(DELEGATION, "winter")


def test_the_grant_and_the_transcript_name_the_delegation() -> None:
    identity = IdentitySeed(b"p" * 32)
    delegated = replace(GRANT, delegation=DELEGATION.digest)
    document = delegated.sign(identity)
    assert SessionGrant.parse(document.content) == delegated
    assert b'"delegation"' not in GRANT.sign(identity).content
    # An advertiser's own session is bound to what it was bound to before there were partners.
    own = hashlib.sha256(b"purposematch transcript v1" + bytes(32 + 16 + 32 + 32 + 32))
    assert transcript_hash(GRANT) == own.digest()
    others = {transcript_hash(replace(GRANT, delegation=each)) for each in (DELEGATION.digest, bytes(32))}
    assert len(others | {transcript_hash(GRANT)}) == 3


def test_the_leak_sheet_says_who_brings_the_list_for_whom() -> None:
    agreement = Agreement(
        platform_id="example",
        advertiser="acme",
        legal_entity="acme",
        purpose=DELEGATION.purpose,
        profile=Profile.PLAIN,
        disclosure=Disclosure.BOTH,
        number=1,
        expires_at=DELEGATION.expires_at,
    )
    sheet = leak_sheet(agreement, 1_000, OnBehalf(DELEGATION, "spring"))
    assert "A partner (agency) brings the list spring for acme" in sheet
    assert "the partner learns what the advertiser learns" in sheet
    assert "delegation 1, until 2027-01-01; lists of at most 5,000 identifiers" in sheet
    assert "partner" not in leak_sheet(agreement, 1_000)
