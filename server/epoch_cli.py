"""The command `purposematch-platform epoch rotate`: new keys now, while sessions of the old ones finish.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

import typer

from purposematch.console import announced_group, example, progress, report
from purposematch.server.epochs import epoch_ends_at
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.publish import publish
from purposematch.server.registry.generations import open_sessions_before
from purposematch.server.times import iso

__all__ = ["epoch_app"]

epoch_app = typer.Typer(help="The key epochs of the published index.", no_args_is_help=True)


@epoch_app.command("rotate", epilog=example("purposematch-platform epoch rotate --data-dir platform"))
def epoch_rotate_command(data_dir: DataDirOption, json: JsonOption = False) -> None:
    """Begin a new key epoch: publish under a fresh key, which all new sessions use.

    Sessions that are open go on under the old key, which is destroyed when the last of them has ended, within
    a day. Everything enrolled is evaluated again. Results of the old epoch can not be compared with the index
    any more, so advertisers match again; its list of removals is closed.
    """
    with (
        open_platform(data_dir, group=announced_group) as platform,
        progress("Evaluating", None, "identifiers") as advance,
    ):
        manifest = publish(platform, advance, rotate=True).manifest
        epoch = manifest.scope.epoch
        with platform.registry.reading() as connection:
            waiting = open_sessions_before(connection, epoch)
            ends = epoch_ends_at(platform, connection, epoch)
    document = {
        "generation": manifest.name,
        "epoch": epoch,
        "count": manifest.count,
        "epoch_ends": iso(ends),
        "open_sessions_of_ended_epochs": waiting,
    }
    report("A new key epoch has begun", document, json)
