"""Tables of what people said, as it was delivered, and of what the gate answered.

Not protected against: see the package.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from purposematch.server.registry.schema.base import KEYED_DIGEST_BYTES, RowId, metadata

__all__ = [
    "assertion_chunk",
    "corrected",
    "correction",
    "decision",
    "delivery",
    "digest_chunk",
    "evidence",
    "evidence_batch",
    "mention",
    "policy",
    "terms",
]

policy = Table(
    "policy",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),  # Policy.digest
    Column("taxonomy", LargeBinary(32), nullable=False),  # Taxonomy.digest that it was loaded with
    Column("content", LargeBinary, nullable=False),  # Policy.canonical_bytes()
    Column("loaded_at", BigInteger, nullable=False),  # when it was published, or first decided
)
"""Every policy that was ever put into force."""

delivery = Table(
    "delivery",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("source", Text, nullable=False),  # the named system that delivered it
    Column("file_digest", LargeBinary(32), nullable=False),  # keyed.file_digest of the file's bytes
    Column("received_at", BigInteger, nullable=False),  # the time of receipt of all its assertions
    Column("first_assertion", BigInteger, nullable=False),  # data row r is assertion first_assertion + r - 1
    Column("assertions", BigInteger, nullable=False),  # rows read; every row is an assertion, refused or not
    Column("policy", ForeignKey("policy.id"), nullable=False),  # under which the rows were judged
    Column("report", Text, nullable=False),  # JSON of EnrollReport.to_mapping()
    Column(
        "leaf", BigInteger
    ),  # log_leaf.index of its event; NULL only inside the transaction that stores it
    Column("request", LargeBinary(16)),  # the id that its source gave it; NULL = a file of this machine
    UniqueConstraint("source", "request"),  # a delivery that is sent again is stored once
)
"""One file of assertions, as it arrived.

The digest of the file is keyed: some files have one row, and without the key nobody can guess that.
"""

terms = Table(
    "terms",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("purposes", Text, nullable=False),  # as delivered, joined by ";"; keys never hold one
    Column("origin", SmallInteger, nullable=False),  # Origin; 0 = not one of ours
    Column("status", SmallInteger, nullable=False),  # Status; 0 = unreadable
    Column("source", Text, nullable=False),  # as in delivery
    Column("issuer", Text, nullable=False),  # who signed; empty = nobody, "?" = none that the policy listed
    UniqueConstraint("purposes", "origin", "status", "source", "issuer"),
)
"""Each distinct combination of purposes, origin, status, source and issuer, once.

A platform has tens of these for millions of assertions, so the gate judges each once. The notice is not
part of it: some platforms give every person a notice of their own, and the gate does not look at it.
"""

assertion_chunk = Table(
    "assertion_chunk",
    metadata,
    Column("first", BigInteger, primary_key=True, autoincrement=False),  # first assertion of the chunk
    Column("count", Integer, nullable=False),  # at most CHUNK_ROWS
    Column("content", LargeBinary, nullable=False),  # an Arrow record batch of chunks.COLUMNS
)
"""What was stated: assertions first .. first+count-1, by columns. `chunks` says what the columns mean.

The gate looks at all assertions at once, and columns reach it a hundred times quicker than rows. The last
chunk is written again with what follows it until it is full; nothing in it changes but what is erased.
"""

mention = Table(
    "mention",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),  # see `mentions`
    Column("assertion", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which assertions name a subject, an identifier or another spelling of one: the only index of assertions.

A key is 8 bytes of what is named, so that two names may share one: it leads to every assertion that names
something, and now and then to one more. Who asks compares what the assertion says.
"""

digest_chunk = Table(
    "digest_chunk",
    metadata,
    Column("first", BigInteger, primary_key=True, autoincrement=False),  # first assertion of the chunk
    Column("count", Integer, nullable=False),  # at most CHUNK_ASSERTIONS
    Column("sealed", LargeBinary, nullable=False),  # AES-256-GCM of count digests of 32 bytes
)
"""The digests under the scope's profile of assertions first .. first+count-1, zeros where there is none."""

