"""The command `purposematch-platform correct`: assertions were mislabelled.

Not protected against: whoever can run this command on the data directory is the platform.
"""

from typing import Annotated, Final

import typer

from purposematch.console import announced_group, emit_json, example, progress, report_facts
from purposematch.console.answers import PAIRS_STOP, report_impact
from purposematch.console.questions import (
    FromOption,
    IssuerOption,
    NoticeOption,
    PurposeOption,
    SourceOption,
    ToOption,
)
from purposematch.protocol.errors import UnavailableError
from purposematch.server.answer_files import demand_fresh, write_impact
from purposematch.server.answers import parse_origin, selection_of
from purposematch.server.answers_cli import OutputOption
from purposematch.server.correct import Labels, correct
from purposematch.server.operator_queries import Query, record_query
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import Platform, open_platform
from purposematch.server.publish import publish
from purposematch.server.registry.generations import latest_generation

__all__ = ["correct_app"]

correct_app = typer.Typer()

_NONE_MEANT: Final = (
    "no grant that the filters choose would say anything else: check how their values are spelt, or it was "
    "corrected before"
)


@correct_app.command(
    "correct",
    epilog=example(
        "purposematch-platform correct --data-dir platform --notice join-4 --origin two_factor",
        "purposematch-platform correct --data-dir platform --notice join-4 --origin two_factor --apply "
        "--output affected",
    ),
)
def correct_command(
    data_dir: DataDirOption,
    was_origin: Annotated[
        list[str] | None, typer.Option("--was-origin", metavar="ORIGIN", help="Assertions of this origin.")
    ] = None,
    purpose: PurposeOption = None,
    notice: NoticeOption = None,
    source: SourceOption = None,
    issuer: IssuerOption = None,
    received_from: FromOption = None,
    received_to: ToOption = None,
    origin: Annotated[
        str | None, typer.Option(metavar="ORIGIN", help="The origin that they should have had.")
    ] = None,
    purposes: Annotated[
        str | None,
        typer.Option(metavar="KEYS", help="The purposes that they should have had, separated by semicolons."),
    ] = None,
    why: Annotated[str, typer.Option(metavar="TEXT", help="The reason, kept with the correction.")] = "",
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it; without this, only say what it would do.")
    ] = False,
    output: OutputOption = None,
    json: JsonOption = False,
) -> None:
    """Say that assertions were mislabelled: who is affected, and with --apply, put it right.

    The filters choose assertions as for impact. Only grants are corrected; their rows stay as they are,
    with the correction beside them. With --apply the gate decides again, and a new generation is published
    if there was one before. Lists of everybody affected go into the folder of --output.
    """
    selection = selection_of(was_origin, purpose, notice, source, issuer, received_from, received_to)
    keys = None if purposes is None else tuple(key.strip() for key in purposes.split(";") if key.strip())
    labels = Labels(None if origin is None else parse_origin(origin), keys)
    demand_fresh(output)
    with open_platform(data_dir, group=announced_group) as platform:
        if not apply:
            asked = {"selection": selection.to_mapping(), "origin": origin, "purposes": purposes}
            record_query(platform, Query.CORRECTION, asked)
        done = correct(platform, selection, labels, why=why, apply=apply)
        document: dict[str, object] = {
            "applied": apply,
            "selection": selection.to_mapping(),
            "origin": None if labels.origin is None else labels.origin.label,
            "purposes": None if keys is None else list(keys),
            **done.to_mapping(),
        }
        # The lists come first: a publication that fails must not cost them.
        if output is not None:
            write_impact(output, done.impact, document)
        if apply:
            document["generation"] = None if done.correction is None else _published(platform)
    if json:
        emit_json(document)
        return
    titles = ("What this correction would touch", "Nothing was changed; --apply does it")
    facts: dict[str, object] = {PAIRS_STOP: done.stops}
    if done.correction is not None:
        titles = ("Corrected", "In force")
        facts |= {"correction": done.correction, "generation": document["generation"] or "none yet"}
    elif apply:
        titles = ("Nothing to correct", "Nothing was changed")
    report_impact(titles[0], document, _NONE_MEANT)
    report_facts(titles[1], facts)


def _published(platform: Platform) -> str | None:
    """Publishes if something was published before; the name of the generation, or None."""
    with platform.registry.reading() as connection:
        if latest_generation(connection) is None:
            return None
    try:
        with progress("Evaluating", None, "identifiers") as advance:
            return publish(platform, advance).manifest.name
    except UnavailableError:
        # Another publisher is at work. No session opens on what does not cover the correction, and the
        # server publishes again as soon as it sees that.
        return None
