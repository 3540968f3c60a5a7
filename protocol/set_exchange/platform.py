"""The platform's half of the set exchange, without I/O.

Between two messages nothing is kept here. Of every element that passed the checks the platform keeps its
mark, 16 bytes: of the advertiser's own elements after multiplying them by the list's secret b, of returned
points as they are. No product with b ever leaves the platform.

Not protected against: an advertiser that invents list entries; the declared size and the quota bound it.
"""

from dataclasses import dataclass

from purposematch.protocol.ciphersuite import SET_EXCHANGE
from purposematch.protocol.dleq import verify
from purposematch.protocol.errors import LimitError, StateError, VerificationError
from purposematch.protocol.group import Bytes, Group, SecretScalar
from purposematch.protocol.hashing import one_row
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.secret import SecretArray
from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
from purposematch.protocol.set_exchange.points import marks, multiples
from purposematch.protocol.set_exchange.shape import Shape
from purposematch.protocol.set_exchange.weights import short_weights
from purposematch.protocol.transcript import transcript_hash

__all__ = ["PlatformExchange"]


@dataclass(frozen=True, slots=True)
class PlatformExchange:
    """One set exchange as the platform computes it.

    Attributes:
        group: the back end.
        exponent: the secret b of the list.
        grant: what was signed when the session opened.
        shape: which elements are in which batch.
        in_order: whether points come back in their order, with a proof for each batch.
    """

    group: Group
    exponent: SecretScalar
    grant: SessionGrant
    shape: Shape
    in_order: bool

    def admit_own(self, batch: OwnBatch, known_digest: bytes | None, exponent: bytes | None) -> bool:
        """Decides about a batch of own elements before any work is spent on it.

        Args:
            batch: the batch.
            known_digest: the digest recorded under this batch number, if there is one.
            exponent: the A of the session's other batches, 32 bytes, if there is one.

        Returns:
            True where the batch is new and must be recorded, False where it is an exact repetition.

        Raises:
            StateError: other bytes came under a used number, or another A; the session must end.
            LimitError: there is no such batch, or it has another length.
        """
        if known_digest is not None and known_digest != batch.digest:
            raise StateError("other bytes under a used batch number", "a byte-identical repetition")
        if exponent is not None and exponent != batch.exponent:
            raise StateError("another exponent within a session", "one exponent")
        first, stop = self.shape.own_bounds(batch.number)
        if len(batch.elements) != stop - first:
            raise LimitError(f"a batch has {len(batch.elements)} elements and not {stop - first}")
        return known_digest is None

    def admit_returned(self, batch: ReturnedBatch, known_digest: bytes | None) -> bool:
        """Decides about a batch of returned points, as `admit_own`.

        Raises:
            StateError: other bytes came under a used number; the session must end.
            LimitError: there is no such batch, or it has another length.
            VerificationError: a proof is missing, or there is one that nothing asks for.
        """
        if known_digest is not None and known_digest != batch.digest:
            raise StateError("other bytes under a used batch number", "a byte-identical repetition")
        first, stop = self.shape.returned_bounds(batch.number)
        if len(batch.elements) != stop - first:
            raise LimitError(f"a batch has {len(batch.elements)} points and not {stop - first}")
        if self.in_order != (batch.proof is not None):
            raise VerificationError("returned points come without a proof, or with one too many")
        return known_digest is None

    def own_marks(self, batch: OwnBatch) -> Bytes:
        """The marks of b times every element, (n, 16), for the platform alone.

        Raises:
            DecodeError: an element, or A, is not canonical or is the identity; nothing was computed.
        """
        self.group.decode(one_row(batch.exponent))
        return marks(self.group, self.group.multiply(self.group.decode(batch.elements), self.exponent))

    def returned_marks(self, batch: ReturnedBatch, exponent: bytes, points: Bytes) -> Bytes:
        """The marks of returned points, (n, 16).

        Args:
            batch: as admitted.
            exponent: the session's A.
            points: those of the segment, (n, 32).

        Raises:
            DecodeError: an element is not canonical or is the identity.
            VerificationError: the proof does not hold: one point at least is not A's multiple of the one
                in its place.
        """
        returned = self.group.decode(batch.elements)
        if batch.proof is not None:
            public = self.group.decode(one_row(exponent))
            suite = SET_EXCHANGE.bound_to(transcript_hash(self.grant))
            try:
                pairs = (public, self.group.decode(points), returned)
                verify(self.group, suite, *pairs, batch.proof, short_weights)
            except VerificationError:
                raise VerificationError(
                    "returned points are not those of the list in their order, all multiplied alike"
                ) from None
        return marks(self.group, returned)

    def planted_marks(self, exponent: bytes, scalars: SecretArray) -> Bytes:
        """The marks of r_j*A, (128, 16): what must be among the returned points for `count`.

        Args:
            exponent: the session's A.
            scalars: the list's r_j, (128, 32).
        """
        return marks(self.group, multiples(self.group, exponent, scalars))
