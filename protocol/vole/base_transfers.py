"""128 base oblivious transfers over ristretto255.

Statement (Chou and Orlandi, ePrint 2015/267): one side sends A = aG and gets pairs of keys; the *chooser*,
who has a bit s_i for each, sends B_i = b_i G + s_i A and gets the key of its bit:

    key_i = H(i, A, B_i, b_i A),  pair_i = H(i, A, B_i, a B_i), H(i, A, B_i, a B_i - a A),

H being the first 16 bytes of SHA-256 over the session's context, i as 4 bytes little-endian, and the three
encodings. Roles are reversed, as OT extension wants it: the receiver of the match is the chooser.

Parameters: 128 transfers for 128 bits of computational security.

Semi-honest, experimental, no published proof of the whole. Random oracle model, not universally composable.
Every element of the peer is decoded strictly.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.ciphersuite import SCALAR_LENGTH, VOLE_DOMAIN, WIDE_LENGTH
from purposematch.protocol.group import Bytes, Group, RandomBytes, SecretScalar
from purposematch.protocol.scalars import scalar_reduce
from purposematch.protocol.secret import SecretArray, reveal, reveal_array
from purposematch.protocol.vole.parameters import BASE_TRANSFERS, BLOCK

__all__ = ["BaseChooser", "BaseSender"]

_ONE: Final = SecretScalar(b"\1".ljust(SCALAR_LENGTH, b"\0"))


class BaseSender:
    """The side that gets pairs of keys.

    Args:
        group: the back end.
        random: see `RandomBytes`.
    """

    def __init__(self, group: Group, random: RandomBytes) -> None:
        """Draws the secret a."""
        self._group = group
        self._secret = scalar_reduce(random(WIDE_LENGTH))
        self._own = group.multiply_generator(self._secret)
        self.element = group.encode(self._own).tobytes()
        """A, 32 bytes."""

    def pairs(self, context: bytes, chosen: Bytes) -> tuple[SecretArray, SecretArray]:
        """The keys for the choices 0 and 1, (128, 16) each.

        Args:
            context: of the session.
            chosen: the B_i, (128, 32), untrusted.

        Raises:
            DecodeError: one is not the encoding of an element, or is A itself.
        """
        group = self._group
        first = group.multiply(group.decode(chosen), self._secret)
        repeated = SecretArray(np.tile(np.frombuffer(reveal(self._secret), np.uint8), (len(chosen), 1)))
        second = group.add_multiples(first, repeated, self._own, negate=True)
        repeated.wipe()
        encoded = (group.encode(first), group.encode(second))
        zero, one = (_keys(context, self.element, chosen, shared) for shared in encoded)
        return zero, one


class BaseChooser:
    """The side that has a bit for each transfer and gets that key.

    Args:
        group: the back end.
        random: see `RandomBytes`.
        element: A, 32 bytes, untrusted.

    Raises:
        DecodeError: A is not the encoding of an element.
    """

    def __init__(self, group: Group, random: RandomBytes, element: bytes) -> None:
        """Draws the bits and computes the B_i."""
        public = np.tile(np.frombuffer(element, np.uint8), (BASE_TRANSFERS, 1))
        peer = group.decode(public)
        self.bits = SecretArray(np.frombuffer(random(BLOCK), np.uint8).copy().reshape(1, BLOCK))
        wide = np.frombuffer(random(BASE_TRANSFERS * WIDE_LENGTH), np.uint8)
        scalars = SecretArray(group.reduce(wide.reshape(BASE_TRANSFERS, WIDE_LENGTH)))
        generator = np.tile(group.encode(group.multiply_generator(_ONE)), (BASE_TRANSFERS, 1))
        zero = group.encode(group.multiply_each(group.decode(generator), scalars))
        one = group.encode(group.add_multiples(peer, scalars))
        self._element = element
        self._shared = group.encode(group.multiply_each(peer, scalars))
        scalars.wipe()
        self.chosen: Bytes = np.where(_unpacked(self.bits)[:, None] == 1, one, zero)
        """The B_i, (128, 32), for the peer."""

    def keys(self, context: bytes) -> SecretArray:
        """The key of each choice, (128, 16)."""
        return _keys(context, self._element, self.chosen, self._shared)


def _unpacked(bits: SecretArray) -> NDArray[np.uint8]:
    return np.unpackbits(reveal_array(bits).reshape(-1), bitorder="little")


def _keys(context: bytes, element: bytes, chosen: Bytes, shared: Bytes) -> SecretArray:
    head = VOLE_DOMAIN + b" base" + context
    digests = [
        hashlib.sha256(head + i.to_bytes(4, "little") + element + own.tobytes() + point.tobytes()).digest()
        for i, (own, point) in enumerate(zip(chosen, shared, strict=True))
    ]
    return SecretArray(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)[:, :BLOCK].copy())
