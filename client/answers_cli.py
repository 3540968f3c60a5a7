"""The commands `purposematch ask` and `purposematch publish`, for a platform's own operators and auditors.

Not protected against: what is printed holds subject ids, and the shell's history is the user's own.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Final

import typer

from purposematch.client.answers import ask_audit, ask_impact, ask_status, ask_subject, publish
from purposematch.console import emit_json, example, progress, report
from purposematch.console.answers import report_impact, report_status, report_subjects
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

__all__ = ["ask_app", "publish_app"]

ask_app = typer.Typer(
    help="Ask a running platform, with the credentials of one of its operators or auditors.",
    no_args_is_help=True,
)
publish_app = typer.Typer()

PlatformOption = Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the platform serves.")]
CredentialsOption = Annotated[
    Path, typer.Option(metavar="DIR", help="The credentials folder of an operator or auditor.")
]
OperatorOption = Annotated[
    Path, typer.Option("--credentials", metavar="DIR", help="The credentials folder of an operator.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

_AT: Final = "--platform match.example.com:8443 --credentials"


@ask_app.command(
    "subject",
    epilog=example(
        f"purposematch ask subject --identifier +15551234567 {_AT} eve-credentials",
        f"purposematch ask subject --subject-id ada {_AT} eve-credentials --json",
    ),
)
def subject_command(
    platform: PlatformOption,
    credentials: CredentialsOption,
    subject_id: SubjectIdOption = None,
    identifier: IdentifierOption = None,
    kind: KindOption = None,
    region: RegionOption = None,
    json: JsonOption = False,
) -> None:
    """Tell everything about a subject, or about each subject who was named with an identifier.

    The answer is that of `purposematch-platform subject`, and the question is in the platform's log.
    """
    if (subject_id is None) == (identifier is None):
        raise typer.BadParameter("name one of --subject-id and --identifier")
    with _waiting():
        told = ask_subject(subject_id, identifier, kind, region, platform=platform, credentials=credentials)
    if json:
        emit_json(told)
    else:
        report_subjects(told)


@ask_app.command(
    "impact",
    epilog=example(
        f"purposematch ask impact --notice ads-7 {_AT} eve-credentials",
        f"purposematch ask impact --origin two_factor --as-of 2026-01-31T00:00:00Z {_AT} eve --json",
    ),
)
def impact_command(
    platform: PlatformOption,
    credentials: CredentialsOption,
    origin: OriginOption = None,
    purpose: PurposeOption = None,
    notice: NoticeOption = None,
    source: SourceOption = None,
    issuer: IssuerOption = None,
    received_from: FromOption = None,
    received_to: ToOption = None,
    advertiser: AdvertiserOption = None,
    as_of: AsOfOption = None,
    json: JsonOption = False,
) -> None:
    """Say who was enrolled through assertions, in which generations and sessions, and who learned of it.

    An option given several times means any of its values; different options must all hold. Labels are those
    that count, corrections included. Times are ISO 8601 with offset. The answer is that of
    `purposematch-platform impact`: numbers; the lists of people are written on the platform's machine alone.
    """
    with _waiting():
        told = ask_impact(
            platform=platform,
            credentials=credentials,
            origins=origin or (),
            purposes=purpose or (),
            notices=notice or (),
            sources=source or (),
            issuers=issuer or (),
            received_from=received_from,
            received_to=received_to,
            advertiser=advertiser,
            as_of=as_of,
        )
    if json:
        emit_json(told)
    else:
        report_impact("Enrolled through these assertions", told)


@ask_app.command("audit", epilog=example(f"purposematch ask audit {_AT} eve-credentials --json"))
def audit_command(platform: PlatformOption, credentials: CredentialsOption, json: JsonOption = False) -> None:
    """Have the platform verify its registry against its log, and its index against the gate.

    Ends with exit code 1 and names the first row or file that is not as it was logged. It takes as long as
    reading everything, and there is one audit at a time. The platform verifies itself: `purposematch audit`
    checks a bundle of its log, and receipts, without trusting it.
    """
    with _waiting():
        checked = ask_audit(platform=platform, credentials=credentials)
    report("Everything is as it was logged", checked, json)


@ask_app.command("status", epilog=example(f"purposematch ask status {_AT} ops-credentials"))
def status_command(platform: PlatformOption, credentials: OperatorOption, json: JsonOption = False) -> None:
    """Show what the platform serves, its sessions, what is left of quotas, what is wrong and what to do.

    The answer is that of `purposematch-platform status`; it is for operators.
    """
    with _waiting():
        told = ask_status(platform=platform, credentials=credentials)
    if json:
        emit_json(told)
    else:
        report_status(told)


@publish_app.command("publish", epilog=example(f"purposematch publish {_AT} ops-credentials"))
def publish_command(platform: PlatformOption, credentials: OperatorOption, json: JsonOption = False) -> None:
    """Have a running platform publish a generation from its registry as it is now; for its operators."""
    with _waiting():
        published = publish(platform=platform, credentials=credentials)
    report("Generation published", published, json)


def _waiting() -> AbstractContextManager[object]:
    return progress("Waiting for the platform", None, "answers")
