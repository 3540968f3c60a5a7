"""Decoders take what somebody else made: it decodes, or one of our errors says why not; in time.

The same targets twice: with inputs that Hypothesis looks for, and with a fixed set of inputs again and again,
to see what stays in memory.
"""

import gc
import time
import tracemalloc
from contextlib import suppress
from random import Random

import pytest
from budget import check_text, fuzz
from decoders import Target, targets
from hypothesis import strategies as st
from mutations import spoil

from purposematch.protocol.errors import PurposematchError

SECONDS = 2.0
"""Of this thread's own time, for one input of at most some 100 kB."""
GROWTH_BYTES = 65_536
PEAK_BYTES = 64 * 2**20


def decoded(target: Target, content: bytes) -> None:
    """Decodes one input; whatever else than our errors comes out fails the test."""
    began = time.thread_time()
    try:
        value = target.decode(content)
    except PurposematchError as error:
        check_text(error)
        if content in target.samples:
            raise
    else:
        if target.encode is not None:
            assert target.encode(value) == content
    assert time.thread_time() - began < SECONDS


@pytest.mark.parametrize("name", targets())
def test_what_is_spoiled_decodes_or_is_refused(name: str) -> None:
    target = targets()[name]
    for sample in target.samples:
        decoded(target, sample)
    spoiled = st.builds(spoil, st.sampled_from(target.samples), st.randoms(use_true_random=False))
    fuzz(spoiled | st.binary(max_size=200), lambda content: decoded(target, content), target.examples)


@pytest.mark.parametrize("name", targets())
def test_decoding_leaves_nothing_in_memory(name: str) -> None:
    target, random = targets()[name], Random(name)
    contents = [
        *target.samples,
        *(spoil(random.choice(target.samples), random) for _ in range(target.examples // 3)),
    ]

    def run() -> int:
        for content in contents:
            with suppress(PurposematchError):
                target.decode(content)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        # Whatever is made once, such as a compiled expression, is made by now.
        run()
        before = run()
        grown = run() - before
        assert grown < GROWTH_BYTES
        assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    finally:
        tracemalloc.stop()
