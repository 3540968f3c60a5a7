"""Commands of a platform that are killed on their way, and what must hold afterwards."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DRIVER = Path(__file__).with_name("crash_driver.py")


@dataclass(frozen=True)
class Run:
    """How a command ended: it was killed, or `code`; what it had written by then."""

    code: int
    seconds: float
    steps: int
    stdout: str
    stderr: str

    @property
    def killed(self) -> bool:
        """Whether it died of SIGKILL."""
        return self.code == -signal.SIGKILL

    @property
    def document(self) -> Any:
        """What was acknowledged on stdout; None if it died before."""
        assert self.code in (0, -signal.SIGKILL), self.stderr
        return json.loads(self.stdout) if self.stdout.endswith("\n") else None


class Driver:
    """Runs commands, each in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self._process = process
        self._folder = folder

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        step: int | None = None,
        seconds: float | None = None,
        statements: bool = False,
    ) -> Run:
        """Runs a command of the platform, and kills it.

        Args:
            arguments: the command line.
            step: die before this step, counted from 1.
            seconds: die after so long.
            statements: every statement that the database is given is a step too.
        """
        files = {name: self._folder / name for name in ("stdout", "stderr", "steps")}
        for path in files.values():
            # A child may die before it opens any of them.
            path.write_bytes(b"")
        order = {
            "arguments": list(map(str, arguments)),
            "step": step,
            "seconds": seconds,
            "statements": statements,
            **{name: str(path) for name, path in files.items()},
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        ended = json.loads(self._process.stdout.readline())
        steps = int(files["steps"].read_text() or 0)
        return Run(
            ended["code"], ended["seconds"], steps, files["stdout"].read_text(), files["stderr"].read_text()
        )


@contextmanager
def driver(folder: Path) -> Iterator[Driver]:
    """Starts the driver, which keeps what commands write in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    # A child is forked, so nothing may run beside the one thread of the driver.
    environment = os.environ | {"PURPOSEMATCH_GROUP": "sodium", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        yield Driver(process, folder)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
