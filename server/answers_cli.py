"""The commands that answer: `impact` and `subject` of `purposematch-platform`.

Not protected against: whoever can run these commands on the data directory is the platform. What they print
and write holds subject ids.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from purposematch.console import emit_json, example, report_facts, report_table
from purposematch.protocol.errors import InputError
from purposematch.protocol.identifiers import Kind
from purposematch.protocol.purpose import Origin
from purposematch.server.answer_files import demand_fresh, write_impact
from purposematch.server.impact import Impact, impact, load_recorded, select_assertions
from purposematch.server.lookup import identifier_keys, subjects_with
from purposematch.server.operator_queries import Query, record_query, subject_parameters
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.registry.happened import NEVER
from purposematch.server.registry.sessions import find_advertiser
from purposematch.server.selection import Selection
from purposematch.server.subject import about_subject, identifiers_of, suppressed
from purposematch.server.times import read_time

__all__ = ["answers_app", "parse_kind", "parse_origin", "report_impact", "selection_of"]

answers_app = typer.Typer()

_SECTIONS: Final = {
    "assertions": (
        *("assertion", "subject_id", "kind", "origin", "purposes", "status", "notice_id", "source"),
        *("received_at", "expires_at", "reason_at_receipt", "corrected_to"),
    ),
    "receipts": ("assertion", "delivery", "log_leaf", "log_size", "log_root", "position"),
    "decisions": ("decided_at", "identifier", "reason", "through_assertion", "policy"),
    "enrolled": ("identifier", "assertion", "first_generation", "last_generation"),
    "sessions": ("opened_at", "session", "advertiser", "disclosure", "generation"),
    "audiences": ("session", "identifier", "assertion"),
}
"""What `subject` shows people, and in which columns."""

OriginOption = Annotated[
    list[str] | None, typer.Option("--origin", metavar="ORIGIN", help="Assertions of this origin.")
]
PurposeOption = Annotated[
    list[str] | None,
    typer.Option("--purpose", metavar="KEY", help="Assertions that name this purpose or one below it."),
]
NoticeOption = Annotated[
    list[str] | None, typer.Option("--notice", metavar="ID", help="Assertions given at this notice.")
]
SourceOption = Annotated[
    list[str] | None, typer.Option("--source", metavar="NAME", help="Assertions that this source delivered.")
]
IssuerOption = Annotated[
    list[str] | None,
    typer.Option("--issuer", metavar="NAME", help="Assertions with evidence of this issuer; '' for none."),
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Received at this time or later.")
]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Received before this time.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="A new folder for the lists, as CSV and JSON.")
]


def selection_of(
    origin: list[str] | None,
    purpose: list[str] | None,
    notice: list[str] | None,
    source: list[str] | None,
    issuer: list[str] | None,
    received_from: str | None,
    received_to: str | None,
) -> Selection:
    """What the options of a command choose.

    Raises:
        InputError: an origin does not exist, or a time is none.
    """
    return Selection(
        origins=tuple(map(parse_origin, origin or ())),
        purposes=tuple(purpose or ()),
        sources=tuple(source or ()),
        issuers=tuple(issuer or ()),
        notices=tuple(notice or ()),
        received_from=None if received_from is None else read_time(received_from),
        received_to=None if received_to is None else read_time(received_to),
    )


def parse_origin(text: str) -> Origin:
    """The origin that an option names.

    Raises:
        InputError: there is no such origin.
    """
    origin = Origin.parse(text)
    if origin is Origin.UNKNOWN and text != Origin.UNKNOWN.label:
        raise InputError(f"there is no such origin; choose one of {', '.join(each.label for each in Origin)}")
    return origin


@answers_app.command(
    "impact",
    epilog=example("purposematch-platform impact --data-dir platform --notice ads-7 --output impact"),
)
def impact_command(
    data_dir: DataDirOption,
    origin: OriginOption = None,
    purpose: PurposeOption = None,
    notice: NoticeOption = None,
    source: SourceOption = None,
    issuer: IssuerOption = None,
    received_from: FromOption = None,
    received_to: ToOption = None,
    advertiser: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sessions of this advertiser only.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(metavar="TIME", help="Answer as it would have been at this time.")
    ] = None,
    output: OutputOption = None,
    json: JsonOption = False,
) -> None:
    """Say who was enrolled through assertions, in which generations and sessions, and who learned of it.

    An option given several times means any of its values; different options must all hold. Labels are those
    that count, corrections included. Times are ISO 8601 with offset.
    """
    selection = selection_of(origin, purpose, notice, source, issuer, received_from, received_to)
    until = NEVER if as_of is None else read_time(as_of)
    demand_fresh(output)
    with open_platform(data_dir) as platform:
        asked = {"selection": selection.to_mapping(), "advertiser": advertiser, "as_of": as_of}
        record_query(platform, Query.IMPACT, asked)
        with platform.registry.reading() as connection:
            if advertiser is not None and find_advertiser(connection, advertiser) is None:
                raise InputError("there is no advertiser of that name")
            recorded = load_recorded(connection, until)
            chosen = select_assertions(connection, recorded, selection)
            found = impact(connection, recorded, chosen, advertiser)
    document: dict[str, object] = {
        "as_of": as_of,
        "advertiser": advertiser,
        "selection": selection.to_mapping(),
        **found.to_mapping(),
    }
    if output is not None:
        write_impact(output, found, document)
    if json:
        emit_json(document)
    else:
        report_impact("Enrolled through these assertions", found)


def report_impact(title: str, found: Impact) -> None:
    """Prints the numbers of an impact, and a table of the advertisers."""
    facts = {
        name.replace("_", " "): len(value) if isinstance(value, list) else value
        for name, value in found.to_mapping().items()
    }
    names = {
        "subjects in audiences": "subjects in audiences (exact)",
        "subjects advertisers may have learned of": "subjects advertisers may have learned of (upper bound)",
    }
    report_facts(title, {names.get(name, name): value for name, value in facts.items()})
    report_table(
        "Subjects by advertiser",
        ("advertiser", "sessions", "in audiences", "may have learned of, at most"),
        (
            (each.advertiser, each.sessions, each.subjects_in_audiences, each.subjects_may_have_learned_of)
            for each in found.advertisers
        ),
    )


@answers_app.command(
    "subject",
    epilog=example("purposematch-platform subject --data-dir platform --identifier +15551234567 --json"),
)
def subject_command(
    data_dir: DataDirOption,
    subject_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The platform's id of the person.")
    ] = None,
    identifier: Annotated[
        str | None, typer.Option(metavar="VALUE", help="An identifier, raw or as SHA-256 in hexadecimal.")
    ] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="email, phone or maid.")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="CC", help="The country of phone numbers without +.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Tell everything about a subject, or about each subject who was named with an identifier."""
    if (subject_id is None) == (identifier is None):
        raise typer.BadParameter("name one of --subject-id and --identifier")
    with open_platform(data_dir) as platform:
        keys: list[bytes] = []
        if identifier is not None:
            region = region or platform.config.region
            keys = identifier_keys(platform.registry, identifier, parse_kind(kind), region)
        record_query(platform, Query.SUBJECT, subject_parameters(subject_id, keys))
        with platform.registry.reading() as connection:
            people = [subject_id] if subject_id is not None else subjects_with(connection, keys)
            told = [about_subject(connection, each) for each in people]
            left = suppressed(connection, keys or identifiers_of(connection, people[0]))
    told = [each for each in told if each["assertions"] or each["audiences"]]
    if json:
        emit_json({"subjects": told, "suppressed": left})
        return
    if left:
        columns = ("identifier", "erased_at", "erasure", "log_position", "why")
        rows = ([_cell(each[name]) for name in columns] for each in left)
        report_table("Erased, and refused since", [name.replace("_", " ") for name in columns], rows)
    if not told and not left:
        report_facts("Nothing is known of it", {})
    for each in told:
        _report_subject(each)


