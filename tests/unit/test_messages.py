"""The messages of a session: golden forms, lengths, and every field that is not of its form."""

import contextlib
import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import IDENTITY, flip, grant, receipt, uniform

from purposematch.protocol.ciphersuite import MAX_PROOF_ELEMENTS, RECEIPT_DOMAIN, SESSION_DOMAIN
from purposematch.protocol.errors import DecodeError, LimitError, PeerError
from purposematch.protocol.messages import (
    MAX_BATCHES,
    MAX_WINDOW,
    CommitEntries,
    EvaluateReply,
    EvaluateRequest,
    Receipt,
    SessionGrant,
)
from purposematch.protocol.signing import SignedDocument, identity_public_key, sign_document

PUBLIC = identity_public_key(IDENTITY)

GOLDEN_GRANT = (
    # SHA-256 of the agreement.
    '{"agreement":"' + "11" * 32 + '",'
    # SHA-256 of the client certificate that the platform saw.
    '"client_certificate":"' + "13" * 32 + '",'
    # Identifiers that the client declared.
    '"list_size":1000,'
    # SHA-256 of the signed manifest.
    '"manifest":"' + "12" * 32 + '",'
    # Elements in one batch at most.
    '"max_batch_elements":4096,'
    # SHA-256 of the platform's certificate.
    '"server_certificate":"' + "14" * 32 + '",'
    # The session's random id.
    '"session":"' + "10" * 16 + '",'
    # Batches without an answer at most.
    '"window":8}'
).encode()
GRANT_SIGNATURE = bytes.fromhex(
    "1233f5cab205b83d8ab33467b8e24239326ae4a6b213934d7ab8c6c265c3c59b"
    "aa6ed6d8087b6c5cebbfd6f7b2bbd6ea28e74a897b66d9daca9a6998ade4c00b"
)

GOLDEN_RECEIPT = (
    # SHA-256 of the agreement.
    '{"agreement":"' + "23" * 32 + '",'
    # The commit's id, chosen by the client.
    '"commit":"' + "21" * 16 + '",'
    # Microseconds since 1970.
    '"committed_at":1700000000000001,'
    # The generation that was matched against.
    '"generation":"' + "22" * 16 + '",'
    # Entries in the commit; never how many were admitted.
    '"received":12,'
    # The session's id.
    '"session":"' + "20" * 16 + '",'
    # The session's transcript hash.
    '"transcript":"' + "24" * 32 + '"}'
).encode()
RECEIPT_SIGNATURE = bytes.fromhex(
    "15ab1712c201e69c53ad5a955b28be04823d552b14c0ae0cc403c239484abbf2"
    "0336c05b1b33134488d07f39c916d3f39499b685a3826ead8d0aa7239ccec704"
)

GOLDEN: dict[Any, tuple[bytes, bytes, bytes, Any]] = {
    SessionGrant: (SESSION_DOMAIN, GOLDEN_GRANT, GRANT_SIGNATURE, grant()),
    Receipt: (RECEIPT_DOMAIN, GOLDEN_RECEIPT, RECEIPT_SIGNATURE, receipt()),
}
kinds = pytest.mark.parametrize("kind", GOLDEN)
FIELDS = [(kind, name) for kind, (_, content, _, _) in GOLDEN.items() for name in json.loads(content)]
HEXADECIMAL = [(kind, name) for kind, name in FIELDS if isinstance(getattr(GOLDEN[kind][3], name), bytes)]
RANGES = {
    (SessionGrant, "list_size"): (1, 2**40),
    (SessionGrant, "max_batch_elements"): (1, MAX_PROOF_ELEMENTS),
    (SessionGrant, "window"): (1, MAX_WINDOW),
    (Receipt, "received"): (0, 2**63 - 1),
    (Receipt, "committed_at"): (0, 2**63 - 1),
}


def signed(kind: Any, **changes: object) -> SignedDocument:
    """The golden document with fields replaced, signed anew; `...` leaves a field out."""
    domain, content, _, _ = GOLDEN[kind]
    fields = {name: value for name, value in (json.loads(content) | changes).items() if value is not ...}
    return sign_document(IDENTITY, domain, fields)


@kinds
def test_the_golden_document_is_written_and_read(kind: Any) -> None:
    _, content, signature, value = GOLDEN[kind]
    assert value.sign(IDENTITY) == SignedDocument(content, signature) == signed(kind)
    assert kind.open(SignedDocument(content, signature), PUBLIC) == value


def test_every_field_is_in_one_of_the_tables_of_these_tests() -> None:
    assert set(FIELDS) == set(HEXADECIMAL) | set(RANGES)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_missing_field_is_refused(kind: Any, name: str) -> None:
    with pytest.raises(DecodeError, match=f"has no {name}"):
        kind.open(signed(kind, **{name: ...}), PUBLIC)


@kinds
@pytest.mark.parametrize("name", ["", "admitted", "Session", "window ", "version"])
def test_an_unknown_field_is_refused(kind: Any, name: str) -> None:
    with pytest.raises(DecodeError):
        kind.open(signed(kind, **{name: 1}), PUBLIC)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_field_of_another_type_is_refused(kind: Any, name: str) -> None:
    for value in (None, True, False, 1.0, 0.5, "1", "text", [], {}, [1], {"a": 1}):
        with pytest.raises(DecodeError):
            kind.open(signed(kind, **{name: value}), PUBLIC)


