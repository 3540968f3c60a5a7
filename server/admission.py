"""Admits an advertiser: its agreement, its credentials folder, and its row in the registry, or none of them.

Not protected against: whoever gets the folder is the advertiser; how it gets there is the operator's part.
"""

from pathlib import Path

from purposematch.protocol.agreement import RUNNABLE_DISCLOSURES, Agreement, Disclosure
from purposematch.protocol.errors import ConfigurationError, DecodeError, InputError, RefusedError
from purposematch.server.credentials import issue_credentials
from purposematch.server.platform import Platform
from purposematch.server.registry import ledger, sessions
from purposematch.server.times import moment

__all__ = ["admit_advertiser"]


def admit_advertiser(
    platform: Platform, name: str, *, disclosure: Disclosure, min_list_elements: int, out: Path
) -> sessions.Advertiser:
    """Admits an advertiser under an agreement on the policy's required use, and writes its credentials.

    Args:
        platform: the open platform.
        name: what the advertiser is called from now on.
        disclosure: who learns what.
        min_list_elements: distinct identifiers that its lists must have at least.
        out: the credentials folder to write; it must not exist yet, or be empty.

    Raises:
        RefusedError: the disclosure cannot be run.
        InputError: the name or the number is not of its form.
        ConfigurationError: the name is taken, the number is below the platform's, or the folder cannot be
            written.
        PolicyError: the policy file is refused. After any error there is neither folder nor advertiser.
    """
    if disclosure not in RUNNABLE_DISCLOSURES:
        choices = ", ".join(RUNNABLE_DISCLOSURES)
        raise RefusedError(f"disclosure {disclosure} cannot be run yet; choose one of {choices}")
    limits = platform.config.limits
    if min_list_elements < limits.min_list_elements:
        raise ConfigurationError(
            f"a least list of {min_list_elements} identifiers is below limits.min_list_elements = "
            f"{limits.min_list_elements} in {platform.data_dir.config}, which every session must meet; lower "
            "that first"
        )
    try:
        agreement = Agreement(
            platform_id=platform.config.platform_id,
            advertiser=name,
            purpose=platform.policy().required_purpose,
            profile=platform.config.profile,
            disclosure=disclosure,
            min_list_elements=min_list_elements,
            max_list_elements=limits.max_list_elements,
        )
    except DecodeError as error:
        raise InputError(str(error)) from None
    now = platform.clock()
    # The folder comes within the transaction, so that a name that was taken meanwhile gets none.
    with platform.registry.writing() as connection:
        if sessions.find_advertiser(connection, name) is not None:
            raise ConfigurationError(f"there is an advertiser {name} already; choose another name")
        fingerprint = issue_credentials(
            platform.data_dir,
            platform.config,
            identity_key=platform.identity_key,
            agreement=agreement,
            out=out,
            now=moment(now),
        )
        added = sessions.Advertiser(name, fingerprint, agreement.canonical_bytes())
        sessions.add_advertiser(connection, added, now)
        ledger.record_agreement(connection, name, platform.random_bytes)
    return added
