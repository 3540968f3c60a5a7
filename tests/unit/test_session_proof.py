"""What a session is shown of the log, and what a bundle is made of: formats, and what is refused."""

import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.client.bundle import open_bundle
from purposematch.protocol.errors import DecodeError, InputError, VerificationError
from purposematch.protocol.log.bundle import BundleHead, OpenedLeaf, tile_path, tiles_of
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import Event, EventKind, Opening
from purposematch.protocol.log.proofs import in_memory, inclusion_proof
from purposematch.protocol.log.session_proof import (
    LeafProof,
    SessionProof,
    manifest_fields,
    session_fields,
)
from purposematch.protocol.log.tiles import grown_tiles
from purposematch.protocol.signing import IdentitySeed, identity_public_key
from purposematch.protocol.strict_json import canonical_object, decode_json

SEED = IdentitySeed(b"\3" * 32)
KEY = identity_public_key(SEED)
ORIGIN = log_origin("birdsite")
GENERATION = "ab" * 16
MANIFEST = manifest_fields(GENERATION, b"{}")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*"abc", "index", "salt"]), inner)
    ),
    max_leaves=12,
)


def session(place: int, **changes: Any) -> dict[str, object]:
    fields: dict[str, Any] = {
        "session": "cd" * 16,
        "advertiser": "acme",
        "fingerprint": bytes(32),
        "agreement": bytes(32),
        "generation": GENERATION,
        "elements": 1_000,
        "grant": b"{}",
        "log_size": place,
    }
    return session_fields(**(fields | changes))


def proof(*, place: int = 5, said: dict[str, object] | None = None, kind: str = "session") -> SessionProof:
    """In a log of nine leaves, in which the manifest is at place 2."""
    events = [Event(EventKind.OPERATOR_QUERY, number, {}) for number in range(9)]
    events[2] = Event(EventKind.MANIFEST, 2, MANIFEST)
    events[place] = Event(EventKind(kind), 5, session(place) if said is None else said)
    openings = [Opening.of(event, secrets.token_bytes) for event in events]
    content = b"".join(opening.leaf_hash() for opening in openings)
    hashes = np.frombuffer(content, np.uint8).reshape(-1, 32)
    subtree = in_memory(hashes)
    leaves = [LeafProof(index, openings[index], inclusion_proof(subtree, index, 9)) for index in (place, 2)]
    return SessionProof(Checkpoint(ORIGIN, 9, subtree(0, 9)).sign(SEED), *leaves)


def test_a_proof_that_holds_gives_the_checkpoint() -> None:
    shown = proof()
    checkpoint = shown.check(ORIGIN, KEY, session(5), MANIFEST)
    assert checkpoint.size == 9
    assert SessionProof.from_mapping(shown.to_mapping()) == shown


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (proof(kind="commit"), "of the kind session"),
        (proof(said=session(4)), "not where it says"),
        (proof(said=session(5, generation="00" * 16)), "another generation"),
        (proof(said=session(5, elements=999)), "something else about the session"),
        (proof(said=session(5) | {"more": 1}), "something else about the session"),
    ],
)
def test_a_leaf_that_says_something_else_is_refused(shown: SessionProof, text: str) -> None:
    with pytest.raises(VerificationError, match=text):
        shown.check(ORIGIN, KEY, session(5), MANIFEST)


def test_another_manifest_key_or_log_is_refused() -> None:
    shown = proof()
    with pytest.raises(VerificationError, match="something else about the manifest"):
        shown.check(ORIGIN, KEY, session(5), manifest_fields(GENERATION, b"[]"))
    with pytest.raises(VerificationError, match="not signed"):
        shown.open(ORIGIN, identity_public_key(IdentitySeed(b"\4" * 32)))
    with pytest.raises(VerificationError, match="not signed"):
        shown.open(log_origin("otherbirds"), KEY)


@given(JSON)
def test_only_what_was_written_is_read(value: object) -> None:
    for read in (SessionProof.from_mapping, LeafProof.from_mapping):
        with pytest.raises(DecodeError):
            read(value)


