"""What a match came to, in numbers.

Not protected against: a noisy count is what the platform says; its noise can not be checked from outside.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.audience import AudienceChange
from purposematch.protocol.epsilon import epsilon_text
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.noisy_report import NoisyReport

__all__ = ["MatchResult", "NoisyResult"]


@dataclass(frozen=True, slots=True)
class MatchResult:
    """The outcome of one match; which rows matched is in the output file.

    Attributes:
        session: the session's id, 32 hexadecimal digits; the platform knows the match by it.
        rows: rows of the list.
        usable: rows with at least one usable identifier.
        invalid: the other rows, by the label of their `IdentifierReason`.
        duplicates: usable rows all of whose identifiers were in earlier rows.
        matched_rows: rows of which any identifier matched.
        matched_identifiers: distinct identifiers that matched.
        disclosure: who learned what.
        engine: what it was computed with.
        audience: what the session did to which audience; None where the platform keeps none.
    """

    session: str
    rows: int
    usable: int
    invalid: Mapping[str, int]
    duplicates: int
    matched_rows: int
    matched_identifiers: int
    disclosure: Disclosure
    engine: MatchEngine = MatchEngine.OPRF
    audience: AudienceChange | None = None

    @property
    def match_rate(self) -> float:
        """Matched rows among the usable ones, 0.0 to 1.0; 0.0 if none is usable."""
        return self.matched_rows / self.usable if self.usable else 0.0

    def to_mapping(self) -> dict[str, object]:
        """The document that `purposematch match --json` prints."""
        return {
            "session": self.session,
            "rows": self.rows,
            "usable": self.usable,
            "invalid": dict(self.invalid),
            "duplicates": self.duplicates,
            "matched_rows": self.matched_rows,
            "matched_identifiers": self.matched_identifiers,
            "match_rate": self.match_rate,
            "disclosure": self.disclosure.value,
            "engine": self.engine.value,
            "audience": None if self.audience is None else self.audience.to_mapping(),
        }


@dataclass(frozen=True, slots=True)
class NoisyResult:
    """The outcome of one match under a noisy disclosure; which rows matched is not known to this side.

    Attributes:
        session: the session's id, 32 hexadecimal digits; None where the answer was known and there was none.
        rows: rows of the list.
        usable: rows with at least one usable identifier.
        invalid: the other rows, by the label of their `IdentifierReason`.
        duplicates: usable rows all of whose identifiers were in earlier rows.
        identifiers: distinct identifiers of the list.
        report: what the platform signed.
        engine: what it was computed with; the usual one where the answer was known.
        audience: as of `MatchResult`; where the answer was known, nothing was done to it now.
    """

    session: str | None
    rows: int
    usable: int
    invalid: Mapping[str, int]
    duplicates: int
    identifiers: int
    report: NoisyReport
    engine: MatchEngine = MatchEngine.OPRF
    audience: AudienceChange | None = None

    @property
    def paid(self) -> bool:
        """Whether this match was paid for: a known answer costs nothing."""
        return self.report.session.hex() == self.session

    def to_mapping(self) -> dict[str, object]:
        """The document that `purposematch match --json` prints."""
        report = self.report
        return {
            "session": self.session,
            "rows": self.rows,
            "usable": self.usable,
            "invalid": dict(self.invalid),
            "duplicates": self.duplicates,
            "identifiers": self.identifiers,
            "disclosure": report.disclosure.value,
            "engine": self.engine.value,
            "count": report.count_text,
            "value": report.value,
            "unit": report.unit.value,
            "rate": report.rate_text,
            "epsilon": epsilon_text(report.epsilon),
            "paid": self.paid,
            "audience": self.audience and {**self.audience.to_mapping(), "status": self.report.size_text},
        }
