"""The audit of exchanges: those under way are what their batches were, and attempts are as many as can be.

The rows of set exchanges are in no event of the log but by the batches of own elements, since they go when a
session ends. Attempts by VOLE are in none but by those that were paid for.

Not protected against: marks that were altered and kept their number. They make the lists meet elsewhere, and
then the canaries do not, or a few matches are missing: the audience that follows is in the log. Nor against
another number of unpaid attempts, within what there can be.
"""

from sqlalchemy import Connection, Row, case, func, not_, select

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.set_exchange.points import MARK_LENGTH
from purposematch.server.one_shot_matching import MAX_ATTEMPTS
from purposematch.server.platform import Platform
from purposematch.server.point_lists import list_of
from purposematch.server.registry.exchanges import Side
from purposematch.server.registry.schema import agreement, batch, exchange, exchange_part, session
from purposematch.server.registry.sessions import SessionState

__all__ = ["audit_exchanges"]


def audit_exchanges(platform: Platform, connection: Connection) -> None:
    """Checks every set exchange that is under way, and the attempts of all sessions.

    Args:
        platform: the open platform.
        connection: a snapshot, whose rows are of the right types.

    Raises:
        IntegrityError: one is not what its session and its batches say; the text names it.
    """
    _check_attempts(connection)
    known: dict[str, tuple[int, ...]] = {}
    question = (
        select(exchange, session.c.state, session.c.generation, agreement.c.content)
        .outerjoin(session, session.c.id == exchange.c.session)
        .outerjoin(agreement, agreement.c.digest == session.c.agreement)
    )
    for row in connection.execute(question.order_by(exchange.c.session)):
        name = None if row.content is None else list_of(Agreement.decode(row.content))
        if row.state != SessionState.OPEN or name is None:
            raise IntegrityError(f"table exchange row {row.session} is of no open session of its kind")
        manifest = Manifest.open(platform.store.document(row.generation), platform.identity_key)
        known[row.session] = tuple(segment.count for segment in manifest.point_lists.get(name, ()))
        here, own = exchange_part.c.session == row.session, exchange_part.c.side == int(Side.OWN)
        parts = connection.scalar(select(func.count()).select_from(exchange_part).where(here, own))
        batches = connection.scalar(select(func.count()).where(batch.c.session == row.session))
        if parts != batches:
            raise IntegrityError(f"table exchange_part lacks rows of session {row.session}")
        if (row.exponent is None) != (batches == 0):
            raise IntegrityError(f"table exchange row {row.session} has an exponent too few or too many")
    kept = (
        select(exchange_part, batch.c.sha256.label("batch_sha256"), batch.c.elements.label("batch_elements"))
        .outerjoin(
            batch, (batch.c.session == exchange_part.c.session) & (batch.c.number == exchange_part.c.number)
        )
        .order_by(exchange_part.c.session, exchange_part.c.side, exchange_part.c.number)
    )
    for part in connection.execute(kept):
        _check_part(part, known.get(part.session))


def _check_part(part: Row[tuple[object, ...]], segments: tuple[int, ...] | None) -> None:
    where = f"table exchange_part row {part.session} {part.side} {part.number}"
    if segments is None:
        raise IntegrityError(f"{where} is of no set exchange")
    if part.side == Side.OWN:
        fits = (part.sha256, part.elements) == (part.batch_sha256, part.batch_elements)
    else:
        there = part.side == Side.RETURNED and 0 <= part.number < len(segments)
        fits = there and part.elements == segments[part.number]
    if not fits or len(part.marks) != part.elements * MARK_LENGTH:
        raise IntegrityError(f"{where} is not what its batch was")


def _check_attempts(connection: Connection) -> None:
    """By VOLE a session has at least the attempts that were paid for, and at most all that it may have."""
    paid = select(func.count()).where(batch.c.session == session.c.id).scalar_subquery()
    possible = case(
        (session.c.engine.is_(None), session.c.attempts == 0),
        else_=session.c.attempts.between(paid, MAX_ATTEMPTS),
    )
    wrong = connection.scalar(select(session.c.id).where(not_(possible)).order_by(session.c.id).limit(1))
    if wrong is not None:
        raise IntegrityError(f"table session row {wrong} has a number of attempts that it can not have had")