evidence = Table(
    "evidence",
    metadata,
    Column("assertion", RowId, primary_key=True, autoincrement=False),  # assertion.id
    Column("collected_at", BigInteger, nullable=False),  # as signed; 0 = erased
    Column("salt", LargeBinary(16)),  # as signed; NULL = erased
    Column("signature", LargeBinary(64)),  # NULL = evidence_batch has it, or erased
    Column("leaf", LargeBinary(32)),  # leaf hash, kept where the salt was erased from a batch; else NULL
)
"""Evidence as it came, where it could be read: what is needed to check the signature again.

Its issuer is in `terms`, its key in `policy.content` of the delivery. The signed bytes hold the digest,
which is in `digest_chunk`; see `purposematch.protocol.evidence_bytes`. A row is gone when its assertion was
erased, unless other rows of its batch need its leaf.
"""

evidence_batch = Table(
    "evidence_batch",
    metadata,
    Column("delivery", BigInteger, primary_key=True, autoincrement=False),  # delivery.id
    Column("issuer", Text, nullable=False),  # who signed
    Column(
        "root", LargeBinary(32), nullable=False
    ),  # Merkle root over the rows of `evidence` without signature
    Column("signature", LargeBinary(64), nullable=False),  # over root and number of leaves
)
"""One signature for the rows of a delivery that have none of their own, in their order."""

decision = Table(
    "decision",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("subject", Text),  # NULL = erased, like the next one
    Column("identifier", LargeBinary(KEYED_DIGEST_BYTES)),
    Column("reason", SmallInteger, nullable=False),  # Reason; 0 = PERMITTED
    Column("granting", BigInteger),  # the assertion that permits; NULL = refused, or erased
    Column("policy", BigInteger, nullable=False),  # policy.id
    Column("decided_at", BigInteger, nullable=False),
    Column("assertions", BigInteger, nullable=False),  # the highest assertion id when it was taken
    Column("salt", LargeBinary(16)),  # under which an event commits to it; NULL = erased
    Index("decision_by_identifier", "identifier"),  # the latest decision of a pair
)
"""The gate's answer for one (subject, identifier), where it is not what the pair's latest assertion shows.

Most pairs are named by one assertion ever, and its reason at receipt with the delivery's policy and time *is*
the gate's answer for them; so the answer in force is

* the pair's latest decision, unless an assertion of the pair arrived after it (its id is
  above `decision.assertions`),
* else the reason at receipt of the pair's latest assertion, which is then also what permits.

At a generation, only assertions up to `generation.watermark` and decisions up to `generation.decisions`
count.
"""

correction = Table(
    "correction",
    metadata,
    Column("id", RowId, primary_key=True),  # in the order in which they were made, from 1
    Column("corrected_at", BigInteger, nullable=False),
    Column("selection", Text, nullable=False),  # JSON of Selection.to_mapping(): which assertions were meant
    Column("origin", SmallInteger),  # the origin that they have from now on; NULL = stays
    Column("purposes", Text),  # the purposes, joined by ";"; NULL = stay
    Column("why", Text, nullable=False),  # in the operator's words; may be empty
    Column("assertions", BigInteger, nullable=False),  # how many rows of `corrected` are its own
    Column("decisions", BigInteger, nullable=False),  # the last decision of its transaction
)
"""Statements that assertions were mislabelled. A generation covers those up to its `decisions`."""

corrected = Table(
    "corrected",
    metadata,
    Column("assertion", BigInteger, primary_key=True, autoincrement=False),  # assertion.id
    Column("correction", BigInteger, primary_key=True, autoincrement=False),  # correction.id
    Column("terms", BigInteger, nullable=False),  # terms.id that count in place of assertion.terms
)
"""What a correction says of each assertion. The latest one counts; the assertion's own row stays as it is."""
