"""The commands `purposematch-platform delegation`: what advertisers let partners do.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import emit_json, example, report, report_table
from purposematch.protocol.delegation import MAX_DELEGATION_BYTES, DelegationDocument, DelegationRevocation
from purposematch.protocol.errors import InputError, PeerError
from purposematch.server.delegations import record_delegation, revoke_delegation
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.registry.delegations import StoredDelegation, delegations
from purposematch.server.times import iso

__all__ = ["delegation_app"]

delegation_app = typer.Typer(help="What advertisers let partners do.", no_args_is_help=True)

AdvertiserArgument = Annotated[str, typer.Argument(metavar="ADVERTISER", help="Who delegated.")]


@delegation_app.command(
    "record", epilog=example("purposematch-platform delegation record delegation-1.json --data-dir platform")
)
def delegation_record_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the advertiser signed.")],
    data_dir: DataDirOption,
    json: JsonOption = False,
) -> None:
    """Put a delegation into force, which an advertiser signed with `purposematch delegate`.

    It must be signed with the key that accepted the advertiser's latest agreement, and name a partner that
    was added.
    """
    try:
        document = DelegationDocument.decode(_read(file))
    except PeerError as error:
        raise InputError(f"{file}: {error}") from None
    with open_platform(data_dir) as platform:
        record_delegation(platform, document)
    signed = document.delegation
    facts = signed.to_mapping() | {"expires_at": iso(signed.expires_at), "digest": signed.digest.hex()}
    report("Delegation recorded", facts, json)


@delegation_app.command("list", epilog=example("purposematch-platform delegation list --data-dir platform"))
def delegation_list_command(
    data_dir: DataDirOption,
    advertiser: Annotated[str | None, typer.Option(metavar="NAME", help="Those of one advertiser.")] = None,
    json: JsonOption = False,
) -> None:
    """Show every delegation that is or was in force."""
    with open_platform(data_dir) as platform:
        now = platform.clock()
        with platform.registry.reading() as connection:
            found = [_document(each, now) for each in delegations(connection, advertiser)]
    if json:
        emit_json({"delegations": found})
        return
    columns = ("advertiser", "number", "partner", "lists", "expires_at", "state")
    report_table("Delegations", columns, ([str(each[name]) for name in columns] for each in found))


@delegation_app.command(
    "revoke",
    epilog=example(
        "purposematch-platform delegation revoke acme 1 --data-dir platform",
        "purposematch-platform delegation revoke acme 1 --signed delegation-1.revocation.json "
        "--data-dir platform",
    ),
)
def delegation_revoke_command(
    advertiser: AdvertiserArgument,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Which delegation of the advertiser.")],
    data_dir: DataDirOption,
    signed: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The advertiser's own revocation.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Revoke a delegation: as the advertiser signed it, or of the platform's own accord.

    It is in force at once: the partner's sessions under it end. It can not be taken back.
    """
    revocation = None
    if signed is not None:
        try:
            revocation = DelegationRevocation.decode(_read(signed))
        except PeerError as error:
            raise InputError(f"{signed}: {error}") from None
    with open_platform(data_dir) as platform:
        ended = revoke_delegation(platform, advertiser, number, revocation)
    by = "platform" if revocation is None else "advertiser"
    document: dict[str, object] = {"advertiser": advertiser, "number": number, "by": by}
    report("Delegation revoked", document | {"ended_sessions": ended}, json)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_DELEGATION_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _document(stored: StoredDelegation, now: int) -> dict[str, object]:
    signed = stored.delegation
    state = "in force" if now < signed.expires_at else "expired"
    by = "advertiser" if stored.by_advertiser else "platform"
    return signed.to_mapping() | {
        "expires_at": iso(signed.expires_at),
        "digest": signed.digest.hex(),
        "recorded_at": iso(stored.recorded_at),
        "state": state if stored.revoked_at is None else "revoked",
        "revoked_at": None if stored.revoked_at is None else iso(stored.revoked_at),
        "revoked_by": None if stored.revoked_at is None else by,
    }
