"""Labels: what the sender says about each item, to a receiver that has the item as well.

Statement: behind its outputs, in their order, the sender sends for each of them label XOR pad, and random
bytes for outputs that no item has. With x the further output of the item, block i of the pad is MMO_i(x) =
pi_i(x) + x under the session's key `label i`, and the pad is as many first bytes of that as a label has.
Whoever has the item in its own list knows the further output, and so the label; to others it looks like
random numbers.

Source: this is how labelled private set intersection is made from one that gives further output (ePrint
2018/238 for the notion; ePrint 2019/074 for MMO, as everywhere in this engine).

Semi-honest, experimental, no published proof. A label is as well hidden as an output: a peer that deviates
from the protocol reads labels of all items that it can think of, see `sender`.
"""

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.group import Bytes, RandomBytes
from purposematch.protocol.vole.aes import Words, mmo
from purposematch.protocol.vole.parameters import BLOCK
from purposematch.protocol.vole.records import NOBODY
from purposematch.protocol.vole.session import Session

__all__ = ["Opened", "hidden", "pads"]


def pads(session: Session, further: Words, length: int) -> Bytes:
    """The pads of items, (n, length), from their further outputs, (n, 2) uint64."""
    keys = session.label_keys[: -(-length // BLOCK)]
    blocks = np.concatenate([mmo(key, further) for key in keys], axis=1)
    return blocks.view(np.uint8)[:, :length]


def hidden(
    session: Session, labels: Bytes, further: Words, numbers: NDArray[np.uint32], random: RandomBytes
) -> bytes:
    """What is sent for some outputs.

    Args:
        session: for the keys.
        labels: (n, w), of all items.
        further: (n, 2) uint64, of all items.
        numbers: (k,), the item of each output, or `NOBODY`.
        random: see `RandomBytes`.
    """
    width = labels.shape[1]
    others = np.flatnonzero(numbers == NOBODY)
    if not len(others):
        own_labels, own_further = labels.take(numbers, axis=0), further.take(numbers, axis=0)
        return (own_labels ^ pads(session, own_further, width)).tobytes()
    content = np.empty((len(numbers), width), np.uint8)
    content[others] = np.frombuffer(random(len(others) * width), np.uint8).reshape(-1, width)
    own = np.flatnonzero(numbers != NOBODY)
    items = numbers[own]
    content[own] = labels[items] ^ pads(session, further[items], width)
    return content.tobytes()


class Opened:
    """The labels of what a receiver has found, as their chunks come.

    Args:
        session: for the keys.
        places: (k,), of each in the sender's list, ascending.
        further: (k, 2) uint64, of the same.
        width: bytes of a label.
    """

    def __init__(self, session: Session, places: NDArray[np.int64], further: Words, width: int) -> None:
        """Knows no label yet."""
        self._places = places
        self._labels = pads(session, further, width)

    def take(self, first: int, content: bytes) -> None:
        """Takes the chunk whose first label is at the place `first`."""
        width = self._labels.shape[1]
        rows = np.frombuffer(content, np.uint8).reshape(-1, width)
        part = slice(*np.searchsorted(self._places, [first, first + len(rows)]))
        self._labels[part] ^= rows.take(self._places[part] - first, axis=0)

    def labels(self) -> Bytes:
        """The labels, (k, w), in the order of `places`; all chunks must have been taken."""
        return self._labels
