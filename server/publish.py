"""Publishes generations: the gate over the whole registry, then an index of what it permitted.

Publishing is atomic. The gate and its decisions are one transaction; files are written aside, flushed and
renamed; the row that puts them into service is the last step. What was evaluated in this epoch already is
taken from the previous generation, so that a rebuild computes only what is new, and a removal nothing.

Not protected against: a clock that is wrong. Expiry, freshness and the age of an epoch follow it.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.assertions import NO_TIME
from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.ciphersuite import POPRF, TAG_LENGTH, TOKEN_LENGTH
from purposematch.protocol.errors import (
    IntegrityError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.gate import Permitted, decide
from purposematch.protocol.group import Bytes
from purposematch.protocol.identifiers import private_inputs
from purposematch.protocol.index import MAX_ADDITIONS, Segment, cut, find, order_by_tag, segment_bits
from purposematch.protocol.manifest import GENERATION_ID_LENGTH, Manifest
from purposematch.protocol.policy import Policy
from purposematch.protocol.poprf import EvaluationKey, evaluate, public_key
from purposematch.protocol.scalars import random_scalar
from purposematch.protocol.scope import Scope
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.server.generations import GenerationTable, StoredGeneration
from purposematch.server.platform import Platform
from purposematch.server.registry import (
    GateInput,
    assertions_for_gate,
    generations,
    highest_assertion,
    load_digests,
    policy_id,
    record_decisions,
)

__all__ = ["Freshness", "Progress", "freshness", "publish"]

Progress = Callable[[int], object]
"""Told how many identifiers were evaluated since its last call."""

EVALUATED_AT_A_TIME: Final = 16_384
"""Identifiers evaluated between two reports of progress."""
MAX_ADDED_SHARE: Final = 0.25
"""New tags, as a share of the base, up to which they come as an addition."""
MAX_ADDED_TAGS: Final = 65_536
"""New tags up to which they come as an addition: one full segment."""

_DAY: Final = timedelta(days=1) // timedelta(microseconds=1)
_HOUR: Final = timedelta(hours=1) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Freshness:
    """Whether a session may open, and on what.

    Attributes:
        generation: the latest one, or None if nothing was ever published.
        problem: why no session may open on it; empty if one may.
    """

    generation: generations.PublishedGeneration | None
    problem: str


@dataclass(frozen=True, slots=True)
class _Enrolled:
    """The permitted identifiers of one run of the gate: m rows in the order of their keyed digests.

    Attributes:
        keyed: (m, 16).
        inputs: (m,) positions in the gate's table, to fetch kinds and digests by.
        granting_ends: (m,) int64, as in `GenerationTable`.
        granting: (p,) int64.
        expires_at: the smallest expiry among them, or `NO_TIME`.
    """

    keyed: Bytes
    inputs: NDArray[np.int64]
    granting_ends: NDArray[np.int64]
    granting: NDArray[np.int64]
    expires_at: int


def freshness(platform: Platform, connection: Connection, now: int) -> Freshness:
    """Whether a session may open on the latest generation: it covers every withdrawal, is not too old, and
    was made under the policy that is in force."""
    latest = generations.latest_generation(connection)
    if latest is None:
        return Freshness(None, "nothing is published yet")
    if not platform.data_dir.epoch_key(latest.scope_key[2]).exists():
        return Freshness(latest, "the key of the epoch is lost")
    if latest.valid_until <= now:
        return Freshness(latest, "the generation is out of date")
    if generations.withdrawal_after(connection, latest.watermark):
        return Freshness(latest, "a withdrawal is not published yet")
    try:
        policy = platform.policy()
    except PolicyError:
        return Freshness(latest, "the policy file is refused")
    if policy.digest != latest.policy:
        return Freshness(latest, "the policy changed and is not published yet")
    return Freshness(latest, "")


def publish(platform: Platform, progress: Progress | None = None) -> StoredGeneration:
    """Publishes a generation from the registry as it is now, and returns it.

    Raises:
        UnavailableError: another publisher is at work.
        PolicyError: the policy file is refused; what was published stays in service.
        IntegrityError: stored data is damaged.
    """
    with _alone(platform):
        policy = platform.policy()
        now = platform.clock()
        with platform.registry.writing() as connection:
            given = assertions_for_gate(connection)
            decisions = decide(given.assertions, policy, platform.taxonomy, now)
            policy_row = policy_id(connection, policy, now)
            record_decisions(connection, given, decisions, policy_row, now)
            watermark = highest_assertion(connection)
            last_decision = generations.highest_decision(connection)
            scope, epoch_ends = _scope(platform, connection, policy, now)
            latest = generations.latest_generation(connection)
        enrolled = _enrolled(given, decisions.permitted(), policy)
        key = _epoch_key(platform, scope)
        previous = _previous(platform, latest, scope, key.public)
        generation = platform.random_bytes(GENERATION_ID_LENGTH)
        table = _table(platform, key, scope, generation, given, enrolled, previous, progress)
        segments, additions, pieces = _segments(table, previous)
        valid_until = min(
            now + platform.config.limits.generation_max_age_hours * _HOUR,
            epoch_ends,
            *([enrolled.expires_at] if enrolled.expires_at != NO_TIME else []),
        )
        manifest = Manifest(
            generation=generation,
            scope=scope,
            public_key=key.public,
            count=len(enrolled.keyed),
            watermark=watermark,
            published_at=now,
            valid_until=valid_until,
            policy=policy.digest,
            taxonomy=platform.taxonomy.digest,
            segments=segments,
            additions=additions,
        )
        document = manifest.sign(platform.identity)
        platform.store.write(manifest, document, table, pieces)
        with platform.registry.writing() as connection:
            generations.add_generation(connection, manifest, document, policy_row, last_decision)
        _clean_up(platform, manifest)
        return StoredGeneration(manifest, document, table)


@dataclass(frozen=True, slots=True)
class _EpochKey:
    public: bytes
    evaluation: EvaluationKey


@contextmanager
def _alone(platform: Platform) -> Iterator[None]:
    """Holds the lock that makes one publisher at a time, across processes."""
    path = platform.data_dir.publish_lock
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError("another publisher is at work; try again when it is done") from None
        yield
    finally:
        os.close(descriptor)


def _scope(platform: Platform, connection: Connection, policy: Policy, now: int) -> tuple[Scope, int]:
    """The scope to publish for, its epoch included, and when the epoch ends."""
    purpose, profile = policy.required_purpose, platform.config.profile
    life = platform.config.limits.epoch_days * _DAY
    latest = generations.latest_generation(connection)
    epoch = 1
    if latest is not None:
        epoch = latest.scope_key[2]
        started = generations.epoch_started_at(connection, epoch)
        same = latest.scope_key[:2] == (purpose, str(profile))
        # A lost key ends its epoch: under another key of the same epoch nothing would match any more.
        if same and now < started + life and platform.data_dir.epoch_key(epoch).exists():
            return Scope(platform.config.platform_id, purpose, profile, epoch), started + life
        epoch += 1
    return Scope(platform.config.platform_id, purpose, profile, epoch), now + life


def _epoch_key(platform: Platform, scope: Scope) -> _EpochKey:
    """The key of the scope's epoch; a fresh random one if the epoch begins now."""
    if not platform.data_dir.epoch_key(scope.epoch).exists():
        platform.key_store.store_epoch_key(scope.epoch, random_scalar(platform.random_bytes))
    key = platform.key_store.load_epoch_key(scope.epoch)
    public = public_key(platform.group, key)
    evaluation = EvaluationKey(platform.group, POPRF, key, scope.info())
    key.wipe()
    return _EpochKey(public, evaluation)


