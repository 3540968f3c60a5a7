"""The noise: its distribution against the exact one, and what its scale promises."""

import math
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.agreement import (
    LARGEST_EPSILON,
    LARGEST_IDENTIFIERS_PER_SUBJECT,
    LEAST_EPSILON,
)
from purposematch.server import noise
from purposematch.server.noise import add_noise, noise_scale

DRAWS = 20_000


def probability(z: int, scale: float) -> float:
    """P(z) of the discrete Laplace distribution, from its definition."""
    ratio = math.exp(-1 / scale)
    return (1 - ratio) / (1 + ratio) * ratio ** abs(z)


def beyond(z: int, scale: float) -> float:
    """P(noise > z) for z >= 0: a geometric series."""
    ratio = math.exp(-1 / scale)
    return ratio ** (z + 1) / (1 + ratio)


@pytest.mark.parametrize(
    # Chi-square with 2 * last + 2 degrees of freedom is beyond 129, 169, 118, 78 and 51 with probability
    # 10^-11. The thresholds leave room for cells of only 26 draws, whose tails are a little heavier.
    ("exact", "sensitivity", "epsilon", "last", "threshold"),
    [
        (1_000, 1, 250_000, 18, 180),
        (7, 2, 250_000, 30, 230),
        (0, 1, 300_000, 15, 160),
        (5, 1, 1_000_000, 5, 130),
        (2**40, 1, 4_000_000, 0, 90),
    ],
)
def test_the_noise_has_the_exact_distribution(
    exact: int, sensitivity: int, epsilon: int, last: int, threshold: int
) -> None:
    scale = noise_scale(sensitivity, epsilon)
    drawn = Counter(add_noise(exact, sensitivity, epsilon) - exact for _ in range(DRAWS))
    cells = [(drawn[z], probability(z, scale)) for z in range(-last, last + 1)]
    cells += [
        (sum(count for z, count in drawn.items() if z > last), beyond(last, scale)),
        (sum(count for z, count in drawn.items() if z < -last), beyond(last, scale)),
    ]
    assert math.isclose(sum(share for _, share in cells), 1)
    assert min(DRAWS * share for _, share in cells) > 26
    assert sum((count - DRAWS * share) ** 2 / (DRAWS * share) for count, share in cells) < threshold


def test_a_wrong_scale_would_be_found() -> None:
    """A control of the test above: noise of scale 5 in place of 4 is far beyond its threshold."""
    drawn = Counter(add_noise(0, 5, 1_000_000) for _ in range(DRAWS))
    cells = [(drawn[z], DRAWS * probability(z, 4)) for z in range(-18, 19)]
    assert sum((count - expected) ** 2 / expected for count, expected in cells) > 180


@given(
    st.integers(1, LARGEST_IDENTIFIERS_PER_SUBJECT),
    st.integers(LEAST_EPSILON, LARGEST_EPSILON),
)
def test_the_scale_is_never_below_what_was_paid_for(sensitivity: int, epsilon: int) -> None:
    exact, scale = Fraction(sensitivity * 1_000_000, epsilon), noise_scale(sensitivity, epsilon)
    assert exact <= Fraction(scale) <= exact * (1 + Fraction(1, 2**51))
    # What OpenDP says that it promises, which it rounds up by itself.
    promised: float = noise._sampler(sensitivity, epsilon).map(sensitivity)  # type: ignore[attr-defined]
    assert promised <= epsilon / 1e6 * (1 + 1e-12)


FORKING = """
import os
from purposematch.server.noise import add_noise

def draws():
    return " ".join(str(add_noise(0, 16, 1_000)) for _ in range(8))

add_noise(0, 16, 1_000)
for _ in range(2):
    if os.fork() == 0:
        print(draws(), flush=True)
        os._exit(0)
    os.wait()
print(draws())
"""
"""Two children draw after their parent drew, and then the parent."""


def test_a_forked_process_has_noise_of_its_own() -> None:
    """Else two children that copied the generator would tell the same noise."""
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True)
    # One draw of scale 16,000 repeats with probability below 2^-15, eight with less than 2^-120.
    told = done.stdout.splitlines()
    assert len(told) == len(set(told)) == 3
