"""What may be served: whether a session may open on the latest generation.

Asked at every opening, and by the upkeep, which publishes again when something is wrong: freshness is
what puts a withdrawal, an expiry and a change of policy in force without anyone remembering.

Not protected against: damage inside the generation's files, which loading them finds.
"""

from dataclasses import dataclass
from enum import StrEnum

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

__all__ = ["Freshness", "Stale", "freshness"]


class Stale(StrEnum):
    """Why no session may open on the latest generation, as the platform's log says it."""

    UNPUBLISHED = "nothing is published yet"
    KEY_LOST = "the key of the epoch is lost"
    EXPIRED = "the generation is out of date"
    POLICY_REFUSED = "the policy file is refused"
    POLICY_CHANGED = "the policy changed and is not published yet"
    WITHDRAWAL = "a withdrawal is not published yet"
    CORRECTION = "a correction is not published yet"
    POINT_LISTS = "a list that an agreement needs is not published yet"


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
        return Freshness(None, Stale.UNPUBLISHED)
    if not platform.data_dir.epoch_key(latest.epoch).exists():
        return Freshness(latest, Stale.KEY_LOST)
    if latest.valid_until <= now:
        return Freshness(latest, Stale.EXPIRED)
    try:
        policy = platform.policy()
    except PolicyError:
        return Freshness(latest, Stale.POLICY_REFUSED)
    if policy.digest != latest.policy:
        return Freshness(latest, Stale.POLICY_CHANGED)
    tainting = FORBIDDEN_ORIGINS if policy.strict_origins else ()
    if withdrawal_after(connection, latest.watermark, tainting):
        return Freshness(latest, Stale.WITHDRAWAL)
    if correction_after(connection, latest.decisions):
        return Freshness(latest, Stale.CORRECTION)
    return Freshness(latest, "")
