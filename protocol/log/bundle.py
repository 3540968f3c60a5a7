"""What an outside auditor is given of a log: every leaf's hash, and openings of those that tell of nobody.

A bundle is a folder::

    bundle.json               format, platform id and identity key
    checkpoint                the signed note, as `GetCheckpoint` gives it
    tile/<L>/<N>[.p/<W>]      all tiles of the checkpoint's tree, in the layout of C2SP tlog-tiles
    leaves/<index>.json       one opened leaf and the document that it names

JSON files are one line of canonical JSON. Opened are the kinds in `OPENED`: the policies and the manifests,
each with its document, and the key epochs. The same registry and checkpoint give the same bytes.

Not protected against: a platform that leaves an opening out. Which leaves are of these kinds, the tree does
not show; a manifest that some advertiser was given and that is missing is found by its receipt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.log.events import SALT_LENGTH, Event, EventKind, Opening
from purposematch.protocol.log.tiles import TILE_HASHES
from purposematch.protocol.log.tree import MAX_LEAVES
from purposematch.protocol.scope import check_platform_id
from purposematch.protocol.signing import MAX_DOCUMENT_LENGTH, PUBLIC_KEY_LENGTH, SIGNATURE_LENGTH
from purposematch.protocol.strict_json import Fields, canonical_json, canonical_object, decode_json

__all__ = [
    "BUNDLE_FILE",
    "CHECKPOINT_FILE",
    "LEAVES_FOLDER",
    "MAX_LEAF_FILE_BYTES",
    "OPENED",
    "BundleHead",
    "OpenedLeaf",
    "tile_path",
    "tiles_of",
]

BUNDLE_FILE: Final = "bundle.json"
CHECKPOINT_FILE: Final = "checkpoint"
LEAVES_FOLDER: Final = "leaves"
OPENED: Final = (EventKind.POLICY, EventKind.EPOCH, EventKind.MANIFEST)
"""The kinds of leaves that are opened. Events of other kinds tell of people, of advertisers, or how many."""

FORMAT: Final = "purposematch bundle v1"
MAX_LEAF_FILE_BYTES: Final = 2 * MAX_DOCUMENT_LENGTH
"""The longest file of an opened leaf, in bytes."""

_MAX_HEAD_BYTES: Final = 4_096
_HEAD: Final = ("format", "platform_id", "identity_key")
_LEAF: Final = ("index", "salt", "event", "document", "signature")


@dataclass(frozen=True, slots=True)
class BundleHead:
    """Whose log it is: the platform's id and its public identity key, 32 bytes."""

    platform_id: str
    identity_key: bytes

    def encode(self) -> bytes:
        """The content of `bundle.json`."""
        return _line(
            {"format": FORMAT, "platform_id": self.platform_id, "identity_key": self.identity_key.hex()}
        )

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """The head in the content of `bundle.json`.

        Raises:
            DecodeError: it is anything else than what `encode` writes.
        """
        fields = Fields(decode_json(content, BUNDLE_FILE, _MAX_HEAD_BYTES), BUNDLE_FILE, _HEAD)
        if fields.text("format") != FORMAT:
            raise DecodeError("the bundle has another format: update purposematch")
        head = cls(fields.text("platform_id"), fields.hexadecimal("identity_key", PUBLIC_KEY_LENGTH))
        check_platform_id(head.platform_id)
        if head.encode() != content:
            raise DecodeError(f"{BUNDLE_FILE} is not canonical JSON")
        return head


@dataclass(frozen=True, slots=True)
class OpenedLeaf:
    """A leaf, what opens it, and the document that its event names.

    Attributes:
        index: where it is, counted from 0.
        opening: what opens it.
        document: canonical JSON of the policy, or the content of the manifest; None where the event is all.
        signature: of the manifest, 64 bytes; None with other documents.
    """

    index: int
    opening: Opening
    document: bytes | None = None
    signature: bytes | None = None

    @property
    def path(self) -> str:
        """Its file in the bundle."""
        return f"{LEAVES_FOLDER}/{self.index}.json"

    def encode(self) -> bytes:
        """The content of its file.

        Raises:
            DecodeError: the opening is of no event, or the document is not JSON.
        """
        document = self.document
        return _line(
            {
                "index": self.index,
                "salt": self.opening.salt.hex(),
                "event": Event.decode(self.opening.content).to_mapping(),
                "document": None
                if document is None
                else decode_json(document, "document", MAX_DOCUMENT_LENGTH),
                "signature": None if self.signature is None else self.signature.hex(),
            }
        )

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """The leaf in the content of a file; nothing is verified yet.

        Raises:
            DecodeError: it is anything else than what `encode` writes.
        """
        what = "file of a leaf"
        fields = Fields(decode_json(content, what, MAX_LEAF_FILE_BYTES), what, _LEAF)
        event = canonical_object(fields.value("event"), "event of a leaf")
        document = fields.value("document")
        unsigned = fields.value("signature") is None
        leaf = cls(
            index=fields.integer("index", 0, MAX_LEAVES - 1),
            opening=Opening(fields.hexadecimal("salt", SALT_LENGTH), event),
            document=None if document is None else canonical_object(document, "document of a leaf"),
            signature=None if unsigned else fields.hexadecimal("signature", SIGNATURE_LENGTH),
        )
        if leaf.encode() != content:
            raise DecodeError("the file of a leaf is not canonical JSON")
        return leaf


def tile_path(level: int, index: int, hashes: int) -> str:
    """Where a tile is: its path as in C2SP tlog-tiles, ending in `.p/<hashes>` for one that is not full."""
    groups = [f"{index % 1_000:03d}"]
    while index := index // 1_000:
        groups.insert(0, f"x{index % 1_000:03d}")
    partial = "" if hashes == TILE_HASHES else f".p/{hashes}"
    return f"tile/{level}/{'/'.join(groups)}{partial}"


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """The tiles of a tree of `size` leaves: level, index, and how many hashes each has, level by level."""
    level = 0
    while size:
        full, rest = divmod(size, TILE_HASHES)
        yield from ((level, index, TILE_HASHES) for index in range(full))
        if rest:
            yield level, full, rest
        level, size = level + 1, full


def _line(document: dict[str, object]) -> bytes:
    return canonical_json(document) + b"\n"
