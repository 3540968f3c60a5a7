"""Erases a person: what is stored of them goes, and what remains is one objection that names nobody.

Source: GDPR article 17 is what such a request usually invokes, and article 21(3) why a keyed digest stays:
who is forgotten completely would be enrolled again with the next file. docs/log.md, *Erasure*, says what
goes, what stays and how the audit knows that it was exactly that.

Everything is one transaction: the rows are overwritten, a delivery of objections refuses the identifiers for
everybody, and the log says which assertions and decisions it was. A dry run does all of it and takes it back,
so what it says is what would happen.

Not protected against: copies. Backups, files that were delivered, and what advertisers learned are as before.
"""

from collections import Counter
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.assertions import NO_TIME, Terms
from purposematch.protocol.errors import InputError, IntegrityError
from purposematch.protocol.evidence_bytes import EvidenceColumns, evidence_bytes
from purposematch.protocol.gate import decide
from purposematch.protocol.log.tree import string_leaf_hashes
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import Origin, Status
from purposematch.server.enroll import Brought, deliver
from purposematch.server.platform import Platform
from purposematch.server.registry import assertions_for_gate, ledger, load_digests, log
from purposematch.server.registry.audiences import AudienceName, audience_changes, memberships
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.columns import naming
from purposematch.server.registry.erasing import decisions_of, erase_assertions, erase_decisions
from purposematch.server.registry.erasures import next_erasure, suppressing
from purposematch.server.registry.members import DamagedMembersError
from purposematch.server.registry.rows import KEYED_DIGEST, Rows, keyed_array
from purposematch.server.registry.schema import (
    delivery,
    erasure,
    evidence,
    evidence_batch,
)
from purposematch.server.registry.terms_rows import load_terms
from purposematch.server.times import iso

__all__ = ["SUPPRESSION_SOURCE", "Erased", "erase"]

SUPPRESSION_SOURCE: Final = "erasure"
"""The source of the objections that erasures leave."""

