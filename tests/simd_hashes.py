"""Compiles the hash kernels anew, reads the code of their steps, and compares what they compute with hashlib.

Run by test_simd_sha_code.py in a process of its own, with the environment that decides what LLVM compiles
for: from cached code numba gives no assembly. Prints what it found as JSON.
"""

import ctypes
import hashlib
import hmac
import json
import mmap
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from samples import uniform
from simd_code import steps

from purposematch.protocol import portable_hash
from purposematch.protocol.simd import hash_kernels, hashes
from purposematch.protocol.simd.processor import INSTRUCTIONS

LOOPS = {"step_absorb": 1}
"""The rounds are a loop; no other step may have a conditional jump."""


def read_code() -> tuple[list[str], list[str]]:
    """The names of all steps, and conditional jumps, gathers and divisions in them."""
    names: set[str] = set()
    said: list[str] = []
    for kernel in (hash_kernels.sha256_messages, hash_kernels.sha512_messages):
        kernel.compile()
        (assembly,) = kernel.dispatcher.inspect_asm().values()
        for name, code in steps(assembly).items():
            names.add(f"{kernel.name} {name}")
            jumps = [line for line in code if re.match(r"j(?!mp)\w+ ", line)]
            if len(jumps) > LOOPS.get(name, 0):
                said.append(f"{name}: {len(jumps)} conditional jumps")
            said += [f"{name}: {line}" for line in code if re.match(r"vp?(gather|scatter)|v?i?div", line)]
    return sorted(names), said


def compare_strings() -> None:
    """Every length up to 520 and some beyond, in an order that mixes them, from one array of bytes."""
    lengths = [length * 7 % 521 for length in range(521)] + [0, 4096, 1, 100_000, 64, 63, 55, 56]
    ends = np.cumsum([3, *lengths])
    data = uniform(1, int(ends[-1]))[0]
    valid = np.arange(len(lengths)) % 5 != 2
    expected = [
        hashlib.sha256(data[begin:end].tobytes()).digest() if there else bytes(32)
        for begin, end, there in zip(ends[:-1], ends[1:], valid, strict=True)
    ]
    for kind in (np.int32, np.int64):
        same(hashes.sha256_strings(ends.astype(kind), data, valid), b"".join(expected))
    for count in (0, 1, 15, 16, 17, hash_kernels.CHUNK_ROWS - 1, hash_kernels.CHUNK_ROWS + 1):
        rows = uniform(count, 24)
        offsets = np.arange(count + 1) * 24
        digests = b"".join(hashlib.sha256(row.tobytes()).digest() for row in rows)
        same(hashes.sha256_strings(offsets, rows.reshape(-1), None), digests)


def compare_rows() -> None:
    """HMAC, SHA-512 and expand_message_xmd around the lengths at which a block more is needed."""
    for count in (0, 1, 7, 8, 9, 17):
        for width in (0, 1, 31, 32, 33, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 300):
            messages, others = some(count, width), some(count, 32, "other")
            parts = [b"head", messages, b"middle" * (width % 50), others, b"tail"]
            same(hashes.sha512_rows(parts), portable_hash.sha512_rows(parts))
            key = bytes(range(width % 65))
            same(
                hashes.hmac_sha256(key, messages),
                [hmac.digest(key, row.tobytes(), "sha256") for row in messages],
            )
            for length in (0, 43, 44, 45, 46, 110, 111, 174, 255):
                dst = bytes(range(length))
                uniform_bytes = hashes.expand_message_xmd_64([messages], dst)
                same(uniform_bytes, portable_hash.expand_message_xmd([messages], dst, 64))
    for width in (0, 1, 32, 64):
        for message in (b"", b"a message", bytes(200)):
            keys = some(19, width)
            macs = [hmac.digest(key.tobytes(), message, "sha256") for key in keys]
            same(hashes.hmac_sha256_keys(keys, message), macs)


def read_nothing_behind_the_end() -> None:
    """Strings that end where memory ends: reading a byte more would end this process."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    whole = np.frombuffer(memory, np.uint8)
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(whole.ctypes.data + page), ctypes.c_size_t(page), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    last = whole[page - 200 : page]
    for start in range(200):
        expected = hashlib.sha256(last[start:].tobytes()).digest()
        same(hashes.sha256_strings(np.array([start, 200]), last, None), expected)
        parts = [last[start:].reshape(1, -1), b"tail"]
        same(hashes.sha512_rows(parts), hashlib.sha512(last[start:].tobytes() + b"tail").digest())


def leave_nothing_behind() -> None:
    """The kernels overwrite their scratch."""
    made: list[Any] = []
    aligned = hashes._aligned

    def watched(words: int) -> Any:
        made.append(aligned(words))
        return made[-1]

    hashes._aligned = watched  # type: ignore[assignment]
    messages = uniform(50, 90)
    hashes.hmac_sha256(bytes(range(32)), messages)
    hashes.sha512_rows([messages])
    hashes._aligned = aligned
    if len(made) != 3 or any(workspace.any() for workspace in made):
        raise AssertionError("a kernel left something in its workspace")


def share() -> None:
    """Threads hash parts of a batch side by side."""
    messages = uniform(4_000, 33)
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda part: hashes.expand_message_xmd_64([part], b"dst"), np.split(messages, 40))
        same(np.concatenate(list(parts)), portable_hash.expand_message_xmd([messages], b"dst", 64))


def some(count: int, width: int, label: str = "some") -> Any:
    """Arbitrary rows of any width, zero included."""
    return uniform(count, width + 2, label)[:, 1:-1]


def same(found: Any, expected: Any) -> None:
    """A batch has these bytes."""
    content = expected if isinstance(expected, bytes) else b"".join(bytes(row) for row in expected)
    if found.tobytes() != content:
        raise AssertionError("lanes and hashlib differ")


if __name__ == "__main__":
    names, said = read_code()
    compare_strings()
    compare_rows()
    read_nothing_behind_the_end()
    leave_nothing_behind()
    share()
    print(
        json.dumps({"instructions": INSTRUCTIONS and INSTRUCTIONS.value, "steps": names, "complaints": said})
    )
