"""The command `purposematch-platform audit`.

Not protected against: whoever can run this command on the data directory could also have rewritten it, log
and checkpoint included; a reader that kept a checkpoint finds that.
"""

from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import announced_group, example, report
from purposematch.server.audit import audit
from purposematch.server.bundle import write_bundle
from purposematch.server.operator_queries import Query, record_query
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform

__all__ = ["add_audit_command"]


def add_audit_command(app: typer.Typer) -> None:
    """Adds the command to the platform's program."""
    examples = (
        "purposematch-platform audit --data-dir platform --json",
        "purposematch-platform audit --data-dir platform --bundle bundle-2026-11",
    )
    app.command("audit", epilog=example(*examples))(_audit)


def _audit(
    data_dir: DataDirOption,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Then write a bundle for outside auditors into this new folder."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Verify the registry against the log, and the published index against the gate.

    Ends with exit code 1 and names the first row or file that is not as it was logged. A platform may serve
    meanwhile. An audit that finds nothing is logged itself. A bundle has all leaf hashes, a checkpoint, the
    policies and the manifests, and tells of nobody; `purposematch audit` checks it.
    """
    with open_platform(data_dir, group=announced_group) as platform:
        found: dict[str, object] = {**audit(platform).to_mapping()}
        # An altered log is not added to: it is evidence.
        record_query(platform, Query.AUDIT, {})
        if bundle is not None:
            written = write_bundle(platform, bundle)
            found |= {"bundle": str(bundle), "bundle_leaves": written.leaves, "bundle_opened": written.opened}
    report("Everything is as it was logged", found, json)
