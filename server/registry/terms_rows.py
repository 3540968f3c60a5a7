"""Terms in the registry: the few rows that millions of others refer to.

Not protected against: a source whose every file brings other combinations of purposes makes this table grow
by `statements.MAX_TERMS` a file.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.assertions import Terms
from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.purpose import Origin, Status
from purposematch.server.registry.bulk import insert_columns
from purposematch.server.registry.schema import terms as terms_rows

__all__ = ["load_terms", "store_terms"]

_SEPARATOR = ";"


def load_terms(connection: Connection) -> tuple[list[Terms], NDArray[np.int64]]:
    """All terms there are, and their ids, ascending: (k,) int64.

    Raises:
        IntegrityError: an origin or a status is none.
    """
    table: list[Terms] = []
    ids: list[int] = []
    for id_, purposes, origin, status, source, issuer in connection.execute(
        select(terms_rows).order_by(terms_rows.c.id)
    ):
        keys = tuple(purposes.split(_SEPARATOR)) if purposes else ()
        try:
            table.append(Terms(keys, Origin(origin), Status(status), source, issuer))
        except ValueError:
            raise IntegrityError(f"table terms row {id_} has an origin or a status that is none") from None
        ids.append(id_)
    return table, np.array(ids, np.int64)


def store_terms(connection: Connection, wanted: Iterable[Terms]) -> tuple[list[Terms], NDArray[np.int64]]:
    """As `load_terms`, after adding those of `wanted` that were not there."""
    table, ids = load_terms(connection)
    known = set(table)
    new = [terms for terms in dict.fromkeys(wanted) if terms not in known]
    if not new:
        return table, ids
    first = int(ids[-1]) + 1 if len(ids) else 1
    new_ids = list(range(first, first + len(new)))
    columns: dict[str, Sequence[object]] = {
        "id": new_ids,
        "purposes": [_SEPARATOR.join(terms.purposes) for terms in new],
        "origin": [int(terms.origin) for terms in new],
        "status": [int(terms.status) for terms in new],
        "source": [terms.source for terms in new],
        "issuer": [terms.issuer for terms in new],
    }
    insert_columns(connection, terms_rows, columns)
    return table + new, np.concatenate([ids, np.array(new_ids, np.int64)])
