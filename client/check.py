"""Pre-flight: what a list will come to, without a platform and without the network.

Not protected against: a platform with another profile than the one named; its agreement says which.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from purposematch.client.columns import Column, choose_columns
from purposematch.client.customer_list import CustomerList, reason_counts
from purposematch.client.progress import Progress, silent
from purposematch.protocol.agreement import DEFAULT_MIN_LIST_ELEMENTS
from purposematch.protocol.identifiers import IdentifierReason, Profile
from purposematch.tables import open_table

__all__ = ["CheckResult", "check_list"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a list came to.

    Attributes:
        customers: the list as it was read.
        profile: the rule under which it was.
    """

    customers: CustomerList
    profile: Profile

    @property
    def reaches_minimum(self) -> bool:
        """Whether the list is long enough for an agreement with the usual minimum."""
        return len(self.customers) >= DEFAULT_MIN_LIST_ELEMENTS

    @property
    def advice(self) -> dict[str, str]:
        """What to do about every reason for which a value was refused, except that there is none."""
        refused = np.sum(self.customers.column_reasons, axis=0)
        return {
            reason.label: reason.advice
            for reason in IdentifierReason
            if reason > IdentifierReason.EMPTY and refused[reason] > 0
        }

    def to_mapping(self) -> dict[str, object]:
        """The document that `purposematch check --json` prints."""
        customers = self.customers
        return {
            "rows": customers.rows,
            "usable": customers.usable,
            "invalid": customers.invalid,
            "duplicates": customers.duplicates,
            "distinct_identifiers": len(customers),
            "minimum": DEFAULT_MIN_LIST_ELEMENTS,
            "reaches_minimum": self.reaches_minimum,
            "profile": self.profile.value,
            "columns": [
                {
                    "name": column.name,
                    "kind": column.kind.label,
                    "hashed": column.hashed,
                    "refused": reason_counts(counts),
                }
                for column, counts in zip(customers.columns, customers.column_reasons, strict=True)
            ],
            "advice": self.advice,
        }


def check_list(
    list_path: Path | str,
    *,
    columns: Sequence[Column] = (),
    prehashed: bool = False,
    profile: Profile = Profile.PLAIN,
    region: str | None = None,
    progress: Progress = silent,
) -> CheckResult:
    """Reads a list as `match` would.

    Args:
        list_path: the list, see `MatchClient.match`.
        columns: the columns of identifiers; those with usual names if empty.
        prehashed: whether all of them hold SHA-256 digests.
        profile: the rule of the platform; its agreement names it.
        region: two-letter country code for phone numbers without `+`.
        progress: shows how far the reading is.

    Raises:
        InputError: the list, the columns or the region cannot be used.
    """
    with open_table(Path(list_path)) as table:
        chosen = choose_columns(table, columns, prehashed=prehashed)
        with progress(f"Reading {table.name}", table.size_bytes, "bytes") as advance:
            return CheckResult(CustomerList.read(table, chosen, profile, region, advance=advance), profile)
