"""Agreements that both sides signed, as rows: every one is kept, the latest of an advertiser counts.

Not protected against: an operator who edits the database; the audit finds it.
"""

from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Connection, Row, bindparam, func, select, tuple_, update

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.agreement_document import Acceptance, AgreementDocument
from purposematch.protocol.errors import RefusedError
from purposematch.protocol.leak_sheet import expiry_text
from purposematch.server.registry.schema import agreement

__all__ = [
    "StoredAgreement",
    "add_agreement",
    "agreement_in_force",
    "agreements_in_force",
    "agreements_of",
    "all_agreements",
    "end_agreement",
    "latest_agreement",
]


@dataclass(frozen=True, slots=True)
class StoredAgreement:
    """An agreement with both signatures, when it was recorded, and when the platform ended it, if it did.

    Times are microseconds since 1970.
    """

    document: AgreementDocument
    acceptance: Acceptance
    recorded_at: int
    ended_at: int | None

    @property
    def agreement(self) -> Agreement:
        """What was signed."""
        return self.document.agreement


def add_agreement(
    connection: Connection, document: AgreementDocument, acceptance: Acceptance, now: int
) -> None:
    """Records an agreement whose signatures were checked.

    Args:
        connection: a transaction that writes.
        document: the agreement.
        acceptance: the advertiser's half of it.
        now: microseconds since 1970.
    """
    terms = document.agreement
    connection.execute(
        agreement.insert().values(
            advertiser=terms.advertiser,
            number=terms.number,
            digest=terms.digest,
            content=terms.canonical_bytes(),
            platform_signature=document.platform_signature,
            advertiser_key=acceptance.key,
            advertiser_signature=acceptance.signature,
            recorded_at=now,
        )
    )


# Every call looks at one, and the same few are in force for months.
_decoded = lru_cache(256)(Agreement.decode)

_LATEST = (
    select(agreement)
    .where(agreement.c.advertiser == bindparam("advertiser"))
    .order_by(agreement.c.number.desc())
    .limit(1)
)


def latest_agreement(connection: Connection, name: str) -> StoredAgreement | None:
    """The agreement of an advertiser that replaced all others, in force or not; None if there is none."""
    row = connection.execute(_LATEST, {"advertiser": name}).one_or_none()
    return None if row is None else _stored(row)


def agreement_in_force(connection: Connection, name: str, now: int) -> Agreement:
    """The agreement that an advertiser may match under at the time `now`, microseconds since 1970.

    Raises:
        RefusedError: there is none, it was ended, or it has expired; the text may be told to the advertiser.
    """
    stored = latest_agreement(connection, name)
    if stored is None:
        raise RefusedError("no agreement is in force yet: send the accepted one to the platform")
    if stored.ended_at is not None:
        raise RefusedError(
            f"the platform has ended agreement {stored.agreement.number}: ask it for a new one"
        )
    if now >= stored.agreement.expires_at:
        raise RefusedError(
            f"agreement {stored.agreement.number} expired on {expiry_text(stored.agreement)}: "
            "ask the platform for a new one"
        )
    return stored.agreement


def agreements_in_force(connection: Connection, now: int) -> list[Agreement]:
    """What `agreement_in_force` answers for every advertiser that it does not refuse, by advertiser.

    Args:
        connection: to the registry.
        now: microseconds since 1970.
    """
    numbers = select(agreement.c.advertiser, func.max(agreement.c.number)).group_by(agreement.c.advertiser)
    newest = select(agreement).where(
        tuple_(agreement.c.advertiser, agreement.c.number).in_(numbers), agreement.c.ended_at.is_(None)
    )
    stored = [_stored(row).agreement for row in connection.execute(newest.order_by(agreement.c.advertiser))]
    return [each for each in stored if now < each.expires_at]


def agreements_of(connection: Connection, name: str) -> list[StoredAgreement]:
    """All agreements of an advertiser, in their order."""
    own = select(agreement).where(agreement.c.advertiser == name).order_by(agreement.c.number)
    return [_stored(row) for row in connection.execute(own)]


def all_agreements(connection: Connection) -> list[StoredAgreement]:
    """All agreements, by advertiser, in their order."""
    every = select(agreement).order_by(agreement.c.advertiser, agreement.c.number)
    return [_stored(row) for row in connection.execute(every)]


def end_agreement(connection: Connection, name: str, number: int, now: int) -> None:
    """Ends an agreement before its time."""
    connection.execute(
        update(agreement)
        .where(agreement.c.advertiser == name, agreement.c.number == number)
        .values(ended_at=now)
    )


def _stored(row: Row[tuple[object, ...]]) -> StoredAgreement:
    acceptance = Acceptance(row.advertiser_key, row.advertiser_signature)
    document = AgreementDocument(_decoded(row.content), row.platform_signature, acceptance)
    return StoredAgreement(document, acceptance, row.recorded_at, row.ended_at)
