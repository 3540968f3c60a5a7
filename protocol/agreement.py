"""The agreement between platform and advertiser, and the leak sheet: in words, who learns what.

The agreement travels in the advertiser's credentials, is stored in the registry, and its digest goes
into the transcript of every session: two sides that hold different agreements cannot finish a commit.
The sheet is printed from the agreement before every session, so that nobody finds out afterwards what
a disclosure gave away.

Not protected against: what either side does with what it rightly learned, and everything that the
sheet itself lists under "not protected".
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from purposematch.protocol.ciphersuite import AGREEMENT_DOMAIN
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.scope import check_platform_id, check_purpose
from purposematch.protocol.strict_json import Fields, canonical_json, decode_json

__all__ = [
    "ADVERTISER_NAME",
    "DEFAULT_MAX_LIST_ELEMENTS",
    "DEFAULT_MIN_LIST_ELEMENTS",
    "LARGEST_LIST_ELEMENTS",
    "RUNNABLE_DISCLOSURES",
    "Agreement",
    "Disclosure",
    "check_advertiser_name",
    "leak_sheet",
]

ADVERTISER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
"""What the name of an advertiser looks like, to be used with `fullmatch`."""

DEFAULT_MIN_LIST_ELEMENTS: Final = 1_000
"""Distinct identifiers that a list must have at least; the bound that PAIR uses."""

DEFAULT_MAX_LIST_ELEMENTS: Final = 100_000_000
"""Distinct identifiers that a list may have at most."""

LARGEST_LIST_ELEMENTS: Final = 1_000_000_000
"""The largest list that an agreement can allow, in distinct identifiers."""

_MAX_BYTES: Final = 65_536
_FIELDS: Final = (
    "platform_id",
    "advertiser",
    "purpose",
    "profile",
    "disclosure",
    "min_list_elements",
    "max_list_elements",
)


class Disclosure(StrEnum):
    """Who learns what from a session; see `leak_sheet` for the words."""

    BOTH = "both"
    """The advertiser learns which rows match, the platform the subjects behind the committed tags."""
    ADVERTISER = "advertiser"
    """The advertiser learns which rows match, the platform the size of the list only."""
    PLATFORM = "platform"
    """The platform learns which of its subjects match, the advertiser a noisy count."""
    COUNT = "count"
    """The platform learns the exact count, the advertiser a noisy one."""


RUNNABLE_DISCLOSURES: Final = (Disclosure.BOTH, Disclosure.ADVERTISER)
"""The disclosures that this version can run."""


def check_advertiser_name(name: str) -> None:
    """Checks the form of an advertiser's name.

    Raises:
        DecodeError: it is not 1 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a letter
            or digit.
    """
    if ADVERTISER_NAME.fullmatch(name) is None:
        raise DecodeError(
            "an advertiser's name is 1 to 63 of a-z, 0-9, dot, dash and underscore, and begins with a "
            "letter or digit"
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """What platform and advertiser signed up to.

    All four disclosures are values of an agreement; whether one can be run is for the caller to check.

    Attributes:
        platform_id: the id of the platform.
        advertiser: the name of the advertiser at this platform.
        purpose: the required use of every match under this agreement.
        profile: the normalization profile, so that a client can prepare its list before it connects.
        disclosure: who learns what.
        min_list_elements: distinct identifiers that a list must have at least, 1 or more.
        max_list_elements: distinct identifiers that a list may have at most, up to
            `LARGEST_LIST_ELEMENTS`.

    Raises:
        DecodeError: a field is not of its form.
    """

    platform_id: str
    advertiser: str
    purpose: str
    profile: Profile
    disclosure: Disclosure
    min_list_elements: int = DEFAULT_MIN_LIST_ELEMENTS
    max_list_elements: int = DEFAULT_MAX_LIST_ELEMENTS

    def __post_init__(self) -> None:
        """Checks every field."""
        check_platform_id(self.platform_id)
        check_advertiser_name(self.advertiser)
        check_purpose(self.purpose)
        if not 1 <= self.min_list_elements <= self.max_list_elements <= LARGEST_LIST_ELEMENTS:
            raise DecodeError(
                "the limits of an agreement must satisfy 1 <= min_list_elements <= max_list_elements "
                f"<= {LARGEST_LIST_ELEMENTS}"
            )

    def canonical_bytes(self) -> bytes:
        """The canonical JSON of the fields: names sorted, no white space, ASCII."""
        return canonical_json(self.to_mapping())

    @property
    def digest(self) -> bytes:
        """SHA-256 over a domain string and the canonical bytes, 32 bytes."""
        return hashlib.sha256(AGREEMENT_DOMAIN + self.canonical_bytes()).digest()

    def to_mapping(self) -> dict[str, object]:
        """The fields as a JSON object."""
        return {
            "platform_id": self.platform_id,
            "advertiser": self.advertiser,
            "purpose": self.purpose,
            "profile": self.profile.value,
            "disclosure": self.disclosure.value,
            "min_list_elements": self.min_list_elements,
            "max_list_elements": self.max_list_elements,
        }

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The agreement in the JSON that `canonical_bytes` gives; white space may differ, nothing else.

        Raises:
            DecodeError: `data` is anything else.
        """
        return cls.from_mapping(decode_json(data, "agreement", _MAX_BYTES))

    @classmethod
    def from_mapping(cls, value: object) -> Self:
        """The agreement in a JSON object that has exactly the fields of `to_mapping`.

        Raises:
            DecodeError: a field is missing, unknown, of a wrong type or not of its form.
        """
        fields = Fields(value, "agreement", _FIELDS)
        return cls(
            platform_id=fields.text("platform_id"),
            advertiser=fields.text("advertiser"),
            purpose=fields.text("purpose"),
            profile=fields.choice("profile", Profile),
            disclosure=fields.choice("disclosure", Disclosure),
            min_list_elements=fields.integer("min_list_elements"),
            max_list_elements=fields.integer("max_list_elements"),
        )


