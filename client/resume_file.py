"""OUTPUT.resume: what a session needs to go on after its connection or its process was lost.

The file has mode 0600 and is there from the opening of a session until its end. It begins with the line
`purposematch resume v1`; records follow, each of

    kind (1 byte) || length (4 bytes) || content || first 16 bytes of SHA-256(kind || length || content)

    seed      the session seed, 32 bytes, which all blinds are expanded from
    session   canonical JSON: input_sha256, inputs_sha256, columns, region, commit, opened_at, grant,
              manifest, proof
    batch     one answered batch: number (4 bytes), canaries found (1 byte), then for its k matches their
              places in the batch (2 bytes each), tags (16 each) and, where matches are committed, their
              MACs (16 each)

Seed, session and the commit's id are durable before anything of the list is sent. Batches are appended as
they are answered, and not forced to the disk: one that is lost is only evaluated again, free of charge. What
is cut off or damaged at the end is ignored for the same reason. Tokens are not kept: a match's MAC says
nothing outside of its session. The size is 25 bytes for a batch and 34 for a match. A file is locked while a
process uses it.

Not protected against: whoever can read it, and recorded what was sent to the platform, can tell by the seed
what was on the list. When the session ends the seed is overwritten, which journals and spare blocks of a
disk may survive.
"""

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from purposematch.client.saved_session import MAX_SESSION_BYTES, BatchResult, SavedSession
from purposematch.protocol.errors import DecodeError, InputError
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.secret import reveal

__all__ = ["ResumeFile", "open_resume_file", "resume_path"]

FORMAT: Final = b"purposematch resume v1\n"
MAX_RECORD_BYTES: Final = MAX_SESSION_BYTES
"""The longest content of a record, in bytes; the largest batch has about half of it."""
CHECK_LENGTH: Final = 16
"""Bytes of SHA-256 behind every record."""

_IN_USE: Final = "another process is matching into this output; wait for it, or name another output"
_SEED, _SESSION, _BATCH = b"S", b"O", b"B"
_HEAD_LENGTH: Final = 5


