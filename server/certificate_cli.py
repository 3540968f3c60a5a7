"""The commands `purposematch-platform certificate`: which client certificates are admitted.

Not protected against: whoever can run these commands on the data directory is the platform.
"""

from pathlib import Path
from typing import Annotated

import typer

from purposematch.console import emit_json, example, report, report_table
from purposematch.protocol.errors import InputError
from purposematch.server.certificates import (
    record_certificate,
    renew_certificate,
    renew_server_certificate,
    revoke_certificates,
)
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.pki import Role
from purposematch.server.platform import open_platform
from purposematch.server.registry.certificates import RecordedCertificate, RevocationReason, certificates
from purposematch.server.times import iso

__all__ = ["certificate_app"]

certificate_app = typer.Typer(help="Which certificates are admitted.", no_args_is_help=True)

_SHOWN_DIGITS = 16

RoleOption = Annotated[Role | None, typer.Option(help="Those of one role.")]
NameOption = Annotated[str | None, typer.Option(metavar="NAME", help="Those of one name.")]


@certificate_app.command(
    "list",
    epilog=example(
        "purposematch-platform certificate list --data-dir platform",
        "purposematch-platform certificate list --data-dir platform --role advertiser --name acme --json",
    ),
)
def certificate_list_command(
    data_dir: DataDirOption, role: RoleOption = None, name: NameOption = None, json: JsonOption = False
) -> None:
    """Show every client certificate that is or was admitted."""
    with open_platform(data_dir) as platform:
        now = platform.clock()
        with platform.registry.reading() as connection:
            found = [_document(each, now) for each in certificates(connection, role, name)]
    if json:
        emit_json({"certificates": found})
        return
    columns = ("role", "name", "state", "ends", "fingerprint")
    rows = [
        (
            each["role"],
            each["name"],
            each["state"],
            each["not_after"],
            str(each["fingerprint"])[:_SHOWN_DIGITS],
        )
        for each in found
    ]
    report_table("Client certificates", columns, rows)


@certificate_app.command(
    "add", epilog=example("purposematch-platform certificate add acme-2027.pem --data-dir platform")
)
def certificate_add_command(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="PEM: the certificate, and what leads from it to an authority."),
    ],
    data_dir: DataDirOption,
    json: JsonOption = False,
) -> None:
    """Admit somebody who was added before with one more certificate, which your own authority issued.

    Role and name are in the certificate. Those before stay good until they end or are revoked.
    """
    with open_platform(data_dir) as platform:
        added = record_certificate(platform, file)
        document = _document(added, platform.clock())
    report("Certificate recorded", document, json)


@certificate_app.command(
    "renew",
    epilog=example(
        "purposematch-platform certificate renew advertiser acme --data-dir platform --out acme-2027",
        "purposematch-platform certificate renew collector signup-app --data-dir platform --out signup-app",
    ),
)
def certificate_renew_command(
    role: Annotated[Role, typer.Argument(help="Whose it is.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is.")],
    data_dir: DataDirOption,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="A new folder; or the credentials folder that is to have it."
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Have the development authority issue one more certificate to somebody who was added before.

    In a credentials folder of that name, certificate, key and authorities are replaced; a new folder is
    written whole, but for the signing key of an advertiser. Certificates before stay good until they end or
    are revoked.
    """
    with open_platform(data_dir) as platform:
        added = renew_certificate(platform, role, name, out)
        document = _document(added, platform.clock()) | {"credentials": str(out)}
    report("Certificate issued; the folder must reach its holder secret and unaltered", document, json)


@certificate_app.command(
    "renew-server",
    epilog=example("purposematch-platform certificate renew-server --data-dir platform --host match.example"),
)
def certificate_renew_server_command(
    data_dir: DataDirOption,
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="One more DNS name or address; may be repeated.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Have the development authority issue another certificate for the server.

    A running server takes it up by itself.
    """
    with open_platform(data_dir) as platform:
        ends = renew_server_certificate(platform, host or [])
    report("Server certificate issued", {"not_after": ends.isoformat().replace("+00:00", "Z")}, json)


@certificate_app.command(
    "revoke",
    epilog=example(
        "purposematch-platform certificate revoke 3f9a04c1d27be586 --data-dir platform --reason superseded",
        "purposematch-platform certificate revoke --role advertiser --name acme --data-dir platform "
        "--reason privilege_withdrawn",
    ),
)
def certificate_revoke_command(
    data_dir: DataDirOption,
    reason: Annotated[RevocationReason, typer.Option(help="Why; it is logged.")],
    fingerprint: Annotated[
        str | None, typer.Argument(metavar="[FINGERPRINT]", help="Its first digits, at least eight.")
    ] = None,
    role: RoleOption = None,
    name: NameOption = None,
    json: JsonOption = False,
) -> None:
    """Refuse a certificate, or all of somebody, from the next call on, and end the sessions opened with it.

    It can not be taken back: give its holder another one. Whoever is to be shut out must have none left.
    """
    if fingerprint is not None and (role is not None or name is not None):
        raise InputError("a fingerprint names one certificate: leave --role and --name out")
    with open_platform(data_dir) as platform:
        revoked, ended = revoke_certificates(platform, reason, fingerprint, role, name)
        documents = [_document(each, platform.clock()) for each in revoked]
    if json:
        emit_json({"revoked": documents, "ended_sessions": ended})
        return
    for document in documents:
        report("Certificate revoked", document, False)
    report("Sessions", {"ended": ended}, False)


def _document(recorded: RecordedCertificate, now: int) -> dict[str, object]:
    state = "good" if now < recorded.not_after else "expired"
    return {
        "role": recorded.role.value,
        "name": recorded.name,
        "fingerprint": recorded.fingerprint.hex(),
        "state": state if recorded.revoked_at is None else "revoked",
        "not_after": iso(recorded.not_after),
        "recorded_at": iso(recorded.recorded_at),
        "revoked_at": None if recorded.revoked_at is None else iso(recorded.revoked_at),
        "reason": None if recorded.reason is None else recorded.reason.value,
    }
