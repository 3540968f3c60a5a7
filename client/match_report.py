"""What `purposematch match` prints for people.

Not protected against: a terminal that others read.
"""

from pathlib import Path

from purposematch.client.result import MatchResult, NoisyResult
from purposematch.console import report_counts, report_facts
from purposematch.protocol.audience import AudienceChange
from purposematch.protocol.epsilon import epsilon_text
from purposematch.protocol.match_engine import EXPERIMENTAL, MatchEngine

__all__ = ["report_count", "report_match"]


def report_match(result: MatchResult, output: Path) -> None:
    """Prints what a match came to that shows which rows match."""
    report_facts(
        f"Matched, disclosure {result.disclosure}",
        {
            "rows": result.rows,
            "usable": result.usable,
            "duplicates": result.duplicates,
            "matched rows": f"{result.matched_rows:,} ({result.match_rate:.1%} of the usable)",
            "matched identifiers": result.matched_identifiers,
            **_audience(result.audience),
            **_engine(result.engine),
            "session": result.session,
            "output": output,
        },
    )
    if result.invalid:
        report_counts("Rows that cannot be used", result.invalid, result.rows)


def report_count(result: NoisyResult, output: Path) -> None:
    """Prints what is known of a match under a noisy disclosure."""
    report = result.report
    report_facts(
        f"Counted, disclosure {report.disclosure}",
        {
            "rows": result.rows,
            "usable": result.usable,
            "duplicates": result.duplicates,
            "identifiers": result.identifiers,
            f"matching {report.unit}": f"{report.count_text}, with noise",
            "rate": report.rate_text or "not told",
            **({} if result.audience is None else {"for an audience": report.size_text}),
            "paid": f"epsilon {epsilon_text(report.epsilon)}" if result.paid else "nothing, it was known",
            **_audience(result.audience),
            **_engine(result.engine),
            "session": result.session or "none",
            "output": output,
        },
    )
    if result.invalid:
        report_counts("Rows that cannot be used", result.invalid, result.rows)


def _engine(engine: MatchEngine) -> dict[str, object]:
    return {} if engine is MatchEngine.OPRF else {"engine": f"{engine}: {EXPERIMENTAL}"}


def _audience(change: AudienceChange | None) -> dict[str, object]:
    return {} if change is None else {"audience": f"{change.name} ({change.mode})"}
