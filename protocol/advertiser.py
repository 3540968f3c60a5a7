"""The advertiser's side of a match by POPRF, without I/O.

::

    AdvertiserSession(grant, manifest, ...)      checks that all of it belongs together
      .request(number, inputs)                   blinds one batch     -> EvaluateRequest
      .reply(EvaluateReply)                      checks the proof     -> Evaluation (tags, tokens)
      .matches(evaluation, index)                looks the tags up, and notes canaries
      .close_list()                              demands every batch answered, every canary found
      .commit(tags, tokens)                      proves the matches   -> CommitEntries

Requests may be made and replies taken in any order and from several threads; each batch is answered
once. Inputs, blinds and tokens stay in this process.

Not protected against: a platform that left identifiers out of its index; see `canary`.
"""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.additive_blinding import additive_blind, additive_finalize
from purposematch.protocol.agreement import Agreement
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.canary import CANARY_COUNT, canary_inputs
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.errors import DecodeError, LimitError, StateError, VerificationError
from purposematch.protocol.group import Bytes, Elements, Group
from purposematch.protocol.index import Index
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.match_engine import ENGINES_OF_CHOICE, EngineChoice, MatchEngine
from purposematch.protocol.messages import CommitEntries, EvaluateReply, EvaluateRequest, SessionGrant
from purposematch.protocol.poprf import (
    SessionSeed,
    expand_blinds,
    tweaked_public_key,
    verify_evaluation,
)
from purposematch.protocol.secret import SecretArray
from purposematch.protocol.transcript import commit_macs, split_output, transcript_hash

__all__ = ["CLOCK_SKEW_MICROSECONDS", "AdvertiserSession", "Evaluation", "check_grant"]


MAX_VALIDITY_MICROSECONDS: Final = 24 * 3_600 * 1_000_000
"""How long a generation may be valid: a day."""
CLOCK_SKEW_MICROSECONDS: Final = 10 * 60 * 1_000_000
"""How far the clocks of the two sides may be apart: ten minutes."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one batch came to: the number of its first input, tags (n, 16), and tokens (n, 32)."""

    first: int
    tags: Bytes
    tokens: SecretArray


@dataclass(frozen=True, slots=True)
class _Pending:
    inputs: Bytes
    blinded: Elements


def check_grant(
    grant: SessionGrant,
    manifest: Manifest,
    manifest_digest: bytes,
    agreement: Agreement,
    client_certificate: bytes,
    list_size: int,
    now: int,
    delegation: bytes | None = None,
    audience: AudienceChange = USUAL_CHANGE,
    engines: Collection[MatchEngine] = ENGINES_OF_CHOICE[EngineChoice.OPRF],
) -> None:
    """Checks that a session is what this advertiser agreed to, before anything of its list is sent.

    Args:
        grant: as signed by the platform.
        manifest: as signed by the platform.
        manifest_digest: `Manifest.digest` of the signed bytes.
        agreement: the one this side holds.
        client_certificate: SHA-256 of this side's certificate, 32 bytes.
        list_size: as declared.
        now: microseconds since 1970; the clocks of both sides may differ by `CLOCK_SKEW_MICROSECONDS`.
        delegation: digest of the one under which a partner matches; None for an advertiser.
        audience: what the session was to do to which audience.
        engines: those that were asked for; the agreement must allow the experimental one besides.

    Raises:
        VerificationError: something differs; the text says what. Or the generation is out of date, which
            its own canaries would not show.
    """
    if manifest.valid_until + CLOCK_SKEW_MICROSECONDS <= now:
        raise VerificationError("the platform opened a session on a generation that is out of date")
    if manifest.valid_until - manifest.published_at > MAX_VALIDITY_MICROSECONDS:
        raise VerificationError("the platform opened a session on a generation that is valid for too long")
    checks = {
        "the agreement": grant.agreement == agreement.digest,
        "the manifest": grant.manifest == manifest_digest,
        "the client certificate": grant.client_certificate == client_certificate,
        "the list size": grant.list_size == list_size,
        "the delegation": grant.delegation == delegation,
        "the audience": grant.audience == audience,
        "the platform": manifest.scope.platform_id == agreement.platform_id,
        "the purpose": manifest.scope.purpose == agreement.purpose,
        "the profile": manifest.scope.profile == agreement.profile,
        "the engine": grant.engine in engines
        and (grant.engine is not MatchEngine.VOLE or agreement.allow_experimental),
    }
    for what, holds in checks.items():
        if not holds:
            raise VerificationError(f"the session that the platform opened differs in {what}")


