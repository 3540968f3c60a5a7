"""Publishes generations: the gate over the whole registry, then an index of what it permitted.

Publishing is atomic. The gate and its decisions are one transaction; files are written aside, flushed and
renamed; the row that puts them into service is the last step.

Not protected against: a clock that is wrong. Expiry, freshness and the age of an epoch follow it.
"""

import hmac
from dataclasses import replace
from datetime import timedelta
from typing import Final

from purposematch.protocol.ciphersuite import WATERMARK_DOMAIN
from purposematch.protocol.errors import IntegrityError, VerificationError
from purposematch.protocol.gate import decide
from purposematch.protocol.manifest import GENERATION_ID_LENGTH, Manifest
from purposematch.protocol.scope import Scope
from purposematch.protocol.secret import reveal
from purposematch.server.checkpoints import sign_checkpoint
from purposematch.server.departures import departures
from purposematch.server.epochs import epoch_key, retire_epochs, scope_to_publish
from purposematch.server.evaluation import (
    Progress,
    enrolled_identifiers,
    generation_segments,
    generation_table,
)
from purposematch.server.generations import StoredGeneration, table_digest
from purposematch.server.platform import Platform
from purposematch.server.point_lists import point_lists, wanted_lists
from purposematch.server.publish_lock import publishing_alone
from purposematch.server.registry import (
    assertions_for_gate,
    generations,
    highest_assertion,
    highest_decision,
    ledger,
    record_decisions,
)

__all__ = ["publish", "watermark_commitment"]

_HOUR: Final = timedelta(hours=1) // timedelta(microseconds=1)


def publish(
    platform: Platform, progress: Progress | None = None, *, rotate: bool = False
) -> StoredGeneration:
    """Publishes a generation from the registry as it is now, and returns it.

    Args:
        platform: the open platform.
        progress: told what was evaluated.
        rotate: whether a new key epoch begins with it, whatever the age of the present one.

    Raises:
        InputError: an epoch is to be rotated, and nothing was ever published.
        UnavailableError: another publisher is at work, or the disk is full.
        PolicyError: the policy file is refused; what was published stays in service.
        IntegrityError: stored data is damaged.
    """
    with publishing_alone(platform):
        # On a log that was rewritten nothing is to be built.
        sign_checkpoint(platform)
        policy = platform.policy()
        now = platform.clock()
        with platform.registry.writing() as connection:
            given = assertions_for_gate(connection)
            decisions = decide(given.assertions, policy, platform.taxonomy, now)
            policy_row = ledger.record_policy(connection, policy, now, platform.random_bytes)
            changed = record_decisions(connection, given, decisions, policy_row, now, platform.random_bytes)
            ledger.record_decisions_stored(connection, changed, platform.random_bytes)
            watermark = highest_assertion(connection)
            last_decision = highest_decision(connection)
            scope, epoch_ends = scope_to_publish(platform, connection, policy, now, rotate=rotate)
            latest = generations.latest_generation(connection)
            names = wanted_lists(connection, now)
        enrolled = enrolled_identifiers(given, decisions.permitted(), policy, now)
        key = epoch_key(platform, scope)
        previous = _previous(platform, latest, scope, key.public)
        departed = departures(platform, latest, previous, scope, enrolled.keyed)
        generation = platform.random_bytes(GENERATION_ID_LENGTH)
        table = generation_table(
            platform, key.evaluation, scope.info(), generation, given, enrolled, previous, progress
        )
        segments, additions, pieces = generation_segments(table, previous)
        points = point_lists(platform, scope, generation, given, enrolled, table, previous, names, progress)
        table = replace(table, point_rows=points.rows)
        valid_until = min(
            now + platform.config.limits.generation_max_age_hours * _HOUR,
            epoch_ends,
            enrolled.expires_at,
        )
        manifest = Manifest(
            generation=generation,
            scope=scope,
            public_key=key.public,
            count=len(enrolled.keyed),
            watermark=watermark_commitment(platform, watermark),
            published_at=now,
            valid_until=valid_until,
            policy=policy.digest,
            taxonomy=platform.taxonomy.digest,
            segments=segments,
            additions=additions,
            point_lists=points.segments,
        )
        document = manifest.sign(platform.identity)
        platform.store.write(manifest, document, table, {**pieces, **points.pieces})
        published = StoredGeneration(manifest, document, table)
        with platform.registry.writing() as connection:
            number = generations.add_generation(
                connection,
                manifest,
                document,
                policy_id=policy_row,
                watermark=watermark,
                decisions=last_decision,
                table_sha256=table_digest(table),
            )
            departed.record(connection, platform, published)
            ledger.record_generation(connection, number, platform.random_bytes)
        sign_checkpoint(platform)
        _clean_up(platform, manifest)
        return published


def watermark_commitment(platform: Platform, watermark: int) -> bytes:
    """What a manifest says of its watermark: the number itself would show every refusal that arrives."""
    key = reveal(platform.registry.identifier_key)
    return hmac.digest(key, WATERMARK_DOMAIN + watermark.to_bytes(8, "big"), "sha256")


def _previous(
    platform: Platform, latest: generations.PublishedGeneration | None, scope: Scope, public: bytes
) -> StoredGeneration | None:
    """The latest generation if it is of the same scope, made under the same key, and whole."""
    if latest is None:
        return None
    if (latest.purpose, latest.profile, latest.epoch) != (scope.purpose, scope.profile, scope.epoch):
        return None
    try:
        stored = platform.store.load(latest.name)
        platform.store.check(stored)
    except (IntegrityError, VerificationError):
        # What was lost or altered can be computed again.
        return None
    return stored if stored.manifest.public_key == public else None


def _clean_up(platform: Platform, manifest: Manifest) -> None:
    """Removes what no session needs any more: old tables and segments, and the keys of old epochs."""
    with platform.registry.reading() as connection:
        in_use = generations.generations_in_use(connection)
        published = generations.published_generations(connection)
    platform.store.remove_all_but(in_use | {manifest.name}, published)
    retire_epochs(platform)
