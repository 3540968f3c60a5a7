"""Removals: served to advertisers, and followed until acknowledged; `departures` notes them.

Not protected against: what an advertiser copied elsewhere.
"""

from typing import Final

from sqlalchemy import Connection

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.errors import NotFoundError, RefusedError
from purposematch.server.peer import demand_admitted
from purposematch.server.pki import PeerIdentity, Role
from purposematch.server.platform import Platform
from purposematch.server.registry import agreements, ledger, removals

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
            NotAuthenticatedError, NotAuthorizedError: the peer is not admitted as an advertiser.
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
        demand_admitted(self._platform, connection, peer, Role.ADVERTISER)
        # Results outlive the agreement that they were made under, so every one that ever was counts.
        held = [stored.agreement for stored in agreements.agreements_of(connection, peer.name)]
        held = [agreement for agreement in held if agreement.disclosure in RESULTS]
        if not held:
            raise RefusedError("the agreement's disclosure leaves no results to remove anybody from")
        scope = removals.scope_of_epoch(connection, epoch)
        if scope not in [(agreement.purpose, agreement.profile) for agreement in held]:
            raise NotFoundError("there is no list of removals of this epoch")


def pending_removals(platform: Platform) -> list[removals.OpenRemovals]:
    """Which advertisers have not acknowledged removals that may concern their results.

    Not every one of them need hold the person: the platform does not know an advertiser's results under the
    disclosure `advertiser`.
    """
    with platform.registry.reading() as connection:
        every = [stored.agreement for stored in agreements.all_agreements(connection)]
        digests = [agreement.digest for agreement in every if agreement.disclosure in RESULTS]
        return removals.open_removals(connection, digests)
