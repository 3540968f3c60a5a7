"""The versions of the policy: every one that was put into force, and what no later one may change.

A name of an issuer stands for one key, in all versions together: what was signed is stored under the name, so
another key under it would be believed for what the first one signed, and could not be revoked by itself.

Not protected against: whoever can write the registry.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from purposematch.protocol.errors import DecodeError, IntegrityError, PolicyError
from purposematch.protocol.policy import Policy
from purposematch.server.registry.schema import policy as policy_table

__all__ = ["PolicyVersion", "check_issuers_kept", "load_policies", "policy_id"]


@dataclass(frozen=True)
class PolicyVersion:
    """A policy as it was recorded.

    Attributes:
        number: 1 for the first one.
        loaded_at: when it was recorded, microseconds since 1970-01-01 UTC.
        policy: what it says.
    """

    number: int
    loaded_at: int
    policy: Policy


def load_policies(connection: Connection) -> list[PolicyVersion]:
    """Every policy that was ever put into force, the oldest first.

    Raises:
        IntegrityError: one of them is damaged.
    """
    versions = []
    for row in connection.execute(select(policy_table).order_by(policy_table.c.id)):
        try:
            policy = Policy.from_canonical(row.content)
        except (DecodeError, TypeError, AttributeError):
            raise IntegrityError(f"table policy row {row.id} is not a policy") from None
        versions.append(PolicyVersion(row.id, row.loaded_at, policy))
    return versions


def check_issuers_kept(earlier: Iterable[Policy], wanted: Policy) -> None:
    """Checks that every issuer has the key that it always had, and that nobody else had it.

    Raises:
        PolicyError: a name has another key than before, or a key another name.
    """
    for policy in earlier:
        names = {issuer.key: name for name, issuer in policy.issuers.items()}
        for name, issuer in wanted.issuers.items():
            if name in policy.issuers and policy.issuers[name].key != issuer.key:
                raise PolicyError(
                    f"issuers.{name} had another key in an earlier policy, and what that one signed is "
                    "stored under this name; give the new key a new name"
                )
            if names.get(issuer.key, name) != name:
                raise PolicyError(
                    f"the key of issuers.{name} was that of {names[issuer.key]} in an earlier policy; make "
                    "a new key, or give it back its name"
                )


def policy_id(connection: Connection, policy: Policy, now: int) -> int:
    """The id of `policy`, which is stored if it was never in force before.

    Args:
        connection: a transaction that writes.
        policy: the policy.
        now: microseconds since 1970-01-01 UTC.

    Raises:
        PolicyError: it changes what no later policy may change.
    """
    known = connection.scalar(select(policy_table.c.id).where(policy_table.c.digest == policy.digest))
    if known is not None:
        return int(known)
    check_issuers_kept([version.policy for version in load_policies(connection)], policy)
    highest = connection.scalar(select(func.max(policy_table.c.id)))
    row = {
        "id": (highest or 0) + 1,
        "digest": policy.digest,
        "taxonomy": policy.taxonomy_digest,
        "content": policy.canonical_bytes(),
        "loaded_at": now,
    }
    connection.execute(policy_table.insert(), row)
    return int(row["id"])
