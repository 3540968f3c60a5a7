"""The vector back end against libsodium and integers: lanes and chunks, edges, wiping, choice and cache."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slow_poprf as slow
from samples import rows, uniform

from purposematch.protocol.errors import ConfigurationError, DecodeError
from purposematch.protocol.group import GROUP_VARIABLE, SecretScalar, SodiumGroup, default_group
from purposematch.protocol.group.simd import CHUNK_ELEMENTS, SimdGroup
from purposematch.protocol.scalars import GROUP_ORDER
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.simd import kernel, sum_kernels
from purposematch.protocol.simd.processor import LANES, Instructions, best_instructions
from purposematch.protocol.simd.scalars import NARROW_BITS, WIDE_BITS, public_digits
from purposematch.protocol.simd.workspace import AT_CHUNK

SOURCE = Path(kernel.__file__).parent
EDGES = [1, 2, 7, 8, 9, 15, 16, 17, 127, 128, 129, 255, 256, GROUP_ORDER // 2, GROUP_ORDER // 2 + 1]
EDGES += [GROUP_ORDER - 1, GROUP_ORDER - 2, GROUP_ORDER + 1, 2 * GROUP_ORDER - 1, 2**252, 2**255 - 1]
EDGES += [sum(digit << at for at in range(0, 252, 4)) for digit in (1, 7, 8, 9, 15)]


@pytest.fixture(scope="module")
def simd() -> SimdGroup:
    group = default_group(2, {**os.environ, GROUP_VARIABLE: "simd"})
    assert isinstance(group, SimdGroup)
    return group


sodium = SodiumGroup()


def scalar_rows(values: list[int]) -> Any:
    return rows(value.to_bytes(32, "little") for value in values)


# Equal to libsodium.


def test_edge_scalars_multiply_as_in_libsodium_in_every_lane(simd: SimdGroup) -> None:
    values = [edge for edge in EDGES for _ in range(LANES)]
    wide = uniform(len(values), 64)
    # By a decoded element, by a mapped one, and by one that is kept as its half.
    sources = [simd.map_to_group(wide), simd.decode(sodium.encode(sodium.map_to_group(wide)))]
    expected = sodium.multiply_each(sodium.map_to_group(wide), SecretArray(scalar_rows(values)))
    for source in sources:
        product = simd.multiply_each(source, SecretArray(scalar_rows(values)))
        assert (simd.encode(product) == sodium.encode(expected)).all()
    again = simd.multiply_each(product, SecretArray(scalar_rows(values)))
    twice = sodium.multiply_each(expected, SecretArray(scalar_rows(values)))
    assert (simd.encode(again) == sodium.encode(twice)).all()


@pytest.mark.parametrize("edge", EDGES)
def test_edge_scalars_multiply_a_whole_batch_as_in_libsodium(simd: SimdGroup, edge: int) -> None:
    wide, key = uniform(LANES + 3, 64), SecretScalar(edge.to_bytes(32, "little"))
    expected = sodium.encode(sodium.multiply(sodium.map_to_group(wide), key))
    assert (simd.encode(simd.multiply(simd.map_to_group(wide), key)) == expected).all()


def test_a_multiple_of_the_order_is_zero(simd: SimdGroup) -> None:
    elements = simd.map_to_group(uniform(LANES + 1, 64))
    for value in (0, GROUP_ORDER, 2 * GROUP_ORDER, 2**255):
        for place in (0, LANES - 1, LANES):
            values = [5] * (LANES + 1)
            values[place] = value
            for attempt in (
                lambda own: simd.multiply_each(elements, SecretArray(own)),
                lambda own: simd.public_sum_of_products(elements, own),
            ):
                with pytest.raises(DecodeError):
                    attempt(scalar_rows(values))
        with pytest.raises(DecodeError):
            simd.multiply(elements, SecretScalar(value.to_bytes(32, "little")))


def test_edge_multiples_of_one_element_are_added_as_in_libsodium_in_every_lane(simd: SimdGroup) -> None:
    # Every digit takes every value: all windows the same digit, and the edges of the multiplication.
    values = [*EDGES, *(sum(digit << at for at in range(0, 252, 4)) for digit in range(1, 16))]
    values = [value for value in values for _ in range(LANES)]
    wide, base = uniform(len(values), 64), uniform(1, 64, "base")
    mapped, reference = simd.map_to_group(wide), sodium.map_to_group(wide)
    key = SecretScalar(bytes([9]) * 32)
    halves, whole = simd.multiply(mapped, key), sodium.multiply(reference, key)
    bases: list[tuple[Any, Any]] = [(None, None), (simd.map_to_group(base), sodium.map_to_group(base))]
    bases.append((simd.multiply(bases[1][0], key), sodium.multiply(bases[1][1], key)))
    for own, expected in ((mapped, reference), (halves, whole)):
        for one, other in bases:
            for negate in (False, True):
                scalars = SecretArray(scalar_rows(values))
                fast = simd.add_multiples(own, scalars, one, negate=negate)
                slow_sums = sodium.add_multiples(expected, scalars, other, negate=negate)
                assert (simd.encode(fast) == sodium.encode(slow_sums)).all()
                part = simd.add_multiples(
                    own.rows(3, LANES + 4),
                    SecretArray(scalar_rows(values[3 : LANES + 4])),
                    one,
                    negate=negate,
                )
                assert (simd.encode(part) == sodium.encode(slow_sums)[3 : LANES + 4]).all()


def test_the_map_agrees_with_libsodium_on_exceptional_inputs(simd: SimdGroup) -> None:
    # Field elements that make a denominator or a radicand of the map vanish, and values above the prime.
    special = [0, 1, 2, slow.P - 1, slow.P, slow.P + 1, 2**255 - 1, 2**255, 2**256 - 1, slow.SQRT_M1]
    for square in (
        -slow.D * slow.SQRT_M1,
        slow.SQRT_M1,
        -slow.SQRT_M1,
        pow(slow.D, -1, slow.P) * slow.SQRT_M1,
    ):
        was_square, root = slow.sqrt_ratio_m1(square % slow.P, 1)
        special += [root, slow.P - root] if was_square else []
    halves = [value.to_bytes(32, "little") for value in special]
    wide = rows([a + b for a in halves for b in halves], 64)
    assert (simd.encode(simd.map_to_group(wide)) == sodium.encode(sodium.map_to_group(wide))).all()


def test_the_identity_of_the_map_multiplies_to_an_error_as_in_libsodium(simd: SimdGroup) -> None:
    for group in (simd, sodium):
        identity = group.map_to_group(np.zeros((1, 64), np.uint8))
        assert not group.encode(identity).any()
        with pytest.raises(DecodeError):
            group.multiply(identity, SecretScalar(bytes([2]) + bytes(31)))


@pytest.mark.parametrize("count", [1, LANES, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1, 4 * CHUNK_ELEMENTS + 1])
def test_batches_around_the_size_of_a_chunk_agree_with_libsodium(simd: SimdGroup, count: int) -> None:
    wide = uniform(count, 64)
    fast, reference = simd.map_to_group(wide), sodium.map_to_group(wide)
    scalars = simd.reduce(uniform(count, 64, "scalars"))
    assert (scalars == sodium.reduce(uniform(count, 64, "scalars"))).all()
    assert (simd.encode(fast) == sodium.encode(reference)).all()
    assert (simd.encode(simd.decode(sodium.encode(reference))) == sodium.encode(reference)).all()
    sums = [
        group.encode(group.public_sum_of_products(elements, scalars))
        for group, elements in ((simd, fast), (sodium, reference))
    ]
    assert (sums[0] == sums[1]).all()
    inverses = [reveal_array(group.invert(SecretArray(scalars.copy()))) for group in (simd, sodium)]
    assert (inverses[0] == inverses[1]).all()


def test_a_part_of_a_batch_may_begin_and_end_in_any_lane(simd: SimdGroup) -> None:
    count = 3 * LANES
    wide = uniform(count, 64)
    key, scalars = SecretScalar(bytes([77]) * 32), sodium.reduce(uniform(count, 64, "parts"))
    halves = simd.multiply(simd.map_to_group(wide), key), sodium.multiply(sodium.map_to_group(wide), key)
    for start in range(LANES + 1):
        for stop in (start, start + 1, start + LANES, count - 1):
            fast, reference = (elements.rows(start, stop) for elements in halves)
            assert len(fast) == stop - start
            assert (simd.encode(fast) == sodium.encode(reference)).all()
            if stop == start:
                continue
            own = scalars[start:stop]
            each = simd.multiply_each(fast, SecretArray(own.copy()))
            expected = sodium.multiply_each(reference, SecretArray(own))
            assert (simd.encode(each.rows(0, 1)) == sodium.encode(expected)[:1]).all()
            assert (simd.encode(each) == sodium.encode(expected)).all()
            total = simd.public_sum_of_products(fast, own)
            assert (simd.encode(total) == sodium.encode(sodium.public_sum_of_products(reference, own))).all()


@pytest.mark.parametrize("bits", [NARROW_BITS, WIDE_BITS])
def test_sums_with_scalars_at_the_edges_of_a_digit_agree_with_libsodium(
    simd: SimdGroup, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sum_kernels, "digit_bits", lambda count, short: bits)
    digit = 1 << bits
    edges = [*EDGES, GROUP_ORDER - 1, 2**252, 2**252 - 1, 2**252 + 2**124]
    for window in range(public_digits(bits)):
        edges += [size * digit**window for size in (1, digit // 2 - 1, digit // 2, digit // 2 + 1, digit - 1)]
    values = [value % GROUP_ORDER for value in edges if value % GROUP_ORDER]
    wide, scalars = uniform(len(values), 64), scalar_rows(values)
    fast, reference = simd.map_to_group(wide), sodium.map_to_group(wide)
    for i in range(len(values)):
        one, expected = (
            group.public_sum_of_products(elements.rows(i, i + 1), scalars[i : i + 1])
            for group, elements in ((simd, fast), (sodium, reference))
        )
        assert (simd.encode(one) == sodium.encode(expected)).all()
    total = sodium.encode(sodium.public_sum_of_products(reference, scalars))
    assert (simd.encode(simd.public_sum_of_products(fast, scalars)) == total).all()


def test_the_width_of_a_digit_changes_nothing_around_the_length_where_it_changes(simd: SimdGroup) -> None:
    count = sum_kernels.NARROW_BELOW
    widths = [sum_kernels.digit_bits(length, short=False) for length in (count - 1, count)]
    assert widths == [NARROW_BITS, WIDE_BITS]
    elements, scalars = simd.map_to_group(uniform(count, 64)), simd.reduce(uniform(count, 64, "scalars"))
    total = simd.public_sum_of_products(elements, scalars)
    parts = [
        simd.public_sum_of_products(elements.rows(*ends), scalars[slice(*ends)])
        for ends in ((0, count - 1), (count - 1, count))
    ]
    one = rows([(1).to_bytes(32, "little")])[0]
    assert (simd.encode(simd.public_multiply_add(one, parts[0], one, parts[1])) == simd.encode(total)).all()


@pytest.mark.parametrize("most", [1, 2**8, 2**63, 2**126, 2**127, 2**128, 2**129])
def test_sums_with_short_scalars_agree_with_libsodium(simd: SimdGroup, most: int) -> None:
    """Windows that no scalar reaches are left out; where a digit is carried into another one, it counts."""
    count, random = 2 * LANES + 3, np.random.default_rng(5)
    values = [max(1, most - 1), *(1 + int.from_bytes(random.bytes(32), "big") % most for _ in range(count))]
    wide, scalars = uniform(len(values), 64), scalar_rows(values)
    fast, reference = simd.map_to_group(wide), sodium.map_to_group(wide)
    total = sodium.encode(sodium.public_sum_of_products(reference, scalars))
    assert (simd.encode(simd.public_sum_of_products(fast, scalars)) == total).all()
    assert sum_kernels.digit_bits(sum_kernels.NARROW_BELOW, short=True) == NARROW_BITS


def test_sums_of_several_batches_share_their_scalars(simd: SimdGroup) -> None:
    count = 2 * LANES + 1
    wide, scalars = uniform(count + 3, 64), sodium.reduce(uniform(count, 64, "shared"))
    mapped = simd.map_to_group(wide), sodium.map_to_group(wide)
    halves = simd.multiply(mapped[0], SecretScalar(bytes([9]) * 32)).rows(3, count + 3)
    own = sodium.multiply(mapped[1], SecretScalar(bytes([9]) * 32)).rows(3, count + 3)
    sums = simd.public_sums_of_products([mapped[0].rows(1, count + 1), halves], scalars)
    expected = sodium.public_sums_of_products([mapped[1].rows(1, count + 1), own], scalars)
    for one, other in zip(sums, expected, strict=True):
        assert (simd.encode(one) == sodium.encode(other)).all()
    with pytest.raises(ValueError, match="scalars do not fit"):
        simd.public_sums_of_products([mapped[0].rows(0, count), halves.rows(0, 5)], scalars)


def test_reduction_agrees_with_integers_at_the_extremes(simd: SimdGroup) -> None:
    values = [
        0,
        1,
        GROUP_ORDER - 1,
        GROUP_ORDER,
        GROUP_ORDER + 1,
        2**252,
        2**256 - 1,
        2**260 - 1,
        2**260,
        2**512 - 1,
    ]
    values += [
        GROUP_ORDER * (2**259) - 1,
        GROUP_ORDER * (2**259 - 1),
        (2**512 - 1) // GROUP_ORDER * GROUP_ORDER,
    ]
    reduced = simd.reduce(rows((value.to_bytes(64, "little") for value in values), 64))
    assert [int.from_bytes(row.tobytes(), "little") for row in reduced] == [v % GROUP_ORDER for v in values]


def test_inversion_takes_any_integer_and_refuses_multiples_of_the_order(simd: SimdGroup) -> None:
    values = [*EDGES, 2**256 - 1]
    inverses = reveal_array(simd.invert(SecretArray(scalar_rows(values))))
    assert [int.from_bytes(row.tobytes(), "little") for row in inverses] == [
        pow(v, -1, GROUP_ORDER) for v in values
    ]
    for place in range(len(values)):
        with pytest.raises(DecodeError):
            simd.invert(SecretArray(scalar_rows([*values[:place], GROUP_ORDER, *values[place:]])))


def test_read_only_and_unaligned_bytes_are_computed_with(simd: SimdGroup) -> None:
    wide = uniform(5, 64)
    shifted = np.frombuffer(b"x" + wide.tobytes(), np.uint8)[1:].reshape(5, 64)
    assert not shifted.flags.writeable
    assert (simd.encode(simd.map_to_group(shifted)) == simd.encode(simd.map_to_group(wide))).all()


# Secrets.


def test_scratch_that_held_secrets_is_zero_afterwards() -> None:
    group = default_group(1, {**os.environ, GROUP_VARIABLE: "simd"})
    assert isinstance(group, SimdGroup)
    elements = group.map_to_group(uniform(LANES, 64))
    scalars = group.reduce(uniform(LANES, 64, "secret"))
    assert not group._workspaces[0][:AT_CHUNK].any()
    group.invert(SecretArray(scalars))
    assert not group._workspaces[0][:AT_CHUNK].any()
    group.add_multiples(elements, SecretArray(scalars))
    assert not group._workspaces[0][:AT_CHUNK].any()
    # Nothing else has used the workspace for points since; multiplication leaves nothing of its table.
    group._workspaces[0][:] = 2**64 - 1
    group.multiply_each(elements, SecretArray(scalars))
    (workspace,) = group._workspaces
    used = np.flatnonzero(workspace != np.uint64(2**64 - 1))
    assert len(used) > AT_CHUNK
    assert not workspace[: used[-1] + 1].any()


# Choice.


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512f", "avx512ifma", "avx2"}, Instructions.IFMA),
        ({"avx512f", "avx2"}, Instructions.AVX512),
        ({"avx2", "avx512ifma"}, Instructions.AVX2),
        ({"avx", "sse2"}, None),
        ({"neon"}, None),
        (set(), None),
    ],
)
def test_the_best_instructions_are_chosen(features: set[str], expected: Instructions | None) -> None:
    assert best_instructions(features) is expected


def test_a_back_end_can_be_forced(simd: SimdGroup) -> None:
    assert default_group(1, {}).name == "simd"
    assert default_group(1, {GROUP_VARIABLE: "sodium"}).name == "sodium"
    assert simd.name == "simd"
    assert simd.description.startswith("simd (AVX")
    with pytest.raises(ConfigurationError, match="neither"):
        default_group(1, {GROUP_VARIABLE: "fast"})


def run(script: str, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("features", ["", "+sse2", "+avx,-avx2"])
def test_without_the_features_libsodium_serves_and_force_is_refused(features: str) -> None:
    script = """
