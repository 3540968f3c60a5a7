"""Checkpoints: how long the log is and what its root is, signed by the platform.

Source: C2SP tlog-checkpoint. The text of the note is three lines::

    origin                      which log this is; also the name of the key
    size                        leaves, in decimal, without leading zeros
    base64(root)                RFC 4648 section 4

Extension lines, which the source discourages, are refused: the platform writes none.

Not protected against: a split view, two checkpoints that are both signed and do not fit together. Whoever
holds both can show it (`proofs.verify_consistency`); a single reader can not.
"""

import base64
import re
from dataclasses import dataclass
from typing import Final, Self

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.log.note import decode_base64, open_note, sign_note
from purposematch.protocol.log.tree import HASH_LENGTH, MAX_LEAVES
from purposematch.protocol.scope import check_platform_id
from purposematch.protocol.signing import IdentitySeed

__all__ = ["Checkpoint", "log_origin"]

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def log_origin(platform_id: str) -> str:
    """The origin line of a platform's log, which is also the name of its key.

    Raises:
        DecodeError: it is not a platform id.
    """
    check_platform_id(platform_id)
    return f"{platform_id}/purposematch-log"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log.

    Attributes:
        origin: which log.
        size: leaves, 0 to 2^63 - 1.
        root: the root over them, 32 bytes.

    Raises:
        DecodeError: the size or the root is out of range.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not 0 <= self.size <= MAX_LEAVES:
            raise DecodeError(f"the size of a checkpoint is not between 0 and {MAX_LEAVES}")
        if len(self.root) != HASH_LENGTH:
            raise DecodeError(f"the root of a checkpoint is not {HASH_LENGTH} bytes long")

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def sign(self, seed: IdentitySeed) -> bytes:
        """The signed note; never to be called for a log that does not extend the last one that was signed.

        Raises:
            InputError: the origin can not be the name of a key.
        """
        return sign_note(seed, self.origin, self.text())

    @classmethod
    def open(cls, note: bytes, origin: str, public_key: bytes) -> Self:
        """Checks and parses a signed checkpoint.

        Args:
            note: what arrived.
            origin: the log that it must be of, see `log_origin`.
            public_key: the platform's pinned identity key, 32 bytes.

        Raises:
            VerificationError: it is not signed by this key, or a signature does not hold.
            DecodeError: it is not a checkpoint, or one of another log.
        """
        match open_note(note, origin, public_key).split("\n"):
            case [found, size, root, ""] if found == origin and _SIZE.fullmatch(size):
                return cls(origin, int(size), decode_base64(root, "the root of a checkpoint"))
        raise DecodeError("a checkpoint does not have the three lines of this log")
