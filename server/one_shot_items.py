"""The platform's items of a match by VOLE: the private inputs of what a generation pins.

Each row of a generation leads to its identifier through an assertion that is pinned for it, whose digest and
kind the registry has; nothing is looked up by the identifier. An identifier of which all that is pinned was
erased since is left out: nothing of it is there any more.

Not protected against: somebody who reads this process's memory, where digests of identifiers lie while a
match runs.
"""

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
    # In the order of the registry, so that each of its chunks is read once, from front to back.
    order = np.argsort(table.granting)
    pinned = table.granting[order]
    row_of = np.repeat(np.arange(len(lengths)), lengths)[order]
    if (pinned[1:] == pinned[:-1]).any():
        raise IntegrityError("a generation pins one assertion for two identifiers: publish again")
    stated = load_chunks(connection, pinned, ("identifier", "kind"))[1]
    if stated["identifier"].null_count:
        there = stated["identifier"].is_valid()
        kept = there.to_numpy(zero_copy_only=False)
        stated, pinned, row_of = stated.filter(there), pinned[kept], row_of[kept]
    if (keyed_bytes(stated["identifier"]) != table.identifiers[row_of]).any():
        raise IntegrityError("a generation pins an assertion of another identifier: publish again")
    # Several subjects may have one identifier; it is one item, of the last of them.
    last = np.empty(len(lengths), np.int64)
    last[row_of] = np.arange(len(row_of))
    of_item = np.flatnonzero(last[row_of] == np.arange(len(row_of)))
    kinds = stated["kind"].to_numpy()[of_item]
    return private_inputs(kinds, load_digests(connection, key, pinned[of_item])), row_of[of_item]
