"""How the server writes its log: lines for people, or JSON objects for programs, with session ids.

What an exception says is never written, only its kind and the places it went through, whichever library it
comes from: its text could hold anything.

Not protected against: a message that was made from values. Ours hold none, which tests check.
"""

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["JsonFormatter", "TextFormatter", "begin_call", "note_session", "set_up_log"]

_sessions: ContextVar[list[str]] = ContextVar("sessions")

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def begin_call() -> None:
    """The present task begins to serve a call; tasks that it makes serve the same one."""
    _sessions.set([])


def note_session(session_id: bytes) -> None:
    """Says which session the present call is about; its log lines name it from then on."""
    known = _sessions.get(None)
    if known is not None:
        known[:] = [session_id.hex()]


def set_up_log(log_format: str) -> None:
    """Sends the log of this process to stderr.

    Args:
        log_format: `text` or `json`.
    """
    formatter = JsonFormatter() if log_format == "json" else TextFormatter(_TEXT)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class TextFormatter(logging.Formatter):
    """A line, and below it the places of an exception."""

    def formatException(self, ei: Any) -> str:
        """The kind of an exception and where it was, without its text."""
        return "\n".join(_places(ei))


class JsonFormatter(logging.Formatter):
    """An object a line: `time`, `level`, `logger`, `message`, and `session` and `error` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON, ASCII only."""
        time = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for session in _sessions.get([]):
            entry["session"] = session
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = _places(record.exc_info)
        return json.dumps(entry)


def _places(error: Any) -> list[str]:
    kind, _, trace = error
    frames = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(trace)]
    return [kind.__name__, *frames]
