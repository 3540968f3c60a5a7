"""What the protocol asks of a back end of the group.

Encoded and decoded elements are different types: an `Elements` batch exists only after strict decoding
(RFC 9496 section 4.3.1, identity refused as RFC 9497 section 2.1 demands) or as the result of a
computation, so that no operation ever meets an unchecked encoding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.ciphersuite import SCALAR_LENGTH
from purposematch.protocol.secret import Secret, SecretArray

__all__ = ["Bytes", "Elements", "Group", "RandomBytes", "SecretScalar"]

Bytes = NDArray[np.uint8]
"""A C-contiguous batch of byte strings, shape (n, width)."""
RandomBytes = Callable[[int], bytes]
"""Gives that many unpredictable bytes; `secrets.token_bytes` outside tests."""


class SecretScalar(Secret):
    """A secret integer modulo the group order, 32 bytes little-endian."""

    LENGTH = SCALAR_LENGTH


class Elements(ABC):
    """A batch of decoded group elements, none of them the identity; made by a `Group` only."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of elements."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> Self:
        """The elements from `start` up to `stop`, sharing memory."""


class Group(ABC):
    """Batched arithmetic in ristretto255 and in its scalar field.

    Operations on secret scalars run in constant time; those named `public` may not.
    """

    name: str
    """The name by which a back end is chosen."""
    description: str
    """The name, with what it uses of this processor; for people."""

    def prepare(self) -> None:
        """Does now what would otherwise delay the first batch; does nothing the second time."""
        return

    @abstractmethod
    def decode(self, encoded: Bytes) -> Elements:
        """Decodes (n, 32) bytes, checking the whole batch before anything is computed with it.

        Raises:
            DecodeError: the shape is wrong, or an encoding is not canonical or is the identity. This
                stops small-subgroup, malleability and trivial-output attacks by the peer.
        """

    @abstractmethod
    def encode(self, elements: Elements) -> Bytes:
        """The canonical encodings, (n, 32)."""

    @abstractmethod
    def map_to_group(self, uniform: Bytes) -> Elements:
        """Maps (n, 64) uniform bytes to elements (RFC 9496 section 4.3.4)."""

    @abstractmethod
    def multiply(self, elements: Elements, scalar: SecretScalar) -> Elements:
        """Multiplies every element by one secret scalar, which must not be zero.

        Raises:
            DecodeError: it is zero.
        """

    @abstractmethod
    def multiply_each(self, elements: Elements, scalars: SecretArray) -> Elements:
        """Multiplies element i by secret scalar i; scalars are (n, 32) and not zero.

        Raises:
            DecodeError: a scalar is zero.
            ValueError: there are not as many scalars as elements.
        """

    @abstractmethod
    def add_multiples(
        self, elements: Elements, scalars: SecretArray, base: Elements | None = None, *, negate: bool = False
    ) -> Elements:
        """Element i plus secret scalar i times one public element; scalars are (n, 32) and not zero.

        Args:
            elements: what is added to.
            scalars: one for each.
            base: a batch of one, the generator if not given. What is computed from it once is kept with it.
            negate: subtracts instead.

        Raises:
            DecodeError: a scalar is zero, or a sum is the identity.
            ValueError: there are not as many scalars as elements.
        """

    @abstractmethod
    def multiply_generator(self, scalar: SecretScalar) -> Elements:
        """The generator times a secret scalar, a batch of one."""

    @abstractmethod
    def public_multiply_add(self, a: Bytes, x: Elements, b: Bytes, y: Elements | None = None) -> Elements:
        """a*x + b*y for public scalars (32,) and batches of one; the generator where `y` is None."""

    @abstractmethod
    def public_sum_of_products(self, elements: Elements, scalars: Bytes) -> Elements:
        """The sum of public scalar i times element i, a batch of one.

        Raises:
            DecodeError: the sum is the identity, which no honest peer can cause; so is a sum of nothing.
            ValueError: there are not as many scalars as elements.
        """

    def public_sums_of_products(self, batches: Sequence[Elements], scalars: Bytes) -> list[Elements]:
        """`public_sum_of_products` of every batch with the same scalars."""
        return [self.public_sum_of_products(elements, scalars) for elements in batches]

    @abstractmethod
    def reduce(self, wide: Bytes) -> Bytes:
        """(n, 64) little-endian integers modulo the group order, (n, 32)."""

    @abstractmethod
    def invert(self, scalars: SecretArray) -> SecretArray:
        """The inverse of every scalar modulo the group order.

        Raises:
            DecodeError: a scalar is zero.
        """
