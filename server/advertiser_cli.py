"""The command `purposematch-platform advertiser add`: who may match.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import announced_group, example, report
from purposematch.protocol.agreement import (
    DEFAULT_CONCURRENT_SESSIONS,
    DEFAULT_DAILY_ELEMENTS,
    DEFAULT_DAILY_SESSIONS,
    DEFAULT_MIN_LIST_ELEMENTS,
    Disclosure,
)
from purposematch.server.admission import admit_advertiser
from purposematch.server.agreement_cli import (
    ConcurrentOption,
    DailyElementsOption,
    DailySessionsOption,
    EntityOption,
    EpsilonOption,
    ExperimentalOption,
    ExpiresOption,
    MaxListOption,
    MinListOption,
    PerSubjectOption,
    terms_of,
)
from purposematch.server.options import CertificateOption, DataDirOption, JsonOption
from purposematch.server.platform import open_platform

__all__ = ["advertiser_app"]

advertiser_app = typer.Typer(help="Who may match.", no_args_is_help=True)


# Without a callback Typer would take a group of one command for that command.
@advertiser_app.callback()
def advertiser_group() -> None:
    """Who may match."""


@advertiser_app.command(
    "add",
    epilog=example(
        "purposematch-platform advertiser add acme --data-dir platform --disclosure both --out acme",
        "purposematch-platform advertiser add acme --data-dir platform --out acme",
    ),
)
def advertiser_add_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, dots, dashes.")],
    data_dir: DataDirOption,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The credentials folder to write.")],
    certificate: CertificateOption = None,
    disclosure: Annotated[
        Disclosure | None,
        typer.Option(help="Who learns what, in an agreement that is accepted in the advertiser's place."),
    ] = None,
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
    """Admit an advertiser and write its credentials: certificate, key, and the platform's pin.

    With --disclosure an agreement is made and signed for both sides, and the signing key is put into the
    folder: quick, for trying things out and for one's own advertisers. Without it nothing can be matched
    until the advertiser has accepted an agreement with a key of its own: see `agreement add`.
    """
    terms = None
    if disclosure is not None:
        terms = terms_of(
            disclosure,
            purpose=None,
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
    with open_platform(data_dir, group=announced_group) as platform:
        added = admit_advertiser(platform, name, terms, out, certificate)
    document = {
        "advertiser": name,
        "disclosure": None if disclosure is None else disclosure.value,
        "credentials": str(out),
        "fingerprint": added.fingerprint.hex(),
    }
    advice = "" if disclosure is not None else ", and then accept an agreement"
    report(f"Advertiser added; the folder must reach it secret and unaltered{advice}", document, json)
