"""What a match came to, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from purposematch.protocol.agreement import Disclosure

__all__ = ["MatchResult"]


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
    """

    session: str
    rows: int
    usable: int
    invalid: Mapping[str, int]
    duplicates: int
    matched_rows: int
    matched_identifiers: int
    disclosure: Disclosure

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
        }
