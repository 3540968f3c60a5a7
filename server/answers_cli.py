"""The commands that answer: `impact` and `subject` of `purposematch-platform`.

Not protected against: whoever can run these commands on the data directory is the platform. What they print
and write holds subject ids.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from purposematch.console import emit_json, example, report_facts, report_table
from purposematch.server.answer_files import demand_fresh, write_impact
from purposematch.server.answers import answer_impact, answer_subject, parse_kind, selection_of
from purposematch.server.impact import Impact
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform

__all__ = ["answers_app", "report_impact"]

answers_app = typer.Typer()

_SECTIONS: Final = {
    "receipts": ("assertion", "delivery", "log_leaf", "log_size", "log_root", "position"),
    "decisions": ("decided_at", "identifier", "reason", "through_assertion", "policy"),
    "enrolled": ("identifier", "assertion", "first_generation", "last_generation"),
    "sessions": ("opened_at", "session", "advertiser", "disclosure", "generation"),
    "audiences": ("session", "identifier", "assertion"),
}
"""What `subject` shows people as tables, and in which columns."""

_SAID: Final = (
    *("subject_id", "kind", "origin", "purposes", "status", "notice_id", "source", "received_at"),
    *("not_before", "expires_at", "reason_at_receipt", "corrected_to"),
)
"""What `subject` shows people of an assertion, a line each: too much for a row of a table."""

OriginOption = Annotated[
    list[str] | None, typer.Option("--origin", metavar="ORIGIN", help="Assertions of this origin.")
]
PurposeOption = Annotated[
    list[str] | None,
    typer.Option("--purpose", metavar="KEY", help="Assertions that name this purpose or one below it."),
]
NoticeOption = Annotated[
    list[str] | None, typer.Option("--notice", metavar="ID", help="Assertions given at this notice.")
]
SourceOption = Annotated[
    list[str] | None, typer.Option("--source", metavar="NAME", help="Assertions that this source delivered.")
]
IssuerOption = Annotated[
    list[str] | None,
    typer.Option("--issuer", metavar="NAME", help="Assertions with evidence of this issuer; '' for none."),
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Received at this time or later.")
]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Received before this time.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="A new folder for the lists, as CSV and JSON.")
]


@answers_app.command(
    "impact",
    epilog=example("purposematch-platform impact --data-dir platform --notice ads-7 --output impact"),
)
def impact_command(
    data_dir: DataDirOption,
    origin: OriginOption = None,
    purpose: PurposeOption = None,
    notice: NoticeOption = None,
    source: SourceOption = None,
    issuer: IssuerOption = None,
    received_from: FromOption = None,
    received_to: ToOption = None,
    advertiser: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sessions of this advertiser only.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(metavar="TIME", help="Answer as it would have been at this time.")
    ] = None,
    output: OutputOption = None,
    json: JsonOption = False,
) -> None:
    """Say who was enrolled through assertions, in which generations and sessions, and who learned of it.

    An option given several times means any of its values; different options must all hold. Labels are those
    that count, corrections included. Times are ISO 8601 with offset.
    """
    selection = selection_of(origin, purpose, notice, source, issuer, received_from, received_to)
    demand_fresh(output)
    with open_platform(data_dir) as platform:
        found, document = answer_impact(platform, selection, advertiser, as_of)
    if output is not None:
        write_impact(output, found, document)
    if json:
        emit_json(document)
    else:
        report_impact("Enrolled through these assertions", found)


def report_impact(title: str, found: Impact) -> None:
    """Prints the numbers of an impact, and a table of the advertisers."""
    if not found.assertions:
        print("no assertion is as the filters say; check how their values are spelt", file=sys.stderr)
    facts = {
        name.replace("_", " "): len(value) if isinstance(value, list) else value
        for name, value in found.to_mapping().items()
    }
    names = {
        "subjects in audiences": "subjects in audiences (exact)",
        "subjects advertisers may have learned of": "subjects advertisers may have learned of (upper bound)",
    }
    report_facts(title, {names.get(name, name): value for name, value in facts.items()})
    report_table(
        "Subjects by advertiser",
        ("advertiser", "sessions", "in audiences", "may have learned of, at most"),
        (
            (each.advertiser, each.sessions, each.subjects_in_audiences, each.subjects_may_have_learned_of)
            for each in found.advertisers
        ),
    )


@answers_app.command(
    "subject",
    epilog=example("purposematch-platform subject --data-dir platform --identifier +15551234567 --json"),
)
def subject_command(
    data_dir: DataDirOption,
    subject_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The platform's id of the person.")
    ] = None,
    identifier: Annotated[
        str | None, typer.Option(metavar="VALUE", help="An identifier, raw or as SHA-256 in hexadecimal.")
    ] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="email, phone or maid.")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="CC", help="The country of phone numbers without +.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Tell everything about a subject, or about each subject who was named with an identifier."""
    if (subject_id is None) == (identifier is None):
        raise typer.BadParameter("name one of --subject-id and --identifier")
    with open_platform(data_dir) as platform:
        told = answer_subject(platform, subject_id, identifier, parse_kind(kind), region)
    if json:
        emit_json(told)
        return
    left = told["suppressed"]
    if left:
        columns = ("identifier", "erased_at", "erasure", "log_leaf", "why")
        rows = ([_cell(each[name]) for name in columns] for each in left)
        report_table("Erased, and refused since", [name.replace("_", " ") for name in columns], rows)
    if not told["subjects"] and not left:
        report_facts("Nothing is known of it", {})
    for each in told["subjects"]:
        _report_subject(each)


def _report_subject(about: dict[str, Any]) -> None:
    report_facts(
        f"Subject {about['subject_id']}",
        {
            name: len(about[name])
            for name in ("assertions", "withdrawals", "decisions", "sessions", "audiences")
        },
    )
    for entry in about["assertions"]:
        said = _with_correction(entry)
        facts = {
            name.replace("_", " "): _cell(said[name])
            for name in _SAID
            if said.get(name) not in (None, "", [])
        }
        report_facts(f"Assertion {entry['assertion']}", facts)
    for title, columns in _SECTIONS.items():
        rows = [_with_correction(entry) for entry in about[title]]
        report_table(
            title.capitalize(),
            [name.replace("_", " ") for name in columns],
            ([_cell(row.get(name)) for name in columns] for row in rows),
        )


def _with_correction(entry: dict[str, Any]) -> dict[str, Any]:
    latest = (entry.get("corrections") or [None])[-1]
    return entry | ({"corrected_to": [latest["origin"], *latest["purposes"]]} if latest else {})


def _cell(value: Any) -> object:
    # Digests are told apart by their beginnings; the JSON document has them whole.
    if isinstance(value, list):
        return ", ".join(value)
    return value[:12] if isinstance(value, str) and len(value) >= 32 and value.isalnum() else value
