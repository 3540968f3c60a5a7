"""Secret byte strings and arrays that do not leak by accident.

A `Secret` shows nothing in its repr, can be neither pickled, copied nor formatted, compares in constant
time, and gives up its content only through `reveal`: ``grep -rn 'reveal('`` lists every place where a
secret leaves its type.

Not protected against: somebody who can read the process's memory. Python offers no reliable way to
wipe memory; `Secret.wipe` overwrites what this object holds and nothing else (see SECURITY.md).
"""

import hmac
from typing import ClassVar, Never, Self, final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.errors import DecodeError

__all__ = ["Secret", "SecretArray", "reveal", "reveal_array"]


class Secret:
    """A fixed-length secret byte string. Subclasses set `LENGTH`, in bytes."""

    LENGTH: ClassVar[int] = 32
    __slots__ = ("_content", "_wiped")

    def __init__(self, content: bytes | bytearray) -> None:
        """Takes a copy of `content`.

        Raises:
            DecodeError: `content` is not `LENGTH` bytes long.
        """
        if len(content) != self.LENGTH:
            raise DecodeError(f"{type(self).__name__} is {len(content)} bytes long, not {self.LENGTH}")
        self._content = bytearray(content)
        self._wiped = False

    def wipe(self) -> None:
        """Overwrites the content with zeros; from then on `reveal` refuses the secret."""
        self._content[:] = bytes(len(self._content))
        self._wiped = True

    def __repr__(self) -> str:
        """Shows the type only."""
        return f"{type(self).__name__}(..)"

    def __format__(self, spec: str) -> str:
        """Formats like the repr, whatever the format says."""
        return repr(self)

    def __eq__(self, other: object) -> bool:
        """Compares in constant time; other types are never equal."""
        if type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._content, other._content)

    def __hash__(self) -> Never:
        """Secrets are not hashable: a dictionary would compare them in variable time."""
        raise TypeError(f"{type(self).__name__} is not hashable")

    def __reduce_ex__(self, protocol: object) -> Never:
        """Refuses pickling."""
        raise TypeError(f"{type(self).__name__} cannot be pickled or copied")

    def __copy__(self) -> Never:
        """Refuses copying."""
        raise TypeError(f"{type(self).__name__} cannot be pickled or copied")

    def __deepcopy__(self, memo: object) -> Never:
        """Refuses copying."""
        raise TypeError(f"{type(self).__name__} cannot be pickled or copied")


@final
class SecretArray:
    """A batch of secrets, `(n, width)` uint8, such as the blinds of one batch of elements."""

    __slots__ = ("_content",)

    def __init__(self, content: NDArray[np.uint8]) -> None:
        """Takes over `content` without a copy."""
        self._content = content

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._content)

    def rows(self, start: int, stop: int) -> Self:
        """The rows from `start` up to `stop`, sharing memory."""
        return type(self)(self._content[start:stop])

    def wipe(self) -> None:
        """Overwrites the content with zeros."""
        self._content[:] = 0

    def __repr__(self) -> str:
        """Shows the shape only."""
        return f"SecretArray(.., shape={self._content.shape})"

    def __reduce_ex__(self, protocol: object) -> Never:
        """Refuses pickling and copying."""
        raise TypeError("SecretArray cannot be pickled or copied")


def reveal(secret: Secret) -> bytes:
    """The content of `secret`: the one door through which a secret leaves its type.

    Raises:
        RuntimeError: the secret was wiped; computing with its zeros would be computing with a public key.
    """
    if secret._wiped:
        raise RuntimeError(f"{type(secret).__name__} was wiped")
    return bytes(secret._content)


def reveal_array(secret: SecretArray) -> NDArray[np.uint8]:
    """The rows of `secret`, without a copy: the one door for batches."""
    return secret._content
