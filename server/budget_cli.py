"""The command `purposematch-platform budget`: what noisy counts have cost, and what is left for more.

Not protected against: whoever can run this command on the data directory is the platform.
"""

from typing import Annotated

import typer

from purposematch.console import emit_json
from purposematch.console.answers import report_budgets
from purposematch.protocol.epsilon import epsilon_text
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.registry.budget import Holder, budgets
from purposematch.server.times import iso

__all__ = ["budget_command"]


def budget_command(
    data_dir: DataDirOption,
    legal_entity: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only the budgets of this one, and those of all together."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what noisy counts have cost, what is left, and when what is spent returns.

    A new count under the disclosures `platform` and `count` costs an epsilon: of what its legal entity has in
    30 and in 365 days, and of what all have together for the purpose in 30 days. `[budget]` in platform.toml
    says how much that is. A count whose budget is spent is refused with the date on which it returns.
    """
    with open_platform(data_dir) as platform, platform.registry.reading() as connection:
        limits, now = platform.config.budget, platform.clock()
        shown = [
            each
            for each in budgets(connection, limits, now)
            if each.holder is Holder.SCOPE or legal_entity in (None, each.name)
        ]
    rows = [each.to_mapping() | {"counts_left": each.left // limits.release} for each in shown]
    if json:
        emit_json({"at": iso(now), "release": epsilon_text(limits.release), "budgets": rows})
    else:
        report_budgets(rows)
