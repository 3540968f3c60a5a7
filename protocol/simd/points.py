"""The formulas of the curve behind ristretto255, as steps: each does one thing to one block of points.

Source: Hisil, Wong, Carter, Dawson 2008, for a = -1: addition in seven multiplications (eight with T),
doubling in three squarings and four multiplications.

A point is stored in one of these forms, a field element a slot:

* extended: X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z; doublings read and write X, Y, Z only;
* ready: Y-X, Y+X, Z, T, the sum of a doubling or addition that another addition follows: two carries fewer;
* cached: Y+X, Y-X, 2Z, 2dT, what is added;
* affine: y+x, y-x, 2dxy, what is added at one multiplication less.

A block holds one point a lane. Every step is constant-time, but that `add_row` reads where it is told.
"""

from collections.abc import Sequence
from typing import Any, Final

from purposematch.protocol.simd.field import Field
from purposematch.protocol.simd.field25 import Field25
from purposematch.protocol.simd.field51 import Field51
from purposematch.protocol.simd.lanes import ENTRIES, Lanes, Vector, step
from purposematch.protocol.simd.processor import IFMA, LANES

__all__ = [
    "AFFINE_SLOTS",
    "DIGIT_BITS",
    "ELEMENT",
    "MASKS",
    "PAIR",
    "POINT",
    "ROW",
    "TABLE_ENTRIES",
    "D",
    "Element",
    "add",
    "add_entry",
    "add_ready",
    "add_row",
    "affine",
    "cache",
    "cache_ready",
    "choose",
    "copy",
    "double",
    "double_ready",
    "extend",
    "find_identity",
    "leave_ready",
    "load_elements",
    "make_ready",
    "multiply",
    "multiply_pair",
    "square_pair",
    "start",
    "store_elements",
    "twice",
]

Element: type[Field] = Field51 if IFMA else Field25
"""The field in the radix of this processor."""

ELEMENT: Final = len(Element.WIDTHS) * LANES
"""64-bit words of one stored field element, all lanes."""
POINT: Final = 4 * ELEMENT
"""Words of one block of points."""
PAIR: Final = 2
"""Field elements that are raised to a power together, so that one hides the latency of the other."""
TABLE_ENTRIES: Final = 8
"""The multiples of a point, 1 to 8, that signed digits of four bits choose from."""
MASKS: Final = TABLE_ENTRIES + 2
"""Masks of a choice: one for the identity, one for each entry, one for the sign."""

