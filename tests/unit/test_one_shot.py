"""One session's match by VOLE without I/O: the binding, sizes, labels, canaries, and who can meet at all."""

import hashlib
import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import AGREEMENT, IDENTITY, SCOPE, grant, manifest, private_inputs, receipt
from vole_match import Pair, exchange, stream

from purposematch.client.one_shot import engine_to_ask_for
from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.canary import CANARY_COUNT, canary_inputs
from purposematch.protocol.errors import (
    ConfigurationError,
    DecodeError,
    LimitError,
    RefusedError,
    VerificationError,
)
from purposematch.protocol.group import default_group
from purposematch.protocol.leak_sheet import leak_sheet
from purposematch.protocol.match_engine import EXPERIMENTAL, EngineChoice, MatchEngine, is_cheaper
from purposematch.protocol.messages import Receipt, SessionGrant
from purposematch.protocol.one_shot import (
    binding,
    demand_canaries,
    first_result_chunk,
    label_length,
    receives,
    sizes,
    why_too_large,
)
from purposematch.protocol.scope import Scope
from purposematch.protocol.signing import identity_public_key, sign_document
from purposematch.protocol.transcript import transcript_hash
from purposematch.protocol.vole.engine import open_engine, why_unavailable
from purposematch.protocol.vole.parameters import MAX_RECEIVER, Parameters

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/one-shot-v1.json").read_text())
EXPERIMENTAL_AGREEMENT = replace(AGREEMENT, allow_experimental=True)


# ---- The binding.


def test_the_binding_is_the_documented_one() -> None:
    info = SCOPE.info()
    expected = b"purposematch one-shot v1" + len(info).to_bytes(2, "big") + info
    expected += b"\x30" * 32 + b"\x10" * 16 + b"\x13" * 32 + b"\x14" * 32
    assert binding(SCOPE, b"\x30" * 32, grant()) == expected


@pytest.mark.parametrize("vector", VECTORS["bindings"], ids=lambda vector: vector["name"])
def test_bindings_are_those_of_the_vectors(vector: dict[str, str]) -> None:
    scope = Scope.from_mapping(vector["scope"])
    named = replace(
        grant(),
        session=bytes.fromhex(vector["session"]),
        client_certificate=bytes.fromhex(vector["client_certificate"]),
        server_certificate=bytes.fromhex(vector["server_certificate"]),
    )
    made = binding(scope, bytes.fromhex(vector["agreement"]), named)
    assert made.hex() == vector["binding"]
    # The same by hand.
    told: Any = vector["scope"]
    texts = [told[name].encode() for name in ("platform_id", "purpose", "profile")]
    info = b"purposematch scope v1" + b"".join(struct.pack(">H", len(text)) + text for text in texts)
    info += struct.pack(">Q", told["epoch"])
    digests = [vector[name] for name in ("agreement", "session", "client_certificate", "server_certificate")]
    by_hand = b"purposematch one-shot v1" + struct.pack(">H", len(info)) + info
    assert made == by_hand + bytes.fromhex("".join(digests))
    assert hashlib.sha256(made).hexdigest() == vector["sha256"]


scopes = st.builds(
    Scope,
    platform_id=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,5}", fullmatch=True),
    purpose=st.from_regex(r"[a-z0-9_]{1,5}(\.[a-z0-9_]{1,5}){0,2}", fullmatch=True),
    profile=st.just(SCOPE.profile),
    epoch=st.integers(0, 3),
)
named = st.tuples(scopes, *(st.binary(min_size=size, max_size=size) for size in (32, 16, 32, 32)))


@given(named, named)
def test_two_bindings_are_equal_only_where_everything_is(
    one: tuple[Scope, bytes, bytes, bytes, bytes], other: tuple[Scope, bytes, bytes, bytes, bytes]
) -> None:
    def bound(scope: Scope, agreement: bytes, session: bytes, client: bytes, server: bytes) -> bytes:
        fields = {"session": session, "client_certificate": client, "server_certificate": server}
        return binding(scope, agreement, replace(grant(), **fields))

    assert (bound(*one) == bound(*other)) == (one == other)


# ---- Who can meet.

ENGINE = why_unavailable(os.environ) is None
NUMBERS = range(40)


def met(disclosure: Disclosure, theirs: Callable[[bytes], bytes] = lambda bound: bound) -> int:
    """How many items both sides have in common, the platform having another binding."""
    declared = sizes(disclosure, replace(grant(), list_size=40), replace(manifest(), count=40))
    engine = open_engine(default_group(1, os.environ), os.environ)
    items = np.concatenate([private_inputs(NUMBERS), canary_inputs(manifest().generation)])
    bound = binding(SCOPE, AGREEMENT.digest, grant())
    labels = np.zeros((len(items), label_length(disclosure)), np.uint8) if receives(disclosure) else None
    own, other = (bound, theirs(bound)) if receives(disclosure) else (theirs(bound), bound)
    receiver = engine.receiver(declared, items, own, stream("receiver"))
    sender = engine.sender(declared, items, other, stream("sender"), labels)
    both = exchange(Pair(receiver, sender))
    return len(both.receiver.matches().rows)


