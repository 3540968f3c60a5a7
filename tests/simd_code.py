"""Compiles every kernel anew, reads the code of its steps, and compares what it computes with libsodium.

Run by test_simd_code.py in a process of its own, with the environment that decides what LLVM compiles for:
from cached code numba gives no assembly. Prints what it found as JSON.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from samples import rows, uniform

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import SecretScalar, SodiumGroup
from purposematch.protocol.group.simd import CHUNK_ELEMENTS, SimdGroup
from purposematch.protocol.scalars import GROUP_ORDER
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.simd.kernel import kernels
from purposematch.protocol.simd.processor import INSTRUCTIONS, LANES

LOOPS = {"step_square_pair": 1}
"""Steps with a loop of a public number of rounds, and how many conditional jumps that makes."""
PUBLIC = {"step_add_row": "sum_group"}
"""Steps that follow public addresses, and the kernel of public sums that alone may have each."""
STEPLESS = {"order_by_digit"}
"""Kernels that only sort what is public."""
FORBIDDEN = {
    "a division": r"(v?i?div|v?sqrt)\w* .*",
    "a gather or scatter": r"vp?(gather|scatter)\w* .*",
    "a call": r"call\w* .*",
    "a jump to a computed address": r"jmp\w* \*.*",
    "a value that leaves the vector registers": (
        r"v?(pextr\w|movmskp[sd]|pmovmskb|ptest|testp[sd]|comis[sd]) .*|kortest\w .*|ktest\w .*"
        r"|v?mov[dq] %xmm\d+, %[er][^,]*|kmov\w %k\d, .*"
    ),
    "a scalar read from memory": (
        r"(mov|add|sub|and|or|xor|cmp|test|imul|mul|mulx)[lq]? -?[^%,]*\((?!%r[sb]p)[^)]*\), .*"
    ),
}


def steps(assembly: str) -> dict[str, list[str]]:
    """The instructions of every step in the assembly of a kernel; LLVM names copies like step_a.5."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in assembly.splitlines():
        label = re.match(r'"?([A-Za-z_][\w.$]*)"?:', line)
        if label:
            current = found.setdefault(label[1], []) if label[1].startswith("step_") else None
        elif current is not None and re.match(r"\s+[a-z]", line):
            current.append(re.sub(r"\s+", " ", line.split("#")[0]).strip())
    return found


def complaints(name: str, code: list[str]) -> list[str]:
    """What a step does that could depend on a secret."""
    said = []
    jumps = [line for line in code if re.match(r"j(?!mp)\w+ ", line) or line.startswith("loop")]
    if len(jumps) > LOOPS.get(name, 0):
        said.append(f"{name}: {len(jumps)} conditional jumps")
    for what, pattern in FORBIDDEN.items():
        said += [f"{name}: {what}: {line}" for line in code if re.fullmatch(pattern, line)]
    if name == "step_choose":
        # A load under a mask may be skipped where no lane asks for it.
        said += [f"{name}: a mask register: {line}" for line in code if "%k" in line or "maskmov" in line]
    return said


def read_code() -> tuple[list[str], list[str]]:
    """Compiles all kernels; the names of all steps and what there is to complain about."""
    names: set[str] = set()
    said: set[str] = set()
    for kernel in kernels():
        kernel.compile()
        (assembly,) = kernel.dispatcher.inspect_asm().values()
        found = steps(assembly)
        if not found and kernel.name not in STEPLESS:
            said.add(f"{kernel.name}: no step was found in its code")
        for label, code in found.items():
            name = re.sub(r"\.\d+$", "", label)
            names.add(name)
            if len(code) < 5:
                said.add(f"{name}: no code was found")
            if name in PUBLIC:
                said |= set() if kernel.name == PUBLIC[name] else {f"{kernel.name}: it has {name}"}
            else:
                said |= set(complaints(name, code))
    return sorted(names), sorted(said)


def compare(invalid: list[bytes]) -> None:
    """Computes everything on both back ends; AssertionError where they differ."""
    count = CHUNK_ELEMENTS + LANES + 3
    simd, sodium = SimdGroup(threads=2), SodiumGroup()
    wide = uniform(count, 64)
    wide[:4] = rows([bytes(64 - i) + b"\xff" * i for i in (1, 31, 32, 64)], 64)
    fast, slow = simd.map_to_group(wide), sodium.map_to_group(wide)
    same(simd.encode(fast), sodium.encode(slow))
    encoded = sodium.encode(slow)
    for lane, encoding in enumerate(invalid * LANES):
        damaged = encoded[: 2 * LANES].copy()
        damaged[lane % LANES + LANES // 2] = np.frombuffer(encoding, np.uint8)
        try:
            simd.decode(damaged)
        except DecodeError:
            continue
        raise AssertionError("an invalid encoding was decoded")
    scalars = simd.reduce(wide)
    same(scalars, sodium.reduce(wide))
    edges = [1, 2, 7, 8, 9, 15, 16, 17, GROUP_ORDER - 1, GROUP_ORDER - 2, GROUP_ORDER + 1, 2**252, 2**255 - 1]
    scalars[: len(edges)] = rows([edge.to_bytes(32, "little") for edge in edges])
    pairs = (simd, simd.decode(encoded)), (sodium, slow)
    each, expected = (group.multiply_each(elements, SecretArray(scalars)) for group, elements in pairs)
    same(simd.encode(each), sodium.encode(expected))
    base = encoded[7:8]
    for made in (None, lambda group: group.decode(base)):
        for negate in (False, True):
            sums = (
                g.encode(g.add_multiples(e, SecretArray(scalars.copy()), made and made(g), negate=negate))
                for g, e in pairs
            )
            same(*sums)
    for row in scalars[: len(edges) + 3]:
        key = SecretScalar(row.tobytes())
        part = each.rows(LANES - 1, 3 * LANES), expected.rows(LANES - 1, 3 * LANES)
        same(simd.encode(simd.multiply(part[0], key)), sodium.encode(sodium.multiply(part[1], key)))
    for start, stop in ((0, 1), (0, count), (LANES - 1, LANES), (3, count - 2)):
        sums = (
            g.encode(g.public_sum_of_products(e.rows(start, stop), scalars[start:stop]))
            for g, e in ((simd, each), (sodium, expected))
        )
        same(*sums)
    same(*(reveal_array(g.invert(SecretArray(scalars))) for g in (simd, sodium)))


def same(a: Any, b: Any) -> None:
    """Two batches of the same bytes."""
    if a.shape != b.shape or not (a == b).all():
        raise AssertionError("the back ends differ")


if __name__ == "__main__":
    published = json.loads((Path(__file__).parent / "vectors" / "rfc9496_ristretto255.json").read_text())
    names, said = read_code()
    compare([bytes.fromhex(encoding) for encoding in published["invalid_encodings"]])
    found = INSTRUCTIONS.value if INSTRUCTIONS else None
    print(json.dumps({"instructions": found, "steps": names, "complaints": said}))
