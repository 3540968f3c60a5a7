"""From rows of the registry to what the gate takes, and back: codes for subjects and identifiers.

Source: docs/gate.md, *The unit* and *Spellings*. Two identifiers meet when the raw value of one and the raw
value of the other share a spelling under any profile; what is given to the gate is only where that
matters: where one of the two is named by a refusal or by an origin that taints.

Not protected against: rows that were left out. `load` says which rows a decision needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from purposematch.protocol.ascending import ascending
from purposematch.protocol.assertions import Assertions, Terms
from purposematch.protocol.purpose import FORBIDDEN_ORIGINS, GRANTS
from purposematch.server.registry.rows import Rows, keyed_array, keyed_bytes
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES

__all__ = ["GateInput", "gate_input"]


@dataclass(frozen=True, eq=False)
class GateInput:
    """A table for the gate, and what its codes and rows stand for.

    Attributes:
        assertions: what `decide` takes, n rows in the order of receipt.
        subjects: code -> subject, strings.
        identifiers: code -> keyed digest.
        ids: (n,) int64, the assertion ids; row -> id.
        kinds: (n,) uint8, the `Kind` of each row, 0 where it could not be read.
        reasons: (n,) uint8, the `Reason` of each row at its receipt; 0 for rows being received now.
        policies: (n,) int64, `policy.id` at its receipt, 0 for rows being received now.
    """

    assertions: Assertions
    subjects: pa.StringArray = field(repr=False)
    identifiers: pa.FixedSizeBinaryArray = field(repr=False)
    ids: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    reasons: NDArray[np.uint8]
    policies: NDArray[np.int64]


def gate_input(
    rows: Rows,
    terms_table: Sequence[Terms],
    *,
    ids: NDArray[np.int64],
    received_at: NDArray[np.int64],
    reasons: NDArray[np.uint8],
    policies: NDArray[np.int64],
) -> GateInput:
    """Gives codes to subjects and identifiers.

    Args:
        rows: the assertions, `terms` being positions in `terms_table`.
        terms_table: the distinct terms.
        ids: (n,) int64, as in `GateInput`, ascending.
        received_at: (n,) int64.
        reasons: (n,) uint8, as in `GateInput`.
        policies: (n,) int64, as in `GateInput`.
    """
    encoded = rows.subject.dictionary_encode()
    # One code space for identifiers and other spellings: a spelling may be somebody's identifier.
    both, identifiers = _codes(pa.concat_arrays([rows.identifier, rows.others]))
    identifier, others = both[: len(rows)], both[len(rows) :]
    matters = np.array(
        [terms.status not in GRANTS or terms.origin in FORBIDDEN_ORIGINS for terms in terms_table], bool
    )
    reaching = identifier[matters[rows.terms] & (identifier >= 0)]
    assertions = Assertions(
        subject=encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(),
        identifier=identifier,
        terms=rows.terms.astype(np.int32),
        not_before=rows.not_before,
        expires_at=rows.expires_at,
        received_at=received_at,
        flaw=rows.flaw,
        evidence=rows.evidence,
        meets=_meeting(identifier[rows.spelled], others, reaching, len(identifiers)),
        terms_table=tuple(terms_table),
    )
    return GateInput(assertions, encoded.dictionary, identifiers, ids, rows.kind, reasons, policies)


def _codes(keyed: pa.FixedSizeBinaryArray) -> tuple[NDArray[np.int64], pa.FixedSizeBinaryArray]:
    """Codes in the order of the values, -1 for null, and the distinct values.

    Keyed digests are uniformly random, so their first half sorts them, but for a chance that is checked.
    """
    present = keyed.is_valid().to_numpy(zero_copy_only=False)
    content = keyed.drop_null() if keyed.null_count else keyed
    halves = keyed_bytes(content).view(np.uint64)
    order = np.argsort(halves[:, 0], kind="stable")
    ordered = halves[order]
    first = np.ones(len(ordered), bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    if (first[1:] & (ordered[1:, 0] == ordered[:-1, 0])).any():
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        ordered = halves[order]
        first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    codes = np.full(len(keyed), -1, np.int64)
    found = np.empty(len(ordered), np.int64)
    found[order] = np.cumsum(first) - 1
    codes[present] = found
    distinct = np.ascontiguousarray(ordered[first]).view(np.uint8).reshape(-1, KEYED_DIGEST_BYTES)
    return codes, keyed_array(distinct)


def _meeting(
    identifiers: NDArray[np.int64], others: NDArray[np.int64], reaching: NDArray[np.int64], codes: int
) -> NDArray[np.int64]:
    """Pairs of identifiers that share a spelling, the first of each pair being one of `reaching`: (k, 2).

    Args:
        identifiers: (m,) codes that have another spelling.
        others: (m,) codes of those spellings.
        reaching: codes of the identifiers whose meetings matter.
        codes: the number of codes.
    """
    if not len(reaching) or not len(others):
        return np.zeros((0, 2), np.int64)
    # Every identifier is a spelling of itself; that is how a spelling leads to an identifier.
    everybody = ascending(np.concatenate([identifiers, reaching, others]))
    spelling = np.concatenate([others, everybody])
    owner = np.concatenate([identifiers, everybody])
    order = np.argsort(spelling, kind="stable")
    spelling, owner = spelling[order], owner[order]

    reaches = np.zeros(codes, bool)
    reaches[reaching] = True
    sources = np.flatnonzero(reaches[owner])
    begin = np.searchsorted(spelling, spelling[sources], "left")
    count = np.searchsorted(spelling, spelling[sources], "right") - begin
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    pairs = np.stack([np.repeat(owner[sources], count), owner[np.repeat(begin, count) + offset]], axis=1)
    different = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.ascontiguousarray(np.unique(different, axis=0)) if len(different) else different
