"""Evidence: its bytes, byte for byte, written here a second time with the standard library."""

import copy
import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey, VerifyKey

from purposematch.protocol.assertions import Terms
from purposematch.protocol.errors import DecodeError, InputError, VerificationError
from purposematch.protocol.evidence import (
    BatchEvidence,
    CollectedAssertion,
    CollectorKey,
    sign_assertion,
    sign_batch,
)
from purposematch.protocol.evidence_bytes import EvidenceColumns, evidence_bytes
from purposematch.protocol.evidence_checks import verify_batch, verify_signatures
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.log.tree import string_leaf_hashes, tree_root
from purposematch.protocol.purpose import DEFAULT_PURPOSE, Origin, Status

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "evidence-v1.json").read_text(encoding="ascii"))
KEY = CollectorKey(bytes.fromhex(VECTORS["key"]))
KINDS = {"email": 1, "phone": 2, "maid": 3}


def text(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()


def slow_message(platform: str, issuer: str, profile: str, case: dict[str, Any]) -> bytes:
    """The bytes as the documentation lists them."""
    purposes = sorted(set(case["purposes"]))
    return b"".join(
        [
            text("purposematch evidence v1"),
            text(platform),
            text(issuer),
            text(case["source"]),
            text(case["subject"]),
            bytes([KINDS[case["kind"]]]),
            text(profile),
            bytes.fromhex(case["digest"]),
            struct.pack(">H", len(purposes)),
            *map(text, purposes),
            text(case["origin"]),
            text(case["status"]),
            text(case["notice"]),
            struct.pack(">q", case["collected_at"]),
            bytes.fromhex(case["salt"]),
        ]
    )


def slow_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as its recursion has it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + slow_root(leaves[:split]) + slow_root(leaves[split:])).digest()


def collected(**changes: Any) -> CollectedAssertion:
    made = CollectedAssertion(
        issuer="signup-service",
        source="default",
        subject="p1",
        kind=Kind.EMAIL,
        digest=hashlib.sha256(b"p1@example.com").digest(),
        purposes=(DEFAULT_PURPOSE,),
        origin=Origin.SIGNUP,
        status=Status.GRANTED,
        notice="ads-7",
        collected_at=1_764_028_800_000_000,
    )
    return replace(made, **changes)


def test_the_published_vectors_hold_with_nothing_but_the_standard_library_and_ed25519() -> None:
    signer = SigningKey(bytes.fromhex(VECTORS["key"]))
    assert bytes(signer.verify_key).hex() == VECTORS["public_key"]
    leaves = []
    for case in VECTORS["assertions"]:
        message = slow_message(VECTORS["platform_id"], VECTORS["issuer"], VECTORS["profile"], case)
        assert message.hex() == case["message"]
        assert signer.sign(message).signature.hex() == case["signature"]
        leaves.append(hashlib.sha256(b"\x00" + message).digest())
    batch, platform, issuer = VECTORS["batch"], VECTORS["platform_id"], VECTORS["issuer"]
    root = slow_root(leaves)
    head = text("purposematch evidence batch v1") + text(platform) + text(issuer)
    message = head + struct.pack(">Q", len(leaves)) + root
    assert (root.hex(), message.hex()) == (batch["root"], batch["message"])
    assert signer.sign(message).signature.hex() == batch["signature"]


def test_the_library_makes_the_published_vectors() -> None:
    cases = VECTORS["assertions"]
    assertions = [
        CollectedAssertion(
            issuer=VECTORS["issuer"],
            source=case["source"],
            subject=case["subject"],
            kind=Kind(KINDS[case["kind"]]),
            digest=bytes.fromhex(case["digest"]),
            purposes=tuple(case["purposes"]),
            origin=Origin.parse(case["origin"]),
            status=Status.parse(case["status"]),
            notice=case["notice"],
            collected_at=case["collected_at"],
        )
        for case in cases
    ]
    platform = VECTORS["platform_id"]
    for case, assertion in zip(cases, assertions, strict=True):
        salt = bytes.fromhex(case["salt"])
        signed = sign_assertion(KEY, platform, Profile.PLAIN, assertion, lambda _, salt=salt: salt)
        assert (signed.salt.hex(), signed.signature.hex()) == (case["salt"], case["signature"])
    salts = b"".join(bytes.fromhex(case["salt"]) for case in cases)
    batch, evidence = sign_batch(KEY, platform, Profile.PLAIN, assertions, lambda _: salts)
    assert batch.root.hex() == VECTORS["batch"]["root"]
    assert batch.signature.hex() == VECTORS["batch"]["signature"]
    assert b"".join(each.salt for each in evidence) == salts


