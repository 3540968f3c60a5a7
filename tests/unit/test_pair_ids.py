"""PAIR's key chain: the vectors, an independent computation, the flow of two clean rooms, and bad input."""

import base64
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slow_poprf as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import rows

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import Bytes, Group
from purposematch.protocol.identifiers import Kind, Profile, canonical_value
from purposematch.protocol.pair_ids import PairKey, PairSalt, add_key, pair_ids, remove_key
from purposematch.protocol.scalars import GROUP_ORDER

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "pair.json").read_text())[
    "ristretto255"
]


def _bytes(name: str) -> bytes:
    return base64.b64decode(VECTORS[name])


SALT = PairSalt(_bytes("Ks_b64"))
ADVERTISER = PairKey.decode(_bytes("Ka_scalar_b64"))
PUBLISHER = PairKey.decode(_bytes("Kp_scalar_b64"))
ROWS = VECTORS["rows"]
DIGESTS = rows(hashlib.sha256(row["id"].encode()).digest() for row in ROWS)


def texts(ids: Bytes) -> list[str]:
    """Ids as texts."""
    return [row.tobytes().decode("ascii") for row in ids]


def ids_of(*words: str) -> Bytes:
    """Texts as ids."""
    return rows((word.encode("ascii") for word in words), 44)


def test_the_vectors(group: Group) -> None:
    ours = pair_ids(group, SALT, ADVERTISER, DIGESTS)
    theirs = pair_ids(group, SALT, PUBLISHER, DIGESTS)
    assert texts(ours) == [row["KsKa"] for row in ROWS]
    assert texts(theirs) == [row["KsKp"] for row in ROWS]
    expected = [row["PAIR"] for row in ROWS]
    assert texts(add_key(group, PUBLISHER, ours)) == texts(add_key(group, ADVERTISER, theirs)) == expected
    assert texts(remove_key(group, ADVERTISER, ids_of(*expected))) == texts(theirs)
    assert texts(remove_key(group, PUBLISHER, ids_of(*expected))) == texts(ours)


@given(
    st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(1, GROUP_ORDER - 1)
)
@settings(max_examples=15)
def test_an_id_is_what_the_rule_says(group: Group, salt: bytes, digest: bytes, key: int) -> None:
    """Against the rule in plain Python, on an implementation of RFC 9496 of its own."""
    salted = hashlib.sha256(salt + digest.hex().encode()).digest()
    point = slow.multiply(key, slow.one_way_map(hashlib.sha512(salted).digest()))
    expected = base64.b64encode(slow.encode(point)).decode()
    found = pair_ids(group, PairSalt(salt), PairKey.decode(key.to_bytes(32, "little")), rows([digest]))
    assert texts(found) == [expected]


def test_a_raw_value_reaches_its_id_through_the_profile_of_pair(group: Group) -> None:
    """Lower case and nothing else, as the specification says."""
    canonical = canonical_value("User@Example.COM", Kind.EMAIL, Profile.PAIR)
    digest = rows([hashlib.sha256(canonical.encode()).digest()])
    assert texts(pair_ids(group, SALT, ADVERTISER, digest)) == [ROWS[0]["KsKa"]]


def test_two_clean_rooms_find_what_they_share(group: Group) -> None:
    """The whole flow, both sides with fresh keys, on lists that overlap in 300 of 1,000."""
    salt = PairSalt.generate(secrets.token_bytes)
    ours, theirs = PairKey.generate(secrets.token_bytes), PairKey.generate(secrets.token_bytes)
    people = rows(hashlib.sha256(b"%d@example.com" % i).digest() for i in range(1_700))
    listed, published = people[:1_000], people[700:]
    twice = add_key(group, theirs, pair_ids(group, salt, ours, listed))
    reverse = add_key(group, ours, pair_ids(group, salt, theirs, published))
    matched = set(texts(twice)) & set(texts(reverse))
    assert len(matched) == 300
    activated = texts(remove_key(group, ours, ids_of(*sorted(matched))))
    assert set(activated) == set(texts(pair_ids(group, salt, theirs, people[700:1_000])))
    # Another salt is another world.
    other = pair_ids(group, PairSalt.generate(secrets.token_bytes), theirs, people[700:1_000])
    assert not set(activated) & set(texts(other))


def test_nobody_is_no_ids(group: Group) -> None:
    nobody = np.empty((0, 32), np.uint8)
    ids = pair_ids(group, SALT, ADVERTISER, nobody)
    assert ids.shape == (0, 44)
    assert add_key(group, PUBLISHER, ids).shape == (0, 44)


GOOD = ROWS[0]["KsKa"]


@pytest.mark.parametrize(
    "text",
    [
        GOOD[:-1] + "A",
        GOOD[:-2] + "==",
        # The same bytes for a lax reader: two bits more than there are.
        GOOD[:-2] + chr(ord(GOOD[-2]) + 1) + "=",
        GOOD.replace("+", "-") if "+" in GOOD else "-" + GOOD[1:],
        " " + GOOD[1:],
        GOOD[:20] + "\n" + GOOD[21:],
        GOOD[:10] + "=" + GOOD[11:],
        # The identity, and no element.
        "A" * 43 + "=",
        "/" * 42 + "8=",
    ],
)
def test_what_is_no_id_is_refused(group: Group, text: str) -> None:
    for change in (add_key, remove_key):
        with pytest.raises(DecodeError):
            change(group, PUBLISHER, ids_of(GOOD, text))
        with pytest.raises(DecodeError):
            change(group, PUBLISHER, ids_of(GOOD)[:, :43])


@pytest.mark.parametrize(
    "encoded", [bytes(32), GROUP_ORDER.to_bytes(32, "little"), b"\xff" * 32, bytes(31), b"\1" * 33, b""]
)
def test_what_is_no_scalar_is_no_key(encoded: bytes) -> None:
    with pytest.raises(DecodeError):
        PairKey.decode(encoded)


def test_keys_and_salts_show_nothing_and_are_not_those_of_a_scope() -> None:
    for secret in (SALT, PUBLISHER):
        assert repr(secret) == f"{type(secret).__name__}(..)"
    with pytest.raises(DecodeError, match="33 bytes long"):
        PairSalt(bytes(33))
