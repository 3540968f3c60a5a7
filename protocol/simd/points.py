"""The formulas of the curve and of ristretto255, as steps: each does one thing to one block of points.

Source: RFC 9496 (decode, encode, map); Hisil, Wong, Carter, Dawson 2008 (a = -1: addition in seven
multiplications, doubling in three squarings and four multiplications). The doubling encoder is that of
curve25519-dalek: it needs one inversion for a whole batch and no square root.

A point is stored in one of these forms, a field element a slot:

* extended: X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z; doublings read and write X, Y, Z only;
* ready: Y-X, Y+X, Z, T, the sum of a doubling or addition that another addition follows: two carries fewer;
* cached: Y+X, Y-X, 2Z, 2dT, what is added.

A block holds one point a lane. Every step is constant-time.
"""

from collections.abc import Sequence
from typing import Any, Final

from purposematch.protocol.simd.field import WORDS, Field
from purposematch.protocol.simd.field25 import Field25
from purposematch.protocol.simd.field51 import Field51
from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.processor import IFMA, LANES

__all__ = [
    "ELEMENT",
    "MASKS",
    "MASK_SLOT",
    "PAIR",
    "POINT",
    "RECORD",
    "TABLE_ENTRIES",
    "Element",
    "add",
    "add_ready",
    "add_ready_again",
    "cache",
    "choose",
    "copy",
    "decode_begin",
    "decode_end",
    "double",
    "double_encode_begin",
    "double_encode_end",
    "double_ready",
    "encode_begin",
    "encode_end",
    "extend",
    "find_identity",
    "map_begin",
    "map_end",
    "multiply",
    "multiply_pair",
    "set_identity",
    "square_pair",
    "start",
]

Element: type[Field] = Field51 if IFMA else Field25
"""The field in the radix of this processor."""

ELEMENT: Final = len(Element.WIDTHS) * LANES
"""64-bit words of one stored field element, all lanes."""
POINT: Final = 4 * ELEMENT
"""Words of one block of points."""
MASK_SLOT: Final = 7
"""The slot of a record that holds a mask."""
RECORD: Final = 8 * ELEMENT
"""Words of what the first half of a formula leaves for the second: seven field elements and a mask."""
PAIR: Final = 2
"""Field elements that are raised to a power together, so that one hides the latency of the other."""
TABLE_ENTRIES: Final = 8
"""The multiples of a point, 1 to 8, that signed digits of four bits choose from."""
MASKS: Final = TABLE_ENTRIES + 2
"""Masks of a choice: one for the identity, one for each entry, one for the sign."""

D: Final = 37095705934669439343138083508754565189542113879843219016388785533085940283555
SQRT_M1: Final = 19681161376707505956807079304988542015446066515923890162744021073123829784752
SQRT_AD_MINUS_ONE: Final = 25063068953384623474111414158702152701244531502492656460079210482610430750235
INVSQRT_A_MINUS_D: Final = 54469307008909316920995813868745141605393597292927456921205312896311721017578
ONE_MINUS_D_SQ: Final = 1159843021668779879193775521855586647937357759715417654439879720876111806838
D_MINUS_ONE_SQ: Final = 40440834346308536858101042469323190826248399146238708352240133220865137265952


def _load(lanes: Lanes, pointer: Any, count: int, bound: Sequence[int] | None = None) -> list[Field]:
    return [Element.load(lanes, pointer, slot, bound) for slot in range(count)]


def _store(pointer: Any, *elements: Field) -> None:
    for slot, element in enumerate(elements):
        element.store(pointer, slot)


def _mask_index() -> int:
    return MASK_SLOT * len(Element.WIDTHS)


def _store_words(lanes: Lanes, pointer: Any, words: Sequence[Vector]) -> None:
    for i, word in enumerate(words):
        lanes.store(pointer, i, word)


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

    begin = [limb for element in _load(lanes, source, PAIR) for limb in element.limbs]
    _store(target, *elements(lanes.loop(count, begin, body)))


# Addition and doubling.


def _sum(ready: Sequence[Field], cached: Sequence[Field]) -> tuple[Field, Field, Field, Field]:
    """E, F, G, H of add-2008-hwcd-3; the sum is EF, GH, FG and EH."""
    difference, total, z, t = ready
    a = difference * cached[1]
    b = total.multiply(cached[0], cover=a.upper)
    c = t * cached[3]
    d = z.multiply(cached[2], cover=c.upper)
    return b - a, d - c, d + c, b + a


def _twice(point: Sequence[Field]) -> tuple[Field, Field, Field, Field]:
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
    x, y, z, t = _load(lanes, source, 4)
    _store(target, y + x, y - x, z.double(), t * Element.constant(lanes, 2 * D))


@step(1)
def set_identity(lanes: Lanes, target: Any) -> None:
    """The identity, extended."""
    zero, one = Element.constant(lanes, 0), Element.constant(lanes, 1)
    _store(target, zero, one, one, zero)


@step(2)
def extend(lanes: Lanes, target: Any, source: Any) -> None:
    """Gives a point of X, Y, Z its T: XZ, YZ, Z^2, XY."""
    x, y, z = _load(lanes, source, 3)
    _store(target, x * z, y * z, z.square(), x * y)


