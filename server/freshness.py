"""What may be served: whether a session may open on the latest generation.

Asked at every opening, and by the upkeep, which publishes again when something is wrong: freshness is
what puts a withdrawal, an expiry and a change of policy in force without anyone remembering.

Not protected against: damage inside the generation's files, which loading them finds.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from purposematch.protocol.errors import PolicyError
from purposematch.protocol.purpose import FORBIDDEN_ORIGINS
from purposematch.server.platform import Platform
from purposematch.server.registry.corrections import correction_after
from purposematch.server.registry.generations import (
    PublishedGeneration,
    latest_generation,
    withdrawal_after,
)

__all__ = ["Freshness", "freshness"]


@dataclass(frozen=True, slots=True)
class Freshness:
    """Whether a session may open, and on what.

    Attributes:
        generation: the latest one, or None if nothing was ever published.
        problem: why no session may open on it; empty if one may.
    """

    generation: PublishedGeneration | None
    problem: str


def freshness(platform: Platform, connection: Connection, now: int) -> Freshness:
    """Whether a session may open on the latest generation.

    It may if the generation's key is there, it is not too old, covers every withdrawal and correction, and
    was made under the policy that is in force.

    Args:
        platform: the open platform.
        connection: a snapshot.
        now: microseconds since 1970-01-01 UTC.
    """
    latest = latest_generation(connection)
    if latest is None:
        return Freshness(None, "nothing is published yet")
    if not platform.data_dir.epoch_key(latest.epoch).exists():
        return Freshness(latest, "the key of the epoch is lost")
    if latest.valid_until <= now:
        return Freshness(latest, "the generation is out of date")
    try:
        policy = platform.policy()
    except PolicyError:
        return Freshness(latest, "the policy file is refused")
    if policy.digest != latest.policy:
        return Freshness(latest, "the policy changed and is not published yet")
    tainting = FORBIDDEN_ORIGINS if policy.strict_origins else ()
    if withdrawal_after(connection, latest.watermark, tainting):
        return Freshness(latest, "a withdrawal is not published yet")
    if correction_after(connection, latest.decisions):
        return Freshness(latest, "a correction is not published yet")
    return Freshness(latest, "")
