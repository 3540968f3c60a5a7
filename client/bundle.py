"""Checks a bundle of a platform's log: its tree, its checkpoint, and every leaf that is opened in it.

Source: `purposematch.protocol.log.bundle`. Everything in the folder is accounted for: a byte more, less or
other anywhere is refused.

Not protected against: an event that is untrue, and one that was never logged; see docs/log.md.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from purposematch.protocol.ciphersuite import ELEMENT_LENGTH
from purposematch.protocol.errors import DecodeError, InputError, PolicyError, VerificationError
from purposematch.protocol.log.bundle import (
    BUNDLE_FILE,
    CHECKPOINT_FILE,
    LEAVES_FOLDER,
    MAX_LEAF_FILE_BYTES,
    BundleHead,
    OpenedLeaf,
    tile_path,
    tiles_of,
)
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import Event, EventKind
from purposematch.protocol.log.note import MAX_NOTE_BYTES
from purposematch.protocol.log.proofs import Subtree
from purposematch.protocol.log.session_proof import manifest_fields
from purposematch.protocol.log.tiles import TILE_HASHES, grown_tiles, in_tiles
from purposematch.protocol.log.tree import HASH_LENGTH
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.policy import Policy
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.strict_json import Fields

__all__ = ["Bundle", "open_bundle"]

_TILE_BYTES: Final = TILE_HASHES * HASH_LENGTH


@dataclass(frozen=True)
class Bundle:
    """A bundle after everything in it was checked.

    Attributes:
        head: whose log it is.
        checkpoint: its state; every tree below is a beginning of it.
        subtree: gives the hash of the tree over leaves `begin` to `end`.
        policies: the leaf of each policy, by digest.
        epochs: the public key of each key epoch.
        ended: of key epochs whose key was destroyed, the leaf that says so.
        manifests: the signed manifests, by the index of their leaf.
    """

    head: BundleHead
    checkpoint: Checkpoint
    subtree: Subtree
    policies: dict[bytes, int]
    epochs: dict[int, bytes]
    ended: dict[int, int]
    manifests: dict[int, SignedDocument]


def open_bundle(folder: Path, identity_key: bytes, platform_id: str | None = None) -> Bundle:
    """Reads a bundle and checks all of it.

    Args:
        folder: as `purposematch-platform audit --bundle` wrote it.
        identity_key: the platform's pinned identity key, 32 bytes.
        platform_id: the platform that it must be of; any if None.

    Raises:
        InputError: there is no such folder, or a file cannot be read.
        VerificationError, DecodeError: something does not hold; the text begins with the file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one that `audit --bundle` wrote")
    with _in_file(BUNDLE_FILE):
        head = BundleHead.decode(_read(folder, BUNDLE_FILE, MAX_LEAF_FILE_BYTES))
        if head.identity_key != identity_key:
            raise VerificationError("the bundle is signed by another identity key than the one you pinned")
        if platform_id not in (None, head.platform_id):
            raise VerificationError("the bundle is of another platform")
    with _in_file(CHECKPOINT_FILE):
        note = _read(folder, CHECKPOINT_FILE, MAX_NOTE_BYTES)
        checkpoint = Checkpoint.open(note, log_origin(head.platform_id), identity_key)
    subtree = _tree(folder, checkpoint)
    bundle = Bundle(head, checkpoint, subtree, {}, {}, {}, {})
    leaves = sorted(_leaf_numbers(folder))
    for index in leaves:
        with _in_file(f"{LEAVES_FOLDER}/{index}.json"):
            _take(bundle, _opened(folder, index))
    _check_manifests(bundle)
    _nothing_else(folder, checkpoint.size, leaves)
    return bundle


