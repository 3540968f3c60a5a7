"""The command line `purposematch`: `match`, `check`, `removals`, `warm-up`, and what other modules add.

Results go to stdout, the leak sheet, questions and errors to stderr. Exit codes: 0 done, 1 refused or
failed with a reason, 2 wrong usage, 75 broken off and to be resumed, 130 interrupted.

Not protected against: the output file and the shell's history are the user's own.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import pyarrow as pa
import typer

from purposematch.client.agreement_cli import agreement_app
from purposematch.client.answers_cli import ask_app, publish_app
from purposematch.client.audit_cli import add_audit_command
from purposematch.client.check import CheckResult, check_list
from purposematch.client.client import match as run_match
from purposematch.client.columns import Column, UnnamedColumnsError
from purposematch.client.credentials import Credentials
from purposematch.client.customer_list import reason_counts
from purposematch.client.delegation_cli import add_delegation_commands
from purposematch.client.delivery_cli import delivery_app
from purposematch.client.match_report import report_count, report_match
from purposematch.client.partner_credentials import load_partner
from purposematch.client.plan_cli import add_plan_command
from purposematch.client.reconnect import RECONNECT_SECONDS, Patience
from purposematch.client.removals import apply_removals
from purposematch.client.result import NoisyResult
from purposematch.client.resume_file import resume_path
from purposematch.console import (
    announced_group,
    emit_json,
    example,
    new_app,
    progress,
    report_counts,
    report_facts,
    run_program,
    show_version,
    warm_up,
)
from purposematch.protocol.agreement import DEFAULT_MIN_LIST_ELEMENTS
from purposematch.protocol.audience import DEFAULT_AUDIENCE, AudienceChange, AudienceMode
from purposematch.protocol.errors import BrokenOffError, DecodeError, InputError, OutcomeUnknownError
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.match_engine import EXPERIMENTAL, EngineChoice
from purposematch.telemetry import traces_exported

__all__ = ["app", "main"]

PROGRAM: Final = "purposematch"

MAX_THREADS: Final = 1_024
"""The largest --threads, as of the platform's setting `evaluation_threads`."""

app = new_app(PROGRAM, "Finds which people on a customer list a platform may advertise to, privately.")
app.add_typer(delivery_app)
app.add_typer(publish_app)

ListFile = Annotated[
    Path, typer.Argument(metavar="LIST", help="The list: CSV or Parquet; - is standard input.")
]
EmailColumns = Annotated[
    list[str] | None, typer.Option("--email-column", metavar="COLUMN", help="E-mail addresses. Repeatable.")
]
PhoneColumns = Annotated[
    list[str] | None, typer.Option("--phone-column", metavar="COLUMN", help="Phone numbers. Repeatable.")
]
MaidColumns = Annotated[
    list[str] | None,
    typer.Option("--maid-column", metavar="COLUMN", help="Mobile advertising ids. Repeatable."),
]
EmailDigests = Annotated[
    list[str] | None,
    typer.Option("--email-sha256-column", metavar="COLUMN", help="SHA-256 of e-mail addresses."),
]
PhoneDigests = Annotated[
    list[str] | None,
    typer.Option("--phone-sha256-column", metavar="COLUMN", help="SHA-256 of phone numbers."),
]
MaidDigests = Annotated[
    list[str] | None,
    typer.Option("--maid-sha256-column", metavar="COLUMN", help="SHA-256 of mobile advertising ids."),
]
Prehashed = Annotated[bool, typer.Option("--prehashed", help="All these columns hold SHA-256 digests.")]
Region = Annotated[
    str | None,
    typer.Option(metavar="CC", help="Country of phone numbers without +, such as DE or US."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@app.callback(invoke_without_command=True)
def top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With --version: the group back end too.")
    ] = False,
) -> None:
    """Finds which people on a customer list a platform may advertise to, privately."""
    if verbose and not version:
        raise typer.BadParameter("--verbose goes with --version")
    if version:
        show_version(PROGRAM, {"group": announced_group().description} if verbose else None)


@app.command("warm-up", epilog=example("purposematch warm-up"))
def warm_up_command() -> None:
    """Compile the kernels for this processor now, so that no match has to wait for it."""
    group = announced_group()
    warm_up(group)
    report_facts("Ready", {"group": group.description})


