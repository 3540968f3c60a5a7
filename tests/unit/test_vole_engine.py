"""Where the VOLE engine is available, that no processor aborts, and that every one says the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.group import SodiumGroup
from purposematch.protocol.simd.processor import FEATURES
from purposematch.protocol.vole.engine import Engine, open_engine, why_unavailable

TESTS = Path(__file__).resolve().parents[1]
NARROW = {
    "AVX2 and AES-NI": ({"avx2", "aes"}, "haswell", "+avx2,+aes"),
    "AVX2 and VAES": ({"avx2", "vaes"}, "alderlake", "+avx2,+aes,+vaes,-avx512f"),
    "AVX-512 and AES-NI": ({"avx512f", "aes"}, "skylake-avx512", "+avx512f,+avx2,+aes"),
}
FROZEN = """
import json, os, sys
sys.path.insert(0, ".")
from vectors.make_vole import matches
from purposematch.protocol.group import SodiumGroup
from purposematch.protocol.simd.processor import FEATURES, LANES
from purposematch.protocol.vole.engine import open_engine
engine = open_engine(SodiumGroup(1), os.environ)
print(json.dumps([LANES, "vaes" in FEATURES, matches(engine)]))
"""


def run(program: str, **environment: str) -> str:
    """What a program prints in a process of its own; it has to end well."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=TESTS,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "name",
    [name if name == "AVX2 and AES-NI" else pytest.param(name, marks=pytest.mark.slow) for name in NARROW],
)
def test_other_processors_say_the_same_bytes(name: str) -> None:
    needed, processor, features = NARROW[name]
    if not needed <= FEATURES:
        pytest.skip(f"this processor has no {name}")
    found = json.loads(run(FROZEN, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES=features))
    frozen = json.loads((TESTS / "vectors" / "vole-v1.json").read_text())

    assert found == [8 if "avx512f" in needed else 4, "vaes" in needed, frozen["matches"]]


REASON = """
import os
from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.group import SodiumGroup
from purposematch.protocol.vole.engine import open_engine
try:
    open_engine(SodiumGroup(1), os.environ).prepare()
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ("", "AVX2 or AVX-512"),
        ("+sse4.2,+aes", "AVX2 or AVX-512"),
        ("+avx2", "AES-NI"),
        ("+avx512f,+avx512ifma,+avx2,+vaes", "AES-NI"),
    ],
)
def test_a_processor_that_lacks_something_is_told_and_nothing_aborts(features: str, reason: str) -> None:
    told = run(REASON, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=features, PURPOSEMATCH_GROUP="")
    assert reason in told


def test_who_chose_libsodium_has_no_engine() -> None:
    environ = {"PURPOSEMATCH_GROUP": "sodium"}
    reason = why_unavailable(environ)
    assert reason is not None
    assert "sodium" in reason
    with pytest.raises(ConfigurationError, match="sodium"):
        open_engine(SodiumGroup(1), environ)
    assert why_unavailable({}) is None


def test_asking_imports_no_kernel() -> None:
    program = (
        "import sys\n"
        "from purposematch.protocol.vole import engine, parameters\n"
        "engine.why_unavailable({'PURPOSEMATCH_GROUP': 'sodium'})\n"
        "print('numba' in sys.modules)"
    )
    assert run(program) == "False\n"


def test_its_kernels_are_not_compiled_with_those_of_the_group(tmp_path: Path) -> None:
    program = (
        "import os\n"
        "from purposematch.protocol.simd import kernel\n"
        "from purposematch.protocol.vole import aes, columns, kernels, outputs\n"
        "names = {one.name for one in kernel.kernels()}\n"
        "print(names & {one.name for one in kernels._kernels}, len(kernels._kernels) > 8)\n"
        "one, folder = aes.permute_groups, kernels.cache_folder(os.environ)\n"
        "kernel.prepare(folder, lambda: print('announced'), [one])\n"
        "kernel.prepare(folder, lambda: print('again'), [one])\n"
        "print(one.ready, any(one.ready for one in kernel.kernels()))"
    )
    first, second = (run(program, PURPOSEMATCH_KERNEL_CACHE=str(tmp_path)) for _ in range(2))

    assert first == "set() True\nannounced\nTrue False\n"
    assert second == "set() True\nTrue False\n"
    assert [folder.name.split("-")[0] for folder in tmp_path.iterdir()] == ["vole"]


def test_without_a_folder_kernels_are_compiled_in_every_process() -> None:
    from purposematch.protocol.vole.kernels import cache_folder

    assert cache_folder({"PURPOSEMATCH_KERNEL_CACHE": ""}) is None
    assert str(cache_folder({"PURPOSEMATCH_KERNEL_CACHE": "/somewhere"})).startswith("/somewhere/vole-")


def test_an_engine_can_be_prepared_twice(vole: Engine) -> None:
    vole.prepare()
