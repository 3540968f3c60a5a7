"""What another policy would change, which enrolled pairs it would drop or admit; and putting it into force.

Source: docs/gate.md, *How to change the policy*. Both policies are asked about the same assertions at
one time, so that what differs is the policy alone and never an expiry between two runs of the gate.

Not protected against: a change that is right by every rule and still not what people were promised.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from purposematch.protocol.gate import Decisions, decide
from purposematch.protocol.policy import DEFAULT_SOURCE, Policy
from purposematch.protocol.purpose import Origin, Reason, Taxonomy
from purposematch.server.platform import Platform
from purposematch.server.private_files import replace_file
from purposematch.server.registry import GateInput, Registry, assertions_for_gate
from purposematch.server.registry.ledger import record_policy
from purposematch.server.times import iso

__all__ = ["PolicyChange", "compare_policies", "lint_change", "lint_policy", "put_in_force"]

_DOUBTFUL_ORIGINS = (Origin.MESSENGER, Origin.DATA_BROKER, Origin.PARTNER)
"""Origins that a policy may permit, though nobody handed an identifier to the platform through them."""


@dataclass(frozen=True, eq=False)
class PolicyChange:
    """The pairs that two policies judge differently.

    Attributes:
        kept: pairs that both permit.
        dropped: pairs that only the old one permits, by the new one's reason, in the order of the rules.
        admitted: pairs that only the new one permits, by the old one's reason.
        pairs: the columns `subject_id`, `identifier` (the keyed digest in hexadecimal), `before` and `after`
            (names of reasons) of every pair that is dropped or admitted.
    """

    kept: int
    dropped: dict[Reason, int]
    admitted: dict[Reason, int]
    pairs: pa.Table = field(repr=False)

    def to_mapping(self) -> dict[str, object]:
        """The counts, for a report or a JSON document."""
        return {
            "kept": self.kept,
            "dropped": {reason.name: count for reason, count in self.dropped.items()},
            "admitted": {reason.name: count for reason, count in self.admitted.items()},
        }


def compare_policies(
    registry: Registry, before: Policy, after: Policy, taxonomy: Taxonomy, now: int
) -> PolicyChange:
    """Runs the gate over the whole registry under both policies; nothing is stored.

    Args:
        registry: whose assertions are judged.
        before: the policy in force.
        after: the policy that may come into force.
        taxonomy: what both were loaded with.
        now: microseconds since 1970-01-01 UTC.

    Raises:
        UnavailableError: the registry cannot be read now.
    """
    with registry.reading() as connection:
        given = assertions_for_gate(connection)
    # The pairs of two runs over the same table are the same, in the same order.
    old, new = (decide(given.assertions, policy, taxonomy, now) for policy in (before, after))
    permitted = old.reasons == Reason.PERMITTED, new.reasons == Reason.PERMITTED
    dropped = np.flatnonzero(permitted[0] & ~permitted[1])
    admitted = np.flatnonzero(~permitted[0] & permitted[1])
    return PolicyChange(
        kept=int(np.count_nonzero(permitted[0] & permitted[1])),
        dropped=_by_reason(new.reasons[dropped]),
        admitted=_by_reason(old.reasons[admitted]),
        pairs=_pairs(given, old, new, np.concatenate([dropped, admitted])),
    )


def lint_policy(policy: Policy) -> list[str]:
    """What to ask about an accepted policy, one sentence each."""
    return list(_warnings(policy))


def lint_change(earlier: Iterable[Policy], policy: Policy) -> list[str]:
    """What to ask about an accepted policy that comes after others, one sentence each.

    Args:
        earlier: the policies that were in force before.
        policy: the one that may come into force.
    """
    since: dict[str, int] = {}
    for each in earlier:
        for name, issuer in each.issuers.items():
            if issuer.compromised_since is not None:
                since[name] = min(issuer.compromised_since, since.get(name, issuer.compromised_since))
    questions = []
    for name in sorted(since.keys() & policy.issuers.keys()):
        now = policy.issuers[name].compromised_since
        if now is None or now > since[name]:
            questions.append(
                f"issuer {name} was revoked from {iso(since[name])} on: is what its key signed since then to "
                "grant again?"
            )
    return questions


def put_in_force(platform: Platform, policy: Policy, text: str) -> None:
    """Logs a policy, and makes it the one that is asked from now on.

    In this order: a policy that was ever in the file is in the log, whatever becomes of it.

    Args:
        platform: the open platform; whoever calls holds `policy.lock`.
        policy: what `text` says.
        text: the whole policy file.

    Raises:
        PolicyError: an issuer has another key than in an earlier policy.
        UnavailableError: the registry cannot be written now.
    """
    with platform.registry.writing() as connection:
        record_policy(connection, policy, platform.clock(), platform.random_bytes)
    replace_file(platform.data_dir.policy, text.encode("utf-8"))


def _warnings(policy: Policy) -> Iterator[str]:
    for origin in _DOUBTFUL_ORIGINS:
        if origin in policy.permitted_origins:
            yield f"permitted_origins has {origin.label}: did its people give an identifier for advertising?"
    if policy.max_consent_age_days is None:
        yield "max_consent_age_days is missing: a consent counts for ever, unless its own expiry ends it"
    if not policy.strict_origins:
        yield "strict_origins is false: a number also given for two-factor may match through a consent"
    claimable: set[Origin] = set().union(*policy.sources.values())
    for origin in sorted(policy.permitted_origins - claimable):
        yield f"permitted_origins has {origin.label}, which no source may claim"
    if len(policy.sources.get(DEFAULT_SOURCE, ())) > len(policy.permitted_origins):
        yield "sources.default may claim every origin: name each system, so that one cannot speak for another"


def _by_reason(reasons: NDArray[np.uint8]) -> dict[Reason, int]:
    counts = np.bincount(reasons, minlength=len(Reason))
    return {reason: int(counts[reason]) for reason in Reason if counts[reason]}


def _pairs(given: GateInput, old: Decisions, new: Decisions, chosen: NDArray[np.int64]) -> pa.Table:
    identifiers = given.identifiers.take(pa.array(old.identifiers[chosen])).to_pylist()
    return pa.table(
        {
            "subject_id": given.subjects.take(pa.array(old.subjects[chosen])),
            "identifier": pa.array([keyed.hex() for keyed in identifiers], pa.string()),
            "before": _names(old.reasons[chosen]),
            "after": _names(new.reasons[chosen]),
        }
    )


def _names(reasons: NDArray[np.uint8]) -> pa.StringArray:
    return pa.array([Reason(value).name for value in reasons.tolist()], pa.string())
