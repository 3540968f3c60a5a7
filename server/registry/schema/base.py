"""What the tables have in common: their version, the sizes of what they hold, and where they are listed.

Not protected against: see the package.
"""

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

__all__ = [
    "CHUNK_ASSERTIONS",
    "CHUNK_MEMBERS",
    "CHUNK_ROWS",
    "KEYED_DIGEST_BYTES",
    "SCHEMA_VERSION",
    "RowId",
    "metadata",
    "property_",
]

SCHEMA_VERSION = 14
"""Grows by one with every change of these tables."""

KEYED_DIGEST_BYTES = 16
"""Length of a keyed digest, in bytes: among 10^9 of them two agree with probability below 2^-68."""

CHUNK_ASSERTIONS = 65_536
"""The most assertions whose digests are sealed in one chunk (2 MiB of digests)."""

CHUNK_ROWS = 4_096
"""The most assertions in one chunk of columns (256 KiB): small enough to be read for the sake of one."""

CHUNK_MEMBERS = 500
"""Members of an audience in one chunk but the last: 4,000 bytes, so that four fill a page of the database."""

metadata = MetaData()
"""All tables; whichever module is imported adds its own."""

RowId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite gives only INTEGER primary keys numbers of their own accord (and stores them in 64 bits)."""

property_ = Table(
    "property",
    metadata,
    Column("name", Text, primary_key=True),  # schema_version, profile, key_check
    Column("value", Text, nullable=False),
)
"""What the whole registry has once: checked whenever it is opened."""
