"""The commands `purposematch-platform agreement`: what was agreed with whom, and what of it is left today.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import announced_group, emit_json, example, report
from purposematch.protocol.agreement import (
    DEFAULT_CONCURRENT_SESSIONS,
    DEFAULT_DAILY_ELEMENTS,
    DEFAULT_DAILY_SESSIONS,
    DEFAULT_IDENTIFIERS_PER_SUBJECT,
    DEFAULT_MIN_LIST_ELEMENTS,
    Disclosure,
)
from purposematch.protocol.agreement_document import MAX_AGREEMENT_BYTES, AgreementDocument
from purposematch.protocol.epsilon import epsilon_of
from purposematch.protocol.errors import ConfigurationError, DecodeError, InputError
from purposematch.protocol.match_engine import EXPERIMENTAL
from purposematch.server.agreements import Terms, end_agreement, offer_agreement, record_agreement
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import Platform, open_platform
from purposematch.server.private_files import PUBLIC_FILE, write_new
from purposematch.server.registry.agreements import StoredAgreement, agreements_of, all_agreements
from purposematch.server.registry.quota import quota_left
from purposematch.server.times import iso, microseconds

__all__ = [
    "ConcurrentOption",
    "DailyElementsOption",
    "DailySessionsOption",
    "EntityOption",
    "EpsilonOption",
    "ExperimentalOption",
    "ExpiresOption",
    "MaxListOption",
    "MinListOption",
    "PerSubjectOption",
    "PurposeOption",
    "agreement_app",
    "terms_of",
]

agreement_app = typer.Typer(help="What was agreed with advertisers.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="ADVERTISER", help="The advertiser's name.")]
PurposeOption = Annotated[
    str | None, typer.Option(metavar="KEY", help="The data use; the policy's, if none is given.")
]
MinListOption = Annotated[
    int, typer.Option(metavar="N", help="Distinct identifiers that a list must have at least.")
]
MaxListOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Distinct identifiers that a list may have; a day's, if not given."),
]
DailyElementsOption = Annotated[
    int, typer.Option(metavar="N", help="Identifiers that may be evaluated in a day (UTC): bounds guessing.")
]
DailySessionsOption = Annotated[int, typer.Option(metavar="N", help="Sessions in a day (UTC).")]
ConcurrentOption = Annotated[int, typer.Option(metavar="N", help="Sessions open at a time.")]
ExpiresOption = Annotated[
    str | None,
    typer.Option(metavar="DATE", help="Its end: a date (0:00 UTC) or a time; a year from now, if not given."),
]
EntityOption = Annotated[
    str | None,
    typer.Option(
        "--legal-entity",
        metavar="NAME",
        help="Who pays for noisy counts; the advertiser, if not given. Several advertisers may be one.",
    ),
]
EpsilonOption = Annotated[
    str | None,
    typer.Option(
        "--release-epsilon",
        metavar="EPSILON",
        help="What a noisy count costs, such as 0.25; budget.release in platform.toml, if not given.",
    ),
]
PerSubjectOption = Annotated[
    int | None,
    typer.Option(
        "--identifiers-per-subject",
        metavar="K",
        help="Identifiers of a subject that `count` counts at most; "
        f"{DEFAULT_IDENTIFIERS_PER_SUBJECT}, if not given.",
    ),
]
ExperimentalOption = Annotated[
    bool,
    typer.Option(
        "--allow-experimental",
        help=f"Let it match with the VOLE engine too, which is {EXPERIMENTAL}; under `both` and `advertiser` "
        "no quota bounds the guesses of an advertiser that cheats with it.",
    ),
]


def terms_of(
    disclosure: Disclosure,
    *,
    purpose: str | None,
    min_list: int,
    max_list: int | None,
    daily_elements: int,
    daily_sessions: int,
    concurrent: int,
    expires: str | None,
    legal_entity: str | None,
    release_epsilon: str | None,
    identifiers_per_subject: int | None,
    allow_experimental: bool,
) -> Terms:
    """The terms that options say.

    Raises:
        InputError: the end is neither a date nor a time with offset, or epsilon is no decimal number.
    """
    return Terms(
        disclosure,
        purpose,
        None if expires is None else _end(expires),
        min_list,
        max_list,
        daily_elements,
        daily_sessions,
        concurrent,
        legal_entity,
        None if release_epsilon is None else epsilon_of(release_epsilon),
        identifiers_per_subject,
        allow_experimental,
    )


@agreement_app.command(
    "add",
    epilog=example(
        "purposematch-platform agreement add acme --data-dir platform --disclosure both "
        "--daily-elements 1000000 --expires 2027-06-30 --out acme-2.json"
    ),
)
def agreement_add_command(
    advertiser: NameArgument,
    data_dir: DataDirOption,
    disclosure: Annotated[
        Disclosure,
        typer.Option(help="Who learns what; there is no default. The advertiser is shown it in words."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The offer to write; the advertiser accepts it.")],
    purpose: PurposeOption = None,
    min_list: MinListOption = DEFAULT_MIN_LIST_ELEMENTS,
    max_list: MaxListOption = None,
    daily_elements: DailyElementsOption = DEFAULT_DAILY_ELEMENTS,
    daily_sessions: DailySessionsOption = DEFAULT_DAILY_SESSIONS,
    concurrent: ConcurrentOption = DEFAULT_CONCURRENT_SESSIONS,
    expires: ExpiresOption = None,
    legal_entity: EntityOption = None,
    release_epsilon: EpsilonOption = None,
    identifiers_per_subject: PerSubjectOption = None,
    allow_experimental: ExperimentalOption = False,
    json: JsonOption = False,
) -> None:
    """Offer an agreement, signed by the platform.

    The advertiser accepts the file with `purposematch agreement accept` and sends it back; `agreement record`
    then puts it into force in the place of the one before. Until then nothing changes.

    A legal entity has either exact disclosures (both, advertiser) or noisy ones (platform, count) for a
    purpose, whichever of its advertisers matches: which rows match would undo the noise.
    """
    terms = terms_of(
        disclosure,
        purpose=purpose,
        min_list=min_list,
        max_list=max_list,
        daily_elements=daily_elements,
        daily_sessions=daily_sessions,
        concurrent=concurrent,
        expires=expires,
        legal_entity=legal_entity,
        release_epsilon=release_epsilon,
        identifiers_per_subject=identifiers_per_subject,
        allow_experimental=allow_experimental,
    )
    with _opened(data_dir) as platform:
        document = offer_agreement(platform, advertiser, terms)
    write_new(out, document.encode(), PUBLIC_FILE)
    facts = _described(document) | {"offer": str(out)}
    report("Agreement offered; nothing is in force before it comes back accepted", facts, json)


@agreement_app.command(
    "record", epilog=example("purposematch-platform agreement record agreement-2.json --data-dir platform")
)
def agreement_record_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The agreement as the advertiser accepted it.")
    ],
    data_dir: DataDirOption,
    key: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="Its signing key, compared over another channel; the first time."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put an accepted agreement into force, in the place of the one before.

    Both signatures are checked. A key that did not sign for this advertiser before has to be named with
    --key. Open sessions of the advertiser end.
    """
    try:
        with file.open("rb") as opened:
            document = AgreementDocument.decode(opened.read(MAX_AGREEMENT_BYTES + 1))
        expected = None if key is None else bytes.fromhex(key)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    except DecodeError as error:
        raise InputError(f"{file}: {error}") from None
    except ValueError:
        raise InputError("a key is 64 hexadecimal digits") from None
    with _opened(data_dir) as platform:
        ended = record_agreement(platform, document, expected)
    report("Agreement in force", _described(document) | {"ended_sessions": ended}, json)


