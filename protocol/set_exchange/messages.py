"""The messages of the set exchange as values, free of any wire format.

Two streams of numbered batches go from the advertiser to the platform: its own elements, and the points of
the platform's list multiplied. Both carry encoded elements (n, 32), which whoever computes with them decodes.

Not protected against: nothing is verified here but lengths and ranges.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np

from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, MAX_PROOF_ELEMENTS
from purposematch.protocol.dleq import Proof
from purposematch.protocol.errors import DecodeError, LimitError
from purposematch.protocol.group import Bytes
from purposematch.protocol.messages import MAX_BATCHES

__all__ = ["OwnBatch", "ReturnedBatch"]


@dataclass(frozen=True, slots=True)
class OwnBatch:
    """A batch of the advertiser's own elements a*H(y).

    Attributes:
        number: counts from 0.
        exponent: A = a*G, 32 bytes; the same in every batch of a session.
        elements: (n, 32), 1 <= n <= 65,535.

    Raises:
        LimitError: the number or the count of elements is out of range.
    """

    number: int
    exponent: bytes
    elements: Bytes

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self.number, self.elements)

    @property
    def digest(self) -> bytes:
        """SHA-256 of number, A and elements: a batch that is sent again must have the same one."""
        return _digest(self.number, self.exponent + self.elements.tobytes())

    @classmethod
    def decode(cls, number: int, exponent: bytes, elements: bytes) -> Self:
        """Parses an untrusted batch.

        Raises:
            DecodeError: the bytes are not whole elements.
            LimitError: the number or the count is out of range.
        """
        if len(exponent) != ELEMENT_LENGTH:
            raise DecodeError(f"the element of the exponent is not {ELEMENT_LENGTH} bytes long")
        return cls(number, exponent, _elements(elements))


@dataclass(frozen=True, slots=True)
class ReturnedBatch:
    """A batch of points that came back multiplied by a.

    Attributes:
        number: that of the segment of the list which has as many points.
        elements: (n, 32), 1 <= n <= 65,535.
        proof: that `a` made them of that segment's points; None for `count`.

    Raises:
        LimitError: the number or the count of elements is out of range.
    """

    number: int
    elements: Bytes
    proof: Proof | None

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self.number, self.elements)

    @property
    def digest(self) -> bytes:
        """SHA-256 of number and elements: a batch that is sent again must have the same one."""
        return _digest(self.number, self.elements.tobytes())

    @classmethod
    def decode(cls, number: int, elements: bytes, proof: bytes) -> Self:
        """Parses an untrusted batch; an empty proof is none.

        Raises:
            DecodeError: the bytes are not whole elements, or the proof is malformed.
            LimitError: the number or the count is out of range.
        """
        return cls(number, _elements(elements), Proof.decode(proof) if proof else None)


def _check(number: int, elements: Bytes) -> None:
    if not 0 <= number <= MAX_BATCHES or not 0 < len(elements) <= MAX_PROOF_ELEMENTS:
        raise LimitError("a batch has a wrong number, or no or too many elements")


def _digest(number: int, content: bytes) -> bytes:
    return hashlib.sha256(number.to_bytes(4, "big") + content).digest()


def _elements(content: bytes) -> Bytes:
    if len(content) % ELEMENT_LENGTH:
        raise DecodeError(f"elements are {ELEMENT_LENGTH} bytes each, not {len(content)} in all")
    return np.frombuffer(content, np.uint8).reshape(-1, ELEMENT_LENGTH)
