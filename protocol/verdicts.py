"""What the terms of an assertion come to: the rules of the gate that need neither times nor other rows.

Source: docs/gate.md. A platform has tens of distinct `Terms` for millions of assertions, so each is judged
once and the verdict is spread over the rows.

What this does not protect against: see `gate`, which is the only caller.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.assertions import Assertions, Terms
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import (
    FORBIDDEN_ORIGINS,
    REFUSALS,
    Origin,
    Reason,
    Status,
    Taxonomy,
    concerns_security,
    is_under,
)

__all__ = ["NEVER", "PASSES", "Verdicts", "first_failure"]

PASSES: Final = 255
"""Above every reason: the smallest of the reasons that apply to a row is the first rule that it fails."""

NEVER: Final = int(np.iinfo(np.int64).max)
"""A time that does not come."""


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What the terms of each row come to: the rules that need neither times nor other rows.

    Attributes:
        status: (n,) uint8.
        failed: (n,) uint8, the first rule that the terms fail as a grant, `PASSES` if none.
        refuses: (n,) bool, the row is a refusal that concerns the required use.
        taints: (n,) bool, the origin is one that can never grant.
        issued: (n,) bool, the terms name an issuer.
        distrusted_from: (n,) int64, evidence received from then on does not count; `NEVER` if all does.
    """

    status: NDArray[np.uint8]
    failed: NDArray[np.uint8]
    refuses: NDArray[np.bool_]
    taints: NDArray[np.bool_]
    issued: NDArray[np.bool_]
    distrusted_from: NDArray[np.int64]

    @classmethod
    def of(cls, assertions: Assertions, policy: Policy, taxonomy: Taxonomy) -> "Verdicts":
        """Judges each distinct `Terms` once; a position outside the table counts as unreadable."""
        unreadable = Terms((), Origin.UNKNOWN, Status.UNREADABLE, "")
        table = [*assertions.terms_table, unreadable]
        last = len(table) - 1
        terms = np.where((assertions.terms >= 0) & (assertions.terms < last), assertions.terms, last)
        status = np.array([each.status for each in table], np.uint8)
        failed = np.array([first_failure(each, policy, taxonomy) for each in table], np.uint8)
        concerns = np.array([_concerns_required_use(each, policy, taxonomy) for each in table], bool)
        taints = np.array([each.origin in FORBIDDEN_ORIGINS for each in table], bool)
        issued = np.array([each.issuer != "" for each in table], bool)
        distrusted_from = np.array([_distrusted_from(each, policy) for each in table], np.int64)
        refusal = np.isin(status, REFUSALS)
        return cls(
            status=status[terms],
            failed=failed[terms],
            # A refusal with a flaw may have said more than could be read.
            refuses=refusal[terms] & (concerns[terms] | (assertions.flaw != 0)),
            taints=taints[terms],
            issued=issued[terms],
            distrusted_from=distrusted_from[terms],
        )


def first_failure(terms: Terms, policy: Policy, taxonomy: Taxonomy) -> int:
    """The first rule, times and other rows aside, that these terms fail as a grant; `PASSES` if none."""
    if not terms.purposes or any(key not in taxonomy for key in terms.purposes):
        return Reason.UNKNOWN_PURPOSE
    if terms.origin is Origin.UNKNOWN:
        return Reason.UNKNOWN_ORIGIN
    if not any(key in policy.granting_purposes for key in terms.purposes):
        return Reason.PURPOSE_NOT_PERMITTED
    # An ancestor of a security use includes it, so naming the ancestor is the same bundle.
    if any(map(concerns_security, terms.purposes)):
        return Reason.MIXED_PURPOSE
    if terms.origin in FORBIDDEN_ORIGINS or terms.origin not in policy.permitted_origins:
        return Reason.ORIGIN_NOT_PERMITTED
    if terms.origin not in policy.sources.get(terms.source, ()):
        return Reason.SOURCE_NOT_PERMITTED
    if terms.issuer:
        issuer = policy.issuers.get(terms.issuer)
        if issuer is None or not issuer.may_sign(terms.purposes, terms.origin):
            return Reason.ISSUER_NOT_AUTHORIZED
    return PASSES


def _distrusted_from(terms: Terms, policy: Policy) -> int:
    """From when on the evidence of these terms does not count, in microseconds; `NEVER` if it always
    does."""
    issuer = policy.issuers.get(terms.issuer)
    return NEVER if issuer is None or issuer.compromised_since is None else issuer.compromised_since


def _concerns_required_use(terms: Terms, policy: Policy, taxonomy: Taxonomy) -> bool:
    """Whether a refusal with these terms refuses the required use, which it does if it is not clear."""
    if terms.status is Status.UNREADABLE or terms.origin is Origin.UNKNOWN or not terms.purposes:
        return True
    required = policy.required_purpose
    # A refusal of a part of the required use cannot be honoured by anything less than refusing it.
    return any(
        key not in taxonomy or is_under(required, key) or is_under(key, required) for key in terms.purposes
    )