class ResumeFile:
    """The file of one output, locked while it is open; made by `open_resume_file`.

    Attributes:
        path: where it is or will be.
        saved: the session in it; None if there is none yet.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        """Reads the session, if there is a file."""
        self.path = path
        self.saved: SavedSession | None = None
        self._descriptor = descriptor
        self._batches = len(FORMAT)
        if descriptor is not None:
            self.saved = self._read_session(descriptor)

    def begin(self, session: SavedSession) -> None:
        """Writes the file for a new session; durable when this returns.

        Raises:
            InputError: there is one by now, of another process, or it cannot be written.
        """
        content = FORMAT + _record(_SEED, reveal(session.seed)) + _record(_SESSION, session.encode())
        try:
            descriptor, name = tempfile.mkstemp(prefix=".purposematch-", dir=self.path.parent)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _write(descriptor, content)
                os.fsync(descriptor)
                # Unlike a renaming, a link replaces nothing.
                os.link(name, self.path)
            except BaseException:
                os.close(descriptor)
                raise
            finally:
                os.unlink(name)
            _sync_folder(self.path.parent)
        except FileExistsError:
            raise InputError(f"{self.path}: {_IN_USE}") from None
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from None
        self._descriptor, self._batches, self.saved = descriptor, len(content), session

    def results(self, commits: bool) -> Iterator[BatchResult]:
        """The batches that were answered, and the end of the file behind the last whole one.

        Args:
            commits: whether matches of the session are committed.

        Raises:
            InputError: the file cannot be read, or what it holds is no result.
        """
        if self._descriptor is None:
            return
        at = self._batches
        try:
            while (found := _read_record(self._descriptor, at)) is not None:
                kind, content, at = found
                if kind != _BATCH:
                    raise DecodeError("a record behind the session is no batch")
                yield BatchResult.decode(content, commits)
            os.ftruncate(self._descriptor, at)
        except DecodeError:
            raise self.damaged() from None
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from None

    def append(self, result: BatchResult) -> None:
        """Adds an answered batch.

        Raises:
            InputError: it cannot be written.
        """
        if self._descriptor is None:
            raise RuntimeError("there is no session to keep the results of")
        try:
            os.lseek(self._descriptor, 0, os.SEEK_END)
            _write(self._descriptor, _record(_BATCH, result.encode()))
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from None

    def delete(self) -> None:
        """Removes the file and overwrites the seed; nothing if there is none. It raises nothing."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            # In this order no file with a seed of zeros is ever found.
            self.path.unlink(missing_ok=True)
            _sync_folder(self.path.parent)
            os.pwrite(self._descriptor, bytes(SessionSeed.LENGTH), len(FORMAT) + _HEAD_LENGTH)
            os.fsync(self._descriptor)
        self.close()
        self.saved = None

    def close(self) -> None:
        """Lets another process use the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read_session(self, descriptor: int) -> SavedSession:
        try:
            if os.pread(descriptor, len(FORMAT), 0) != FORMAT:
                raise DecodeError("this is no file of a session")
            seed, at = _demand_record(descriptor, len(FORMAT), _SEED)
            session, self._batches = _demand_record(descriptor, at, _SESSION)
            return SavedSession.decode(SessionSeed(seed), session)
        except DecodeError:
            raise self.damaged() from None
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from None

    def damaged(self) -> InputError:
        """The error for a file whose content does not hold."""
        return InputError(
            f"{self.path}: the file is damaged, or was written by another version; its session can not be "
            f"resumed. "
            "Remove it to start a new one"
        )


def resume_path(output: Path) -> Path:
    """Where the resume file of an output is: beside the file itself, not beside a link to it."""
    target = output.resolve()
    return target.with_name(f"{target.name}.resume")


@contextmanager
def open_resume_file(output: Path) -> Iterator[ResumeFile]:
    """The resume file of an output, with the session that broke off if there is one.

    Raises:
        InputError: another process uses it, or it is damaged, open to others, or cannot be read.
    """
    path = resume_path(output)
    descriptor = _locked(path)
    try:
        file = ResumeFile(path, descriptor)
    except BaseException:
        if descriptor is not None:
            os.close(descriptor)
        raise
    try:
        yield file
    finally:
        file.close()


def _locked(path: Path) -> int | None:
    try:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                opened = os.fstat(descriptor)
                if not stat.S_ISREG(opened.st_mode) or opened.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise InputError(
                        f"{path}: the file holds a secret and is open to others; if it is yours, run chmod "
                        f"600 on it"
                    )
                with suppress(FileNotFoundError):
                    # Its process may have ended, and removed it, while this one came for the lock.
                    if os.path.samestat(opened, os.lstat(path)):
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        raise InputError(f"{path}: {_IN_USE}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _record(kind: bytes, content: bytes) -> bytes:
    record = kind + len(content).to_bytes(4, "big") + content
    return record + hashlib.sha256(record).digest()[:CHECK_LENGTH]


def _read_record(descriptor: int, at: int) -> tuple[bytes, bytes, int] | None:
    """Kind, content and end of the record that begins at `at`; None if it is not whole."""
    head = os.pread(descriptor, _HEAD_LENGTH, at)
    if len(head) < _HEAD_LENGTH:
        return None
    length = int.from_bytes(head[1:], "big")
    if length > MAX_RECORD_BYTES:
        return None
    end = at + _HEAD_LENGTH + length + CHECK_LENGTH
    if end > os.fstat(descriptor).st_size:
        return None
    content = os.pread(descriptor, length, at + _HEAD_LENGTH)
    check = os.pread(descriptor, CHECK_LENGTH, end - CHECK_LENGTH)
    if hashlib.sha256(head + content).digest()[:CHECK_LENGTH] != check:
        return None
    return head[:1], content, end


def _demand_record(descriptor: int, at: int, kind: bytes) -> tuple[bytes, int]:
    """Content and end of a record that must be there."""
    found = _read_record(descriptor, at)
    if found is None or found[0] != kind:
        raise DecodeError("a record is missing")
    return found[1:]


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
