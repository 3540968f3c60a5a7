"""The command `erase` of `purposematch-platform`: forget a person, and say what remains.

Not protected against: whoever can run this command on the data directory is the platform.
"""

from typing import Annotated

import typer

from purposematch.console import emit_json, example, report_facts, report_table
from purposematch.console.answers import PAIRS_STOP
from purposematch.server.answers import parse_kind
from purposematch.server.erase import Erased, erase
from purposematch.server.lookup import identifier_keys
from purposematch.server.operator_queries import Query, record_query, subject_parameters
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.withdraw_cli import IdentifierOption, KindOption, RegionOption, SubjectOption

__all__ = ["erase_app"]

erase_app = typer.Typer()


@erase_app.command(
    "erase",
    epilog=example(
        "purposematch-platform erase --data-dir platform --subject-id ada",
        "purposematch-platform erase --data-dir platform --subject-id ada --apply",
    ),
)
def erase_command(
    data_dir: DataDirOption,
    subject_id: SubjectOption = None,
    identifier: IdentifierOption = None,
    kind: KindOption = None,
    region: RegionOption = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it; without this, only say what it would do.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Erase a person (all identifiers), or everything about an identifier, and say what remains and why.

    The identifiers are refused from then on, for everybody: no session opens before the next publication,
    and nothing lifts it. It can not be taken back.
    """
    if (subject_id is None) == (identifier is None):
        raise typer.BadParameter("name one of --subject-id and --identifier")
    if kind is not None and identifier is None:
        raise typer.BadParameter("--kind goes with --identifier")
    with open_platform(data_dir) as platform:
        keys: list[bytes] = []
        if identifier is not None:
            region = region or platform.config.region
            keys = identifier_keys(platform.registry, identifier, parse_kind(kind), region)
        if not apply:
            record_query(platform, Query.ERASURE, subject_parameters(subject_id, keys))
        done = erase(platform, subject_id, keys, apply=apply)
        # Also where it was erased before: then somebody may have read the old pages too long.
        overwritten = platform.registry.overwrite() if apply else None
    document: dict[str, object] = {"applied": apply, **done.to_mapping(), "overwritten": overwritten}
    if json:
        emit_json(document)
        return
    facts = {
        PAIRS_STOP if name == "pairs" else name.replace("_", " "): value
        for name, value in document.items()
        if name not in ("applied", "remains") and value is not None
    }
    report_facts(_title(apply, done), facts)
    report_table(
        "What remains, and why",
        ("what", "count", "why"),
        ((each["what"], each["count"], each["why"]) for each in done.remains() if each["count"]),
    )


def _title(apply: bool, done: Erased) -> str:
    if not done.assertions:
        return "Everything of it was erased before"
    return "Erased" if apply else "Nothing was changed; --apply erases, for good"
