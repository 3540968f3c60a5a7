"""The platform looks after itself: a full disk, a lost key, a stop in the middle of work."""

import asyncio
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from platforms import BIN, LivePlatform, customers, first_line, grants

from purposematch.protocol.errors import UnavailableError
from purposematch.server import generations as store_module
from purposematch.server import publisher as publisher_module
from purposematch.server.platform import Platform
from purposematch.server.publish import publish
from purposematch.server.publisher import Publisher
from purposematch.server.registry import generations

PLANTED = "planted@example.com"


@pytest.fixture
def hamlet(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path / "hamlet")
    platform.enroll(grants(20))
    return platform


@pytest.fixture
def opened(hamlet: LivePlatform) -> Iterator[Platform]:
    with hamlet.opened() as platform:
        yield platform


def _published(platform: Platform) -> int:
    with platform.registry.reading() as connection:
        latest = generations.latest_generation(connection)
    assert latest is not None
    return platform.store.load(latest.name).manifest.count


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), PLANTED)


def _upkeep(platform: Platform, mended: Callable[[], bool], seconds: float = 30) -> None:
    """Runs the upkeep until `mended`."""

    async def until() -> None:
        with ThreadPoolExecutor(1) as pool:
            task = asyncio.create_task(Publisher(platform, pool).run())
            try:
                async with asyncio.timeout(seconds):
                    while not mended():
                        assert not task.done(), task.exception()
                        await asyncio.sleep(0.01)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    asyncio.run(until())


@pytest.mark.parametrize("step", ["_write", "flush_folder"])
def test_a_full_disk_stops_one_publication_and_leaves_nothing_of_it(
    hamlet: LivePlatform, opened: Platform, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    publish(opened)
    before = {path for path in opened.data_dir.generations.rglob("*")}
    hamlet.enroll(grants(5, first=50))
    with monkeypatch.context() as patch:
        patch.setattr(store_module, step, _full)
        with pytest.raises(
            UnavailableError, match=r"^generations cannot be written: No space left on device$"
        ):
            publish(opened)
    assert {path for path in opened.data_dir.generations.rglob("*")} == before
    assert _published(opened) == 20
    assert publish(opened).manifest.count == 25


def test_a_disk_that_is_full_for_a_while_does_not_end_the_upkeep(
    hamlet: LivePlatform, opened: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(opened)
    (opened.data_dir.generations / generation_name(opened) / "tags").unlink()
    write, refusals = store_module._write, iter(range(3))

    def full_for_a_while(*arguments: Any) -> None:
        if next(refusals, None) is not None:
            _full()
        write(*arguments)

    monkeypatch.setattr(store_module, "_write", full_for_a_while)
    monkeypatch.setattr(publisher_module, "CHECK_SECONDS", 0.01)
    tags = lambda: any(opened.data_dir.generations.glob("[!.]*/tags"))  # noqa: E731
    with caplog.at_level(logging.INFO, "purposematch.server"):
        _upkeep(opened, tags)
    assert caplog.text.count("not published now: generations cannot be written: No space left on device") == 3
    assert PLANTED not in caplog.text
    assert publish(opened).manifest.count == 20


def test_an_unexpected_error_does_not_end_the_upkeep_and_only_its_type_is_logged(
    opened: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[int] = []

    def failing(*_: object) -> None:
        called.append(1)
        raise ZeroDivisionError(PLANTED)

    monkeypatch.setattr(Publisher, "_freshness", failing)
    monkeypatch.setattr(publisher_module, "CHECK_SECONDS", 0.01)
    with caplog.at_level(logging.INFO, "purposematch.server"):
        _upkeep(opened, lambda: len(called) > 2)
    assert "upkeep failed: ZeroDivisionError" in caplog.text
    assert PLANTED not in caplog.text


def generation_name(platform: Platform) -> str:
    with platform.registry.reading() as connection:
        latest = generations.latest_generation(connection)
    assert latest is not None
    return latest.name


def test_a_lost_epoch_key_is_answered_with_a_new_epoch(hamlet: LivePlatform, tmp_path: Path) -> None:
    acme = hamlet.admit("acme")
    assert hamlet.publish()["scope"]["epoch"] == 1
    with hamlet.serving():
        (hamlet.data_dir / "keys" / "epoch-1.sealed").unlink()
        done = hamlet.match(customers(tmp_path / "list.csv"), tmp_path / "out.csv", acme)
    assert done.document["matched_rows"] == 20
    assert hamlet.rows("SELECT max(epoch) FROM generation") == [(2,)]


def test_an_altered_manifest_is_answered_with_another_generation(
    hamlet: LivePlatform, tmp_path: Path
) -> None:
    acme = hamlet.admit("acme")
    manifest = hamlet.data_dir / "generations" / hamlet.publish()["generation"] / "manifest.sig"
    manifest.write_bytes(bytes(64))
    with hamlet.serving():
        done = hamlet.match(customers(tmp_path / "list.csv"), tmp_path / "out.csv", acme)
    assert done.document["matched_rows"] == 20
    assert hamlet.rows("SELECT count(*) FROM generation") == [(2,)]


SERVER = """
import sys, time
from purposematch.server import cli, serve
from purposematch.server.publisher import Publisher

{change}
sys.argv = ["purposematch-platform", "serve", "--data-dir", sys.argv[1], "--listen", "127.0.0.1:0"]
sys.exit(cli.main())
"""


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        pytest.param(
            "serve.WORK_SECONDS = 0.5; Publisher._freshness = lambda self: time.sleep(300)",
            0,
            "work under way did not end and is given up",
            id="a publication that does not end",
        ),
        pytest.param(
            "cli.END_SECONDS = 1.0; Publisher.stop = lambda self: time.sleep(300)",
            1,
            "Timeout (0:00:01)!",
            id="the event loop itself",
        ),
    ],
)
def test_a_server_that_is_told_to_stop_ends_whatever_keeps_it(
    hamlet: LivePlatform, change: str, code: int, said: str
) -> None:
    command = [sys.executable, "-c", SERVER.format(change=change), str(hamlet.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        try:
            first_line(server)
            # The upkeep has begun.
            time.sleep(0.5)
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=25)
        finally:
            server.kill()
    assert (server.returncode, out) == (code, b"")
    assert said in err.decode()


def test_serving_on_a_port_in_use_is_refused_in_one_line(hamlet: LivePlatform) -> None:
    environment = os.environ | {"PURPOSEMATCH_GROUP": "sodium"}
    environment.pop("GRPC_VERBOSITY", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [str(BIN / "purposematch-platform"), "serve", "--data-dir", hamlet.data_dir, "--listen", address],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: cannot listen on {address}: the address is in use or not this machine's\n"