@pytest.mark.skipif(not ENGINE, reason="no VOLE engine here")
@pytest.mark.parametrize("disclosure", [Disclosure.BOTH, Disclosure.ADVERTISER, Disclosure.PLATFORM])
def test_lists_under_one_binding_meet(disclosure: Disclosure) -> None:
    assert met(disclosure) == len(NUMBERS) + CANARY_COUNT


OTHERS = {
    "purpose": binding(replace(SCOPE, purpose="marketing.advertising"), AGREEMENT.digest, grant()),
    "epoch": binding(replace(SCOPE, epoch=SCOPE.epoch + 1), AGREEMENT.digest, grant()),
    "platform": binding(replace(SCOPE, platform_id="otherbirds"), AGREEMENT.digest, grant()),
    "agreement": binding(SCOPE, replace(AGREEMENT, number=2).digest, grant()),
    "session": binding(SCOPE, AGREEMENT.digest, replace(grant(), session=b"\x77" * 16)),
    "client": binding(SCOPE, AGREEMENT.digest, replace(grant(), client_certificate=b"\x77" * 32)),
    "server": binding(SCOPE, AGREEMENT.digest, replace(grant(), server_certificate=b"\x77" * 32)),
}


@pytest.mark.skipif(not ENGINE, reason="no VOLE engine here")
@pytest.mark.parametrize("disclosure", [Disclosure.BOTH, Disclosure.PLATFORM])
@pytest.mark.parametrize("what", list(OTHERS))
def test_another_purpose_epoch_agreement_or_session_can_not_meet(disclosure: Disclosure, what: str) -> None:
    with pytest.raises(VerificationError, match="transcripts"):
        met(disclosure, lambda bound: OTHERS[what])


# ---- Sizes and canaries.


def test_sizes_follow_from_grant_and_manifest() -> None:
    own, others = 1_000 + CANARY_COUNT, manifest().count + CANARY_COUNT
    assert sizes(Disclosure.BOTH, grant(), manifest()) == Parameters(own, others, 32)
    assert sizes(Disclosure.ADVERTISER, grant(), manifest()) == Parameters(own, others, 16)
    assert sizes(Disclosure.PLATFORM, grant(), manifest()) == Parameters(others, own, 0)
    with pytest.raises(RefusedError, match="count"):
        sizes(Disclosure.COUNT, grant(), manifest())


def test_lists_that_are_too_large_are_told_before_anything_is_computed() -> None:
    most = MAX_RECEIVER - CANARY_COUNT
    assert why_too_large(Disclosure.BOTH, most, 10**9) is None
    assert "16,777,152" in str(why_too_large(Disclosure.BOTH, most + 1, 1))
    assert why_too_large(Disclosure.PLATFORM, most + 1, 1) is None
    assert why_too_large(Disclosure.PLATFORM, 1, most + 1) is not None
    with pytest.raises(LimitError):
        sizes(Disclosure.BOTH, replace(grant(), list_size=most + 1), manifest())


def test_results_follow_from_the_outputs_on() -> None:
    declared = sizes(Disclosure.BOTH, grant(), manifest())
    spoken = [message for message in declared.messages if message.speaker.value == "sender"]
    assert [message.name for message in spoken] == ["opening", "extension", "outputs", "labels", "closing"]
    assert first_result_chunk(declared) == sum(message.chunks for message in spoken[:2]) == 2


def test_every_canary_is_demanded() -> None:
    rows = np.array([0, 3, *range(10, 10 + CANARY_COUNT)])
    assert demand_canaries(rows, 10).tolist() == [True, True] + [False] * CANARY_COUNT
    for missing in (rows[:-1], rows[:2], rows[3:], np.empty(0, np.int64)):
        with pytest.raises(VerificationError, match="canaries"):
            demand_canaries(missing, 10)


# ---- What is signed names the engine.


def test_a_grant_and_a_receipt_name_the_engine_where_it_is_not_the_usual_one() -> None:
    key = identity_public_key(IDENTITY)
    by_vole = replace(grant(), engine=MatchEngine.VOLE)
    assert SessionGrant.open(by_vole.sign(IDENTITY), key) == by_vole
    assert b'"engine":"vole"' in by_vole.sign(IDENTITY).content
    assert b"engine" not in grant().sign(IDENTITY).content
    told = replace(receipt(), engine=MatchEngine.VOLE)
    assert Receipt.open(told.sign(IDENTITY), key) == told
    assert b"engine" not in receipt().sign(IDENTITY).content
    assert transcript_hash(by_vole) != transcript_hash(grant())
    delegated = replace(by_vole, delegation=b"\x50" * 32)
    assert (
        len(
            {
                transcript_hash(each)
                for each in (by_vole, delegated, replace(grant(), delegation=b"\x50" * 32))
            }
        )
        == 3
    )


