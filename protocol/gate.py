"""The gate: the one function that turns assertions into permitted identifiers.

Source: docs/gate.md. Rules are judged once for each distinct `Terms` and then spread over the columns.
Refusals never fail open: whatever can not be read about one makes it reach further, not less far.

What this does not protect against: a purpose, origin or source that is a lie which the policy allows.
Python can not stop code in the same process from forging a `Permitted`; the type guards against accidents.
"""

from datetime import timedelta
from typing import Never, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.assertions import NO_TIME, Assertions
from purposematch.protocol.errors import PolicyError
from purposematch.protocol.pairs import ALWAYS, Pairs
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import Evidence, Reason, Status, Taxonomy
from purposematch.protocol.verdicts import NEVER, PASSES, Verdicts

__all__ = ["Decisions", "Permitted", "decide"]

_Scalar = TypeVar("_Scalar", bound=np.generic)

_GATE = object()
"""Only this module holds it, so only `decide` makes decisions and only decisions make a `Permitted`."""

_REFUSALS = {
    Status.OBJECTED: Reason.OBJECTED,
    Status.WITHDRAWN: Reason.WITHDRAWN,
    Status.REFUSED: Reason.REFUSED,
    # What can not be read may have been a refusal.
    Status.UNREADABLE: Reason.REFUSED,
}
_FLAWS = (Reason.MALFORMED_ROW, Reason.INVALID_IDENTIFIER, Reason.PROFILE_MISMATCH)
_UNDERSTOOD = (Evidence.NONE, Evidence.VALID, Evidence.UNAUTHORIZED)
_MICROSECONDS_A_DAY = timedelta(days=1) // timedelta(microseconds=1)


@final
class Permitted:
    """The permitted pairs of one run of the gate: the only thing that can be published.

    Attributes:
        subject: (p,) int64 codes.
        identifier: (p,) int64 codes.
        granting_row: (p,) int64, the latest row that permits each pair.
        policy_digest: the policy that was applied, 32 bytes.
    """

    __slots__ = ("granting_row", "identifier", "policy_digest", "subject")

    def __init__(self, decisions: "Decisions", gate: object) -> None:
        """Made by `Decisions.permitted` only.

        Raises:
            TypeError: `gate` is not the gate's own token.
        """
        if gate is not _GATE:
            raise TypeError("Permitted is made by the gate only: call decide(...).permitted()")
        chosen = decisions.reasons == Reason.PERMITTED
        self.subject = _sealed(decisions.subjects[chosen])
        self.identifier = _sealed(decisions.identifiers[chosen])
        self.granting_row = _sealed(decisions.granting_row[chosen])
        self.policy_digest = decisions.policy_digest

    def __len__(self) -> int:
        """The number of permitted pairs, p."""
        return len(self.subject)

    def __reduce_ex__(self, protocol: object) -> Never:
        """Refuses pickling and copying."""
        raise TypeError("Permitted cannot be pickled or copied")


@final
class Decisions:
    """What the gate decided for every row and for every distinct (subject, identifier). Arrays are read-only.

    Attributes:
        rows: (n,) uint8, the `Reason` of each row.
        subjects: (m,) int64 codes of each pair, sorted.
        identifiers: (m,) int64 codes of each pair, sorted within a subject.
        reasons: (m,) uint8, the `Reason` of each pair.
        granting_row: (m,) int64, the latest row that permits the pair, -1 if it is refused.
        policy_digest: the policy that was applied, 32 bytes.
    """

    __slots__ = ("granting_row", "identifiers", "policy_digest", "reasons", "rows", "subjects")

    def __init__(
        self,
        rows: NDArray[np.uint8],
        pairs: Pairs,
        reasons: NDArray[np.uint8],
        granting_row: NDArray[np.int64],
        policy_digest: bytes,
        gate: object,
    ) -> None:
        """Made by `decide` only.

        Raises:
            TypeError: `gate` is not the gate's own token.
        """
        if gate is not _GATE:
            raise TypeError("Decisions are made by the gate only: call decide(...)")
        self.rows = _sealed(rows)
        self.subjects = _sealed(pairs.subjects)
        self.identifiers = _sealed(pairs.identifiers)
        self.reasons = _sealed(reasons)
        self.granting_row = _sealed(granting_row)
        self.policy_digest = policy_digest

    def permitted(self) -> Permitted:
        """The pairs that may be published."""
        return Permitted(self, _GATE)