@agreement_app.command("list", epilog=example("purposematch-platform agreement list --data-dir platform"))
def agreement_list_command(
    data_dir: DataDirOption,
    advertiser: Annotated[
        str | None, typer.Argument(metavar="ADVERTISER", help="Only the agreements with this one.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show every agreement that was ever in force, with its state."""
    with _opened(data_dir) as platform, platform.registry.reading() as connection:
        stored = all_agreements(connection) if advertiser is None else agreements_of(connection, advertiser)
        now = platform.clock()
    newest = {each.agreement.advertiser: each.agreement.number for each in stored}
    documents = [_state(each, newest, now) for each in stored]
    if json:
        emit_json({"agreements": documents})
        return
    for document in documents:
        report(f"Agreement {document['number']} with {document['advertiser']}", document, False)


@agreement_app.command(
    "show", epilog=example("purposematch-platform agreement show acme --data-dir platform")
)
def agreement_show_command(
    advertiser: NameArgument, data_dir: DataDirOption, json: JsonOption = False
) -> None:
    """Show the latest agreement with an advertiser, and what is left of today's quota."""
    with _opened(data_dir) as platform, platform.registry.reading() as connection:
        stored = agreements_of(connection, advertiser)
        if not stored:
            raise ConfigurationError(
                f"there is no agreement with {advertiser}: offer one with purposematch-platform agreement add"
            )
        latest, now = stored[-1], platform.clock()
        left = quota_left(connection, latest.agreement, now)
    document = _state(latest, {advertiser: latest.agreement.number}, now) | {
        "left": {
            "elements_left": left.elements,
            "reserved_by_open_sessions": left.reserved,
            "sessions_left": left.sessions,
            "concurrent_left": left.concurrent,
            "quota_returns_at": iso(left.returns_at),
        }
    }
    report(f"Agreement {latest.agreement.number} with {advertiser}", document, json)


@agreement_app.command("end", epilog=example("purposematch-platform agreement end acme --data-dir platform"))
def agreement_end_command(
    advertiser: NameArgument, data_dir: DataDirOption, json: JsonOption = False
) -> None:
    """End the agreement with an advertiser at once, with the sessions that are open.

    It may still take people out of the results that it holds. A new agreement lets it match again.
    """
    with _opened(data_dir) as platform:
        agreement, ended = end_agreement(platform, advertiser)
    document = {"advertiser": advertiser, "number": agreement.number, "ended_sessions": ended}
    report("Agreement ended", document, json)


def _state(stored: StoredAgreement, newest: dict[str, int], now: int) -> dict[str, object]:
    agreement = stored.agreement
    if stored.ended_at is not None:
        state = "ended"
    elif newest[agreement.advertiser] != agreement.number:
        state = "replaced"
    else:
        state = "expired" if now >= agreement.expires_at else "in force"
    return _described(stored.document) | {
        "state": state,
        "recorded_at": iso(stored.recorded_at),
        "ended_at": None if stored.ended_at is None else iso(stored.ended_at),
        "advertiser_key": stored.acceptance.key.hex(),
    }


def _described(document: AgreementDocument) -> dict[str, object]:
    agreement = document.agreement
    return agreement.to_mapping() | {
        "expires_at": iso(agreement.expires_at),
        "digest": agreement.digest.hex(),
    }


def _end(text: str) -> int:
    try:
        # A date alone is a time, too, and one in UTC.
        end = datetime.fromisoformat(text)
    except ValueError:
        end = None
    if end is not None and end.tzinfo is None and len(text) == len("2027-06-30"):
        end = end.replace(tzinfo=UTC)
    if end is None or end.tzinfo is None:
        raise InputError("the end is a date such as 2027-06-30, or a time such as 2027-06-30T12:00:00Z")
    return microseconds(end)


def _opened(data_dir: Path) -> AbstractContextManager[Platform]:
    return open_platform(data_dir, group=announced_group)
