"""The sender of a match by the VOLE engine: it learns the receiver's declared size, and what is returned.

Semi-honest, experimental, no published proof.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.group import Bytes, Group, RandomBytes
from purposematch.protocol.vole.parameters import Parameters, Role
from purposematch.protocol.vole.party import Party

__all__ = ["Sender"]


class Sender(Party):
    """The side that lets the other one learn the intersection; see `Party` for how it is driven.

    Args:
        parameters: of the declared sizes.
        items: (n, 33) uint8, n at most the declared size: kind byte and digest each. They are not copied and
            must not be changed before the match is done. Duplicates are allowed: random outputs stand for
            all but one of them, and for items that are missing to the declared size.
        binding: see `Party`.
        random: `secrets.token_bytes` outside tests.
        group: for the base oblivious transfers.
        further: keep what `returned` needs, 24 bytes an item.
    """

    role = Role.SENDER

    def __init__(
        self,
        parameters: Parameters,
        items: Bytes,
        binding: bytes,
        random: RandomBytes,
        group: Group,
        *,
        further: bool,
    ) -> None:
        """Draws nothing yet.

        Raises:
            LimitError: there are more items than declared.
            ValueError: the items are not (n, 33) bytes.
        """
        super().__init__(parameters, binding)
        self._items = items
        self._random = random
        self._group = group
        self._further = further

    def prepare(self) -> None:
        """See `Party.prepare`."""
        raise NotImplementedError

    def returned(self, places: NDArray[np.int64], further: Bytes) -> NDArray[np.int64]:
        """The rows of the sender's items that the receiver proves to have, in the order of the places.

        Args:
            places: (k,) int64, untrusted, see `Matches`; each at most once.
            further: (k, 16) uint8, untrusted.

        Raises:
            StateError: the match is not done, or was begun without `further`.
            VerificationError: a place does not exist or occurs twice, or its further bits are not those of
                the sender's item there.
        """
        raise NotImplementedError

    def _write(self, name: str) -> Iterator[bytes]:
        raise NotImplementedError

    def _read(self, name: str, index: int, content: bytes) -> None:
        raise NotImplementedError
