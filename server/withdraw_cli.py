"""The commands `withdraw` and `object` of `purposematch-platform`: somebody takes a permission back.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from purposematch.console import emit_json, example
from purposematch.console.answers import report_receipt
from purposematch.protocol.policy import DEFAULT_SOURCE
from purposematch.protocol.purpose import Status
from purposematch.server.answers import parse_kind
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.withdraw import file_named, one_named, withdraw

__all__ = ["withdraw_app"]

_NOBODY: Final = "no pair stops being permitted; if that is a surprise, check how what was named is spelt"

withdraw_app = typer.Typer()

FileArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE",
        help="CSV or Parquet with subject_id, or kind, value and value_format; - reads CSV from stdin.",
    ),
]
SubjectOption = Annotated[str | None, typer.Option("--subject-id", metavar="ID", help="The person.")]
IdentifierOption = Annotated[
    str | None,
    typer.Option("--identifier", metavar="VALUE", help="An identifier, for everybody who has it."),
]
KindOption = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="email, phone or maid.")]
RegionOption = Annotated[
    str | None, typer.Option("--region", metavar="CC", help="The country of phone numbers without +.")
]
OneUseOption = Annotated[
    str | None,
    typer.Option("--purpose", metavar="KEY", help="The use that is refused; without it, every use."),
]
FromSourceOption = Annotated[
    str, typer.Option("--source", metavar="NAME", help="The system that it comes from.")
]


@withdraw_app.command(
    "withdraw",
    epilog=example(
        "purposematch-platform withdraw --data-dir platform --subject-id ada",
        "purposematch-platform withdraw --data-dir platform withdrawn.csv --json",
    ),
)
def withdraw_command(
    data_dir: DataDirOption,
    file: FileArgument = None,
    subject_id: SubjectOption = None,
    identifier: IdentifierOption = None,
    kind: KindOption = None,
    region: RegionOption = None,
    purpose: OneUseOption = None,
    source: FromSourceOption = DEFAULT_SOURCE,
    json: JsonOption = False,
) -> None:
    """Take permissions back, by subject (all identifiers of the person) or by identifier (everybody's).

    In force for every session and commit from now on. A later `renewed` lifts it.
    """
    _refuse(Status.WITHDRAWN, data_dir, file, subject_id, identifier, kind, region, purpose, source, json)


@withdraw_app.command(
    "object", epilog=example("purposematch-platform object --data-dir platform --identifier ada@example.com")
)
def object_command(
    data_dir: DataDirOption,
    file: FileArgument = None,
    subject_id: SubjectOption = None,
    identifier: IdentifierOption = None,
    kind: KindOption = None,
    region: RegionOption = None,
    purpose: OneUseOption = None,
    source: FromSourceOption = DEFAULT_SOURCE,
    json: JsonOption = False,
) -> None:
    """Object, by subject or by identifier. Nothing lifts an objection."""
    _refuse(Status.OBJECTED, data_dir, file, subject_id, identifier, kind, region, purpose, source, json)


def _refuse(
    status: Status,
    data_dir: Path,
    file: str | None,
    subject_id: str | None,
    identifier: str | None,
    kind: str | None,
    region: str | None,
    purpose: str | None,
    source: str,
    json: bool,
) -> None:
    if sum(each is not None for each in (file, subject_id, identifier)) != 1:
        raise typer.BadParameter("name one of FILE, --subject-id and --identifier")
    if kind is not None and identifier is None:
        raise typer.BadParameter("--kind goes with --identifier")
    if file is None:
        named, name = one_named(subject_id, identifier, parse_kind(kind)), "the command line"
    else:
        named, name = file_named(None if file == "-" else Path(file), sys.stdin.buffer), file
    with open_platform(data_dir) as platform:
        receipt = withdraw(
            platform,
            named,
            status,
            purpose=purpose,
            source=source,
            region=region or platform.config.region,
            name=name,
        )
    title = "Withdrawal" if status is Status.WITHDRAWN else "Objection"
    document = receipt.to_mapping()
    if json:
        emit_json(document)
    else:
        report_receipt(f"{title} recorded, in force from now on", document)
    if not receipt.pairs:
        print(_NOBODY, file=sys.stderr)
