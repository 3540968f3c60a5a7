"""What an advertiser demands of a session before anything of its list is sent."""

import dataclasses
from typing import Any

import pytest
from memory_match import CERTIFICATE, Published, publish
from samples import AGREEMENT, IDENTITY

from purposematch.protocol.advertiser import CLOCK_SKEW_MICROSECONDS, MAX_VALIDITY_MICROSECONDS, check_grant
from purposematch.protocol.errors import VerificationError
from purposematch.protocol.group import Group
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.signing import identity_public_key


@pytest.fixture(scope="module")
def published(group: Group) -> Published:
    return publish(group, range(0, 60, 2), bits=2)


def checked(published: Published, **changes: Any) -> None:
    manifest = Manifest.open(published.document, identity_public_key(IDENTITY))
    given: dict[str, Any] = {
        "agreement": AGREEMENT,
        "certificate": CERTIFICATE,
        "list_size": 30,
        "manifest": manifest,
        "digest": Manifest.digest(published.document),
        "now": manifest.published_at,
    }
    grant = SessionGrant(b"s" * 16, AGREEMENT.digest, given["digest"], CERTIFICATE, b"p" * 32, 30, 16, 4)
    given |= changes
    check_grant(
        grant,
        given["manifest"],
        given["digest"],
        given["agreement"],
        given["certificate"],
        given["list_size"],
        given["now"],
    )


def test_a_grant_that_is_what_was_agreed_is_accepted(published: Published) -> None:
    checked(published)


def test_a_generation_that_is_out_of_date_is_refused_beyond_the_skew_of_two_clocks(
    published: Published,
) -> None:
    ends = Manifest.open(published.document, identity_public_key(IDENTITY)).valid_until
    checked(published, now=ends + CLOCK_SKEW_MICROSECONDS - 1)
    with pytest.raises(VerificationError, match="out of date"):
        checked(published, now=ends + CLOCK_SKEW_MICROSECONDS)


def test_a_generation_that_is_valid_for_more_than_a_day_is_refused(published: Published) -> None:
    manifest = Manifest.open(published.document, identity_public_key(IDENTITY))
    ends = manifest.published_at + MAX_VALIDITY_MICROSECONDS
    checked(published, manifest=dataclasses.replace(manifest, valid_until=ends))
    with pytest.raises(VerificationError, match="valid for too long"):
        checked(published, manifest=dataclasses.replace(manifest, valid_until=ends + 1))


def test_a_grant_that_differs_from_what_was_agreed_is_refused(published: Published) -> None:
    manifest = Manifest.open(published.document, identity_public_key(IDENTITY))
    for what, changes in {
        "the agreement": {"agreement": dataclasses.replace(AGREEMENT, max_list_elements=5)},
        "the manifest": {"digest": bytes(32)},
        "the client certificate": {"certificate": bytes(32)},
        "the list size": {"list_size": 31},
        "the platform": {"platform_id": "fishsite"},
        "the purpose": {"purpose": "marketing.advertising.first_party.targeted"},
        "the profile": {"profile": Profile.UID2},
    }.items():
        if what in ("the platform", "the purpose", "the profile"):
            other = dataclasses.replace(manifest.scope, **changes)
            changes = {"manifest": dataclasses.replace(manifest, scope=other)}
        with pytest.raises(VerificationError, match=what):
            checked(published, **changes)
