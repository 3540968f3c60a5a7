"""Files that only the platform's own user may read, written whole or not at all.

A new file is written aside, flushed to the disk and then linked to its name, so that a crash leaves the
old state and an existing file is never replaced. A private file that its group or others may read is
refused when it is loaded: by then its content must be taken as known.

Not protected against: root, backups, and anybody who runs as the same user.
"""

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from purposematch.protocol.errors import ConfigurationError

__all__ = [
    "PRIVATE_FILE",
    "PRIVATE_FOLDER",
    "PUBLIC_FILE",
    "flush_folder",
    "fresh_folder",
    "locked_file",
    "locked_folder",
    "read_private",
    "replace_file",
    "write_new",
]

PRIVATE_FOLDER: Final = 0o700
"""The mode of a folder that holds private files."""

PRIVATE_FILE: Final = 0o600
"""The mode of a file that holds a secret."""

PUBLIC_FILE: Final = 0o644
"""The mode of a file without a secret, such as a certificate."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def write_new(path: Path, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Writes a file that must not exist yet, atomically and durably.

    Raises:
        ConfigurationError: the file exists already, or the system refuses to write it.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                # The umask may have taken bits away, and a public file needs more than it was made with.
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            # A rename would replace an existing file; a link refuses to.
            os.link(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        flush_folder(path.parent)
    except FileExistsError:
        raise ConfigurationError(f"{path} exists already and is not overwritten") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Replaces the content of an existing file, atomically and durably; its mode stays.

    Raises:
        ConfigurationError: there is no such file, or the system refuses to write it.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            # A file that is a link stays one: what it points to is replaced.
            aside.replace(path.resolve())
        finally:
            aside.unlink(missing_ok=True)
        flush_folder(path.resolve().parent)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for the same folder out while the body runs; they wait.

    Raises:
        ConfigurationError: there is no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be opened: {error.strerror}") from error
    with _alone(descriptor):
        yield


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """The same with a file, which is made where it is not there, and stays.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened: {error.strerror}") from error
    with _alone(descriptor):
        yield


@contextmanager
def _alone(descriptor: int) -> Iterator[None]:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_private(path: Path, max_bytes: int) -> bytes:
    """The content of a private file of at most `max_bytes` bytes.

    Raises:
        ConfigurationError: the file is missing, too long, not a regular file, or open to its group or
            to others.
    """
    try:
        # Opening a pipe must not wait for somebody to write into it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError(f"{path} is not a regular file")
            if status.st_mode & _OTHERS:
                raise ConfigurationError(
                    f"{path} is open to other users: run chmod 600 on it, and replace the secret if somebody "
                    "else uses this machine"
                )
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ConfigurationError(f"{path} is missing") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > max_bytes:
        raise ConfigurationError(f"{path} is longer than {max_bytes} bytes")
    return content


def flush_folder(folder: Path) -> None:
    """Makes the names in `folder` durable: a new, renamed or removed file survives a crash as such."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def fresh_folder(folder: Path) -> Iterator[None]:
    """A folder that is new or empty, mode 0700, to be filled in the body of a with statement.

    When the body raises, everything in the folder is removed, and so is each folder that was made. The
    folder is locked meanwhile, so that two fillers cannot take it at once and undo each other's work.

    Raises:
        ConfigurationError: the folder has content, is being filled by somebody else, or the system
            refuses something, also in the body.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(descriptor, folder)
            if any(folder.iterdir()):
                raise ConfigurationError(
                    f"{folder} is not empty: choose a new folder, nothing is overwritten"
                )
            try:
                folder.chmod(PRIVATE_FOLDER)
                yield
                flush_folder(folder.parent)
            except BaseException:
                _empty(folder)
                for path in missing:
                    # Somebody else may have put something beside it in the meantime.
                    with suppress(OSError):
                        path.rmdir()
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from error


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(f"{folder} is being filled by another process at this moment") from None


def _empty(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
