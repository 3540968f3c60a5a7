"""The code that LLVM makes of the hash kernels, for narrower processors too, and when it is made at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.simd.choice import GROUP_VARIABLE, LANES_FROM, wants_lanes
from purposematch.protocol.simd.processor import FEATURES, INSTRUCTIONS, Instructions

SCRIPT = Path(__file__).resolve().parents[1] / "simd_hashes.py"
LESSER = {
    Instructions.AVX2: ("avx2", {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2"}),
    Instructions.AVX512: ("avx512f", {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": "+avx512f"}),
}


def run(*command: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_code(instructions: Instructions | None, environment: dict[str, str]) -> None:
    found = json.loads(run(str(SCRIPT), **environment))
    assert instructions is not None
    assert found["instructions"] == instructions.value
    assert {"sha256_messages step_absorb", "sha512_messages step_absorb"} <= set(found["steps"])
    assert found["complaints"] == []


def test_code_for_this_processor_agrees_with_hashlib_and_has_no_branches() -> None:
    check_code(INSTRUCTIONS, {})


@pytest.mark.parametrize(
    "instructions",
    [one for one in LESSER if one is not INSTRUCTIONS and LESSER[one][0] in FEATURES],
    ids=lambda one: one.name,
)
def test_code_for_lesser_processors_agrees_too(instructions: Instructions) -> None:
    check_code(instructions, LESSER[instructions][1])


def test_small_batches_and_programs_without_lanes_never_load_the_compiler() -> None:
    program = (
        "import sys, numpy as np\n"
        "from purposematch.protocol.batch_hash import sha512_rows\n"
        "sha512_rows(np.zeros((int(sys.argv[1]), 8), np.uint8))\n"
        "print('numba' in sys.modules)"
    )
    assert run("-c", program, str(LANES_FROM - 1)) == "False\n"
    assert run("-c", program, str(LANES_FROM), **{GROUP_VARIABLE: "sodium"}) == "False\n"
    assert run("-c", program, str(LANES_FROM)) == "True\n"


def test_the_first_compilation_is_announced_and_the_second_process_needs_none(tmp_path: Path) -> None:
    program = (
        "import numpy as np\n"
        "from purposematch.protocol.batch_hash import sha512_rows\n"
        "from purposematch.protocol.simd.choice import announce_with\n"
        "announce_with(lambda: print('compiling'))\n"
        "for _ in range(2): sha512_rows(np.zeros((5000, 8), np.uint8))"
    )
    assert run("-c", program, PURPOSEMATCH_KERNEL_CACHE=str(tmp_path)) == "compiling\n"
    assert run("-c", program, PURPOSEMATCH_KERNEL_CACHE=str(tmp_path)) == ""


def test_lanes_that_are_not_to_be_had_are_refused_when_demanded() -> None:
    program = (
        "import numpy as np\n"
        "from purposematch.protocol.batch_hash import sha512_rows\n"
        "from purposematch.protocol.errors import ConfigurationError\n"
        "try: sha512_rows(np.zeros((5000, 8), np.uint8))\n"
        "except ConfigurationError as error: print(error)"
    )
    none = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"}
    assert "AVX2" in run("-c", program, **none, **{GROUP_VARIABLE: "simd"})
    assert run("-c", program, **none) == ""


def test_a_back_end_of_another_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=GROUP_VARIABLE):
        wants_lanes({GROUP_VARIABLE: "fast"})
    assert not wants_lanes({GROUP_VARIABLE: "sodium"})
