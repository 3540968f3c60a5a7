"""Sums of public products on libsodium's back end: in lanes, and by libsodium where there are none."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples import rows, uniform

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import Bytes, Elements, SodiumGroup, sodium
from purposematch.protocol.group.lanes import KERNELS, PublicLanes
from purposematch.protocol.group.simd import CHUNK_ELEMENTS
from purposematch.protocol.scalars import GROUP_ORDER
from purposematch.protocol.simd.choice import cache_root
from purposematch.protocol.simd.kernel import cache_folder

SCRIPT = Path(__file__).resolve().parents[1] / "portable_sums.py"
PORTABLE = {
    "x86_64": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"},
    "aarch64": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+neon"},
}
"""What makes LLVM compile for the least processor of an architecture."""
LENGTHS = [1, 7, 8, 9, 63, 64, 511, 512, 513, CHUNK_ELEMENTS - 1, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1]

Lent = Callable[[], PublicLanes]


def lent() -> PublicLanes:
    return PublicLanes(2, cache_folder(os.environ))


@pytest.fixture(scope="module")
def alone() -> SodiumGroup:
    return SodiumGroup()


@pytest.fixture(scope="module")
def with_lanes() -> SodiumGroup:
    group = SodiumGroup(2, lent)
    group.prepare()
    assert group._lanes is not None
    return group


@pytest.fixture(scope="module")
def batch(alone: SodiumGroup) -> tuple[Elements, Bytes]:
    wide = uniform(max(LENGTHS), 64)
    return alone.map_to_group(wide), alone.reduce(wide[::-1])


def sum_or_error(group: SodiumGroup, elements: Elements, scalars: Bytes) -> str:
    try:
        return group.encode(group.public_sum_of_products(elements, scalars)).tobytes().hex()
    except (DecodeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("length", LENGTHS)
def test_sums_of_any_length_have_the_same_bytes(
    alone: SodiumGroup, with_lanes: SodiumGroup, batch: tuple[Elements, Bytes], length: int
) -> None:
    elements, scalars = batch[0].rows(0, length), batch[1][:length]
    results = [sum_or_error(group, elements, scalars) for group in (alone, with_lanes)]
    assert results[0] == results[1]
    assert len(results[0]) == 64


@pytest.mark.parametrize("length", [64, 513])
@pytest.mark.parametrize("zero", [0, GROUP_ORDER, GROUP_ORDER + 2**255])
@pytest.mark.parametrize("position", [0, 63])
def test_a_zero_scalar_is_the_same_error(
    alone: SodiumGroup,
    with_lanes: SodiumGroup,
    batch: tuple[Elements, Bytes],
    length: int,
    zero: int,
    position: int,
) -> None:
    scalars = batch[1][:length].copy()
    scalars[position] = rows([zero.to_bytes(32, "little")])
    for group in (alone, with_lanes):
        assert sum_or_error(group, batch[0].rows(0, length), scalars) == (
            "DecodeError: a product is the identity"
        )


def test_a_sum_that_is_the_identity_is_the_same_error(
    alone: SodiumGroup, with_lanes: SodiumGroup, batch: tuple[Elements, Bytes]
) -> None:
    encoded = alone.encode(batch[0])[:50]
    positive = batch[1][:50]
    negative = rows(
        (GROUP_ORDER - int.from_bytes(scalar.tobytes(), "little")).to_bytes(32, "little")
        for scalar in positive
    )
    scalars = np.concatenate([positive, negative])
    for group in (alone, with_lanes):
        elements = group.decode(np.concatenate([encoded, encoded]))
        assert sum_or_error(group, elements, scalars) == "DecodeError: a sum is the identity"
        assert sum_or_error(group, elements.rows(0, 0), scalars[:0]) == "DecodeError: a sum is the identity"
        assert sum_or_error(group, elements, scalars[1:]) == (
            "ValueError: 99 scalars do not fit 100 elements"
        )


def test_a_long_sum_is_what_loads_the_kernels(
    monkeypatch: pytest.MonkeyPatch, batch: tuple[Elements, Bytes]
) -> None:
    monkeypatch.setattr(sodium, "SUMS_FROM", 200)
    made = []

    def lanes() -> PublicLanes:
        made.append(lent())
        return made[-1]

    group = SodiumGroup(1, lanes)
    group.public_sum_of_products(batch[0].rows(0, 199), batch[1][:199])
    assert group._lanes is None
    assert made == []
    for _ in range(2):
        group.public_sum_of_products(batch[0].rows(0, 200), batch[1][:200])
        assert group._lanes is not None
        assert len(made) == 1


def test_kernels_that_can_not_be_had_are_done_without(
    alone: SodiumGroup, batch: tuple[Elements, Bytes]
) -> None:
    def broken() -> PublicLanes:
        raise RuntimeError("LLVM does not know this processor")

    group = SodiumGroup(1, broken)
    group.prepare()
    assert group._lanes is None
    elements, scalars = batch[0].rows(0, 100), batch[1][:100]
    assert sum_or_error(group, elements, scalars) == sum_or_error(alone, elements, scalars)


def test_kernels_that_compute_something_else_are_not_used() -> None:
    class Wrong(PublicLanes):
        def encode(self, elements: Elements) -> Bytes:
            return super().encode(elements) ^ np.uint8(1)

    group = SodiumGroup(1, lambda: Wrong(1, cache_folder(os.environ)))
    group.prepare()
    assert group._lanes is None


def run(arguments: list[str], environment: dict[str, str]) -> str:
    result = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(
    platform.machine() not in PORTABLE,
    reason="the least processor to compile for is known for x86-64 and AArch64 only",
)
def test_portable_code_agrees_and_no_other_kernel_is_compiled() -> None:
    found = json.loads(run([str(SCRIPT)], PORTABLE[platform.machine()]))
    assert found == {
        "instructions": None,
        "compiled": sorted(kernel.name for kernel in KERNELS),
        "wide": False,
    }


SMALL = """
import os, sys
import numpy as np
from purposematch.protocol.group import default_group
group = default_group(1, os.environ)
wide = np.random.default_rng(1).integers(0, 256, (100, 64), dtype=np.uint8)
group.public_sum_of_products(group.map_to_group(wide), group.reduce(wide))
print("numba" in sys.modules)
"""


def test_a_program_with_small_batches_only_never_loads_numba() -> None:
    assert cache_root(os.environ)
    assert run(["-c", SMALL], {"PURPOSEMATCH_GROUP": "sodium"}) == "False\n"
