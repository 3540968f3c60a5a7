"""The code that LLVM makes of the kernels, for the instruction set of this machine and for narrower ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from purposematch.protocol.simd.processor import FEATURES, INSTRUCTIONS, Instructions

SCRIPT = Path(__file__).resolve().parents[1] / "simd_code.py"
FORCED = {
    Instructions.AVX2: {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2"},
    Instructions.AVX512: {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": "+avx512f"},
}
NEEDED = {Instructions.AVX2: "avx2", Instructions.AVX512: "avx512f"}
NARROWER = [one for one in FORCED if one is not INSTRUCTIONS and NEEDED[one] in FEATURES]
SECRET_STEPS = {
    "step_choose",
    "step_choice",
    "step_recode",
    "step_recode_odd",
    "step_add_entry",
    "step_double",
    "step_add_ready",
    "step_montgomery",
}


def check(instructions: Instructions | None, environment: dict[str, str]) -> None:
    """Runs the script, which compares with libsodium too, and believes it only if it saw the steps."""
    result = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert instructions is not None
    assert found["instructions"] == instructions.value
    assert set(found["steps"]) >= SECRET_STEPS
    assert found["complaints"] == []


def test_no_step_does_what_could_depend_on_a_secret_and_all_agree_with_libsodium() -> None:
    check(INSTRUCTIONS, {})


@pytest.mark.parametrize(
    "instructions",
    [pytest.param(one, marks=[pytest.mark.slow] * (one is Instructions.AVX512)) for one in NARROWER],
    ids=lambda one: one.name,
)
def test_code_for_lesser_processors_is_as_good(instructions: Instructions) -> None:
    check(instructions, FORCED[instructions])


def test_the_reader_of_code_finds_what_is_forbidden() -> None:
    sys.path.insert(0, str(SCRIPT.parent))
    import simd_code

    harmless = [
        "vmovdqu64 (%rsi), %zmm0",
        "movq %rsp, %rbp",
        "andq $-64, %rsp",
        "vpaddq %zmm0, %zmm1, %zmm2",
        "retq",
    ]
    assert simd_code.complaints("step_double", harmless) == []
    for line in (
        "jne .LBB3_4",
        "idivq %rcx",
        "vpgatherqq (%rdi,%zmm1,8), %zmm0 {%k1}",
        "callq memcpy",
        "vmovq %xmm3, %rax",
        "vpextrq $1, %xmm3, %rax",
        "kmovb %k1, %eax",
        "vptest %ymm0, %ymm1",
        "movq 8(%rdi), %rax",
    ):
        assert simd_code.complaints("step_double", [*harmless, line]), line
    assert simd_code.complaints("step_choose", [*harmless, "vmovdqu64 (%rsi), %zmm0 {%k1} {z}"])
    assert simd_code.complaints("step_square_pair", [*harmless, "jne .LBB3_4"]) == []
    assert simd_code.complaints("step_square_pair", [*harmless, "jne .LBB3_4", "je .LBB3_5"])
    assembly = "step_a:\n\tvpaddq %zmm0, %zmm1, %zmm2\n.L1:\n\tjne .L1 # loop\nother:\n\tcallq f\n"
    assembly += "step_a.5:\n\tretq\n"
    assert simd_code.steps(assembly) == {
        "step_a": ["vpaddq %zmm0, %zmm1, %zmm2", "jne .L1"],
        "step_a.5": ["retq"],
    }
