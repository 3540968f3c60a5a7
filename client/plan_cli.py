"""The command `plan` of `purposematch`: what a match would cost, and who would learn what.

Nobody is contacted.

Not protected against: a platform whose machine is another one, and a line that others use as well.
"""

import json
import secrets
from pathlib import Path
from typing import Annotated, Final

import typer

from purposematch.client.plan import DEFAULT_BATCH, EXCHANGES, Plan, Sizes, plan_match
from purposematch.client.rates import Rates, measure_rates
from purposematch.console import announced_group, emit_json, example, report_facts, report_table
from purposematch.protocol.agreement import LARGEST_LIST_ELEMENTS, Disclosure
from purposematch.protocol.errors import InputError
from purposematch.tables import replaced_file

__all__ = ["add_plan_command"]

LARGEST_BATCH: Final = 65_535
MEGABIT: Final = 1_000_000


def add_plan_command(app: typer.Typer) -> None:
    """Adds the command to the advertiser's program."""
    app.command(
        "plan",
        epilog=example(
            "purposematch plan --list-size 1000000 --enrolled 5000000",
            "purposematch plan --list-size 20000 --enrolled 100000 --disclosure platform --mbit 20 --json",
        ),
    )(plan_command)


def plan_command(
    list_size: Annotated[
        int,
        typer.Option(min=1, max=LARGEST_LIST_ELEMENTS, metavar="N", help="Distinct identifiers of the list."),
    ],
    enrolled: Annotated[
        int,
        typer.Option(min=0, max=LARGEST_LIST_ELEMENTS, metavar="M", help="Identifiers of the platform."),
    ],
    disclosure: Annotated[
        list[Disclosure] | None, typer.Option(help="Only this one. Repeatable; all if none is named.")
    ] = None,
    matching: Annotated[
        int | None,
        typer.Option(min=0, metavar="K", help="Identifiers that match; as many as can if none is named."),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, max=LARGEST_BATCH, help="The platform's max_batch_elements.")
    ] = DEFAULT_BATCH,
    mbit: Annotated[
        float, typer.Option(min=0.001, metavar="MBIT", help="The line, in megabits a second each way.")
    ] = 100.0,
    rates_file: Annotated[
        Path | None, typer.Option("--rates", metavar="FILE", help="Measured rates; else this machine's.")
    ] = None,
    save_rates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the rates that were measured.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """See what a match would cost: bytes each way, time, and who learns what, for each disclosure.

    Bytes are those of the wire, with nothing in the cache; the time is what the slowest of both machines and
    the line takes. Without --rates this machine is measured for about a second. Nothing is sent anywhere.
    """
    most = min(list_size, enrolled)
    if matching is not None and matching > most:
        raise typer.BadParameter(f"--matching is {most:,} at most: no more can be in both")
    rates = Rates.load(rates_file) if rates_file else measure_rates(announced_group(), secrets.token_bytes)
    if save_rates is not None:
        _save(save_rates, rates)
    sizes = Sizes(list_size, enrolled, most if matching is None else matching, batch)
    plans = [
        plan_match(each, sizes, rates, mbit * MEGABIT)
        for each in EXCHANGES
        if not disclosure or each.disclosure in disclosure
    ]
    if json_:
        emit_json(
            {
                "list_size": list_size,
                "enrolled": enrolled,
                "matching": sizes.matching,
                "batch": batch,
                "mbit": mbit,
                "rates": rates.to_mapping(),
                "plans": [each.to_mapping() for each in plans],
            }
        )
    else:
        _report(sizes, rates, plans)


def _save(path: Path, rates: Rates) -> None:
    with replaced_file(path) as (_, file):
        content = json.dumps(rates.to_mapping(), indent=2).encode() + b"\n"
        if file.write(content) != len(content):
            raise InputError(f"{path}: cannot be written: the disk may be full")


def _report(sizes: Sizes, rates: Rates, plans: list[Plan]) -> None:
    report_facts(
        "A match",
        {
            "list": f"{sizes.list_size:,}",
            "enrolled": f"{sizes.enrolled:,}",
            "matching": f"{sizes.matching:,}",
            "rates of": rates.group,
        },
    )
    columns = ("disclosure", "engine", "sent, MB", "received, MB", "advertiser, s", "platform, s", "line, s")
    rows = [
        (
            *(each.disclosure.value, each.engine),
            *(f"{size / 1e6:,.2f}" for size in (each.bytes_sent, each.bytes_received)),
            *(f"{each.advertiser_seconds:,.2f}", f"{each.platform_seconds:,.2f}"),
            f"{each.transfer_seconds:,.2f}",
        )
        for each in plans
    ]
    report_table("What it costs; the longest time decides", columns, rows)
    for each in plans:
        print(f"\nDisclosure {each.disclosure.value}")
        for who, learned in (("advertiser", each.advertiser_learns), ("platform", each.platform_learns)):
            print(f"The {who} learns")
            for point in learned:
                print(f"  - {point}")