@step(2)
def add(lanes: Lanes, point: Any, cached: Any) -> None:
    """Adds a cached point to an extended one."""
    x, y, z, t = _load(lanes, point, 4)
    e, f, g, h = _sum([y - x, y + x, z, t], _load(lanes, cached, 4))
    _store(point, e * f, g * h, f * g, e * h)


@step(2)
def add_ready(lanes: Lanes, point: Any, cached: Any) -> None:
    """Adds a chosen point to a ready one; gives X, Y, Z."""
    e, f, g, h = _sum(_load(lanes, point, 4), _load(lanes, cached, 4, Element.FACTOR))
    _store(point, e * f, g * h, f * g)


@step(2)
def add_ready_again(lanes: Lanes, point: Any, cached: Any) -> None:
    """Adds a chosen point to a ready one; gives a ready one."""
    e, f, g, h = _sum(_load(lanes, point, 4), _load(lanes, cached, 4, Element.FACTOR))
    x = e * f
    y = g.multiply(h, cover=x.upper)
    _store(point, y - x, y + x, f * g, e * h)


@step(1)
def double(lanes: Lanes, point: Any) -> None:
    """Doubles a point of X, Y, Z."""
    e, f, g, h = _twice(_load(lanes, point, 3))
    _store(point, e * f, g * h, f * g)


@step(1)
def double_ready(lanes: Lanes, point: Any) -> None:
    """Doubles a point of X, Y, Z; gives a ready one."""
    e, f, g, h = _twice(_load(lanes, point, 3))
    x = e * f
    y = g.multiply(h, cover=x.upper)
    _store(point, y - x, y + x, f * g, e * h)


@step(2)
def start(lanes: Lanes, target: Any, cached: Any) -> None:
    """A chosen point as X, Y, Z, all twice as large."""
    total, difference, z = _load(lanes, cached, 3, Element.FACTOR)
    _store(target, total - difference, total + difference, z)


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
    x, y = _load(lanes, point, 2)
    lanes.store(mask, 0, (x * y).is_zero())


# Square roots. Between the halves of a formula a kernel raises the last element to the power (p - 5) / 8.


def _root_inputs(x: Field) -> tuple[Field, Field]:
    """x^3 and x^7, for the root of 1/x."""
    cube = x.square() * x
    return cube, cube.square() * x


def _inverse_root(lanes: Lanes, x: Field, cube: Field, power: Field) -> tuple[Vector, Field]:
    """SQRT_RATIO_M1(1, x) of RFC 9496 section 4.2: was x a square, and the root; x = 0 is none, root 0."""
    root = cube * power
    check = (x * root.square()).freeze()
    correct, flipped = check.is_canonical(1), check.is_canonical(-1)
    flipped_i = check.is_canonical(-SQRT_M1)
    turned = root * Element.constant(lanes, SQRT_M1)
    root = root.carry_to(Element.STORED).select(turned.carry_to(Element.STORED), flipped | flipped_i)
    return correct | flipped, root.absolute()


@step(2)
def decode_begin(lanes: Lanes, record: Any, words: Any) -> None:
    """RFC 9496 section 4.3.1 up to the root: record = s, u1, u2, v, x, x^3, x^7 and what is valid."""
    encoded = [lanes.load(words, i) for i in range(WORDS)]
    s = Element.from_words(lanes, encoded)
    # Not negative and not the identity, whose encoding is zero; canonical if it encodes as it was.
    valid = (encoded[0] & 1).equals(0) & ~s.is_zero()
    for given, canonical in zip(encoded, s.words(), strict=True):
        valid = valid & given.equals(canonical)
    one, ss = Element.constant(lanes, 1), s.square()
    u1, u2 = one - ss, one + ss
    u2_squared = u2.square()
    v = -(u1.square() * Element.constant(lanes, D)) - u2_squared
    x = v * u2_squared
    _store(record, s, u1, u2, v, x, *_root_inputs(x))
    lanes.store(record, _mask_index(), valid)


@step(3)
def decode_end(lanes: Lanes, point: Any, record: Any, power: Any) -> None:
    """The rest of decoding; lanes that are not valid hold the identity, so that nothing is undefined."""
    s, u1, u2, v, x, cube = _load(lanes, record, 6)
    was_square, root = _inverse_root(lanes, x, cube, Element.load(lanes, power))
    denominator_x = root * u2
    denominator_y = root * denominator_x * v
    px = (s.double() * denominator_x).absolute()
    py = (u1 * denominator_y).carry_to(Element.STORED)
    pt = px * py
    valid = lanes.load(record, _mask_index()) & was_square & ~pt.is_negative() & ~py.is_zero()
    zero, one = Element.constant(lanes, 0), Element.constant(lanes, 1)
    _store(point, zero.select(px, valid), one.select(py, valid), one, zero.select(pt, valid))
    lanes.store(record, _mask_index(), valid)


