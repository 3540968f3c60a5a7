"""The advertiser's half of the set exchange, without I/O.

::

    AdvertiserExchange(...)              draws a and the orders from the session's seed
      .own(number, inputs)               a*H(y) of one batch         -> OwnBatch
      .give_back(number, points)         a times the points of a segment -> ReturnedBatch

Whatever is made again from the same seed is the same bytes, so that a batch can be sent again after a cut and
by another process. Batches may be made in any order and from several threads.

Not protected against: a platform that uses a secret of its own for each point of a list for `count`: it
would learn which of them match. And `a` is one scalar for the whole session: whoever can compute discrete
logarithms one day tells the list from what was sent, which the POPRF's blinds prevent.
"""

import hmac
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.ciphersuite import SET_EXCHANGE, WIDE_LENGTH
from purposematch.protocol.dleq import prove
from purposematch.protocol.errors import LimitError
from purposematch.protocol.group import Bytes, Group
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.scalars import scalar_reduce
from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
from purposematch.protocol.set_exchange.points import expand_secret, scope_points
from purposematch.protocol.set_exchange.shape import Shape
from purposematch.protocol.set_exchange.weights import short_weights
from purposematch.protocol.transcript import transcript_hash

__all__ = ["AdvertiserExchange", "secret_order"]

_KEY_LENGTH: Final = 32
_WORD_LENGTH: Final = 8
_WORDS_AT_A_TIME: Final = 65_536


def secret_order(seed: SessionSeed, use: str, count: int) -> NDArray[np.int64]:
    """A permutation of `count` numbers that looks random to whoever does not have the seed, (count,).

    It sorts `count` 64-bit words, big-endian, of ChaCha20 under a key of its own (RFC 8439; nonce and counter
    are zero); equal words stay in their order. While it is made it takes 16 bytes for each number, then 8.
    """
    key = expand_secret(seed, use, _KEY_LENGTH)
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor()
    words = np.empty(count, np.uint64)
    for start in range(0, count, _WORDS_AT_A_TIME):
        part = words[start : start + _WORDS_AT_A_TIME]
        part[:] = np.frombuffer(stream.update(bytes(_WORD_LENGTH * len(part))), ">u8")
    return np.argsort(words, kind="stable")


class AdvertiserExchange:
    """One set exchange of an advertiser.

    Args:
        group: the back end.
        name: of the list, see `list_name`.
        grant, manifest: as checked by `check_grant`.
        seed: the session's secret.
        in_order: whether the points come back in their order, with a proof for each batch.

    Attributes:
        shape: which elements are in which batch.
        exponent: A = a*G, 32 bytes.
        canaries: the private inputs behind the list, (64, 33).

    Raises:
        LimitError: the generation has no such list.
    """

    def __init__(
        self,
        group: Group,
        name: str,
        grant: SessionGrant,
        manifest: Manifest,
        seed: SessionSeed,
        *,
        in_order: bool,
    ) -> None:
        self.shape = Shape.of(grant, manifest, name)
        self.canaries = canary_inputs(manifest.generation)
        self._group = group
        self._name = name
        self._info = manifest.scope.info()
        self._seed = seed
        self._suite = SET_EXCHANGE.bound_to(transcript_hash(grant))
        self._a = scalar_reduce(expand_secret(seed, "exponent of the advertiser", WIDE_LENGTH))
        self._public = group.multiply_generator(self._a)
        self.exponent = group.encode(self._public).tobytes()
        self._own_order = secret_order(seed, "order of the list", self.shape.list_size)
        self._in_order = in_order
        self._returned_order = (
            None if in_order else secret_order(seed, "order of the points", self.shape.points)
        )

    def own_numbers(self, number: int) -> NDArray[np.int64]:
        """Which identifiers of the list are in a batch of own elements, in their order; without canaries."""
        first, stop = self.shape.own_bounds(number)
        return self._own_order[first:stop]

    def own_canaries(self, number: int) -> Bytes:
        """The canaries behind them, (n, 33)."""
        first, stop = (max(bound - self.shape.list_size, 0) for bound in self.shape.own_bounds(number))
        return self.canaries[first:stop]

    def own(self, number: int, inputs: Bytes) -> OwnBatch:
        """Multiplies a batch of own elements.

        Args:
            number: counts from 0.
            inputs: the private inputs of `own_numbers`, (n, 33), and then of `own_canaries`.

        Raises:
            LimitError: the inputs are not as many as the batch has.
        """
        first, stop = self.shape.own_bounds(number)
        if len(inputs) != stop - first:
            raise LimitError(f"batch {number} has {stop - first} inputs, not {len(inputs)}")
        elements = scope_points(self._group, self._name, self._info, inputs)
        return OwnBatch(number, self.exponent, self._group.encode(self._group.multiply(elements, self._a)))

    def returned_places(self, number: int) -> NDArray[np.int64]:
        """Which points of the list come back in a batch, by their place in it."""
        first, stop = self.shape.returned_bounds(number)
        if self._returned_order is None:
            return np.arange(first, stop)
        return self._returned_order[first:stop]

    def give_back(self, number: int, points: Bytes) -> ReturnedBatch:
        """Multiplies a batch of the platform's points.

        Args:
            number: of the batch.
            points: those of `returned_places`, (n, 32), of verified segments.

        Raises:
            LimitError: the points are not as many as the batch has.
            DecodeError: one is not the encoding of an element.
        """
        first, stop = self.shape.returned_bounds(number)
        if len(points) != stop - first:
            raise LimitError(f"batch {number} has {stop - first} points, not {len(points)}")
        decoded = self._group.decode(points)
        multiplied = self._group.multiply(decoded, self._a)
        encoded = self._group.encode(multiplied)
        if not self._in_order:
            return ReturnedBatch(number, encoded, None)
        key = expand_secret(self._seed, f"proof of batch {number}", WIDE_LENGTH)

        def nonce(length: int) -> bytes:
            # It depends on what is proved, so that no two proofs ever share it; and a batch that is made
            # again has the same proof.
            return hmac.digest(key, points.tobytes() + encoded.tobytes(), "sha512")[:length]

        pairs = (self._public, decoded, multiplied)
        proof = prove(self._group, self._suite, self._a, *pairs, nonce, short_weights)
        return ReturnedBatch(number, encoded, proof)

    def close(self) -> None:
        """Forgets the session's secrets."""
        self._a.wipe()
        self._seed.wipe()
