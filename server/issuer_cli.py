"""The commands `purposematch-platform issuer`: whose signatures count as evidence.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

from datetime import UTC, datetime
from typing import Annotated

import typer

from purposematch.console import emit_json, example, report
from purposematch.protocol.errors import InputError
from purposematch.server.data_dir import DataDir
from purposematch.server.issuers import add_issuer, describe_issuer, revoke_issuer
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.policy_file import load_policy
from purposematch.server.taxonomy import load_taxonomy

__all__ = ["issuer_app"]

issuer_app = typer.Typer(help="Whose signatures count as evidence.", no_args_is_help=True)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Small letters, digits, dots, dashes, underscores.")
]


@issuer_app.command(
    "add",
    epilog=example(
        "purposematch-platform issuer add signup-service --data-dir platform --key "
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c --purpose "
        "marketing.advertising.third_party.targeted --origin signup --expires-at 2028-01-01T00:00:00Z"
    ),
)
def issuer_add_command(
    name: NameArgument,
    data_dir: DataDirOption,
    key: Annotated[str, typer.Option(metavar="KEY", help="Its Ed25519 public key, hexadecimal or base64.")],
    purpose: Annotated[
        list[str], typer.Option(metavar="PURPOSE", help="A purpose that it may sign; may be repeated.")
    ],
    origin: Annotated[
        list[str], typer.Option(metavar="ORIGIN", help="An origin that it may sign; may be repeated.")
    ],
    expires_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When its new evidence stops counting, ISO 8601.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Let a collecting system's signatures count. A key for security may sign nothing for advertising."""
    expires = None if expires_at is None else _time(expires_at)
    with open_platform(data_dir) as platform:
        policy = add_issuer(platform, name, key=key, purposes=purpose, origins=origin, expires_at=expires)
    document = describe_issuer(name, policy.issuers[name], datetime.now(UTC))
    report("Issuer added", document | {"policy_digest": policy.digest.hex()}, json)


@issuer_app.command("list", epilog=example("purposematch-platform issuer list --data-dir platform"))
def issuer_list_command(data_dir: DataDirOption, json: JsonOption = False) -> None:
    """Show every issuer: its key, what it may sign, and whether its evidence counts."""
    policy = load_policy(DataDir(data_dir).policy, load_taxonomy())
    now = datetime.now(UTC)
    documents = [describe_issuer(name, issuer, now) for name, issuer in sorted(policy.issuers.items())]
    if json:
        emit_json({"require_evidence": policy.require_evidence, "issuers": documents})
        return
    report("Issuers", {"number": len(documents), "require_evidence": policy.require_evidence}, False)
    for document in documents:
        report(f"Issuer {document['issuer']}", {k: v for k, v in document.items() if k != "issuer"}, False)


@issuer_app.command(
    "revoke",
    epilog=example(
        "purposematch-platform issuer revoke signup-service --data-dir platform "
        "--compromised-since 2026-11-01T00:00:00Z"
    ),
)
def issuer_revoke_command(
    name: NameArgument,
    data_dir: DataDirOption,
    compromised_since: Annotated[
        str, typer.Option(metavar="TIME", help="Evidence received from then on stops counting, ISO 8601.")
    ],
    json: JsonOption = False,
) -> None:
    """Take back what a key signed: in the next generation evidence received since then grants nothing."""
    now = datetime.now(UTC)
    since = _time(compromised_since)
    with open_platform(data_dir) as platform:
        policy = revoke_issuer(platform, name, compromised_since=since, now=now)
    document = describe_issuer(name, policy.issuers[name], now)
    title = "Issuer revoked, from the next generation on: run publish, if no server runs that does it"
    report(title, document | {"policy_digest": policy.digest.hex()}, json)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InputError("a time is ISO 8601 with offset, such as 2026-11-01T00:00:00Z")
    return time
