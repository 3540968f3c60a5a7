"""Which assertions name a subject, an identifier, or another spelling of one.

A key is the first 8 bytes of a keyed digest, or of the SHA-256 of a subject, as a signed number. Among 10^9
names two share a key with a probability of a few percent, and subjects can be chosen that do: then more
assertions are found than were asked for, never fewer.

Not protected against: an assertion whose mentions were removed from the database.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, select

from purposematch.protocol.ascending import ascending
from purposematch.protocol.identifiers import hash_canonical
from purposematch.server.registry.bulk import in_portions, insert_columns
from purposematch.server.registry.rows import Rows, keyed_bytes
from purposematch.server.registry.schema import mention

__all__ = ["erase_mentions", "identifier_keys", "mentioning", "mentions_of", "store_mentions", "subject_keys"]

_ROWS_AT_A_TIME = 131_072
"""Rows whose Python objects exist at one moment."""


def identifier_keys(keyed: pa.FixedSizeBinaryArray) -> NDArray[np.int64]:
    """The keys of keyed digests, (n,) int64; null has none."""
    return _keys(keyed_bytes(keyed.drop_null()))


def subject_keys(subjects: pa.StringArray) -> NDArray[np.int64]:
    """The keys of subjects, (n,) int64; null has none."""
    return _keys(hash_canonical(subjects.drop_null()))


def mentions_of(first: int, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the index for assertions: keys and assertions, (m,) int64 each, in the order of the index.

    Args:
        first: the id of the first assertion.
        rows: the assertions.
    """
    ids = np.arange(first, first + len(rows))
    keys = np.concatenate(
        [subject_keys(rows.subject), identifier_keys(rows.identifier), identifier_keys(rows.others)]
    )
    assertions = np.concatenate([ids[_given(rows.subject)], ids[_given(rows.identifier)], ids[rows.spelled]])
    # In the order of the index, which is then written page after page.
    order = np.lexsort((assertions, keys))
    keys, assertions = keys[order], assertions[order]
    # By chance an assertion has two names with one key.
    new = np.ones(len(keys), np.bool_)
    new[1:] = (keys[1:] != keys[:-1]) | (assertions[1:] != assertions[:-1])
    return keys[new], assertions[new]


def store_mentions(connection: Connection, first: int, rows: Rows) -> None:
    """Indexes assertions.

    Args:
        connection: a transaction that writes.
        first: the id of the first of them.
        rows: the assertions.
    """
    keys, assertions = mentions_of(first, rows)
    for start in range(0, len(keys), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        columns = {"key": keys[part].tolist(), "assertion": assertions[part].tolist()}
        insert_columns(connection, mention, columns)


def mentioning(connection: Connection, keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The assertions that mention any of `keys`: ids, ascending and distinct, (n,) int64."""
    found: list[int] = []
    for portion in in_portions(ascending(keys).tolist()):
        found.extend(
            connection.execute(select(mention.c.assertion).where(mention.c.key.in_(portion))).scalars()
        )
    return ascending(np.array(found, np.int64))


def erase_mentions(connection: Connection, ids: NDArray[np.int64], keys: NDArray[np.int64]) -> None:
    """Takes assertions out of the index.

    Args:
        connection: a transaction that writes.
        ids: (n,) int64 assertions.
        keys: (m,) int64, all keys under which any of them is there.
    """
    for some in in_portions(np.unique(keys).tolist()):
        for others in in_portions(ids.tolist()):
            here = mention.c.key.in_(some) & mention.c.assertion.in_(others)
            connection.execute(delete(mention).where(here))


def _keys(content: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.ascontiguousarray(content[:, :8]).view(">i8").reshape(-1).astype(np.int64)


def _given(column: pa.Array) -> NDArray[np.bool_]:
    given: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return given
