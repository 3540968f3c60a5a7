"""How a platform is: what it serves, how many sessions there are, what is wrong, and what to do about it.

Read from the data directory, in one snapshot of the registry, so that it can be asked whether or not a server
runs. Everything here is a count, a time, or the name of a generation
or of an advertiser.

Not protected against: what only the server process knows, such as how busy it is. Its metrics tell that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Final

from purposematch.protocol.errors import IntegrityError, PurposematchError, VerificationError
from purposematch.server.audiences import live_audiences
from purposematch.server.certificate_ends import NOTICE_MICROSECONDS, ending, file_warnings, is_ending
from purposematch.server.checkpoints import check_log, last_checkpoint
from purposematch.server.epochs import epoch_ends_at
from purposematch.server.freshness import Stale, freshness
from purposematch.server.pki import Role
from purposematch.server.platform import Platform
from purposematch.server.registry import log, sessions
from purposematch.server.registry.budget import Budget, budgets
from purposematch.server.registry.certificates import ending_certificates
from purposematch.server.registry.generations import PublishedGeneration
from purposematch.server.registry.quota import AdvertiserQuota, quotas_left
from purposematch.server.registry.sessions import SessionState
from purposematch.server.times import iso

__all__ = ["REMEDIES", "PlatformState", "Trouble", "platform_state", "status_document", "troubles"]

_SECOND: Final = 1_000_000
_PUBLISH: Final = "run purposematch-platform publish, or start serve, which publishes by itself"

REMEDIES: Final[Mapping[str, str]] = {
    Stale.UNPUBLISHED: "run purposematch-platform publish",
    Stale.KEY_LOST: "put back its file in keys; or run purposematch-platform publish: a new epoch begins",
    Stale.EXPIRED: _PUBLISH,
    Stale.POLICY_REFUSED: "run purposematch-platform policy check FILE, which says why, and correct it",
    Stale.POLICY_CHANGED: _PUBLISH,
    Stale.WITHDRAWAL: _PUBLISH,
    Stale.CORRECTION: _PUBLISH,
    Stale.POINT_LISTS: _PUBLISH,
}
"""What to do about a generation that no session may open on."""

_RESTORED: Final = (
    "see Backup and restore in docs/operations.md; nothing is signed, and no session opens, before"
)
_RENEW: Final = "run purposematch-platform certificate renew, or certificate add; or revoke it"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, and what to do about it."""

    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class PlatformState:
    """What one snapshot of the registry says.

    Attributes:
        at: when it was taken, microseconds since 1970, like all times here.
        generation: the latest one, or None.
        problem: why no session may open on it; empty if one may.
        epoch_ends: when its key epoch ends by age, or None.
        sessions: how many there are in every state.
        log_size: leaves of the log.
        quotas: what is left today of every quota of an agreement in force.
        budgets: what noisy counts have cost, and what is left.
        certificates: role and name of everybody who has a certificate that is not revoked, and when their
            last one ends.
        audiences: as `live_audiences` gives them.
    """

    at: int
    generation: PublishedGeneration | None
    problem: str
    epoch_ends: int | None
    sessions: Mapping[SessionState, int]
    log_size: int
    quotas: Sequence[AdvertiserQuota]
    budgets: Sequence[Budget]
    certificates: Sequence[tuple[Role, str, int]]
    audiences: Sequence[Mapping[str, object]]


def platform_state(platform: Platform) -> PlatformState:
    """Takes a snapshot.

    Raises:
        UnavailableError, IntegrityError: the registry cannot be read.
    """
    now = platform.clock()
    with platform.registry.reading() as connection:
        fresh = freshness(platform, connection, now)
        latest = fresh.generation
        return PlatformState(
            at=now,
            generation=latest,
            problem=str(fresh.problem),
            epoch_ends=None if latest is None else epoch_ends_at(platform, connection, latest.epoch),
            sessions=sessions.sessions_by_state(connection),
            log_size=log.size(connection),
            quotas=quotas_left(connection, now),
            budgets=budgets(connection, platform.config.budget, now),
            certificates=ending_certificates(connection),
            audiences=live_audiences(connection, now),
        )


def troubles(platform: Platform, state: PlatformState) -> list[Trouble]:
    """What is wrong with a platform; nothing if it is well."""
    found = [trouble] if (trouble := _of_generation(platform, state)) else []
    try:
        check_log(platform)
    except PurposematchError as error:
        found.append(Trouble(str(error), _RESTORED))
    found += [Trouble(problem, remedy) for problem, remedy in file_warnings(platform.data_dir, state.at)]
    found += [
        Trouble(f"the last certificate of {role} {name} {ending(ends, state.at)}", _RENEW)
        for role, name, ends in state.certificates
        if is_ending(ends, state.at) and state.at < ends + NOTICE_MICROSECONDS
    ]
    return found


def _of_generation(platform: Platform, state: PlatformState) -> Trouble | None:
    if state.problem:
        return Trouble(state.problem, REMEDIES[state.problem])
    if state.generation is not None:
        try:
            platform.store.load(state.generation.name)
        except (IntegrityError, VerificationError) as error:
            return Trouble(str(error), _PUBLISH)
    return None


def status_document(platform: Platform, state: PlatformState) -> dict[str, object]:
    """What `purposematch-platform status --json` prints."""
    latest, checkpoint = state.generation, platform.data_dir.checkpoint
    found = troubles(platform, state)
    generation = latest and {
        "id": latest.name,
        "purpose": latest.purpose,
        "profile": str(latest.profile),
        "epoch": latest.epoch,
        "count": latest.count,
        "published_at": iso(latest.published_at),
        "age_seconds": max(0, state.at - latest.published_at) // _SECOND,
        "valid_until": iso(latest.valid_until),
    }
    try:
        checkpoint_size = last_checkpoint(platform).size
        signed_at = iso(checkpoint.stat().st_mtime_ns // 1_000)
    except PurposematchError:
        # What is wrong with it is among the problems.
        checkpoint_size, signed_at = None, None
    return {
        "platform_id": platform.config.platform_id,
        "version": version("purposematch"),
        "ready": _of_generation(platform, state) is None,
        "generation": generation,
        "epoch_ends": None if state.epoch_ends is None else iso(state.epoch_ends),
        "sessions": {state.value: count for state, count in state.sessions.items()},
        "log": {
            "size": state.log_size,
            "checkpoint_size": checkpoint_size,
            "checkpoint_signed_at": signed_at,
        },
        "quotas": [asdict(quota) for quota in state.quotas],
        "budgets": [budget.to_mapping() for budget in state.budgets],
        "audiences": list(state.audiences),
        "certificates": [
            {"role": role.value, "name": name, "not_after": iso(ends)}
            for role, name, ends in state.certificates
        ],
        "problems": [{"problem": each.problem, "remedy": each.remedy} for each in found],
    }
