"""What happened to the registry, by time: deliveries, generations and sessions up to a moment.

Everything takes `until`, so that every question can be asked of a past moment.

Not protected against: a clock that was wrong when something was recorded.
"""

import json
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.server.registry.schema import (
    agreement,
    correction,
    delegation,
    delivery,
    generation,
    policy,
    session,
)

__all__ = [
    "NEVER",
    "Deliveries",
    "Generations",
    "Session",
    "consent_ages",
    "correction_times",
    "load_deliveries",
    "load_generations",
    "load_sessions",
]

NEVER: Final = int(np.iinfo(np.int64).max)
"""Later than any time, in microseconds since 1970."""


@dataclass(frozen=True, eq=False)
class Deliveries:
    """The deliveries received by then, d of them, in the order of receipt.

    Attributes:
        ids: (d,) int64.
        first_assertion: (d,) int64, ascending.
        received_at: (d,) int64, microseconds since 1970.
        policy: (d,) int64, `policy.id` under which the rows were judged.
        source: d names.
        end: one above the last assertion of the last of them.
    """

    ids: NDArray[np.int64]
    first_assertion: NDArray[np.int64]
    received_at: NDArray[np.int64]
    policy: NDArray[np.int64]
    source: tuple[str, ...]
    end: int

    def places(self, assertions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which delivery brought each assertion, (n,) positions; of ids below `end`."""
        return np.searchsorted(self.first_assertion, assertions, "right") - 1


@dataclass(frozen=True, eq=False)
class Generations:
    """The generations published by then, g of them, in the order of publishing.

    Attributes:
        numbers: (g,) int64, `generation.number`.
        names: g names.
        watermark: (g,) int64, the last assertion that each covers; never falls.
        decisions: (g,) int64, the last decision; never falls.
        published_at: (g,) int64, microseconds since 1970.
        epochs: (g,) int64, the key epoch of each.
    """

    numbers: NDArray[np.int64]
    names: tuple[str, ...]
    watermark: NDArray[np.int64]
    decisions: NDArray[np.int64]
    published_at: NDArray[np.int64]
    epochs: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of generations, g."""
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Session:
    """A session, its advertiser, the position of its generation in `Generations`, who learned what, and the
    partner that opened it, if one did: it learned what the advertiser did."""

    id: str
    advertiser: str
    generation: int
    disclosure: Disclosure
    opened_at: int
    partner: str | None = None

    @property
    def shows_advertiser(self) -> bool:
        """Whether its advertiser may have learned who is enrolled."""
        return self.disclosure in (Disclosure.BOTH, Disclosure.ADVERTISER)


def load_deliveries(connection: Connection, until: int = NEVER) -> Deliveries:
    """The deliveries received at or before `until`."""
    columns = (delivery.c.id, delivery.c.first_assertion, delivery.c.received_at, delivery.c.policy)
    rows = connection.execute(
        select(*columns, delivery.c.assertions, delivery.c.source)
        .where(delivery.c.received_at <= until)
        .order_by(delivery.c.id)
    ).all()
    numbers = np.array([row[:4] for row in rows], np.int64).reshape(-1, 4).T
    ids, first_assertion, received_at, policies = np.ascontiguousarray(numbers)
    end = rows[-1].first_assertion + rows[-1].assertions if rows else 1
    sources = tuple(row.source for row in rows)
    return Deliveries(ids, first_assertion, received_at, policies, sources, end)


def load_generations(connection: Connection, until: int = NEVER) -> Generations:
    """The generations published at or before `until`."""
    columns = [generation.c[name] for name in ("number", "watermark", "decisions", "published_at", "epoch")]
    rows = connection.execute(
        select(*columns, generation.c.id)
        .where(generation.c.published_at <= until)
        .order_by(generation.c.number)
    ).all()
    numbers = np.array([row[:5] for row in rows], np.int64).reshape(-1, 5).T
    number, watermark, decisions, published_at, epochs = np.ascontiguousarray(numbers)
    return Generations(number, tuple(row.id for row in rows), watermark, decisions, published_at, epochs)


def load_sessions(connection: Connection, generations: Generations, until: int = NEVER) -> list[Session]:
    """The sessions opened at or before `until`, in the order of opening."""
    position = {name: at for at, name in enumerate(generations.names)}
    disclosures = {
        row.digest: Agreement.decode(row.content).disclosure
        for row in connection.execute(select(agreement.c.digest, agreement.c.content))
    }
    columns = (
        session.c.id,
        session.c.advertiser,
        session.c.agreement,
        session.c.generation,
        session.c.opened_at,
        delegation.c.partner,
    )
    rows = connection.execute(
        select(*columns)
        .outerjoin(delegation, delegation.c.digest == session.c.delegation)
        .where(session.c.opened_at <= until)
        .order_by(session.c.opened_at, session.c.id)
    ).all()
    return [
        Session(
            row.id,
            row.advertiser,
            position[row.generation],
            disclosures[row.agreement],
            row.opened_at,
            row.partner,
        )
        for row in rows
        if row.generation in position
    ]


def consent_ages(connection: Connection) -> dict[int, int | None]:
    """The oldest consent that each stored policy lets count, in days, by `policy.id`; None for any age."""
    rows = connection.execute(select(policy.c.id, policy.c.content)).all()
    return {row.id: json.loads(row.content)["max_consent_age_days"] for row in rows}


def correction_times(connection: Connection) -> NDArray[np.int64]:
    """When something was corrected, (k,) int64, microseconds since 1970."""
    return np.array(connection.execute(select(correction.c.corrected_at)).scalars().all(), np.int64)
