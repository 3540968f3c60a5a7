"""How a session that has begun ends for its advertiser: with a result, kept for later, or closed.

What a platform may have stored is never called failed. A session whose connection is lost for good is kept
in its resume file; one that fails otherwise is closed if the platform can be reached, and its resume file
deleted.

Not protected against: a platform that says nothing looks like one that is away.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import TypeVar

from purposematch.client.channel import PlatformChannel
from purposematch.client.resume_file import ResumeFile
from purposematch.protocol.errors import (
    BrokenOffError,
    NotAuthenticatedError,
    OutcomeUnknownError,
    PeerError,
    PurposematchError,
    RefusedError,
    StateError,
    UnavailableError,
    VerificationError,
)

__all__ = ["Fate", "UntoldError", "seen_through"]

_Result = TypeVar("_Result")


class UntoldError(PurposematchError):
    """The platform refuses to say whether it stored a commit; asking again does not help."""


class Fate(Enum):
    """What the platform has of a session's matches."""

    NOTHING = "nothing"
    UNKNOWN = "unknown"
    """It may have stored the commit."""
    STORED = "stored"


async def seen_through(
    work: Callable[[], Awaitable[_Result]],
    fate: Callable[[], Fate],
    channel: PlatformChannel,
    session: bytes,
    resume: ResumeFile,
    *,
    resumed: bool,
) -> _Result:
    """What `work` gives; otherwise the session is kept or closed.

    Args:
        work: runs the session to its end.
        fate: what the platform has of it by now.
        channel: the connection.
        session: the session's id.
        resume: its resume file.
        resumed: whether it broke off before.

    Raises:
        BrokenOffError: it is kept; `OutcomeUnknownError` if the platform may have stored its commit.
        PurposematchError: it is closed, and the resume file gone.
    """
    try:
        return await work()
    except (UnavailableError, UntoldError, NotAuthenticatedError) as error:
        if fate() is Fate.UNKNOWN:
            raise OutcomeUnknownError(
                f"{error}; the outcome is unknown: the platform may have the matches of session "
                f"{session.hex()}. "
                f"Run the same command again: it asks, goes on from {resume.path}, and both sides agree",
                session.hex(),
            ) from None
        # A certificate that has ended is replaced, and with the next one the advertiser's session goes on.
        raise BrokenOffError(
            f"{error}. The session is kept in {resume.path}: run the same command again to go on with it",
            session.hex(),
        ) from None
    except BaseException as error:
        if fate() is not Fate.NOTHING and not isinstance(error, PeerError):
            # Only the platform knows what it has, or it has all: resuming is the way to an output.
            raise
        with suppress(PeerError):
            await channel.close_session(session)
        resume.delete()
        if fate() is Fate.UNKNOWN and isinstance(error, PeerError):
            # A message out of turn is no less of a platform that does not do what it should.
            kind = VerificationError if isinstance(error, StateError) else type(error)
            raise kind(
                f"{error}; the platform may have the matches of session {session.hex()}, and there is no "
                "receipt that holds"
            ) from None
        if resumed and isinstance(error, RefusedError):
            raise RefusedError(
                f"{error}; the session that broke off can not go on, and nothing of it was committed. Its "
                f"resume file "
                "was removed: run the same command again to start a new session"
            ) from None
        raise
