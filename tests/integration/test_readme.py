"""The documents say what is true: their commands run, their output is the program's, their examples hold.

The README's blocks are one session in one folder. `sh` blocks are scripts; in `console` blocks `$ ` begins a
command, what follows is its output, and `...` stands for anything. A `serve` runs until the session ends.
The README's commands run as programs. On the other pages those that need no shell run in this process, which
saves the second that each takes to start; what a library writes past Python's streams is not seen there.
"""

import contextlib
import importlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import typer

from purposematch.client import receipt
from purposematch.client.cli import app as advertiser_app
from purposematch.console import run
from purposematch.protocol import ciphersuite
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.group import SecretScalar, SodiumGroup
from purposematch.protocol.identifiers import IdentifierReason, Kind, Profile, canonicalize, digest_raw
from purposematch.protocol.log import bundle
from purposematch.protocol.policy import DEFAULT_POLICY_TOML
from purposematch.protocol.poprf import EvaluationKey, evaluate, public_key
from purposematch.protocol.purpose import REASON_MEANINGS, Origin, Reason, Status
from purposematch.protocol.scope import Scope
from purposematch.server.cli import app as platform_app
from purposematch.server.statements import COLUMNS, OPTIONAL_COLUMNS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
README = PAGES[0].read_text(encoding="utf-8")
APPS = {"purposematch": advertiser_app, "purposematch-platform": platform_app}

RUN_ELSEWHERE = ("make ", "pip install ")
"""Commands that CI runs itself: they install, or run these very tests."""
ADDRESS = "127.0.0.1:7443"
"""The address in the README; the session uses a free port in its place."""
DOMAIN = re.compile(r"purposematch [\w ]+ v1")
DOMAINS = [value for value in vars(ciphersuite).values() if isinstance(value, bytes)]
"""The domain strings, which begin like a command."""
FORMATS = {bundle.FORMAT, receipt.FORMAT}
"""The formats of files, which do too."""
FOLDERS = ("protocol", "tables", "console", "telemetry", "server", "client")
"""Where modules are."""
SHELL = re.compile(r"[^\w\s./:,'+=@-]|\n")
"""What makes a line one for a shell: anything but words and quotes."""
SECONDS = 60
"""How long one command may take."""


class Block(NamedTuple):
    language: str
    text: str


class Command(NamedTuple):
    line: str
    output: str | None


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]


def commands(block: Block) -> Iterator[Command]:
    if block.language == "console":
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            yield Command(line, output)
    elif block.language == "python":
        yield Command(f"{shlex.quote(sys.executable)} - <<'END'\n{block.text}\nEND", None)
    elif not all(line.startswith(RUN_ELSEWHERE) for line in block.text.splitlines()):
        yield Command(block.text, None)


def assert_shown(shown: str, printed: str) -> None:
    """Fails unless `printed` is what the page shows, where `...` stands for anything."""
    pattern = r".*".join(map(re.escape, shown.rstrip().split("...")))

    assert re.fullmatch(pattern, printed.rstrip(), re.DOTALL), f"shown:\n{shown}\nprinted:\n{printed}"


