"""The budget for noisy counts: what legal entities and scopes have spent, and when it returns.

Basic composition with delta 0: the epsilons of answers add up (Dwork and Roth 2014, theorem 3.16). What was
told within the window *or later* counts, so that a clock that jumps back gives nothing back. And every count
is told with the time of the latest one at least, and of the latest publication (`releases.release_time`), so
that one told meanwhile is not forgotten sooner when the clock is right again. There is no balance that could
differ from what was told: all sums are taken over the rows of `release`, in the transaction that adds one.

The scope's budget is counted by purpose, whatever the epoch: a new key asks about the same people.

Not protected against: a clock that ran ahead for a while. What was told then counts until its window has
passed from that time on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, select

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.epsilon import epsilon_text
from purposematch.protocol.errors import BudgetError, RefusedError
from purposematch.server.budget_limits import BudgetLimits
from purposematch.server.registry.agreements import agreements_in_force
from purposematch.server.registry.schema import release
from purposematch.server.times import iso, moment

__all__ = ["LONGEST_WINDOW", "Budget", "Holder", "budgets", "demand_budget"]

_DAY: Final = 86_400_000_000
_ENTITY_DAYS: Final = (30, 365)
_SCOPE_DAYS: Final = 30

LONGEST_WINDOW: Final = max(*_ENTITY_DAYS, _SCOPE_DAYS) * _DAY
"""How long a noisy count is in some budget, in microseconds."""

_MINUTE: Final = timedelta(minutes=1)
_SECOND: Final = 1_000_000


class Holder(StrEnum):
    """Whose budget it is."""

    LEGAL_ENTITY = "legal_entity"
    SCOPE = "scope"
    """All legal entities together, for one purpose."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget, and what is left of it.

    Attributes:
        holder: whose kind.
        name: the legal entity's, or the purpose.
        days: how long what is spent counts.
        spent: in millionths, like the next two.
        left: 0 where more is spent: a budget was lowered, or the clock fell back.
        of: what the settings allow.
        returns_at: when the first of what is spent returns, microseconds since 1970; None if nothing is.
    """

    holder: Holder
    name: str
    days: int
    spent: int
    left: int
    of: int
    returns_at: int | None

    def to_mapping(self) -> dict[str, object]:
        """For a document: epsilons as decimal numbers in texts, which are exact."""
        return {
            "holder": self.holder.value,
            "name": self.name,
            "days": self.days,
            "spent": epsilon_text(self.spent),
            "left": epsilon_text(self.left),
            "of": epsilon_text(self.of),
            "returns_at": None if self.returns_at is None else iso(self.returns_at),
        }


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What of one budget is spent: (time, epsilon) of every count in its window, ascending."""

    holder: Holder
    name: str
    days: int
    of: int
    spent: Sequence[tuple[int, int]]

    def budget(self) -> Budget:
        spent = sum(epsilon for _, epsilon in self.spent)
        returns_at = self.spent[0][0] + self.days * _DAY if self.spent else None
        return Budget(self.holder, self.name, self.days, spent, max(0, self.of - spent), self.of, returns_at)

    def room_at(self, epsilon: int) -> int:
        """When there is room for a count that costs no more than all there is; 0 if there is now."""
        over, at = sum(each for _, each in self.spent) + epsilon - self.of, 0
        for told_at, each in self.spent:
            if over <= 0:
                break
            over, at = over - each, told_at + self.days * _DAY
        return at


def demand_budget(connection: Connection, limits: BudgetLimits, agreement: Agreement, now: int) -> int:
    """Checks that a new count under a noisy agreement can be paid for; what it costs, in millionths.

    Args:
        connection: to the registry: the transaction that tells the count, or a snapshot to ask beforehand.
        limits: the settings.
        agreement: the one in force.
        now: microseconds since 1970.

    Raises:
        BudgetError: a budget is spent; the text says whose, and when it returns.
        RefusedError: the disclosure is not noisy, or a count costs more than the settings allow.
    """
    epsilon = agreement.release_epsilon
    if epsilon is None:
        raise RefusedError("the agreement's disclosure has no noisy counts")
    if epsilon > limits.release:
        raise RefusedError(
            f"a count under this agreement costs epsilon {epsilon_text(epsilon)}, and the platform allows "
            f"{epsilon_text(limits.release)}: ask it for a new agreement"
        )
    ledgers = [
        *_of_entity(connection, limits, agreement.legal_entity, now),
        _of_scope(connection, limits, agreement.purpose, now),
    ]
    # The settings see to it that no budget is smaller than one count.
    returns = [(ledger.room_at(epsilon), ledger) for ledger in ledgers]
    returns_at, ledger = max(returns, key=lambda each: each[0])
    if returns_at > now:
        whose = (
            f"legal entity {ledger.name}" if ledger.holder is Holder.LEGAL_ENTITY else "all legal entities"
        )
        # Not a second before: the text is in whole minutes.
        date = moment(returns_at + _MINUTE // timedelta(microseconds=1) - 1)
        raise BudgetError(
            f"the budget of {whose} for noisy counts, epsilon {epsilon_text(ledger.of)} in {ledger.days} "
            f"days, is spent; it returns at {date:%Y-%m-%d %H:%M} UTC",
            -(-(returns_at - now) // _SECOND),
        )
    return epsilon


def budgets(connection: Connection, limits: BudgetLimits, now: int) -> list[Budget]:
    """Every budget that somebody has: of those with a noisy agreement in force, and where something is spent.

    Args:
        connection: to the registry.
        limits: the settings.
        now: microseconds since 1970.
    """
    noisy = [each for each in agreements_in_force(connection, now) if each.disclosure.noisy]
    told = connection.execute(
        select(release.c.legal_entity, release.c.purpose)
        .where(release.c.released_at > now - LONGEST_WINDOW)
        .distinct()
    ).all()
    entities = {each.legal_entity for each in noisy} | {row.legal_entity for row in told}
    purposes = {each.purpose for each in noisy} | {row.purpose for row in told}
    ledgers = [each for name in sorted(entities) for each in _of_entity(connection, limits, name, now)]
    ledgers += [_of_scope(connection, limits, purpose, now) for purpose in sorted(purposes)]
    return [ledger.budget() for ledger in ledgers]


def _of_entity(connection: Connection, limits: BudgetLimits, name: str, now: int) -> list[_Ledger]:
    return [
        _Ledger(Holder.LEGAL_ENTITY, name, days, of, _spent(connection, now - days * _DAY, legal_entity=name))
        for days, of in zip(_ENTITY_DAYS, (limits.entity_30_days, limits.entity_365_days), strict=True)
    ]


def _of_scope(connection: Connection, limits: BudgetLimits, purpose: str, now: int) -> _Ledger:
    spent = _spent(connection, now - _SCOPE_DAYS * _DAY, purpose=purpose)
    return _Ledger(Holder.SCOPE, purpose, _SCOPE_DAYS, limits.scope_30_days, spent)


def _spent(connection: Connection, after: int, **of: str) -> list[tuple[int, int]]:
    question = select(release.c.released_at, release.c.epsilon).where(
        release.c.released_at > after, *(release.c[name] == value for name, value in of.items())
    )
    rows = connection.execute(question.order_by(release.c.released_at, release.c.id))
    return [(at, epsilon) for at, epsilon in rows]
