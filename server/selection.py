"""Which assertions a question or a correction is about.

Every field that is given must hold, and a field with several values holds if one of them does. A new
property of assertions is a new field here, a line in `_of_terms` or `chosen`, and an option of the commands.

Not protected against: a selection that misses mislabelled assertions; it knows only their labels.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.assertions import Terms
from purposematch.protocol.purpose import Origin, is_under
from purposematch.server.times import iso

__all__ = ["SELECTION_COLUMNS", "Selection"]

SELECTION_COLUMNS: Final = ("notice",)
"""What `Selection.chosen` needs of assertions."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of assertions; without any field, all of them.

    Attributes:
        origins: how the platform got the identifier.
        purposes: keys; an assertion that names one of them or a use below it.
        sources: who delivered it.
        issuers: the collecting systems that signed; "" chooses what nobody signed.
        notices: what the person was shown, letter for letter.
        received_from: the first time of receipt, microseconds since 1970.
        received_to: the first time of receipt that is too late.
    """

    origins: tuple[Origin, ...] = ()
    purposes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    issuers: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    received_from: int | None = None
    received_to: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it chooses everything."""
        return all(getattr(self, field.name) in ((), None) for field in fields(self))

    def to_mapping(self) -> dict[str, object]:
        """The fields that are given, as JSON has them."""
        document: dict[str, object] = {
            "origins": [origin.label for origin in self.origins],
            "purposes": list(self.purposes),
            "sources": list(self.sources),
            "issuers": list(self.issuers),
            "notices": list(self.notices),
            "received_from": None if self.received_from is None else iso(self.received_from),
            "received_to": None if self.received_to is None else iso(self.received_to),
        }
        return {name: value for name, value in document.items() if value not in ([], None)}

    def chosen(
        self,
        said: pa.Table,
        terms: NDArray[np.int64],
        terms_table: list[Terms],
        received_at: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Which assertions are meant, (n,) bool.

        Args:
            said: n assertions with `SELECTION_COLUMNS`.
            terms: (n,) positions in `terms_table`, corrections included.
            terms_table: the distinct terms.
            received_at: (n,) int64, microseconds since 1970.
        """
        chosen = np.array([self._of_terms(each) for each in terms_table], bool)[terms]
        if self.received_from is not None:
            chosen &= received_at >= self.received_from
        if self.received_to is not None:
            chosen &= received_at < self.received_to
        if self.notices:
            named = pc.is_in(said["notice"], pa.array(self.notices))
            chosen &= named.combine_chunks().to_numpy(zero_copy_only=False)
        return chosen

    def _of_terms(self, terms: Terms) -> bool:
        return (
            (not self.origins or terms.origin in self.origins)
            and (not self.sources or terms.source in self.sources)
            and (not self.issuers or terms.issuer in self.issuers)
            and (
                not self.purposes
                or any(is_under(key, purpose) for key in terms.purposes for purpose in self.purposes)
            )
        )
