"""The commands `purposematch-platform policy`: what a policy would permit, and putting one into force.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

from pathlib import Path
from typing import Annotated

import pyarrow.csv
import typer

from purposematch.console import emit_json, example, report, report_counts, report_facts
from purposematch.protocol.errors import InputError
from purposematch.protocol.policy import Policy
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.policy_change import PolicyChange, compare_policies, lint_policy
from purposematch.server.policy_file import load_policy, parse_policy, read_policy_text
from purposematch.server.private_files import locked_folder, replace_file, write_new
from purposematch.server.publish import publish
from purposematch.server.registry.generations import latest_generation
from purposematch.server.taxonomy import load_taxonomy

__all__ = ["policy_app"]

policy_app = typer.Typer(help="The gate's policy.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A policy file.")]


@policy_app.command("check", epilog=example("purposematch-platform policy check platform/policy.toml"))
def policy_check_command(file: FileArgument, json: JsonOption = False) -> None:
    """Say whether a policy would be accepted, what it permits, and what to ask about it."""
    policy = load_policy(file, load_taxonomy())
    report("Policy accepted", _facts(policy), json)


@policy_app.command(
    "publish",
    epilog=example("purposematch-platform policy publish new-policy.toml --data-dir platform --dry-run"),
)
def policy_publish_command(
    file: FileArgument,
    data_dir: DataDirOption,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and stop there.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="A new file that names every pair that is dropped or admitted."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put a policy into force: show whom it drops and admits, replace policy.toml, publish under it.

    Both policies are asked about everything enrolled, at one time. If nothing was ever published, nothing is
    now: the policy then counts from the next `enroll` or `publish` on.
    """
    with open_platform(data_dir) as platform:
        text = read_policy_text(file)
        policy = parse_policy(text, file, platform.taxonomy)
        change = compare_policies(
            platform.registry, platform.policy(), policy, platform.taxonomy, platform.clock()
        )
        if output is not None:
            _write_pairs(output, change)
        generation = None
        if not dry_run:
            with locked_folder(platform.data_dir.root):
                replace_file(platform.data_dir.policy, text.encode("utf-8"))
            with platform.registry.reading() as connection:
                served = latest_generation(connection)
            if served is not None:
                generation = publish(platform).manifest.name
    document = change.to_mapping() | {
        "policy": _facts(policy),
        "in_force": not dry_run,
        "generation": generation,
    }
    if json:
        emit_json(document)
        return
    report_facts("Policy in force" if not dry_run else "Policy accepted, and not in force", _shown(policy))
    report_counts("Pairs that it drops", {reason.name: count for reason, count in change.dropped.items()})
    report_counts("Pairs that it admits", {reason.name: count for reason, count in change.admitted.items()})
    report_facts("", {"kept": change.kept, "generation": generation or "none published"})


def _facts(policy: Policy) -> dict[str, object]:
    return {
        "required_purpose": policy.required_purpose,
        "granting_purposes": list(policy.granting_purposes),
        "permitted_origins": sorted(origin.label for origin in policy.permitted_origins),
        "strict_origins": policy.strict_origins,
        "max_consent_age_days": policy.max_consent_age_days,
        "require_evidence": policy.require_evidence,
        "issuers": sorted(policy.issuers),
        "digest": policy.digest.hex(),
        "questions": lint_policy(policy),
    }


def _shown(policy: Policy) -> dict[str, object]:
    return {"digest": policy.digest.hex(), "questions": "; ".join(lint_policy(policy)) or "none"}


def _write_pairs(output: Path, change: PolicyChange) -> None:
    if output.exists():
        raise InputError(f"{output} exists already; name a new file")
    sink = pyarrow.BufferOutputStream()
    pyarrow.csv.write_csv(change.pairs, sink)
    # It names subjects: only this user may read it.
    write_new(output, sink.getvalue().to_pybytes())
