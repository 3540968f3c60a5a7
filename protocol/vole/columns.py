"""The VOLE itself, column by column: expansion, correction and compression of 512 slots at a time.

Statement: for slot i the receiver has bits u_j and symbols V_j of k bits, the sender W_j = V_j + Delta_j u_j,
for each tree j. The receiver wants to hide a value P of l bits; C is the code. It sends the corrections
c_j = u_j + C(P)_j; the sender adds Delta_j c_j and has W_j = V_j + Delta_j C(P)_j. Both compress the k n_C
bits of a slot to 128 by the session's matrix: bit o of the result is the parity of the sum over j of
popcount(mask[j, o] & V_j). So W' = V' + M(P), where M is the linear map `difference_rows` of the sender.

A column's corrections are n_C planes of 8 words (`purposematch.protocol.vole.planes`).

Source: SoftSpokenOT (ePrint 2022/192) with the code idea of OOS (ePrint 2016/933); the compression before
the decoding is the authors' own. Parameters: `purposematch.protocol.vole.parameters`.

Semi-honest, experimental, no published proof: for the worst difference of two values, at least 122 of the
128 bits are unknown to the receiver, but for a probability of about 2^-49 over the matrix; that is an
argument, not a proof.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.group import Bytes
from purposematch.protocol.simd.processor import LANES
from purposematch.protocol.simd.workspace import wipe
from purposematch.protocol.vole import planes
from purposematch.protocol.vole.aes import Words, aligned
from purposematch.protocol.vole.code import check_bits, parity_rows
from purposematch.protocol.vole.kernels import vole_kernel
from purposematch.protocol.vole.parameters import (
    COLUMN,
    DISTANCE,
    LEAVES,
    TREE_DEPTH,
    Parameters,
)
from purposematch.protocol.vole.session import Session

__all__ = ["OwnColumns", "PeerColumns", "difference_rows"]

_CHECKS: Final = check_bits(DISTANCE)
_OUTPUTS: Final = 8 * 16
_BLOCKS_OF_COLUMN: Final = COLUMN // 128
_LOW, _HIGH = 0, 64 * LANES

# The workspace of a column, in 64-bit words.
_TABLES: Final = 0
_SUMS: Final = _TABLES + planes.FOLDED * planes.TABLE
_ROWS: Final = _SUMS + _OUTPUTS * LANES
_WORDS: Final = _ROWS + _OUTPUTS * LANES
"""The bits of values, then, from their end on, the check bits; as long as the longest code word."""
_WORKSPACE: Final = _WORDS + 256 * LANES


@vole_kernel(
    "void(uint64[::1], uint64[::1], uint8[::1], uint8[::1], intp, uint64[::1], uint64[::1], intp,"
    " uint64[::1])"
)
def own_columns(
    keys: Any,
    leaves: Any,
    masks: Any,
    code_masks: Any,
    bits: Any,
    slots: Any,
    corrections: Any,
    first: Any,
    workspace: Any,
) -> None:
    """The receiver's side of some columns.

    Args:
        keys: round keys of the streams.
        leaves: of all trees, 64 words each.
        masks: of the compression, for each four trees 4 bytes an output.
        code_masks: of the check bits, for each 20 bits of a value 4 bytes a check bit.
        bits: of a value.
        slots: P of each slot of these columns, 2 words each; becomes V'.
        corrections: for the result, n_C planes a column.
        first: the number of the first column.
        workspace: see above.
    """
    trees = leaves.shape[0] // (2 * LEAVES)
    for column in range(slots.shape[0] // (2 * COLUMN)):
        at = slots.ctypes.data + 16 * COLUMN * column
        for half in range(planes.HALVES):
            planes.read_rows(workspace, _ROWS, at, half)
            planes.transpose(workspace, _WORDS + _LOW, _ROWS + _LOW)
            planes.transpose(workspace, _WORDS + _HIGH, _ROWS + _HIGH)
            planes.clear(workspace, _WORDS + bits * LANES, _CHECKS)
            for group in range(code_masks.shape[0] // (planes.FOLDED * _CHECKS)):
                for i in range(planes.FOLDED):
                    place = _WORDS + (group * planes.FOLDED + i) * TREE_DEPTH * LANES
                    planes.tabulate(workspace, _TABLES + i * planes.TABLE, place)
                mask = code_masks.ctypes.data + group * planes.FOLDED * _CHECKS
                planes.fold(workspace, _WORDS + bits * LANES, _TABLES, mask, _CHECKS)
            planes.clear(workspace, _SUMS, _OUTPUTS)
            counter = (first + column) * _BLOCKS_OF_COLUMN + half * (LANES // 2)
            for group in range(0, trees, planes.FOLDED):
                for i in range(min(planes.FOLDED, trees - group)):
                    tree = group + i
                    sent = corrections.ctypes.data + 8 * (
                        (column * trees + tree) * planes.COLUMN_WORDS + half * LANES
                    )
                    planes.expand_own(
                        workspace,
                        _TABLES + i * planes.TABLE,
                        _WORDS + tree * LANES,
                        keys.ctypes.data,
                        leaves.ctypes.data + 16 * LEAVES * tree,
                        counter,
                        sent,
                    )
                planes.fold(workspace, _SUMS, _TABLES, masks.ctypes.data + group * _OUTPUTS, _OUTPUTS)
            planes.transpose(workspace, _ROWS + _LOW, _SUMS + _LOW)
            planes.transpose(workspace, _ROWS + _HIGH, _SUMS + _HIGH)
            planes.write_rows(workspace, _ROWS, at, half)
    wipe(workspace, 0, workspace.shape[0])


@vole_kernel(
    "void(uint64[::1], uint64[::1], uint8[::1], uint64[::1], uint64[::1], uint64[::1], intp, uint64[::1])"
)
def peer_columns(
    keys: Any,
    leaves: Any,
    masks: Any,
    symbols: Any,
    corrections: Any,
    rows: Any,
    first: Any,
    workspace: Any,
) -> None:
    """The sender's side of some columns.

    Args:
        keys: round keys of the streams.
        leaves: of all trees in the order of their distance, 64 words each.
        masks: of the compression.
        symbols: 5 words a tree, ones where the symbol has this bit.
        corrections: as received, n_C planes a column.
        rows: for W' of each slot, 2 words each.
        first: the number of the first column.
        workspace: see above.
    """
    trees = leaves.shape[0] // (2 * LEAVES)
    for column in range(rows.shape[0] // (2 * COLUMN)):
        for half in range(planes.HALVES):
            planes.clear(workspace, _SUMS, _OUTPUTS)
            counter = (first + column) * _BLOCKS_OF_COLUMN + half * (LANES // 2)
            for group in range(0, trees, planes.FOLDED):
                for i in range(min(planes.FOLDED, trees - group)):
                    tree = group + i
                    received = corrections.ctypes.data + 8 * (
                        (column * trees + tree) * planes.COLUMN_WORDS + half * LANES
                    )
                    planes.expand_known(
                        workspace,
                        _TABLES + i * planes.TABLE,
                        keys.ctypes.data,
                        leaves.ctypes.data + 16 * LEAVES * tree,
                        counter,
                        received,
                        symbols.ctypes.data + 8 * TREE_DEPTH * tree,
                    )
                planes.fold(workspace, _SUMS, _TABLES, masks.ctypes.data + group * _OUTPUTS, _OUTPUTS)
            planes.transpose(workspace, _ROWS + _LOW, _SUMS + _LOW)
            planes.transpose(workspace, _ROWS + _HIGH, _SUMS + _HIGH)
            planes.write_rows(workspace, _ROWS, rows.ctypes.data + 16 * COLUMN * column, half)
    wipe(workspace, 0, workspace.shape[0])


class OwnColumns:
    """The receiver's side.

    Args:
        session: for the keys.
        parameters: of the match.
        leaves: (n_C, 32, 2) uint64.
    """

    def __init__(self, session: Session, parameters: Parameters, leaves: Words) -> None:
        """Arranges the matrices for the kernel."""
        self._keys = session.stream_key
        self._parameters = parameters
        self._leaves = np.ascontiguousarray(leaves).reshape(-1)
        self._masks = _fours(session.compression(parameters.code_length))
        self._code_masks = _fours(_check_masks(parameters.value_bits))
        self._workspace = aligned(_WORKSPACE)

    def correct(self, slots: Words, first: int) -> bytes:
        """The corrections of some columns; V' takes the place of P.

        Args:
            slots: P, (512 * columns, 2) uint64; is overwritten.
            first: the number of the first column.
        """
        columns = len(slots) // COLUMN
        corrections = np.empty(columns * self._parameters.column_length // 8, np.uint64)
        own_columns(
            self._keys,
            self._leaves,
            self._masks,
            self._code_masks,
            self._parameters.value_bits,
            slots.reshape(-1),
            corrections,
            first,
            self._workspace,
        )
        return corrections.tobytes()


class PeerColumns:
    """The sender's side.

    Args:
        session: for the keys.
        parameters: of the match.
        leaves: (n_C, 32, 2) uint64, the unknown one of each tree first.
        symbols: Delta, (n_C,).
    """

    def __init__(self, session: Session, parameters: Parameters, leaves: Words, symbols: Bytes) -> None:
        """Arranges the matrices for the kernel."""
        self._keys = session.stream_key
        self._leaves = np.ascontiguousarray(leaves).reshape(-1)
        self._masks = _fours(session.compression(parameters.code_length))
        bits = symbols[:, None] >> np.arange(TREE_DEPTH, dtype=np.uint8) & 1
        self._symbols = (np.uint64(0) - bits.astype(np.uint64)).reshape(-1)
        self._workspace = aligned(_WORKSPACE)

    def take(self, corrections: bytes, first: int, rows: Words) -> None:
        """Takes the corrections of some columns.

        Args:
            corrections: as received, of the length that these columns have.
            first: the number of the first column.
            rows: for W', (512 * columns, 2) uint64, is overwritten.
        """
        received = np.frombuffer(corrections, np.uint64).copy()
        peer_columns(
            self._keys,
            self._leaves,
            self._masks,
            self._symbols,
            received,
            rows.reshape(-1),
            first,
            self._workspace,
        )


def difference_rows(session: Session, parameters: Parameters, symbols: Bytes) -> Words:
    """M of every unit value, (l, 2) uint64: what a bit of P adds to the sender's compressed slot.

    Args:
        session: for the compression.
        parameters: of the match.
        symbols: Delta, (n_C,).
    """
    bits = parameters.value_bits
    masked = session.compression(parameters.code_length) & symbols[:, None]
    odd = np.bitwise_count(masked) & 1
    checks = _check_matrix(bits)
    rows = (odd[:bits] ^ (checks.astype(np.int64) @ odd[bits:] & 1)).astype(np.uint8)
    return np.packbits(rows, axis=1, bitorder="little").view(np.uint64)


def _check_matrix(bits: int) -> NDArray[np.uint8]:
    """The check bits of every unit value, (l, r)."""
    rows = parity_rows(bits, DISTANCE)
    return np.array([[row >> bit & 1 for bit in range(_CHECKS)] for row in rows], np.uint8)


def _check_masks(bits: int) -> Bytes:
    """For five bits of a value at a time, which of them enter each check bit; (groups, r)."""
    groups = -(-bits // TREE_DEPTH)
    padded = np.zeros((groups * TREE_DEPTH, _CHECKS), np.uint8)
    padded[:bits] = _check_matrix(bits)
    places = np.arange(TREE_DEPTH, dtype=np.uint8)[None, :, None]
    masks: Bytes = np.bitwise_or.reduce(padded.reshape(groups, TREE_DEPTH, _CHECKS) << places, axis=1)
    return masks


def _fours(masks: Bytes) -> Bytes:
    """Masks (n, outputs) as the kernel folds them: four of an output side by side."""
    count, outputs = masks.shape
    padded = np.zeros((-(-count // planes.FOLDED), planes.FOLDED, outputs), np.uint8)
    padded.reshape(-1, outputs)[:count] = masks
    return np.ascontiguousarray(padded.transpose(0, 2, 1)).reshape(-1)