_NOTHING: Final = (
    "nothing is stored of it that could be erased; if it is to be refused when it comes, use object"
)


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did, or would do.

    Attributes:
        erasure: its number, None for a dry run and where everything was erased before.
        erased_at: when, microseconds since 1970-01-01 UTC; None as above.
        log_leaf: the position of its event in the log; None as above.
        subjects: people of whom something was erased.
        assertions: assertions that say nothing any more.
        decisions: decisions of the gate, likewise.
        evidence: signatures and salts of evidence.
        pairs: (subject, identifier) pairs that were permitted, anybody's, and are not any more.
        suppressed: keyed digests that are on the suppression list because of it, in hexadecimal.
        suppressed_before: how many of its identifiers were on the list before.
        memberships: memberships of audiences that name one of the assertions, by its number.
        audiences: which audiences these are.
        by_identifier_alone: refusals of its identifiers that name nobody, which stay.
    """

    erasure: int | None = None
    erased_at: int | None = None
    log_leaf: int | None = None
    subjects: int = 0
    assertions: int = 0
    decisions: int = 0
    evidence: int = 0
    pairs: int = 0
    suppressed: tuple[str, ...] = ()
    suppressed_before: int = 0
    memberships: int = 0
    audiences: tuple[AudienceName, ...] = ()
    by_identifier_alone: int = 0

    def to_mapping(self) -> dict[str, object]:
        """The stable document of `erase --json`, without what the command adds."""
        return {
            "erasure": self.erasure,
            "erased_at": None if self.erased_at is None else iso(self.erased_at),
            "log_leaf": self.log_leaf,
            "subjects": self.subjects,
            "assertions": self.assertions,
            "decisions": self.decisions,
            "evidence": self.evidence,
            "pairs": self.pairs,
            "remains": self.remains(),
        }

    def remains(self) -> list[dict[str, object]]:
        """What is left, how much of it, and why."""
        return [
            {
                "what": "suppression list",
                "count": len(self.suppressed) + self.suppressed_before,
                "identifiers": list(self.suppressed),
                "why": "keyed digests, so that these identifiers are refused when they come again: the gate "
                "treats each as an objection, for everybody",
            },
            {
                "what": "commitments in the log",
                "count": self.assertions + self.decisions,
                "why": "so that anybody can check that nothing else was changed; without their salts, which "
                "are destroyed, they tell nothing",
            },
            {
                "what": "terms of assertions, reasons and times of decisions",
                "count": self.assertions + self.decisions,
                "why": "so that counts and the log still add up; nobody is named",
            },
            {
                "what": "memberships of audiences",
                "count": self.memberships,
                "audiences": [each.to_mapping() for each in self.audiences],
                "why": "the number of an assertion that says nothing any more, so that the log still adds "
                "up; it leads to nobody, and activates nobody",
            },
            {
                "what": "refusals by identifier alone",
                "count": self.by_identifier_alone,
                "why": "a keyed digest and what is refused, for everybody who has the identifier; they name "
                "nobody",
            },
        ]


class _Rehearsed(Exception):
    """Takes a dry run back, and carries what it found."""

    def __init__(self, result: Erased) -> None:
        super().__init__()
        self.result = result


def erase(platform: Platform, subject: str | None, keys: list[bytes], *, apply: bool) -> Erased:
    """Erases what is stored of a subject, or of an identifier whoever had it.

    Args:
        platform: the open platform.
        subject: the person; everything of them, all identifiers included.
        keys: if `subject` is None, the keyed digests of the identifier in all spellings: everything that
            names one of them. Other identifiers of the same people stay.
        apply: do it; else nothing is stored.

    Raises:
        InputError: nothing is stored of it.
        PolicyError: the policy file is refused.
        IntegrityError: what is stored of it is damaged.
    """
    policy = platform.policy()
    try:
        with platform.registry.writing() as connection:
            result = _erase(connection, platform, policy, subject, keys)
            if not apply:
                raise _Rehearsed(replace(result, erasure=None, erased_at=None, log_leaf=None))
    except _Rehearsed as rehearsed:
        return rehearsed.result
    return result


def _erase(
    connection: Connection, platform: Platform, policy: Policy, subject: str | None, keys: list[bytes]
) -> Erased:
    now = platform.clock()
    listed = _listed(connection)
    ids = _meant(connection, subject, keys, listed)
    _, entries = load_chunks(connection, listed)
    before = set(entries["identifier"].to_pylist())
    if not len(ids):
        if before.isdisjoint(keys):
            raise InputError(_NOTHING)
        return Erased(suppressed_before=len(before & set(keys)))

    said = load_chunks(connection, ids)[1]
    kinds = _spelled(said)
    new = {keyed: kind for keyed, kind in kinds.items() if keyed not in before}
    touching = np.setdiff1d(naming(connection, [], list(kinds)), listed)
    decisions = decisions_of(connection, ids)
    leaves, evident = _evidence(connection, platform, ids)
    people = said["subject"].drop_null().unique()
    pairs = _permitted(connection, platform, policy, list(kinds), now)
    left = load_chunks(connection, np.setdiff1d(touching, ids))[1]

    number = next_erasure(connection)
    erase_assertions(connection, platform.registry.sealing_key, number, ids, leaves)
    erase_decisions(connection, number, decisions)
    objections = _object(connection, platform, policy, new, now) if new else None
    row = {"id": number, "erased_at": now, "objections": objections, "leaf": log.size(connection)}
    connection.execute(erasure.insert(), row)
    ledger.record_erasure(connection, number, platform.random_bytes)
    memberships = _memberships(connection, ids)
    return Erased(
        erasure=number,
        erased_at=now,
        log_leaf=log.size(connection) - 1,
        subjects=len(people),
        assertions=len(ids),
        decisions=len(decisions),
        evidence=evident,
        pairs=pairs,
        suppressed=tuple(keyed.hex() for keyed in sorted(new)),
        suppressed_before=len(kinds) - len(new),
        memberships=sum(memberships.values()),
        audiences=tuple(sorted(memberships)),
        by_identifier_alone=left["subject"].null_count,
    )


def _listed(connection: Connection) -> NDArray[np.int64]:
    """The assertions that are the suppression list, ascending ids."""
    parts = [np.arange(each.assertions.start, each.assertions.stop) for each in suppressing(connection)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _meant(
    connection: Connection, subject: str | None, keys: list[bytes], listed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The assertions that are to be erased, ascending ids; never those of the suppression list."""
    if subject is not None:
        return naming(connection, [subject], [])
    found, wanted = np.zeros(0, np.int64), set(keys)
    # Whoever spelled the same value otherwise had the same identifier: a pair is erased whole or not at all.
    while True:
        ids = np.setdiff1d(naming(connection, [], wanted), listed)
        if len(ids) == len(found):
            return ids
        found = ids
        wanted.update(load_chunks(connection, ids)[1]["identifier"].drop_null().to_pylist())


def _spelled(said: pa.RecordBatch) -> dict[bytes, int]:
    """Every identifier that assertions name, in every spelling, and its kind."""
    rows = zip(*(said[name].to_pylist() for name in ("identifier", "others", "kind")), strict=True)
    return {
        keyed: kind
        for identifier, others, kind in rows
        for keyed in ([] if identifier is None else [identifier, *others])
    }


