"""Kernels on scalars: reduction and inversion modulo the group order."""

from typing import Any, Final

import numpy as np

from purposematch.protocol.simd.kernel import kernel
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.scalars import (
    ORDER,
    SCALAR,
    SCALAR_WORDS,
    copy_scalar,
    from_montgomery,
    montgomery,
    reduce_wide,
    to_montgomery,
)
from purposematch.protocol.simd.workspace import (
    AT_CHUNK,
    AT_DIGITS,
    AT_FLAG,
    AT_SCALAR_A,
    AT_SCALAR_B,
    AT_WORDS,
    CHUNK_BLOCKS,
    gather,
    report,
    scatter,
    wipe,
)

__all__ = ["invert", "reduce"]

_EXPONENT: Final = np.array([(ORDER - 2) >> bit & 1 for bit in range(252, -1, -1)], np.uint8)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1])")
def reduce(wide: Any, rows: Any, workspace: Any) -> None:
    """Rows of 8 words modulo the group order, rows of 4 words."""
    for block in range(rows.shape[0] // LANES):
        gather(workspace, AT_WORDS, wide, block, 2 * SCALAR_WORDS)
        reduce_wide(workspace, AT_DIGITS, AT_WORDS)
        scatter(rows, block, workspace, AT_DIGITS)
    wipe(workspace, 0, AT_CHUNK)


@kernel("void(uint64[:, ::1], uint64[:, ::1], uint64[::1], uint64[::1])")
def invert(scalars: Any, rows: Any, zero: Any, workspace: Any) -> None:
    """Inverts rows of at most CHUNK_BLOCKS blocks modulo the group order; flags zeros, whose inverse is 1.

    One inversion, by Fermat's theorem, serves each lane (Montgomery's trick).
    """
    blocks = rows.shape[0] // LANES
    products = AT_CHUNK + CHUNK_BLOCKS * SCALAR
    for block in range(blocks):
        scalar, product = AT_CHUNK + block * SCALAR, products + block * SCALAR
        gather(workspace, AT_WORDS, scalars, block, SCALAR_WORDS)
        to_montgomery(workspace, scalar, AT_FLAG, AT_WORDS)
        report(zero, block, workspace, AT_FLAG)
        if block:
            montgomery(workspace, product, product - SCALAR, scalar)
        else:
            copy_scalar(workspace, product, scalar)
    # The leading bit of the exponent, which is public, is one.
    copy_scalar(workspace, AT_SCALAR_A, products + (blocks - 1) * SCALAR)
    for bit in _EXPONENT[1:]:
        montgomery(workspace, AT_SCALAR_A, AT_SCALAR_A, AT_SCALAR_A)
        if bit:
            montgomery(workspace, AT_SCALAR_A, AT_SCALAR_A, products + (blocks - 1) * SCALAR)
    for block in range(blocks - 1, -1, -1):
        scalar, product = AT_CHUNK + block * SCALAR, products + block * SCALAR
        if block:
            montgomery(workspace, AT_SCALAR_B, AT_SCALAR_A, product - SCALAR)
            montgomery(workspace, AT_SCALAR_A, AT_SCALAR_A, scalar)
        else:
            copy_scalar(workspace, AT_SCALAR_B, AT_SCALAR_A)
        from_montgomery(workspace, AT_DIGITS, AT_SCALAR_B)
        scatter(rows, block, workspace, AT_DIGITS)
    wipe(workspace, 0, products + CHUNK_BLOCKS * SCALAR)
