"""Assertions as columns: what the reader hands to the gate.

Source: docs/gate.md. Subjects and identifiers are codes that mean something only inside one table;
everything else that many rows share is written once, as `Terms`.

What this does not protect against: a reader that gives two people one code, or one identifier two codes
without saying in `meets` that they belong together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.errors import InputError
from purposematch.protocol.purpose import Origin, Status

__all__ = ["NO_TIME", "Assertions", "Terms"]

NO_TIME = int(np.iinfo(np.int64).min)
"""Stands for an empty time."""


@dataclass(frozen=True)
class Terms:
    """What one group of assertions says, apart from who, which identifier and when.

    Attributes:
        purposes: the purpose keys as delivered, compared letter for letter; empty if none was given.
        origin: how the platform got the identifier.
        status: what the subject said.
        source: the name of the source that delivered the assertion.
        issuer: the name of the system that signed it, empty if no evidence names one.
    """

    purposes: tuple[str, ...]
    origin: Origin
    status: Status
    source: str
    issuer: str = ""


@dataclass(frozen=True, eq=False)
class Assertions:
    """A table of n assertions. Times are microseconds since 1970-01-01 UTC, `NO_TIME` where empty.

    Any value of the right type is accepted: the gate refuses what makes no sense.

    Attributes:
        subject: (n,) int64 codes, negative where the subject is empty.
        identifier: (n,) int64 codes, negative where the identifier could not be read.
        terms: (n,) int32 positions in `terms_table`.
        not_before: (n,) int64, when the statement begins to hold.
        expires_at: (n,) int64, when it stops.
        received_at: (n,) int64, when the platform received it.
        flaw: (n,) uint8, 0 or the `Reason` that the reader found: MALFORMED_ROW, INVALID_IDENTIFIER or
            PROFILE_MISMATCH.
        evidence: (n,) uint8, what became of its `Evidence` when it was received.
        meets: (k, 2) int64 pairs of identifier codes that are spellings of one value under some profile, in
            either order: a refusal or taint of one meets the grants of the other. Not transitive.
        terms_table: the distinct `Terms`.

    Raises:
        InputError: a column has another shape or type.
    """

    subject: NDArray[np.int64]
    identifier: NDArray[np.int64]
    terms: NDArray[np.int32]
    not_before: NDArray[np.int64]
    expires_at: NDArray[np.int64]
    received_at: NDArray[np.int64]
    flaw: NDArray[np.uint8]
    evidence: NDArray[np.uint8]
    meets: NDArray[np.int64]
    terms_table: Sequence[Terms]

    def __post_init__(self) -> None:
        """Checks shapes and types."""
        types = {"terms": np.int32, "flaw": np.uint8, "evidence": np.uint8}
        rows = len(self.subject)
        for column in (field.name for field in fields(self) if field.name not in ("meets", "terms_table")):
            array = getattr(self, column)
            if array.shape != (rows,) or array.dtype != types.get(column, np.int64):
                raise InputError(f"assertion column {column} is {array.dtype} {array.shape}")
        if self.meets.ndim != 2 or self.meets.shape[1] != 2 or self.meets.dtype != np.int64:
            raise InputError(f"assertion column meets is {self.meets.dtype} {self.meets.shape}")

    def __len__(self) -> int:
        """The number of assertions."""
        return len(self.subject)
