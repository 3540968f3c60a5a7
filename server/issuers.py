"""Edits the issuers of `policy.toml` in place: comments and everything else in the file stay as they are.

The changed text is checked as a whole policy and logged before it replaces the file, in one step; a change
that is refused leaves the file untouched. Two editors wait for each other.

Not protected against: somebody who edits the file by hand in the same moment.
"""

from collections.abc import Callable
from datetime import datetime

import tomlkit
from tomlkit.exceptions import TOMLKitError

from purposematch.protocol.errors import InputError, PolicyError
from purposematch.protocol.issuers import Issuer
from purposematch.protocol.policy import Policy
from purposematch.protocol.policy_values import labels
from purposematch.server.platform import Platform
from purposematch.server.policy_change import put_in_force
from purposematch.server.policy_file import parse_policy, read_policy_text
from purposematch.server.private_files import locked_file
from purposematch.server.registry.policies import load_policies
from purposematch.server.times import microseconds, moment

__all__ = ["add_issuer", "describe_issuer", "revoke_issuer"]


def add_issuer(
    platform: Platform,
    name: str,
    *,
    key: str,
    purposes: list[str],
    origins: list[str],
    expires_at: datetime | None = None,
) -> Policy:
    """Adds an issuer and returns the policy that is in force from now on.

    Args:
        platform: whose policy it is.
        name: of the issuer; one that was revoked keeps its name, so a new key needs a new one.
        key: its Ed25519 public key, hexadecimal or base64.
        purposes: that it may sign.
        origins: that it may sign.
        expires_at: when its evidence stops being accepted, with offset.

    Raises:
        InputError: there is an issuer of that name, or there was one and its key was revoked: it would admit
            again what was taken back.
        PolicyError: the policy with this issuer would be refused; the text says why.
        UnavailableError: the registry cannot be written now.
    """

    with platform.registry.reading() as connection:
        earlier = [version.policy.issuers.get(name) for version in load_policies(connection)]
    revoked = any(each is not None and each.revoked_at is not None for each in earlier)

    def change(issuers: tomlkit.items.AbstractTable) -> None:
        if name in issuers:
            raise InputError(f"there is an issuer {name} already; a new key needs a new name")
        if revoked:
            raise InputError(f"the key of issuer {name} was revoked; a new key needs a new name")
        table = tomlkit.table()
        table["key"] = key
        table["permitted_purposes"] = purposes
        table["permitted_origins"] = origins
        if expires_at is not None:
            table["expires_at"] = expires_at
        issuers[name] = table

    return _edited(platform, change)


def revoke_issuer(platform: Platform, name: str, *, compromised_since: datetime, now: datetime) -> Policy:
    """Revokes an issuer's key and returns the policy that is in force from now on.

    Args:
        platform: whose policy it is.
        name: of the issuer.
        compromised_since: evidence received from then on stops granting, with offset.
        now: the time, with offset.

    Raises:
        InputError: there is no such issuer, or it was revoked from an earlier time on: a later one would
            admit again what was taken back.
        PolicyError: the policy would be refused, as with a time in the future.
        UnavailableError: the registry cannot be written now.
    """

    def change(issuers: tomlkit.items.AbstractTable) -> None:
        if name not in issuers:
            raise InputError(f"there is no issuer {name}; `issuer list` shows them")
        table = issuers[name]
        earlier = table.get("compromised_since")
        if earlier is not None and earlier <= compromised_since:
            raise InputError(f"issuer {name} is revoked from {earlier.isoformat()} on already")
        table.setdefault("revoked_at", now)
        table["compromised_since"] = compromised_since

    return _edited(platform, change)


def describe_issuer(name: str, issuer: Issuer, now: datetime) -> dict[str, object]:
    """The stable document of one issuer in `issuer list --json`; times are ISO 8601 in UTC."""
    times = {
        "expires_at": issuer.expires_at,
        "revoked_at": issuer.revoked_at,
        "compromised_since": issuer.compromised_since,
    }
    expired = issuer.expires_at is not None and issuer.expires_at <= microseconds(now)
    return {
        "issuer": name,
        "state": "revoked" if issuer.revoked_at is not None else "expired" if expired else "active",
        "key": issuer.key.hex(),
        "permitted_purposes": list(issuer.permitted_purposes),
        "permitted_origins": labels(issuer.permitted_origins),
        **{key: None if time is None else moment(time).isoformat() for key, time in times.items()},
    }


def _edited(platform: Platform, change: Callable[[tomlkit.items.AbstractTable], None]) -> Policy:
    path, taxonomy = platform.data_dir.policy, platform.taxonomy
    with locked_file(platform.data_dir.policy_lock):
        text = read_policy_text(path)
        # What is refused now would be reported as the fault of the change.
        parse_policy(text, path, taxonomy)
        try:
            document = tomlkit.parse(text)
            if "issuers" not in document:
                document.append("issuers", tomlkit.table(is_super_table=True))
            issuers = document["issuers"]
            if not isinstance(issuers, tomlkit.items.AbstractTable):
                raise PolicyError(f"{path}: issuers must hold one table [issuers.NAME] for each issuer")
            change(issuers)
            changed = tomlkit.dumps(document)
        except TOMLKitError as error:
            raise PolicyError(f"the policy {path} cannot be edited: {error}") from None
        policy = parse_policy(changed, path, taxonomy)
        put_in_force(platform, policy, changed)
        return policy
