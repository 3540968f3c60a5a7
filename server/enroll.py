"""Enrolls a file of assertions: reads it, passes it through the gate, and stores all of it or nothing.

Source: docs/gate.md. Every row is stored, refused ones too, with its reason: that is what makes
"why is this person not in it" answerable. The gate sees a file's rows together with every stored
assertion that touches them, so a withdrawal acts on what was enrolled years before, and the other way round.

Memory: about 700 bytes a row, because the gate decides on the whole file; raw values are kept for one
batch of at most 65,536 rows only.

Not protected against: a source that lies about purpose or origin.
"""

import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection

from purposematch.protocol.assertions import Terms
from purposematch.protocol.errors import InputError, RefusedError
from purposematch.protocol.evidence import BatchEvidence
from purposematch.protocol.gate import decide
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.policy import DEFAULT_SOURCE, Policy
from purposematch.protocol.policy_values import SOURCE_NAME_FORM, is_source_name
from purposematch.protocol.purpose import Reason, Taxonomy
from purposematch.server.evidence_columns import EvidenceReader
from purposematch.server.registry import (
    Delivery,
    GateInput,
    Registry,
    find_request,
    highest_assertion,
    ledger,
    most_of_all,
    record_decisions,
    store_delivery,
)
from purposematch.server.registry.evidence import EvidenceRows, store_batch_evidence, store_evidence
from purposematch.server.registry.gate_input import gate_input
from purposematch.server.registry.keyed import file_digest
from purposematch.server.registry.load import Stored, load_stored
from purposematch.server.registry.mentions import store_mentions
from purposematch.server.registry.rows import Rows, concat_rows
from purposematch.server.registry.terms_rows import store_terms
from purposematch.server.statements import COLUMNS, OPTIONAL_COLUMNS, Reader, Statements
from purposematch.tables import Table, require_columns

__all__ = ["Brought", "EnrollReport", "Enrollment", "deliver", "enroll"]


@dataclass(frozen=True)
class EnrollReport:
    """What became of the rows of a file: read = enrolled + the sum of refused.

    Attributes:
        read: rows in the file.
        enrolled: rows that permit.
        refused: rows by the reason that refused them, in the order of the rules; no zeros.
        delivery: `delivery.id` under which they are stored, None if there was no row.
    """

    read: int
    enrolled: int
    refused: dict[Reason, int]
    delivery: int | None = None

    def to_mapping(self) -> dict[str, object]:
        """The stable document of ``enroll --json``."""
        refused = {reason.name: count for reason, count in self.refused.items()}
        return {"read": self.read, "enrolled": self.enrolled, "refused": refused}

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any], delivery: int) -> Self:
        """What `to_mapping` gave, read back from the registry."""
        refused = {Reason[name]: count for name, count in document["refused"].items()}
        return cls(document["read"], document["enrolled"], refused, delivery)


@dataclass(frozen=True, eq=False)
class Brought:
    """What a delivery of n rows brings, before it is judged.

    Attributes:
        source: the named system that delivers it.
        sha256: of the file, 32 bytes.
        rows: the assertions; `terms` are positions in `terms`, and `evidence` is concluded.
        terms: the distinct terms.
        notice: (n,) strings, null where none was given.
        digests: (n, 32) uint8 under the scope's profile, zeros where there is none.
        evidence: what is to be stored of it.
        batch: the evidence that came for the whole file, if any did.
        request: the id that the source gave the delivery, 16 bytes, if any.
    """

    source: str
    sha256: bytes
    rows: Rows
    terms: list[Terms]
    notice: pa.StringArray
    digests: NDArray[np.uint8] = field(repr=False)
    evidence: list[EvidenceRows] = field(default_factory=list)
    batch: BatchEvidence | None = None
    request: bytes | None = None


