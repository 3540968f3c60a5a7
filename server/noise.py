"""Noise for counts: the discrete Laplace distribution, by the exact sampler of OpenDP.

A count k is told as k + z, where z is an integer and P(z) is proportional to exp(-|z| / scale). If one
subject changes the count by at most the sensitivity, scale = sensitivity / epsilon makes the answer
epsilon-private (pure: delta is 0). OpenDP samples z with integers and fractions alone, after Canonne, Kamath
and Steinke, The Discrete Gaussian for Differential Privacy (2020): a Laplace distribution of floats would
leak through its gaps (Mironov 2012). Its randomness is its own and is used as it is: the generator of the
OpenSSL that is built into it, which the operating system seeds and which seeds itself again in a forked
process. It can not be seeded from outside; in particular no noise follows from what was asked.

Not protected against: timing. The sampler takes longer for some values than for others, by microseconds.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from purposematch.protocol.epsilon import EPSILON_ONE

__all__ = ["add_noise", "load_noise", "noise_scale"]


def noise_scale(sensitivity: int, epsilon: int) -> float:
    """The scale of the noise: the smallest float that is not below sensitivity / epsilon.

    Args:
        sensitivity: by how much one subject changes the count at most.
        epsilon: in millionths.
    """
    exact = Fraction(sensitivity * EPSILON_ONE, epsilon)
    scale = float(exact)
    # A scale that was rounded down would give a little more away than was paid for.
    return scale if Fraction(scale) >= exact else math.nextafter(scale, math.inf)


def add_noise(exact: int, sensitivity: int, epsilon: int) -> int:
    """A count with noise; it may be negative.

    Args:
        exact: the count.
        sensitivity: by how much one subject changes it at most.
        epsilon: what the answer costs, in millionths.
    """
    return _sampler(sensitivity, epsilon)(exact)


def load_noise() -> None:
    """Loads OpenDP, so that no transaction has to wait for that."""
    _sampler(1, EPSILON_ONE)


@lru_cache(64)
def _sampler(sensitivity: int, epsilon: int) -> Callable[[int], int]:
    # Most commands tell no noisy count, and every one of them starts sooner without OpenDP.
    from opendp.domains import atom_domain
    from opendp.measurements import make_laplace
    from opendp.metrics import absolute_distance
    from opendp.mod import enable_features

    # OpenDP calls so what nobody has proven formally yet; the distribution is tested.
    enable_features("contrib")
    space = atom_domain(T="i64"), absolute_distance(T="i64")
    sampler: Callable[[int], int] = make_laplace(*space, scale=noise_scale(sensitivity, epsilon))
    return sampler
