"""The formulas of ristretto255, as steps: decoding, encoding and the one-way map, on one block each.

Source: RFC 9496 section 4.3. The encoder of a doubled point is that of curve25519-dalek: it needs one
inversion for a whole batch and no square root. Each formula has a root or an inversion in its middle, which
kernels compute for several blocks at once; so each is two steps, and a record keeps what the second needs.

Every step is constant-time.
"""

from collections.abc import Sequence
from typing import Any, Final

from purposematch.protocol.simd.field import WORDS, Field
from purposematch.protocol.simd.lanes import Lanes, Vector, step
from purposematch.protocol.simd.points import ELEMENT, D, Element, load_elements, store_elements, twice

__all__ = [
    "MASK_SLOT",
    "RECORD",
    "decode_begin",
    "decode_end",
    "double_encode_begin",
    "double_encode_end",
    "encode_begin",
    "encode_end",
    "map_begin",
    "map_end",
]

MASK_SLOT: Final = 7
"""The slot of a record that holds a mask."""
RECORD: Final = 8 * ELEMENT
"""Words of what the first half of a formula leaves for the second: seven field elements and a mask."""

SQRT_M1: Final = 19681161376707505956807079304988542015446066515923890162744021073123829784752
SQRT_AD_MINUS_ONE: Final = 25063068953384623474111414158702152701244531502492656460079210482610430750235
INVSQRT_A_MINUS_D: Final = 54469307008909316920995813868745141605393597292927456921205312896311721017578
ONE_MINUS_D_SQ: Final = 1159843021668779879193775521855586647937357759715417654439879720876111806838
D_MINUS_ONE_SQ: Final = 40440834346308536858101042469323190826248399146238708352240133220865137265952


def _mask_index() -> int:
    return MASK_SLOT * len(Element.WIDTHS)


def _store_words(lanes: Lanes, pointer: Any, words: Sequence[Vector]) -> None:
    for i, word in enumerate(words):
        lanes.store(pointer, i, word)


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
    store_elements(record, s, u1, u2, v, x, *_root_inputs(x))
    lanes.store(record, _mask_index(), valid)


@step(3)
def decode_end(lanes: Lanes, point: Any, record: Any, power: Any) -> None:
    """The rest of decoding; lanes that are not valid hold the identity, so that nothing is undefined."""
    s, u1, u2, v, x, cube = load_elements(lanes, record, 6)
    was_square, root = _inverse_root(lanes, x, cube, Element.load(lanes, power))
    denominator_x = root * u2
    denominator_y = root * denominator_x * v
    px = (s.double() * denominator_x).absolute()
    py = (u1 * denominator_y).carry_to(Element.STORED)
    pt = px * py
    valid = lanes.load(record, _mask_index()) & was_square & ~pt.is_negative() & ~py.is_zero()
    zero, one = Element.constant(lanes, 0), Element.constant(lanes, 1)
    store_elements(point, zero.select(px, valid), one.select(py, valid), one, zero.select(pt, valid))
    lanes.store(record, _mask_index(), valid)


@step(2)
def encode_begin(lanes: Lanes, record: Any, point: Any) -> None:
    """RFC 9496 section 4.3.2 up to the root: record = u1, u2, x, x^3, x^7."""
    x, y, z, _ = load_elements(lanes, point, 4)
    u1, u2 = (z + y) * (z - y), x * y
    radicand = u1 * u2.square()
    store_elements(record, u1, u2, radicand, *_root_inputs(radicand))


@step(4)
def encode_end(lanes: Lanes, words: Any, point: Any, record: Any, power: Any) -> None:
    """The rest of encoding."""
    x, y, z, t = load_elements(lanes, point, 4)
    u1, u2, radicand, cube = load_elements(lanes, record, 4)
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
    store_elements(record, t, r, u, v, u * cube, u * seventh)


@step(3)
def map_end(lanes: Lanes, point: Any, record: Any, power: Any) -> None:
    """The rest of MAP."""
    t, r, u, v, u_cube = load_elements(lanes, record, 5)
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
    store_elements(point, w0 * w3, w2 * w1, w1 * w3, w0 * w2)


@step(2)
def double_encode_begin(lanes: Lanes, record: Any, point: Any) -> None:
    """Towards the encoding of 2P: record = e, f, g, h, eg, fh, efgh and where that is zero.

    Zero means that 2P encodes as the identity; one stands there instead, so that all can be inverted at once.
    """
    # The encoder's letters: e = 2XY, f = Y^2 - X^2, g = Y^2 + X^2, h = 2 Z^2 - f.
    e, h, f, g = twice(load_elements(lanes, point, 3))
    eg, fh = e * g, f * h
    product = eg * fh
    zero = product.is_zero()
    product = product.carry_to(Element.STORED).select(Element.constant(lanes, 1), zero)
    store_elements(record, e, f, g, h, eg, fh, product)
    lanes.store(record, _mask_index(), zero)


@step(3)
def double_encode_end(lanes: Lanes, words: Any, record: Any, inverse: Any) -> None:
    """The encoding of 2P, from the inverse of efgh."""
    e, f, g, h, eg, fh = load_elements(lanes, record, 6)
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
