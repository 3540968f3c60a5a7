"""The commands `purposematch delegate` and `delegation`: a partner brings lists for an advertiser.

Not protected against: a delegation that reaches somebody else is of no use to them, but it shows who works
with whom.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from purposematch.client.delegation import accept_delegation, delegate, revoke_own_delegation
from purposematch.console import example, report
from purposematch.protocol.delegation import Delegation
from purposematch.protocol.errors import InputError

__all__ = ["add_delegation_commands"]

delegation_app = typer.Typer(help="What a partner may do for an advertiser.", no_args_is_help=True)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def add_delegation_commands(app: typer.Typer) -> None:
    """Adds the commands to the advertiser's program."""
    app.command(
        "delegate",
        epilog=example(
            "purposematch delegate agency --list spring --list autumn --expires 2027-06-30 "
            "--credentials credentials/"
        ),
    )(delegate_command)
    app.add_typer(delegation_app, name="delegation")


def delegate_command(
    partner: Annotated[str, typer.Argument(metavar="PARTNER", help="Its name at the platform.")],
    lists: Annotated[
        list[str], typer.Option("--list", metavar="NAME", help="A list that it may bring; may be repeated.")
    ],
    credentials: Annotated[Path, typer.Option(metavar="DIR", help="Your credentials folder.")],
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="Its end: a date (0:00 UTC) or a time; the agreement's, if not given."
        ),
    ] = None,
    max_list: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Distinct identifiers of a list; the agreement's, if not given."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Let a partner bring lists for you, under your agreement and on your quotas.

    It is signed with the key with which you accept agreements. Send the file to the platform, which records
    it, and to the partner, together with your agreement's file.
    """
    expires_at = None if expires is None else _moment(expires)
    signed, path = delegate(credentials, partner, lists, expires_at=expires_at, max_list_elements=max_list)
    report(
        "Delegation signed; send the file to the platform and to the partner", _document(signed, path), json
    )


@delegation_app.command(
    "accept",
    epilog=example("purposematch delegation accept delegation-1.json agreement-1.json --credentials agency/"),
)
def accept_command(
    delegation: Annotated[Path, typer.Argument(metavar="DELEGATION", help="What the advertiser signed.")],
    agreement: Annotated[
        Path, typer.Argument(metavar="AGREEMENT", help="The advertiser's agreement, which both sides signed.")
    ],
    credentials: Annotated[Path, typer.Option(metavar="DIR", help="The partner's credentials folder.")],
    json: JsonOption = False,
) -> None:
    """Take up what an advertiser delegated: its signatures are checked, and it is kept in your folder.

    From then on `match --for ADVERTISER --list NAME` brings a list, once the platform has recorded it.
    """
    signed, path = accept_delegation(delegation, agreement, credentials)
    report("Delegation taken up", _document(signed, path), json)


@delegation_app.command(
    "revoke", epilog=example("purposematch delegation revoke 1 --credentials credentials/")
)
def revoke_command(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Which of your delegations.")],
    credentials: Annotated[Path, typer.Option(metavar="DIR", help="Your credentials folder.")],
    json: JsonOption = False,
) -> None:
    """Take a delegation back: sign its revocation, which is in force when the platform has it."""
    path = revoke_own_delegation(credentials, number)
    document: dict[str, object] = {"number": number, "file": str(path)}
    report("Revocation signed; send the file to the platform", document, json)


def _document(signed: Delegation, path: Path) -> dict[str, object]:
    ends = _EPOCH + signed.expires_at * _MICROSECOND
    return signed.to_mapping() | {
        "expires_at": ends.isoformat().replace("+00:00", "Z"),
        "digest": signed.digest.hex(),
        "file": str(path),
    }


def _moment(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is not None and time.tzinfo is None and len(text) == len("2027-06-30"):
        time = time.replace(tzinfo=UTC)
    if time is None or time.tzinfo is None:
        raise InputError("--expires is a date such as 2027-06-30, or a time with offset")
    return (time - _EPOCH) // _MICROSECOND