@given(st.sampled_from(["checkpoint", "session", "manifest"]), JSON)
def test_a_proof_with_another_field_is_refused(name: str, value: object) -> None:
    mapping = proof().to_mapping() | {name: value}
    if isinstance(value, str) and name == "checkpoint":
        with pytest.raises((DecodeError, VerificationError)):
            SessionProof.from_mapping(mapping).open(ORIGIN, KEY)
    else:
        with pytest.raises(DecodeError):
            SessionProof.from_mapping(mapping)


@given(st.binary(max_size=200))
def test_files_of_a_bundle_that_are_none_are_refused(content: bytes) -> None:
    for read in (BundleHead.decode, OpenedLeaf.decode):
        with pytest.raises(DecodeError):
            read(content)


def test_what_is_nested_too_deeply_is_refused() -> None:
    for depth in (10, 500, 900, 990, 5_000, 100_000):
        content = b'{"a":' * depth + b"1" + b"}" * depth
        try:
            value = decode_json(content, "document", 10**7)
            assert canonical_object(value, "document") == content
        except DecodeError:
            assert depth > 10


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        # From C2SP tlog-tiles.
        ((0, 1_234_067, 256), "tile/0/x001/x234/067"),
        ((0, 0, 256), "tile/0/000"),
        ((1, 0, 1), "tile/1/000.p/1"),
        ((2, 999, 255), "tile/2/999.p/255"),
        ((0, 1_000, 256), "tile/0/x001/000"),
    ],
)
def test_tiles_have_the_paths_of_the_specification(tile: tuple[int, int, int], path: str) -> None:
    assert tile_path(*tile) == path


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000])
def test_the_tiles_of_a_size_are_those_that_grow(size: int) -> None:
    hashes = np.zeros((size, 32), np.uint8)
    grown = grown_tiles(lambda _level, _index: b"", 0, hashes)
    assert list(tiles_of(size)) == [(tile.level, tile.index, len(tile.content) // 32) for tile in grown]


def _bundle(folder: Path, size: int) -> Path:
    hashes = np.zeros((size, 32), np.uint8)
    (folder / "leaves").mkdir(parents=True)
    (folder / "bundle.json").write_bytes(BundleHead("birdsite", KEY).encode())
    (folder / "checkpoint").write_bytes(Checkpoint(ORIGIN, size, in_memory(hashes)(0, size)).sign(SEED))
    for tile in grown_tiles(lambda _level, _index: b"", 0, hashes):
        path = folder / tile_path(tile.level, tile.index, len(tile.content) // 32)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tile.content)
    return folder


@pytest.mark.parametrize("size", [0, 1, 256, 300])
def test_a_bundle_without_openings_is_one(tmp_path: Path, size: int) -> None:
    found = open_bundle(_bundle(tmp_path / "bundle", size), KEY)
    assert found.checkpoint.size == size
    assert not found.policies
    assert not found.manifests


def test_a_checkpoint_of_a_monstrous_tree_costs_nothing(tmp_path: Path) -> None:
    folder = _bundle(tmp_path / "bundle", 3)
    (folder / "checkpoint").write_bytes(Checkpoint(ORIGIN, 2**62, bytes(32)).sign(SEED))
    with pytest.raises(VerificationError, match="tile/0/000: "):
        open_bundle(folder, KEY)


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="audit --bundle"):
        open_bundle(tmp_path / "none", KEY)


@pytest.mark.parametrize("kind", ["session", "generation", "operator_query"])
def test_a_bundle_opens_nothing_else(tmp_path: Path, kind: str) -> None:
    opening = Opening.of(Event(EventKind(kind), 1, {"a": 1}), secrets.token_bytes)
    hashes = np.frombuffer(opening.leaf_hash(), np.uint8).reshape(1, 32)
    folder = _bundle(tmp_path / "bundle", 1)
    (folder / "checkpoint").write_bytes(Checkpoint(ORIGIN, 1, in_memory(hashes)(0, 1)).sign(SEED))
    (folder / "tile/0/000.p/1").write_bytes(hashes.tobytes())
    assert open_bundle(folder, KEY).checkpoint.size == 1
    leaf = OpenedLeaf(0, opening)
    (folder / leaf.path).write_bytes(leaf.encode())
    with pytest.raises(VerificationError, match=r"leaves/0\.json: the leaf is of a kind"):
        open_bundle(folder, KEY)
