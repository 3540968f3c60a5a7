"""The commands `purposematch-platform config`: whether the settings hold, and where each one comes from.

Not protected against: what only running shows, such as an address that is in use.
"""

import os
from typing import Final

import typer

from purposematch.console import emit_json, example, report, report_table
from purposematch.server.certificate_ends import file_warnings
from purposematch.server.config import SETTINGS, given_settings, load_config
from purposematch.server.data_dir import DataDir
from purposematch.server.initialize import load_platform_keys
from purposematch.server.key_store import KeyStore
from purposematch.server.options import DataDirOption, JsonOption
from purposematch.server.platform import system_clock
from purposematch.server.policy_file import load_policy
from purposematch.server.server_files import load_server_files
from purposematch.server.taxonomy import load_taxonomy
from purposematch.server.times import moment

__all__ = ["config_app"]

config_app = typer.Typer(help="The platform's settings.", no_args_is_help=True)

_UNSET: Final = "none"


@config_app.command("check", epilog=example("purposematch-platform config check --data-dir platform"))
def config_check_command(data_dir: DataDirOption, json: JsonOption = False) -> None:
    """Say whether `serve` would accept the settings, the keys and files that they refer to, and the policy.

    Nothing is changed, and no registry is opened: it may run before every start.
    """
    folder = DataDir(data_dir)
    config = load_config(folder.config, os.environ)
    keys = load_platform_keys(folder, config, os.environ)
    KeyStore(folder, config.platform_id, keys.wrapping).load_identity()
    now = system_clock()
    served = load_server_files(folder, config.platform_id, moment(now))
    policy = load_policy(folder.policy, load_taxonomy())
    document = {
        "settings": str(folder.config),
        "overridden": [
            given.source
            for given in given_settings(folder.config, os.environ).values()
            if given.source in {setting.variable for setting in SETTINGS}
        ],
        "root_key": str(config.root_key),
        "certificate_ends": served.not_after.isoformat(),
        "policy": policy.digest.hex(),
        "warnings": [f"{problem}: {remedy}" for problem, remedy in file_warnings(folder, now)],
    }
    report("Settings, keys, certificate and policy are accepted", document, json)


@config_app.command("show", epilog=example("purposematch-platform config show --data-dir platform"))
def config_show_command(data_dir: DataDirOption, json: JsonOption = False) -> None:
    """Show every setting in force, where it comes from, and the variable that overrides it."""
    given = given_settings(DataDir(data_dir).config, os.environ)
    rows = {
        setting.name: (_shown(given[setting.name].value), given[setting.name].source, setting)
        for setting in SETTINGS
    }
    if json:
        emit_json({name: {"value": value, "source": source} for name, (value, source, _) in rows.items()})
        return
    report_table(
        "Settings in force",
        ("setting", "value", "from", "variable"),
        (
            (name, _UNSET if value is None else str(value), source, "" if setting.fixed else setting.variable)
            for name, (value, source, setting) in rows.items()
        ),
    )


def _shown(value: object) -> object:
    return value if value is None or type(value) in (int, str) else str(value)
