"""The platform's items of a match by VOLE: the private inputs of what a generation pins.

Each row of a generation leads to its identifier through an assertion that is pinned for it, whose digest and
kind the registry has; nothing is looked up by the identifier. An identifier of which all that is pinned was
erased since is left out: nothing of it is there any more.

Not protected against: somebody who reads this process's memory, where digests of identifiers lie while a
match runs.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.group import Bytes
from purposematch.protocol.identifiers import private_inputs
from purposematch.server.generations import GenerationTable
from purposematch.server.keys import SealingKey
from purposematch.server.registry import load_digests
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.rows import keyed_bytes

__all__ = ["load_items"]

_WORD_LIMIT: Final = 1 << 31
"""From here on an assertion's id does not fit the upper half of a word; rows are at most 2^32."""


def load_items(
    connection: Connection, key: SealingKey, table: GenerationTable
) -> tuple[Bytes, NDArray[np.int64]]:
    """The private inputs of a generation, without canaries.

    Args:
        connection: a snapshot.
        key: the sealing key of the registry.
        table: of the generation.

    Returns:
        (n, 33) uint8, and (n,) int64, the row of the table that each is, in no order.

    Raises:
        IntegrityError: an assertion is missing, damaged, or of another identifier than its row.
    """
    lengths = np.diff(table.granting_ends, prepend=0)
    pinned, row_of = _in_order(table.granting, np.repeat(np.arange(len(lengths)), lengths))
    if (pinned[1:] == pinned[:-1]).any():
        raise IntegrityError("a generation pins one assertion for two identifiers: publish again")
    stated = load_chunks(connection, pinned, ("identifier", "kind"))[1]
    if stated["identifier"].null_count:
        there = stated["identifier"].is_valid()
        kept = there.to_numpy(zero_copy_only=False)
        stated, pinned, row_of = stated.filter(there), pinned[kept], row_of[kept]
    if not np.array_equal(keyed_bytes(stated["identifier"]), table.identifiers.take(row_of, axis=0)):
        raise IntegrityError("a generation pins an assertion of another identifier: publish again")
    kinds = stated["kind"].to_numpy()
    if len(pinned) and lengths.max() > 1:
        # Several subjects have one identifier; it is one item, of the last of them.
        last = np.empty(len(lengths), np.int64)
        last[row_of] = np.arange(len(row_of))
        of_item = np.flatnonzero(last[row_of] == np.arange(len(row_of)))
        kinds, pinned, row_of = kinds[of_item], pinned[of_item], row_of[of_item]
    return private_inputs(kinds, load_digests(connection, key, pinned)), row_of


def _in_order(
    granting: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Assertions and rows in the order of the registry, so that each chunk is read once, front to back."""
    if len(granting) and granting.max() >= _WORD_LIMIT:
        order = np.argsort(granting)
        return granting[order], rows[order]
    # An assertion and its row in one word are sorted much faster than an order is found.
    words = np.sort(granting << 32 | rows)
    return words >> 32, words & 0xFFFF_FFFF