def parse_kind(text: str | None) -> Kind | None:
    """The kind that an option names.

    Raises:
        InputError: there is no such kind.
    """
    if text is None:
        return None
    for kind in Kind:
        if kind.label == text.lower():
            return kind
    raise InputError(f"there is no such kind; choose one of {', '.join(kind.label for kind in Kind)}")


def _report_subject(about: dict[str, Any]) -> None:
    report_facts(
        f"Subject {about['subject_id']}",
        {
            name: len(about[name])
            for name in ("assertions", "withdrawals", "decisions", "sessions", "audiences")
        },
    )
    for title, columns in _SECTIONS.items():
        rows = [_with_correction(entry) for entry in about[title]]
        report_table(
            title.capitalize(),
            [name.replace("_", " ") for name in columns],
            ([_cell(row.get(name)) for name in columns] for row in rows),
        )


def _with_correction(entry: dict[str, Any]) -> dict[str, Any]:
    latest = (entry.get("corrections") or [None])[-1]
    return entry | ({"corrected_to": [latest["origin"], *latest["purposes"]]} if latest else {})


def _cell(value: Any) -> object:
    # Digests are told apart by their beginnings; the JSON document has them whole.
    if isinstance(value, list):
        return ", ".join(value)
    return value[:12] if isinstance(value, str) and len(value) >= 32 and value.isalnum() else value
