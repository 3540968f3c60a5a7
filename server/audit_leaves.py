"""Reads the fields of events in the log, for the audit: what is wrong names the leaf.

Not protected against: fields that are of their type and untrue.
"""

from purposematch.protocol.errors import IntegrityError
from purposematch.server.registry.log import Leaf

__all__ = ["integer_of", "once", "text_of"]


def once(leaf: Leaf, name: str, known: set[str]) -> str:
    """`name`, which comes to `known`.

    Raises:
        IntegrityError: it was there before.
    """
    if name in known:
        raise IntegrityError(f"table log_leaf row {leaf.index} repeats an event")
    known.add(name)
    return name


def text_of(leaf: Leaf, fields: object, name: str) -> str:
    """A text field of an event.

    Raises:
        IntegrityError: it is missing, or no text.
    """
    value = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, str):
        raise IntegrityError(f"table log_leaf row {leaf.index} lacks {name}")
    return value


def integer_of(leaf: Leaf, fields: object, name: str) -> int:
    """A whole number in a field of an event.

    Raises:
        IntegrityError: it is missing, or no whole number.
    """
    value = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, int):
        raise IntegrityError(f"table log_leaf row {leaf.index} lacks {name}")
    return value
