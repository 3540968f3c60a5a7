"""Set exchanges that are under way: what their batches came to, until their session ends.

A server process keeps none of this, so that any other one can take the next message of a session. Stored are
marks: 16 bytes of what an own element or a returned point came to, times the advertiser's secret, which tell
nobody anything who has neither side's secrets, and are gone with the session.

Not protected against: an operator who copies them meanwhile; it is the platform's own knowledge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from sqlalchemy import Connection, func, select

from purposematch.protocol.errors import StateError
from purposematch.protocol.group import Bytes
from purposematch.protocol.set_exchange.points import MARK_LENGTH
from purposematch.server.registry.schema import exchange, exchange_part

__all__ = [
    "Exchange",
    "Side",
    "add_exchange",
    "add_part",
    "demand_exchange",
    "drop_exchange",
    "find_exchange",
    "note_exponent",
    "part_digest",
    "part_digests",
    "part_marks",
]


class Side(IntEnum):
    """Whose elements a batch holds; the numbers are stored."""

    OWN = 0
    """The advertiser's own."""
    RETURNED = 1
    """The points of the platform's list."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The label of the list, 32 bytes, and A, 32 bytes, once it is known."""

    label: bytes
    exponent: bytes | None


def add_exchange(connection: Connection, session_id: str, label: bytes) -> None:
    """Records that a session, just added, is a set exchange."""
    connection.execute(exchange.insert().values(session=session_id, label=label))


def find_exchange(connection: Connection, session_id: str) -> Exchange | None:
    """The set exchange of an open session, or None."""
    row = connection.execute(select(exchange).where(exchange.c.session == session_id)).one_or_none()
    return None if row is None else Exchange(row.label, row.exponent)


def demand_exchange(connection: Connection, session_id: str) -> Exchange:
    """The same, which must be there.

    Raises:
        StateError: the session has none.
    """
    stored = find_exchange(connection, session_id)
    if stored is None:
        raise StateError("a message of a set exchange for another session", "an open set exchange")
    return stored


def note_exponent(connection: Connection, session_id: str, exponent: bytes) -> None:
    """Notes A, 32 bytes, which stays for the session."""
    connection.execute(
        exchange.update()
        .where(exchange.c.session == session_id, exchange.c.exponent.is_(None))
        .values(exponent=exponent)
    )


def part_digest(connection: Connection, session_id: str, side: Side, number: int) -> bytes | None:
    """The SHA-256 under which a batch is recorded, or None."""
    digest: bytes | None = connection.execute(
        select(exchange_part.c.sha256).where(
            exchange_part.c.session == session_id,
            exchange_part.c.side == int(side),
            exchange_part.c.number == number,
        )
    ).scalar_one_or_none()
    return digest


def add_part(
    connection: Connection, session_id: str, side: Side, number: int, sha256: bytes, marks: Bytes
) -> None:
    """Records what a batch came to, its marks (n, 16)."""
    connection.execute(
        exchange_part.insert().values(
            session=session_id,
            side=int(side),
            number=number,
            sha256=sha256,
            elements=len(marks),
            marks=marks.tobytes(),
        )
    )


def part_digests(connection: Connection, session_id: str, side: Side) -> list[bytes]:
    """The SHA-256 of all recorded batches of a side, by number."""
    question = select(exchange_part.c.sha256).where(
        exchange_part.c.session == session_id, exchange_part.c.side == int(side)
    )
    return list(connection.execute(question.order_by(exchange_part.c.number)).scalars())


def part_marks(connection: Connection, session_id: str, side: Side) -> Iterator[Bytes]:
    """The marks of all recorded batches of a side, (n, 16) each, by number; one of them at a time."""
    numbers = select(func.count()).where(
        exchange_part.c.session == session_id, exchange_part.c.side == int(side)
    )
    for number in range(connection.execute(numbers).scalar_one()):
        content = connection.execute(
            select(exchange_part.c.marks).where(
                exchange_part.c.session == session_id,
                exchange_part.c.side == int(side),
                exchange_part.c.number == number,
            )
        ).scalar_one()
        yield np.frombuffer(content, np.uint8).reshape(-1, MARK_LENGTH)


def drop_exchange(connection: Connection, session_id: str) -> None:
    """Removes everything that a session, which ends, has here."""
    connection.execute(exchange_part.delete().where(exchange_part.c.session == session_id))
    connection.execute(exchange.delete().where(exchange.c.session == session_id))
