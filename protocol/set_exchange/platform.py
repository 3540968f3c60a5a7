"""The platform's half of the set exchange, without I/O.

Between two messages nothing is kept here. Of every element that passed the checks the platform keeps its
mark, 16 bytes. For `count` these are marks of a*b*H: the advertiser's own elements are multiplied by the
list's secret b, and returned points have it already. For `platform` they are marks of a*H: own elements are
that already, and returned points are freed of their masks, after their proof was verified and never before.
No product with b ever leaves the platform, and nothing that was freed of its mask.

Not protected against: an advertiser that invents list entries; the declared size and the quota bound it.
"""

from dataclasses import dataclass

from purposematch.protocol.ciphersuite import SET_EXCHANGE
from purposematch.protocol.dleq import verify
from purposematch.protocol.errors import LimitError, StateError, VerificationError
from purposematch.protocol.group import Bytes, Elements, Group
from purposematch.protocol.hashing import one_row
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.secret import SecretArray
from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
from purposematch.protocol.set_exchange.points import ListSecret, MaskKey, marks, masks, multiples
from purposematch.protocol.set_exchange.shape import Shape
from purposematch.protocol.set_exchange.weights import short_weights
from purposematch.protocol.transcript import transcript_hash

__all__ = ["PlatformExchange"]


@dataclass(frozen=True, slots=True)
class PlatformExchange:
    """One set exchange as the platform computes it.

    Attributes:
        group: the back end.
        secret: of the list, see `list_secret`.
        grant: what was signed when the session opened.
        shape: which elements are in which batch.
    """

    group: Group
    secret: ListSecret
    grant: SessionGrant
    shape: Shape

    @property
    def in_order(self) -> bool:
        """Whether points come back in their order, with a proof for each batch."""
        return isinstance(self.secret, MaskKey)

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
        """The marks of own elements, (n, 16), for `count` of b times each; for the platform alone.

        Raises:
            DecodeError: an element, or A, is not canonical or is the identity; nothing was computed.
        """
        self.group.decode(one_row(batch.exponent))
        own = self.group.decode(batch.elements)
        if not isinstance(self.secret, MaskKey):
            own = self.group.multiply(own, self.secret)
        return marks(self.group, own)

    def returned_marks(
        self, batch: ReturnedBatch, public: Elements, points: Bytes, mask_inputs: Bytes | None
    ) -> Bytes:
        """The marks of returned points, (n, 16), for `platform` freed of their masks.

        Args:
            batch: as admitted.
            public: the session's A, a batch of one. What is computed from it once is kept with it.
            points: those of the segment, (n, 32).
            mask_inputs: what stands for the identifier of each in its mask, (n, 16); None for `count`.

        Raises:
            DecodeError: an element is not canonical or is the identity.
            VerificationError: the proof does not hold: one point at least is not A's multiple of the one
                in its place.
        """
        returned = self.group.decode(batch.elements)
        if isinstance(self.secret, MaskKey) and batch.proof is not None and mask_inputs is not None:
            suite = SET_EXCHANGE.bound_to(transcript_hash(self.grant))
            try:
                pairs = (public, self.group.decode(points), returned)
                verify(self.group, suite, *pairs, batch.proof, short_weights)
            except VerificationError:
                raise VerificationError(
                    "returned points are not those of the list in their order, all multiplied alike"
                ) from None
            scalars = masks(self.group, self.secret, mask_inputs)
            returned = self.group.add_multiples(returned, scalars, public, negate=True)
            scalars.wipe()
        elif self.in_order:
            raise VerificationError("returned points come without a proof")
        return marks(self.group, returned)

    def planted_marks(self, exponent: bytes, scalars: SecretArray) -> Bytes:
        """The marks of r_j*A, (128, 16): what must be among the returned points for `count`.

        Args:
            exponent: the session's A.
            scalars: the list's r_j, (128, 32).
        """
        return marks(self.group, multiples(self.group, exponent, scalars))
