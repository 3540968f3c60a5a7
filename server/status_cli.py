"""The command `purposematch-platform status`.

Not protected against: whoever can run this command on the data directory is the platform.
"""

from typing import Any

from purposematch.console import emit_json, report_facts, report_table
from purposematch.server.budget_cli import BUDGET_COLUMNS, budget_row
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import open_platform
from purposematch.server.status import platform_state, status_document

__all__ = ["status_command"]


def status_command(data_dir: DataDirOption, json: JsonOption = False) -> None:
    """Show what is served, the sessions, what is left of quotas and budgets, what is wrong and what to do.

    It reads the data directory, so it tells of a platform whether or not a server runs. Nothing is changed.
    """
    with open_platform(data_dir) as platform:
        state = platform_state(platform)
        document: dict[str, Any] = status_document(platform, state)
    if json:
        emit_json(document)
        return
    problems = [(each["problem"], each["remedy"]) for each in document.pop("problems")]
    quotas = [tuple(each.values()) for each in document.pop("quotas")]
    del document["budgets"]
    ends = [tuple(each.values()) for each in document.pop("certificates")]
    generation, sessions, log = (document.pop(name) for name in ("generation", "sessions", "log"))
    facts = {name.replace("_", " "): "none" if value is None else value for name, value in document.items()}
    report_facts("Platform", facts)
    if generation is not None:
        report_facts("Generation", {name.replace("_", " "): value for name, value in generation.items()})
    report_facts("Sessions", sessions)
    report_facts("Log", {name.replace("_", " "): value for name, value in log.items()})
    report_table("Quotas today", ("advertiser", "quota", "left", "of"), quotas)
    report_table("Budgets for noisy counts, in epsilon", BUDGET_COLUMNS, map(budget_row, state.budgets))
    report_table("Certificates", ("role", "name", "last one ends"), ends)
    report_table("Problems", ("what is wrong", "what to do"), problems)
