"""The difference attack on counts: nine known members, one target, and invented members for the rest.

An advertiser wants to know whether one person is enrolled. It sends a list of 1,000 identifiers: the
person's, some of which it knows that they are enrolled, and 990 or fewer that it invented. Whether the count
moves by the target tells. Every attack below knows the mechanism and guesses as well as anybody can.
"""

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from samples import AGREEMENT

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.noisy_report import reported_value
from purposematch.server.release import noisy_value

ATTACKS = 10_000
CHANCE = 6 * math.sqrt(0.25 / ATTACKS)
"""Six standard deviations of a share of so many attacks: more is seen once in 10^9 times."""

SUBJECTS = replace(AGREEMENT, disclosure=Disclosure.PLATFORM, release_epsilon=250_000)
IDENTIFIERS = replace(
    AGREEMENT, disclosure=Disclosure.COUNT, release_epsilon=250_000, identifiers_per_subject=2
)


def distribution(agreement: Agreement, exact: int) -> dict[int, float]:
    """How probable every reported value is, by the definitions of noise, threshold and rounding."""
    assert agreement.release_epsilon is not None
    scale = agreement.sensitivity * 1e6 / agreement.release_epsilon
    ratio = math.exp(-1 / scale)
    told: dict[int, float] = {}
    for noise in range(-int(60 * scale), int(60 * scale) + 1):
        noisy = exact + noise
        value = 0 if noisy < 100 else (noisy + 5) // 10 * 10
        told[value] = told.get(value, 0) + (1 - ratio) / (1 + ratio) * ratio ** abs(noise)
    return told


def best_guess(without: dict[int, float], with_: dict[int, float]) -> float:
    """How often the best guess after one answer is right, if both cases are equally probable."""
    return sum(max(without.get(value, 0), with_.get(value, 0)) for value in without | with_) / 2


def attack(
    report: Callable[[int], int], agreement: Agreement, known: int, answers: int = 1
) -> tuple[float, float]:
    """The share of right guesses after so many answers, and what it is expected to be after one."""
    adds = agreement.sensitivity
    without, with_ = distribution(agreement, known), distribution(agreement, known + adds)
    coin, right = random.Random(7), 0
    for _ in range(ATTACKS):
        enrolled = coin.random() < 0.5
        told = [report(known + adds * enrolled) for _ in range(answers)]
        # What was told is never impossible; tiny shares beyond the sums above count as equal.
        odds = sum(math.log(with_.get(v, 1e-30) / without.get(v, 1e-30)) for v in told)
        right += enrolled == (odds > 0 or (odds == 0 and coin.random() < 0.5))
    return right / ATTACKS, best_guess(without, with_)


def bound(epsilon: float) -> float:
    """The best guess that a count of this price allows (Kairouz, Oh and Viswanath 2015, theorem 2.1)."""
    return math.exp(epsilon) / (1 + math.exp(epsilon))


@pytest.mark.parametrize("agreement", [SUBJECTS, IDENTIFIERS], ids=["platform", "count"])
# Nine known members are far below the threshold. At 104 a target tips the rounding, at 99 the threshold.
@pytest.mark.parametrize("known", [9, 99, 104, 990])
def test_the_best_guess_stays_within_what_epsilon_allows(agreement: Agreement, known: int) -> None:
    guessed, expected = attack(lambda exact: noisy_value(agreement, exact), agreement, known)
    assert guessed <= bound(0.25) + CHANCE
    assert abs(guessed - expected) <= CHANCE
    assert expected <= bound(0.25) + 1e-12


def test_a_month_s_budget_allows_no_more_than_its_epsilon() -> None:
    guessed, _ = attack(lambda exact: noisy_value(SUBJECTS, exact), SUBJECTS, 104, answers=4)
    assert guessed <= bound(1.0) + CHANCE
    # More answers tell more: that is what the budget is for.
    assert guessed > bound(0.25)


@pytest.mark.parametrize("agreement", [SUBJECTS, IDENTIFIERS], ids=["platform", "count"])
def test_no_reported_value_is_more_telling_than_its_price(agreement: Agreement) -> None:
    """Not only on average: for every value that can be reported, whoever is there or not."""
    most = math.exp(0.25) * (1 + 1e-9)
    for exact in [*range(0, 260), 990, 12_345]:
        without = distribution(agreement, exact)
        for adds in range(1, agreement.sensitivity + 1):
            with_ = distribution(agreement, exact + adds)
            for value, share in without.items():
                if min(share, with_.get(value, 0)) > 1e-15:
                    assert 1 / most <= with_[value] / share <= most


def test_rounding_alone_is_seen_through() -> None:
    """The control: without noise the same attack is right every time."""
    tens = [exact // 10 * 10 for exact in (9, 10)]
    assert tens == [0, 10]
    for known, report in ((9, lambda exact: exact // 10 * 10), (104, reported_value), (99, reported_value)):
        coin, right = random.Random(7), 0
        for _ in range(ATTACKS):
            enrolled = coin.random() < 0.5
            right += enrolled == (report(known + enrolled) != report(known))
        assert right == ATTACKS