@step(2)
def encode_begin(lanes: Lanes, record: Any, point: Any) -> None:
    """RFC 9496 section 4.3.2 up to the root: record = u1, u2, x, x^3, x^7."""
    x, y, z, _ = _load(lanes, point, 4)
    u1, u2 = (z + y) * (z - y), x * y
    radicand = u1 * u2.square()
    _store(record, u1, u2, radicand, *_root_inputs(radicand))


@step(4)
def encode_end(lanes: Lanes, words: Any, point: Any, record: Any, power: Any) -> None:
    """The rest of encoding."""
    x, y, z, t = _load(lanes, point, 4)
    u1, u2, radicand, cube = _load(lanes, record, 4)
    _, root = _inverse_root(lanes, radicand, cube, Element.load(lanes, power))
    d1, d2 = root * u1, root * u2
    z_inverse = d1 * d2 * t
    rotate = (t * z_inverse).is_negative()
    i = Element.constant(lanes, SQRT_M1)
    enchanted = (d1 * Element.constant(lanes, INVSQRT_A_MINUS_D)).carry_to(Element.STORED)
    rotated_x, rotated_y = (x * i).carry_to(Element.STORED), (y * i).carry_to(Element.STORED)
    x, y = x.select(rotated_y, rotate), y.select(rotated_x, rotate)
    denominator = d2.carry_to(Element.STORED).select(enchanted, rotate)
    y = y.negate_if((x * z_inverse).is_negative())
    _store_words(lanes, words, (denominator * (z - y)).absolute().words())


@step(2)
def map_begin(lanes: Lanes, record: Any, words: Any) -> None:
    """MAP of RFC 9496 section 4.3.4 up to the root: record = t, r, u, v, u v^3, u v^7."""
    t = Element.from_words(lanes, [lanes.load(words, i) for i in range(WORDS)])
    one, d = Element.constant(lanes, 1), Element.constant(lanes, D)
    r = t.square() * Element.constant(lanes, SQRT_M1)
    u = (r + one) * Element.constant(lanes, ONE_MINUS_D_SQ)
    v = (-one - r * d) * (r + d)
    cube, seventh = _root_inputs(v)
    _store(record, t, r, u, v, u * cube, u * seventh)


@step(3)
def map_end(lanes: Lanes, point: Any, record: Any, power: Any) -> None:
    """The rest of MAP."""
    t, r, u, v, u_cube = _load(lanes, record, 5)
    one, i = Element.constant(lanes, 1), Element.constant(lanes, SQRT_M1)
    s = u_cube * Element.load(lanes, power)
    check = v * s.square()
    correct, flipped = (check - u).is_zero(), (check + u).is_zero()
    flipped_i = (check + u * i).is_zero()
    turned = (s * i).carry_to(Element.STORED)
    s = s.carry_to(Element.STORED).select(turned, flipped | flipped_i).absolute()
    was_square = correct | flipped
    s = (-(s * t).absolute()).carry_to(Element.STORED).select(s, was_square)
    c = r.select(Element.constant(lanes, -1), was_square)
    n = c * (r - one) * Element.constant(lanes, D_MINUS_ONE_SQ) - v
    w0 = (s * v).double()
    w1 = n * Element.constant(lanes, SQRT_AD_MINUS_ONE)
    ss = s.square()
    w2, w3 = one - ss, one + ss
    _store(point, w0 * w3, w2 * w1, w1 * w3, w0 * w2)


@step(2)
def double_encode_begin(lanes: Lanes, record: Any, point: Any) -> None:
    """Towards the encoding of 2P: record = e, f, g, h, eg, fh, efgh and where that is zero.

    Zero means that 2P encodes as the identity; one stands there instead, so that all can be inverted at once.
    """
    # The encoder's letters: e = 2XY, f = Y^2 - X^2, g = Y^2 + X^2, h = 2 Z^2 - f.
    e, h, f, g = _twice(_load(lanes, point, 3))
    eg, fh = e * g, f * h
    product = eg * fh
    zero = product.is_zero()
    product = product.carry_to(Element.STORED).select(Element.constant(lanes, 1), zero)
    _store(record, e, f, g, h, eg, fh, product)
    lanes.store(record, _mask_index(), zero)


@step(3)
def double_encode_end(lanes: Lanes, words: Any, record: Any, inverse: Any) -> None:
    """The encoding of 2P, from the inverse of efgh."""
    e, f, g, h, eg, fh = _load(lanes, record, 6)
    inverted = Element.load(lanes, inverse)
    inverted = inverted.select(Element.constant(lanes, 0), lanes.load(record, _mask_index()))
    z_inverse, t_inverse = eg * inverted, fh * inverted
    rotate = (eg * z_inverse).is_negative()
    i = Element.constant(lanes, SQRT_M1)
    minus_e, rotated_f = (-e).carry_to(Element.STORED), (f * i).carry_to(Element.STORED)
    e, g, h = e.select(g, rotate), g.select(minus_e, rotate), h.select(rotated_f, rotate)
    magic = Element.constant(lanes, INVSQRT_A_MINUS_D).select(i, rotate)
    g = g.negate_if((h * e * z_inverse).is_negative())
    _store_words(lanes, words, ((h - g) * (magic * (g * t_inverse))).absolute().words())
