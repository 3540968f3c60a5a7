"""Keeps the served generation fresh: publishes when asked, and by itself when it goes out of date.

Only what was published once by an operator is ever published again here: a platform that never published
serves nothing.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeVar

from purposematch.protocol.errors import (
    IntegrityError,
    PurposematchError,
    UnavailableError,
    VerificationError,
)
from purposematch.server.audiences import end_due
from purposematch.server.checkpoints import check_log
from purposematch.server.epochs import retire_epochs, unneeded_epochs
from purposematch.server.freshness import Freshness, Stale, freshness
from purposematch.server.generations import StoredGeneration
from purposematch.server.platform import Platform
from purposematch.server.point_lists import wanted_lists
from purposematch.server.publish import publish
from purposematch.server.publish_lock import publishing_alone
from purposematch.server.registry import ledger, sessions
from purposematch.server.registry.audiences import due_changes
from purposematch.server.statuses import place_only

__all__ = ["Publisher"]

CHECK_SECONDS: Final = 10.0
"""Seconds between two looks at whether the generation is still fresh."""
SILENCE_SECONDS: Final = 60 * 60
"""A session that sends nothing for this long is ended, so that what it holds can be removed."""
UNUSED_SECONDS: Final = 10 * 60
"""So is one that was opened and then never used for this long, such as one whose answer was lost."""

_Result = TypeVar("_Result")
_log = logging.getLogger("purposematch.server")


async def _nobody(problem: str) -> None:
    """Listens to what a publisher says of its generation."""


class Publisher:
    """Publishes in a worker thread, one at a time.

    Args:
        platform: the open platform.
        pool: where publishing runs.
        note: told why no session can open, or with an empty text that one can, whenever that was looked at.
    """

    def __init__(
        self, platform: Platform, pool: ThreadPoolExecutor, note: Callable[[str], Awaitable[None]] = _nobody
    ) -> None:
        self._platform = platform
        self._pool = pool
        self._note = note
        self._one_at_a_time = asyncio.Lock()
        self._stopping = threading.Event()
        self._loaded = ("", 0.0)  # the generation that was found whole, and when
        self._lists: frozenset[str] = frozenset()  # and its lists of points

    def stop(self) -> None:
        """Makes a publication that is under way give up soon; nothing of it is stored."""
        self._stopping.set()

    def _give_up_when_stopping(self, evaluated: int) -> None:
        if self._stopping.is_set():
            raise UnavailableError("the platform is stopping")

    async def refresh(self) -> None:
        """Publishes if something was published before and is not fresh any more.

        Raises:
            UnavailableError: another process is publishing.
            PolicyError: the policy file is refused.
        """
        async with self._one_at_a_time:
            # Whoever waited for the lock may find that the work is done.
            state = await self._in_pool(self._freshness)
            problem = str(state.problem)
            try:
                if state.generation is not None and state.problem:
                    _log.info("publishing: %s", state.problem)
                    await self._in_pool(publish, self._platform, self._give_up_when_stopping)
                    problem = ""
            finally:
                await self._note(problem)

    async def publish(self) -> StoredGeneration:
        """Publishes whatever the state is, and returns the generation.

        Raises:
            UnavailableError: another process is publishing.
            PolicyError: the policy file is refused.
        """
        async with self._one_at_a_time:
            published = await self._in_pool(publish, self._platform, self._give_up_when_stopping)
            await self._note("")
            return published

    async def run(self) -> None:
        """Looks after freshness, and ends silent sessions, until it is cancelled."""
        while True:
            try:
                await self.refresh()
                await self._in_pool(self._end_silent_sessions)
                await self._in_pool(self._end_due_audiences)
                await self._in_pool(self._retire_epochs)
            except UnavailableError as error:
                _log.warning("not published now: %s", error)
            except PurposematchError as error:
                # The old generation serves until it is out of date; the operator must act.
                _log.error("publishing failed: %s", error)
            except Exception as error:
                # Whatever it was, the platform would go out of date for good if this ended here.
                _log.error("upkeep failed: %s", type(error).__name__, exc_info=place_only(error))
            await asyncio.sleep(CHECK_SECONDS)

    def _freshness(self) -> Freshness:
        platform = self._platform
        now = platform.clock()
        with platform.registry.reading() as connection:
            state = freshness(platform, connection, now)
            wanted = wanted_lists(connection, now)
        try:
            check_log(platform)
        except PurposematchError as error:
            return replace(state, problem=str(error))
        if state.generation is not None and not state.problem:
            # Whoever asks may do so again and again; damage is found by the next look soon enough.
            name, looked_at = state.generation.name, time.monotonic()
            loaded, then = self._loaded
            if name != loaded or looked_at >= then + CHECK_SECONDS:
                try:
                    manifest = platform.store.load(name).manifest
                except (IntegrityError, VerificationError) as error:
                    return replace(state, problem=str(error))
                self._loaded, self._lists = (name, looked_at), frozenset(manifest.point_lists)
            secret = platform.data_dir.epoch_secret(state.generation.epoch)
            if not (self._lists >= {*wanted} and (secret.exists() or not wanted)):
                return replace(state, problem=Stale.POINT_LISTS)
        return state

    def _end_silent_sessions(self) -> None:
        now = self._platform.clock()
        with self._platform.registry.writing() as connection:
            silent, unused = (now - each * 1_000_000 for each in (SILENCE_SECONDS, UNUSED_SECONDS))
            ended = sessions.end_silent_sessions(connection, silent, unused, now)
            ledger.record_session_ends(connection, ended, self._platform.random_bytes)
        if ended:
            _log.info("ended %d silent sessions", len(ended))

    def _end_due_audiences(self) -> None:
        """Deletes whom sessions matched too long ago."""
        now = self._platform.clock()
        with self._platform.registry.reading() as connection:
            if not due_changes(connection, now):
                return
        with self._platform.registry.writing() as connection:
            ended = end_due(self._platform, connection, now)
        _log.info("deleted what %d sessions had matched, as its time had come", ended)

    def _retire_epochs(self) -> None:
        """Destroys keys as soon as their last session has ended; a publication may be a day away."""
        if unneeded_epochs(self._platform):
            with publishing_alone(self._platform):
                retire_epochs(self._platform)
            _log.info("destroyed the keys of epochs that have ended")

    async def _in_pool(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
