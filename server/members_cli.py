"""The commands `collector add`, `operator add` and `auditor add` of `purposematch-platform`.

Not protected against: whoever can run these commands on the data directory is the platform, and whoever gets
a folder that they write is who it was made for.
"""

from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import example, report
from purposematch.protocol.errors import DecodeError, InputError
from purposematch.protocol.policy import DEFAULT_SOURCE
from purposematch.server.credentials import issue_member_credentials
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.pki import Role
from purposematch.server.platform import Platform, open_platform
from purposematch.server.times import moment

__all__ = ["add_member_commands"]

collector_app = typer.Typer(help="Which systems may deliver to a running platform.", no_args_is_help=True)
operator_app = typer.Typer(help="Who may act on a running platform.", no_args_is_help=True)
auditor_app = typer.Typer(help="Who may ask a running platform and audit it.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, dots, dashes.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="The credentials folder to write.")]


def add_member_commands(app: typer.Typer) -> None:
    """Adds the commands to the platform's program."""
    app.add_typer(collector_app, name="collector")
    app.add_typer(operator_app, name="operator")
    app.add_typer(auditor_app, name="auditor")


@collector_app.command(
    "add",
    epilog=example("purposematch-platform collector add signup-app --data-dir platform --out signup-app"),
)
def collector_add_command(
    name: NameArgument, data_dir: DataDirOption, out: OutOption, json: JsonOption = False
) -> None:
    """Write the credentials with which a system delivers assertions and withdrawals.

    Its name is the source of everything it delivers: list it in the policy's table `sources`, with the
    origins that it may claim. Until then nothing that it delivers permits anything; refusals always count.
    """
    if name == DEFAULT_SOURCE:
        raise InputError(
            f"files without a source have the source {DEFAULT_SOURCE}; give the collector another name"
        )
    with open_platform(data_dir) as platform:
        _issue(platform, Role.COLLECTOR, name, out)
        origins = sorted(origin.label for origin in platform.policy().sources.get(name, ()))
    document: dict[str, object] = {"collector": name, "credentials": str(out), "origins": origins}
    report("Collector added; the folder must reach it secret and unaltered", document, json)


@operator_app.command(
    "add", epilog=example("purposematch-platform operator add ops --data-dir platform --out ops-credentials")
)
def operator_add_command(
    name: NameArgument, data_dir: DataDirOption, out: OutOption, json: JsonOption = False
) -> None:
    """Write the credentials for status, publishing, withdrawals, questions and audits."""
    with open_platform(data_dir) as platform:
        _issue(platform, Role.OPERATOR, name, out)
    report("Operator added", {"operator": name, "credentials": str(out)}, json)


@auditor_app.command(
    "add", epilog=example("purposematch-platform auditor add eve --data-dir platform --out eve-credentials")
)
def auditor_add_command(
    name: NameArgument, data_dir: DataDirOption, out: OutOption, json: JsonOption = False
) -> None:
    """Write the credentials for questions and audits, which change nothing."""
    with open_platform(data_dir) as platform:
        _issue(platform, Role.AUDITOR, name, out)
    report("Auditor added", {"auditor": name, "credentials": str(out)}, json)


def _issue(platform: Platform, role: Role, name: str, out: Path) -> None:
    try:
        issue_member_credentials(
            platform.data_dir,
            platform.config,
            role,
            identity_key=platform.identity_key,
            name=name,
            out=out,
            now=moment(platform.clock()),
        )
    except DecodeError as error:
        raise InputError(str(error)) from None
