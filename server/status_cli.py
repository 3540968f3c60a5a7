"""The command `purposematch-platform status`.

Not protected against: whoever can run this command on the data directory is the platform.
"""

from purposematch.console import emit_json
from purposematch.console.answers import report_status
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.status import platform_state, status_document

__all__ = ["status_command"]


def status_command(data_dir: DataDirOption, json: JsonOption = False) -> None:
    """Show what is served, the sessions, what is left of quotas and budgets, what is wrong and what to do.

    It reads the data directory, so it tells of a platform whether or not a server runs. Nothing is changed.
    """
    with open_platform(data_dir) as platform:
        document = status_document(platform, platform_state(platform))
    if json:
        emit_json(document)
    else:
        report_status(document)
