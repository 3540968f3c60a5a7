"""The platform's side of a match by POPRF, without I/O.

Between two messages nothing is kept here: what was counted and answered is the registry's, so that any
server process can take the next message of a session.

Not protected against: an advertiser that invents list entries; the declared size and the quota bound it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.errors import LimitError, StateError, VerificationError
from purposematch.protocol.group import Bytes, Elements, Group, RandomBytes
from purposematch.protocol.index import find, order_by_tag
from purposematch.protocol.messages import CommitEntries, EvaluateReply, EvaluateRequest, SessionGrant
from purposematch.protocol.poprf import EvaluationKey, evaluate_blinded
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.transcript import transcript_hash, verify_commit_macs

__all__ = ["PlatformSession"]

FILLING: Final = 4
"""Batches may on average be this many times smaller than the largest that is allowed."""

SPARE_BATCHES: Final = 8
"""Batches that a session may send besides, so that short lists can be cut in any way."""


@dataclass(frozen=True, slots=True)
class PlatformSession:
    """One session as the platform computes it.

    Attributes:
        group: the back end.
        key: the evaluation key of the session's scope.
        grant: what was signed when the session opened.
    """

    group: Group
    key: EvaluationKey
    grant: SessionGrant

    @property
    def max_elements(self) -> int:
        """Elements that the session may have evaluated: the declared list and the canaries."""
        return self.grant.list_size + CANARY_COUNT

    @property
    def max_batches(self) -> int:
        """Batches that the session may send: more than full ones need, and too few to flood anybody."""
        return SPARE_BATCHES + FILLING * -(-self.max_elements // self.grant.max_batch_elements)

    def charged(self, elements_before: int, elements: int) -> int:
        """How many of a batch's elements the quota counts: all up to the declared list; canaries are free.

        Args:
            elements_before: elements of the session's other batches so far.
            elements: those of this batch.
        """
        declared = self.grant.list_size
        return min(elements_before + elements, declared) - min(elements_before, declared)

    def admit(self, request: EvaluateRequest, elements_before: int, known_digest: bytes | None) -> bool:
        """Decides about a batch before any work is spent on it.

        Args:
            request: the batch.
            elements_before: elements of the session's other batches so far.
            known_digest: the digest recorded under this batch number, if there is one.

        Returns:
            True where the batch is new and must be recorded, False where it is an exact repetition.

        Raises:
            StateError: other bytes came under a used number; the session must end.
            LimitError: the batch, or the session with it, has too many elements, or the session too many
                batches.
        """
        if known_digest is not None:
            if known_digest != request.digest:
                raise StateError("other bytes under a used batch number", "a byte-identical repetition")
            return False
        if request.number >= self.max_batches:
            raise LimitError("the session has more batches than its list needs")
        if len(request.blinded) > self.grant.max_batch_elements:
            raise LimitError("a batch has more elements than the session allows")
        if elements_before + len(request.blinded) > self.max_elements:
            raise LimitError("the session has more elements than were declared")
        return True

    def evaluate(self, number: int, blinded: Elements, random_bytes: RandomBytes) -> EvaluateReply:
        """Evaluates and proves one batch; `random_bytes` is the source of the proof's nonce."""
        evaluated, proof = evaluate_blinded(self.group, POPRF, self.key, blinded, random_bytes)
        return EvaluateReply(number, self.group.encode(evaluated), proof)

    def open_commit(
        self, entries: CommitEntries, tags: Bytes, tokens: SecretArray, evaluated: int
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The rows of the platform's table that a commit proves.

        Args:
            entries: what the advertiser committed.
            tags: the generation's tags, ascending, (n, 16).
            tokens: their tokens, (n, 32).
            evaluated: elements that the session had evaluated.

        Raises:
            LimitError: more entries than the session evaluated, or declared.
            VerificationError: a tag is twice in it or unknown, or a MAC does not hold.
        """
        # By VOLE several lists may have been paid for in one session; it is one list that is committed.
        if len(entries) > min(evaluated, self.max_elements):
            raise LimitError("a commit has more entries than its session evaluated")
        if not len(entries):
            return np.empty(0, np.int64)
        ordered = entries.tags[order_by_tag(entries.tags)]
        if (ordered[1:] == ordered[:-1]).all(axis=1).any():
            raise VerificationError("a commit holds a tag twice")
        rows = find(tags, entries.tags)
        if (rows < 0).any():
            raise VerificationError("a commit holds a tag that is not in the generation")
        own = SecretArray(reveal_array(tokens)[rows])
        verify_commit_macs(own, entries.macs, transcript_hash(self.grant))
        return rows