import os
from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.group import default_group
assert default_group(1, {}).name == "sodium"
try:
    default_group(1, {"PURPOSEMATCH_GROUP": "simd"})
except ConfigurationError as error:
    print("refused:", error)
"""
    result = run(script, {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features})
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("refused: ")


# The cache.

PREPARE = """
import sys
from purposematch.protocol.simd import kernel, scalar_kernels
kernel.prepare(sys.argv[1] or None, lambda: print("announced"))
kernel.prepare(sys.argv[1] or None, lambda: print("again"))
print(all(one.ready for one in kernel.kernels()))
"""


def test_compiling_is_announced_once_and_the_second_process_loads(tmp_path: Path) -> None:
    folder = tmp_path / "caches" / "kernels"
    first, second = (run(PREPARE, {}, str(folder)) for _ in range(2))
    assert (first.returncode, first.stdout) == (0, "announced\nTrue\n"), first.stderr
    assert (second.returncode, second.stdout) == (0, "True\n"), second.stderr
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("make", ["none", "file", "writable by others"])
def test_a_folder_that_can_not_be_trusted_or_written_is_not_used(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "kernels"
    if make == "file":
        folder.write_text("not a folder")
    elif make == "writable by others":
        folder.mkdir()
        folder.chmod(0o777)
    result = run(PREPARE, {}, "" if make == "none" else str(folder))
    assert (result.returncode, result.stdout) == (0, "announced\nTrue\n"), result.stderr
    assert make != "writable by others" or list(folder.iterdir()) == []


def test_the_folder_follows_the_environment() -> None:
    key = kernel.cache_key()
    assert kernel.cache_folder({"HOME": "/home/x"}) == f"/home/x/.cache/purposematch/kernels-{key}"
    assert (
        kernel.cache_folder({"HOME": "/home/x", "XDG_CACHE_HOME": "/c"}) == f"/c/purposematch/kernels-{key}"
    )
    assert kernel.cache_folder({"PURPOSEMATCH_KERNEL_CACHE": "/k", "HOME": "/h"}) == f"/k/kernels-{key}"
    assert kernel.cache_folder({"PURPOSEMATCH_KERNEL_CACHE": "", "HOME": "/h"}) is None
    assert kernel.cache_folder({}) is None


def test_an_edit_of_any_generator_source_changes_the_key(tmp_path: Path) -> None:
    copy = tmp_path / "simd"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = kernel.cache_key(str(copy))
    assert before == kernel.cache_key() == kernel.cache_key(str(SOURCE))
    keys = {before}
    sources = sorted(copy.glob("*.py"))
    assert {"field51.py", "lanes.py", "points.py", "sum_kernels.py"} <= {source.name for source in sources}
    for source in sources:
        content = source.read_text()
        source.write_text(content + "#")
        keys.add(kernel.cache_key(str(copy)))
        source.write_text(content)
    (copy / "new.py").write_text("")
    keys.add(kernel.cache_key(str(copy)))
    assert len(keys) == len(sources) + 2


def test_the_key_depends_on_what_is_compiled_for() -> None:
    script = "from purposematch.protocol.simd import kernel; print(kernel.cache_key())"
    environments: list[dict[str, str]] = [
        {},
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2"},
        {"NUMBA_CPU_NAME": "skylake", "NUMBA_CPU_FEATURES": "+avx2"},
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+bmi"},
    ]
    keys = [run(script, environment).stdout for environment in environments]
    assert len(set(keys)) == len(environments)
    assert keys[0].strip() == kernel.cache_key()


def test_a_kernel_compiles_nothing_when_it_is_called(simd: SimdGroup) -> None:
    simd.prepare()
    attempts: list[Callable[[], object]] = [lambda one=one: one() for one in kernel.kernels()]
    assert attempts
    for attempt in attempts:
        with pytest.raises(TypeError):
            attempt()
