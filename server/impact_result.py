"""What `impact` finds: lists as columns, and the numbers that they come to.

Not protected against: whoever reads it. The lists name subjects.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from purposematch.server.recorded import Recorded
from purposematch.server.registry.happened import Session

__all__ = ["MEMBERSHIP_SCHEMA", "AdvertiserImpact", "AudienceImpact", "Impact", "Memberships"]

MEMBERSHIP_SCHEMA: Final = pa.schema(
    [(name, pa.string()) for name in ("session", "advertiser", "partner", "audience", "subject_id")]
)
"""The columns of `Impact.membership_rows`."""


@dataclass(frozen=True, slots=True)
class AdvertiserImpact:
    """What one advertiser has to do with it: sessions, and the two numbers of subjects as in `Impact`."""

    advertiser: str
    sessions: int
    subjects_in_audiences: int
    subjects_may_have_learned_of: int


@dataclass(frozen=True, slots=True)
class AudienceImpact:
    """An audience of an advertiser, or of one that a partner brought lists for, and how many subjects were
    ever put into it through these assertions."""

    advertiser: str
    partner: str | None
    audience: str
    subjects: int


@dataclass(frozen=True, eq=False)
class Memberships:
    """Whom one session put into its audience through these assertions: (m,) int64 codes of subjects."""

    session: Session
    audience: str
    members: NDArray[np.int64]

    @property
    def name(self) -> tuple[str, str, str]:
        """Advertiser, partner (empty if none) and audience: what tells one audience from another."""
        return self.session.advertiser, self.session.partner or "", self.audience


@dataclass(frozen=True, eq=False)
class Impact:
    """The consequences of some assertions.

    Attributes:
        assertions: how many were meant.
        enrolments: a row for each pair and assertion that enrolled it: subject_id, identifier (keyed digest),
            assertion, first_generation and last_generation (numbers).
        subjects: a row for each subject enrolled or in an audience: subject_id, in_audiences,
            advertisers_may_have_learned.
        generations: positions in `recorded.generations` of those with an enrolment.
        sessions: those opened on these generations, and those that made one of the audiences.
        memberships: those of each session that put somebody into an audience. Sessions that take people out
            of an audience make nobody a member.
        audiences: the audiences of these, in order.
        advertisers: those who opened these sessions, or may have learned of somebody otherwise, by name.
        erased_assertions: how many that were erased may have been meant: nobody can say whom they enrolled.
        erased_memberships: memberships of audiences through these; whose is not known any more either.
        expired_audiences: audiences that one of these sessions put people into who are deleted by now, their
            time being over; nobody can say who they were.
        recorded: what the answer was taken from.
        names: code -> subject id.
    """

    assertions: int
    enrolments: pa.Table = field(repr=False)
    subjects: pa.Table = field(repr=False)
    generations: NDArray[np.int64]
    sessions: list[Session]
    memberships: list[Memberships] = field(repr=False)
    audiences: list[AudienceImpact]
    advertisers: list[AdvertiserImpact]
    erased_assertions: int
    erased_memberships: int
    expired_audiences: int
    recorded: Recorded = field(repr=False)
    names: pa.StringArray = field(repr=False)

    def membership_rows(self) -> Iterator[pa.RecordBatch]:
        """A row for each membership, a batch for each session: `MEMBERSHIP_SCHEMA`, partner empty if none.

        All at once they would take a hundred bytes each, and there can be ten million.
        """
        for each in self.memberships:
            alike = [pa.repeat(text, len(each.members)) for text in (each.session.id, *each.name)]
            people = self.names.take(pa.array(each.members))
            yield pa.record_batch([*alike, people], schema=MEMBERSHIP_SCHEMA)

    def to_mapping(self) -> dict[str, object]:
        """The numbers, as `impact --json` prints them."""
        return {
            "assertions": self.assertions,
            "identifiers": len(self.enrolments["identifier"].unique()),
            "subjects": len(self.subjects),
            "generations": len(self.generations),
            "sessions": len(self.sessions),
            "audiences": len(self.audiences),
            "advertisers": [each.advertiser for each in self.advertisers],
            "partners": sorted({each.partner for each in self.sessions if each.partner is not None}),
            "subjects_in_audiences": _true(self.subjects["in_audiences"]),
            "subjects_advertisers_may_have_learned_of": _true(self.subjects["advertisers_may_have_learned"]),
            "erased_assertions": self.erased_assertions,
            "erased_memberships": self.erased_memberships,
            "expired_audiences": self.expired_audiences,
            "by_advertiser": [asdict(each) for each in self.advertisers],
            "by_audience": [asdict(each) for each in self.audiences],
        }


def _true(column: pa.ChunkedArray) -> int:
    return int(np.count_nonzero(column.to_numpy()))