@pytest.mark.parametrize(("kind", "name"), HEXADECIMAL)
def test_bytes_that_are_not_lower_case_hexadecimal_of_their_length_are_refused(kind: Any, name: str) -> None:
    value = getattr(GOLDEN[kind][3], name).hex()
    for wrong in (
        *("", value[:-1], value[:-2], value + "0", value + "00", "g" + value[1:], " " + value[1:]),
        *("AB" + value[2:], "0x" + value[2:], "\u0661" + value[1:], value[:-1] + "\n", 1),
    ):
        with pytest.raises(DecodeError):
            kind.open(signed(kind, **{name: wrong}), PUBLIC)


@pytest.mark.parametrize(("field", "bounds"), RANGES.items())
def test_an_integer_out_of_range_is_refused(field: tuple[Any, str], bounds: tuple[int, int]) -> None:
    kind, name = field
    least, most = bounds
    for value in bounds:
        assert getattr(kind.open(signed(kind, **{name: value}), PUBLIC), name) == value
    for value in (least - 1, most + 1, 2**64, -(2**63), 10**100):
        with pytest.raises(DecodeError):
            kind.open(signed(kind, **{name: value}), PUBLIC)


# Batches.


def test_a_request_is_read_from_its_bytes() -> None:
    elements = uniform(3, 32)
    request = EvaluateRequest.decode(7, elements.tobytes())
    assert request.number == 7
    assert (request.blinded == elements).all()
    assert request.digest == hashlib.sha256(bytes([0, 0, 0, 7]) + elements.tobytes()).digest()


@given(st.integers(0, 3 * 256 - 1), st.integers(0, MAX_BATCHES), st.integers(0, MAX_BATCHES))
def test_the_digest_of_a_request_covers_every_bit_and_the_number(bit: int, number: int, other: int) -> None:
    content = uniform(3, 32).tobytes()
    digest = EvaluateRequest.decode(number, content).digest
    assert EvaluateRequest.decode(number, content).digest == digest
    assert EvaluateRequest.decode(number, flip(content, bit)).digest != digest
    assert (EvaluateRequest.decode(other, content).digest == digest) is (number == other)


@pytest.mark.parametrize("length", [1, 31, 33, 63, 65])
def test_bytes_that_are_no_whole_elements_are_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        EvaluateRequest.decode(0, bytes(length))
    with pytest.raises(DecodeError):
        EvaluateReply.decode(0, bytes(length), bytes(64))


@pytest.mark.parametrize("number", [-1, MAX_BATCHES + 1, 2**32, 2**63])
def test_a_batch_number_out_of_range_is_refused(number: int) -> None:
    with pytest.raises(LimitError):
        EvaluateRequest.decode(number, bytes(32))


@pytest.mark.parametrize("count", [0, MAX_PROOF_ELEMENTS + 1])
def test_a_batch_has_1_to_65535_elements(count: int) -> None:
    with pytest.raises(LimitError):
        EvaluateRequest.decode(0, bytes(32 * count))


def test_the_smallest_and_the_largest_batch_are_read() -> None:
    for number, count in ((0, 1), (MAX_BATCHES, MAX_PROOF_ELEMENTS)):
        assert EvaluateRequest.decode(number, bytes(32 * count)).blinded.shape == (count, 32)


def test_a_reply_is_read_from_its_bytes() -> None:
    elements, proof = uniform(3, 32), b"\1" * 31 + b"\0" + b"\2" * 31 + b"\0"
    reply = EvaluateReply.decode(7, elements.tobytes(), proof)
    assert (reply.number, reply.proof.encode()) == (7, proof)
    assert (reply.evaluated == elements).all()


@pytest.mark.parametrize("proof", [b"", bytes(63), bytes(65), b"\xff" * 64])
def test_a_reply_with_a_malformed_proof_is_refused(proof: bytes) -> None:
    with pytest.raises(DecodeError):
        EvaluateReply.decode(0, bytes(32), proof)


@given(st.integers(), st.binary(max_size=200), st.binary(max_size=70))
def test_arbitrary_bytes_raise_nothing_outside_the_error_tree(
    number: int, content: bytes, proof: bytes
) -> None:
    for parse in (
        lambda: EvaluateRequest.decode(number, content),
        lambda: EvaluateReply.decode(number, content, proof),
        lambda: CommitEntries.decode(content),
    ):
        with contextlib.suppress(PeerError):
            parse()


# Commits.


@pytest.mark.parametrize("count", [0, 1, 5])
def test_commit_entries_travel_as_tag_and_mac_in_turn(count: int) -> None:
    tags, macs = uniform(count, 16, "tags"), uniform(count, 16, "macs")
    encoded = CommitEntries(tags, macs).encode()
    expected = b"".join(tag.tobytes() + mac.tobytes() for tag, mac in zip(tags, macs, strict=True))
    assert encoded == expected
    decoded = CommitEntries.decode(encoded)
    assert len(decoded) == count
    assert decoded.tags.shape == decoded.macs.shape == (count, 16)
    assert np.array_equal(decoded.tags, tags)
    assert np.array_equal(decoded.macs, macs)


@pytest.mark.parametrize("length", [1, 16, 31, 33, 48])
def test_bytes_that_are_no_whole_commit_entries_are_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        CommitEntries.decode(bytes(length))
