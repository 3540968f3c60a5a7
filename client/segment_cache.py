"""Index segments kept on disk from one match to the next, by the SHA-256 of their content.

A segment that two generations share is fetched once. Every segment is verified whenever it is loaded, so
a damaged file is only fetched again. Files are mapped into memory, not read: the index of a large
platform takes no memory that the system could not take back.

Not protected against: another program of the same user that alters a file while it is mapped. The cache
shows which generations were matched against; its folder is closed to others (mode 0700).
"""

import hashlib
import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from purposematch.client.credentials import Credentials
from purposematch.protocol.errors import ConfigurationError, VerificationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import Segment

__all__ = ["SegmentCache"]

MAX_CACHE_BYTES: Final = 4 * 2**30
"""Segments beyond this sum are removed, those first that were not used for the longest time."""


class SegmentCache:
    """A folder of segments.

    Args:
        folder: made with mode 0700 when the first segment is stored.
        max_bytes: the size that `trim` keeps it below.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_CACHE_BYTES) -> None:
        """Touches nothing yet."""
        self._folder = folder
        self._max_bytes = max_bytes

    @classmethod
    def of_user(cls, environ: Mapping[str, str], credentials: Credentials) -> Self:
        """The user's cache for these credentials: below `XDG_CACHE_HOME`, or `~/.cache`.

        Every pair of platform and certificate has a folder of its own: with a shared one, a platform that
        names a segment of another platform would see from what is not fetched that this user was there.

        Args:
            environ: the environment of the process.
            credentials: whose sessions the segments are fetched in.

        Raises:
            ConfigurationError: the user has no home folder.
        """
        base = environ.get("XDG_CACHE_HOME", "")
        try:
            # The XDG base directory specification says to ignore relative paths.
            root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
        except RuntimeError:
            raise ConfigurationError("there is no home folder; set XDG_CACHE_HOME to a folder") from None
        owner = hashlib.sha256(credentials.pin.identity_key + credentials.fingerprint).hexdigest()[:32]
        return cls(root / "purposematch" / "segments" / owner)

    def load(self, segment: Segment) -> Bytes | None:
        """The tags, or points, of a segment, mapped; None if it is not here or is damaged."""
        path = self._folder / segment.name
        try:
            with path.open("rb") as file:
                content = _mapped(file.fileno())
            os.utime(path)
            return segment.check(content)
        except (OSError, VerificationError):
            return None

    def store(self, segment: Segment, content: bytes) -> Bytes:
        """Keeps a segment that was fetched, and gives what `load` gives.

        Raises:
            VerificationError: the bytes are not those of the segment; nothing is kept.
            ConfigurationError: the folder cannot be written.
        """
        tags = segment.check(content)
        if not content:
            return tags
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self._folder)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                temporary.replace(self._folder / segment.name)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ConfigurationError(
                f"{self._folder}: cannot be written: {error.strerror}; set XDG_CACHE_HOME to another folder"
            ) from None
        # The map can be taken back from memory, the bytes that came over the wire can not.
        mapped = self.load(segment)
        return tags if mapped is None else mapped

    def size_bytes(self) -> int:
        """Bytes of all that is kept, of whichever generation."""
        try:
            return sum(entry.stat().st_size for entry in os.scandir(self._folder) if entry.is_file())
        except OSError:
            return 0

    def trim(self) -> None:
        """Removes what was not used for the longest time until the rest is small enough.

        A segment that is mapped stays readable for as long as it is.
        """
        try:
            found = [(entry, entry.stat()) for entry in os.scandir(self._folder) if entry.is_file()]
        except OSError:
            return
        size = sum(status.st_size for _, status in found)
        for entry, status in sorted(found, key=lambda pair: pair[1].st_mtime_ns):
            if size <= self._max_bytes:
                return
            Path(entry.path).unlink(missing_ok=True)
            size -= status.st_size


def _mapped(descriptor: int) -> memoryview:
    if os.fstat(descriptor).st_size == 0:
        return memoryview(b"")
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
