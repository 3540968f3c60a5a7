"""What every benchmark shares: sizes, inputs made from a fixed seed, and how a step is timed.

With --benchmark-disable, as in `make test`, the smallest size runs once and its result is checked; `make
bench` measures all sizes.
"""

import os
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from purposematch.protocol.additive_blinding import additive_blind
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.group import Elements, Group, default_group
from purposematch.protocol.identifiers import Kind, Profile, digest_raw, private_inputs
from purposematch.protocol.poprf import EvaluationKey, SessionSeed, expand_blinds
from purposematch.protocol.scalars import random_scalar
from purposematch.protocol.scope import Scope
from purposematch.protocol.secret import SecretArray
from purposematch.protocol.simd.choice import LANES_FROM, lanes_for

SEED = 20_190_927
ROUNDS = {1_000: 5, 10_000: 3, 100_000: 1}
"""The sizes, and how often each is measured; the fastest round counts."""
BATCH_ELEMENTS = 8_192
"""Elements under one proof, as in a session of a platform with the default limits."""

_Result = TypeVar("_Result")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives every test that takes a `size` all sizes, or the smallest where nothing is measured."""
    if "size" in metafunc.fixturenames:
        option = metafunc.config.getoption
        measured = option("benchmark_enable") or not option("benchmark_disable")
        metafunc.parametrize("size", list(ROUNDS) if measured else [min(ROUNDS)])


class Material:
    """The inputs of every step for n identifiers: each is made when it is first asked for, and then kept."""

    info = Scope("benchmark", "marketing.advertising.third_party.targeted", Profile.PLAIN, 1).info()

    def __init__(self, size: int) -> None:
        self.size = size
        self.random = np.random.default_rng([SEED, size])
        self.key = EvaluationKey(_all_cores(), POPRF, random_scalar(self.random.bytes), self.info)

    @cached_property
    def emails(self) -> pa.StringArray:
        """Addresses as people write them: every fourth with capitals and a space too many."""
        numbers = self.random.integers(10**9, size=self.size)
        return pa.array(
            [f" Customer.{n}@Example.COM " if n % 4 == 0 else f"customer.{n}@example.com" for n in numbers],
            pa.string(),
        )

    @cached_property
    def phones(self) -> pa.StringArray:
        """Numbers in E.164, every fourth with spaces."""
        numbers = self.random.integers(10**7, size=self.size)
        return pa.array(
            [f"+1 212 {n:07d}" if n % 4 == 0 else f"+1212{n:07d}" for n in numbers],
            pa.string(),
        )

    @cached_property
    def inputs(self) -> NDArray[np.uint8]:
        """Private inputs, (n, 33)."""
        digests = digest_raw(self.emails, Kind.EMAIL, Profile.PLAIN).digests
        return private_inputs(np.full(self.size, Kind.EMAIL, np.uint8), digests)

    @cached_property
    def blinds(self) -> SecretArray:
        """A blind for each."""
        return expand_blinds(_all_cores(), SessionSeed(self.random.bytes(32)), 0, self.size)

    @cached_property
    def blinded(self) -> Elements:
        """What the advertiser sends."""
        return additive_blind(_all_cores(), POPRF, self.inputs, self.blinds, self.key.public)

    @cached_property
    def evaluated(self) -> Elements:
        """What the platform answers."""
        return self.key.evaluate(_all_cores(), self.blinded)

    @cached_property
    def batches(self) -> list[tuple[Elements, Elements]]:
        """Blinded and evaluated elements, a batch of a session each."""
        ends = [(start, start + BATCH_ELEMENTS) for start in range(0, self.size, BATCH_ELEMENTS)]
        return [(self.blinded.rows(*end), self.evaluated.rows(*end)) for end in ends]


@cache
def _all_cores() -> Group:
    return default_group(None, os.environ)


@cache
def _material(size: int) -> Material:
    return Material(size)


@pytest.fixture(scope="session", autouse=True)
def _kernels() -> None:
    """Compiles or loads the kernels of hashes, so that no step is measured with it."""
    lanes_for(LANES_FROM)


@pytest.fixture
def material(size: int) -> Material:
    """The inputs for this test's size."""
    return _material(size)


@pytest.fixture(scope="session")
def one_core() -> Group:
    """The group on one thread: figures are per core. PURPOSEMATCH_GROUP chooses the back end."""
    return default_group(1, os.environ)


@pytest.fixture
def measure(benchmark: Any, size: int) -> Callable[..., Any]:
    """`measure(step, function, *arguments)` times a function under a name, and returns its result."""

    def timed(step: str, function: Callable[..., _Result], *arguments: object) -> _Result:
        benchmark.extra_info.update(step=step, size=size)
        result: _Result = benchmark.pedantic(function, arguments, rounds=ROUNDS[size], iterations=1)
        return result

    return timed
