"""The settings of the noise budget: what noisy counts may cost in all, in the section `[budget]`.

An epsilon is written as a decimal number in quotes, and is an integer of millionths from there on.

Not protected against: limits that are set too high. What they allow is in docs/noise.md.
"""

from dataclasses import dataclass, fields
from functools import partial
from typing import Final

from purposematch.protocol.agreement import DEFAULT_RELEASE_EPSILON, LARGEST_EPSILON, LEAST_EPSILON
from purposematch.protocol.epsilon import EPSILON_ONE, epsilon_of, epsilon_text
from purposematch.protocol.errors import ConfigurationError, InputError
from purposematch.server.settings import Setting

__all__ = ["BUDGET_SECTION", "BUDGET_SETTINGS", "BudgetLimits", "Epsilon", "budget_text"]

BUDGET_SECTION: Final = "budget"
"""The section of `platform.toml`."""

LARGEST_BUDGET: Final = 1_000 * EPSILON_ONE
"""The largest budget, in millionths: nobody is protected long before it."""


class Epsilon(int):
    """Millionths of epsilon that are shown as the decimal number that they mean."""

    def __str__(self) -> str:
        """The number as it is written in `platform.toml`."""
        return epsilon_text(self)


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """What noisy counts may cost, in millionths of epsilon.

    Attributes:
        release: one count at most, and what one costs unless an agreement says less.
        entity_30_days: all counts of a legal entity in 30 days.
        entity_365_days: all counts of a legal entity in 365 days.
        scope_30_days: all counts for a purpose in 30 days, whoever asks.
    """

    release: int = Epsilon(DEFAULT_RELEASE_EPSILON)
    entity_30_days: int = Epsilon(EPSILON_ONE)
    entity_365_days: int = Epsilon(4 * EPSILON_ONE)
    scope_30_days: int = Epsilon(20 * EPSILON_ONE)

    def __post_init__(self) -> None:
        """Checks that a budget pays for what is within it.

        Raises:
            ConfigurationError: it does not.
        """
        if not self.release <= self.entity_30_days <= self.entity_365_days:
            raise ConfigurationError("must not fall from release to entity_30_days and entity_365_days")
        if self.release > self.scope_30_days:
            raise ConfigurationError("must have no scope_30_days below release: nothing could be answered")


def budget_text() -> str:
    """The commented section of a new platform."""
    limits = BudgetLimits()
    return f"""\
[{BUDGET_SECTION}]
# Where an advertiser learns a noisy count, every new one costs an epsilon, and these are the most that is
# spent: by one count, by all counts of a legal entity in 30 and in 365 days, and by all counts for the
# purpose in 30 days, whoever asks. Agreements may say less for a count. A budget that is spent refuses with
# the date on which it returns. docs/noise.md says what an epsilon allows.
release = "{limits.release}"
entity_30_days = "{limits.entity_30_days}"
entity_365_days = "{limits.entity_365_days}"
scope_30_days = "{limits.scope_30_days}"
"""


def _epsilon(largest: int, text: str) -> Epsilon:
    try:
        value = Epsilon(epsilon_of(text))
    except InputError:
        value = Epsilon(0)
    if not LEAST_EPSILON <= value <= largest:
        raise ConfigurationError(
            f'must be a decimal number in quotes such as "0.25", {epsilon_text(LEAST_EPSILON)} to '
            f"{epsilon_text(largest)}"
        )
    return value


BUDGET_SETTINGS: Final = tuple(
    Setting(
        f"{BUDGET_SECTION}.{each.name}",
        str,
        partial(_epsilon, LARGEST_EPSILON if each.name == "release" else LARGEST_BUDGET),
        each.default,
    )
    for each in fields(BudgetLimits)
)
"""Every setting of the section, in the order of the file."""