class AdvertiserSession:
    """One session of an advertiser.

    Args:
        group: the back end.
        grant: as checked by `check_grant`.
        manifest: as checked by `check_grant`.
        seed: the session's secret, which the blinds are expanded from.
        list_size: private inputs of the list; the 64 canaries come after them.
    """

    def __init__(
        self, group: Group, grant: SessionGrant, manifest: Manifest, seed: SessionSeed, list_size: int
    ) -> None:
        """Computes the tweaked key that all proofs are checked against."""
        self._group = group
        self._seed = seed
        self._info = manifest.scope.info()
        self._tweaked = tweaked_public_key(group, POPRF, manifest.public_key, self._info)
        self._batch = grant.max_batch_elements
        self._list_size = list_size
        self._pending: dict[int, _Pending] = {}
        self._requested: dict[int, bytes] = {}
        self._answered: set[int] = set()
        self._canaries_found = 0
        self._lock = threading.Lock()
        self.canaries = canary_inputs(manifest.generation)
        self.transcript = transcript_hash(grant)

    @property
    def elements(self) -> int:
        """Elements to evaluate: the list and the canaries."""
        return self._list_size + CANARY_COUNT

    @property
    def batches(self) -> int:
        """Batches to send."""
        return -(-self.elements // self._batch)

    def bounds(self, number: int) -> tuple[int, int]:
        """The inputs of a batch: first, and one past the last; canaries count on after the list."""
        first = number * self._batch
        return first, min(first + self._batch, self.elements)

    def request(self, number: int, inputs: Bytes) -> EvaluateRequest:
        """Blinds a batch.

        Args:
            number: counts from 0.
            inputs: its private inputs, (n, 33), n as `bounds` says.

        Raises:
            StateError: the batch is waiting or answered, or was requested with other inputs: a blind
                must never cover two inputs.
            LimitError: the inputs are not as many as the batch has.
        """
        first, stop = self.bounds(number)
        if len(inputs) != stop - first or number >= self.batches:
            raise LimitError(f"batch {number} has {stop - first} inputs, not {len(inputs)}")
        blinds = expand_blinds(self._group, self._seed, first, len(inputs))
        blinded = additive_blind(self._group, POPRF, inputs, blinds, self._tweaked)
        blinds.wipe()
        request = EvaluateRequest(number, self._group.encode(blinded))
        with self._lock:
            if number in self._pending or number in self._answered:
                raise StateError(f"batch {number} again", "every batch once")
            if self._requested.setdefault(number, request.digest) != request.digest:
                raise StateError(f"other inputs for batch {number}", "the same inputs again")
            self._pending[number] = _Pending(inputs, blinded)
        return request

    def reply(self, reply: EvaluateReply) -> Evaluation:
        """Checks the platform's answer to a batch and unblinds it.

        Raises:
            StateError: no such batch is waiting.
            DecodeError: an element is not valid, or their number is wrong.
            VerificationError: the proof does not hold.
        """
        with self._lock:
            pending = self._pending.pop(reply.number, None)
            if pending is None:
                raise StateError(f"an answer to batch {reply.number}", "an answer to a waiting batch")
        if len(reply.evaluated) != len(pending.inputs):
            raise DecodeError("the platform answered a batch with another number of elements")
        evaluated = self._group.decode(reply.evaluated)
        verify_evaluation(self._group, POPRF, self._tweaked, pending.blinded, evaluated, reply.proof)
        first, _ = self.bounds(reply.number)
        blinds = expand_blinds(self._group, self._seed, first, len(pending.inputs))
        output = additive_finalize(self._group, POPRF, pending.inputs, self._info, evaluated, blinds)
        blinds.wipe()
        tags, tokens = split_output(output)
        # Only now: a batch whose proof did not hold is not answered, and `close_list` must not pass over it.
        with self._lock:
            self._answered.add(reply.number)
        return Evaluation(first, tags, tokens)

    def disconnected(self) -> None:
        """Forgets the batches that wait for an answer, so that they can be requested again, byte for byte."""
        with self._lock:
            self._pending.clear()

    def restore(self, number: int, canaries_found: int) -> None:
        """Takes a batch as answered that another process of this side had evaluated and checked.

        Args:
            number: of the batch.
            canaries_found: how many of its canaries were in the index.

        Raises:
            StateError: the batch is waiting or answered already, or there is no such batch.
        """
        with self._lock:
            if number in self._pending or number in self._answered or not 0 <= number < self.batches:
                raise StateError(f"batch {number} again", "every batch once")
            self._answered.add(number)
            self._canaries_found += canaries_found

    @property
    def unanswered(self) -> list[int]:
        """The batches that are still to be evaluated, ascending."""
        with self._lock:
            return [number for number in range(self.batches) if number not in self._answered]

    @property
    def canaries_found(self) -> int:
        """How many canaries of the answered batches were in the index."""
        with self._lock:
            return self._canaries_found

    def matches(self, evaluation: Evaluation, index: Index) -> NDArray[np.bool_]:
        """Which inputs of the list in a batch are in the index, (n,) bool; canaries are noted and cut off."""
        found = index.contains(evaluation.tags)
        own = max(0, min(len(found), self._list_size - evaluation.first))
        with self._lock:
            self._canaries_found += int(found[own:].sum())
        return found[:own]

    def close_list(self) -> None:
        """Demands that the whole list was answered and that every canary was found.

        Raises:
            StateError: batches are missing.
            VerificationError: a canary is missing, so the index is of another scope, stale or truncated.
        """
        if len(self._answered) != self.batches or self._pending:
            raise StateError(f"{len(self._answered)} answered batches", f"{self.batches} answered batches")
        if self._canaries_found != CANARY_COUNT:
            raise VerificationError(
                f"only {self._canaries_found} of {CANARY_COUNT} canaries are in the index: it is not the "
                "index of this scope, or it is not whole"
            )
        self._seed.wipe()

    def commit(self, tags: Bytes, tokens: SecretArray) -> CommitEntries:
        """The proof of (n, 16) matched tags with their tokens.

        Args:
            tags: ascending (`order_by_tag`), so that the entries do not show the order of the list.
            tokens: of the same rows.
        """
        return CommitEntries(tags, commit_macs(tokens, self.transcript))
