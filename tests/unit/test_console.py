"""Both command lines end, report and show progress in the same way."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import typer

from purposematch.console import (
    emit_json,
    example,
    new_app,
    progress,
    report,
    report_counts,
    report_facts,
    report_table,
    run,
    show_version,
)
from purposematch.protocol.errors import StateError, TableError

PLANTED = "planted@example.com"


def app_that(action: Callable[[], object]) -> typer.Typer:
    app = new_app("purposematch", "Matches lists.")

    @app.command(epilog=example("purposematch match list.csv --platform [::1]:4000", "purposematch match -"))
    def match(file: str = typer.Argument(help="The list."), yes: bool = False) -> None:
        """Matches a list."""
        action()

    @app.command()
    def check() -> None:
        """Checks a list.

        A line that goes on
        below is one paragraph.
        """

    return app


def raising(error: BaseException) -> typer.Typer:
    def action() -> None:
        raise error

    return app_that(action)


def test_a_command_that_ends_well_gives_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app_that(lambda: print("done")), ["match", "x"]) == 0
    assert capsys.readouterr() == ("done\n", "")


def test_the_exit_code_of_a_command_is_kept() -> None:
    assert run(raising(typer.Exit(3)), ["match", "x"]) == 3


def test_the_arguments_of_the_process_are_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["purposematch", "match", "x"])
    assert run(app_that(lambda: print("done"))) == 0
    assert capsys.readouterr().out == "done\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (TableError("list.csv:\n the file\tis empty"), "error: list.csv: the file is empty"),
        (StateError("commit", "open"), "error: found commit, expected open"),
        (TableError("\x1b[2Jgone\x9b"), "error: ?[2Jgone?"),
        (ExceptionGroup("tasks", [KeyError(1), ExceptionGroup("", [TableError("no")])]), "error: no"),
        (
            KeyError(PLANTED),
            "internal error: KeyError (run again with PURPOSEMATCH_TRACEBACK=1 for a traceback; "
            "it may show identifiers)",
        ),
        (typer.Abort(), "error: the question was not answered with yes; nothing was done"),
    ],
)
def test_a_failure_is_one_line_on_stderr_and_gives_1(
    capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    assert run(raising(error), ["match", "x"]) == 1
    assert capsys.readouterr() == ("", f"{line}\n")


def test_no_value_of_an_unexpected_error_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (ValueError(PLANTED), ExceptionGroup(PLANTED, [OSError(PLANTED)]), BrokenPipeError(PLANTED)):
        error.add_note(PLANTED)
        assert run(raising(error), ["match", "x"]) == 1
        out, err = capsys.readouterr()
        assert "planted" not in out + err
        assert err.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError(PLANTED), TableError("no")])
def test_a_traceback_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    monkeypatch.setenv("PURPOSEMATCH_TRACEBACK", "1")
    assert run(raising(error), ["match", "x"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interrupt_is_one_line_and_gives_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(KeyboardInterrupt()), ["match", "x"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["match"], "'file'"),
        (["match", "x", "--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
        (["match", "x", "y"], "y"),
    ],
)
def test_wrong_usage_is_one_line_that_points_to_the_help_and_gives_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert run(app_that(lambda: None), arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert text in err
    assert "--help)" in err
    assert err.count("\n") == 1


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app_that(lambda: None), []) == 2
    out, err = capsys.readouterr()
    assert "Matches lists." in out
    assert err == ""


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_help_of_a_command_ends_with_its_examples(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert run(app_that(lambda: None), ["match", option]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    start = lines.index("Example:")
    assert lines[start + 1 : start + 3] == [
        "$ purposematch match list.csv --platform [::1]:4000",
        "$ purposematch match -",
    ]
    assert not any("completion" in line for line in lines)


def test_the_help_of_a_command_has_no_line_breaks_of_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app_that(lambda: None), ["check", "--help"]) == 0
    assert "A line that goes on below is one paragraph." in capsys.readouterr().out


def test_the_version_is_that_of_the_installed_package(capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> None:
        show_version("purposematch", {"group": "sodium"})

    assert run(app_that(action), ["match", "x"]) == 0
    assert capsys.readouterr().out == f"purposematch {version('purposematch')}\ngroup: sodium\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = (
        "import sys; from purposematch.console import *; app = new_app('purposematch', 'x')\n"
        "@app.command()\n"
        "def talk():\n"
        "    for number in range(100000): emit_json({'number': number})\n"
        "@app.command()\n"
        "def other(): pass\n"
        "sys.exit(run(app, ['talk']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b'{"number": 0}\n'
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_json_is_one_line_in_the_order_given(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"b": 1, "a": {"ü": [0.5, None, True]}})
    assert capsys.readouterr().out == '{"b": 1, "a": {"ü": [0.5, null, true]}}\n'
    with pytest.raises(ValueError, match="JSON"):
        emit_json({"x": float("nan")})


def test_nothing_that_a_terminal_would_obey_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\x9b\u202eevil\ud800\n\u00e4\U000e0001"
    emit_json({hostile: [hostile]})
    line = capsys.readouterr().out
    assert json.loads(line) == {hostile: [hostile]}
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert "\u00e4" in line
    report_facts(hostile, {hostile: hostile})
    report_table(hostile, [hostile], [[hostile]])
    report_counts(hostile, {hostile: 1})
    report("Report", {hostile: [hostile]}, False)
    shown = capsys.readouterr().out
    assert shown.count("?[2J??evil??\u00e4?") == 10
    assert all(line.isprintable() for line in shown.split("\n"))


def test_a_terminal_without_unicode_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    emit_json({"name": "ü€"})
    report_counts("Refused", {"EXPIRED": 1})
    sys.stdout.flush()
    line, *report = raw.getvalue().decode("ascii").splitlines()
    assert json.loads(line) == {"name": "ü€"}
    assert any("####" in text for text in report)


def test_facts_are_listed_with_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    report_facts("Match", {"rows": 1234567, "rate [%]": 0.25, "pinned": True, "output": "a/[b].csv"})
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["Match", "rows 1,234,567", "rate [%] 0.25", "pinned yes", "output a/[b].csv", ""]


def test_a_long_value_is_folded_and_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    report_facts("Match", {"output": "x" * 300})
    assert capsys.readouterr().out.count("x") == 300


def test_counts_have_shares_and_bars_in_proportion(capsys: pytest.CaptureFixture[str]) -> None:
    report_counts(
        "Refused", {"EXPIRED": 60_000, "TAINTED": 30_000, "OBJECTED": 1, "TOO_OLD": 0}, total=120_000
    )
    title, *lines, last = capsys.readouterr().out.splitlines()
    assert (title, last) == ("Refused", "")
    assert [line.split()[:3] for line in lines] == [
        ["EXPIRED", "60,000", "50.0%"],
        ["TAINTED", "30,000", "25.0%"],
        ["OBJECTED", "1", "0.0%"],
        ["TOO_OLD", "0", "0.0%"],
    ]
    assert [line.count("█") for line in lines] == [12, 6, 1, 0]


def test_no_counts_are_said_to_be_none(capsys: pytest.CaptureFixture[str]) -> None:
    report_counts("Refused", {})
    assert capsys.readouterr().out == "Refused\nnone\n\n"


def test_without_a_terminal_progress_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Reading", 10, "rows") as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("total", "unit", "shown"),
    [(2_000_000, "bytes", "2.0/2.0 MB"), (20, "rows", "20/20"), (None, "rows", "/?")],
)
def test_on_a_terminal_progress_shows_on_stderr_only(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    total: int | None,
    unit: str,
    shown: str,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal: Any = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(os.environ, "COLUMNS", "120")
    with progress("Reading [list].csv", total, unit) as advance:
        advance((total or 20) // 2)
        advance((total or 20) // 2)
    assert "Reading [list].csv" in terminal.getvalue()
    assert shown in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_a_program_that_is_ended_from_outside_cleans_up_like_an_interrupted_one() -> None:
    program = (
        "import os, signal, sys; from purposematch.console import *; app = new_app('purposematch', 'x')\n"
        "@app.command()\n"
        "def talk():\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); signal.pause()\n"
        "    finally: print('clean', os.environ['GRPC_VERBOSITY'])\n"
        "@app.command()\n"
        "def other(): pass\n"
        "sys.argv = ['purposematch', 'talk']\n"
        "sys.exit(run_program(app))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "clean NONE\n", "interrupted\n")


def test_a_result_is_one_document_for_programs_and_the_same_facts_for_people(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = {"a_b": 1000, "scope": {"epoch": 1}, "keys": ["x", "y"], "cap": None, "left": []}
    report("Done", document, True)
    assert json.loads(capsys.readouterr().out) == document
    report("Done", document, False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["Done", "a b 1,000", "epoch 1", "keys x, y", "cap none", "left none", ""]
