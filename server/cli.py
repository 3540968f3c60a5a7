"""The platform's command line: `purposematch-platform`.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

import asyncio
import os
import secrets
import sys
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from purposematch.console import (
    announced_group,
    emit_json,
    end_within,
    example,
    new_app,
    progress,
    report,
    report_counts,
    report_facts,
    run_program,
    show_version,
    warm_up,
)
from purposematch.console.answers import report_reasons
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.policy import DEFAULT_SOURCE
from purposematch.server.advertiser_cli import advertiser_app
from purposematch.server.agreement_cli import agreement_app
from purposematch.server.answers_cli import answers_app
from purposematch.server.audience_cli import audience_app
from purposematch.server.audit_cli import add_audit_command
from purposematch.server.backup_cli import backup_command
from purposematch.server.budget_cli import budget_command
from purposematch.server.certificate_cli import certificate_app
from purposematch.server.checkpoints import check_log
from purposematch.server.config import ListenAddress
from purposematch.server.config_cli import config_app
from purposematch.server.correct_cli import correct_app
from purposematch.server.data_dir import DataDir
from purposematch.server.delegation_cli import delegation_app
from purposematch.server.enroll import enroll
from purposematch.server.epoch_cli import epoch_app
from purposematch.server.erase_cli import erase_app
from purposematch.server.evidence_columns import read_batch_evidence
from purposematch.server.initialize import initialize
from purposematch.server.issuer_cli import issuer_app
from purposematch.server.log_format import set_up_log
from purposematch.server.members_cli import add_member_commands
from purposematch.server.memory import bound_kept_memory
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import Platform, open_platform
from purposematch.server.policy_cli import policy_app
from purposematch.server.publish import publish
from purposematch.server.registry import SERVER_CACHE_KIB
from purposematch.server.removals_cli import removals_command
from purposematch.server.status_cli import status_command
from purposematch.server.withdraw_cli import withdraw_app
from purposematch.tables import open_table
from purposematch.telemetry import traces_exported

__all__ = ["app", "main"]

END_SECONDS: Final = 25.0
"""Seconds after which a server that was told to stop is ended, whatever keeps it."""

app = new_app(
    "purposematch-platform",
    "The ad platform's side: enrolls only what was given for advertising, and serves matches.",
)
app.add_typer(answers_app)
app.add_typer(correct_app)
app.add_typer(withdraw_app)
app.add_typer(erase_app)
app.add_typer(advertiser_app, name="advertiser")
app.add_typer(config_app, name="config")
app.add_typer(epoch_app, name="epoch")
app.add_typer(audience_app, name="audience")
app.add_typer(agreement_app, name="agreement")
app.add_typer(issuer_app, name="issuer")
add_member_commands(app)
app.add_typer(certificate_app, name="certificate")
app.add_typer(delegation_app, name="delegation")
app.add_typer(policy_app, name="policy")
add_audit_command(app)
app.command("backup", epilog=example("purposematch-platform backup backup-2026-11-25 --data-dir platform"))(
    backup_command
)
app.command(
    "budget",
    epilog=example(
        "purposematch-platform budget --data-dir platform",
        "purposematch-platform budget --data-dir platform --legal-entity acme --json",
    ),
)(budget_command)
app.command("status", epilog=example("purposematch-platform status --data-dir platform --json"))(
    status_command
)
app.command("removals", epilog=example("purposematch-platform removals --data-dir platform --json"))(
    removals_command
)


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="With --version: what is in use.")] = False,
) -> None:
    """Options of the program itself."""
    if verbose and not version:
        raise typer.BadParameter("--verbose goes with --version")
    if version:
        details = {"group": announced_group().description, "python": sys.version.split()[0]}
        show_version("purposematch-platform", details if verbose else None)


@app.command(
    "init",
    epilog=example("purposematch-platform init --data-dir platform --platform-id ads.example --region US"),
)
def init_command(
    data_dir: DataDirOption,
    platform_id: Annotated[
        str, typer.Option(metavar="ID", help="The platform's id: small letters, digits, dots, dashes.")
    ] = "platform",
    profile: Annotated[
        Profile, typer.Option(help="The rule that makes identifiers canonical; it can not be changed later.")
    ] = Profile.PLAIN,
    region: Annotated[
        str | None, typer.Option(metavar="CC", help="The country of phone numbers without +, such as US.")
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A DNS name or address the server is reached at.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Create a platform: keys, certificates, settings and policy in a new folder."""
    folder = DataDir(data_dir)
    config = initialize(
        folder,
        platform_id=platform_id,
        profile=profile,
        region=region,
        hosts=host or [],
        now=datetime.now(UTC),
        random_bytes=secrets.token_bytes,
    )
    with _opened(data_dir) as platform:
        identity = platform.identity_key.hex()
    document = {
        "platform_id": config.platform_id,
        "profile": config.profile,
        "identity_key": identity,
        "settings": str(folder.config),
        "policy": str(folder.policy),
        "root_key_file": str(folder.root_key),
    }
    report("Platform created; move the root key out of its folder, as the settings say", document, json)


