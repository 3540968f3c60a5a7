"""Multiples of one public element, added to other elements: a table made once, and the kernel that uses it.

::

    window i of the table:  1, 3, 5, .., 15 times 16^i times the element
    element + scalar * base = element + the sum over i of (2 n_i - 15) 16^i * base

The table has an entry for every digit of a scalar, so there is nothing to double: 64 additions of seven
multiplications each, a quarter of what multiplying another element takes. All lanes share the table and pick
from registers; the scalars are secret, the base is not (`table_of` computes with Python's integers).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.simd.field import PRIME
from purposematch.protocol.simd.kernel import kernel
from purposematch.protocol.simd.lanes import ENTRIES
from purposematch.protocol.simd.points import (
    AFFINE_SLOTS,
    DIGIT_BITS,
    D,
    Element,
    add_entry,
    find_identity,
    leave_ready,
    make_ready,
)
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.scalars import SCALAR_WORDS, WINDOWS, recode_odd
from purposematch.protocol.simd.words import limbs_of, positions
from purposematch.protocol.simd.workspace import (
    AT_CHUNK,
    AT_DIGITS,
    AT_FLAG,
    AT_POINT,
    AT_WORDS,
    gather,
    read,
    report,
    wipe,
    write,
)

__all__ = ["add_multiples", "table_of"]

WINDOW: Final = AFFINE_SLOTS * len(Element.WIDTHS) * LANES
"""Words of the eight entries of a window."""

_Point = tuple[int, int, int, int]


def table_of(coordinates: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The table of a public element.

    Args:
        coordinates: (4, limbs), the limbs of its X, Y, Z and T.

    Returns:
        (WINDOWS * WINDOW,).
    """
    at = positions(Element.WIDTHS)
    x, y, z, t = (
        sum(int(limb) << shift for limb, shift in zip(limbs, at, strict=True)) for limbs in coordinates
    )
    points: list[_Point] = []
    base = x, y, z, t
    for _ in range(WINDOWS):
        twice = _add(base, base)
        points.append(base)
        for _ in range(ENTRIES - 1):
            points.append(_add(points[-1], twice))
        # 15 and 1 times the base make 16 times the base.
        base = _add(points[-1], base)
    inverses = _inverses([z for _, _, z, _ in points])
    entries = np.empty((WINDOWS, ENTRIES, AFFINE_SLOTS, len(Element.WIDTHS)), f"<u{LANES}")
    flat = entries.reshape(-1, AFFINE_SLOTS, len(Element.WIDTHS))
    for i, ((x, y, _, _), inverse) in enumerate(zip(points, inverses, strict=True)):
        x, y = x * inverse % PRIME, y * inverse % PRIME
        flat[i] = [limbs_of(value % PRIME, Element.WIDTHS) for value in (y + x, y - x, 2 * D * x * y)]
    table: NDArray[np.uint64] = np.ascontiguousarray(entries.transpose(0, 2, 3, 1)).reshape(-1)
    return table.view(np.uint64)


def _add(a: _Point, b: _Point) -> _Point:
    """The sum of two extended points, which may be equal: add-2008-hwcd-3 is complete on this curve."""
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    minus, plus = (y1 - x1) * (y2 - x2) % PRIME, (y1 + x1) * (y2 + x2) % PRIME
    c, d = 2 * D * t1 * t2 % PRIME, 2 * z1 * z2 % PRIME
    e, f, g, h = plus - minus, d - c, d + c, plus + minus
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def _inverses(values: list[int]) -> list[int]:
    """The inverses modulo p, by one inversion (Montgomery's trick)."""
    products = [1]
    for value in values:
        products.append(products[-1] * value % PRIME)
    inverse = pow(products.pop(), -1, PRIME)
    found = []
    for value in reversed(values):
        found.append(inverse * products.pop() % PRIME)
        inverse = inverse * value % PRIME
    return found[::-1]


@kernel(
    "void(uint64[:, ::1], uint64[:, ::1], intp, uint64[::1], uint64[:, ::1], uint64[::1], uint64[::1],"
    " uint64[::1])"
)
def add_multiples(
    points: Any, scalars: Any, negate: int, table: Any, sums: Any, zero: Any, identity: Any, workspace: Any
) -> None:
    """Adds secret multiples of one public element, in constant time.

    Args:
        points: the blocks to which is added.
        scalars: rows of 4 words.
        negate: 1 to subtract.
        table: of the public element, from `table_of`.
        sums: the blocks of the results.
        zero: flags the scalars that are zero.
        identity: flags the sums that are the identity.
        workspace: see `workspace`.
    """
    for i in range(WINDOWS * WINDOW):
        workspace[AT_CHUNK + i] = table[i]
    for block in range(points.shape[0]):
        gather(workspace, AT_WORDS, scalars, block, SCALAR_WORDS)
        recode_odd(workspace, AT_DIGITS, AT_FLAG, AT_WORDS, negate)
        report(zero, block, workspace, AT_FLAG)
        read(workspace, AT_POINT, points, block)
        make_ready(workspace, AT_POINT)
        for window in range(WINDOWS):
            bit = window * DIGIT_BITS
            word = AT_DIGITS + (bit // 64) * LANES
            add_entry(workspace, AT_POINT, AT_CHUNK + window * WINDOW, word, bit % 64)
        leave_ready(workspace, AT_POINT)
        find_identity(workspace, AT_FLAG, AT_POINT)
        report(identity, block, workspace, AT_FLAG)
        write(sums, block, workspace, AT_POINT)
    wipe(workspace, 0, AT_CHUNK)
