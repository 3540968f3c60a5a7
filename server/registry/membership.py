"""Who is in an audience: whom sessions put into it and did not take out, and who has not left since.

Nobody deletes a row when a person takes permission back: who has left follows from the history of the gate's
answers, as everything about "now" does. So a withdrawal is in force in every audience at once.

Not protected against: files that were exported before; a clock that was set back between a commit and what
was said after it, since which of them came first follows from their times; and somebody who took one use
back, and gave it again, while the policy asked for another one, since the gate never answered for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.ascending import ascending
from purposematch.protocol.audience import AudienceMode
from purposematch.server.registry.audiences import Change, changes_that_count
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.columns import assertion_columns, decision_columns, naming, row_of
from purposematch.server.registry.happened import (
    consent_ages,
    correction_times,
    load_deliveries,
    load_generations,
)
from purposematch.server.registry.history import HISTORY_COLUMNS, pair_history
from purposematch.server.registry.members import load_members
from purposematch.server.registry.watermarks import most_of_all

__all__ = ["Members", "members_after", "members_of_each"]


@dataclass(frozen=True, eq=False)
class Members:
    """Whom an audience has, as the assertions that permit them say it; n of them.

    Attributes:
        granting: (n,) int64, ascending.
        subjects: n ids of subjects; somebody may be there through several identifiers.
        left: how many people sessions had put in, too, who have left since.
    """

    granting: NDArray[np.int64]
    subjects: pa.StringArray
    left: int

    def __len__(self) -> int:
        """How many people that is."""
        return len(self.subjects.unique())


def members_after(connection: Connection, changes: Sequence[Change], now: int) -> Members:
    """Whom an audience has after its changes, all of them and in their order; who was erased is nobody.

    Whoever took permission back since is in it no more, whatever they say later: that takes another match.

    Args:
        connection: a snapshot, or a transaction.
        changes: of one audience, as `audience_changes` gives them.
        now: microseconds since 1970; what is over by then puts in and takes out nobody.
    """
    return members_of_each(connection, [changes], now)[0]


def members_of_each(connection: Connection, audiences: Sequence[Sequence[Change]], now: int) -> list[Members]:
    """The same for several audiences at once, for less than one after the other."""
    nobody = np.zeros(0, np.int64)
    counting = [changes_that_count(changes) for changes in audiences]
    of = [
        [load_members(connection, each.number) if each.is_live(now) else nobody for each in changes]
        for changes in counting
    ]
    ids = ascending(np.concatenate([nobody, *(granting for each in of for granting in each)]))
    _, said = load_chunks(connection, ids)
    subjects = said["subject"].dictionary_encode()
    codes = subjects.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    left = _left_at(connection, ids)
    found = []
    for changes, matched in zip(counting, of, strict=True):
        put_in, inside = np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.bool_)
        for change, granting in zip(changes, matched, strict=True):
            rows = np.searchsorted(ids, granting)
            if change.mode is AudienceMode.REMOVE:
                # Who is taken out leaves with every identifier.
                stays = ~np.isin(codes, codes[rows])
                put_in &= stays
                inside &= stays
            else:
                put_in[rows] = True
                inside[rows] |= left[rows] < change.made_at
        put_in &= codes >= 0
        inside &= codes >= 0
        gone = len(ascending(codes[put_in])) - len(ascending(codes[inside]))
        found.append(Members(ids[inside], subjects.filter(pa.array(inside)).cast(pa.string()), gone))
    return found


def _left_at(connection: Connection, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """`History.left_at_through` of assertions, (n,) int64.

    Args:
        connection: a snapshot, or a transaction.
        ids: (n,) int64, assertions, ascending and distinct.
    """
    if most_of_all(connection, len(ids)):
        said, decided = assertion_columns(connection, HISTORY_COLUMNS), decision_columns(connection)
    else:
        own = assertion_columns(connection, ["identifier"], ids)
        keys = own["identifier"].drop_null().unique().to_pylist()
        # What was erased names nothing any more, and has no history.
        said = assertion_columns(connection, HISTORY_COLUMNS, np.union1d(naming(connection, [], keys), ids))
        decided = decision_columns(connection, keys)
    asked = np.zeros(len(said), np.bool_)
    asked[row_of(said["id"].to_numpy(), ids)] = True
    history = pair_history(
        said,
        decided,
        load_deliveries(connection),
        load_generations(connection),
        consent_ages(connection),
        asked,
    )
    return history.left_at_through(ids, correction_times(connection))