@app.command("enroll", epilog=example("purposematch-platform enroll --data-dir platform accounts.csv --json"))
def enroll_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV or Parquet; - reads CSV from stdin.")],
    data_dir: DataDirOption,
    source: Annotated[
        str, typer.Option(metavar="NAME", help="The system that delivers the file, as the policy names it.")
    ] = DEFAULT_SOURCE,
    region: Annotated[
        str | None, typer.Option(metavar="CC", help="The country of phone numbers without +.")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The signature over the rows that have a salt and none of their own."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Bring assertions before the gate and store them with the reason of every refusal.

    Columns: subject_id, kind (email, phone, maid), value, value_format (raw, sha256), purposes (separated by
    semicolons), origin, status (granted, refused, withdrawn, objected, renewed), notice_id, not_before,
    expires_at, and optionally hash_profile, and issuer, collected_at, evidence_salt and evidence_signature
    (hexadecimal or base64). Times are ISO 8601 with offset. All of a file is stored, or nothing.
    """
    with (
        _opened(data_dir) as platform,
        open_table(None if file == "-" else Path(file), stdin=sys.stdin.buffer) as table,
        progress("Enrolling", table.size_bytes, "bytes") as advance,
    ):
        done = enroll(
            table,
            platform.registry,
            platform.policy(),
            platform.taxonomy,
            platform.clock,
            platform_id=platform.config.platform_id,
            source=source,
            evidence=None if evidence is None else read_batch_evidence(evidence),
            region=region or platform.config.region,
            progress=advance,
            random_bytes=platform.random_bytes,
        )
    if json:
        emit_json(done.to_mapping())
        return
    counts = {"enrolled": done.enrolled}
    counts |= {reason.name: count for reason, count in done.refused.items()}
    report_counts(f"{done.read:,} rows read", counts, done.read)
    report_reasons(reason.name for reason in done.refused)


@app.command("publish", epilog=example("purposematch-platform publish --data-dir platform"))
def publish_command(data_dir: DataDirOption, json: JsonOption = False) -> None:
    """Run the gate over everything enrolled and publish what it permits as a new generation."""
    with _opened(data_dir) as platform, progress("Evaluating", None, "identifiers") as advance:
        manifest = publish(platform, advance).manifest
    document = {
        "generation": manifest.name,
        "scope": manifest.scope.to_mapping(),
        "count": manifest.count,
    }
    report("Generation published", document, json)


@app.command("serve", epilog=example("purposematch-platform serve --data-dir platform --listen 0.0.0.0:7443"))
def serve_command(
    data_dir: DataDirOption,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where; port 0 picks a free one.")
    ] = None,
) -> None:
    """Serve matches over TLS until SIGTERM or Ctrl-C."""
    bound_kept_memory()
    # gRPC asks the environment how much to log when it is imported, which `run_program` comes before.
    from purposematch.server.noise import load_noise
    from purposematch.server.serve import load_engine, serve

    with (
        open_platform(data_dir, group=announced_group, cache_kib=SERVER_CACHE_KIB) as platform,
        traces_exported("purposematch-platform", os.environ),
    ):
        set_up_log(platform.config.telemetry.log_format)
        check_log(platform)
        warm_up(platform.group)
        load_engine(platform)
        load_noise()
        address = ListenAddress.parse(listen) if listen else platform.config.listen
        ready = lambda where: print(f"serving on {where}", flush=True)  # noqa: E731
        asyncio.run(serve(platform, address, ready, lambda: end_within(END_SECONDS)))
    # Everything is closed. The interpreter would wait for threads that still work, what they do is stored
    # whole or not at all, and take those of gRPC apart, which has been seen to hang.
    sys.stderr.flush()
    os._exit(0)


@app.command("warm-up", epilog=example("purposematch-platform warm-up"))
def warm_up_command() -> None:
    """Compile the kernels for this processor now, so that nothing has to wait for it later."""
    group = announced_group()
    warm_up(group)
    report_facts("Ready", {"group": group.description})


def _opened(data_dir: Path) -> AbstractContextManager[Platform]:
    return open_platform(data_dir, group=announced_group)


def main() -> int:
    """The entry point of `purposematch-platform`."""
    return run_program(app)
