"""The kinds of identifiers and the profiles that make them canonical.

Source: docs/protocol.md, *From a value to a private input*. The kind byte is the first byte of the private
input of the POPRF, so a digest of an e-mail address never meets a digest of a phone number.

Does not protect against a list whose columns are swapped: the kind is what the caller says it is.
"""

from enum import IntEnum, StrEnum

__all__ = ["CANARY_KIND", "Kind", "Profile"]

CANARY_KIND = 0xFF
"""The kind byte of canaries. No identifier ever has it."""


class Kind(IntEnum):
    """What an identifier is; the value is the kind byte of the private input."""

    EMAIL = 1
    """An e-mail address."""
    PHONE = 2
    """A phone number."""
    MAID = 3
    """A mobile advertising id, a UUID."""

    @property
    def label(self) -> str:
        """The name in tables and reports: ``email``, ``phone`` or ``maid``."""
        return self.name.lower()


class Profile(StrEnum):
    """A named, versioned rule that makes a raw value canonical; part of the scope."""

    PLAIN = "plain-v1"
    """The project's own rule, no vendor's."""
    UID2 = "uid2-v1"
    """Unified ID 2.0 and EUID."""
    GOOGLE = "google-v1"
    """Google's Data Manager."""
    META = "meta-v1"
    """Meta's custom audiences."""
    X = "x-v1"
    """X's audiences."""
    PAIR = "pair-v1"
    """IAB Tech Lab's PAIR."""
