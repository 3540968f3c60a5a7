"""What the registry held at a moment, now or before, and which of its assertions a selection means.

Memory: about 100 bytes for each assertion of the registry.

Not protected against: a database in which rows were altered or removed.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.server.registry.columns import assertion_columns
from purposematch.server.registry.corrections import correct_terms
from purposematch.server.registry.erasures import erased_among
from purposematch.server.registry.happened import (
    NEVER,
    Deliveries,
    Generations,
    load_deliveries,
    load_generations,
)
from purposematch.server.registry.history import HISTORY_COLUMNS
from purposematch.server.registry.terms_rows import load_terms
from purposematch.server.selection import SELECTION_COLUMNS, Selection

__all__ = ["Recorded", "load_recorded", "select_assertions", "select_erased"]


@dataclass(frozen=True, eq=False)
class Recorded:
    """What the registry held at a moment, n assertions.

    Attributes:
        until: the moment, microseconds since 1970.
        said: n rows, `id` and the columns for selection and history.
        terms: (n,) int64, `terms.id`, corrections included.
        received_at: (n,) int64.
        deliveries: all of them.
        generations: all of them.
    """

    until: int
    said: pa.Table = field(repr=False)
    terms: NDArray[np.int64]
    received_at: NDArray[np.int64]
    deliveries: Deliveries
    generations: Generations


def load_recorded(connection: Connection, until: int = NEVER) -> Recorded:
    """Everything that was received, published and corrected at or before `until`."""
    deliveries = load_deliveries(connection, until)
    names = dict.fromkeys([*HISTORY_COLUMNS, *SELECTION_COLUMNS, "terms"])
    said = assertion_columns(connection, list(names))
    if until != NEVER:
        # A clock may have been set back, so a later delivery may have an earlier time.
        everything = load_deliveries(connection)
        received = everything.received_at[everything.places(said["id"].to_numpy())]
        said = said.filter(pa.array(received <= until))
    ids = said["id"].to_numpy()
    return Recorded(
        until=until,
        said=said,
        terms=correct_terms(connection, ids, said["terms"].to_numpy(), until),
        received_at=deliveries.received_at[deliveries.places(ids)],
        deliveries=deliveries,
        generations=load_generations(connection, until),
    )


def select_assertions(connection: Connection, recorded: Recorded, selection: Selection) -> NDArray[np.bool_]:
    """Which assertions of `recorded` a selection means, (n,) bool, by the labels that counted then."""
    table, ids = load_terms(connection)
    terms = np.searchsorted(ids, recorded.terms)
    return selection.chosen(recorded.said, terms, table, recorded.received_at)


def select_erased(connection: Connection, recorded: Recorded, selection: Selection) -> NDArray[np.bool_]:
    """Which assertions of `recorded` were erased, by now, and may be among those that a selection means.

    What is left of them has no notice: with notices none is chosen, and any may have been meant. (n,) bool.
    """
    erased = erased_among(connection, recorded.said["id"].to_numpy())
    if not erased.any():
        return erased
    return erased & select_assertions(connection, recorded, replace(selection, notices=()))
