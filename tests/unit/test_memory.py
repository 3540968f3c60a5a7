"""Memory that a server has used: batches use the same again, and lists give theirs back to the system."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import re, resource, threading
import numpy as np
from purposematch.server.memory import ARENAS, KEPT_BYTES, LARGE_BYTES, bound_kept_memory

def resident():
    return int(re.findall(r"RssAnon:\\s+(\\d+) kB", open("/proc/self/status").read())[0]) << 10

assert bound_kept_memory()
before = resident()
# Arrays of lists with small ones between them that stay.
arrays = [np.ones(LARGE_BYTES + 1_000_000 * i, np.uint8) for i in range(10)]
kept = [bytes(2_000) for _ in range(200)]
del arrays
assert resident() - before < 5 << 20, "arrays of lists have left something behind"

def batch():
    arrays = [np.ones(200_000 + 1_000 * i, np.uint8) for i in range(50)]
    kept.extend(bytes(2_000) for _ in range(10))

def batches():
    threads = [threading.Thread(target=lambda: [batch() for _ in range(20)]) for _ in range(4)]
    [thread.start() for thread in threads]; [thread.join() for thread in threads]

batches()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
batches()
# 80 batches of 50 arrays of 50 pages and more.
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
assert faults < 80 * 50 * 50 // 4, "nothing is used again"
# Four batches of 11 MB at a time.
assert resident() - before < ARENAS * KEPT_BYTES + (100 << 20), "more is kept than was ever used at a time"
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have their own ways")
def test_batches_use_memory_again_and_lists_give_it_back() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