def test_the_bytes_of_one_assertion_field_by_field() -> None:
    assert VECTORS["assertions"][0]["message"] == (
        "0018" + b"purposematch evidence v1".hex()
        + "000b" + b"ads.example".hex()
        + "000e" + b"signup-service".hex()
        + "0007" + b"default".hex()
        + "0002" + b"p1".hex()
        + "01"  # email
        + "0008" + b"plain-v1".hex()
        + hashlib.sha256(b"p1@example.com").hexdigest()
        + "0001"  # one purpose
        + "002a" + b"marketing.advertising.third_party.targeted".hex()
        + "0006" + b"signup".hex()
        + "0007" + b"granted".hex()
        + "0005" + b"ads-7".hex()
        + "0006445ff5ff6000"  # 2025-11-25T00:00:00Z in microseconds
        + "101112131415161718191a1b1c1d1e1f"
    )  # fmt: skip


WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\0"), max_size=6).map(
    str.strip
)
CASES = st.builds(
    CollectedAssertion,
    issuer=st.sampled_from(["a", "signup-service"]),
    source=st.sampled_from(["default", "crm", "!", "~" * 255]),
    subject=WORDS.filter(bool),
    kind=st.sampled_from(Kind),
    digest=st.binary(min_size=32, max_size=32),
    purposes=st.lists(st.sampled_from(["a", "a.b", "b", DEFAULT_PURPOSE]), min_size=1).map(tuple),
    origin=st.sampled_from([origin for origin in Origin if origin]),
    status=st.sampled_from([status for status in Status if status]),
    notice=WORDS,
    collected_at=st.integers(-(2**55), 2**57),
)


@settings(deadline=None)
@given(st.lists(st.tuples(CASES, st.binary(min_size=16, max_size=16)), min_size=1, max_size=5))
def test_many_rows_at_once_have_the_bytes_that_each_has_alone(
    rows: list[tuple[CollectedAssertion, bytes]],
) -> None:
    assertions = [assertion for assertion, _ in rows]
    columns = EvidenceColumns(
        subject=pa.array([each.subject for each in assertions], pa.string()),
        kind=np.array([each.kind for each in assertions], np.uint8),
        digests=np.frombuffer(b"".join(each.digest for each in assertions), np.uint8).reshape(-1, 32),
        terms=np.arange(len(rows)),
        terms_table=[each.terms for each in assertions],
        notice=pa.array([each.notice for each in assertions], pa.string()),
        collected_at=np.array([each.collected_at for each in assertions], np.int64),
        salts=np.frombuffer(b"".join(salt for _, salt in rows), np.uint8).reshape(-1, 16),
    )
    messages = evidence_bytes("birdsite", Profile.META, columns)
    expected = [
        slow_message(
            "birdsite",
            each.issuer,
            "meta-v1",
            {
                "source": each.source,
                "subject": each.subject,
                "kind": each.kind.label,
                "digest": each.digest.hex(),
                "purposes": each.purposes,
                "origin": each.origin.label,
                "status": each.status.label,
                "notice": each.notice,
                "collected_at": each.collected_at,
                "salt": salt.hex(),
            },
        )
        for each, salt in rows
    ]
    assert messages.to_pylist() == expected
    assert [leaf.tobytes() for leaf in string_leaf_hashes(messages)] == [
        hashlib.sha256(b"\x00" + message).digest() for message in expected
    ]


