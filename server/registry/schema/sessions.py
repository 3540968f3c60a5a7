"""Tables of who may match what, of matches, and of what came of them.

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

from purposematch.server.registry.schema.base import RowId, metadata

__all__ = [
    "advertiser",
    "agreement",
    "audience_change",
    "batch",
    "certificate",
    "commit",
    "delegation",
    "exchange",
    "exchange_part",
    "generation",
    "member_chunk",
    "release",
    "session",
    "usage",
]

advertiser = Table(
    "advertiser",
    metadata,
    Column("name", Text, primary_key=True),
    Column("added_at", BigInteger, nullable=False),
)
"""Who may open sessions, once there is an agreement, with a certificate that is recorded for its name."""

certificate = Table(
    "certificate",
    metadata,
    Column("fingerprint", LargeBinary(32), primary_key=True),  # SHA-256 of the certificate, DER
    Column("role", Text, nullable=False),  # Role, as in the certificate
    Column("name", Text, nullable=False),  # its holder's, as in the certificate
    Column("not_after", BigInteger, nullable=False),  # when it ends by itself
    Column("recorded_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),  # NULL = never; with the next one, the only column that changes
    Column("reason", Text),  # RevocationReason; NULL = not revoked
    Index("certificate_by_holder", "role", "name"),  # which certificates does somebody have
)
"""Every client certificate that is admitted, and those that were. A name may have several at a time.

Nobody may call anything with another one, whoever signed it.
"""

agreement = Table(
    "agreement",
    metadata,
    Column("advertiser", ForeignKey("advertiser.name"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # Agreement.number, from 1, no gaps
    Column("digest", LargeBinary(32), nullable=False, unique=True),  # Agreement.digest, as sessions name it
    Column("content", LargeBinary, nullable=False),  # Agreement.canonical_bytes()
    Column("platform_signature", LargeBinary(64), nullable=False),  # over content, by the identity key
    Column("advertiser_key", LargeBinary(32), nullable=False),  # whose signature the next column is
    Column(
        "advertiser_signature", LargeBinary(64), nullable=False
    ),  # over content, under a domain of its own
    Column("recorded_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),  # NULL = never ended by the platform; the only column that changes
)
"""What both sides signed. The highest number of an advertiser is in force, unless ended or expired."""

delegation = Table(
    "delegation",
    metadata,
    Column("advertiser", ForeignKey("advertiser.name"), primary_key=True),
    Column(
        "number", BigInteger, primary_key=True, autoincrement=False
    ),  # Delegation.number, the advertiser's
    Column("partner", Text, nullable=False),  # who may bring lists
    Column("digest", LargeBinary(32), nullable=False, unique=True),  # Delegation.digest, as sessions name it
    Column("content", LargeBinary, nullable=False),  # Delegation.canonical_bytes()
    Column("advertiser_key", LargeBinary(32), nullable=False),  # whose signatures the others are
    Column("signature", LargeBinary(64), nullable=False),  # over content
    Column("recorded_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),  # NULL = never; with the next one, the only column that changes
    Column("revocation", LargeBinary(64)),  # signed by the advertiser; NULL = by the platform, or not revoked
)
"""What advertisers let partners do."""

usage = Table(
    "usage",
    metadata,
    Column("advertiser", ForeignKey("advertiser.name"), primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),  # days since 1970-01-01, UTC
    Column("elements", BigInteger, nullable=False),  # sum of batch.charged received on this day
    Column("sessions", BigInteger, nullable=False),  # sessions opened on this day
)
"""What was used of the daily quotas: written in one transaction with the batch or the session that it counts.

