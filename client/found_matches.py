"""What an exchange has found: which identifiers match, their tags, and what commits them.

Kept are one byte for each identifier of the list, 24 bytes for each match, and 16 more where it is to be
committed.

Not protected against: it is the result itself.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from purposematch.client.growing import Growing
from purposematch.client.saved_session import BatchResult
from purposematch.client.wire import MAX_COMMIT_ENTRIES
from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import order_by_tag
from purposematch.protocol.messages import MAC_LENGTH, CommitEntries

__all__ = ["FoundMatches"]


class FoundMatches:
    """The matches of one list, as they are found.

    Args:
        size: distinct identifiers in the list.

    Attributes:
        found: `(m,)` bool, which distinct identifiers of the list match.
        numbers: `(k,)` int64, the number of the identifier of each match, after `take_all`; in no order.
        tags: `(k, 16)` uint8, of the same matches.
    """

    def __init__(self, size: int) -> None:
        self._numbers = Growing(np.int64)
        self._tags = Growing(np.uint8, TAG_LENGTH)
        self._macs = Growing(np.uint8, MAC_LENGTH)
        self.found: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self.numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self.tags: Bytes = np.empty((0, TAG_LENGTH), np.uint8)

    def note(self, first: int, result: BatchResult) -> None:
        """Takes the matches of a batch whose first identifier has this number."""
        numbers = result.places.astype(np.int64) + first
        self.found[numbers] = True
        self._numbers.append(numbers)
        self._tags.append(result.tags)
        self._macs.append(result.macs)

    def take_all(self) -> None:
        """Sets `numbers` and `tags`; nothing may be noted afterwards."""
        self.numbers, self.tags = self._numbers.take(), self._tags.take()

    def commit_parts(self) -> Iterator[CommitEntries]:
        """The proof of all matches: ascending by tag, in parts of a message each, at least one part.

        The same bytes whenever it is asked for, after `take_all`.
        """
        tags, macs = self.tags, self._macs.take()
        order = order_by_tag(tags)
        for start in range(0, max(len(order), 1), MAX_COMMIT_ENTRIES):
            rows = order[start : start + MAX_COMMIT_ENTRIES]
            yield CommitEntries(tags[rows], macs[rows])
