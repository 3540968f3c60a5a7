"""The lock that makes one publisher at a time, across processes.

Whoever else needs the published files to stay as they are holds it too, such as a backup.

Not protected against: network file systems whose locks do not hold.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from purposematch.protocol.errors import UnavailableError
from purposematch.server.platform import Platform

__all__ = ["publishing_alone"]


@contextmanager
def publishing_alone(platform: Platform, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock while the body runs.

    Args:
        platform: the open platform.
        wait: until whoever holds it is done, however long that takes.

    Raises:
        UnavailableError: somebody else holds it and nobody waits, or its file cannot be opened.
    """
    path = platform.data_dir.publish_lock
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UnavailableError("another publisher is at work; try again when it is done") from None
        yield
    finally:
        os.close(descriptor)