It follows from `batch` and `session`, as the audit checks, and saves adding them up for every batch.
"""

generation = Table(
    "generation",
    metadata,
    Column("id", Text, primary_key=True),  # random, hexadecimal; the folder's name
    Column("number", BigInteger, nullable=False, unique=True),  # in the order of publishing, from 1
    Column("purpose", Text, nullable=False),  # purpose, profile and epoch: the scope
    Column("profile", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("policy", ForeignKey("policy.id"), nullable=False),
    Column("watermark", BigInteger, nullable=False),  # it covers the assertions up to this id
    Column("decisions", BigInteger, nullable=False),  # it is pinned to the decisions up to this id
    Column("elements", BigInteger, nullable=False),  # indexed identifiers, without canaries
    Column("published_at", BigInteger, nullable=False),
    Column("valid_until", BigInteger, nullable=False),  # no session opens at or after this time
    Column("manifest", LargeBinary, nullable=False),  # the signed manifest's bytes
    Column("table_sha256", LargeBinary(32), nullable=False),  # generations.table_digest of its private files
    # Leaves of the log just before it came into service: that of its manifest is at this place.
    Column("log_size", BigInteger, nullable=False),
    Column("log_root", LargeBinary(32), nullable=False),  # the root over them
)
"""Published indexes. The row appears in the transaction that puts the folder into service."""

session = Table(
    "session",
    metadata,
    Column("id", Text, primary_key=True),  # random, hexadecimal
    Column("advertiser", ForeignKey("advertiser.name"), nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),  # of the certificate that opened it
    Column("agreement", ForeignKey("agreement.digest"), nullable=False),  # in force when it opened
    Column(
        "delegation", ForeignKey("delegation.digest")
    ),  # under which a partner opened it; NULL = nobody did
    Column("list", Text),  # the name of the list that the partner brought; NULL as the one before
    Column("generation", ForeignKey("generation.id"), nullable=False),
    Column("elements", BigInteger, nullable=False),  # the list size that the client declared
    Column("engine", Text),  # MatchEngine, as granted; NULL = the usual one
    Column("attempts", Integer, nullable=False, default=0),  # at its exchange by VOLE; the next begins anew
    Column("grant", LargeBinary, nullable=False),  # the session grant's bytes, as signed
    Column("log_size", BigInteger, nullable=False),  # leaves of the log just before: its own is at this place
    Column("state", Text, nullable=False),  # open, ended (with an error), closed
    Column("opened_at", BigInteger, nullable=False),
    Column("heard_at", BigInteger, nullable=False),  # a message came for it, give or take a minute
    Column("closed_at", BigInteger),  # NULL while it is open
    Index("session_by_advertiser", "advertiser", "state"),  # which of its sessions are open
    Index("session_by_state", "state"),
)
"""One match of one list under one agreement. What changes: `state`, `attempts`, `heard_at`, `closed_at`."""

batch = Table(
    "batch",
    metadata,
    Column("session", ForeignKey("session.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # counts from 0
    Column("sha256", LargeBinary(32), nullable=False),  # of the request: the same bytes are free of charge
    Column("elements", Integer, nullable=False),
    Column("charged", Integer, nullable=False),  # those that the quota counts: all but the canaries
    Column("received_at", BigInteger, nullable=False),
)
"""The batches that were evaluated: written in one transaction with the check of the quota.

By VOLE a batch is an attempt that went so far that results follow from it, and has the whole list; its
SHA-256 is of what both sides have said until then."""

exchange = Table(
    "exchange",
    metadata,
    Column("session", ForeignKey("session.id"), primary_key=True),
    Column("label", LargeBinary(32), nullable=False),  # of the list, as its client calls it
    Column("exponent", LargeBinary(32)),  # A = a*G; NULL until the first batch of own elements
)
"""Set exchanges that are under way; the row goes when its session ends."""

exchange_part = Table(
    "exchange_part",
    metadata,
    Column("session", ForeignKey("exchange.session"), primary_key=True),
    Column("side", SmallInteger, primary_key=True, autoincrement=False),  # exchanges.Side
    Column("number", Integer, primary_key=True, autoincrement=False),  # of the batch
    Column("sha256", LargeBinary(32), nullable=False),  # of the request: the same bytes are taken again
    Column("elements", Integer, nullable=False),
    Column("marks", LargeBinary, nullable=False),  # 16 bytes for each element
)
"""What the platform keeps of a set exchange that is under way: marks of own elements, times b, and of points.