def _enrolled(given: GateInput, permitted: Permitted, policy: Policy) -> _Enrolled:
    """Groups the permitted pairs by identifier."""
    order = np.argsort(permitted.identifier, kind="stable")
    codes, starts = np.unique(permitted.identifier[order], return_index=True)
    rows = permitted.granting_row[order]
    expiries = [given.assertions.expires_at[rows]]
    if policy.max_consent_age_days is not None:
        begins = given.assertions.not_before[rows]
        begins = np.where(begins == NO_TIME, given.assertions.received_at[rows], begins)
        expiries.append(begins + policy.max_consent_age_days * _DAY + 1)
    known = np.concatenate(expiries)
    known = known[known != NO_TIME]
    keyed = _keyed_bytes(given, codes)
    by_keyed = order_by_tag(keyed)
    ends = np.append(starts[1:], len(rows))
    lengths = (ends - starts)[by_keyed]
    inputs = [rows[starts[row] : ends[row]] for row in by_keyed] if len(rows) > len(codes) else None
    granting = np.concatenate(inputs) if inputs else rows[starts[by_keyed]]
    return _Enrolled(
        keyed=keyed[by_keyed],
        inputs=rows[starts[by_keyed]],
        granting_ends=np.cumsum(lengths),
        granting=given.ids[granting],
        expires_at=int(known.min()) if len(known) else NO_TIME,
    )


def _keyed_bytes(given: GateInput, codes: NDArray[np.int64]) -> Bytes:
    chosen = given.identifiers.take(codes)
    content = np.frombuffer(chosen.buffers()[1], np.uint8)
    return content.reshape(-1, 16)[chosen.offset : chosen.offset + len(chosen)]


def _previous(
    platform: Platform, latest: generations.PublishedGeneration | None, scope: Scope, public: bytes
) -> StoredGeneration | None:
    """The latest generation if it is of the same scope, made under the same key, and whole."""
    if latest is None or latest.scope_key != (scope.purpose, str(scope.profile), scope.epoch):
        return None
    try:
        stored = platform.store.load(latest.name)
        platform.store.check(stored)
    except (IntegrityError, VerificationError):
        # What was lost or altered can be computed again.
        return None
    return stored if stored.manifest.public_key == public else None


