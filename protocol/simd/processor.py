"""What this processor, as LLVM will compile for it, offers the vector kernels.

The list of features is numba's own, so that what is chosen here is what is really compiled: numba takes
``NUMBA_CPU_FEATURES`` where it is set, else what LLVM finds. Nothing here asks the processor itself, because
emitting an instruction that LLVM does not compile for aborts the process.

Three instruction sets are used, best first: AVX-512 IFMA (52-bit multiply-add), AVX-512F and AVX2. On any
other processor `INSTRUCTIONS` is None, and only kernels that see public values are compiled
(`purposematch.protocol.group.lanes`): LLVM turns vectors into whatever the processor has, and nobody has read
or measured that code for secrets.
"""

from collections.abc import Collection
from enum import Enum

from numba.core import config
from numba.core.codegen import get_host_cpu_features

__all__ = ["FEATURES", "IFMA", "INSTRUCTIONS", "LANES", "Instructions", "best_instructions"]


class Instructions(Enum):
    """An instruction set, by the name that is shown to people."""

    IFMA = "AVX-512 IFMA"
    AVX512 = "AVX-512F"
    AVX2 = "AVX2"


def best_instructions(features: Collection[str]) -> Instructions | None:
    """The best set that these LLVM features allow, or None."""
    if "avx512f" in features:
        return Instructions.IFMA if "avx512ifma" in features else Instructions.AVX512
    return Instructions.AVX2 if "avx2" in features else None


def _features() -> frozenset[str]:
    listed = config.CPU_FEATURES
    text: str = get_host_cpu_features() if listed is None else listed
    return frozenset(feature[1:] for feature in text.split(",") if feature.startswith("+"))


FEATURES = _features()
"""The names of the features that LLVM compiles for, without their plus sign."""
INSTRUCTIONS = best_instructions(FEATURES)
"""What the kernels use; None where secrets must not meet them."""
IFMA = INSTRUCTIONS is Instructions.IFMA
"""Whether 52-bit multiply-add is there, which decides the radix of the field."""
LANES = {None: 2, Instructions.AVX2: 4}.get(INSTRUCTIONS, 8)
"""64-bit lanes of a vector; two fill a register of SSE2 or NEON. Two vectors side by side were measured to be
slower than one, on SSE2 and on AVX2: they spill."""
