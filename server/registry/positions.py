"""Where the log says of a delivery: what receipts name.

A delivery is one leaf of the log, and each of its assertions a leaf of the tree whose root that leaf names
(docs/log.md, *A batch of assertions*). So a statement is found by two numbers, and proved by two proofs.

Not protected against: a root here is computed, not signed. Who keeps a receipt keeps a checkpoint with it.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, select

from purposematch.server.registry import log
from purposematch.server.registry.bulk import in_portions
from purposematch.server.registry.schema import delivery

__all__ = ["LogPosition", "log_positions"]


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where the log says that a delivery was stored.

    Attributes:
        leaf: the index of the leaf, counted from 0.
        size: the leaves of the log just after it was appended.
        root: the root over these, 32 bytes.
    """

    leaf: int
    size: int
    root: bytes

    def to_mapping(self) -> dict[str, object]:
        """The fields as receipts have them."""
        return {"log_leaf": self.leaf, "log_size": self.size, "log_root": self.root.hex()}


def log_positions(connection: Connection, deliveries: Collection[int]) -> dict[int, LogPosition]:
    """The positions of deliveries that were logged, by `delivery.id`.

    Raises:
        NotFoundError: the log is shorter than a delivery says.
        IntegrityError: a tile of the log is missing or short.
    """
    found = {}
    for portion in in_portions(sorted(deliveries)):
        question = select(delivery.c.id, delivery.c.leaf).where(delivery.c.id.in_(portion))
        for number, leaf in connection.execute(question.where(delivery.c.leaf.is_not(None))):
            found[number] = LogPosition(leaf, leaf + 1, log.root(connection, leaf + 1))
    return found
