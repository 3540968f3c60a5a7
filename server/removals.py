"""Removals: served to advertisers, and followed until acknowledged; `departures` notes them.

Not protected against: what an advertiser copied elsewhere.
"""

from typing import Final

from sqlalchemy import Connection

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.errors import NotFoundError, RefusedError
from purposematch.server.peer import demand_advertiser
from purposematch.server.pki import PeerIdentity
from purposematch.server.platform import Platform
from purposematch.server.registry import ledger, removals, sessions

__all__ = ["RESULTS", "Removals", "pending_removals"]

RESULTS: Final = (Disclosure.BOTH, Disclosure.ADVERTISER)
"""The disclosures under which an advertiser keeps results."""

PART_TAGS: Final = 16_384
"""Tags in one message: 256 KiB."""


class Removals:
    """Serves the lists. Every method blocks and is called from worker threads.

    Args:
        platform: the open platform.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def find(self, peer: PeerIdentity, epoch: int) -> removals.StoredList:
        """The list of an epoch that is in force.

        Raises:
            NotAuthenticatedError, NotAuthorizedError: the peer is no advertiser of this platform.
            RefusedError: its disclosure has no results to take anything out of.
            NotFoundError: nothing was published in this epoch for the purpose of its agreement.
        """
        with self._platform.registry.reading() as connection:
            self._admit(connection, peer, epoch)
            stored = removals.latest_list(connection, epoch)
        if stored is None:
            raise NotFoundError("there is no list of removals of this epoch")
        return stored

    def part(self, of: removals.StoredList, last: bytes) -> bytes:
        """The next tags of a list, at most `PART_TAGS`; empty behind the end.

        Args:
            of: from `find`.
            last: the last tag of the part before; empty for the first part.
        """
        with self._platform.registry.reading() as connection:
            return removals.tags_after(connection, of, last, PART_TAGS)

    def acknowledge(self, peer: PeerIdentity, epoch: int, sha256: bytes) -> None:
        """Records that a list was applied; again is no error.

        Raises:
            NotAuthenticatedError, NotAuthorizedError, RefusedError: as of `find`.
            NotFoundError: no list of this epoch had these tags.
        """
        platform = self._platform
        with platform.registry.writing() as connection:
            self._admit(connection, peer, epoch)
            applied = removals.list_acknowledged_by(connection, epoch, sha256)
            if applied is None:
                raise NotFoundError("there is no such list of removals")
            if removals.acknowledge(connection, peer.name, applied, sha256, platform.clock()):
                ledger.record_acknowledgement(
                    connection, peer.name, applied.epoch, applied.number, platform.random_bytes
                )

    def _admit(self, connection: Connection, peer: PeerIdentity, epoch: int) -> None:
        found = sessions.find_advertiser(connection, peer.name)
        owner = demand_advertiser(peer, self._platform.config.platform_id, found)
        agreement = Agreement.decode(owner.agreement)
        if agreement.disclosure not in RESULTS:
            raise RefusedError("the agreement's disclosure leaves no results to remove anybody from")
        if removals.scope_of_epoch(connection, epoch) != (agreement.purpose, agreement.profile):
            raise NotFoundError("there is no list of removals of this epoch")


def pending_removals(platform: Platform) -> list[removals.OpenRemovals]:
    """Which advertisers have not acknowledged removals that may concern their results.

    Not every one of them need hold the person: the platform does not know an advertiser's results under the
    disclosure `advertiser`.
    """
    with platform.registry.reading() as connection:
        found = removals.open_removals(connection)
    return [each for each in found if Agreement.decode(each.agreement).disclosure in RESULTS]
