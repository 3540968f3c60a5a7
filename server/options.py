"""Options that every command of the platform has, written once."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["CertificateOption", "DataDirOption", "JsonOption"]

DataDirOption = Annotated[Path, typer.Option("--data-dir", metavar="DIR", help="The platform's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
CertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        metavar="FILE",
        help="A certificate that your own authority issued, PEM; the folder is written without a key.",
    ),
]