def decide(assertions: Assertions, policy: Policy, taxonomy: Taxonomy, now: int) -> Decisions:
    """Decides every row and every distinct (subject, identifier) of a table. Pure and total.

    A row's reason is the first rule that it fails. A pair is PERMITTED if one of its rows is; else it has the
    code of an objection, withdrawal or refusal in force, in this order; else that of its latest row.

    Args:
        assertions: every assertion about these subjects and identifiers, refusals included.
        policy: what opens the gate.
        taxonomy: the taxonomy that `policy` was loaded with.
        now: microseconds since 1970-01-01 UTC.

    Raises:
        PolicyError: `policy` was loaded with another taxonomy.
    """
    if taxonomy.digest != policy.taxonomy_digest:
        raise PolicyError("the policy was loaded with another taxonomy; load it again with the current one")
    verdicts = Verdicts.of(assertions, policy, taxonomy)
    pairs = Pairs(assertions)

    # First what each row says by itself, then what others say about its pair.
    failed = np.minimum(verdicts.failed, _row_failures(assertions, policy, now))
    np.minimum(failed, _evidence_failures(assertions, verdicts, policy), out=failed)
    paired = pairs.order
    pair_of_paired = pairs.of_row[paired]
    if policy.strict_origins:
        tainted = np.zeros(len(assertions), bool)
        tainted[paired] = pairs.sharing_identifier(np.flatnonzero(verdicts.taints))[pair_of_paired]
        _lower(failed, tainted, Reason.TAINTED)
    in_force = _refusals_in_force(assertions, pairs, verdicts, failed)
    failed[paired] = np.minimum(failed[paired], in_force[pair_of_paired])

    rows = np.where(failed == PASSES, np.uint8(Reason.PERMITTED), failed)
    for status, reason in _REFUSALS.items():
        own = Reason.MALFORMED_ROW if status is Status.UNREADABLE else reason
        rows[verdicts.status == status] = own

    reasons, granting_row = _decide_pairs(pairs, rows, in_force)
    return Decisions(rows, pairs, reasons, granting_row, policy.digest, _GATE)


def _row_failures(assertions: Assertions, policy: Policy, now: int) -> NDArray[np.uint8]:
    """The first rule about codes, flaws and times that each row fails as a grant: (n,) uint8."""
    failed = np.full(len(assertions), PASSES, np.uint8)
    if policy.max_consent_age_days is not None:
        oldest = max(now - policy.max_consent_age_days * _MICROSECONDS_A_DAY, NO_TIME + 1)
        _lower(failed, _begins(assertions) < oldest, Reason.TOO_OLD)
    expires = assertions.expires_at
    _lower(failed, (expires <= now) & (expires != NO_TIME), Reason.EXPIRED)
    _lower(failed, assertions.not_before > now, Reason.NOT_YET_VALID)
    # An unknown flaw is a flaw of the row.
    flaw = assertions.flaw
    np.minimum(failed, np.where(np.isin(flaw, _FLAWS), flaw, PASSES), out=failed)
    _lower(failed, (flaw != 0) & ~np.isin(flaw, _FLAWS), Reason.MALFORMED_ROW)
    _lower(failed, assertions.identifier < 0, Reason.INVALID_IDENTIFIER)
    # Nobody gives an identifier without being somebody.
    _lower(failed, assertions.subject < 0, Reason.MALFORMED_ROW)
    return failed