@pytest.mark.parametrize("field", ["subject", "notice", "source", "purposes"])
def test_a_text_that_its_length_can_not_be_written_of_leaves_its_row_without_bytes(field: str) -> None:
    words = {"subject": "p", "notice": "n", "source": "s", "purposes": "a"}

    def message(length: int) -> bytes | None:
        texts = words | {field: words[field] * length}
        terms = Terms((texts["purposes"],), Origin.SIGNUP, Status.GRANTED, texts["source"], "screens")
        columns = EvidenceColumns(
            subject=pa.array([texts["subject"]], pa.string()),
            kind=np.ones(1, np.uint8),
            digests=np.zeros((1, 32), np.uint8),
            terms=np.zeros(1, np.int64),
            terms_table=[terms],
            notice=pa.array([texts["notice"]], pa.string()),
            collected_at=np.zeros(1, np.int64),
            salts=np.zeros((1, 16), np.uint8),
        )
        (made,) = evidence_bytes("birdsite", Profile.PLAIN, columns).to_pylist()
        return made

    assert message(65_535) is not None
    assert message(65_536) is None


@pytest.mark.parametrize("count", [*range(20), 63, 64, 65, 1000])
def test_the_root_is_that_of_the_rfc_whatever_the_number_of_leaves(count: int) -> None:
    leaves = [hashlib.sha256(struct.pack(">I", number)).digest() for number in range(count)]
    assert tree_root(np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, 32)) == slow_root(leaves)


CHANGES = [
    {"issuer": "other"},
    {"source": "crm"},
    {"subject": "p2"},
    {"kind": Kind.MAID},
    {"digest": bytes(32)},
    {"purposes": ("marketing",)},
    {"purposes": (DEFAULT_PURPOSE, "marketing")},
    {"origin": Origin.PROFILE},
    {"status": Status.RENEWED},
    {"notice": ""},
    {"collected_at": 0},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_field_is_signed(changes: dict[str, Any]) -> None:
    def signature(
        assertion: CollectedAssertion, platform: str = "a", profile: Profile = Profile.PLAIN
    ) -> bytes:
        return sign_assertion(KEY, platform, profile, assertion, bytes).signature

    good = signature(collected())
    assert signature(collected(**changes)) != good
    assert good not in (signature(collected(), "b"), signature(collected(), profile=Profile.META))
    assert sign_assertion(KEY, "a", Profile.PLAIN, collected()).signature != good


def test_the_order_and_repetition_of_purposes_does_not_matter() -> None:
    one, other = ("b", "a"), ("a", "b", "a")
    signatures = {
        sign_assertion(KEY, "a", Profile.PLAIN, collected(purposes=purposes), bytes).signature
        for purposes in (one, other)
    }
    assert len(signatures) == 1


def test_signatures_are_checked_each_under_its_own_key() -> None:
    keys = [SigningKey(bytes([number]) * 32) for number in range(3)]
    messages = [b"message %d" % number for number in range(3_000)]
    key_of = np.arange(3_000) % 3
    signatures = np.frombuffer(
        b"".join(keys[n % 3].sign(message).signature for n, message in enumerate(messages)), np.uint8
    ).reshape(-1, 64)
    spoiled = signatures.copy()
    spoiled[[5, 1_500, 2_999], [0, 33, 63]] ^= 1
    entries = pa.array([None if n == 7 else message for n, message in enumerate(messages)], pa.binary())
    holds = verify_signatures([bytes(key.verify_key) for key in keys], key_of, entries, spoiled)
    assert np.flatnonzero(~holds).tolist() == [5, 7, 1_500, 2_999]
    assert not verify_signatures([bytes(keys[0].verify_key)], key_of * 0, entries, signatures)[1]


def test_a_batch_holds_as_a_whole_or_not_at_all() -> None:
    assertions = [collected(subject=f"p{number}") for number in range(1, 6)]
    evidence, _ = sign_batch(KEY, "a", Profile.PLAIN, assertions)
    leaves = np.arange(5 * 32, dtype=np.uint8).reshape(5, 32)
    with pytest.raises(VerificationError, match="not made for the rows"):
        verify_batch(KEY.public_key, "a", evidence, leaves)
    root = tree_root(leaves)
    with pytest.raises(VerificationError, match="not signed with the key"):
        verify_batch(KEY.public_key, "a", replace(evidence, root=root), leaves)


def test_a_signature_over_one_assertion_is_none_over_a_batch() -> None:
    signed = sign_assertion(KEY, "a", Profile.PLAIN, collected())
    evidence, _ = sign_batch(KEY, "a", Profile.PLAIN, [collected()])
    assert signed.signature != evidence.signature
    with pytest.raises(VerificationError):
        verify_batch(
            KEY.public_key, "a", replace(evidence, signature=signed.signature), np.zeros((1, 32), np.uint8)
        )


def test_the_evidence_file_is_read_as_it_was_written() -> None:
    evidence, _ = sign_batch(KEY, "a", Profile.PLAIN, [collected()])
    assert BatchEvidence.from_bytes(evidence.to_bytes()) == evidence


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"issuer":"a"}',
        b'{"issuer":7,"root":"00","signature":"00"}',
        b'{"issuer":"A B","root":"%s","signature":"%s"}' % (b"0" * 64, b"0" * 128),
        b'{"issuer":"a","root":"%s","signature":"%s"}' % (b"0" * 62, b"0" * 128),
        b'{"issuer":"a","root":"%s","signature":"%s"}' % (b"g" * 64, b"0" * 128),
        b'{"issuer":"a","root":"%s","signature":"%s","more":1}' % (b"0" * 64, b"0" * 128),
        b" " * 5_000,
    ],
)
def test_an_evidence_file_of_another_form_is_refused(content: bytes) -> None:
    with pytest.raises(DecodeError):
        BatchEvidence.from_bytes(content)