def _permitted(
    connection: Connection, platform: Platform, policy: Policy, keys: list[bytes], now: int
) -> int:
    """How many pairs are permitted whose identifier is one of `keys` in some spelling."""
    given = assertions_for_gate(connection, keys)
    permitted = decide(given.assertions, policy, platform.taxonomy, now).permitted()
    named = load_chunks(connection, naming(connection, [], keys))[1]["identifier"].drop_null()
    touched = set(named.to_pylist())
    identifiers = given.identifiers.take(pa.array(permitted.identifier)).to_pylist()
    return sum(identifier in touched for identifier in identifiers)


def _object(
    connection: Connection, platform: Platform, policy: Policy, keys: dict[bytes, int], now: int
) -> int | None:
    """Stores the entries of the suppression list, and returns their delivery."""
    count = len(keys)
    keyed = np.frombuffer(b"".join(keys), np.uint8).reshape(count, -1)
    rows = Rows(
        subject=pa.nulls(count, pa.string()),
        identifier=keyed_array(keyed),
        kind=np.array(list(keys.values()), np.uint8),
        terms=np.zeros(count, np.int64),
        not_before=np.full(count, NO_TIME),
        expires_at=np.full(count, NO_TIME),
        flaw=np.zeros(count, np.uint8),
        evidence=np.zeros(count, np.uint8),
        spelled=np.zeros(0, np.int64),
        others=pa.array([], KEYED_DIGEST),
    )
    # Without a purpose it refuses every use.
    terms = [Terms((), Origin.UNKNOWN, Status.OBJECTED, SUPPRESSION_SOURCE)]
    notice, digests = pa.nulls(count, pa.string()), np.zeros((count, 32), np.uint8)
    brought = Brought(SUPPRESSION_SOURCE, sha256(keyed.tobytes()).digest(), rows, terms, notice, digests)
    registry, random_bytes = platform.registry, platform.random_bytes
    return deliver(connection, registry, policy, platform.taxonomy, brought, now, random_bytes).delivery


def _evidence(
    connection: Connection, platform: Platform, ids: NDArray[np.int64]
) -> tuple[dict[int, bytes], int]:
    """The leaf hashes of evidence that a batch's signature covers, and how much evidence there is at all."""
    table, terms_ids = load_terms(connection)
    batches = {
        id_: row
        for row in connection.execute(
            select(delivery.c.first_assertion, delivery.c.assertions, evidence_batch.c.issuer).join(
                evidence_batch, evidence_batch.c.delivery == delivery.c.id
            )
        )
        for id_ in ids[(ids >= row.first_assertion) & (ids < row.first_assertion + row.assertions)].tolist()
    }
    leaves, found = {}, 0
    for id_ in ids.tolist():
        row = connection.execute(select(evidence).where(evidence.c.assertion == id_)).one_or_none()
        found += row is not None
        if row is None or row.signature is not None or id_ not in batches:
            continue
        said = load_chunks(connection, np.array([id_]))[1]
        terms = table[int(np.searchsorted(terms_ids, said["terms"][0].as_py()))]
        about = EvidenceColumns(
            subject=said["subject"].fill_null(""),
            kind=said["kind"].to_numpy(),
            digests=load_digests(connection, platform.registry.sealing_key, np.array([id_])),
            terms=np.zeros(1, np.int64),
            terms_table=[terms],
            notice=said["notice"].fill_null(""),
            collected_at=np.array([row.collected_at], np.int64),
            salts=np.frombuffer(row.salt, np.uint8).reshape(1, -1),
        )
        messages = evidence_bytes(platform.config.platform_id, platform.registry.profile, about)
        if terms.issuer == batches[id_].issuer and not messages.null_count:
            leaves[id_] = string_leaf_hashes(messages).tobytes()
    return leaves, found


def _memberships(connection: Connection, ids: NDArray[np.int64]) -> Counter[AudienceName]:
    """How many memberships of which audiences name one of the assertions.

    Raises:
        IntegrityError: members of an audience, of this one or another, are damaged, so that nobody can say;
            the text says how to go on.
    """
    changes = audience_changes(connection)
    of = {each.session: each.of for each in changes}
    try:
        return Counter(of[session] for session, _ in memberships(connection, ids.tolist()))
    except DamagedMembersError as error:
        (damaged,) = (each.of for each in changes if each.number == error.change)
        partner = f" --partner {damaged.partner}" if damaged.partner else ""
        raise IntegrityError(
            f"{error}, so nobody can say whether the person is among them, and nothing was erased; restore "
            f"a backup, or delete them with `audience expire {damaged.name} --advertiser "
            f"{damaged.advertiser}{partner}`, and erase then"
        ) from error
