"""What is said of a match that failed: that the platform may have the matches, wherever it may."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from purposematch.client.channel import PlatformChannel
from purposematch.client.resume_file import open_resume_file
from purposematch.client.session_end import Fate, seen_through
from purposematch.protocol.errors import (
    DecodeError,
    ForkError,
    LimitError,
    PeerError,
    StateError,
    VerificationError,
)

SESSION = bytes(range(16))


class Channel:
    """A connection of which only the end of a session is asked for."""

    def __init__(self) -> None:
        self.closed: list[bytes] = []

    async def close_session(self, session: bytes) -> None:
        self.closed.append(session)


def end(folder: Path, error: PeerError, fate: Fate) -> None:
    """Sees a session through that fails, and is closed."""
    channel = Channel()

    async def work() -> None:
        raise error

    async def run() -> None:
        with open_resume_file(folder / "out.csv") as resume:
            real = cast("Any", channel)
            await seen_through(
                work, lambda: fate, cast("PlatformChannel", real), SESSION, resume, resumed=False
            )

    try:
        asyncio.run(run())
    finally:
        assert channel.closed == [SESSION]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (VerificationError("spoiled"), VerificationError),
        (ForkError("spoiled"), ForkError),
        (DecodeError("spoiled"), DecodeError),
        (LimitError("spoiled"), LimitError),
        (StateError("spoiled", "another one"), VerificationError),
    ],
)
def test_whatever_was_spoiled_the_platform_may_have_the_matches(
    tmp_path: Path, error: PeerError, kind: type[PeerError]
) -> None:
    with pytest.raises(
        PeerError, match=f"spoiled.*may have the matches of session {SESSION.hex()}"
    ) as raised:
        end(tmp_path, error, Fate.UNKNOWN)
    assert type(raised.value) is kind
    with pytest.raises(type(error)) as plain:
        end(tmp_path, error, Fate.NOTHING)
    assert plain.value is error
