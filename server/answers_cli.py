"""The commands that answer: `impact` and `subject` of `purposematch-platform`.

Not protected against: whoever can run these commands on the data directory is the platform. What they print
and write holds subject ids.
"""

from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import emit_json, example
from purposematch.console.answers import report_impact, report_subjects
from purposematch.console.questions import (
    AdvertiserOption,
    AsOfOption,
    FromOption,
    IdentifierOption,
    IssuerOption,
    KindOption,
    NoticeOption,
    OriginOption,
    PurposeOption,
    RegionOption,
    SourceOption,
    SubjectIdOption,
    ToOption,
)
from purposematch.server.answer_files import demand_fresh, write_impact
from purposematch.server.answers import answer_impact, answer_subject, parse_kind, selection_of
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform

__all__ = ["OutputOption", "answers_app"]

answers_app = typer.Typer()

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
    advertiser: AdvertiserOption = None,
    as_of: AsOfOption = None,
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
        report_impact("Enrolled through these assertions", document)


@answers_app.command(
    "subject",
    epilog=example("purposematch-platform subject --data-dir platform --identifier +15551234567 --json"),
)
def subject_command(
    data_dir: DataDirOption,
    subject_id: SubjectIdOption = None,
    identifier: IdentifierOption = None,
    kind: KindOption = None,
    region: RegionOption = None,
    json: JsonOption = False,
) -> None:
    """Tell everything about a subject, or about each subject who was named with an identifier."""
    if (subject_id is None) == (identifier is None):
        raise typer.BadParameter("name one of --subject-id and --identifier")
    with open_platform(data_dir) as platform:
        told = answer_subject(platform, subject_id, identifier, parse_kind(kind), region)
    if json:
        emit_json(told)
    else:
        report_subjects(told)
