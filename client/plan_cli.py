"""The command `plan` of `purposematch`: what a match would cost, and who would learn what.

Nobody is contacted.

Not protected against: a platform whose machine is another one, and a line that others use as well.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from purposematch.client.plan import EXCHANGES, Plan, chosen_by_auto, plan_match
from purposematch.client.plan_traffic import DEFAULT_BATCH, Sizes
from purposematch.client.rates import Rates, measure_rates
from purposematch.console import announced_group, emit_json, example, report_facts, report_table
from purposematch.protocol.agreement import LARGEST_LIST_ELEMENTS, Disclosure
from purposematch.protocol.errors import InputError
from purposematch.tables import replaced_file

__all__ = ["add_plan_command"]

LARGEST_BATCH: Final = 65_535
MEGABIT: Final = 1_000_000
COLUMNS: Final = ("engine", "sent, MB", "received, MB", "advertiser, s", "platform, s", "line, s", "all, s")


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
    """See what a match would cost: bytes each way, time, and who learns what, by disclosure and engine.

    Bytes are those of the wire, with nothing in the cache; the time is what the slowest of both machines and
    the line takes, and by VOLE both machines together. Without --rates this machine is measured for a second
    or two. Nothing is sent anywhere.
    """
    most = min(list_size, enrolled)
    if matching is not None and matching > most:
        raise typer.BadParameter(f"--matching is {most:,} at most: no more can be in both")
    rates = Rates.load(rates_file) if rates_file else _measured()
    if save_rates is not None:
        _save(save_rates, rates)
    sizes = Sizes(list_size, enrolled, most if matching is None else matching, batch)
    wanted = [each for each in Disclosure if not disclosure or each in disclosure]
    plans = [
        plan_match(each, sizes, rates, mbit * MEGABIT) for each in EXCHANGES if each.disclosure in wanted
    ]
    auto = {
        each.value: {
            name: chosen_by_auto(each, sizes, os.environ, allow_experimental=allowed).value
            for name, allowed in (("usual", False), ("allow_experimental", True))
        }
        for each in wanted
    }
    if json_:
        emit_json(
            {
                "list_size": list_size,
                "enrolled": enrolled,
                "matching": sizes.matching,
                "batch": batch,
                "mbit": mbit,
                "rates": rates.to_mapping(),
                "auto": auto,
                "plans": [each.to_mapping() for each in plans],
            }
        )
    else:
        _report(sizes, rates, plans, auto)


def _measured() -> Rates:
    return measure_rates(announced_group(), secrets.token_bytes, os.environ)


def _save(path: Path, rates: Rates) -> None:
    with replaced_file(path) as (_, file):
        content = json.dumps(rates.to_mapping(), indent=2).encode() + b"\n"
        if file.write(content) != len(content):
            raise InputError(f"{path}: cannot be written: the disk may be full")


def _report(sizes: Sizes, rates: Rates, plans: list[Plan], auto: Mapping[str, Mapping[str, str]]) -> None:
    report_facts(
        "A match",
        {
            "list": f"{sizes.list_size:,}",
            "enrolled": f"{sizes.enrolled:,}",
            "matching": f"{sizes.matching:,}",
            "rates of": rates.group,
        },
    )
    for disclosure, chosen in auto.items():
        own = [each for each in plans if each.disclosure.value == disclosure]
        report_table(f"Disclosure {disclosure}", COLUMNS, [_row(each) for each in own])
        for each in own:
            notes = [note for note in (each.warning, each.missing) if note is not None]
            if notes:
                print(f"{each.engine}: {'; '.join(notes)}")
        usual, allowed = chosen.values()
        under = "whatever the agreement allows"
        if allowed != usual:
            under = f"and {allowed} where the agreement allows experimental engines"
        print(f"--engine auto takes {usual}, {under}")
        # Which engine computes makes no difference to who learns what.
        learns = own[0]
        for who, learned in (("advertiser", learns.advertiser_learns), ("platform", learns.platform_learns)):
            print(f"The {who} learns")
            for point in learned:
                print(f"  - {point}")
        print()


def _row(plan: Plan) -> tuple[str, ...]:
    return (
        plan.engine.value,
        *(_number(size and size / 1e6) for size in (plan.bytes_sent, plan.bytes_received)),
        *(_number(seconds) for seconds in (plan.advertiser_seconds, plan.platform_seconds)),
        *(_number(seconds) for seconds in (plan.transfer_seconds, plan.seconds)),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"
