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

from purposematch.server.registry.schema.base import (
    CHUNK_ASSERTIONS,
    CHUNK_MEMBERS,
    CHUNK_ROWS,
    KEYED_DIGEST_BYTES,
    SCHEMA_VERSION,
    metadata,
    property_,
)
from purposematch.server.registry.schema.log import (
    assertion_salt,
    erased_assertion,
    erased_decision,
    erasure,
    log_leaf,
    log_tile,
    removal_acknowledgement,
    removal_list,
    removed_tag,
)
from purposematch.server.registry.schema.sessions import (
    advertiser,
    agreement,
    audience_change,
    batch,
    certificate,
    commit,
    delegation,
    exchange,
    exchange_part,
    generation,
    member_chunk,
    release,
    session,
    usage,
)
from purposematch.server.registry.schema.statements import (
    assertion_chunk,
    corrected,
    correction,
    decision,
    delivery,
    digest_chunk,
    evidence,
    evidence_batch,
    mention,
    policy,
    terms,
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