@app.command(
    epilog=example(
        "purposematch match customers.csv --platform match.example.com:8443 --credentials credentials/ "
        "--output matched.csv",
        "zcat crm.csv.gz | purposematch match - --platform localhost:8443 --credentials credentials/ "
        "--output matched.parquet --email-column mail --region DE --yes --json",
        "purposematch match spring.csv --platform match.example.com:8443 --credentials agency/ "
        "--output matched.csv --for acme --list spring",
        "purposematch match unsubscribed.csv --platform match.example.com:8443 --credentials credentials/ "
        "--output out.csv --audience loyal --mode remove",
    )
)
def match(
    list_file: ListFile,
    platform: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the platform serves.")],
    credentials: Annotated[
        Path, typer.Option(metavar="DIR", help="The credentials folder that the platform gave you.")
    ],
    output: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The list with the columns matched and reason; CSV or Parquet."),
    ],
    email_column: EmailColumns = None,
    phone_column: PhoneColumns = None,
    maid_column: MaidColumns = None,
    email_sha256_column: EmailDigests = None,
    phone_sha256_column: PhoneDigests = None,
    maid_sha256_column: MaidDigests = None,
    prehashed: Prehashed = False,
    region: Region = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MAX_THREADS, help="Threads that compute; one a core by default.")
    ] = None,
    on_behalf_of: Annotated[
        str | None,
        typer.Option("--for", metavar="ADVERTISER", help="A partner: for whom the list is brought."),
    ] = None,
    list_name: Annotated[
        str | None,
        typer.Option("--list", metavar="NAME", help="With --for: which list of the delegation it is."),
    ] = None,
    audience: Annotated[
        str, typer.Option(metavar="NAME", help="Where the platform keeps who matches: which audience.")
    ] = DEFAULT_AUDIENCE,
    mode: Annotated[
        AudienceMode,
        typer.Option(help="What is done with that audience: who matches is it, joins it, leaves it."),
    ] = AudienceMode.REPLACE,
    engine: Annotated[
        EngineChoice,
        typer.Option(
            help=f"What computes: vole is quick, but {EXPERIMENTAL}, and the agreement must allow it; "
            "auto takes it only then, and where it is the cheaper one."
        ),
    ] = EngineChoice.AUTO,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only go on with a match that broke off; never begin a new one.")
    ] = False,
    patience: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="How long to try to come back to a lost connection."),
    ] = RECONNECT_SECONDS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask after showing who learns what.")] = False,
    json: Json = False,
) -> None:
    """Match LIST with a platform and write every row with its result to FILE.

    Under the disclosures platform and count nobody tells you which rows match: FILE is a signed, noisy count.

    Without column options, columns with usual names (email, phone, idfa, hashed_email, ...) are taken.
    Before anything is sent, a sheet says who learns what.

    A match that broke off ends with exit code 75 and leaves FILE.resume: the same command goes on with it.
    """
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to answer the question after the sheet; add --yes")
    if (on_behalf_of is None) != (list_name is None):
        raise typer.BadParameter("--for and --list go together")

    def show_sheet(sheet: str) -> None:
        print(sheet, file=sys.stderr, flush=True)
        if not yes:
            typer.confirm("Go on?", abort=True, err=True)

    columns = _columns(
        (email_column, phone_column, maid_column),
        (email_sha256_column, phone_sha256_column, maid_sha256_column),
    )
    exporting = traces_exported("purposematch", os.environ)
    with _options_named(), _broken_off_shown(output, json), exporting:
        result = run_match(
            list_file,
            platform=platform,
            credentials=_shown(credentials, on_behalf_of, list_name),
            output=output,
            columns=columns,
            prehashed=prehashed,
            region=region,
            show_sheet=show_sheet,
            progress=progress,
            group=announced_group(threads),
            resume=resume,
            patience=Patience(reconnect_seconds=patience),
            audience=_change(audience, mode),
            engine=engine,
        )
    if json:
        emit_json({**result.to_mapping(), "status": "done"})
    elif isinstance(result, NoisyResult):
        report_count(result, output)
    else:
        report_match(result, output)


@app.command(
    epilog=example(
        "purposematch check customers.csv",
        "purposematch check customers.csv --phone-column mobile --region US --profile uid2-v1 --json",
    )
)
def check(
    list_file: ListFile,
    email_column: EmailColumns = None,
    phone_column: PhoneColumns = None,
    maid_column: MaidColumns = None,
    email_sha256_column: EmailDigests = None,
    phone_sha256_column: PhoneDigests = None,
    maid_sha256_column: MaidDigests = None,
    prehashed: Prehashed = False,
    profile: Annotated[
        Profile, typer.Option(help="The platform's rule for canonical values.")
    ] = Profile.PLAIN,
    region: Region = None,
    json: Json = False,
) -> None:
    """See what is wrong with LIST before matching it: invalid, duplicate and pre-hashed rows.

    Nothing is sent anywhere.
    """
    columns = _columns(
        (email_column, phone_column, maid_column),
        (email_sha256_column, phone_sha256_column, maid_sha256_column),
    )
    with _options_named():
        checked = check_list(
            list_file,
            columns=columns,
            prehashed=prehashed,
            profile=profile,
            region=region,
            progress=progress,
        )
    if json:
        emit_json(checked.to_mapping())
    else:
        _report_check(checked)


