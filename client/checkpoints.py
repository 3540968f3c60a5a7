"""The last checkpoint of a platform's log that this user has seen, kept from one session to the next.

There is one folder for each platform identity key, below `XDG_STATE_HOME` or `~/.local/state`, and not the
cache, which anybody may empty: all credentials of one platform share it, so that two of them that are shown
different logs are noticed on this machine already. In it are

    checkpoint      the signed note, byte for byte
    fork-<...>.json two notes that contradict each other, where that was found; nothing removes it

Files have mode 0600. A new checkpoint takes the place of the one that it was compared with, or of none:
of two processes at once, the later one compares again.

Not protected against: whoever removes or replaces the file makes the next session look like the first one.
Keep it where the credentials are kept if machines come and go.
"""

import fcntl
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from purposematch.protocol.errors import ConfigurationError, PeerError
from purposematch.protocol.log.checkpoint import Checkpoint
from purposematch.protocol.log.note import MAX_NOTE_BYTES
from purposematch.protocol.strict_json import canonical_json

__all__ = ["KnownCheckpoint", "LastCheckpoint"]

_NAME: Final = "checkpoint"
REMEMBERED: Final = 256
"""Checkpoints kept one after the other that a process remembers, each below a kilobyte."""


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """A checkpoint whose signature was verified, and the note that it stands in."""

    note: bytes
    checkpoint: Checkpoint


class LastCheckpoint:
    """The folder of one platform's log.

    Args:
        folder: made with mode 0700 when the first checkpoint is kept.
        origin: the log that checkpoints must be of, see `log_origin`.
        public_key: the platform's pinned identity key, 32 bytes.
    """

    def __init__(self, folder: Path, origin: str, public_key: bytes) -> None:
        """Touches nothing yet."""
        self._folder = folder
        self._origin = origin
        self._public_key = public_key
        # Notes that were kept here one after the other, each of which was found to extend the one before.
        self._line: deque[bytes] = deque(maxlen=REMEMBERED)

    @classmethod
    def of_user(cls, environ: Mapping[str, str], origin: str, public_key: bytes) -> Self:
        """That of this user.

        Args:
            environ: the environment of the process.
            origin: see the class, like `public_key`.
            public_key: 32 bytes.

        Raises:
            ConfigurationError: the user has no home folder.
        """
        base = environ.get("XDG_STATE_HOME", "")
        try:
            # The XDG base directory specification says to ignore relative paths.
            root = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
        except RuntimeError:
            raise ConfigurationError("there is no home folder; set XDG_STATE_HOME to a folder") from None
        return cls(root / "purposematch" / "logs" / public_key.hex(), origin, public_key)

    @property
    def path(self) -> Path:
        """The file with the note."""
        return self._folder / _NAME

    def verified(self, note: bytes) -> KnownCheckpoint:
        """A note after its signature was checked.

        Raises:
            VerificationError, DecodeError: see `Checkpoint.open`.
        """
        return KnownCheckpoint(note, Checkpoint.open(note, self._origin, self._public_key))

    def load(self) -> KnownCheckpoint | None:
        """The last one that was kept, or None before the first session.

        Raises:
            ConfigurationError: it can not be read, or is damaged. It is not taken for none: then anything
                could be shown.
        """
        try:
            with self.path.open("rb") as file:
                note = file.read(MAX_NOTE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"{self.path}: cannot be read: {error.strerror}") from None
        try:
            return self.verified(note)
        except PeerError:
            raise ConfigurationError(
                f"{self.path}: the last checkpoint of this platform's log is damaged; put back a copy of it. "
                "If there is none, ask the platform for the size and root of its log, compare them with what "
                "others were shown, and remove the file: the next session then counts as the first one"
            ) from None

    def replace(self, before: KnownCheckpoint | None, after: KnownCheckpoint) -> bool:
        """Keeps a checkpoint in the place of the one that it was found to extend.

        Args:
            before: what `load` gave; None for none.
            after: what is kept from now on.

        Returns:
            False if another process has kept another one since; nothing was written.

        Raises:
            ConfigurationError: the folder cannot be written, or the file in it is damaged.
        """
        with self._locked():
            if self.load() != before:
                return False
            self._write(_NAME, after.note)
            if before is None or not self._line or self._line[-1] != before.note:
                self._line.clear()
            if before is not None and not self._line:
                self._line.append(before.note)
            self._line.append(after.note)
            return True

    def has_seen_extend(self, later: KnownCheckpoint, earlier: KnownCheckpoint) -> bool:
        """Whether this object kept `earlier` and then, one by one, each compared with the last, `later`."""
        line = list(self._line)
        return earlier.note in line and later.note in line[line.index(earlier.note) :]

    def keep_fork(self, known: bytes, shown: bytes, proof: Sequence[bytes] | None) -> Path:
        """Keeps two notes that contradict each other, as evidence; the file.

        Args:
            known: the note that was seen before.
            shown: the one that the platform showed now.
            proof: the consistency proof that does not hold; None if none was needed or given.

        Raises:
            ConfigurationError: the folder cannot be written.
        """
        hashes = None if proof is None else [one.hex() for one in proof]
        content = canonical_json({"known": known.decode(), "shown": shown.decode(), "proof": hashes})
        name = f"fork-{hashlib.sha256(content).hexdigest()[:16]}.json"
        with self._locked():
            self._write(name, content)
        return self._folder / name

    def _write(self, name: str, content: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other processes out while the body runs, and makes what it wrote durable."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigurationError(
                f"{self._folder}: cannot be written: {error.strerror}; set XDG_STATE_HOME to another folder"
            ) from None
