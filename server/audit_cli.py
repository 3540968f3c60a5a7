"""The command `purposematch-platform audit`.

Not protected against: whoever can run this command on the data directory could also have rewritten it, log
and checkpoint included; a reader that kept a checkpoint finds that.
"""

import typer

from purposematch.console import announced_group, example, report
from purposematch.server.audit import audit
from purposematch.server.operator_queries import Query, record_query
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform

__all__ = ["add_audit_command"]


def add_audit_command(app: typer.Typer) -> None:
    """Adds the command to the platform's program."""
    app.command("audit", epilog=example("purposematch-platform audit --data-dir platform --json"))(_audit)


def _audit(data_dir: DataDirOption, json: JsonOption = False) -> None:
    """Verify the registry against the log, and the published index against the gate.

    Ends with exit code 1 and names the first row or file that is not as it was logged. A platform may serve
    meanwhile. An audit that finds nothing is logged itself.
    """
    with open_platform(data_dir, group=announced_group) as platform:
        found = audit(platform)
        # An altered log is not added to: it is evidence.
        record_query(platform, Query.AUDIT, {})
    report("Everything is as it was logged", dict(found.to_mapping()), json)
