"""The commands `deliver` and `withdraw` of `purposematch`, for a platform's own collecting systems.

Not protected against: the file and the shell's history are the user's own.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from purposematch.client.delivery import deliver, withdraw
from purposematch.client.sent_rows import file_named, one_named
from purposematch.console import emit_json, example, progress, report_counts
from purposematch.console.answers import report_reasons, report_receipt
from purposematch.protocol.errors import DecodeError, InputError
from purposematch.protocol.evidence import MAX_BATCH_FILE_BYTES, BatchEvidence

__all__ = ["delivery_app"]

delivery_app = typer.Typer()

PlatformOption = Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the platform serves.")]
CredentialsOption = Annotated[
    Path, typer.Option(metavar="DIR", help="The collector's credentials folder that the platform gave you.")
]
RegionOption = Annotated[
    str | None, typer.Option(metavar="CC", help="The country of phone numbers without +.")
]
DeliveryIdOption = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Send again what an earlier run left unanswered: the id that it named."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@delivery_app.command(
    "deliver",
    epilog=example(
        "purposematch deliver signups.csv --platform match.example.com:8443 --credentials signup-app",
        "zcat new.csv.gz | purposematch deliver - --platform localhost:8443 --credentials signup-app --json",
    ),
)
def deliver_command(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Assertions: CSV or Parquet; - is standard input.")
    ],
    platform: PlatformOption,
    credentials: CredentialsOption,
    evidence: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The signature over the rows that have a salt and none of their own."
        ),
    ] = None,
    region: RegionOption = None,
    delivery_id: DeliveryIdOption = None,
    json: JsonOption = False,
) -> None:
    """Deliver assertions to the platform that these credentials are of, all of them or none.

    The columns are those of `purposematch-platform enroll`; others are left out. The name in the credentials
    is the source. A row that does not permit is stored with its reason, which is counted here.
    """
    done = deliver(
        None if file == "-" else file,
        platform=platform,
        credentials=credentials,
        evidence=None if evidence is None else _evidence(evidence),
        region=region,
        delivery_id=_id(delivery_id),
        stdin=sys.stdin.buffer,
        progress=progress,
    )
    if json:
        emit_json(done.to_mapping())
    else:
        counts = {"enrolled": done.enrolled, **done.refused}
        report_counts(f"{done.read:,} rows delivered", counts, done.read)
        report_reasons(done.refused)


@delivery_app.command(
    "withdraw",
    epilog=example(
        "purposematch withdraw --subject-id ada --platform match.example.com:8443 --credentials signup-app",
        "purposematch withdraw left.csv --object --platform localhost:8443 --credentials signup-app --json",
    ),
)
def withdraw_command(
    platform: PlatformOption,
    credentials: CredentialsOption,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="CSV or Parquet with subject_id, or kind, value and value_format; - is standard input.",
        ),
    ] = None,
    subject_id: Annotated[str | None, typer.Option(metavar="ID", help="The person.")] = None,
    identifier: Annotated[
        str | None, typer.Option(metavar="VALUE", help="An identifier, for everybody who has it.")
    ] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="email, phone or maid.")] = None,
    objected: Annotated[
        bool, typer.Option("--object", help="An objection, which nothing lifts; else a withdrawal.")
    ] = False,
    purpose: Annotated[
        str | None, typer.Option(metavar="KEY", help="The use that is refused; without it, every use.")
    ] = None,
    region: RegionOption = None,
    delivery_id: DeliveryIdOption = None,
    json: JsonOption = False,
) -> None:
    """Tell the platform that people take permissions back; in force when this ends."""
    if sum(each is not None for each in (file, subject_id, identifier)) != 1:
        raise typer.BadParameter("name one of FILE, --subject-id and --identifier")
    if file is None:
        named = one_named(subject_id, identifier, kind)
    else:
        named = file_named(None if file == "-" else Path(file), sys.stdin.buffer)
    receipt = withdraw(
        named,
        platform=platform,
        credentials=credentials,
        objected=objected,
        purpose=purpose,
        region=region,
        delivery_id=_id(delivery_id),
    )
    if json:
        emit_json(receipt)
    else:
        title = "Objection" if objected else "Withdrawal"
        report_receipt(f"{title} recorded, in force from now on", receipt)


def _id(text: str | None) -> bytes | None:
    try:
        return None if text is None else bytes.fromhex(text)
    except ValueError:
        raise InputError("a delivery id is written in hexadecimal") from None


def _evidence(path: Path) -> BatchEvidence:
    try:
        with path.open("rb") as file:
            return BatchEvidence.from_bytes(file.read(MAX_BATCH_FILE_BYTES + 1))
    except OSError as error:
        raise InputError(f"the evidence file {path} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise InputError(f"{path}: {error}") from None