@app.command(
    epilog=example(
        "purposematch removals matched.csv --platform match.example.com:8443 --credentials credentials/",
        "purposematch removals results/*.parquet --platform localhost:8443 --credentials credentials/ --json",
    )
)
def removals(
    outputs: Annotated[
        list[Path], typer.Argument(metavar="OUTPUT...", help="Every output of `match` that you keep.")
    ],
    platform: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the platform serves.")],
    credentials: Annotated[
        Path, typer.Option(metavar="DIR", help="The credentials folder that the platform gave you.")
    ],
    json: Json = False,
) -> None:
    """Take people who left the platform's index out of stored results, and tell the platform so.

    Their rows become rows that never matched. Each OUTPUT needs its .tags file beside it, and is replaced
    whole or not at all. Copies elsewhere are yours to see to.
    """
    result = apply_removals(outputs, platform=platform, credentials=credentials, progress=progress)
    for path in result.ended:
        print(
            f"{path}: its key epoch has ended; who leaves from now on is on no list: match again",
            file=sys.stderr,
        )
    if json:
        emit_json(result.to_mapping())
    else:
        facts = {name.replace("_", " "): value for name, value in result.to_mapping().items()}
        report_facts("Removals applied", facts)


add_audit_command(app)
app.add_typer(agreement_app, name="agreement")
add_delegation_commands(app)
add_plan_command(app)
app.add_typer(ask_app, name="ask")


def _shown(folder: Path, advertiser: str | None, list_name: str | None) -> Path | Credentials:
    """An advertiser's folder, or what a partner brings a list with."""
    if advertiser is None or list_name is None:
        return folder
    return load_partner(folder, advertiser, list_name)


def _change(audience: str, mode: AudienceMode) -> AudienceChange:
    try:
        return AudienceChange(audience, mode)
    except DecodeError as error:
        raise InputError(f"--audience: {error}") from None


def _columns(*names: tuple[list[str] | None, ...]) -> tuple[Column, ...]:
    """The named columns: the raw ones by kind, then the digests by kind."""
    raw, digests = names
    return tuple(
        Column(name, kind, hashed)
        for hashed, by_kind in ((False, raw), (True, digests))
        for kind, of_kind in zip(Kind, by_kind, strict=True)
        for name in of_kind or ()
    )


@contextmanager
def _options_named() -> Iterator[None]:
    """Says with which options columns are named, where the library says that they must be."""
    try:
        yield
    except UnnamedColumnsError as error:
        raise InputError(f"{error} with --email-column, --phone-column or --maid-column") from None


@contextmanager
def _broken_off_shown(output: Path, json: bool) -> Iterator[None]:
    """Says with --json what became of a match that can be resumed; the error itself passes."""
    try:
        yield
    except BrokenOffError as error:
        if json:
            status = "unknown" if isinstance(error, OutcomeUnknownError) else "interrupted"
            resume = str(resume_path(output))
            emit_json({"status": status, "session": error.session, "resume": resume})
        raise


def _report_check(checked: CheckResult) -> None:
    """Prints a check for people: numbers, and for every reason what to do."""
    customers = checked.customers
    report_facts(
        f"Under profile {checked.profile}",
        {
            "rows": customers.rows,
            "usable": customers.usable,
            "duplicates": customers.duplicates,
            "distinct identifiers": len(customers),
            f"at least {DEFAULT_MIN_LIST_ELEMENTS:,}": checked.reaches_minimum,
        },
    )
    if customers.invalid:
        report_counts("Rows that cannot be used", customers.invalid, customers.rows)
    for column, counts in zip(customers.columns, customers.column_reasons, strict=True):
        content = f"SHA-256 of {column.kind.label}" if column.hashed else column.kind.label
        report_counts(f'Column "{column.name}" ({content}), refused', reason_counts(counts), customers.rows)
    if checked.advice:
        report_facts("What to do", checked.advice)


def main() -> int:
    """The entry point of `purposematch`."""
    # Arrow's own allocator keeps what a long list needed for a moment; the system's gives it back.
    pa.set_memory_pool(pa.system_memory_pool())
    return run_program(app)