@pytest.mark.parametrize("engine", ["oprf", "other", 1, None, True])
def test_a_grant_with_another_engine_is_refused(engine: object) -> None:
    mapping = json.loads(grant().sign(IDENTITY).content) | {"engine": engine}
    document = sign_document(IDENTITY, b"purposematch session v1", mapping)
    with pytest.raises(DecodeError):
        SessionGrant.parse(document.content)


# ---- What an agreement allows.


def test_an_agreement_says_that_it_allows_experimental_engines_or_nothing() -> None:
    assert b"allow_experimental" not in AGREEMENT.canonical_bytes()
    assert b'"allow_experimental":true' in EXPERIMENTAL_AGREEMENT.canonical_bytes()
    assert Agreement.decode(EXPERIMENTAL_AGREEMENT.canonical_bytes()) == EXPERIMENTAL_AGREEMENT
    assert EXPERIMENTAL_AGREEMENT.digest != AGREEMENT.digest
    for wrong in (False, 1, "true", None):
        with pytest.raises(DecodeError):
            Agreement.from_mapping(AGREEMENT.to_mapping() | {"allow_experimental": wrong})
    with pytest.raises(DecodeError, match="count"):
        replace(
            EXPERIMENTAL_AGREEMENT,
            disclosure=Disclosure.COUNT,
            release_epsilon=250_000,
            identifiers_per_subject=2,
        )


def test_the_leak_sheet_says_that_it_is_experimental() -> None:
    sheet = leak_sheet(EXPERIMENTAL_AGREEMENT, 10)
    assert EXPERIMENTAL in sheet
    assert "cause wrong results" in sheet
    assert "counts as another list" in sheet
    assert EXPERIMENTAL not in leak_sheet(AGREEMENT, 10)


def test_guesses_are_counted_as_a_cheating_receiver_makes_them() -> None:
    """As many items as slots: of a day's quota in one session, and in many."""
    terms = replace(EXPERIMENTAL_AGREEMENT, daily_sessions=1)
    slots = Parameters(terms.daily_elements + CANARY_COUNT, 0).slots
    assert terms.daily_guesses == slots
    terms = replace(EXPERIMENTAL_AGREEMENT, daily_sessions=100)
    each = Parameters(terms.daily_elements // 100 + CANARY_COUNT, 0).slots
    assert 100 * each - 100 <= terms.daily_guesses <= 100 * each
    noisy = replace(EXPERIMENTAL_AGREEMENT, disclosure=Disclosure.PLATFORM, release_epsilon=250_000)
    assert noisy.daily_guesses == noisy.daily_elements


def test_what_can_be_asked_for() -> None:
    here = {"PURPOSEMATCH_GROUP": "sodium"}
    assert engine_to_ask_for(EngineChoice.OPRF, EXPERIMENTAL_AGREEMENT, os.environ) is EngineChoice.OPRF
    assert engine_to_ask_for(EngineChoice.AUTO, AGREEMENT, os.environ) is EngineChoice.OPRF
    assert engine_to_ask_for(EngineChoice.AUTO, EXPERIMENTAL_AGREEMENT, here) is EngineChoice.OPRF
    with pytest.raises(RefusedError, match="does not allow"):
        engine_to_ask_for(EngineChoice.VOLE, AGREEMENT, os.environ)
    with pytest.raises(ConfigurationError, match="sodium"):
        engine_to_ask_for(EngineChoice.VOLE, EXPERIMENTAL_AGREEMENT, here)
    if ENGINE:
        for choice in (EngineChoice.AUTO, EngineChoice.VOLE):
            assert engine_to_ask_for(choice, EXPERIMENTAL_AGREEMENT, os.environ) is choice


@pytest.mark.parametrize(
    ("list_size", "enrolled", "cached", "noisy", "cheaper"),
    [
        (1_000_000, 1_000_000, 0, False, True),
        (1_000_000, 1_000_000, 1_000_000, False, True),
        (1_000, 1_000, 0, False, False),
        (1_000, 100_000_000, 100_000_000, False, False),
        (100_000, 100_000_000, 100_000_000, False, False),
        (10_000_000, 100_000_000, 100_000_000, False, True),
        (1_000, 1_000_000, 1_000_000, True, True),
        (1_000, 1_000, 1_000, True, False),
    ],
)
def test_the_rule_of_auto(list_size: int, enrolled: int, cached: int, noisy: bool, cheaper: bool) -> None:
    assert is_cheaper(list_size, enrolled, cached, noisy=noisy) is cheaper


@given(st.integers(1, 10**8), st.integers(0, 10**8), st.integers(0, 10**8), st.booleans())
def test_what_is_cached_never_makes_vole_cheaper(size: int, enrolled: int, cached: int, noisy: bool) -> None:
    if is_cheaper(size, enrolled, cached, noisy=noisy):
        assert is_cheaper(size, enrolled, cached // 2, noisy=noisy)
        assert is_cheaper(2 * size, enrolled, cached, noisy=noisy)
