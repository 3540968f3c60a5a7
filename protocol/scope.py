"""The scope: what a match is bound to.

A scope is the platform, the purpose, the normalization profile and the key epoch. Its canonical
encoding is the public `info` of the POPRF (RFC 9497 section 3.3.3), so that an index or a transcript
made for one purpose, profile or epoch is useless for another: the purpose is in the mathematics and not
only in a column of a table.

Not protected against: a platform that enrolls under one purpose what was given for another. That is
the work of the gate.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from purposematch.protocol.ciphersuite import SCOPE_DOMAIN
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.strict_json import Fields

__all__ = [
    "LARGEST_EPOCH",
    "PLATFORM_ID",
    "PURPOSE_KEY",
    "Scope",
    "check_platform_id",
    "check_purpose",
]

PLATFORM_ID: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
"""What the id of a platform looks like, to be used with `fullmatch`."""

PURPOSE_KEY: Final = re.compile(r"(?=.{1,255}\Z)[a-z0-9_]+(\.[a-z0-9_]+)*")
"""What a data-use key looks like, to be used with `fullmatch`; the taxonomy says which ones exist."""

LARGEST_EPOCH: Final = 2**63 - 1
"""The largest epoch number: the largest integer that every database stores."""


def check_platform_id(platform_id: str) -> None:
    """Checks the form of a platform id.

    Raises:
        DecodeError: it is not 1 to 63 of a-z, 0-9, dot and dash, beginning with a letter or digit.
    """
    if PLATFORM_ID.fullmatch(platform_id) is None:
        raise DecodeError(
            "a platform id is 1 to 63 of a-z, 0-9, dot and dash, and begins with a letter or digit"
        )


def check_purpose(purpose: str) -> None:
    """Checks the form of a purpose; whether the taxonomy knows it is not looked at.

    Raises:
        DecodeError: it is not a dotted key of at most 255 characters.
    """
    if PURPOSE_KEY.fullmatch(purpose) is None:
        raise DecodeError("a purpose is a dotted key of a-z, 0-9 and underscore, at most 255 characters long")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a match is bound to.

    Attributes:
        platform_id: the id of the platform, see `PLATFORM_ID`.
        purpose: the required use, a data-use key such as `marketing.advertising.third_party.targeted`.
        profile: the normalization profile of the identifiers.
        epoch: the number of the key epoch, 0 to `LARGEST_EPOCH`.

    Raises:
        DecodeError: a field is not of its form.
    """

    platform_id: str
    purpose: str
    profile: Profile
    epoch: int

    def __post_init__(self) -> None:
        """Checks every field."""
        check_platform_id(self.platform_id)
        check_purpose(self.purpose)
        if not 0 <= self.epoch <= LARGEST_EPOCH:
            raise DecodeError(f"the epoch of a scope is 0 to {LARGEST_EPOCH}")

    def info(self) -> bytes:
        """The canonical encoding, the POPRF's public info; at most 400 of its 65,535 bytes.

        ::

            "purposematch scope v1"                     21 bytes
            u16 length || platform id                   ASCII
            u16 length || purpose                       ASCII
            u16 length || profile                       ASCII
            u64 epoch                                   all integers big-endian
        """
        texts = [text.encode("ascii") for text in (self.platform_id, self.purpose, self.profile.value)]
        prefixed = [len(text).to_bytes(2, "big") + text for text in texts]
        return SCOPE_DOMAIN + b"".join(prefixed) + self.epoch.to_bytes(8, "big")

    def to_mapping(self) -> dict[str, object]:
        """The fields as a JSON object."""
        return {
            "platform_id": self.platform_id,
            "purpose": self.purpose,
            "profile": self.profile.value,
            "epoch": self.epoch,
        }

    @classmethod
    def from_mapping(cls, value: object) -> Self:
        """The scope in a JSON object that has exactly the fields of `to_mapping`.

        Raises:
            DecodeError: a field is missing, unknown, of a wrong type or not of its form.
        """
        fields = Fields(value, "scope", ("platform_id", "purpose", "profile", "epoch"))
        return cls(
            platform_id=fields.text("platform_id"),
            purpose=fields.text("purpose"),
            profile=fields.choice("profile", Profile),
            epoch=fields.integer("epoch"),
        )