def _table(
    platform: Platform,
    key: _EpochKey,
    scope: Scope,
    generation: bytes,
    given: GateInput,
    enrolled: _Enrolled,
    previous: StoredGeneration | None,
    progress: Progress | None,
) -> GenerationTable:
    """Tags and tokens of everything enrolled and of the canaries, evaluating what is not known yet."""
    info, group = scope.info(), platform.group
    outputs = np.empty((len(enrolled.keyed), TAG_LENGTH + TOKEN_LENGTH), np.uint8)
    new = np.ones(len(enrolled.keyed), np.bool_)
    if previous is not None:
        old = previous.table
        order = order_by_tag(old.identifiers)
        found = find(np.ascontiguousarray(old.identifiers[order]), enrolled.keyed)
        new = found < 0
        at = order[found[~new]]
        outputs[~new, :TAG_LENGTH] = old.tags[at]
        outputs[~new, TAG_LENGTH:] = reveal_array(old.tokens)[at]
    wanted = np.flatnonzero(new)
    with platform.registry.reading() as connection:
        sealing = platform.registry.sealing_key
        digests = load_digests(connection, sealing, given.ids[enrolled.inputs[wanted]])
    inputs = private_inputs(given.kinds[enrolled.inputs[wanted]], digests)
    for start in range(0, len(wanted), EVALUATED_AT_A_TIME):
        part = slice(start, start + EVALUATED_AT_A_TIME)
        output = evaluate(group, POPRF, key.evaluation, inputs[part], info)
        outputs[wanted[part]] = output[:, : TAG_LENGTH + TOKEN_LENGTH]
        if progress is not None:
            progress(len(output))
    canaries = evaluate(group, POPRF, key.evaluation, canary_inputs(generation), info)
    outputs = np.concatenate([outputs, canaries[:, : TAG_LENGTH + TOKEN_LENGTH]])
    count, total = len(enrolled.keyed), len(outputs)
    order = order_by_tag(outputs[:, :TAG_LENGTH])
    lengths = np.zeros(total, np.int64)
    lengths[:count] = np.diff(enrolled.granting_ends, prepend=0)
    begins = np.zeros(total, np.int64)
    begins[:count] = enrolled.granting_ends - lengths[:count]
    ends = np.cumsum(lengths[order])
    # Row i's part moves from its old beginning to its new one.
    shift = np.repeat(begins[order] - (ends - lengths[order]), lengths[order])
    keyed = np.zeros((total, TAG_LENGTH), np.uint8)
    keyed[:count] = enrolled.keyed
    return GenerationTable(
        tags=np.ascontiguousarray(outputs[order, :TAG_LENGTH]),
        tokens=SecretArray(np.ascontiguousarray(outputs[order, TAG_LENGTH:])),
        identifiers=keyed[order],
        granting_ends=ends,
        granting=enrolled.granting[np.arange(len(shift)) + shift],
    )


def _segments(
    table: GenerationTable, previous: StoredGeneration | None
) -> tuple[tuple[Segment, ...], tuple[Segment, ...], dict[str, Bytes]]:
    """Base, additions, and by name the tags of those that are new.

    New tags come as an addition while nothing was removed since the base was built and they are few;
    then an advertiser that has the base fetches only them. Otherwise the base is cut anew.
    """
    if previous is not None:
        old, canary = previous.manifest, ~previous.table.identifiers.any(axis=1)
        kept = find(table.tags, np.ascontiguousarray(previous.table.tags[~canary])) >= 0
        added = table.tags[find(np.ascontiguousarray(previous.table.tags), table.tags) < 0]
        few = len(added) <= min(MAX_ADDED_TAGS, MAX_ADDED_SHARE * len(table.tags))
        if kept.all() and few and len(old.additions) < MAX_ADDITIONS:
            addition = Segment.of(added)
            return old.segments, (*old.additions, addition), {addition.name: added}
    pieces = cut(table.tags, segment_bits(len(table.tags)))
    base = tuple(map(Segment.of, pieces))
    return base, (), {segment.name: tags for segment, tags in zip(base, pieces, strict=True)}


def _clean_up(platform: Platform, manifest: Manifest) -> None:
    """Removes what no session needs any more: old tables and segments, and the keys of old epochs."""
    with platform.registry.reading() as connection:
        in_use = generations.generations_in_use(connection)
        oldest = generations.oldest_epoch_in_use(connection)
    platform.store.remove_all_but(in_use | {manifest.name})
    for epoch in range(1, min(manifest.scope.epoch, oldest or manifest.scope.epoch)):
        if platform.data_dir.epoch_key(epoch).exists():
            platform.key_store.destroy_epoch_key(epoch)