class Session:
    """A shell session in `folder`; `here` for one that runs commands of ours in this process."""

    def __init__(self, folder: Path, *, here: bool = False) -> None:
        self.folder = folder
        self.here = here
        self.address = ADDRESS
        self.servers: list[subprocess.Popen[str]] = []
        # The programs beside this interpreter come first, and nothing of the user's is touched.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.own = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
        self.environment = os.environ | {"PATH": path} | self.own

    def run(self, command: Command) -> None:
        if command.line.startswith("purposematch-platform serve"):
            self.serve(command)
            return
        line = command.line.replace(ADDRESS, self.address)
        words = [] if SHELL.search(line) else shlex.split(line)
        if self.here and words and words[0] in APPS:
            code, printed = self.run_here(words)
        else:
            code, printed = self.run_in_shell(line)
        assert code == 0, f"{line}\n{printed}"
        if command.output is not None:
            assert_shown(command.output, printed)

    def run_in_shell(self, line: str) -> tuple[int, str]:
        """The exit code of a line, and all that it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            **self.surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
        return done.returncode, done.stdout

    def run_here(self, words: list[str]) -> tuple[int, str]:
        """The same of a command of ours."""
        printed = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            patch.chdir(self.folder)
            for name, value in self.own.items():
                patch.setenv(name, value)
            code = run(APPS[words[0]], words[1:])
        return code, printed.getvalue()

    def serve(self, command: Command) -> None:
        line = command.line.replace(ADDRESS, "127.0.0.1:0")
        server = subprocess.Popen(
            shlex.split(line), **self.surroundings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.servers.append(server)
        assert server.stdout is not None
        printed = server.stdout.readline()
        assert printed.startswith("serving on "), "the server did not start"
        self.address = printed.split()[-1]
        assert_shown(command.output or "", printed.replace(self.address, ADDRESS))

    @property
    def surroundings(self) -> dict[str, Any]:
        return {"cwd": self.folder, "env": self.environment, "text": True}

    def close(self) -> list[int]:
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        codes = [server.wait(SECONDS) for server in self.servers]
        for server in self.servers:
            if server.stdout is not None:
                server.stdout.close()
        return codes


def run_page(page: str, folder: Path, *, here: bool = True) -> None:
    """Runs every command of a page in one session, with the servers that it starts."""
    ran = [command for block in blocks(page) for command in commands(block)]
    assert len(ran) > 10

    session = Session(folder, here=here)
    try:
        for command in ran:
            session.run(command)
    finally:
        codes = session.close()

    assert codes == [0]


def test_every_block_of_the_readme_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    run_page(README, tmp_path, here=False)

    assert (tmp_path / "matched.parquet").is_file()


def test_every_block_of_the_scenario_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    run_page((ROOT / "docs" / "scenario-2019.md").read_text(encoding="utf-8"), tmp_path)


def test_every_block_of_the_page_on_certificates_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    run_page((ROOT / "docs" / "certificates.md").read_text(encoding="utf-8"), tmp_path)


def test_every_block_of_the_page_on_partners_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    run_page((ROOT / "docs" / "partners.md").read_text(encoding="utf-8"), tmp_path)


def test_the_page_on_audiences_runs_as_it_is_written(tmp_path: Path) -> None:
    run_page((ROOT / "docs" / "audiences.md").read_text(encoding="utf-8"), tmp_path)


@pytest.mark.parametrize("here", [False, True])
def test_a_command_that_fails_or_prints_something_else_is_noticed(tmp_path: Path, here: bool) -> None:
    session = Session(tmp_path, here=here)

    with pytest.raises(AssertionError, match="no such file"):
        session.run(Command("purposematch check missing.csv", None))
    with pytest.raises(AssertionError, match="shown"):
        session.run(Command("purposematch --version", "purposematch 1999"))
    with pytest.raises(AssertionError, match="shown"):
        session.run(Command("echo one two", "one three"))
    session.run(Command("echo one two three", "one ... three"))


def test_what_is_not_run_here_exists() -> None:
    left_out = [
        line for block in blocks(README) for line in block.text.splitlines() if line.startswith(RUN_ELSEWHERE)
    ]
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert {line.split()[1] for line in left_out if line.startswith("make ")} == {"demo", "test"}
    assert set(re.findall(r"`make (\w+)", README)) | {"demo", "test"} <= targets
    assert {name for line in left_out for name in re.findall(r"\[(\w+)\]", line)} <= set(extras)


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below `command` that is no group, with its words."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
    else:
        for name, child in children.items():
            yield from leaves(child, (*path, name))


COMMANDS = {
    path: command
    for name, app in APPS.items()
    for path, command in leaves(typer.main.get_command(app), (name,))
}


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}


def assert_exists(words: list[str]) -> None:
    """Fails unless `words`, from a program's name on, name a command and options that it has."""
    path = next((path for path in COMMANDS if tuple(words[: len(path)]) == path), None)
    if path is None:
        assert words[1].startswith("--"), f"there is no command {' '.join(words)}"
        return
    unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - options(COMMANDS[path])

    assert not unknown, f"{' '.join(path)} has no {unknown}"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_ends_with_an_example_that_exists(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(APPS[path[0]], [*path[1:], "--help"]) == 0
    assert "Example:" in capsys.readouterr().out
    shown = re.findall(r"^ *\$ (.*)$", COMMANDS[path].epilog or "", re.MULTILINE)
    assert shown
    for line in shown:
        words = shlex.split(line)
        start = words.index(path[0])
        assert tuple(words[start : start + len(path)]) == path
        assert_exists(words[start:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [
        command.line for block in blocks(text) if block.language == "console" for command in commands(block)
    ]
    known = set().union(*map(options, COMMANDS.values())) | {"--version", "--verbose"}

    for span in (*spans, *lines):
        words = span.split()
        if DOMAIN.fullmatch(span):
            assert span in {str(value, "ascii") for value in DOMAINS} | FORMATS
        elif words[0] in APPS and len(words) > 1:
            assert_exists(words)
        elif words[0].startswith("--"):
            assert words[0] in known, f"no command has {words[0]}"


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    files = re.findall(
        r"`((?:protocol|server|client|proto|tables|console|telemetry|dashboards|tests|benchmarks|examples)/[\w./]+)`",
        text,
    )

    for link in links:
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link
    for file in files:
        assert (ROOT / file).exists(), file


def test_every_page_that_a_module_names_exists() -> None:
    named = {
        (path, page)
        for folder in (
            "protocol",
            "tables",
            "console",
            "telemetry",
            "server",
            "client",
            "examples",
            "benchmarks",
        )
        for path in (ROOT / folder).rglob("*.py")
        if ".venv" not in path.parts
        for page in re.findall(r"\bdocs/[\w.-]+\.\w+", path.read_text(encoding="utf-8"))
    }
    assert named
    for path, page in named:
        assert (ROOT / page).is_file(), f"{path} names {page}"


def test_every_module_that_a_page_names_can_be_imported() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"`(purposematch(?:\.[a-z_0-9]+)+)`", page.read_text())
    }
    assert named
    for name in named:
        importlib.import_module(name)


def test_the_readme_names_every_column_origin_and_status() -> None:
    spans = set(re.findall(r"`([a-z_0-9]+)`", README))

    assert {*COLUMNS, *OPTIONAL_COLUMNS} <= spans
    assert {origin.label for origin in Origin if origin} <= spans
    assert {status.label for status in Status if status} <= spans


class Example(NamedTuple):
    reason: str
    setting: str
    rows: str


GATE = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
EXAMPLES = [
    Example(reason, setting.strip().strip("`"), "\n".join(re.findall(r"`([^`]+)`", rows)))
    for reason, setting, rows in re.findall(
        r"^\| `([A-Z_]+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", GATE, re.MULTILINE
    )
]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate") / "platform"
    assert run(platform_app, ["init", "--data-dir", str(folder)]) == 0
    return folder


def test_the_page_of_the_gate_lists_every_reason_once() -> None:
    assert [example.reason for example in EXAMPLES] == [reason.name for reason in Reason]


def test_the_page_of_the_gate_says_of_every_reason_what_commands_say() -> None:
    said = re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", GATE, re.MULTILINE)
    meanings = {reason.name: meaning for reason, meaning in REASON_MEANINGS.items()}
    assert {reason: why.replace("`", "") for reason, why in said} == meanings


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.rows], ids=lambda each: each.reason)
def test_the_example_of_every_reason_has_that_reason(
    example: Example, platform: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = example.rows.splitlines()[0].count(",") + 1
    header, policy = ",".join((*COLUMNS, *OPTIONAL_COLUMNS)[:cells]), platform / "policy.toml"
    file = tmp_path / "rows.csv"
    file.write_text(f"{header}\n{example.rows}\n")
    source = shlex.split(example.setting) if example.setting.startswith("--") else []
    line = "" if source else example.setting
    before = policy.read_text()
    name = line.partition(" ")[0]
    # A setting replaces its line of the default policy, or the comment that shows it.
    policy.write_text(re.sub(rf"^(# )?{name} = .*$", line, before, flags=re.MULTILINE) if line else before)
    capsys.readouterr()
    try:
        code = run(platform_app, ["enroll", "--data-dir", str(platform), str(file), "--json", *source])
    finally:
        policy.write_text(before)
    report = json.loads(capsys.readouterr().out)

    assert code == 0
    if example.reason == Reason.PERMITTED.name:
        assert report["enrolled"] == report["read"]
    else:
        assert example.reason in report["refused"]


def test_the_example_for_collecting_systems_is_enrolled_where_evidence_is_required(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = ["--data-dir", str(tmp_path / "platform")]
    assert run(platform_app, ["init", *data_dir, "--platform-id", "ads.example"]) == 0
    policy = tmp_path / "platform" / "policy.toml"
    policy.write_text(policy.read_text().replace("# require_evidence", "require_evidence"))
    (program,) = [block.text for block in blocks(GATE) if block.language == "python"]
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(compile(program, "docs/gate.md", "exec"), {})
    key = capsys.readouterr().out.strip()

    assert run(platform_app, ["enroll", "signed.csv", *data_dir, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refused"] == {"ISSUER_NOT_AUTHORIZED": 1}
    purpose = "marketing.advertising.third_party.targeted"
    add = [
        "issuer",
        "add",
        "signup-service",
        *data_dir,
        "--key",
        key,
        "--purpose",
        purpose,
        "--origin",
        "signup",
    ]
    assert run(platform_app, add) == 0
    capsys.readouterr()
    assert run(platform_app, ["enroll", "signed.csv", *data_dir, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["enrolled"] == 1


def test_the_policies_of_the_pages_are_accepted_or_refused_as_they_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = [block.text for block in blocks(GATE) if block.language == "toml"]
    assert policies
    for number, text in enumerate(policies):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        code = run(platform_app, ["policy", "check", str(file), "--json"])
        printed = capsys.readouterr()
        assert (code, "refused" in text.splitlines()[0]) in ((0, False), (1, True)), printed.err


def test_the_page_of_the_gate_shows_the_policy_that_a_new_platform_gets(platform: Path) -> None:
    shown = [block.text for block in blocks(GATE) if block.language == "toml"]

    assert shown[0] == DEFAULT_POLICY_TOML == (platform / "policy.toml").read_text()


def test_the_worked_example_of_the_protocol_is_what_the_code_computes() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    (example,) = [block.text for block in blocks(page) if block.language == "text" and "info " in block.text]
    shown = dict(line.split(maxsplit=1) for line in example.replace("\n    ", "").splitlines())
    group, scope = (
        SodiumGroup(),
        Scope("ads.example", "marketing.advertising.third_party.targeted", Profile.PLAIN, 1),
    )
    key = SecretScalar(bytes.fromhex(shown["key"]))
    values = pa.array([" Ada@Example.com"])
    digest = digest_raw(values, Kind.EMAIL, Profile.PLAIN).digests[0].tobytes()
    private = bytes([Kind.EMAIL]) + digest
    output = evaluate(
        group,
        POPRF,
        EvaluationKey(group, POPRF, key, scope.info()),
        np.frombuffer(private, np.uint8).reshape(1, -1),
        scope.info(),
    )[0].tobytes()

    assert shown == {
        "canonical": canonicalize(values, Kind.EMAIL, Profile.PLAIN).values[0].as_py(),
        "digest": digest.hex(),
        "input": private.hex(),
        "info": scope.info().hex(),
        "key": shown["key"],
        "public_key": public_key(group, key).hex(),
        "output": output.hex(),
        "tag": output[:16].hex(),
        "token": output[16:48].hex(),
    }


def test_the_pages_name_every_reason_of_a_row_that_cannot_be_used() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_0-9]+)`", page))

    assert {reason.label for reason in IdentifierReason if reason} <= named
