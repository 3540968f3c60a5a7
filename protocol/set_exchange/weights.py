"""The weights by which a proof of the set exchange folds a batch of pairs into one.

RFC 9497 hashes every pair by itself to a scalar of 252 bits. Here one hash of the whole batch is the key of a
stream of 126 bits for each pair: half the additions in every sum, and no hash for each pair.

What that is worth: where one pair of a batch or more is not linked by A's exponent, the weights that let it
pass are at most one in 2^126 (for all others given, one value of that pair's weight). They come from
a hash over everything that is proved, so an advertiser can do no better than to make new batches and look,
each at the cost of hashing it; that finds one in about 2^126 tries, as many steps as a discrete logarithm in
this group takes.

Source: the small exponents test of Bellare, Garay and Rabin 1998 ("Fast Batch Verification for Modular
Exponentiation and Digital Signatures", section 4), with exponents from a hash, as RFC 9497 section 2.2 has
them.

Not protected against: more than that many tries.
"""

import hashlib
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from purposematch.protocol.ciphersuite import SCALAR_LENGTH, Suite
from purposematch.protocol.group import Bytes, Elements, Group

__all__ = ["short_weights"]

_WEIGHT_LENGTH: Final = 16
"""Bytes of a weight."""
_HIGHEST: Final = 0x3F
"""What its last byte keeps: with 126 bits, signed digits of eight bits carry nothing into a seventeenth."""


def short_weights(group: Group, suite: Suite, public: Elements, c: Elements, d: Elements) -> Bytes:
    """The weights of n pairs, (n, 32): 126 bits each, little-endian (`purposematch.protocol.dleq.Weights`).

    They are 16 bytes each of ChaCha20 (RFC 8439, nonce and counter zero), of which the two highest bits are
    cleared, under the SHA-256 of the suite's seed string and A, both with their lengths, every C and every D.
    """
    digest = hashlib.sha256()
    for framed in (suite.seed_dst, group.encode(public).tobytes()):
        digest.update(len(framed).to_bytes(2, "big") + framed)
    digest.update(group.encode(c).data)
    digest.update(group.encode(d).data)
    stream = Cipher(algorithms.ChaCha20(digest.digest(), bytes(16)), None).encryptor()
    drawn = np.frombuffer(stream.update(bytes(_WEIGHT_LENGTH * len(c))), np.uint8)
    weights = np.zeros((len(c), SCALAR_LENGTH), np.uint8)
    weights[:, :_WEIGHT_LENGTH] = drawn.reshape(-1, _WEIGHT_LENGTH)
    weights[:, _WEIGHT_LENGTH - 1] &= _HIGHEST
    return weights
