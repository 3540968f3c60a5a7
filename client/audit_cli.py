"""The command `purposematch audit`: checks a bundle of a platform's log, and receipts against it.

Not protected against: the pinned identity key must come from another channel than the bundle.
"""

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from purposematch.client.audit import audit_bundle
from purposematch.client.credentials import load_pin
from purposematch.console import emit_json, example, report_facts

__all__ = ["add_audit_command"]

_KEY: Final = re.compile(r"[0-9a-f]{64}")


def add_audit_command(app: typer.Typer) -> None:
    """Adds the command to the advertiser's program."""
    examples = (
        "purposematch audit bundle --credentials credentials/ --receipt matched.csv.receipt",
        "purposematch audit bundle --platform-key 3b6a27bc... --receipt a.receipt --receipt b.receipt --json",
    )
    app.command("audit", epilog=example(*examples))(_audit)


def _audit(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="The folder that `purposematch-platform audit` wrote.")
    ],
    receipt: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A receipt that `match` wrote, of any advertiser. Repeatable."),
    ] = None,
    credentials: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A credentials folder of this platform; its platform.json is read."),
    ] = None,
    platform_key: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="Or the platform's identity key, 64 hexadecimal digits."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Check a bundle of a platform's log, and receipts of several advertisers against it.

    Nobody is contacted. Ends with exit code 1 and names the first thing that does not hold; where two
    receipts were shown logs that contradict each other, both. To have a running platform verify itself, use
    `purposematch ask audit`.
    """
    platform_id = None
    if (credentials is None) == (platform_key is None):
        raise typer.BadParameter("name the platform's key: either --credentials or --platform-key")
    if credentials is not None:
        pin = load_pin(credentials)
        key, platform_id = pin.identity_key, pin.platform_id
    else:
        if platform_key is None or _KEY.fullmatch(platform_key) is None:
            raise typer.BadParameter("--platform-key is not 64 lower-case hexadecimal digits")
        key = bytes.fromhex(platform_key)
    found = audit_bundle(bundle, key, platform_id=platform_id, receipts=receipt or ())
    document = found.to_mapping()
    if json:
        emit_json(document)
        return
    receipts = document.pop("receipts")
    report_facts("The bundle holds", {name.replace("_", " "): value for name, value in document.items()})
    for each in receipts if isinstance(receipts, list) else ():
        facts = {name: value for name, value in each.items() if name != "file"}
        report_facts(f"Receipt {each['file']}", facts)
