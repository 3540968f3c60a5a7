"""What a legal entity may agree on: either exact or noisy disclosures for a purpose, partners included.

Who knows which rows match can take the noise off a count of them. So an agreement of one kind is refused
while the legal entity, or the advertiser itself, has one of the other kind in force, and also while it holds
results of the other kind: as long as the key epoch is in service in which a session was opened under it. When
the epoch has ended, by age (30 days at most) or by `epoch rotate`, its tags match nothing any more.

And an advertiser keeps its legal entity as long as a noisy count that it asked for is in that one's budget:
with another name it would have a second budget for the same questions.

Not protected against: an operator who names one legal entity by two names, and what an advertiser remembers
of an epoch that ended: who matched then may well match now.
"""

from sqlalchemy import Connection, select

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.errors import RefusedError
from purposematch.server.registry.agreements import agreements_in_force, all_agreements
from purposematch.server.registry.budget import LONGEST_WINDOW
from purposematch.server.registry.generations import latest_generation
from purposematch.server.registry.schema import generation, release, session
from purposematch.server.times import moment

__all__ = ["check_entity"]


def check_entity(connection: Connection, agreement: Agreement, now: int) -> None:
    """Refuses an agreement that would give a legal entity exact and noisy results for one purpose, or an
    advertiser a second budget.

    Args:
        connection: to the registry; the transaction that stores the agreement, where one does.
        agreement: what is to come into force in the place of what the advertiser has now.
        now: microseconds since 1970.

    Raises:
        RefusedError: it would; the text says why, and what to do.
    """
    _check_paid_by(connection, agreement, now)
    held = _matched_in_epoch(connection)
    in_force = {each.digest for each in agreements_in_force(connection, now)}
    for stored in all_agreements(connection):
        other = stored.agreement
        related = other.legal_entity == agreement.legal_entity or other.advertiser == agreement.advertiser
        mixed = other.disclosure.noisy != agreement.disclosure.noisy
        if not related or not mixed or other.purpose != agreement.purpose:
            continue
        named = (
            f"agreement {other.number} with {other.advertiser} (legal entity {other.legal_entity}, "
            f"disclosure {other.disclosure})"
        )
        rule = "a legal entity has either exact or noisy disclosures for a purpose"
        if other.digest in in_force and other.advertiser != agreement.advertiser:
            raise RefusedError(f"{rule}, and {named} is in force; end that one first")
        if other.digest in held:
            raise RefusedError(
                f"{rule}, and {named} was used in the key epoch that is in service, so that results of it "
                "are held; wait until the epoch has ended, or end it with purposematch-platform epoch rotate"
            )


def _check_paid_by(connection: Connection, agreement: Agreement, now: int) -> None:
    """Checks that nobody else pays for what this advertiser asked before, as long as it counts."""
    question = (
        select(release.c.legal_entity, release.c.released_at)
        .join(session, session.c.id == release.c.session)
        .where(
            session.c.advertiser == agreement.advertiser,
            release.c.legal_entity != agreement.legal_entity,
            release.c.released_at > now - LONGEST_WINDOW,
        )
    )
    row = connection.execute(question.order_by(release.c.released_at.desc()).limit(1)).one_or_none()
    if row is not None:
        raise RefusedError(
            f"legal entity {row.legal_entity} has paid for noisy counts of {agreement.advertiser}, which are "
            f"in its budget until {moment(row.released_at + LONGEST_WINDOW):%Y-%m-%d}: name that one, or "
            "admit another advertiser"
        )


def _matched_in_epoch(connection: Connection) -> set[bytes]:
    """Digests of the agreements under which a session was opened in the epoch of the latest generation."""
    latest = latest_generation(connection)
    if latest is None:
        return set()
    question = (
        select(session.c.agreement)
        .join(generation, generation.c.id == session.c.generation)
        .where(generation.c.epoch == latest.epoch)
        .distinct()
    )
    return set(connection.execute(question).scalars())
