"""The command `purposematch-platform backup`.

Not protected against: whoever can read the copy and the root key can read what is enrolled.
"""

from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import progress, report
from purposematch.server.backup import back_up
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform

__all__ = ["backup_command"]


def backup_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the copy.")],
    data_dir: DataDirOption,
    json: JsonOption = False,
) -> None:
    """Copy the data directory, consistently, while a server may run.

    The copy has everything but the root key, which belongs in another place, and is itself a data directory.
    Nobody publishes meanwhile. To put it back, move it to its place, give it the root key, and run audit and
    publish before serve.
    """
    with (
        open_platform(data_dir) as platform,
        progress("Copying", platform.data_dir.registry.stat().st_size, "bytes") as advance,
    ):
        done = back_up(platform, out, advance)
        reference = platform.config.root_key
    document = {
        "backup": str(out),
        "files": done.files,
        "bytes": done.size_bytes,
        "log_size": done.log_size,
        "root_key_is_at": str(reference),
    }
    report("Copied, without the root key: keep that in another place", document, json)
