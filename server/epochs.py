"""Key epochs: which one is published for, its key, and the end of those that no session needs.

An epoch ends by age, when its key is lost, when the platform publishes for another purpose, or on demand
(`epoch rotate`). Sessions of an epoch that has ended go on with its key; it is destroyed after the last one.

Not protected against: copies of a key, see `purposematch.server.key_store`; and what an advertiser learned
in an epoch stays known.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.errors import InputError
from purposematch.protocol.policy import Policy
from purposematch.protocol.poprf import EvaluationKey, public_key
from purposematch.protocol.scalars import random_scalar
from purposematch.protocol.scope import Scope
from purposematch.server.platform import Platform
from purposematch.server.registry import generations, ledger

__all__ = [
    "EpochKey",
    "epoch_ends_at",
    "epoch_key",
    "retire_epochs",
    "scope_to_publish",
    "unneeded_epochs",
]

_DAY: Final = timedelta(days=1) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class EpochKey:
    """The key of an epoch: its public key, 32 bytes, and what evaluates under it."""

    public: bytes
    evaluation: EvaluationKey


def scope_to_publish(
    platform: Platform, connection: Connection, policy: Policy, now: int, *, rotate: bool
) -> tuple[Scope, int]:
    """The scope to publish for, its epoch included, and when the epoch ends.

    Args:
        platform: the open platform.
        connection: a snapshot.
        policy: the one in force.
        now: microseconds since 1970-01-01 UTC.
        rotate: whether a new epoch begins whatever the age of the present one.

    Raises:
        InputError: there is no epoch to rotate.
    """
    purpose, profile = policy.required_purpose, platform.config.profile
    latest = generations.latest_generation(connection)
    epoch = 1
    if latest is not None:
        epoch, ends = latest.epoch, epoch_ends_at(platform, connection, latest.epoch)
        same = (latest.purpose, latest.profile) == (purpose, profile)
        # A lost key ends its epoch: under another key of the same epoch nothing would match any more.
        if same and not rotate and now < ends and platform.data_dir.epoch_key(epoch).exists():
            return Scope(platform.config.platform_id, purpose, profile, epoch), ends
        epoch += 1
    elif rotate:
        raise InputError("nothing is published yet, so there is no key epoch to rotate: run publish")
    life = platform.config.limits.epoch_days * _DAY
    return Scope(platform.config.platform_id, purpose, profile, epoch), now + life


def epoch_ends_at(platform: Platform, connection: Connection, epoch: int) -> int:
    """When an epoch that has begun ends by age; microseconds since 1970."""
    life = platform.config.limits.epoch_days * _DAY
    return generations.epoch_started_at(connection, epoch) + life


def epoch_key(platform: Platform, scope: Scope) -> EpochKey:
    """The key of the scope's epoch; a fresh random one if the epoch begins now."""
    if not platform.data_dir.epoch_key(scope.epoch).exists():
        platform.key_store.store_epoch_key(scope.epoch, random_scalar(platform.random_bytes))
    key = platform.key_store.load_epoch_key(scope.epoch)
    public = public_key(platform.group, key)
    evaluation = EvaluationKey(platform.group, POPRF, key, scope.info())
    key.wipe()
    return EpochKey(public, evaluation)


def unneeded_epochs(platform: Platform) -> list[int]:
    """Epochs that have ended, on which no session is open, and whose key is still there."""
    with platform.registry.reading() as connection:
        latest = generations.latest_generation(connection)
        oldest = generations.oldest_epoch_in_use(connection)
    if latest is None:
        return []
    ended = range(1, min(latest.epoch, oldest or latest.epoch))
    return [epoch for epoch in ended if platform.data_dir.epoch_key(epoch).exists()]


def retire_epochs(platform: Platform) -> None:
    """Destroys the keys that no session needs any more, and logs it; whoever calls holds the publish lock."""
    for epoch in unneeded_epochs(platform):
        platform.key_store.destroy_epoch_key(epoch, partial(_record_end, platform, epoch))


def _record_end(platform: Platform, epoch: int) -> None:
    with platform.registry.writing() as connection:
        ledger.record_epoch_end(connection, epoch, platform.clock(), platform.random_bytes)
