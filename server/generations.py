"""The store of published generations: a folder each, immutable, read by memory map.

::

    generations/segments/<sha256>             the public index, content-addressed, shared by generations
    generations/<generation>/manifest.json    what was signed, byte for byte
    generations/<generation>/manifest.sig
    generations/<generation>/tags             sorted by tag, 16 bytes a row, canaries included
    generations/<generation>/tokens           32 bytes a row, in the same order
    generations/<generation>/identifiers      keyed digests, 16 bytes a row; zeros for a canary
    generations/<generation>/granting_ends    where each row's part of `granting` ends, int64
    generations/<generation>/granting         the assertions that permit, int64: the decisions pinned here
    generations/<generation>/rows-<list>      of a list for the set exchange: which row each point is, int64
    generations/<generation>/checksum         SHA-256 of those above from `tags` on

A generation is written aside, flushed and renamed, so a crash leaves the old one in service. Everything
above the files is behind `GenerationStore`, so that an object store can stand in its place.

Not protected against: somebody who reads this folder learns how many are enrolled and, with the
registry, which keyed digest has which tag; without the epoch's key no tag can be made from an identifier.
"""

import hashlib
import hmac
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import TAG_LENGTH, TOKEN_LENGTH
from purposematch.protocol.errors import (
    DecodeError,
    IntegrityError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import Index, Segment
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.point_segments import PLANTED_COUNT
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.signing import SignedDocument
from purposematch.server.private_files import PRIVATE_FOLDER, flush_folder
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES

__all__ = ["GenerationStore", "GenerationTable", "StoredGeneration", "ranges", "table_digest"]

_TABLE_FILES = ("tags", "tokens", "identifiers", "granting_ends", "granting", "checksum")


@dataclass(frozen=True, slots=True)
class GenerationTable:
    """What the platform keeps of a generation, by ascending tag: n rows, canaries included.

    Attributes:
        tags: (n, 16).
        tokens: (n, 32).
        identifiers: (n, 16) keyed digests; zeros for a canary.
        granting_ends: (n,) int64, where each row's part of `granting` ends.
        granting: (p,) int64, for each row the assertions that permit it, one a subject. They pin the
            decisions: an audience receives these subjects and never joins on the identifier.
        point_rows: by the name of a list for the set exchange, which row each of its points is: (q,) int64,
            -1 to -64 for the canaries in their order, and from -65 on for planted points.
    """

    tags: Bytes
    tokens: SecretArray
    identifiers: Bytes
    granting_ends: NDArray[np.int64]
    granting: NDArray[np.int64]
    point_rows: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def granting_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The assertions that permit any of the given rows, in their order."""
        if not len(rows):
            return np.empty(0, np.int64)
        ends = self.granting_ends[rows]
        starts = np.where(rows > 0, self.granting_ends[np.maximum(rows - 1, 0)], 0)
        return self.granting[ranges(starts, ends - starts)]


@dataclass(frozen=True, slots=True)
class StoredGeneration:
    """A published generation: its manifest, as signed and as parsed, and its table."""

    manifest: Manifest
    document: SignedDocument
    table: GenerationTable


class GenerationStore:
    """Generations below one folder.

    Args:
        folder: the data directory's `generations`.
        identity_key: the platform's public identity key, which every manifest is checked against.
    """

    def __init__(self, folder: Path, identity_key: bytes) -> None:
        self._folder = folder
        self._identity_key = identity_key

    def write(
        self,
        manifest: Manifest,
        document: SignedDocument,
        table: GenerationTable,
        segments: Mapping[str, Bytes],
    ) -> None:
        """Stores a generation durably; nobody can load it before all of it is on the disk.

        Args:
            manifest: as parsed.
            document: as signed.
            table: the platform's rows.
            segments: the tags of the segments that are new, by name.

        Raises:
            UnavailableError: the disk is full or refuses; what was written of the generation is removed.
        """
        pool = self._folder / "segments"
        aside = self._folder / f".{manifest.name}"
        with _written():
            pool.mkdir(PRIVATE_FOLDER, exist_ok=True)
            new = [name for name in segments if not (pool / name).exists()]
            try:
                self._write(manifest, document, table, segments)
            except OSError:
                # Another attempt will follow, and on a full disk it needs the room.
                shutil.rmtree(aside, ignore_errors=True)
                for name in new:
                    (pool / f".{name}").unlink(missing_ok=True)
                    (pool / name).unlink(missing_ok=True)
                raise

    def _write(
        self,
        manifest: Manifest,
        document: SignedDocument,
        table: GenerationTable,
        segments: Mapping[str, Bytes],
    ) -> None:
        pool = self._folder / "segments"
        for name, tags in segments.items():
            _write(pool / f".{name}", tags)
            os.rename(pool / f".{name}", pool / name)
        flush_folder(pool)
        aside = self._folder / f".{manifest.name}"
        aside.mkdir(PRIVATE_FOLDER)
        _write(aside / "manifest.json", np.frombuffer(document.content, np.uint8))
        _write(aside / "manifest.sig", np.frombuffer(document.signature, np.uint8))
        _write(aside / "tags", table.tags)
        _write(aside / "tokens", reveal_array(table.tokens))
        _write(aside / "identifiers", table.identifiers)
        _write(aside / "granting_ends", table.granting_ends)
        _write(aside / "granting", table.granting)
        for name, rows in table.point_rows.items():
            _write(aside / f"rows-{name}", rows)
        _write(aside / "checksum", np.frombuffer(table_digest(table), np.uint8))
        flush_folder(aside)
        os.rename(aside, self._folder / manifest.name)
        flush_folder(self._folder)

    def load(self, name: str) -> StoredGeneration:
        """Opens a generation and checks its manifest's signature.

        Raises:
            IntegrityError: a file, or a segment that it names, is missing or has a wrong length.
            VerificationError: the manifest is not signed by this platform.
        """
        folder = self._folder / name
        try:
            manifest, document = self._manifest(folder)
            for segment in manifest.every_segment:
                self.segment(segment)
            count = manifest.count + CANARY_COUNT
            table = GenerationTable(
                tags=_map(folder / "tags", count, TAG_LENGTH),
                tokens=SecretArray(_map(folder / "tokens", count, TOKEN_LENGTH)),
                identifiers=_map(folder / "identifiers", count, KEYED_DIGEST_BYTES),
                granting_ends=_integers(folder / "granting_ends"),
                granting=_integers(folder / "granting"),
                point_rows={list_: _point_rows(folder, manifest, list_) for list_ in manifest.point_lists},
            )
            ends = table.granting_ends
            if len(ends) != count or len(table.granting) != ends[-1] or (np.diff(ends) < 0).any():
                raise IntegrityError(f"generation {name} is damaged (granting, granting_ends): publish again")
        except OSError as error:
            raise IntegrityError(
                f"generation {name} cannot be read ({_named(error)}): publish again"
            ) from error
        return StoredGeneration(manifest, document, table)

    def document(self, name: str) -> SignedDocument:
        """The signed manifest of a generation, also of one whose other files were removed.

        Raises:
            IntegrityError: it is missing or damaged.
        """
        try:
            return self._manifest(self._folder / name)[1]
        except OSError as error:
            raise IntegrityError(f"the manifest of {name} cannot be read ({_named(error)})") from error

    def _manifest(self, folder: Path) -> tuple[Manifest, SignedDocument]:
        document = SignedDocument(
            (folder / "manifest.json").read_bytes(), (folder / "manifest.sig").read_bytes()
        )
        try:
            manifest = Manifest.open(document, self._identity_key)
        except (DecodeError, VerificationError) as error:
            raise IntegrityError(f"the manifest of {folder.name} is damaged: publish again") from error
        if manifest.name != folder.name:
            raise IntegrityError(f"the manifest of {folder.name} is another generation's: publish again")
        return manifest, document

    def check(self, generation: StoredGeneration) -> None:
        """Reads a generation whole and checks every byte that a later one would take over.

        Raises:
            IntegrityError: the table is not what was written.
            VerificationError: a segment is not the one that the manifest names.
        """
        self.index(generation.manifest)
        for name in generation.manifest.point_lists:
            self.points(generation.manifest, name)
        try:
            expected = (self._folder / generation.manifest.name / "checksum").read_bytes()
        except OSError as error:
            raise IntegrityError("a generation has no checksum: publish again") from error
        if not hmac.compare_digest(expected, table_digest(generation.table)):
            raise IntegrityError("the table of a generation was altered: publish again")

    def segment(self, segment: Segment) -> Bytes:
        """The tags of a segment, (count, 16), or its points, (count, 32), by memory map.

        Raises:
            IntegrityError: the file is missing or has a wrong length.
        """
        try:
            return _map(self._folder / "segments" / segment.name, segment.count, segment.WIDTH)
        except OSError as error:
            raise IntegrityError("an index segment cannot be read: publish again") from error

    def index(self, manifest: Manifest) -> Index:
        """The index as an advertiser gets it, checked the same way.

        Raises:
            VerificationError: a segment is not the one that the manifest names.
        """
        return Index(
            [segment.check(self.segment(segment).data.cast("B")) for segment in manifest.segments],
            [segment.check(self.segment(segment).data.cast("B")) for segment in manifest.additions],
        )

    def points(self, manifest: Manifest, name: str) -> Bytes:
        """The points of a list for the set exchange, (n, 32), in memory, checked as an advertiser does.

        Raises:
            VerificationError: a segment is not the one that the manifest names.
        """
        segments = manifest.point_lists[name]
        return np.concatenate([segment.check(self.segment(segment).data.cast("B")) for segment in segments])

    def remove_all_but(self, kept: set[str], published: set[str]) -> None:
        """Removes tables and segments that no generation in `kept` uses; manifests stay for ever.

        Args:
            kept: names of the generations that sessions may still use.
            published: names of all that ever came into service; of others nothing stays.

        Raises:
            UnavailableError: the disk refuses.
        """
        with _written():
            self._remove_all_but(kept, published)

    def _remove_all_but(self, kept: set[str], published: set[str]) -> None:
        used: set[str] = set()
        for folder in self._folder.iterdir():
            if folder.name == "segments":
                continue
            if folder.name not in published:
                shutil.rmtree(folder)  # A publisher was interrupted before the end.
            elif folder.name in kept:
                # Only the manifest is asked: damage elsewhere in a generation must not stop cleaning up.
                used |= {segment.name for segment in self._manifest(folder)[0].every_segment}
            else:
                for name in (*_TABLE_FILES, *(path.name for path in folder.glob("rows-*"))):
                    (folder / name).unlink(missing_ok=True)
        for path in (self._folder / "segments").iterdir():
            if path.name not in used:
                path.unlink()


@contextmanager
def _written() -> Iterator[None]:
    """Turns what the system refuses to write into an error of ours: it may do better the next time."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"generations cannot be written: {error.strerror}") from error


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions start, start + 1, ... of every range, one range after the other."""
    # Within the result a range begins where those before it end.
    offsets = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return offsets + np.arange(len(offsets))


def table_digest(table: GenerationTable) -> bytes:
    """SHA-256 of the table's files, 32 bytes: beside them against damage, in the log against alteration."""
    digest = hashlib.sha256()
    for array in (table.tags, reveal_array(table.tokens), table.identifiers):
        digest.update(np.ascontiguousarray(array).data)
    digest.update(table.granting_ends.tobytes())
    digest.update(table.granting.tobytes())
    for name in sorted(table.point_rows):
        digest.update(name.encode("ascii") + table.point_rows[name].tobytes())
    return digest.digest()


def _write(path: Path, rows: NDArray[Any]) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(np.ascontiguousarray(rows).data)
        file.flush()
        os.fsync(file.fileno())


def _point_rows(folder: Path, manifest: Manifest, name: str) -> NDArray[np.int64]:
    rows = _integers(folder / f"rows-{name}")
    whole = len(rows) == sum(segment.count for segment in manifest.point_lists[name])
    if (
        not whole
        or not ((rows >= -CANARY_COUNT - PLANTED_COUNT) & (rows < manifest.count + CANARY_COUNT)).all()
    ):
        raise IntegrityError(f"generation {folder.name} is damaged (rows-{name}): publish again")
    return rows


def _named(error: OSError) -> str:
    """What the system says, and about which file."""
    return f"{Path(str(error.filename)).name}: {error.strerror}"


def _integers(path: Path) -> NDArray[np.int64]:
    # Reading numbers leaves out what is behind the last whole one, and says nothing about it.
    if path.stat().st_size % np.dtype(np.int64).itemsize:
        raise IntegrityError(f"{path.name} of a generation has a wrong length: publish again")
    return np.fromfile(path, np.int64)


def _map(path: Path, count: int, width: int) -> Bytes:
    if path.stat().st_size != count * width:
        raise IntegrityError(f"{path.name} of a generation has a wrong length: publish again")
    if count == 0:
        return np.empty((0, width), np.uint8)
    return np.memmap(path, np.uint8, "r", shape=(count, width))
