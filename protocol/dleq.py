"""Batched proofs that two lists of elements have the same discrete logarithm ratio.

Source: RFC 9497 section 2.2 (GenerateProof, ComputeCompositesFast, VerifyProof, ComputeComposites). The
proof shows that one scalar k links A to B and every C[i] to D[i], without showing k. It is what keeps a
platform from answering one client, or one element, with another key, and an advertiser in the set exchange
from giving another point back than it was sent.

Not protected against: a platform that uses an honest key on a dishonest index; see `canary`.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from purposematch.protocol.ciphersuite import (
    ELEMENT_LENGTH,
    MAX_PROOF_ELEMENTS,
    PROOF_LENGTH,
    SCALAR_LENGTH,
    Suite,
)
from purposematch.protocol.errors import DecodeError, LimitError, VerificationError
from purposematch.protocol.group import Bytes, Elements, Group, RandomBytes, SecretScalar
from purposematch.protocol.hashing import hash_to_scalar, one_row
from purposematch.protocol.scalars import decode_public_scalar, random_scalar, scalar_multiply_subtract

__all__ = ["Proof", "Weights", "composite_weights", "prove", "verify"]

Weights = Callable[[Group, Suite, Elements, Elements, Elements], Bytes]
"""Makes the public scalars, (n, 32), that fold a batch into one pair, from A, every C[i] and every D[i]."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A DLEQ proof: challenge and response, canonical public scalars of 32 bytes each."""

    challenge: bytes
    response: bytes

    def encode(self) -> bytes:
        """64 bytes: challenge, then response."""
        return self.challenge + self.response

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """Parses an untrusted proof.

        Raises:
            DecodeError: it is not 64 bytes long or a scalar is not canonical.
        """
        if len(encoded) != PROOF_LENGTH:
            raise DecodeError(f"a proof is {len(encoded)} bytes long, not {PROOF_LENGTH}")
        challenge, response = encoded[:SCALAR_LENGTH], encoded[SCALAR_LENGTH:]
        return cls(decode_public_scalar(challenge), decode_public_scalar(response))


def prove(
    group: Group,
    suite: Suite,
    key: SecretScalar,
    public: Elements,
    c: Elements,
    d: Elements,
    random_bytes: RandomBytes,
    weigh: Weights | None = None,
) -> Proof:
    """Proves that public = key * G and d[i] = key * c[i] for all i (GenerateProof with A = G).

    Args:
        group: the back end.
        suite: whose domain-separation strings to use.
        key: the secret k.
        public: the batch of one k * G.
        c: n elements, 1 <= n <= 65,535.
        d: as many.
        random_bytes: the source of the proof's nonce; a repeated nonce gives away `key`.
        weigh: makes the weights, `composite_weights` if not given.

    Raises:
        LimitError: n is out of range.
    """
    weights = _weights(group, suite, public, c, d, weigh)
    m = group.public_sum_of_products(c, weights)
    z = group.multiply(m, key)
    nonce = random_scalar(random_bytes)
    t2 = group.multiply_generator(nonce)
    t3 = group.multiply(m, nonce)
    challenge = _challenge(group, suite, public, m, z, t2, t3)
    response = scalar_multiply_subtract(nonce, challenge, key)
    nonce.wipe()
    return Proof(challenge, response)


def verify(
    group: Group,
    suite: Suite,
    public: Elements,
    c: Elements,
    d: Elements,
    proof: Proof,
    weigh: Weights | None = None,
) -> None:
    """Checks a proof made by `prove` with the same weights.

    Raises:
        VerificationError: it does not hold.
        LimitError: the number of elements is out of range.
    """
    weights = _weights(group, suite, public, c, d, weigh)
    m, z = group.public_sums_of_products([c, d], weights)
    challenge = np.frombuffer(proof.challenge, np.uint8)
    response = np.frombuffer(proof.response, np.uint8)
    try:
        t2 = group.public_multiply_add(challenge, public, response)
        t3 = group.public_multiply_add(response, m, challenge, z)
    except DecodeError as error:
        # A zero scalar in a proof would make a term vanish; no honest prover sends one.
        raise VerificationError("a proof does not hold") from error
    if not hmac.compare_digest(_challenge(group, suite, public, m, z, t2, t3), proof.challenge):
        raise VerificationError("a proof does not hold")


def composite_weights(group: Group, suite: Suite, public: Elements, c: Elements, d: Elements) -> Bytes:
    """The weights of RFC 9497 section 2.2.1, (n, 32): a hash for each pair."""
    seed_transcript = _prefixed(_bytes(group, public)) + _prefixed(suite.seed_dst)
    seed = hashlib.sha512(seed_transcript).digest()
    # struct { seed<2>; index; C<2>; D<2>; "Composite" }
    length = ELEMENT_LENGTH.to_bytes(2, "big")
    index = np.arange(len(c), dtype=">u2").view(np.uint8).reshape(len(c), 2)
    parts: list[bytes | Bytes] = [
        _prefixed(seed),
        index,
        length,
        group.encode(c),
        length,
        group.encode(d),
        b"Composite",
    ]
    return hash_to_scalar(group, suite, parts)


def _weights(
    group: Group, suite: Suite, public: Elements, c: Elements, d: Elements, weigh: Weights | None
) -> Bytes:
    if len(c) != len(d) or not 0 < len(c) <= MAX_PROOF_ELEMENTS:
        raise LimitError(f"a proof covers 1 to {MAX_PROOF_ELEMENTS} pairs, not {len(c)} and {len(d)}")
    return (weigh or composite_weights)(group, suite, public, c, d)


def _challenge(group: Group, suite: Suite, *elements: Elements) -> bytes:
    transcript = b"".join(_prefixed(_bytes(group, element)) for element in elements) + b"Challenge"
    scalar: bytes = hash_to_scalar(group, suite, one_row(transcript))[0].tobytes()
    return scalar


def _bytes(group: Group, element: Elements) -> bytes:
    return group.encode(element).tobytes()


def _prefixed(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content
