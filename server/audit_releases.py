"""The audit of noisy counts: each was signed, and paid as the agreement of its session says.

That the rows are those of the log was checked before. This shows that nothing was told for less than was
agreed on, or charged to somebody else.

Not protected against: a value that was told with less noise than its report says. Nobody sees that in one
number; the code that samples is what stands for it.
"""

from sqlalchemy import Connection, select

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.errors import IntegrityError, PeerError
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.protocol.signing import SignedDocument
from purposematch.server.registry.schema import agreement, policy, release, session

__all__ = ["audit_releases"]


def audit_releases(connection: Connection, identity_key: bytes) -> None:
    """Checks every noisy count that was told.

    Args:
        connection: a snapshot, whose rows are of the right types.
        identity_key: the platform's public identity key, 32 bytes.

    Raises:
        IntegrityError: one is not what its session and its agreement say; the text names it.
    """
    question = (
        select(
            release,
            policy.c.digest.label("policy_digest"),
            session.c.generation.label("asked"),
            session.c.elements,
            agreement.c.digest.label("agreement_digest"),
            agreement.c.content.label("terms"),
        )
        .join(policy, policy.c.id == release.c.policy)
        .join(session, session.c.id == release.c.session)
        .join(agreement, agreement.c.digest == session.c.agreement)
    )
    for row in connection.execute(question.order_by(release.c.id)):
        try:
            report = NoisyReport.open(SignedDocument(row.content, row.signature), identity_key)
            terms = Agreement.decode(row.terms)
            sensitivity = terms.sensitivity
        except PeerError as error:
            raise IntegrityError(f"table release row {row.id}: {error}") from None
        expected = NoisyReport(
            session=bytes.fromhex(row.session),
            agreement=row.agreement_digest,
            legal_entity=terms.legal_entity,
            label=row.label,
            generation=bytes.fromhex(row.asked),
            policy=row.policy_digest,
            disclosure=terms.disclosure,
            sensitivity=sensitivity,
            epsilon=terms.release_epsilon or 0,
            list_size=row.elements,
            value=report.value,
            released_at=row.released_at,
        )
        paid = (row.legal_entity, row.purpose, row.generation, row.disclosure, row.epsilon)
        agreed = (
            *(terms.legal_entity, terms.purpose, row.asked, terms.disclosure.value),
            terms.release_epsilon,
        )
        if report != expected or paid != agreed:
            raise IntegrityError(f"table release row {row.id} is not what its session and its agreement say")
