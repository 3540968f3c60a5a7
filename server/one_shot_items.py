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
from purposematch.server.generations import GenerationTable
from purposematch.server.keys import SealingKey
from purposematch.server.registry.chunks import chunk_parts
from purposematch.server.registry.digests import digest_parts
from purposematch.server.registry.rows import keyed_bytes

__all__ = ["load_items"]

_SPARSE: Final = 4
"""Ids for each assertion from which on a place for each id would be too many."""


def load_items(
    connection: Connection, key: SealingKey, table: GenerationTable, canaries: Bytes
) -> tuple[Bytes, NDArray[np.int64]]:
    """The private inputs of a generation, and behind them the canaries.

    Args:
        connection: a snapshot.
        key: the sealing key of the registry.
        table: of the generation.
        canaries: (c, 33) uint8, its canaries.

    Returns:
        (n + c, 33) uint8, and (n,) int64, the row of the table that each of the first n is, in no order.

    Raises:
        IntegrityError: an assertion is missing, damaged, or of another identifier than its row.
    """
    lengths = np.diff(table.granting_ends, prepend=0)
    pinned, row_of = _in_order(table.granting, np.repeat(np.arange(len(lengths)), lengths))
    kinds = np.empty(len(pinned), np.uint8)
    there = np.ones(len(pinned), np.bool_)
    for part, stated in chunk_parts(connection, pinned, ("identifier", "kind")):
        kinds[part] = stated["kind"].to_numpy()
        expected = table.identifiers.take(row_of[part], axis=0)
        if stated["identifier"].null_count:
            valid = stated["identifier"].is_valid()
            kept = there[part] = valid.to_numpy(zero_copy_only=False)
            stated, expected = stated.filter(valid), expected[kept]
        if not np.array_equal(keyed_bytes(stated["identifier"]), expected):
            raise IntegrityError("a generation pins an assertion of another identifier: publish again")
    if not there.all():
        kinds, pinned, row_of = kinds[there], pinned[there], row_of[there]
    if len(pinned) and lengths.max() > 1:
        # Several subjects have one identifier; it is one item, of the last of them.
        last = np.empty(len(lengths), np.int64)
        last[row_of] = np.arange(len(row_of))
        of_item = np.flatnonzero(last[row_of] == np.arange(len(row_of)))
        kinds, pinned, row_of = kinds[of_item], pinned[of_item], row_of[of_item]
    items = np.empty((len(pinned) + len(canaries), canaries.shape[1]), np.uint8)
    # Chunk by chunk into the array that the match takes: fresh memory is slow, and this is most of it.
    for part, digests in digest_parts(connection, key, pinned):
        items[part, 1:] = digests
    items[: len(pinned), 0] = kinds
    items[len(pinned) :] = canaries
    return items, row_of


def _in_order(
    granting: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Assertions and rows in the order of the registry, so that each chunk is read once, front to back.

    Raises:
        IntegrityError: an assertion is there twice.
    """
    first, end = (int(granting.min()), int(granting.max()) + 1) if len(granting) else (0, 0)
    if end - first > _SPARSE * len(granting):
        order = np.argsort(granting)
        granting, rows = granting[order], rows[order]
        twice = bool((granting[1:] == granting[:-1]).any())
    else:
        # To look for each assertion where it belongs is much faster than to sort.
        row_at = np.full(end - first, -1, np.int32)
        row_at[granting - first] = rows
        found = np.flatnonzero(row_at >= 0)
        twice = len(found) != len(granting)
        granting, rows = found + first, row_at[found].astype(np.int64)
    if twice:
        raise IntegrityError("a generation pins one assertion for two identifiers: publish again")
    return granting, rows