def _tree(folder: Path, checkpoint: Checkpoint) -> Subtree:
    """The tree of a checkpoint, after its tiles were checked against one another and against the root."""
    stored: dict[tuple[int, int], bytes] = {}
    for level, index, count in tiles_of(checkpoint.size):
        path = tile_path(level, index, count)
        with _in_file(path):
            content = _read(folder, path, _TILE_BYTES)
            if len(content) != count * HASH_LENGTH:
                raise VerificationError(f"a tile that must hold {count} hashes does not")
            stored[level, index] = content
    lowest = b"".join(content for (level, _), content in stored.items() if level == 0)
    hashes = np.frombuffer(lowest, np.uint8).reshape(-1, HASH_LENGTH)
    for tile in grown_tiles(lambda _level, _index: b"", 0, hashes):
        if stored[tile.level, tile.index] != tile.content:
            path = tile_path(tile.level, tile.index, len(tile.content) // HASH_LENGTH)
            raise VerificationError(f"{path}: the tile does not follow from the leaves below it")
    subtree = in_tiles(lambda level, index: stored.get((level, index), b""))
    if subtree(0, checkpoint.size) != checkpoint.root:
        raise VerificationError("tile/0: the leaves do not lead to the root that the checkpoint signs")
    return subtree


def _leaf_numbers(folder: Path) -> Iterator[int]:
    try:
        names = os.listdir(folder / LEAVES_FOLDER)
    except OSError as error:
        raise InputError(f"{folder / LEAVES_FOLDER}: cannot be read: {error.strerror}") from None
    for name in names:
        number = name.removesuffix(".json")
        # Other names are found to be too many at the end.
        if name.endswith(".json") and number.isascii() and number.isdigit() and str(int(number)) == number:
            yield int(number)


def _opened(folder: Path, index: int) -> OpenedLeaf:
    leaf = OpenedLeaf.decode(_read(folder, f"{LEAVES_FOLDER}/{index}.json", MAX_LEAF_FILE_BYTES))
    if leaf.index != index:
        raise VerificationError("the file names another leaf than its own")
    return leaf


def _take(bundle: Bundle, leaf: OpenedLeaf) -> None:
    """Checks an opened leaf and its document, and adds what it says."""
    if leaf.index >= bundle.checkpoint.size:
        raise VerificationError("the leaf is outside the tree")
    event = leaf.opening.event(bundle.subtree(leaf.index, leaf.index + 1))
    match event.kind, leaf.document, leaf.signature:
        case EventKind.POLICY, bytes() as content, None:
            policy = Policy.from_canonical(content)
            named = (policy.digest.hex(), policy.taxonomy_digest.hex())
            if (event.fields.get("digest"), event.fields.get("taxonomy")) != named:
                raise VerificationError("the policy is not the one that the log names")
            bundle.policies[policy.digest] = leaf.index
        case EventKind.EPOCH, None, None:
            _take_epoch(bundle, leaf.index, event)
        case EventKind.MANIFEST, bytes() as content, bytes() as signature:
            document = SignedDocument(content, signature)
            manifest = Manifest.open(document, bundle.head.identity_key)
            if event.fields != manifest_fields(manifest.name, content):
                raise VerificationError("the manifest is not the one that the log names")
            if manifest.scope.platform_id != bundle.head.platform_id:
                raise VerificationError("the manifest is of another platform")
            bundle.manifests[leaf.index] = document
        case _:
            raise VerificationError(
                "the leaf is of a kind that a bundle does not open, or lacks its document"
            )


def _take_epoch(bundle: Bundle, index: int, event: Event) -> None:
    """Adds a key epoch that began, or that ended and had begun before; each once."""
    if "destroyed" in event.fields:
        fields = Fields(dict(event.fields), "event of a key epoch", ("number", "destroyed"))
        number = fields.integer("number", 1)
        if number not in bundle.epochs or number in bundle.ended:
            raise VerificationError("the log ends a key epoch twice, or one that it did not begin")
        bundle.ended[number] = index
        return
    fields = Fields(dict(event.fields), "event of a key epoch", ("number", "public_key"))
    number = fields.integer("number", 1)
    if number in bundle.epochs:
        raise VerificationError("the log begins a key epoch twice")
    bundle.epochs[number] = fields.hexadecimal("public_key", ELEMENT_LENGTH)


def _check_manifests(bundle: Bundle) -> None:
    """Checks that every manifest names a policy that was logged before it, and the key of its epoch."""
    names = set()
    for index, document in bundle.manifests.items():
        with _in_file(f"{LEAVES_FOLDER}/{index}.json"):
            manifest = Manifest.open(document, bundle.head.identity_key)
            if bundle.policies.get(manifest.policy, index) >= index:
                raise VerificationError("the manifest names a policy that was not logged before it")
            if bundle.epochs.get(manifest.scope.epoch) != manifest.public_key:
                raise VerificationError("the manifest has another key than its epoch in the log, or none")
            if bundle.ended.get(manifest.scope.epoch, index) < index:
                raise VerificationError("the manifest is of an epoch whose key was destroyed before")
            if manifest.name in names:
                raise VerificationError("the log has two manifests of one generation")
            names.add(manifest.name)


def _nothing_else(folder: Path, size: int, leaves: list[int]) -> None:
    expected = {BUNDLE_FILE, CHECKPOINT_FILE, *(f"{LEAVES_FOLDER}/{index}.json" for index in leaves)}
    expected |= {tile_path(*tile) for tile in tiles_of(size)}
    # Folders are nothing of their own, but what is in one that is empty or a link nobody looked at.
    expected |= {parent.as_posix() for path in expected for parent in PurePosixPath(path).parents}
    expected.add(LEAVES_FOLDER)
    found = {
        os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")
        for place, folders, names in os.walk(folder)
        for name in (*folders, *names)
    }
    for path in sorted(found - expected):
        raise VerificationError(f"{path}: the file is no part of a bundle of this tree")


def _read(folder: Path, path: str, most: int) -> bytes:
    try:
        with (folder / path).open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise VerificationError(f"cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise DecodeError(f"longer than {most:,} bytes")
    return content


@contextmanager
def _in_file(path: str) -> Iterator[None]:
    """Puts the file in front of what is wrong with it."""
    try:
        yield
    except PolicyError as error:
        raise VerificationError(f"{path}: {error}") from None
    except (VerificationError, DecodeError) as error:
        raise type(error)(f"{path}: {error}") from None