def _evidence_failures(assertions: Assertions, verdicts: Verdicts, policy: Policy) -> NDArray[np.uint8]:
    """The first rule about evidence that each row fails as a grant: (n,) uint8.

    Evidence that does not hold refuses where none is asked for, too: somebody altered the row, or signed it
    with a key that is not the issuer's.
    """
    failed = np.full(len(assertions), PASSES, np.uint8)
    evidence, received_at = assertions.evidence, assertions.received_at
    revoked = (received_at >= verdicts.distrusted_from) | (received_at == NO_TIME)
    revoked &= verdicts.distrusted_from != NEVER
    _lower(failed, (evidence == Evidence.UNAUTHORIZED) | revoked, Reason.ISSUER_NOT_AUTHORIZED)
    # A code that is none, or evidence of nobody, is no evidence.
    _lower(failed, ~np.isin(evidence, _UNDERSTOOD), Reason.EVIDENCE_INVALID)
    _lower(failed, (evidence == Evidence.VALID) & ~verdicts.issued, Reason.EVIDENCE_INVALID)
    _lower(
        failed,
        (evidence == Evidence.NONE) & (verdicts.issued | policy.require_evidence),
        Reason.EVIDENCE_MISSING,
    )
    return failed


def _refusals_in_force(
    assertions: Assertions, pairs: Pairs, verdicts: Verdicts, failed: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The strongest refusal of each pair that nothing lifts, `PASSES` if there is none: (m,) uint8.

    A renewal lifts only what it could itself replace: it must pass every other rule (`failed`), else a
    renewal for security, or one that expired, would reopen an advertising consent that was withdrawn.
    """
    lifted_before = np.full(len(pairs), NO_TIME + 1, np.int64)
    renewed = np.flatnonzero(
        (verdicts.status == Status.RENEWED)
        & (failed == PASSES)
        & (assertions.not_before <= assertions.received_at)
    )
    np.maximum.at(lifted_before, pairs.of_row[renewed], assertions.not_before[renewed])

    begins = _begins(assertions)
    in_force = np.full(len(pairs), PASSES, np.uint8)
    for status, reason in _REFUSALS.items():
        rows = np.flatnonzero(verdicts.refuses & (verdicts.status == status))
        if len(rows) == 0:
            continue
        times = begins[rows]
        if status in (Status.OBJECTED, Status.UNREADABLE):
            times[:] = ALWAYS
        # Without any time nothing can be shown to be later.
        times[times == NO_TIME] = ALWAYS
        _lower(in_force, pairs.latest(rows, times) >= lifted_before, reason)
    return in_force


def _decide_pairs(
    pairs: Pairs, rows: NDArray[np.uint8], in_force: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The reason and the latest permitting row of each pair: (m,) uint8 and (m,) int64."""
    if len(pairs) == 0:
        return np.zeros(0, np.uint8), np.zeros(0, np.int64)
    ends = np.append(pairs.starts[1:], len(pairs.order)) - 1
    latest = rows[pairs.order[ends]]
    place = np.where(rows[pairs.order] == Reason.PERMITTED, np.arange(len(pairs.order)), -1)
    granting = np.maximum.reduceat(place, pairs.starts)
    permitted = granting >= 0
    reasons = np.where(permitted, np.uint8(Reason.PERMITTED), np.where(in_force == PASSES, latest, in_force))
    return reasons, np.where(permitted, pairs.order[granting], -1)


def _begins(assertions: Assertions) -> NDArray[np.int64]:
    """When each statement begins: `not_before`, else the time of receipt."""
    return np.where(assertions.not_before == NO_TIME, assertions.received_at, assertions.not_before)


def _lower(reasons: NDArray[np.uint8], where: NDArray[np.bool_], reason: Reason) -> None:
    """Reports `reason` at `where` unless an earlier rule failed there."""
    np.minimum(reasons, np.uint8(reason), out=reasons, where=where)


def _sealed(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    array.flags.writeable = False
    return array
