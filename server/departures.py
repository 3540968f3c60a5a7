"""Departures: who was in the previous generation and is not in the next one, noted when that is published.

A list is what left the index of one epoch, by tag, the same for every advertiser. When an epoch ends, whom
the first generation of the next one leaves out is put on the last list of the old: later nobody can tell
which of its tags somebody had, because its key is destroyed.

Not protected against: a previous generation whose files are damaged. Whom the next one leaves out is then on
no list, and the log says so.
"""

import logging
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from purposematch.protocol.errors import IntegrityError, VerificationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import find, order_by_tag
from purposematch.protocol.removals import RemovalList
from purposematch.protocol.scope import Scope
from purposematch.server.generations import StoredGeneration
from purposematch.server.platform import Platform
from purposematch.server.registry import removals
from purposematch.server.registry.generations import PublishedGeneration

__all__ = ["Departures", "departures"]

_log = logging.getLogger("purposematch.server")


@dataclass(frozen=True, slots=True)
class Departures:
    """Who was in the previous generation and is not in the next one.

    Attributes:
        scope: of the previous generation, or of the next one if there is none.
        tags: (n, 16), ascending, without canaries.
    """

    scope: Scope
    tags: Bytes

    def record(self, connection: Connection, platform: Platform, published: StoredGeneration) -> None:
        """Brings the lists up to a generation, in the transaction that puts it into service.

        Args:
            connection: a transaction that writes; the generation's row is there.
            platform: the open platform.
            published: the generation.
        """
        manifest = published.manifest
        number = removals.generation_number(connection, manifest.name)
        tags, scope = self.tags, manifest.scope
        if self.scope.epoch != scope.epoch:
            old = removals.listed_tags(connection, self.scope.epoch, number)
            removals.note_changes(connection, self.scope.epoch, number, tags, tags[:0])
            closing = RemovalList.of(self.scope, manifest.generation, _sorted(old, tags), final=True)
            _store(connection, platform, closing, number)
            tags = tags[:0]
        before = removals.listed_tags(connection, scope.epoch, number)
        back = find(np.ascontiguousarray(published.table.tags), before) >= 0
        removals.note_changes(connection, scope.epoch, number, tags, before[back])
        now = RemovalList.of(scope, manifest.generation, _sorted(before[~back], tags), final=False)
        _store(connection, platform, now, number)


def departures(
    platform: Platform,
    latest: PublishedGeneration | None,
    previous: StoredGeneration | None,
    scope: Scope,
    keyed: Bytes,
) -> Departures:
    """Compares the generation that is in service with who is enrolled now.

    Args:
        platform: the open platform.
        latest: what the registry knows of it, or None.
        previous: the same, checked, if it is of the scope that is published for.
        scope: that scope.
        keyed: (m, 16) ascending keyed digests of who is enrolled.
    """
    nobody = np.empty((0, keyed.shape[1]), np.uint8)
    if latest is None:
        return Departures(scope, nobody)
    of = Scope(scope.platform_id, latest.purpose, latest.profile, latest.epoch)
    if (of.purpose, of.profile) != (scope.purpose, scope.profile):
        # Nobody left: what is published now is for another use.
        return Departures(of, nobody)
    try:
        if previous is None:
            previous = platform.store.load(latest.name)
            platform.store.check(previous)
    except (IntegrityError, VerificationError):
        _log.warning("the previous generation is damaged: whom this one leaves out is on no list of removals")
        return Departures(of, nobody)
    table = previous.table
    # A canary has no keyed digest.
    left = table.identifiers.any(axis=1) & (find(keyed, np.ascontiguousarray(table.identifiers)) < 0)
    return Departures(of, np.ascontiguousarray(table.tags[left]))


def _sorted(one: Bytes, other: Bytes) -> Bytes:
    tags = np.concatenate([one, other])
    return tags[order_by_tag(tags)]


def _store(connection: Connection, platform: Platform, listed: RemovalList, number: int) -> None:
    stored = removals.StoredList(listed.scope.epoch, number, listed.sign(platform.identity))
    removals.add_list(connection, stored, listed.sha256)
