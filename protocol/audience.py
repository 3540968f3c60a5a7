"""Audiences: what the platform keeps of matches, by a name that the advertiser chooses, and for how long.

A session whose disclosure shows the platform who matches changes one audience of its advertiser: it takes the
place of what is in it, adds to it, or takes out of it. Both sides have to mean the same change, so it is in
the signed grant of the session, and in the label of a list under a noisy disclosure; the usual one, which
replaces the audience `default`, is in neither.

Not protected against: what is done with an audience afterwards.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from purposematch.protocol.agreement import check_advertiser_name
from purposematch.protocol.strict_json import Fields

__all__ = [
    "DEFAULT_AUDIENCE",
    "DEFAULT_KEEP_DAYS",
    "LARGEST_KEEP_DAYS",
    "USUAL_CHANGE",
    "AudienceChange",
    "AudienceMode",
]

DEFAULT_AUDIENCE: Final = "default"
"""The audience of a session that names none."""

DEFAULT_KEEP_DAYS: Final = 395
"""Days for which a session's matches stay in an audience: a year and a month."""

LARGEST_KEEP_DAYS: Final = 540
"""Days for which they can stay at most, as in the advertising industry's own lists of customers."""

_FIELDS: Final = ("name", "mode")


class AudienceMode(StrEnum):
    """What a session does with its matches; the labels are stored and signed."""

    REPLACE = "replace"
    """They are the audience from now on; whoever else was in it is not any more."""
    ADD = "add"
    """They join those who are in it."""
    REMOVE = "remove"
    """They leave it; nobody enters."""

    @property
    def puts_in(self) -> bool:
        """Whether anybody is in an audience because of it."""
        return self is not AudienceMode.REMOVE


@dataclass(frozen=True, slots=True)
class AudienceChange:
    """What a session does to which audience.

    Attributes:
        name: of the audience, one of its advertiser's; of the form of an advertiser's name.
        mode: what is done.

    Raises:
        DecodeError: the name is not of its form.
    """

    name: str = DEFAULT_AUDIENCE
    mode: AudienceMode = AudienceMode.REPLACE

    def __post_init__(self) -> None:
        """Checks the name."""
        check_advertiser_name(self.name, "an audience's")

    def to_mapping(self) -> dict[str, object]:
        """As a JSON object."""
        return {"name": self.name, "mode": self.mode.value}

    @classmethod
    def from_mapping(cls, value: object) -> Self:
        """What `to_mapping` made.

        Raises:
            DecodeError: it is anything else.
        """
        fields = Fields(value, "change of an audience", _FIELDS)
        return cls(fields.text("name"), fields.choice("mode", AudienceMode))

    def label_bytes(self) -> bytes:
        """What the label of a list takes up, so that two changes are two questions: length, name, mode."""
        name = self.name.encode()
        return bytes([len(name)]) + name + self.mode.encode()


USUAL_CHANGE: Final = AudienceChange()
"""The change of a session that says nothing: it replaces the audience `default`."""
