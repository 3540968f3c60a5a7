"""Builds the lists of points of a generation, for the set exchange: those that an agreement in force needs.

Points that were evaluated in this epoch already are taken from the previous generation. Every advertiser
gets the same list. For `count` it holds at most so many identifiers of a subject: those whose keyed digests
come first, so that one subject changes no number of matches by more; an identifier that several subjects have
is in it if it is among the first of one of them.

Not protected against: a previous generation that nobody checked; the caller does (`GenerationStore.check`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.ciphersuite import ELEMENT_LENGTH
from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.identifiers import private_inputs
from purposematch.protocol.index import find, order_by_tag
from purposematch.protocol.point_segments import (
    MAX_POINT_LISTS,
    PointSegment,
    cut_points,
    identifiers_in,
    list_name,
)
from purposematch.protocol.scope import Scope
from purposematch.protocol.set_exchange.points import (
    MASK_INPUT_LENGTH,
    EpochSecret,
    canary_mask_inputs,
    list_points,
    list_secret,
    order_of_encodings,
    planted_points,
    planted_scalars,
)
from purposematch.server.evaluation import EVALUATED_AT_A_TIME, Enrolled, Progress
from purposematch.server.generations import GenerationTable, StoredGeneration
from purposematch.server.platform import Platform
from purposematch.server.registry import GateInput, load_digests
from purposematch.server.registry.agreements import agreements_in_force

__all__ = ["PointLists", "first_identifiers", "list_of", "mask_inputs", "point_lists", "wanted_lists"]


@dataclass(frozen=True, slots=True)
class PointLists:
    """The lists of a generation, by name.

    Attributes:
        segments: what its manifest says of each.
        rows: as in `GenerationTable.point_rows`.
        pieces: the points of all segments, by the segment's name.
    """

    segments: Mapping[str, tuple[PointSegment, ...]]
    rows: Mapping[str, NDArray[np.int64]]
    pieces: Mapping[str, Bytes]


def list_of(agreement: Agreement) -> str | None:
    """The name of the list that sessions under an agreement are matched against; None if they need none."""
    if not agreement.disclosure.noisy:
        return None
    return list_name(agreement.disclosure, agreement.identifiers_per_subject)


def wanted_lists(connection: Connection, now: int) -> list[str]:
    """The names of the lists that agreements in force need, ascending.

    Raises:
        ConfigurationError: they need more than a generation can have.
    """
    names = sorted({name for each in agreements_in_force(connection, now) if (name := list_of(each))})
    if len(names) > MAX_POINT_LISTS:
        raise ConfigurationError(
            f"the agreements in force need {len(names)} lists of points ({', '.join(names)}), and a "
            f"generation has at most {MAX_POINT_LISTS}: let them agree on fewer numbers of identifiers for "
            "each subject"
        )
    return names


def point_lists(
    platform: Platform,
    scope: Scope,
    generation: bytes,
    given: GateInput,
    enrolled: Enrolled,
    table: GenerationTable,
    previous: StoredGeneration | None,
    names: Sequence[str],
    progress: Progress | None,
) -> PointLists:
    """The lists of these names.

    Args:
        platform: the open platform.
        scope: what is published for.
        generation: the id of the generation, which the canaries come from.
        given: what the gate decided on.
        enrolled: what it permitted.
        table: the generation's table.
        previous: a checked generation of the same scope and key, or None.
        names: of the lists.
        progress: told what was evaluated.

    Raises:
        ConfigurationError, IntegrityError: the secret of the epoch cannot be used, or stored digests are
            damaged.
    """
    if not names:
        return PointLists({}, {}, {})
    segments: dict[str, tuple[PointSegment, ...]] = {}
    rows: dict[str, NDArray[np.int64]] = {}
    pieces: dict[str, Bytes] = {}
    if not platform.data_dir.epoch_secret(scope.epoch).exists():
        secret = EpochSecret(platform.random_bytes(EpochSecret.LENGTH))
        platform.key_store.store_epoch_secret(scope.epoch, secret)
        previous = None  # Points that were made under a secret that is lost are of no use.
    by_identifier = order_by_tag(table.identifiers)
    ordered = np.ascontiguousarray(table.identifiers[by_identifier])
    for name in names:
        most = identifiers_in(name)
        chosen = np.arange(len(enrolled.keyed)) if most is None else first_identifiers(enrolled, most)
        points = _points(platform, scope, generation, given, enrolled, chosen, previous, name, progress)
        own = by_identifier[find(ordered, enrolled.keyed[chosen])]
        order = order_of_encodings(points)
        points = points[order]
        rows[name] = np.append(own, -1 - np.arange(len(points) - len(own)))[order]
        parts = cut_points(points, platform.config.limits.max_batch_elements)
        segments[name] = tuple(map(PointSegment.of, parts))
        pieces |= {segment.name: part for segment, part in zip(segments[name], parts, strict=True)}
    return PointLists(segments, rows, pieces)


def mask_inputs(stored: StoredGeneration, name: str, first: int, stop: int) -> Bytes:
    """What stands in their masks for the identifiers at some places of a list for `platform`, (n, 16)."""
    rows = stored.table.point_rows[name][first:stop]
    own = rows >= 0
    inputs = np.empty((len(rows), MASK_INPUT_LENGTH), np.uint8)
    inputs[own] = np.asarray(stored.table.identifiers)[rows[own]]
    inputs[~own] = canary_mask_inputs(stored.manifest.generation)[-1 - rows[~own]]
    return inputs


def first_identifiers(enrolled: Enrolled, most: int) -> NDArray[np.int64]:
    """Which identifiers are among the first `most` of at least one of their subjects: (k,) int64, ascending.

    They are in the order of their keyed digests, which looks random to whoever does not have the key.
    """
    lengths = np.diff(enrolled.granting_ends, prepend=0)
    identifier = np.repeat(np.arange(len(lengths)), lengths)
    by_subject = np.argsort(enrolled.subjects, kind="stable")
    subject = enrolled.subjects[by_subject]
    first = np.ones(len(subject), np.bool_)
    first[1:] = subject[1:] != subject[:-1]
    begins = np.flatnonzero(first)
    rank = np.arange(len(subject)) - np.repeat(begins, np.diff(begins, append=len(subject)))
    return np.unique(identifier[by_subject[rank < most]])


def _points(
    platform: Platform,
    scope: Scope,
    generation: bytes,
    given: GateInput,
    enrolled: Enrolled,
    chosen: NDArray[np.int64],
    previous: StoredGeneration | None,
    name: str,
    progress: Progress | None,
) -> Bytes:
    """The points of a list: of `chosen` in their order, of the canaries, and what is planted: (n, 32)."""
    group, epoch = platform.group, platform.key_store.load_epoch_secret(scope.epoch)
    secret, info = list_secret(epoch, name), scope.info()
    planted = np.empty((0, ELEMENT_LENGTH), np.uint8)
    if identifiers_in(name) is not None:
        planted = group.encode(planted_points(group, planted_scalars(group, epoch, name)))
    epoch.wipe()

    def evaluated(inputs: Bytes, mask_inputs: Bytes) -> Bytes:
        return group.encode(list_points(group, name, info, secret, inputs, mask_inputs))

    points = np.empty((len(chosen), ELEMENT_LENGTH), np.uint8)
    new = np.ones(len(chosen), np.bool_)
    if previous is not None and name in previous.manifest.point_lists:
        rows = previous.table.point_rows[name]
        known = np.flatnonzero(rows >= 0)
        keyed = np.ascontiguousarray(previous.table.identifiers[rows[known]])
        order = order_by_tag(keyed)
        found = find(np.ascontiguousarray(keyed[order]), np.ascontiguousarray(enrolled.keyed[chosen]))
        new = found < 0
        points[~new] = platform.store.points(previous.manifest, name)[known[order[found[~new]]]]
    wanted = np.flatnonzero(new)
    inputs_of = enrolled.inputs[chosen[wanted]]
    with platform.registry.reading() as connection:
        digests = load_digests(connection, platform.registry.sealing_key, given.ids[inputs_of])
    inputs, keyed = private_inputs(given.kinds[inputs_of], digests), enrolled.keyed[chosen[wanted]]
    for start in range(0, len(wanted), EVALUATED_AT_A_TIME):
        part = slice(start, start + EVALUATED_AT_A_TIME)
        points[wanted[part]] = evaluated(inputs[part], keyed[part])
        if progress is not None:
            progress(len(wanted[part]))
    canaries = evaluated(canary_inputs(generation), canary_mask_inputs(generation))
    return np.concatenate([points, canaries, planted])
