"""The receiver of a match by the VOLE engine: it learns which of its items the sender has.

Semi-honest, experimental, no published proof.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.group import Bytes, Group, RandomBytes
from purposematch.protocol.vole.parameters import Parameters, Role
from purposematch.protocol.vole.party import Party

__all__ = ["Matches", "Receiver"]


@dataclass(frozen=True, slots=True)
class Matches:
    """What the receiver learns; the rows ascend.

    Attributes:
        rows: (k,) int64: the row numbers of its items that are in the sender's list; of an item that the
            receiver has twice, both rows.
        places: (k,) int64: where each is in the sender's sorted list of outputs, which says nothing of the
            sender's own order. To be returned to the sender where it learns the matches as well.
        further: (k, 16): for each 128 bits more of its output, which only somebody can know who had the item
            in this session. To be returned with the place.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    further: Bytes


class Receiver(Party):
    """The side that learns the intersection; see `Party` for how it is driven.

    Args:
        parameters: of the declared sizes.
        items: (n, 33) uint8, n at most the declared size: kind byte and digest each. They are not copied and
            must not be changed before the match is done. Duplicates are allowed. Fewer items than declared
            hide their number.
        binding: see `Party`.
        random: `secrets.token_bytes` outside tests.
        group: for the base oblivious transfers.
    """

    role = Role.RECEIVER

    def __init__(
        self, parameters: Parameters, items: Bytes, binding: bytes, random: RandomBytes, group: Group
    ) -> None:
        """Draws the receiver's nonce, so that it is independent of the items.

        Raises:
            LimitError: there are more items than declared.
            ValueError: the items are not (n, 33) bytes.
        """
        super().__init__(parameters, binding)
        self._items = items
        self._random = random
        self._group = group

    def prepare(self) -> None:
        """See `Party.prepare`."""
        raise NotImplementedError

    def matches(self) -> Matches:
        """The result, once the transcripts have been compared.

        It can be asked for as soon as the sender's last chunk was taken, before the confirmation is sent.

        Raises:
            StateError: the match is not so far, or failed.
        """
        raise NotImplementedError

    def _write(self, name: str) -> Iterator[bytes]:
        raise NotImplementedError

    def _read(self, name: str, index: int, content: bytes) -> None:
        raise NotImplementedError
