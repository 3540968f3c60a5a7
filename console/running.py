"""Starts a command line and turns every way in which it can end into an exit code and one line.

Not protected against: with the environment variable PURPOSEMATCH_TRACEBACK set to 1 a traceback is
printed, and the values in it may be identifiers. Without it only the type of an unexpected error is shown.
"""

import faulthandler
import gc
import importlib.metadata
import inspect
import os
import select
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Final, Never

import typer
from rich.markup import escape

from purposematch.console.kernels import announce_compilation
from purposematch.protocol.errors import BrokenOffError, PurposematchError

__all__ = ["TRACEBACK_VARIABLE", "end_within", "example", "new_app", "run", "run_program", "show_version"]

TRACEBACK_VARIABLE: Final = "PURPOSEMATCH_TRACEBACK"
"""The environment variable that, set to 1, makes every failure print its traceback."""

_FAILED: Final = 1
_INTERRUPTED: Final = 130
_AGAIN: Final = 75
"""Neither done nor failed: the same command goes on with it (EX_TEMPFAIL of sysexits.h)."""


def new_app(name: str, help: str) -> typer.Typer:
    """A Typer app with the settings of both command lines.

    Args:
        name: the name of the program, as it is typed.
        help: what the program does, in a sentence or two.
    """
    return typer.Typer(
        name=name,
        help=help,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def example(*commands: str) -> str:
    """The `epilog` of a command: the block `Example:` at the end of its help, one command a line."""
    # Typer joins the lines of a paragraph, so every command is a paragraph of its own.
    return "\n\n".join(["Example:", *(f"  $ {escape(command)}" for command in commands)])


def show_version(program: str, details: Mapping[str, str] | None = None) -> Never:
    """Prints the installed version, and `details` (such as the group back end) below it, then ends.

    Raises:
        typer.Exit: always; the command line ends with exit code 0.
    """
    print(f"{program} {importlib.metadata.version('purposematch')}")
    for key, value in (details or {}).items():
        print(f"{key}: {value}")
    raise typer.Exit


def run_program(app: typer.Typer) -> int:
    """Runs a command line as the program that this process is, and returns its exit code."""
    # gRPC would write lines of its own between ours: about a refused handshake, or a port in use.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # A program that is ended from outside cleans up like one that is interrupted at the terminal.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What was imported stays: the interpreter need not search it for cycles again and again.
    gc.freeze()
    code = run(app)
    # And what is left goes with the process: searching all that was loaded took a fifth of a second.
    gc.freeze()
    return code


def end_within(seconds: float) -> None:
    """Ends this process after `seconds`, with exit code 1, unless it ended by itself before.

    Then stderr says where every thread was: files, functions and lines, and no value.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)


def run(app: typer.Typer, argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code; nothing is raised.

    Args:
        app: the app, made by `new_app`.
        argv: the arguments without the program's name; those of the process if None.
    """
    announce_compilation()
    try:
        code = _run(app, sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _end("interrupted", _INTERRUPTED)
    except BrokenPipeError as error:
        if _stdout_is_closed():
            return _FAILED
        return _unexpected(error)
    except (typer.Abort, EOFError):
        return _end("error: the question was not answered with yes; nothing was done")
    except Exception as error:
        return _failure(error)


def _run(app: typer.Typer, argv: list[str]) -> int:
    command = typer.main.get_command(app)
    _join_lines(command)
    name = app.info.name or "purposematch"
    # Typer's own way of running prints errors in boxes of several lines.
    try:
        with command.make_context(name, argv) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except typer.TyperException as wrong:
        return _wrong_usage(wrong, name)
    return 0


def _join_lines(command: object) -> None:
    """Joins the lines of each paragraph of the help: Typer would keep the line breaks of our sources."""
    text = getattr(command, "help", None)
    if isinstance(text, str):
        paragraphs = inspect.cleandoc(text).split("\n\n")
        command.help = "\n\n".join(" ".join(each.split()) for each in paragraphs)  # type: ignore[attr-defined]
    for each in getattr(command, "commands", {}).values():
        _join_lines(each)


def _wrong_usage(wrong: typer.TyperException, name: str) -> int:
    context = getattr(wrong, "ctx", None)
    command_path = name if context is None else context.command_path
    if type(wrong).__name__ != "NoArgsIsHelpError":  # Its help is on the screen already.
        _end(f"error: {wrong.format_message().rstrip('.')} (see {command_path} --help)")
    return wrong.exit_code


def _failure(error: Exception) -> int:
    expected = _expected(error)
    if expected is None:
        return _unexpected(error)
    _print_traceback_if_wanted(error)
    return _end(f"error: {expected}", _AGAIN if isinstance(expected, BrokenOffError) else _FAILED)


def _expected(error: BaseException) -> PurposematchError | None:
    """The error made on purpose that `error` is, or that a group of concurrent failures holds."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_expected, error.exceptions)), None)
    return error if isinstance(error, PurposematchError) else None


def _unexpected(error: Exception) -> int:
    if _print_traceback_if_wanted(error):
        return _end(f"internal error: {type(error).__name__}")
    return _end(
        f"internal error: {type(error).__name__} (run again with {TRACEBACK_VARIABLE}=1 for a traceback; "
        "it may show identifiers)"
    )


def _print_traceback_if_wanted(error: Exception) -> bool:
    wanted = os.environ.get(TRACEBACK_VARIABLE) == "1"
    if wanted:
        traceback.print_exception(error)
    return wanted


def _end(text: str, code: int = _FAILED) -> int:
    """Prints `text` on stderr as one line that no terminal takes for a command."""
    line = " ".join(text.split())
    print("".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)
    return code


def _stdout_is_closed() -> bool:
    """Whether the reader of stdout is gone; if so, the interpreter's last flush is made harmless."""
    watch = select.poll()
    try:
        watch.register(sys.stdout, 0)
    except OSError:  # There is no file behind this stdout.
        return False
    if not watch.poll(0):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return True
