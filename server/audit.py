"""Verifies the whole chain: registry against log against generations, and the index against the gate.

Source: docs/log.md, *What can be verified, and by whom*. It needs the keys and reads everything; one snapshot
of the registry is compared, so that a platform may serve meanwhile.

Not protected against: a false row that was written together with its event. That is what evidence is for.
"""

from collections.abc import Collection
from dataclasses import dataclass

from purposematch.protocol.errors import IntegrityError, UnavailableError
from purposematch.server.audit_agreements import audit_agreements
from purposematch.server.audit_assertions import (
    audit_assertions,
    audit_chunks,
    audit_policies,
    audit_properties,
)
from purposematch.server.audit_audiences import audit_audiences
from purposematch.server.audit_evidence import audit_evidence
from purposematch.server.audit_exchanges import audit_exchanges
from purposematch.server.audit_generations import GenerationAudit
from purposematch.server.audit_log import audit_log
from purposematch.server.audit_releases import audit_releases
from purposematch.server.audit_replay import Replay
from purposematch.server.audit_types import audit_types
from purposematch.server.checkpoints import last_checkpoint
from purposematch.server.platform import Platform
from purposematch.server.registry.generations import latest_generation

__all__ = ["AuditReport", "audit"]


@dataclass(frozen=True)
class AuditReport:
    """How much was checked and found as it was logged.

    Attributes:
        leaves: of the log.
        signed_leaves: those under the last checkpoint that was signed.
        policies, deliveries, assertions, decisions, generations, corrections, erasures: rows.
        erased_assertions, erased_decisions: those whose openings were destroyed, exactly as logged.
        advertisers, sessions, commits: rows.
        releases: noisy counts that were told.
        audience_changes: sessions that changed an audience.
        audience_expiries: those of them whose members were deleted, exactly as logged.
        audience_exports: exports of audiences.
        queries: questions that operators asked.
        evidence: assertions whose evidence was verified again.
        generations_on_disk: generations whose files were checked.
        gates: those of them that the gate was asked about again.
        indexed: identifiers in their indexes.
    """

    leaves: int
    signed_leaves: int
    policies: int
    deliveries: int
    assertions: int
    decisions: int
    generations: int
    corrections: int
    erasures: int
    erased_assertions: int
    erased_decisions: int
    advertisers: int
    sessions: int
    commits: int
    releases: int
    audience_changes: int
    audience_expiries: int
    audience_exports: int
    queries: int
    evidence: int
    generations_on_disk: int
    gates: int
    indexed: int

    def to_mapping(self) -> dict[str, int]:
        """The stable document of ``audit --json``."""
        return dict(vars(self))


def audit(platform: Platform) -> AuditReport:
    """Verifies everything, and says how much that was.

    Raises:
        IntegrityError: something was altered, removed or added; the text names the first row or file.
        UnavailableError: a generation was published meanwhile and took files away; try again.
    """
    # Read first: a checkpoint that is signed while the audit runs may be of a longer log than its snapshot.
    last = last_checkpoint(platform)
    with platform.registry.reading() as connection:
        audit_types(connection)
        audit_properties(connection, platform.registry)
        leaves = audit_log(connection, last)
        audit_chunks(connection)
        replay = Replay(connection)
        replay.run()
        _no_destroyed_key(platform, replay.ended_epochs)
        policies = audit_policies(connection)
        audit_agreements(connection, platform.identity_key)
        audit_releases(connection, platform.identity_key)
        audit_audiences(connection)
        stored = audit_assertions(connection, platform.registry)
        evident = audit_evidence(platform, connection, policies)
        files = GenerationAudit(platform, connection, stored, policies)
        try:
            files.run()
        except IntegrityError:
            with platform.registry.reading() as now:
                if latest_generation(now) != latest_generation(connection):
                    raise UnavailableError(
                        "a generation was published meanwhile; run the audit again"
                    ) from None
            raise
        audit_exchanges(platform, connection)
    return AuditReport(
        leaves=leaves,
        signed_leaves=last.size,
        policies=replay.policies,
        deliveries=replay.deliveries,
        assertions=replay.assertions,
        decisions=replay.decisions,
        generations=replay.generations,
        corrections=replay.corrections,
        erasures=replay.erasures,
        erased_assertions=replay.erased_assertions,
        erased_decisions=replay.erased_decisions,
        advertisers=len(replay.advertisers),
        sessions=len(replay.sessions),
        commits=len(replay.commits),
        releases=replay.releases,
        audience_changes=replay.audiences.changes,
        audience_expiries=replay.audiences.ended,
        audience_exports=replay.audiences.exports,
        queries=replay.queries,
        evidence=evident,
        generations_on_disk=files.checked,
        gates=files.gates,
        indexed=files.indexed,
    )


def _no_destroyed_key(platform: Platform, ended: Collection[str]) -> None:
    for epoch in sorted(map(int, ended)):
        for path in (platform.data_dir.epoch_key(epoch), platform.data_dir.epoch_secret(epoch)):
            # An interrupted publication leaves zeros; they are removed with the next one.
            if path.exists() and path.read_bytes().strip(b"\0"):
                raise IntegrityError(f"file {path.name}: the log says that this key was destroyed")