@given(st.binary(max_size=300))
def test_whatever_an_evidence_file_holds_only_decode_errors_come_out(content: bytes) -> None:
    with pytest.raises(DecodeError):
        BatchEvidence.from_bytes(content)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "Sign Up"},
        {"subject": ""},
        {"subject": " p1"},
        {"notice": "ads-7\n"},
        {"subject": "p\n1"},
        {"subject": "p\r1"},
        {"notice": "ads\0007"},
        {"subject": "p\ud800"},
        {"notice": "\udfff"},
        {"source": ""},
        {"source": "a b"},
        {"source": "crm\u00e9"},
        {"source": "s" * 256},
        {"digest": bytes(31)},
        {"purposes": ()},
        {"purposes": ("Marketing",)},
        {"origin": Origin.UNKNOWN},
        {"status": Status.UNREADABLE},
        {"collected_at": 2**63},
        {"collected_at": -(2**56)},
    ],
    ids=str,
)
def test_what_a_platform_could_not_read_is_not_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        collected(**changes)


def test_texts_that_are_too_long_and_platforms_that_are_none_are_not_signed() -> None:
    for changes in ({"subject": "p" * 65_536}, {"notice": "n" * 65_536}):
        with pytest.raises(InputError, match="too long"):
            sign_assertion(KEY, "a", Profile.PLAIN, collected(**changes))
    with pytest.raises(InputError, match="platform id"):
        sign_assertion(KEY, "A platform", Profile.PLAIN, collected())
    with pytest.raises(InputError, match="one issuer"):
        sign_batch(KEY, "a", Profile.PLAIN, [collected(), collected(issuer="other")])
    with pytest.raises(InputError, match="one issuer"):
        sign_batch(KEY, "a", Profile.PLAIN, [])


def test_a_collectors_key_shows_and_gives_away_nothing() -> None:
    key = CollectorKey.generate()
    assert repr(key) == f"{key}" == "CollectorKey(..)"
    with pytest.raises(TypeError):
        copy.copy(key)
    assert len(key.public_key) == 32
    signed = sign_assertion(key, "a", Profile.PLAIN, collected())
    assert len(signed.signature) == 64
    assert VerifyKey(key.public_key)
    assert "p1" not in repr(collected())
