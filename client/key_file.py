"""Keys that the advertiser makes itself, each in a file of the credentials folder that only its owner reads.

Not protected against: whoever can read the folder has its keys.
"""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.secret import Secret

__all__ = ["key_in", "write_new"]

Key = TypeVar("Key", bound=Secret)


class _ExistsError(ConfigurationError):
    """There is such a file already."""


_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def key_in(path: Path, kind: type[Key], what: str, random_bytes: RandomBytes | None = None) -> Key:
    """The key in a file, hexadecimal, which may be made (mode 0600) if there is none.

    Args:
        path: of the file.
        kind: of the key.
        what: names it in error texts, such as `signing key`.
        random_bytes: the source of a new one; None makes none.

    Raises:
        ConfigurationError: the file holds no such key, is open to others, or cannot be read or made.
    """
    if random_bytes is not None and not path.exists():
        # Where another process made one meanwhile, that one counts.
        with suppress(_ExistsError):
            write_new(path, random_bytes(kind.LENGTH).hex().encode() + b"\n", 0o600)
    digits = 2 * kind.LENGTH
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise ConfigurationError(f"{path}: the {what} is open to others; run: chmod 600 {path}")
            content = re.fullmatch(rb"([0-9a-f]{%d})\n?" % digits, file.read(digits + 2))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    if content is None:
        raise ConfigurationError(f"{path}: is no {what}; put back a copy, or remove it and make a new one")
    return kind(bytes.fromhex(content[1].decode()))


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Writes a file that must not exist yet, whole or not at all, and durably.

    Raises:
        ConfigurationError: it exists, or cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        # A rename would replace a file that came meanwhile.
        os.link(aside, path)
    except FileExistsError:
        raise _ExistsError(f"{path}: cannot be written: there is such a file already") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            aside.unlink()
