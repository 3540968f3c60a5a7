"""What a delivery of assertions may look like: its columns and its bounds, for both ends of the wire.

Source: docs/gate.md, which says what each column means; proto/purposematch/v1/enrollment.proto.

Not protected against: columns that hold something else than their names say.
"""

from typing import Final

__all__ = [
    "COLUMNS",
    "DELIVERY_ID_BYTES",
    "EVIDENCE_COLUMNS",
    "MAX_CELL_BYTES",
    "MAX_DELIVERY_BYTES",
    "MAX_DELIVERY_ROWS",
    "MAX_WITHDRAWN_ROWS",
    "NAMING_COLUMNS",
    "OPTIONAL_COLUMNS",
]

COLUMNS: Final = (
    "subject_id",
    "kind",
    "value",
    "value_format",
    "purposes",
    "origin",
    "status",
    "notice_id",
    "not_before",
    "expires_at",
)
"""The columns of assertions that have to be there."""

EVIDENCE_COLUMNS: Final = ("issuer", "collected_at", "evidence_salt", "evidence_signature")
"""The columns of the evidence of a row."""

OPTIONAL_COLUMNS: Final = ("hash_profile", *EVIDENCE_COLUMNS)
"""The columns of assertions that may be there."""

NAMING_COLUMNS: Final = ("subject_id", "kind", "value", "value_format", *OPTIONAL_COLUMNS)
"""The columns of people who withdraw; there is `subject_id`, or there are the next three, or all."""

DELIVERY_ID_BYTES: Final = 16
"""Length of the id that a collector chooses for a delivery."""

MAX_CELL_BYTES: Final = 1_024
"""The longest cell that is sent, in bytes of UTF-8; identifiers have at most 512."""

MAX_DELIVERY_ROWS: Final = 500_000
"""Rows of one delivery that is sent: about 350 MB of the platform's memory while it is under way."""

MAX_DELIVERY_BYTES: Final = 128 * 1024 * 1024
"""Bytes of all cells of one delivery that is sent."""

MAX_WITHDRAWN_ROWS: Final = 10_000
"""Rows of one withdrawal that is sent."""