DIGIT_BITS: Final = 4
"""Bits of a secret digit."""
AFFINE_SLOTS: Final = 3
"""Field elements of an affine point."""
ROW: Final = -(-AFFINE_SLOTS * len(Element.WIDTHS) // 8) * 8
"""Words of an affine point of one lane: whole cache lines."""

D: Final = 37095705934669439343138083508754565189542113879843219016388785533085940283555


def load_elements(lanes: Lanes, pointer: Any, count: int, bound: Sequence[int] | None = None) -> list[Field]:
    """The first `count` field elements behind a pointer."""
    return [Element.load(lanes, pointer, slot, bound) for slot in range(count)]


def store_elements(pointer: Any, *elements: Field) -> None:
    """Stores field elements one after another.

    They are written limb by limb in turn: zeros side by side, such as those of a constant, would become a
    call of memset, and the code of a step is easier to vouch for without any call.
    """
    for element in elements:
        element.carry_to(Element.STORED)
    size = len(Element.WIDTHS)
    for i in range(size):
        for slot, element in enumerate(elements):
            element.lanes.store(pointer, slot * size + i, element.limbs[i])


# Field elements.


@step(2)
def copy(lanes: Lanes, target: Any, source: Any) -> None:
    """Copies a field element."""
    Element.load(lanes, source).store(target)


@step(3)
def multiply(lanes: Lanes, target: Any, a: Any, b: Any) -> None:
    """The product of two field elements."""
    (Element.load(lanes, a) * Element.load(lanes, b)).store(target)


@step(3)
def multiply_pair(lanes: Lanes, target: Any, a: Any, b: Any) -> None:
    """The products of two pairs, slot by slot."""
    for slot in range(PAIR):
        (Element.load(lanes, a, slot) * Element.load(lanes, b, slot)).store(target, slot)


@step(2, 1)
def square_pair(lanes: Lanes, target: Any, source: Any, count: Any) -> None:
    """Squares both elements of a pair `count` times."""
    size = len(Element.WIDTHS)

    def elements(state: list[Vector]) -> list[Field]:
        return [Element(lanes, state[i * size : (i + 1) * size], Element.STORED) for i in range(PAIR)]

    def body(_: Any, state: list[Vector]) -> list[Vector]:
        squares = [element.square().carry_to(Element.STORED) for element in elements(state)]
        return [limb for square in squares for limb in square.limbs]

    begin = [limb for element in load_elements(lanes, source, PAIR) for limb in element.limbs]
    store_elements(target, *elements(lanes.loop(count, begin, body)))


# Addition and doubling.


def _sum(ready: Sequence[Field], cached: Sequence[Field]) -> tuple[Field, Field, Field, Field]:
    """E, F, G, H of add-2008-hwcd-3; the sum is EF, GH, FG and EH."""
    difference, total, z, t = ready
    a = difference * cached[1]
    b = total.multiply(cached[0], cover=a.upper)
    c = t * cached[3]
    d = z.multiply(cached[2], cover=c.upper)
    return b - a, d - c, d + c, b + a


def twice(point: Sequence[Field]) -> tuple[Field, Field, Field, Field]:
    """E, F, G, H of dbl-2008-hwcd, with two signs moved into the projective scale.

    E = 2XY, G = Y^2 - X^2, H = Y^2 + X^2, F = 2 Z^2 - G. No limb is carried on the way; as a product, 2XY
    costs less here than (X + Y)^2 - X^2 - Y^2.
    """
    x, y, z = point[:3]
    xx = x.square()
    yy = y.square(cover=xx.upper)
    e = (x * y).double()
    g, h = yy - xx, yy + xx
    zz = z.square(cover=[high // 2 + 1 for high in g.upper])
    return e, zz.double() - g, g, h


@step(2)
def cache(lanes: Lanes, target: Any, source: Any) -> None:
    """Extended to cached."""
    x, y, z, t = load_elements(lanes, source, 4)
    store_elements(target, y + x, y - x, z.double(), t * Element.constant(lanes, 2 * D))


@step(2)
def cache_ready(lanes: Lanes, target: Any, source: Any) -> None:
    """Ready to cached."""
    difference, total, z, t = load_elements(lanes, source, 4)
    store_elements(target, total, difference, z.double(), t * Element.constant(lanes, 2 * D))


@step(2)
def extend(lanes: Lanes, target: Any, source: Any) -> None:
    """Gives a point of X, Y, Z its T: XZ, YZ, Z^2, XY."""
    x, y, z = load_elements(lanes, source, 3)
    store_elements(target, x * z, y * z, z.square(), x * y)


@step(2)
def add(lanes: Lanes, point: Any, cached: Any) -> None:
    """Adds a cached point to an extended one."""
    x, y, z, t = load_elements(lanes, point, 4)
    e, f, g, h = _sum([y - x, y + x, z, t], load_elements(lanes, cached, 4))
    store_elements(point, e * f, g * h, f * g, e * h)


@step(3)
def affine(lanes: Lanes, target: Any, point: Any, inverse: Any) -> None:
    """Extended to affine, with the inverse of Z."""
    x, y = (one * Element.load(lanes, inverse) for one in load_elements(lanes, point, 2))
    store_elements(target, y + x, y - x, x * y * Element.constant(lanes, 2 * D))


def _add_affine(lanes: Lanes, point: Any, entry: Sequence[Field], negative: Vector) -> None:
    """Adds an affine point, or its negative under a mask, to a ready one; gives a ready one."""
    plus, minus, product = entry
    difference, total, z, t = load_elements(lanes, point, 4)
    a = difference * minus.select(plus, negative)
    b = total.multiply(plus.select(minus, negative), cover=a.upper)
    c = t * product.select(-product, negative).carry_to(Element.FACTOR)
    d = z.double()
    e, f, g, h = b - a, d - c, d + c, b + a
    x = e * f
    y = g.multiply(h, cover=x.upper)
    store_elements(point, y - x, y + x, f * g, e * h)


@step(3)
def add_row(lanes: Lanes, point: Any, addresses: Any, signs: Any) -> None:
    """Adds an affine point from memory to a ready one, in every lane from another address; gives a ready one.

    Behind an address is a row of ROW words; a mask in `signs` has the point subtracted. Addresses must be
    public: this step reads memory that depends on them.
    """
    size = len(Element.WIDTHS)
    words = lanes.transpose(lanes.pointers(addresses), ROW)
    entry = [
        Element(lanes, words[slot * size : (slot + 1) * size], Element.STORED) for slot in range(AFFINE_SLOTS)
    ]
    _add_affine(lanes, point, entry, lanes.load(signs))


@step(2)
def add_ready(lanes: Lanes, point: Any, cached: Any) -> None:
    """Adds a chosen point to a ready one; gives X, Y, Z."""
    e, f, g, h = _sum(load_elements(lanes, point, 4), load_elements(lanes, cached, 4, Element.FACTOR))
    store_elements(point, e * f, g * h, f * g)


@step(3, 1)
def add_entry(lanes: Lanes, point: Any, entries: Any, digits: Any, shift: Any) -> None:
    """Adds an entry of a table that all lanes share to a ready point; gives a ready one.

    The table has eight affine points, entry j being 2j + 1 times what the digit counts; they lie limb by
    limb, as `Vector.pick` reads them. The digit n at bit `shift` of a word of digits takes 2n - 15 times that
    (`purposematch.protocol.simd.scalars.recode_odd`).
    """
    digit = lanes.load(digits) >> lanes.splat(shift)
    negative = ((digit >> (DIGIT_BITS - 1)) & 1) - 1
    index = (digit ^ negative) & (ENTRIES - 1)
    size = len(Element.WIDTHS)
    nominal = [(1 << width) - 1 for width in Element.WIDTHS]
    entry = [
        Element(lanes, [lanes.load(entries, slot * size + i).pick(index) for i in range(size)], nominal)
        for slot in range(AFFINE_SLOTS)
    ]
    _add_affine(lanes, point, entry, negative)


@step(1)
def make_ready(lanes: Lanes, point: Any) -> None:
    """Extended to ready."""
    x, y, z, t = load_elements(lanes, point, 4)
    store_elements(point, y - x, y + x, z, t)


@step(1)
def leave_ready(lanes: Lanes, point: Any) -> None:
    """Ready to extended, all twice as large."""
    difference, total, z, t = load_elements(lanes, point, 4)
    store_elements(point, total - difference, total + difference, z.double(), t.double())


@step(1)
def double(lanes: Lanes, point: Any) -> None:
    """Doubles a point of X, Y, Z."""
    e, f, g, h = twice(load_elements(lanes, point, 3))
    store_elements(point, e * f, g * h, f * g)


@step(1)
def double_ready(lanes: Lanes, point: Any) -> None:
    """Doubles a point of X, Y, Z; gives a ready one."""
    e, f, g, h = twice(load_elements(lanes, point, 3))
    x = e * f
    y = g.multiply(h, cover=x.upper)
    store_elements(point, y - x, y + x, f * g, e * h)


@step(2)
def start(lanes: Lanes, target: Any, cached: Any) -> None:
    """A chosen point as X, Y, Z, all twice as large."""
    total, difference, z = load_elements(lanes, cached, 3, Element.FACTOR)
    store_elements(target, total - difference, total + difference, z)


@step(3)
def choose(lanes: Lanes, target: Any, table: Any, masks: Any) -> None:
    """Chooses one of eight cached points, negated or not, or the identity, in each lane by itself.

    Every entry is read whole. The masks come from memory, where another step left them: if LLVM could see
    that they are comparisons, it would turn the reading into loads under a mask, and a processor may skip a
    load that no lane asks for.
    """
    identity, *entries, sign = [lanes.load(masks, i) for i in range(MASKS)]
    size = len(Element.WIDTHS)
    chosen = []
    for slot, unit in enumerate((1, 1, 2, 0)):
        limbs = []
        for i in range(size):
            limb = identity & (0 if i else unit)
            for entry, mask in enumerate(entries):
                limb = limb | (lanes.load(table, (entry * 4 + slot) * size + i) & mask)
            limbs.append(limb)
        chosen.append(Element(lanes, limbs, Element.STORED))
    total, difference, z, t = chosen
    results = total.select(difference, sign), difference.select(total, sign), z, t.select(-t, sign)
    for slot, element in enumerate(results):
        element.store(target, slot, Element.FACTOR)


@step(2)
def find_identity(lanes: Lanes, mask: Any, point: Any) -> None:
    """The mask of lanes whose point encodes as the identity: one of the four with xy = 0."""
    x, y = load_elements(lanes, point, 2)
    lanes.store(mask, 0, (x * y).is_zero())
