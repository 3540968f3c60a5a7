"""The questions `subject` and `impact`, as commands and over the wire: logged first, then answered.

Not protected against: asking for the wrong person; the log says who asked.
"""

from collections.abc import Sequence
from typing import Any

from purposematch.protocol.errors import InputError
from purposematch.protocol.identifiers import Kind
from purposematch.protocol.purpose import Origin
from purposematch.server.impact import impact
from purposematch.server.impact_result import Impact
from purposematch.server.lookup import identifier_keys, subjects_with
from purposematch.server.operator_queries import Query, record_query, subject_parameters
from purposematch.server.platform import Platform
from purposematch.server.recorded import load_recorded, select_assertions, select_erased
from purposematch.server.registry.happened import NEVER
from purposematch.server.registry.sessions import find_advertiser
from purposematch.server.selection import Selection
from purposematch.server.subject import about_subject, identifiers_of, suppressed
from purposematch.server.times import read_time

__all__ = ["answer_impact", "answer_subject", "parse_kind", "parse_origin", "selection_of"]


def answer_subject(
    platform: Platform,
    subject_id: str | None,
    identifier: str | None,
    kind: Kind | None,
    region: str | None,
    by: str | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """What is known of a subject, or of everybody named with an identifier, and what was erased of it.

    Args:
        platform: the open platform.
        subject_id: the person; None for whoever has the identifier.
        identifier: raw or as SHA-256 in hexadecimal.
        kind: what it is; None to go by its looks.
        region: two-letter country code of phones without `+`; None for the platform's own.
        by: who asks, as `record_query` takes it.

    Raises:
        InputError: the identifier can not be read.
        UnavailableError: the question can not be logged.
    """
    keys: list[bytes] = []
    if identifier is not None:
        keys = identifier_keys(platform.registry, identifier, kind, region or platform.config.region)
    record_query(platform, Query.SUBJECT, subject_parameters(subject_id, keys), by)
    with platform.registry.reading() as connection:
        people = [subject_id] if subject_id is not None else subjects_with(connection, keys)
        told = [about_subject(connection, each, platform.clock()) for each in people]
        left = suppressed(connection, keys or identifiers_of(connection, people[0]))
    told = [each for each in told if each["assertions"] or each["audiences"]]
    return {"subjects": told, "suppressed": left}


def answer_impact(
    platform: Platform,
    selection: Selection,
    advertiser: str | None,
    as_of: str | None,
    by: str | None = None,
) -> tuple[Impact, dict[str, object]]:
    """Who was enrolled through the assertions of a selection, and the stable document of `impact --json`.

    Args:
        platform: the open platform.
        selection: which assertions.
        advertiser: sessions of this one only; None for all.
        as_of: answer as it would have been at this time, ISO 8601 with offset; None for now.
        by: who asks, as `record_query` takes it.

    Raises:
        InputError: the time is none, or there is no such advertiser.
        UnavailableError: the question can not be logged.
    """
    until = NEVER if as_of is None else read_time(as_of)
    asked = {"selection": selection.to_mapping(), "advertiser": advertiser, "as_of": as_of}
    record_query(platform, Query.IMPACT, asked, by)
    with platform.registry.reading() as connection:
        if advertiser is not None and find_advertiser(connection, advertiser) is None:
            raise InputError("there is no advertiser of that name")
        recorded = load_recorded(connection, until)
        chosen = select_assertions(connection, recorded, selection)
        erased = select_erased(connection, recorded, selection)
        found = impact(connection, recorded, chosen, erased, advertiser)
    return found, {
        "as_of": as_of,
        "advertiser": advertiser,
        "selection": selection.to_mapping(),
        **found.to_mapping(),
    }


def selection_of(
    origin: Sequence[str] | None,
    purpose: Sequence[str] | None,
    notice: Sequence[str] | None,
    source: Sequence[str] | None,
    issuer: Sequence[str] | None,
    received_from: str | None,
    received_to: str | None,
) -> Selection:
    """What the options of a command, or the fields of a message, choose.

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
