"""What a leaf commits to: events, their openings, and rows of a batch of assertions."""

import hashlib
import json
import struct

import numpy as np
import pyarrow as pa
import pytest
import slow_tree
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.assertions import NO_TIME, Terms
from purposematch.protocol.errors import DecodeError, InputError, PurposematchError, VerificationError
from purposematch.protocol.log.batch import (
    ROW_BYTES,
    AssertionColumns,
    assertion_rows,
    batch_root,
    commit_rows,
    fresh_salts,
    name_digest,
    terms_digest,
)
from purposematch.protocol.log.events import MAX_EVENT_BYTES, Event, EventKind, Opening
from purposematch.protocol.log.proofs import in_memory, inclusion_proof, verify_inclusion
from purposematch.protocol.log.tree import leaf_hashes
from purposematch.protocol.purpose import Origin, Status

AT = 1_750_000_000_000_000
EVENT = Event(EventKind.GENERATION, AT, {"generation": "ab" * 16, "count": 12, "policy": "cd" * 32})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name not in ("kind", "at")), VALUES, max_size=4
)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def random_of(content: bytes):
    return lambda length: content[:length]


def test_the_labels_of_events_are_these() -> None:
    # They are in stored leaves: a label may be added, and never be changed.
    assert [*EventKind] == [
        *("policy", "epoch", "delivery", "decisions", "withdrawal", "objection", "correction", "erasure"),
        *("generation", "agreement", "session", "session_end", "commit", "removal_acknowledgement"),
        *("issuer", "operator_query", "audience_export", "manifest"),
        *("advertiser", "agreement_end", "certificate", "certificate_revocation"),
        *("delegation", "delegation_revocation", "release", "audience_expiry"),
    ]


def test_a_leaf_is_a_salted_commitment_to_canonical_json() -> None:
    opening = Opening.of(EVENT, random_of(b"0123456789abcdef-"))
    content = (
        b'{"at":1750000000000000,"count":12,"generation":"' + b"ab" * 16 + b'",'
        b'"kind":"generation","policy":"' + b"cd" * 32 + b'"}'
    )
    assert opening == Opening(b"0123456789abcdef", content)
    assert opening.commitment() == sha256(b"purposematch log event v1", b"0123456789abcdef", content)
    assert opening.leaf_hash() == sha256(b"\0", opening.commitment())
    assert opening.event(opening.leaf_hash()) == EVENT


@given(kind=st.sampled_from(EventKind), at=st.integers(-(2**63), 2**63 - 1), fields=FIELDS)
def test_events_go_round(kind: EventKind, at: int, fields: dict[str, object]) -> None:
    assert Event.decode(Event(kind, at, fields).content) == Event(kind, at, fields)


def test_every_flipped_bit_of_an_opening_is_refused() -> None:
    opening = Opening.of(EVENT, random_of(bytes(16)))
    leaf = opening.leaf_hash()
    joined = opening.salt + opening.content
    for place in range(8 * len(joined)):
        changed = bytearray(joined)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            Opening(bytes(changed[:16]), bytes(changed[16:])).event(leaf)
    for salt in (b"", joined[:15], joined[:17]):
        with pytest.raises(DecodeError):
            Opening(salt, joined[len(salt) :])


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "policy"},
        {"at": 1},
        {"share": 0.5},
        {"digest": b"bytes"},
        {"count": 2**63},
        {"list": [1, (2,)]},
        {"inner": {"a": {1: "key"}}},
        {"deep": [[[[[[[[["x"]]]]]]]]]},
        {"long": "x" * MAX_EVENT_BYTES},
        {"label": EventKind.POLICY},
    ],
)
def test_what_writers_could_write_differently_is_no_event(fields: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Event(EventKind.POLICY, AT, fields)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b'{"at":1}', b'{"kind":"policy"}', b'{"at":1,"kind":"unheard of"}'),
        *(b'{"at":1,"kind":["policy"]}', b'{"at":true,"kind":"policy"}', b'{"at":1.0,"kind":"policy"}'),
        *(b'{"kind":"policy","at":1}', b'{"at": 1,"kind":"policy"}', b'{"at":1,"at":1,"kind":"policy"}'),
        *(b'{"at":1,"kind":"policy"}\n', b'{"at":1,"kind":"policy","x":1e3}', b'{"at":"1","kind":"policy"}'),
        b'{"at":1,"kind":"policy","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b" " * (MAX_EVENT_BYTES + 1),
    ],
)
def test_bytes_that_are_no_event_are_not_decoded(content: bytes) -> None:
    with pytest.raises(DecodeError):
        Event.decode(content)


@given(content=st.binary(max_size=60) | st.from_type(dict).map(lambda value: json.dumps(str(value)).encode()))
def test_nothing_but_our_errors_comes_of_any_bytes(content: bytes) -> None:
    with pytest.raises(PurposematchError):
        Event.decode(content)


def columns_of(rows: list[dict[str, object]]) -> AssertionColumns:
    def of(name: str, dtype: type) -> np.ndarray:
        return np.array([row[name] for row in rows], dtype)

    def digests(name: str) -> np.ndarray:
        return np.frombuffer(b"".join(row[name] for row in rows), np.uint8).reshape(-1, 32)

    return AssertionColumns(
        id=of("id", np.int64),
        subject=pa.array([row["subject"] for row in rows], pa.string()),
        identifier=pa.array([row["identifier"] for row in rows], pa.binary(16)),
        kind=of("kind", np.uint8),
        terms=digests("terms"),
        notice=pa.array([row["notice"] for row in rows], pa.string()),
        not_before=of("not_before", np.int64),
        expires_at=of("expires_at", np.int64),
        flaw=of("flaw", np.uint8),
        reason=of("reason", np.uint8),
        evidence=of("evidence", np.uint8),
        issuer=digests("issuer"),
        spellings=pa.array([row["spellings"] for row in rows], pa.list_(pa.binary(16))),
        proof=digests("proof"),
    )