class Enrollment:
    """One delivery on its way in: read batch by batch, then stored whole or not at all.

    Args:
        registry: where to.
        policy: what opens the gate.
        taxonomy: what `policy` was loaded with.
        platform_id: of this platform; evidence is made for one platform.
        name: what to call the delivery in texts for people.
        source: the named system that delivers it.
        region: two-letter country code of phones without `+`.
        evidence: one signature over the rows that have a salt and no signature of their own.

    Raises:
        InputError: `source` can not be the name of one.
    """

    def __init__(
        self,
        registry: Registry,
        policy: Policy,
        taxonomy: Taxonomy,
        *,
        platform_id: str,
        name: str,
        source: str,
        region: str | None,
        evidence: BatchEvidence | None,
    ) -> None:
        if not is_source_name(source):
            raise InputError(SOURCE_NAME_FORM)
        self._registry = registry
        self._policy = policy
        self._taxonomy = taxonomy
        self._source = source
        self._evidence = evidence
        self._judge = EvidenceReader(platform_id, registry.profile, policy.issuers, evidence)
        self._reader = Reader(name, source, registry.profile, region, registry.identifier_key, self._judge)
        self._statements: list[Statements] = []

    def read(self, batch: pa.RecordBatch) -> None:
        """Takes the next rows: all of `COLUMNS`, and any of `OPTIONAL_COLUMNS`.

        Raises:
            TableError: a column cannot be read as text.
            InputError: a refusal whose subject and identifier can not be read, or an unknown region.
        """
        self._statements.append(self._reader.read(batch))

    def store(
        self,
        sha256: Callable[[], bytes],
        clock: Callable[[], int],
        random_bytes: RandomBytes,
        request: bytes | None = None,
    ) -> EnrollReport:
        """Judges and stores what was read, in one transaction; afterwards this object is of no use.

        Args:
            sha256: gives the digest of what was delivered, 32 bytes.
            clock: microseconds since 1970-01-01 UTC; asked once, for the time of receipt.
            random_bytes: where the salts of the log come from.
            request: the id that the source gave the delivery, 16 bytes; what was stored under it before is
                answered again.

        Raises:
            RefusedError: something else was stored under the same id.
            UnavailableError: the registry cannot be written now. After any error nothing is stored.
        """
        if not self._statements:
            return EnrollReport(0, 0, {})
        rows = concat_rows([each.rows for each in self._statements])
        notice = pa.concat_arrays([each.notice for each in self._statements])
        digests = np.concatenate([each.digests for each in self._statements])
        self._statements.clear()
        digest, terms = sha256(), self._reader.terms
        with self._registry.writing() as connection:
            if request is not None:
                # Asked in the transaction that stores: the first attempt may have ended only now.
                known = find_request(connection, self._source, request)
                if known is not None:
                    return _answered(known, file_digest(self._registry.identifier_key, digest))
            now = clock()
            outcome, evidence_rows = self._judge.conclude(rows.terms, terms, now)
            rows = replace(rows, evidence=outcome)
            brought = Brought(
                *(self._source, digest, rows, terms, notice, digests, evidence_rows, self._evidence, request)
            )
            return deliver(
                connection, self._registry, self._policy, self._taxonomy, brought, now, random_bytes
            )


