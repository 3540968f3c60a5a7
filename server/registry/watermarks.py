"""How far the registry has come: the latest assertion and the latest decision.

Ids grow in the order of receipt, so one number says what a generation or a decision covers.

Not protected against: ids of a transaction that is still open; readers see what was committed.
"""

from typing import Final

from sqlalchemy import Connection, func, select

from purposematch.server.registry.schema import decision, delivery

__all__ = ["highest_assertion", "highest_decision", "most_of_all"]

_MANY: Final = 8
"""Above one in this many of all assertions, loading everything is quicker than asking about each."""


def highest_assertion(connection: Connection) -> int:
    """The id of the latest assertion, 0 if there is none: the watermark of what can be decided now."""
    last = select(delivery.c.first_assertion + delivery.c.assertions - 1).order_by(delivery.c.id.desc())
    return connection.scalar(last.limit(1)) or 0


def highest_decision(connection: Connection) -> int:
    """The id of the latest decision, 0 if there is none."""
    return connection.scalar(select(func.max(decision.c.id))) or 0


def most_of_all(connection: Connection, asked: int) -> bool:
    """Whether `asked` identifiers or assertions are so many that everything is better loaded at once."""
    return asked * _MANY > highest_assertion(connection)
