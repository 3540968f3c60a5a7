"""Whether multiplication takes as long for one scalar as for another; what the code reader can not time.

Only a gross leak is found: a branch or a loop that depends on digits. That no step branches or looks up by a
secret is what `test_simd_code.py` reads from the compiled code; this measures the whole, on this machine.
Patterns take turns and the fastest run of each counts, so that what else the machine does meets all alike.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Final

import pytest
import slow_poprf as slow
from samples import rows, uniform

from purposematch.protocol.group import GROUP_VARIABLE, Elements, SecretScalar, default_group
from purposematch.protocol.scalars import GROUP_ORDER
from purposematch.protocol.secret import SecretArray

ELEMENTS: Final = 256
TURNS: Final = 15
TRIES: Final = 3
LIMIT: Final = 1.25
"""The slowest pattern may take so many times what the fastest does."""
PATTERNS: Final = {
    "zero-heavy": 2**251 + 2**125 + 2,
    "one-heavy": 2**252 - 2,
    "random": int.from_bytes(uniform(1, 32, "pattern").tobytes(), "little") % GROUP_ORDER,
    "one": 1,
    "order minus one": GROUP_ORDER - 1,
    "alternating": sum(1 << bit for bit in range(1, 252, 2)),
}

Multiplication = Callable[[int], object]
"""Multiplies something that is always the same by a scalar."""
# One thread, because what the other does would be measured too.
group = default_group(1, {**os.environ, GROUP_VARIABLE: "simd"})


def fastest(multiplication: Multiplication) -> Mapping[str, float]:
    """The shortest time that each pattern took, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in PATTERNS}
    for turn in range(-1, TURNS):
        for name, scalar in PATTERNS.items():
            begin = time.perf_counter()
            multiplication(scalar)
            # In the first turn caches are cold.
            if turn >= 0:
                times[name].append(time.perf_counter() - begin)
    return {name: min(taken) for name, taken in times.items()}


def leaks(multiplication: Multiplication) -> bool:
    """Whether the times of the patterns differ grossly, every time that they are measured."""
    for _ in range(TRIES):
        times = fastest(multiplication).values()
        if max(times) <= LIMIT * min(times):
            return False
    return True


def key(scalar: int) -> SecretScalar:
    return SecretScalar(slow.scalar_bytes(scalar))


@pytest.fixture(scope="module", params=["an element", "half of an element"])
def elements(request: pytest.FixtureRequest) -> Elements:
    """Elements as they come from the map, for which scalars are halved first, and as from a product."""
    mapped = group.map_to_group(uniform(ELEMENTS, 64))
    return mapped if request.param == "an element" else group.multiply(mapped, key(3))


def test_multiplication_by_one_scalar_takes_as_long_for_every_pattern(elements: Elements) -> None:
    keys = {scalar: key(scalar) for scalar in PATTERNS.values()}
    assert not leaks(lambda scalar: group.multiply(elements, keys[scalar]))


def test_multiplication_by_a_scalar_each_takes_as_long_for_every_pattern(elements: Elements) -> None:
    scalars = {
        scalar: SecretArray(rows([slow.scalar_bytes(scalar)] * ELEMENTS)) for scalar in PATTERNS.values()
    }
    assert not leaks(lambda scalar: group.multiply_each(elements, scalars[scalar]))


def test_a_multiplication_that_adds_where_a_bit_is_set_is_found_to_leak() -> None:
    point = slow.one_way_map(uniform(1, 64).tobytes())
    assert leaks(lambda scalar: slow.multiply(scalar, point))


def test_a_multiplication_that_spares_half_its_work_for_one_pattern_is_found_to_leak(
    elements: Elements,
) -> None:
    keys = {scalar: key(scalar) for scalar in PATTERNS.values()}

    def sparing(scalar: int) -> object:
        spared = scalar == PATTERNS["alternating"]
        return group.multiply(elements.rows(0, ELEMENTS // 2) if spared else elements, keys[scalar])

    assert leaks(sparing)
