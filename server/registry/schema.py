"""The tables of the registry, and what every column means.

Three rules shape them. Nothing identifying is stored: an identifier is a keyed digest, and the digest
that the match needs is sealed. What people said and what the gate answered is only ever added to
(`delivery`, `terms`, `assertion_chunk`, `mention`, `digest_chunk`, `evidence`, `policy`, `decision`,
`correction`, `corrected`): "now" is the latest row. And a server process keeps nothing that another would
need: sessions, batches and commits are rows.

Types are plain SQL, so that PostgreSQL can stand where SQLite does. Assertions, which come by the million,
are chunks of columns beside one slim index. Every other index names the question that needs it; tables
that grow by millions of rows do without foreign keys, whose checks cost as much as the insertion itself.

Not protected against: somebody who holds the database *and* the root key can recompute the keyed digest
of every phone number there is, and unseal every digest. Subject ids, notice ids, purposes and counts are
in the clear.

Conventions of all tables:

* times are microseconds since 1970-01-01T00:00:00Z, in 64-bit integers, NULL for "none given";
* `identifier` is `KEYED_DIGEST_BYTES` of HMAC-SHA-256(identifier key, kind byte || digest);
* enumerations are the numbers of `purposematch.protocol` (Kind, Origin, Status, Evidence, Reason); these
  numbers are therefore never reassigned;
* ids of assertions and decisions grow in the order of receipt, those of one delivery without gaps.

A decision that an assertion already shows is not stored a second time: see `decision`.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "CHUNK_ASSERTIONS",
    "CHUNK_MEMBERS",
    "CHUNK_ROWS",
    "KEYED_DIGEST_BYTES",
    "SCHEMA_VERSION",
    "advertiser",
    "agreement",
    "assertion_chunk",
    "assertion_salt",
    "audience_change",
    "batch",
    "certificate",
    "commit",
    "corrected",
    "correction",
    "decision",
    "delegation",
    "delivery",
    "digest_chunk",
    "erased_assertion",
    "erased_decision",
    "erasure",
    "evidence",
    "evidence_batch",
    "exchange",
    "exchange_part",
    "generation",
    "log_leaf",
    "log_tile",
    "member_chunk",
    "mention",
    "metadata",
    "policy",
    "property_",
    "release",
    "removal_acknowledgement",
    "removal_list",
    "removed_tag",
    "session",
    "terms",
    "usage",
]

SCHEMA_VERSION = 13
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

# SQLite gives only INTEGER primary keys numbers of their own accord (and stores them in 64 bits).
_RowId = BigInteger().with_variant(Integer, "sqlite")

property_ = Table(
    "property",
    metadata,
    Column("name", Text, primary_key=True),  # schema_version, profile, key_check
    Column("value", Text, nullable=False),
)
"""What the whole registry has once: checked whenever it is opened."""

policy = Table(
    "policy",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),  # Policy.digest
    Column("taxonomy", LargeBinary(32), nullable=False),  # Taxonomy.digest that it was loaded with
    Column("content", LargeBinary, nullable=False),  # Policy.canonical_bytes()
    Column("loaded_at", BigInteger, nullable=False),  # when it first decided something
)
"""Every policy that ever decided anything."""

delivery = Table(
    "delivery",
    metadata,
    Column("id", _RowId, primary_key=True),
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
    Column("id", _RowId, primary_key=True),
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
    Column("assertion", _RowId, primary_key=True, autoincrement=False),  # assertion.id
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
    Column("id", _RowId, primary_key=True),
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
    Column("id", _RowId, primary_key=True),  # in the order in which they were made, from 1
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
    Column("number", _RowId, primary_key=True),  # in the order in which they were made, from 1
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
    Column("id", _RowId, primary_key=True),  # in the order in which they were paid, from 1
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
    Column("id", _RowId, primary_key=True),  # in the order in which they were made, from 1
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
