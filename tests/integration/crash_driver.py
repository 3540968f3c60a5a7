"""Runs commands of the platform in children of its own, and kills them with SIGKILL where it is told to.

Started as a program by `crashes.Driver`. Everything is imported once and every command runs in a fork, so
that a case costs what the command costs. A step is a call that makes something durable or visible: a child
that is to die at step n dies right before the n-th of them, and nothing of it runs afterwards, no `finally`
either.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from purposematch.console import run
from purposematch.protocol.group import default_group
from purposematch.server.cli import app

STEPS = ("fsync", "rename", "replace", "link", "unlink", "mkdir", "rmdir")


class Steps:
    """Counts steps, and ends this process without a word at the one that was chosen."""

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self._last = last

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function as a step."""

        def step(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return step


def child(order: dict[str, Any]) -> None:
    """Runs one command, as `order` says."""
    for descriptor, path in ((0, os.devnull), (1, order["stdout"]), (2, order["stderr"])):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    steps = Steps(order["step"])
    for name in STEPS:
        setattr(os, name, steps.before(getattr(os, name)))
    calls = ("do_commit", "do_execute", "do_executemany") if order["statements"] else ("do_commit",)
    for name in calls:
        setattr(DefaultDialect, name, steps.before(getattr(DefaultDialect, name)))
    code = run(app, order["arguments"])
    with open(order["steps"], "w", encoding="ascii") as file:
        file.write(str(steps.count))
    os._exit(code)


def main() -> None:
    """Takes one order a line, and answers each with how its child ended and how long it took."""
    # What a process computes with is prepared once.
    default_group(1, os.environ).prepare()
    for line in sys.stdin:
        order = json.loads(line)
        begin = time.monotonic()
        process = os.fork()
        if not process:
            child(order)
        if order["seconds"] is not None:
            time.sleep(order["seconds"])
            os.kill(process, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        print(json.dumps({"code": code, "seconds": time.monotonic() - begin}), flush=True)


if __name__ == "__main__":
    main()
