"""The numbers of docs/enumeration.md, computed again from what an agreement allows."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from samples import AGREEMENT

from purposematch.protocol.agreement import Agreement

PAGE = Path(__file__).parents[2] / "docs" / "enumeration.md"
EPOCH_DAYS = 30
SPACES = (10**8, 10**9, 10**10)
QUOTAS = (100_000, 1_000_000, 10_000_000, 100_000_000)
ENROLLED = 0.2


def agreement(daily: int) -> Agreement:
    return replace(AGREEMENT, max_list_elements=min(daily, 10**9), daily_elements=daily, daily_sessions=100)


def share_found(agreed: Agreement, space: int, days: int) -> float:
    """The share of the enrolled numbers of a space that is found in so many days, without guessing twice."""
    return min(1.0, agreed.daily_guesses * days / space)


def quota_row(daily: int) -> str:
    agreed = agreement(daily)
    shares = (f"{share_found(agreed, space, EPOCH_DAYS):.2%}" for space in SPACES)
    found = round(agreed.daily_guesses * ENROLLED)
    return f"| {daily:,} | {agreed.daily_guesses:,} | {found:,} | {' | '.join(shares)} |"


def days_row(daily: int) -> str:
    days = (-(-space // agreement(daily).daily_guesses) for space in SPACES)
    return f"| {daily:,} | {' | '.join(f'{count:,}' for count in days)} |"


def picture(space: int) -> list[str]:
    """A line for each quota: how much of a space is found in an epoch, 50 characters for all of it."""
    lines = []
    for daily in QUOTAS:
        share = share_found(agreement(daily), space, EPOCH_DAYS)
        lines.append(f"{daily:>11,}  |{'#' * round(50 * share):<50}| {share:7.2%}")
    return lines


@pytest.mark.parametrize("daily", QUOTAS)
def test_the_tables_are_what_the_formula_gives(daily: int) -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert quota_row(daily) in page
    assert days_row(daily) in page


def test_the_picture_is_what_the_formula_gives() -> None:
    assert "\n".join(picture(10**9)) in PAGE.read_text(encoding="utf-8")


def test_the_formula_is_what_guessing_comes_to() -> None:
    """A guesser that goes through a small space in any order finds this share of the enrolled."""
    drawn = random.Random(5)
    space, days = 200_000, 3
    agreed = replace(agreement(10_000), daily_sessions=10)
    enrolled = set(drawn.sample(range(space), space // 5))
    guesses = drawn.sample(range(space), agreed.daily_guesses * days)
    found = len(enrolled.intersection(guesses)) / len(enrolled)
    assert found == pytest.approx(share_found(agreed, space, days), rel=0.05)
