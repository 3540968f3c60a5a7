"""What a session does to an audience, as it is signed in a grant."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange, AudienceMode
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.signing import IdentitySeed, identity_public_key, sign_document

SEED = IdentitySeed(bytes(range(32)))
GRANT = SessionGrant(bytes(16), bytes(32), bytes(32), bytes(32), bytes(32), 1_000, 256, 8)


@given(
    st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True),
    st.sampled_from(AudienceMode),
    st.none() | st.binary(min_size=32, max_size=32),
)
def test_a_grant_says_what_a_session_does(name: str, mode: AudienceMode, delegation: bytes | None) -> None:
    grant = replace(GRANT, audience=AudienceChange(name, mode), delegation=delegation)
    document = grant.sign(SEED)
    assert SessionGrant.open(document, identity_public_key(SEED)) == grant
    assert SessionGrant.parse(document.content) == grant


def test_the_usual_change_leaves_the_bytes_of_a_grant_as_they_were() -> None:
    content = replace(GRANT, audience=USUAL_CHANGE).sign(SEED).content
    assert b"audience" not in content
    golden = (
        b'{"agreement":"%(z)s","client_certificate":"%(z)s","list_size":1000,"manifest":"%(z)s",'
        b'"max_batch_elements":256,"server_certificate":"%(z)s","session":"%(s)s","window":8}'
    ) % {b"z": b"00" * 32, b"s": b"00" * 16}
    assert content == golden
    other = replace(GRANT, audience=AudienceChange("loyal", AudienceMode.REMOVE)).sign(SEED).content
    assert other == golden.replace(
        b'"client_certificate"', b'"audience":{"mode":"remove","name":"loyal"},"client_certificate"'
    )


@pytest.mark.parametrize(
    "audience",
    [
        {"name": "default", "mode": "replace"},
        {"name": "loyal", "mode": "delete"},
        {"name": "loyal"},
        {"name": "loyal", "mode": "add", "more": 1},
        {"name": "Loyal", "mode": "add"},
        {"name": "", "mode": "add"},
        {"name": 7, "mode": "add"},
        "loyal",
        None,
    ],
)
def test_a_grant_with_another_form_of_change_is_refused(audience: object) -> None:
    fields = {"session": "00" * 16, **dict.fromkeys(("agreement", "manifest"), "00" * 32)}
    fields |= dict.fromkeys(("client_certificate", "server_certificate"), "00" * 32)
    fields |= {"list_size": 1_000, "max_batch_elements": 256, "window": 8, "audience": audience}
    document = sign_document(SEED, b"purposematch session v1", fields)
    with pytest.raises(DecodeError):
        SessionGrant.open(document, identity_public_key(SEED))


def test_a_removal_puts_nobody_in() -> None:
    assert [mode.puts_in for mode in AudienceMode] == [True, True, False]