_ENROLLED_NUMBER: Final = "how many identifiers the platform has enrolled for this purpose"
_WHICH_ROWS: Final = (
    "which rows of its list match, now and in every later generation of the key epoch (at most 30 days), "
    "without asking again"
)

_ADVERTISER_LEARNS: Final = {
    Disclosure.BOTH: (_WHICH_ROWS, _ENROLLED_NUMBER),
    Disclosure.ADVERTISER: (_WHICH_ROWS, _ENROLLED_NUMBER),
    Disclosure.PLATFORM: (
        "a noisy count of the subjects (people) who match, not which rows",
        _ENROLLED_NUMBER,
    ),
    Disclosure.COUNT: ("a noisy count of the identifiers that match, not which rows", _ENROLLED_NUMBER),
}

_PLATFORM_LEARNS: Final = {
    Disclosure.BOTH: (
        "the subjects (people) behind the tags that the advertiser commits, one tag for each match; it keeps "
        "them as an audience",
    ),
    Disclosure.ADVERTISER: (),
    Disclosure.PLATFORM: ("which of its subjects (people) match; it keeps them as an audience",),
    Disclosure.COUNT: ("the exact count of the identifiers that match, not which",),
}

_ALWAYS_OPEN: Final = (
    "Sizes: the size of the list and the enrolled number are shown, not hidden.",
    "Omission: the platform is trusted to publish everybody the gate permits. Proofs show that one key was "
    "used for everything; they do not show that nobody was left out.",
)
_GUESSING: Final = (
    "Guessing: an advertiser can put invented identifiers on its list to find out {found}. The largest "
    "list bounds how many in a session, and nothing bounds the number of sessions yet; the smallest list "
    "size bounds neither."
)
_GUESSING_ROWS: Final = _GUESSING.format(found="which of them are enrolled")
_GUESSING_COUNT: Final = _GUESSING.format(found="how many of them are enrolled, within the noise")
_REPETITION: Final = (
    "Repetition: counts of lists that differ in one row can tell about that row; noise bounds how much."
)
_MEMORY: Final = (
    "Memory: the advertiser keeps what it learned. `purposematch removals` takes people who leave out of "
    "stored results, and shows which of its rows they were; copies made elsewhere stay."
)
_OPEN: Final = {
    Disclosure.BOTH: (
        _GUESSING_ROWS,
        "Later use: the platform sees from the ads it then shows who of the audience reacted.",
        _MEMORY,
    ),
    Disclosure.ADVERTISER: (
        _GUESSING_ROWS,
        "Later use: the platform sees who matched as soon as the advertiser uses the result there, by a "
        "campaign or by leaving people out of one.",
        _MEMORY,
    ),
    Disclosure.PLATFORM: (
        _GUESSING_COUNT,
        "Later use: the advertiser may learn who is in the audience when a person reacts to an ad.",
        _REPETITION,
    ),
    Disclosure.COUNT: (_GUESSING_COUNT, _REPETITION),
}


def leak_sheet(agreement: Agreement, list_size: int | None) -> str:
    """What a session under `agreement` gives away, in plain words, several lines without a final newline.

    Args:
        agreement: the agreement that the session runs under.
        list_size: the distinct identifiers in the list, or None if they are not counted yet.
    """
    size = "the size of the list, in distinct identifiers"
    if list_size is not None:
        size += f": {list_size:,}"
    disclosure = agreement.disclosure
    unmatched = "identifiers of the list that do not match"
    if disclosure in (Disclosure.ADVERTISER, Disclosure.COUNT):
        unmatched = "identifiers of the list, matching or not"
    sections = [
        (f"The advertiser ({agreement.advertiser}) learns", _ADVERTISER_LEARNS[disclosure]),
        (f"The platform ({agreement.platform_id}) learns", (*_PLATFORM_LEARNS[disclosure], size)),
        (
            "Stays hidden",
            (
                f"from the platform: the {unmatched}",
                "from the advertiser: every enrolled identifier that is not on its list",
                "from the advertiser: whether somebody is unknown to the platform or gave no permission",
            ),
        ),
        ("Not protected", (*_ALWAYS_OPEN, *_OPEN[disclosure])),
    ]
    lines = ["What this match gives away", f"  purpose {agreement.purpose}, disclosure {disclosure.value}"]
    for heading, points in sections:
        lines.append(heading)
        lines.extend(f"  - {point}" for point in points)
    return "\n".join(lines)