They are gone when the session ends. An agreement bounds the lists, and the sessions at a time, and so these.
"""

commit = Table(
    "commit",
    metadata,
    Column("session", ForeignKey("session.id"), primary_key=True),
    Column("id", Text, primary_key=True),  # chosen by the client
    Column("sha256", LargeBinary(32), nullable=False),  # of the request: an id is used for one request only
    Column("receipt", LargeBinary, nullable=False),  # the stored answer, byte for byte
    Column("signature", LargeBinary(64), nullable=False),  # over it, by the identity key
    Column("policy", ForeignKey("policy.id"), nullable=False),  # under which the gate ran again
    Column("matched", BigInteger),  # of a set exchange: what was counted, exactly; for the platform alone
    Column("committed_at", BigInteger, nullable=False),
)
"""Commits, in one transaction with the change of an audience that they make."""

audience_change = Table(
    "audience_change",
    metadata,
    Column("number", RowId, primary_key=True),  # in the order in which they were made, from 1
    Column("session", ForeignKey("session.id"), nullable=False, unique=True),  # which committed
    Column("audience", Text, nullable=False),  # its name: one of the session's advertiser, or of its partner
    Column("mode", Text, nullable=False),  # AudienceMode
    Column("expires_at", BigInteger, nullable=False),  # whom it put in is not in it from then on
    Column("ended_at", BigInteger),  # NULL = not yet; the rows of member_chunk went then, and with the
    Column("ended_by", Text),  # next two it is all that changes; "retention", or who had it ended
    Column("sha256", LargeBinary(32)),  # row_digests.audience_digest of the members that went
    Index("audience_change_by_name", "audience"),  # which changes made an audience
)
"""What sessions did to audiences. An audience is what its changes come to, in their order.

A change that has ended keeps its place: one that replaced what was there before still did.
"""

member_chunk = Table(
    "member_chunk",
    metadata,
    Column("change", ForeignKey("audience_change.number"), primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),  # the least assertion of the chunk
    # Assertions that permit, ascending, 8 bytes each. Beside the key such a value would make its index deep.
    Column("granting", LargeBinary, nullable=False),
)
"""Whom a change of an audience put in, or took out: the matched subjects of its session, for activation.

Each is named by the assertion that permits it, which says the subject and the identifier. They go when the
change ends. Numbers are big-endian; all chunks of a change but the last have CHUNK_MEMBERS. There is no index
by assertion: every commit would write all over it, and the questions that begin with an assertion are rare
(`members.member_changes`).
"""

release = Table(
    "release",
    metadata,
    Column("id", RowId, primary_key=True),  # in the order in which they were paid, from 1
    Column("session", ForeignKey("session.id"), nullable=False, unique=True),  # which asked first
    Column("legal_entity", Text, nullable=False),  # who paid
    Column("purpose", Text, nullable=False),  # the scope that it counts in, whatever the epoch
    Column("label", LargeBinary(32), nullable=False),  # of the list
    Column("generation", ForeignKey("generation.id"), nullable=False),
    Column("policy", ForeignKey("policy.id"), nullable=False),  # under which the gate decided
    Column("disclosure", Text, nullable=False),
    Column("epsilon", BigInteger, nullable=False),  # what it cost, in millionths
    Column("released_at", BigInteger, nullable=False),  # no less than that of any earlier one
    Column("content", LargeBinary, nullable=False),  # the noisy report's bytes, as signed
    Column("signature", LargeBinary(64), nullable=False),  # over them, by the identity key
    # The same question is answered again with what is stored.
    UniqueConstraint("legal_entity", "label", "generation", "policy", "disclosure"),
    Index("release_by_entity", "legal_entity", "released_at"),  # what of its budget is spent
    Index("release_by_purpose", "purpose", "released_at"),  # what of the scope's budget is spent
)
"""Noisy counts that were told, each in the transaction that pays for it. Budgets are sums over these rows."""
