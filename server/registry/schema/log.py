"""Tables of the log, and of what left the registry: erasures, and removals from the index.

Not protected against: see the package.
"""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, SmallInteger, Table, Text

from purposematch.server.registry.schema.base import RowId, metadata

__all__ = [
    "assertion_salt",
    "erased_assertion",
    "erased_decision",
    "erasure",
    "log_leaf",
    "log_tile",
    "removal_acknowledgement",
    "removal_list",
    "removed_tag",
]

log_leaf = Table(
    "log_leaf",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),  # counts from 0, without gaps
    Column("kind", Text, nullable=False),  # EventKind
    Column("at", BigInteger, nullable=False),  # when it happened
    Column("salt", LargeBinary(16)),  # salt and content open the leaf; both are NULL once they were erased
    Column("content", LargeBinary),  # Event.content
    Column("hash", LargeBinary(32), nullable=False),  # the leaf's hash in the tree
    Index("log_leaf_by_hash", "hash"),  # where is the leaf that I was shown
)
"""The log: everything that changes or uses the registry. Only an opening ever changes, and only to NULL."""

log_tile = Table(
    "log_tile",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column(
        "hashes", LargeBinary, nullable=False
    ),  # up to 256 of 32 bytes; see purposematch.protocol.log.tiles
)
"""The tree over `log_leaf`. It follows from the hashes there, and makes proofs cost a few reads."""

assertion_salt = Table(
    "assertion_salt",
    metadata,
    Column("first", BigInteger, primary_key=True, autoincrement=False),  # first assertion of the chunk
    Column("count", Integer, nullable=False),  # at most CHUNK_ASSERTIONS
    Column("salts", LargeBinary, nullable=False),  # count salts of 16 bytes; zeros where one was erased
)
"""The salts under which a delivery's event commits to assertions first .. first+count-1."""

erasure = Table(
    "erasure",
    metadata,
    Column("id", RowId, primary_key=True),  # in the order in which they were made, from 1
    Column("erased_at", BigInteger, nullable=False),
    Column("objections", BigInteger),  # delivery.id of its entries of the suppression list; NULL = none new
    Column("leaf", BigInteger, nullable=False),  # log_leaf.index of its own event
)
"""Erasures. What each destroyed is in the next two tables; what it left is a delivery of objections.

These objections, a keyed digest each and nobody's name, are the suppression list.
"""

erased_assertion = Table(
    "erased_assertion",
    metadata,
    Column("assertion", BigInteger, primary_key=True, autoincrement=False),  # assertion.id
    Column("erasure", BigInteger, nullable=False),  # erasure.id
    Column("commitment", LargeBinary(32), nullable=False),  # what its leaf in the delivery's tree holds
    Index("erased_assertion_by_erasure", "erasure"),
)
"""Assertions that were erased, salt included.

Of what they said only the terms are left: neither person nor identifier, notice, times or evidence. Without
the commitment, the root of their delivery could not be computed again.
"""

erased_decision = Table(
    "erased_decision",
    metadata,
    Column("decision", BigInteger, primary_key=True, autoincrement=False),  # decision.id
    Column("erasure", BigInteger, nullable=False),  # erasure.id
    Column("commitment", LargeBinary(32), nullable=False),  # what the event of the decision covers
    Index("erased_decision_by_erasure", "erasure"),
)
"""Decisions that were erased: whom and what they were about is gone, reason and time are left."""

removed_tag = Table(
    "removed_tag",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),  # of the scope that the tag is of
    Column("tag", LargeBinary(16), primary_key=True),
    Column("removed", BigInteger, primary_key=True, autoincrement=False),  # generation.number without it
    Column("returned", BigInteger),  # generation.number that has it again; NULL = none
    sqlite_with_rowid=False,
)
"""Who left the index, by tag: what advertisers take out of their stored results.

The list of an epoch as of generation g are the rows with removed <= g and without returned <= g, so that one
list can be read in parts while others are published. Rows stay when the epoch's key is destroyed: its tags
can be compared for ever. Canaries are in none.
"""

removal_list = Table(
    "removal_list",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column(
        "number", BigInteger, primary_key=True, autoincrement=False
    ),  # generation.number: the list as of it
    Column("sha256", LargeBinary(32), nullable=False),  # of its tags; what an advertiser acknowledges
    Column("content", LargeBinary, nullable=False),  # the signed RemovalList, byte for byte
    Column("signature", LargeBinary(64), nullable=False),  # over it, by the identity key
)
"""The list of removals of an epoch as of each of its generations, and as of the one that ended it."""

removal_acknowledgement = Table(
    "removal_acknowledgement",
    metadata,
    Column("advertiser", ForeignKey("advertiser.name"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column(
        "number", BigInteger, primary_key=True, autoincrement=False
    ),  # removal_list.number: applied up to it
    Column("sha256", LargeBinary(32), nullable=False),  # as the advertiser sent it
    Column("acknowledged_at", BigInteger, nullable=False),
)
"""Which lists of removals each advertiser says that it applied."""
