"""Labels: what the sender says about each item, to a receiver that has the item as well.

Statement: behind its outputs, in their order, the sender sends for each of them label XOR pad, where the pad
is the first bytes of HMAC-SHA-256(further output of the item, domain), and random bytes for outputs that no
item has. Whoever has the item in its own list knows the further output, and so the label; to others it looks
like random numbers.

Source: this is how labelled private set intersection is made from one that gives further output (ePrint
2018/238 for the notion; RFC 2104 for the pad).

Semi-honest, experimental, no published proof. A label is as well hidden as an output: a peer that deviates
from the protocol reads labels of all items that it can think of, see `sender`.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.batch_hash import hmac_sha256_keys
from purposematch.protocol.ciphersuite import VOLE_DOMAIN
from purposematch.protocol.group import Bytes, RandomBytes
from purposematch.protocol.vole.records import NOBODY

__all__ = ["Opened", "hidden", "pads"]

_PAD: Final = VOLE_DOMAIN + b" label"


def pads(further: Bytes, length: int) -> Bytes:
    """The pads of items, (n, length), from their further outputs, (n, 16)."""
    return np.ascontiguousarray(hmac_sha256_keys(further, _PAD)[:, :length])


def hidden(labels: Bytes, further: Bytes, numbers: NDArray[np.uint32], random: RandomBytes) -> bytes:
    """What is sent for some outputs.

    Args:
        labels: (n, w), of all items.
        further: (n, 16), of all items.
        numbers: (k,), the item of each output, or `NOBODY`.
        random: see `RandomBytes`.
    """
    width = labels.shape[1]
    content = np.empty((len(numbers), width), np.uint8)
    owned = numbers != NOBODY
    own = numbers[owned]
    content[owned] = labels[own] ^ pads(further[own], width)
    others = len(numbers) - len(own)
    content[~owned] = np.frombuffer(random(others * width), np.uint8).reshape(others, width)
    return content.tobytes()


class Opened:
    """The labels of what a receiver has found, as their chunks come.

    Args:
        places: (k,), of each in the sender's list.
        further: (k, 16), of the same.
        width: bytes of a label.
    """

    def __init__(self, places: NDArray[np.int64], further: Bytes, width: int) -> None:
        """Knows no label yet."""
        # A place and where it stands in one word, which is sorted much faster than both.
        words = np.sort(places << 32 | np.arange(len(places)))
        self._places, self._order = words >> 32, words & 0xFFFF_FFFF
        self._labels = pads(further, width)

    def take(self, first: int, content: bytes) -> None:
        """Takes the chunk whose first label is at the place `first`."""
        width = self._labels.shape[1]
        rows = np.frombuffer(content, np.uint8).reshape(-1, width)
        part = slice(*np.searchsorted(self._places, [first, first + len(rows)]))
        self._labels[self._order[part]] ^= rows[self._places[part] - first]

    def labels(self) -> Bytes:
        """The labels, (k, w), in the order of `places`; all chunks must have been taken."""
        return self._labels
