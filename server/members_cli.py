"""The commands `collector add`, `operator add`, `auditor add` and `partner add` of `purposematch-platform`.

Not protected against: whoever can run these commands on the data directory is the platform, and whoever gets
a folder that they write is who it was made for.
"""

from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import example, report
from purposematch.protocol.errors import InputError
from purposematch.protocol.policy import DEFAULT_SOURCE
from purposematch.server.certificates import admit_member
from purposematch.server.options import CertificateOption, DataDirOption, JsonOption
from purposematch.server.pki import Role
from purposematch.server.platform import open_platform

__all__ = ["add_member_commands"]

collector_app = typer.Typer(help="Which systems may deliver to a running platform.", no_args_is_help=True)
operator_app = typer.Typer(help="Who may act on a running platform.", no_args_is_help=True)
partner_app = typer.Typer(help="Who may bring lists for an advertiser.", no_args_is_help=True)
auditor_app = typer.Typer(help="Who may ask a running platform and audit it.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, dots, dashes.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="The credentials folder to write.")]


def add_member_commands(app: typer.Typer) -> None:
    """Adds the commands to the platform's program."""
    app.add_typer(collector_app, name="collector")
    app.add_typer(operator_app, name="operator")
    app.add_typer(auditor_app, name="auditor")
    app.add_typer(partner_app, name="partner")


@collector_app.command(
    "add",
    epilog=example("purposematch-platform collector add signup-app --data-dir platform --out signup-app"),
)
def collector_add_command(
    name: NameArgument,
    data_dir: DataDirOption,
    out: OutOption,
    certificate: CertificateOption = None,
    json: JsonOption = False,
) -> None:
    """Admit a system that delivers assertions and withdrawals, and write its credentials.

    Its name is the source of everything it delivers: list it in the policy's table `sources`, with the
    origins that it may claim. Until then nothing that it delivers permits anything; refusals always count.
    """
    if name == DEFAULT_SOURCE:
        raise InputError(
            f"files without a source have the source {DEFAULT_SOURCE}; give the collector another name"
        )
    with open_platform(data_dir) as platform:
        added = admit_member(platform, Role.COLLECTOR, name, certificate, out)
        origins = sorted(origin.label for origin in platform.policy().sources.get(name, ()))
    document: dict[str, object] = {
        "collector": name,
        "credentials": str(out),
        "fingerprint": added.fingerprint.hex(),
        "origins": origins,
    }
    title = "Collector added; the folder must reach it secret and unaltered"
    if not origins:
        title += (
            f". Before what it delivers can permit anything, list {name} under [sources] of the policy, "
            "and run policy publish"
        )
    report(title, document, json)


@operator_app.command(
    "add", epilog=example("purposematch-platform operator add ops --data-dir platform --out ops-credentials")
)
def operator_add_command(
    name: NameArgument,
    data_dir: DataDirOption,
    out: OutOption,
    certificate: CertificateOption = None,
    json: JsonOption = False,
) -> None:
    """Admit somebody to status, publishing, withdrawals, questions and audits, and write the credentials."""
    _add(Role.OPERATOR, name, data_dir, out, certificate, json)


@auditor_app.command(
    "add", epilog=example("purposematch-platform auditor add eve --data-dir platform --out eve-credentials")
)
def auditor_add_command(
    name: NameArgument,
    data_dir: DataDirOption,
    out: OutOption,
    certificate: CertificateOption = None,
    json: JsonOption = False,
) -> None:
    """Admit somebody to questions and audits, which change nothing, and write the credentials."""
    _add(Role.AUDITOR, name, data_dir, out, certificate, json)


@partner_app.command(
    "add", epilog=example("purposematch-platform partner add agency --data-dir platform --out agency")
)
def partner_add_command(
    name: NameArgument,
    data_dir: DataDirOption,
    out: OutOption,
    certificate: CertificateOption = None,
    json: JsonOption = False,
) -> None:
    """Admit a partner, which brings lists for advertisers, and write its credentials.

    It can match nothing until an advertiser has delegated it and that was recorded: see `delegation record`.
    """
    _add(Role.PARTNER, name, data_dir, out, certificate, json)


def _add(role: Role, name: str, data_dir: Path, out: Path, certificate: Path | None, json: bool) -> None:
    with open_platform(data_dir) as platform:
        added = admit_member(platform, role, name, certificate, out)
    document = {role.value: name, "credentials": str(out), "fingerprint": added.fingerprint.hex()}
    report(f"{role.capitalize()} added", document, json)