def enroll(
    table: Table,
    registry: Registry,
    policy: Policy,
    taxonomy: Taxonomy,
    clock: Callable[[], int],
    *,
    platform_id: str,
    source: str = DEFAULT_SOURCE,
    region: str | None = None,
    evidence: BatchEvidence | None = None,
    request: bytes | None = None,
    progress: Callable[[int], object] | None = None,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> EnrollReport:
    """Enrolls the rows of `table`, in one transaction.

    Args:
        table: the file.
        registry: where to, and the rest as `Enrollment` takes it.
        policy: what opens the gate.
        taxonomy: what `policy` was loaded with.
        clock: microseconds since 1970-01-01 UTC; asked once, for the time of receipt.
        platform_id: of this platform.
        source: the named system that delivers the file.
        region: two-letter country code of phones without `+`.
        evidence: one signature over the rows that have a salt and no signature of their own.
        request: the id that the source gave the delivery, see `Enrollment.store`.
        progress: called with the number of bytes of the file consumed since the last call.
        random_bytes: where the salts of the log come from.

    Raises:
        TableError: the file cannot be read, or lacks a column.
        InputError: a refusal whose subject and identifier can not be read, an unknown region, or a source
            that can not be one.
        RefusedError: something else was stored under the same id.
        UnavailableError: the registry cannot be written now. After any error nothing is stored.
    """
    require_columns(table, COLUMNS)
    enrollment = Enrollment(
        registry,
        policy,
        taxonomy,
        platform_id=platform_id,
        name=table.name,
        source=source,
        region=region,
        evidence=evidence,
    )
    wanted = [*COLUMNS, *(name for name in OPTIONAL_COLUMNS if name in table.columns)]
    with closing(table.batches(wanted, advance=progress)) as batches:
        for batch in batches:
            enrollment.read(batch)

    def digest() -> bytes:
        content = bytes.fromhex(table.sha256)
        # In another region the same cells name other people, so they are not the same delivery again.
        return content if request is None else sha256(content + (region or "").encode()).digest()

    return enrollment.store(digest, clock, random_bytes, request)


def deliver(
    connection: Connection,
    registry: Registry,
    policy: Policy,
    taxonomy: Taxonomy,
    brought: Brought,
    now: int,
    random_bytes: RandomBytes,
) -> EnrollReport:
    """Passes a delivery through the gate, together with all that touches it, and stores and logs it.

    Args:
        connection: a transaction that writes.
        registry: whose transaction it is.
        policy: what opens the gate.
        taxonomy: what `policy` was loaded with.
        brought: the delivery, of at least one row.
        now: the time of receipt, microseconds since 1970-01-01 UTC.
        random_bytes: where the salts of the log come from.
    """
    # Leaving, the pool is waited for first: nobody uses the connection after its transaction.
    with ThreadPoolExecutor(1) as beside:
        terms_table, terms_ids = store_terms(connection, brought.terms)
        at = {terms: position for position, terms in enumerate(terms_table)}
        positions = np.array([at[terms] for terms in brought.terms], np.int64)
        rows = replace(brought.rows, terms=positions[brought.rows.terms])
        first = highest_assertion(connection) + 1
        stored = _touching(connection, rows, first)
        # These are about the rows alone, and nothing else uses the connection until they are written.
        index = beside.submit(_index, connection, first, rows, brought.evidence)
        given = _behind(stored, rows, terms_table, terms_ids, first, now)
        decisions = decide(given.assertions, policy, taxonomy, now)
        reasons = decisions.rows[len(given.ids) - len(rows) :]
        report = _report(reasons)
        index.result()
        about = Delivery(
            source=brought.source,
            file_digest=file_digest(registry.identifier_key, brought.sha256),
            received_at=now,
            first_assertion=first,
            policy=ledger.record_policy(connection, policy, now, random_bytes),
            report=json.dumps(report.to_mapping()),
            request=brought.request,
        )
        number = store_delivery(
            connection,
            registry.sealing_key,
            about,
            replace(rows, terms=terms_ids[rows.terms]),
            brought.notice,
            brought.digests,
            reasons,
        )
        if brought.batch is not None:
            store_batch_evidence(connection, number, brought.batch)
        changed = record_decisions(connection, given, decisions, about.policy, now, random_bytes)
        ledger.record_delivery(connection, number, changed, random_bytes)
    return replace(report, delivery=number)


def _answered(known: tuple[int, bytes, str], digest: bytes) -> EnrollReport:
    """The report that was stored with the same delivery before."""
    number, stored, report = known
    if not hmac.compare_digest(stored, digest):
        raise RefusedError("another delivery came under this id before; give every delivery an id of its own")
    return EnrollReport.from_mapping(json.loads(report), number)


def _index(connection: Connection, first: int, rows: Rows, evidence_rows: Sequence[EvidenceRows]) -> None:
    store_mentions(connection, first, rows)
    store_evidence(connection, first, evidence_rows)


def _touching(connection: Connection, new: Rows, first: int) -> Stored | None:
    """Every stored assertion that touches the new ones, or None if nothing is stored yet."""
    if first == 1:
        return None
    if most_of_all(connection, len(new)):
        return load_stored(connection, None)
    keys = pa.concat_arrays([new.identifier.drop_null(), new.others])
    return load_stored(connection, keys.to_pylist(), new.subject.drop_null().to_pylist())


def _behind(
    stored: Stored | None,
    new: Rows,
    terms_table: list[Terms],
    terms_ids: NDArray[np.int64],
    first: int,
    now: int,
) -> GateInput:
    """The new rows behind the stored ones."""
    ids = np.arange(first, first + len(new), dtype=np.int64)
    received_at = np.full(len(new), now, np.int64)
    reasons = np.zeros(len(new), np.uint8)
    policies = np.zeros(len(new), np.int64)
    if stored is not None:
        earlier = replace(stored.rows, terms=np.searchsorted(terms_ids, stored.rows.terms))
        new = concat_rows([earlier, new])
        ids = np.concatenate([stored.ids, ids])
        received_at = np.concatenate([stored.received_at, received_at])
        reasons = np.concatenate([stored.reasons, reasons])
        policies = np.concatenate([stored.policies, policies])
    return gate_input(new, terms_table, ids=ids, received_at=received_at, reasons=reasons, policies=policies)


def _report(reasons: NDArray[np.uint8]) -> EnrollReport:
    counts = np.bincount(reasons, minlength=len(Reason))
    refused = {reason: int(counts[reason]) for reason in Reason if counts[reason] and reason}
    return EnrollReport(len(reasons), int(counts[Reason.PERMITTED]), refused)
