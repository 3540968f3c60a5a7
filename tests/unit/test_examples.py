"""The systemd unit and the Dockerfile, as far as they can be checked without systemd and Docker."""

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import typer

from purposematch.protocol.identifiers import Profile
from purposematch.server.cli import END_SECONDS, app
from purposematch.server.config import config_text, load_config

ROOT = Path(__file__).resolve().parents[2]
UNIT = (ROOT / "examples" / "purposematch-platform.service").read_text()
DOCKERFILE = (ROOT / "examples" / "Dockerfile").read_text()
INSTRUCTIONS = {
    *("FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "ENV", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"),
}


def _assert_command(words: list[str]) -> None:
    """Fails unless the words are a command of the platform with options that it has."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    assert not hasattr(command, "commands"), words
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def _assert_settings(variables: dict[str, str], folder: Path) -> None:
    """Fails unless the variables override settings as they should."""
    path = folder / "platform.toml"
    path.write_text(config_text("example", Profile.PLAIN, None))
    load_config(path, variables)


def _unit() -> dict[str, dict[str, list[str]]]:
    """The sections of the unit; a key may stand there several times."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in UNIT.splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return sections


def test_the_unit_starts_what_exists(tmp_path: Path) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(UNIT)
    unit = _unit()
    assert list(unit) == ["Unit", "Service", "Install"]
    service = unit["Service"]
    for line in (*service["ExecStartPre"], *service["ExecStart"]):
        program, *words = shlex.split(line)
        assert program.endswith("/purposematch-platform")
        _assert_command(words)
    assert service["ExecStart"][0].split()[1] == "serve"
    variables = dict(each.split("=", 1) for each in service["Environment"])
    _assert_settings(variables, tmp_path)
    assert int(service["TimeoutStopSec"][0]) > END_SECONDS
    # What is made at run time has to be executable.
    assert "MemoryDenyWriteExecute" not in service


def _instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_image_is_made_of_what_exists(tmp_path: Path) -> None:
    found = _instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert found[0][0] == "FROM"
    copied = [word for name, rest in found if name == "COPY" for word in rest.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {folder.split("/")[0] for folder in project["tool"]["setuptools"]["package-dir"].values()}
    assert folders <= set(copied)
    (install,) = [rest for name, rest in found if name == "RUN" and rest.startswith("pip install")]
    (extras,) = re.findall(r"\[([\w,]+)\]", install)
    assert set(extras.split(",")) <= project["project"]["optional-dependencies"].keys()
    only = dict(found)
    assert json.loads(only["ENTRYPOINT"]) == ["purposematch-platform"]
    _assert_command(json.loads(only["CMD"]))
    _assert_command(["warm-up"])
    _assert_settings(dict(each.split("=", 1) for each in only["ENV"].split()), tmp_path)
    assert only["USER"] != "root"


def test_the_commands_in_the_comment_of_the_image_exist() -> None:
    shown = re.findall(r"purposematch-platform (init .*)$", DOCKERFILE, re.MULTILINE)
    assert shown
    for line in shown:
        _assert_command(shlex.split(line))
