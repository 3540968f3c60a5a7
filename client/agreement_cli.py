"""The commands `purposematch agreement`: see what a platform offers, and accept it.

Not protected against: credentials that were replaced on their way. The platform's signature is checked with
the identity key in them; compare it over another channel.
"""

import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from purposematch.client.agreement import accept_agreement
from purposematch.client.credentials import Credentials
from purposematch.console import emit_json, example, report
from purposematch.protocol.leak_sheet import expiry_text, leak_sheet

__all__ = ["agreement_app"]

agreement_app = typer.Typer(help="What was agreed with the platform.", no_args_is_help=True)

CredentialsOption = Annotated[
    Path, typer.Option(metavar="DIR", help="The credentials folder that the platform gave you.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@agreement_app.command(
    "accept", epilog=example("purposematch agreement accept acme-2.json --credentials credentials/")
)
def accept_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the platform offers.")],
    credentials: CredentialsOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask after showing who learns what.")] = False,
    json: JsonOption = False,
) -> None:
    """Accept an agreement: see who will learn what, and sign it with your own key.

    The key is made the first time, in the credentials folder, and stays there. Send the file that is written
    back to the platform, and tell it the key over another channel the first time. Matches run under the
    agreement from then on.
    """
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to answer the question after the sheet; add --yes")

    def show_sheet(sheet: str) -> None:
        print(sheet, file=sys.stderr, flush=True)
        if not yes:
            typer.confirm("Sign it?", abort=True, err=True)

    accepted = accept_agreement(file, credentials, random_bytes=secrets.token_bytes, show_sheet=show_sheet)
    document = {
        "number": accepted.agreement.number,
        "digest": accepted.agreement.digest.hex(),
        "advertiser_key": accepted.key.hex(),
        "file": str(accepted.path),
    }
    report("Agreement accepted; send the file back to the platform", document, json)


@agreement_app.command("show", epilog=example("purposematch agreement show --credentials credentials/"))
def show_command(credentials: CredentialsOption, json: JsonOption = False) -> None:
    """Show the agreement that matches run under, and who learns what."""
    agreement = Credentials.load(credentials).agreement
    if json:
        document = agreement.to_mapping()
        emit_json(document | {"expires_at": expiry_text(agreement), "digest": agreement.digest.hex()})
    else:
        print(leak_sheet(agreement, None))
