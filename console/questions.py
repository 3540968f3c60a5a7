"""The options of questions, which are the same on the platform and from elsewhere.

Not protected against: what is typed into a shell stays in its history.
"""

from typing import Annotated

import typer

__all__ = [
    "AdvertiserOption",
    "AsOfOption",
    "FromOption",
    "IdentifierOption",
    "IssuerOption",
    "KindOption",
    "NoticeOption",
    "OriginOption",
    "PurposeOption",
    "RegionOption",
    "SourceOption",
    "SubjectIdOption",
    "ToOption",
]

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
AdvertiserOption = Annotated[
    str | None, typer.Option("--advertiser", metavar="NAME", help="Sessions of this advertiser only.")
]
AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", metavar="TIME", help="Answer as it would have been at this time."),
]

SubjectIdOption = Annotated[
    str | None, typer.Option("--subject-id", metavar="ID", help="The platform's id of the person.")
]
IdentifierOption = Annotated[
    str | None,
    typer.Option("--identifier", metavar="VALUE", help="An identifier, raw or as SHA-256 in hexadecimal."),
]
KindOption = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="email, phone or maid.")]
RegionOption = Annotated[
    str | None, typer.Option("--region", metavar="CC", help="The country of phone numbers without +.")
]
