"""Field arithmetic in lanes, in both radices, at the extremes of its bounds, against Python integers."""

import random
from typing import Any

import numpy as np
import pytest

from purposematch.protocol.simd.field import PRIME, BoundError, Field
from purposematch.protocol.simd.field25 import Field25
from purposematch.protocol.simd.field51 import Field51
from purposematch.protocol.simd.kernel import Kernel
from purposematch.protocol.simd.lanes import Lanes, step
from purposematch.protocol.simd.processor import IFMA, LANES
from purposematch.protocol.simd.words import limbs_of, positions

RADICES: list[type[Field]] = [Field25, Field51] if IFMA else [Field25]
RESULTS = 12
FROZEN = 10
"""Which of the operations promises the canonical value."""


def operations(x: Field, y: Field) -> list[Field]:
    """What the formulas are made of, uncarried where they leave it so."""
    lanes = x.lanes
    return [
        x * y,
        x.square(),
        x - y,
        x + y,
        y.square(cover=x.square().upper) - x.square(),
        (x - y) * (x + y),
        -x,
        x.absolute(),
        y.multiply(x, cover=(x * x).upper) - x * x,
        ((x * y).double() - x.square() - y.square()) * (x.square() + y.square()),
        x.freeze(),
        x.select(y, lanes.constant(0) - (lanes.constant(1) & x.limbs[0])),
    ]


def expected(x: int, y: int, lowest: int) -> list[int]:
    even = x % PRIME % 2 == 0
    return [
        x * y,
        x * x,
        x - y,
        x + y,
        y * y - x * x,
        (x - y) * (x + y),
        -x,
        x if even else -x,
        x * y - x * x,
        -((x - y) ** 2) * (x * x + y * y),
        x,
        y if lowest % 2 else x,
    ]


def kernel_of(radix: type[Field]) -> Kernel:
    """A kernel that does all operations and tells their words and masks too."""

    def all_operations(lanes: Lanes, target: Any, a: Any, b: Any) -> None:
        x, y = radix.load(lanes, a), radix.load(lanes, b)
        for slot, result in enumerate(operations(x, y)):
            result.store(target, slot)
        after = RESULTS * len(radix.WIDTHS)
        words = radix.load(lanes, a).words()
        for i, word in enumerate(words):
            lanes.store(target, after + i, word)
        back = radix.from_words(lanes, words)
        lanes.store(target, after + 4, (back - radix.load(lanes, a)).is_zero())
        lanes.store(target, after + 5, x.is_zero())
        lanes.store(target, after + 6, x.is_negative())

    all_operations.__name__ = f"operations_{radix.__name__}"
    emitted = step(3)(all_operations)

    def run(workspace: Any, target: int, a: int, b: int) -> None:
        emitted(workspace, target, a, b)

    made = Kernel(run, "void(uint64[::1], intp, intp, intp)")
    made.compile()
    return made


@pytest.mark.parametrize("radix", RADICES)
def test_operations_agree_with_integers_at_the_extremes(radix: type[Field]) -> None:
    run = kernel_of(radix)
    generator = random.Random(9496)
    count, places = len(radix.WIDTHS), positions(radix.WIDTHS)
    size = count * LANES
    special = [0, 1, 2, 19, PRIME - 1, PRIME, PRIME + 1, PRIME + 18, 2**255 - 1, PRIME - 19, PRIME // 2]

    def limbs() -> list[int]:
        kind = generator.randrange(5)
        if kind == 0:
            return list(radix.STORED)
        if kind == 1:
            pairs = zip(radix.STORED, radix.WIDTHS, strict=True)
            return [generator.choice((0, most, (1 << width) - 1, 1 << width)) for most, width in pairs]
        if kind == 2:
            return limbs_of(generator.choice(special), radix.WIDTHS)
        return [generator.randrange(most + 1) for most in radix.STORED]

    for _ in range(600):
        x, y = [limbs() for _ in range(LANES)], [limbs() for _ in range(LANES)]
        workspace = np.zeros((RESULTS + 4) * size, np.uint64)
        workspace[:size] = np.array(x, np.uint64).T.reshape(-1)
        workspace[size : 2 * size] = np.array(y, np.uint64).T.reshape(-1)
        run(workspace, 2 * size, 0, size)
        results = workspace[2 * size : (2 + RESULTS) * size].reshape(RESULTS, count, LANES)
        after = workspace[(2 + RESULTS) * size :].reshape(-1, LANES)
        assert (results <= np.array(radix.STORED, np.uint64)[:, None]).all()
        for lane in range(LANES):
            a, b = (sum(limb << at for limb, at in zip(v[lane], places, strict=True)) for v in (x, y))
            for slot, value in enumerate(expected(a, b, x[lane][0])):
                got = sum(int(results[slot, i, lane]) << at for i, at in enumerate(places))
                assert (got - value) % PRIME == 0, slot
                if slot == FROZEN:
                    assert got == a % PRIME
            words = sum(int(after[i, lane]) << (64 * i) for i in range(4))
            assert words == a % PRIME
            full = 2**64 - 1
            assert int(after[4, lane]) == full
            assert int(after[5, lane]) == (full if a % PRIME == 0 else 0)
            assert int(after[6, lane]) == (full if a % PRIME % 2 else 0)


@pytest.mark.parametrize("radix", RADICES)
def test_what_could_overflow_generates_no_code(radix: type[Field]) -> None:
    size = len(radix.WIDTHS)

    def too_large(lanes: Lanes, pointer: Any) -> None:
        radix(lanes, [lanes.load(pointer)] * size, [2**64] * size)

    def never_carried(lanes: Lanes, pointer: Any) -> None:
        radix.load(lanes, pointer, bound=[2**50] * size).carry_to([1] * size)

    def too_large_to_freeze(lanes: Lanes, pointer: Any) -> None:
        loose = type("Loose", (radix,), {"STORED": [2 * most for most in radix.STORED]})
        loose.load(lanes, pointer).freeze()

    for body in (too_large, never_carried, too_large_to_freeze):
        with pytest.raises(BoundError):
            generate(body)


def generate(body: Any) -> None:
    """Runs the body of a step of one pointer, without compiling anything."""
    from llvmlite import ir

    pointer = ir.IntType(64).as_pointer()
    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), [pointer]), "body")
    body(Lanes(ir.IRBuilder(function.append_basic_block()), LANES, 64), *function.args)
