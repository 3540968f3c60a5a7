"""Writes what an outside auditor needs to check the log without the registry: `audit --bundle`.

The format is `purposematch.protocol.log.bundle`. Nothing in it tells of a person, an advertiser or a session:
of their leaves there are only the salted hashes.

Not protected against: the sources and issuers of a policy are named in it, as the operator named them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.bundle import (
    BUNDLE_FILE,
    CHECKPOINT_FILE,
    LEAVES_FOLDER,
    OPENED,
    BundleHead,
    OpenedLeaf,
    tile_path,
)
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import EventKind
from purposematch.protocol.log.tiles import grown_tiles
from purposematch.protocol.log.tree import HASH_LENGTH, tree_root
from purposematch.server.checkpoints import sign_checkpoint
from purposematch.server.platform import Platform
from purposematch.server.private_files import fresh_folder
from purposematch.server.registry import log
from purposematch.server.registry.events import stored_row
from purposematch.server.registry.schema import policy

__all__ = ["BundleReport", "write_bundle"]


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What a bundle holds: leaves of its tree, and how many of them are opened."""

    leaves: int
    opened: int


def write_bundle(platform: Platform, out: Path) -> BundleReport:
    """Signs a checkpoint, and writes the bundle of its tree into a folder that is new or empty.

    Raises:
        ConfigurationError: the folder has content or can not be written; nothing is left in it.
        IntegrityError: the log was altered, or an opening or document in question is missing.
    """
    note = sign_checkpoint(platform)
    platform_id = platform.config.platform_id
    signed = Checkpoint.open(note, log_origin(platform_id), platform.identity_key)
    with fresh_folder(out), platform.registry.reading() as connection:
        (out / BUNDLE_FILE).write_bytes(BundleHead(platform_id, platform.identity_key).encode())
        (out / CHECKPOINT_FILE).write_bytes(note)
        (out / LEAVES_FOLDER).mkdir()
        hashes, opened = bytearray(), 0
        for leaf in log.leaves(connection, 0, signed.size):
            hashes += leaf.hash
            if leaf.kind in OPENED:
                told = _opened(platform, connection, leaf)
                (out / told.path).write_bytes(told.encode())
                opened += 1
        _write_tiles(bytes(hashes), signed, out)
    return BundleReport(signed.size, opened)


def _write_tiles(content: bytes, signed: Checkpoint, out: Path) -> None:
    hashes = np.frombuffer(content, np.uint8).reshape(-1, HASH_LENGTH)
    if len(hashes) != signed.size or tree_root(hashes) != signed.root:
        raise IntegrityError("table log_leaf is not what was signed just now: run the audit")
    for tile in grown_tiles(lambda _level, _index: b"", 0, hashes):
        path = out / tile_path(tile.level, tile.index, len(tile.content) // HASH_LENGTH)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tile.content)


def _opened(platform: Platform, connection: Connection, leaf: log.Leaf) -> OpenedLeaf:
    event, opening = leaf.event(), leaf.opening
    if opening is None:
        raise IntegrityError(f"table log_leaf row {leaf.index} has no opening")
    match event.kind:
        case EventKind.POLICY:
            row = stored_row(connection, policy, id=event.fields["id"])
            return OpenedLeaf(leaf.index, opening, row.content)
        case EventKind.MANIFEST:
            document = platform.store.document(str(event.fields["generation"]))
            return OpenedLeaf(leaf.index, opening, document.content, document.signature)
    return OpenedLeaf(leaf.index, opening)
