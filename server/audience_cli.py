"""The commands `audience list`, `show`, `export` and `expire` of `purposematch-platform`.

What they say is exact: it is the platform's own. What an advertiser is told of an audience is the noisy count
of its session, see docs/noise.md.

Not protected against: whoever can run these commands on the data directory is the platform. An export holds
subject ids.
"""

from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import emit_json, example, report
from purposematch.console.answers import report_audience, report_audiences
from purposematch.protocol.audience import DEFAULT_AUDIENCE
from purposematch.server.audiences import (
    counted_audiences,
    end_audience,
    end_due,
    export_audience,
    show_audience,
)
from purposematch.server.operator_queries import system_user
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.registry.audiences import AudienceName
from purposematch.server.times import iso

__all__ = ["audience_app"]

audience_app = typer.Typer(
    help="Whom sessions matched, kept for activation: by advertiser and name.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the audience.")]
OfOption = Annotated[str, typer.Option("--advertiser", metavar="NAME", help="Whose audience it is.")]
PartnerOption = Annotated[
    str,
    typer.Option("--partner", metavar="NAME", help="The partner that brought it; else the advertiser did."),
]


@audience_app.command("list", epilog=example("purposematch-platform audience list --data-dir platform"))
def list_command(
    data_dir: DataDirOption,
    advertiser: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the audiences of this one.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the audiences: how many subjects, from how many sessions, and when the last of them leave."""
    with open_platform(data_dir) as platform, platform.registry.reading() as connection:
        now = platform.clock()
        found = counted_audiences(connection, now, advertiser)
    if json:
        emit_json({"at": iso(now), "audiences": found})
    else:
        report_audiences(found)


@audience_app.command(
    "show",
    epilog=example("purposematch-platform audience show default --advertiser acme --data-dir platform"),
)
def show_command(
    data_dir: DataDirOption,
    advertiser: OfOption,
    name: NameArgument = DEFAULT_AUDIENCE,
    partner: PartnerOption = "",
    json: JsonOption = False,
) -> None:
    """Show an audience: what sessions did to it, and who exported it when. No subject is named."""
    of = AudienceName(advertiser, partner, name)
    with open_platform(data_dir) as platform, platform.registry.reading() as connection:
        shown = show_audience(connection, of, platform.clock())
    if json:
        emit_json(shown.to_mapping())
    else:
        report_audience(f"Audience {name}", shown.to_mapping())


@audience_app.command(
    "export",
    epilog=example(
        "purposematch-platform audience export --advertiser acme --data-dir platform --output acme.csv",
        "purposematch-platform audience export spring --advertiser acme --partner agency --data-dir platform "
        "--output spring.parquet --json",
    ),
)
def export_command(
    data_dir: DataDirOption,
    advertiser: OfOption,
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The subject ids, for the ad server; CSV or Parquet.")
    ],
    name: NameArgument = DEFAULT_AUDIENCE,
    partner: PartnerOption = "",
    json: JsonOption = False,
) -> None:
    """Write the subjects of an audience into FILE, without those whom the gate refuses by now.

    Every export is a leaf of the log, with how many, the format and who. FILE is as of now: whoever withdraws
    later is in it still, so export again before it is used again.
    """
    with open_platform(data_dir) as platform:
        exported = export_audience(platform, AudienceName(advertiser, partner, name), output, system_user())
    report("Audience exported", {**exported.to_mapping(), "output": str(output)}, json)


@audience_app.command(
    "expire",
    epilog=example(
        "purposematch-platform audience expire --data-dir platform",
        "purposematch-platform audience expire default --advertiser acme --data-dir platform --json",
    ),
)
def expire_command(
    data_dir: DataDirOption,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Of the audience; none for what is over by its time.")
    ] = None,
    advertiser: Annotated[
        str, typer.Option("--advertiser", metavar="NAME", help="Whose audience it is.")
    ] = "",
    partner: PartnerOption = "",
    json: JsonOption = False,
) -> None:
    """Delete the members of an audience now, or those whose time has come, and log it.

    What is over by its time goes by itself: a running server looks every few seconds, and every question
    about people looks first. An audience that is ended can not be brought back; its advertiser matches again.
    """
    if (name is None) != (not advertiser) or (partner and name is None):
        raise typer.BadParameter("NAME and --advertiser go together")
    with open_platform(data_dir) as platform:
        if name is None:
            with platform.registry.writing() as connection:
                ended = end_due(platform, connection, platform.clock())
        else:
            ended = end_audience(platform, AudienceName(advertiser, partner, name), system_user())
    report("Ended", {"sessions": ended}, json)
