"""The commands `purposematch-platform policy`: what a policy would permit, and putting one into force.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import pyarrow.csv
import typer

from purposematch.console import emit_json, example, report, report_counts, report_facts, report_table
from purposematch.console.answers import report_reasons
from purposematch.protocol.errors import InputError, PolicyError
from purposematch.protocol.policy import Policy
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import Platform, open_platform
from purposematch.server.policy_change import (
    PolicyChange,
    compare_policies,
    lint_change,
    lint_policy,
    put_in_force,
)
from purposematch.server.policy_file import load_policy, parse_policy, read_policy_text
from purposematch.server.private_files import locked_file, write_new
from purposematch.server.publish import publish
from purposematch.server.registry.generations import latest_generation
from purposematch.server.registry.policies import check_issuers_kept, load_policies
from purposematch.server.taxonomy import load_taxonomy
from purposematch.server.times import iso

__all__ = ["policy_app"]

_SHOWN_DIGITS: Final = 16
"""Hexadecimal digits of a digest that people are shown, and can name it by."""

policy_app = typer.Typer(help="The gate's policy.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A policy file.")]


@policy_app.command("check", epilog=example("purposematch-platform policy check platform/policy.toml"))
def policy_check_command(file: FileArgument, json: JsonOption = False) -> None:
    """Say whether a policy would be accepted, what it permits, and what to ask about it."""
    policy = load_policy(file, load_taxonomy())
    report("Policy accepted", _facts(policy, lint_policy(policy)), json)


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
    """Put a policy into force: show whom it drops and admits, log it, replace policy.toml, publish under it.

    Both policies are asked about everything enrolled, at one time. If nothing was ever published, nothing is
    now: the policy then counts from the next `enroll` or `publish` on.
    """
    with open_platform(data_dir) as platform:
        # What is compared is what is replaced: `issuer revoke` waits, or comes first and is seen. A lock of
        # its own, because comparing takes a while, and every session waits for the one on the folder.
        with nullcontext() if dry_run else locked_file(platform.data_dir.policy_lock):
            text = read_policy_text(file)
            policy = parse_policy(text, file, platform.taxonomy)
            with platform.registry.reading() as connection:
                earlier = [version.policy for version in load_policies(connection)]
            in_force = _in_force(platform)
            earlier += [] if in_force is None else [in_force]
            check_issuers_kept(earlier, policy)
            replaced = None if in_force == policy else in_force
            before = replaced or _before(platform, earlier, policy)
            change = compare_policies(platform.registry, before, policy, platform.taxonomy, platform.clock())
            if output is not None:
                _write_pairs(output, change)
            if not dry_run:
                put_in_force(platform, policy, text)
        generation = None if dry_run else _published(platform)
    questions = lint_change(earlier, policy) + lint_policy(policy)
    document = change.to_mapping() | {
        "policy": _facts(policy, questions),
        "in_force": not dry_run,
        "generation": generation,
    }
    if json:
        emit_json(document)
        return
    title = "Policy accepted, and not in force" if dry_run else "Policy in force"
    report_facts(title, {"digest": policy.digest.hex()})
    report_table("Questions", ("what to ask about it",), [[question] for question in questions])
    report_counts(
        "Pairs that it drops, by the reason that it gives",
        {reason.name: count for reason, count in change.dropped.items()},
    )
    report_counts(
        "Pairs that it admits, by the reason until now",
        {reason.name: count for reason, count in change.admitted.items()},
    )
    report_reasons(reason.name for reason in (*change.dropped, *change.admitted))
    report_facts("", {"pairs that stay": change.kept, "generation": generation or "none published"})


@policy_app.command("list", epilog=example("purposematch-platform policy list --data-dir platform"))
def policy_list_command(data_dir: DataDirOption, json: JsonOption = False) -> None:
    """List every policy that was put into force: its version, its digest, and when the log got it."""
    with open_platform(data_dir) as platform:
        with platform.registry.reading() as connection:
            versions = load_policies(connection)
        in_force = platform.policy().digest
    documents = [
        {
            "version": each.number,
            "digest": each.policy.digest.hex(),
            "recorded_at": iso(each.loaded_at),
            "in_force": each.policy.digest == in_force,
        }
        for each in versions
    ]
    if json:
        emit_json({"policies": documents})
        return
    columns = ("version", "recorded_at", "in_force", "digest")
    rows = [
        (*(each[name] for name in columns[:3]), str(each["digest"])[:_SHOWN_DIGITS]) for each in documents
    ]
    report_table("Policies", [name.replace("_", " ") for name in columns], rows)


@policy_app.command("show", epilog=example("purposematch-platform policy show 2 --data-dir platform"))
def policy_show_command(
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="Its number, or its digest or the beginning of it.")
    ],
    data_dir: DataDirOption,
) -> None:
    """Print a policy that was once in force, as the canonical JSON that its digest is of."""
    with open_platform(data_dir) as platform, platform.registry.reading() as connection:
        versions = load_policies(connection)
    for each in versions:
        digest = each.policy.digest.hex()
        if version == str(each.number) or (len(version) >= _SHOWN_DIGITS and digest.startswith(version)):
            print(each.policy.canonical_bytes().decode("ascii"))
            return
    raise InputError(f"there is no policy {version}; `policy list` shows all")


def _in_force(platform: Platform) -> Policy | None:
    """The policy that is asked now; None where policy.toml is refused, which is put right by another one."""
    try:
        return platform.policy()
    except PolicyError:
        return None


def _before(platform: Platform, earlier: list[Policy], policy: Policy) -> Policy:
    """What `policy`, which is in policy.toml itself or takes the place of a broken one, is compared with.

    Who edited policy.toml wants to know what that changes, and not that the file is what it is: that is
    the policy of the generation in service, or `policy` where nothing was published.
    """
    with platform.registry.reading() as connection:
        served = latest_generation(connection)
    of_served = [each for each in earlier if served is not None and each.digest == served.policy]
    # Another taxonomy may have come since; what is compared are the policies.
    return replace(of_served[0], taxonomy_digest=platform.taxonomy.digest) if of_served else policy


def _published(platform: Platform) -> str | None:
    """The generation that is published under the policy in force, or None if there never was one."""
    with platform.registry.reading() as connection:
        served = latest_generation(connection)
    return None if served is None else publish(platform).manifest.name


def _facts(policy: Policy, questions: list[str]) -> dict[str, object]:
    return {
        "required_purpose": policy.required_purpose,
        "granting_purposes": list(policy.granting_purposes),
        "permitted_origins": sorted(origin.label for origin in policy.permitted_origins),
        "strict_origins": policy.strict_origins,
        "max_consent_age_days": policy.max_consent_age_days,
        "require_evidence": policy.require_evidence,
        "issuers": sorted(policy.issuers),
        "digest": policy.digest.hex(),
        "questions": questions,
    }


def _write_pairs(output: Path, change: PolicyChange) -> None:
    if output.exists():
        raise InputError(f"{output} exists already; name a new file")
    sink = pyarrow.BufferOutputStream()
    pyarrow.csv.write_csv(change.pairs, sink)
    # It names subjects: only this user may read it.
    write_new(output, sink.getvalue().to_pybytes())
