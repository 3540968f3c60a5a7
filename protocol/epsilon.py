"""Epsilon, the price of a noisy answer, as a whole number of millionths.

Differential privacy (Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 2014) adds the
epsilons of answers up. A ledger of floats would not add up, so every epsilon here is an integer; people read
and write it as a decimal number.

Not protected against: an epsilon that was chosen too large. What it allows is in docs/noise.md.
"""

import re
from typing import Final

from purposematch.protocol.errors import InputError

__all__ = ["EPSILON_ONE", "epsilon_of", "epsilon_text"]

EPSILON_ONE: Final = 1_000_000
"""An epsilon of 1."""

_DECIMALS: Final = 6
_DECIMAL: Final = re.compile(rf"([0-9]{{1,6}})(?:\.([0-9]{{1,{_DECIMALS}}}))?")


def epsilon_of(text: str) -> int:
    """The millionths that a decimal number such as `0.25` means.

    Raises:
        InputError: it is no decimal number, or has more than six decimals.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise InputError("an epsilon is a decimal number such as 0.25, with at most six decimals")
    whole, decimals = match.groups("")
    return int(whole) * EPSILON_ONE + int(decimals.ljust(_DECIMALS, "0"))


def epsilon_text(millionths: int) -> str:
    """The decimal number that `epsilon_of` reads, as short as it can be written: `0.25`, `1`."""
    whole, rest = divmod(millionths, EPSILON_ONE)
    return f"{whole}.{rest:0{_DECIMALS}}".rstrip("0").rstrip(".")
