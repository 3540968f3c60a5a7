"""Copies a data directory while its server runs, in a state that can be put back as it is.

The order makes the copy consistent. `log.checkpoint` comes first: the log of the registry, which is copied
later, extends it. The registry is one snapshot, by SQLite's online backup, whoever writes meanwhile. Nobody
publishes until the files of the generations that it names are copied, too.

The root key is not copied: copies belong in another place than what opens them.

Not protected against: keys of epochs that the platform destroys later and a copy still holds, and people who
were erased since. Keep copies no longer than an epoch, and see docs/operations.md.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from purposematch.protocol.errors import ConfigurationError, UnavailableError
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.server.data_dir import DataDir
from purposematch.server.platform import Platform
from purposematch.server.private_files import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    flush_folder,
    fresh_folder,
    read_private,
    write_new,
)
from purposematch.server.publish_lock import publishing_alone

__all__ = ["Backup", "back_up"]

PAGES_AT_A_TIME: Final = 1_024
"""Pages of the registry that are copied between two reports of progress: 16 MiB."""
_MAX_NOTE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Backup:
    """What a copy holds.

    Attributes:
        log_size: leaves of the log up to the copied checkpoint; the copied log has as many or more.
        files: how many files there are.
        size_bytes: and their bytes.
    """

    log_size: int
    files: int
    size_bytes: int


def back_up(platform: Platform, out: Path, progress: Callable[[int], object]) -> Backup:
    """Copies the data directory into a folder that is new or empty, mode 0700.

    A publication that is under way is waited for: a server publishes by itself whenever somebody withdrew.

    Args:
        platform: the open platform.
        out: the folder, which gets the layout of a data directory.
        progress: told how many bytes of the registry were copied since its last call.

    Raises:
        ConfigurationError: the folder has content or can not be written; nothing is left of the copy.
        UnavailableError: the registry cannot be read.
    """
    source, copy = platform.data_dir, DataDir(out)
    if out.resolve().is_relative_to(source.root.resolve()):
        raise ConfigurationError(f"{out} is in the data directory: choose a folder elsewhere")
    reference = platform.config.root_key
    root_key = (source.root / reference.name).resolve() if reference.source == "file" else None
    with fresh_folder(out):
        for folder in (copy.keys, copy.tls, copy.generations):
            folder.mkdir(PRIVATE_FOLDER)
        note = read_private(source.checkpoint, _MAX_NOTE_BYTES)
        write_new(copy.checkpoint, note)
        with publishing_alone(platform, wait=True):
            _copy_registry(source.registry, copy.registry, progress)
            _copy_folder(source.generations, copy.generations, root_key)
            for path in sorted(source.keys.glob("*.sealed")):
                _copy_file(path, copy.keys / path.name)
        for path in (source.config, source.policy):
            _copy_file(path, out / path.name)
        _copy_folder(source.tls, copy.tls, root_key)
        written = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    checkpoint = Checkpoint.open(note, log_origin(platform.config.platform_id), platform.identity_key)
    return Backup(checkpoint.size, len(written), sum(written))


def _copy_registry(source: Path, copy: Path, progress: Callable[[int], object]) -> None:
    """One snapshot of the database, its file with mode 0600 from the beginning."""
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, PRIVATE_FILE))
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as reading,
            closing(sqlite3.connect(copy)) as writing,
        ):
            # A transaction that stays open keeps the snapshot, so that a busy writer never starts it anew.
            reading.isolation_level = None
            reading.execute("BEGIN")
            (page_bytes,) = reading.execute("PRAGMA page_size").fetchone()
            reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            left: int | None = None

            def advance(_status: int, remaining: int, total: int) -> None:
                nonlocal left
                progress(((total if left is None else left) - remaining) * page_bytes)
                left = remaining

            reading.backup(writing, pages=PAGES_AT_A_TIME, progress=advance)
            reading.execute("COMMIT")
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise UnavailableError(f"the registry cannot be copied now ({name})") from None
    _flush(copy)


def _copy_folder(source: Path, copy: Path, root_key: Path | None) -> None:
    for path in sorted(source.iterdir()):
        # Names with a dot are what a publisher that was interrupted left.
        if path.name.startswith(".") or path.resolve() == root_key:
            continue
        if path.is_dir():
            (copy / path.name).mkdir(PRIVATE_FOLDER)
            _copy_folder(path, copy / path.name, root_key)
        else:
            _copy_file(path, copy / path.name)
    flush_folder(copy)


def _copy_file(source: Path, copy: Path) -> None:
    """A copy with the mode of the original, which may be a link to somewhere else."""
    descriptor = os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file, source.open("rb") as original:
        shutil.copyfileobj(original, file)
        file.flush()
        os.fchmod(file.fileno(), os.fstat(original.fileno()).st_mode & 0o777)
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