BYTE = st.integers(0, 255)
TIME = st.integers(-(2**63), 2**63 - 1)
ROW = st.fixed_dictionaries(
    {
        "id": st.integers(1, 2**63 - 1),
        "subject": st.none() | st.text(st.characters(codec="utf-8"), max_size=80),
        "identifier": st.none() | st.binary(min_size=16, max_size=16),
        **dict.fromkeys(("kind", "flaw", "reason", "evidence"), BYTE),
        "spellings": st.lists(st.binary(min_size=16, max_size=16), max_size=3),
        **dict.fromkeys(("terms", "issuer", "proof"), st.binary(min_size=32, max_size=32)),
        "notice": st.none() | st.text(st.characters(codec="utf-8"), max_size=80),
        **dict.fromkeys(("not_before", "expires_at"), st.just(NO_TIME) | TIME),
    }
)


def row_bytes(row: dict[str, object]) -> bytes:
    """A row as docs/log.md has it."""

    def text(value: str | None) -> bytes:
        return bytes(32) if value is None else sha256(value.encode())

    return (
        struct.pack(">qBBBB", row["id"], row["kind"], row["flaw"], row["reason"], row["evidence"])
        + struct.pack(">qq", row["not_before"], row["expires_at"])
        + (row["identifier"] or bytes(16))
        + (text(row["subject"]) + text(row["notice"]) + row["terms"] + row["issuer"])
        + (sha256(*row["spellings"]) if row["spellings"] else bytes(32))
        + row["proof"]
    )


@given(rows=st.lists(ROW, max_size=12), skip=st.integers(0, 3))
def test_a_row_is_what_the_page_says(rows: list[dict[str, object]], skip: int) -> None:
    columns = columns_of(rows)
    salts = np.random.default_rng(1).integers(256, size=(len(rows), 16), dtype=np.uint8)
    contents = [row_bytes(row) for row in rows]
    commitments = [
        sha256(b"purposematch log assertion v1", salt.tobytes(), content)
        for salt, content in zip(salts, contents, strict=True)
    ]
    assert all(len(content) == ROW_BYTES == 236 for content in contents)
    assert [row.tobytes() for row in assertion_rows(columns)] == contents
    assert [row.tobytes() for row in commit_rows(columns, salts)] == commitments
    assert batch_root(commit_rows(columns, salts)) == slow_tree.root(commitments)
    # A part of the columns, sharing their memory, gives the same part of the rows.
    part = AssertionColumns(**{name: column[skip:] for name, column in vars(columns).items()})
    assert [row.tobytes() for row in assertion_rows(part)] == contents[skip:]


def some_rows(count: int) -> list[dict[str, object]]:
    return [
        {
            **{"id": number + 1, "subject": f"s{number}", "identifier": sha256(b"%d" % number)[:16]},
            **{"kind": 1, "flaw": 0, "reason": 0, "evidence": 0, "terms": bytes(32), "issuer": bytes(32)},
            **{"notice": None, "not_before": NO_TIME, "expires_at": NO_TIME},
            **{"spellings": [], "proof": bytes(32)},
        }
        for number in range(count)
    ]


def test_one_assertion_is_proved_to_be_in_its_delivery() -> None:
    columns = columns_of(some_rows(3_000))
    salts = fresh_salts(3_000, np.random.default_rng(2).bytes)
    commitments = commit_rows(columns, salts)
    root = batch_root(commitments)
    leaves = leaf_hashes(commitments)
    proof = inclusion_proof(in_memory(leaves), 1_234, 3_000)
    content = row_bytes(some_rows(1_235)[-1])
    commitment = sha256(b"purposematch log assertion v1", salts[1_234].tobytes(), content)
    verify_inclusion(sha256(b"\0", commitment), 1_234, 3_000, proof, root)


def test_a_batch_whose_columns_do_not_fit_is_refused() -> None:
    columns = columns_of(some_rows(3))
    with pytest.raises(InputError):
        commit_rows(columns, np.zeros((2, 16), np.uint8))
    for name, column in (
        ("kind", np.zeros(2, np.uint8)),
        ("terms", np.zeros((3, 31), np.uint8)),
        ("terms", np.zeros(3, np.uint8)),
        ("subject", pa.array(["a"])),
        ("identifier", pa.array([b"x" * 17] * 3, pa.binary(17))),
        ("spellings", pa.array([[b"x" * 17]] * 3, pa.list_(pa.binary(17)))),
        ("proof", np.zeros((3, 31), np.uint8)),
    ):
        with pytest.raises(InputError):
            AssertionColumns(**{**vars(columns), name: column})


def test_digests_of_terms_and_names() -> None:
    terms = Terms(("a.b", "c"), Origin.SIGNUP, Status.GRANTED, "crm")
    mapping = b'{"origin":%d,"purposes":["a.b","c"],"source":"crm","status":%d}' % (
        Origin.SIGNUP,
        Status.GRANTED,
    )
    assert terms_digest(terms) == sha256(b"purposematch log terms v1", mapping)
    assert name_digest("crm") == sha256(b"crm")
    assert fresh_salts(2, random_of(bytes(range(32)))).tolist() == [[*range(16)], [*range(16, 32)]]
