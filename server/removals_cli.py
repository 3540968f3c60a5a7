"""The command `purposematch-platform removals`: which advertisers have not said that they removed who left.

Not protected against: an advertiser that acknowledges and keeps. Nobody can see that from here.
"""

from typing import Annotated, Final

import typer

from purposematch.console import emit_json, report_table
from purposematch.server.operator_queries import Query, record_query
from purposematch.server.options import DataDirOption
from purposematch.server.platform import open_platform
from purposematch.server.removals import pending_removals

__all__ = ["removals_command"]

_SECOND: Final = 1_000_000


def removals_command(
    data_dir: DataDirOption,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """List the advertisers that have not acknowledged removals, and since when.

    For each key epoch in which an advertiser matched: how many identifiers left the index afterwards that it
    has not acknowledged, and the age of the oldest of these removals.
    """
    with open_platform(data_dir) as platform:
        record_query(platform, Query.REMOVALS, {})
        found = pending_removals(platform)
        now = platform.clock()
    if json:
        documents = [
            {
                "advertiser": each.advertiser,
                "epoch": each.epoch,
                "open_tags": each.tags,
                "oldest_age_seconds": max(0, now - each.since) // _SECOND,
            }
            for each in found
        ]
        emit_json({"open": documents})
        return
    rows = [(each.advertiser, each.epoch, each.tags, _age(max(0, now - each.since))) for each in found]
    report_table("Not acknowledged", ("advertiser", "epoch", "identifiers", "oldest"), rows)


def _age(microseconds: int) -> str:
    """The largest unit that is full, and the next: `3 days 4 h`."""
    minutes = microseconds // _SECOND // 60
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} days {hours} h"
    return f"{hours} h {minutes} min"
