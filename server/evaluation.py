"""Builds the index of a generation: who is in it, their tags and tokens, and the segments to serve.

What was evaluated in this epoch already is taken from the previous generation, so that a rebuild computes
only what is new, and a removal nothing.

Not protected against: a previous generation that nobody checked; the caller does (`GenerationStore.check`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.assertions import NO_TIME
from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.ciphersuite import POPRF, TAG_LENGTH, TOKEN_LENGTH
from purposematch.protocol.gate import Permitted
from purposematch.protocol.group import Bytes
from purposematch.protocol.identifiers import private_inputs
from purposematch.protocol.index import MAX_ADDITIONS, Segment, cut, find, order_by_tag, segment_bits
from purposematch.protocol.policy import Policy
from purposematch.protocol.poprf import EvaluationKey, evaluate
from purposematch.protocol.purpose import Status
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.server.generations import GenerationTable, StoredGeneration, ranges
from purposematch.server.platform import Platform
from purposematch.server.registry import GateInput, load_digests
from purposematch.server.registry.history import NEVER, PUBLISHING_MICROSECONDS
from purposematch.server.registry.rows import keyed_bytes
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES

__all__ = ["Enrolled", "Progress", "enrolled_identifiers", "generation_segments", "generation_table"]

Progress = Callable[[int], object]
"""Told how many identifiers were evaluated since its last call."""

EVALUATED_AT_A_TIME: Final = 16_384
"""Identifiers evaluated between two reports of progress."""
MAX_ADDED_SHARE: Final = 0.25
"""New tags, as a share of the base, up to which they come as an addition."""
MAX_ADDED_TAGS: Final = 65_536
"""New tags up to which they come as an addition: one full segment."""

_KEPT: Final = TAG_LENGTH + TOKEN_LENGTH
"""Bytes of an output that are of use: the tag and then the token."""
_DAY: Final = timedelta(days=1) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The permitted identifiers of one run of the gate: m rows in the order of their keyed digests.

    Attributes:
        keyed: (m, 16).
        inputs: (m,) positions in the gate's table, to fetch kinds and digests by.
        granting_ends: (m,) int64, as in `GenerationTable`.
        granting: (p,) int64.
        subjects: (p,) int64, codes of the subjects that these permit for, in the gate's table.
        expires_at: when the first of their permissions ends, or `NEVER`.
    """

    keyed: Bytes
    inputs: NDArray[np.int64]
    granting_ends: NDArray[np.int64]
    granting: NDArray[np.int64]
    subjects: NDArray[np.int64]
    expires_at: int


def enrolled_identifiers(given: GateInput, permitted: Permitted, policy: Policy, now: int) -> Enrolled:
    """Groups the permitted pairs by identifier.

    What would expire before a generation of this size is in service is left out: else a platform whose
    consents expire faster than it publishes would never have one that is fresh.

    Args:
        given: what the gate decided on.
        permitted: what it permitted.
        policy: the one it applied.
        now: when the gate decided, microseconds since 1970.
    """
    ends_at = _ends_at(given, policy)
    in_service = now + len(given.ids) * PUBLISHING_MICROSECONDS  # as `history.pair_history` has it
    order = np.argsort(permitted.identifier, kind="stable")
    order = order[ends_at[permitted.granting_row[order]] > in_service]
    codes, starts = np.unique(permitted.identifier[order], return_index=True)
    rows = permitted.granting_row[order]
    # A renewal that ends puts an older withdrawal back in force, also where a later grant permits.
    statuses = np.array([each.status for each in given.assertions.terms_table], np.uint8)
    renewed = np.flatnonzero(statuses[given.assertions.terms] == Status.RENEWED)
    known = np.concatenate([ends_at[rows], ends_at[renewed]])
    known = known[(known > now) & (known != NEVER)]
    keyed = keyed_bytes(given.identifiers.take(codes))
    by_keyed = order_by_tag(keyed)
    ends = np.append(starts[1:], len(rows))
    lengths = (ends - starts)[by_keyed]
    granting = rows[ranges(starts[by_keyed], lengths)]
    return Enrolled(
        keyed=keyed[by_keyed],
        inputs=rows[starts[by_keyed]],
        granting_ends=np.cumsum(lengths),
        granting=given.ids[granting],
        subjects=given.assertions.subject[granting],
        expires_at=int(known.min()) if len(known) else NEVER,
    )


def _ends_at(given: GateInput, policy: Policy) -> NDArray[np.int64]:
    """When each assertion stops to grant by itself, `NEVER` where nothing ends it: (n,) int64."""
    table = given.assertions
    ends = np.where(table.expires_at == NO_TIME, NEVER, table.expires_at)
    if policy.max_consent_age_days is not None:
        begins = np.where(table.not_before == NO_TIME, table.received_at, table.not_before)
        ends = np.minimum(ends, begins + policy.max_consent_age_days * _DAY + 1)
    return ends


def generation_table(
    platform: Platform,
    key: EvaluationKey,
    info: bytes,
    generation: bytes,
    given: GateInput,
    enrolled: Enrolled,
    previous: StoredGeneration | None,
    progress: Progress | None,
) -> GenerationTable:
    """Tags and tokens of everything enrolled and of the canaries, evaluating what is not known yet.

    Args:
        platform: the open platform.
        key: of the scope's epoch.
        info: the scope, as the POPRF takes it.
        generation: the id of the generation, which the canaries come from.
        given: what the gate decided on.
        enrolled: what it permitted.
        previous: a checked generation of the same scope and key, or None.
        progress: told what was evaluated.

    Raises:
        IntegrityError: stored digests are damaged.
    """
    outputs = _outputs(platform, key, info, given, enrolled, previous, progress)
    canaries = evaluate(platform.group, POPRF, key, canary_inputs(generation), info)
    outputs = np.concatenate([outputs, canaries[:, :_KEPT]])
    count, total = len(enrolled.keyed), len(outputs)
    order = order_by_tag(outputs[:, :TAG_LENGTH])
    lengths = np.zeros(total, np.int64)
    lengths[:count] = np.diff(enrolled.granting_ends, prepend=0)
    begins = np.zeros(total, np.int64)
    begins[:count] = enrolled.granting_ends - lengths[:count]
    ends = np.cumsum(lengths[order])
    # Row i's part moves from its old beginning to its new one.
    shift = np.repeat(begins[order] - (ends - lengths[order]), lengths[order])
    keyed = np.zeros((total, KEYED_DIGEST_BYTES), np.uint8)
    keyed[:count] = enrolled.keyed
    return GenerationTable(
        tags=np.ascontiguousarray(outputs[order, :TAG_LENGTH]),
        tokens=SecretArray(np.ascontiguousarray(outputs[order, TAG_LENGTH:])),
        identifiers=keyed[order],
        granting_ends=ends,
        granting=enrolled.granting[np.arange(len(shift)) + shift],
    )


def _outputs(
    platform: Platform,
    key: EvaluationKey,
    info: bytes,
    given: GateInput,
    enrolled: Enrolled,
    previous: StoredGeneration | None,
    progress: Progress | None,
) -> Bytes:
    """Tag and token of everything enrolled, in its order: (m, 48)."""
    outputs = np.empty((len(enrolled.keyed), _KEPT), np.uint8)
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
        output = evaluate(platform.group, POPRF, key, inputs[part], info)
        outputs[wanted[part]] = output[:, :_KEPT]
        if progress is not None:
            progress(len(output))
    return outputs


def generation_segments(
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
