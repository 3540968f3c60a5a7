"""Agreements as the platform makes them: offered, recorded once the advertiser has accepted, ended.

An offer is signed and handed out and nothing else: until it comes back accepted it changes nothing. What is
recorded replaces what was in force, and ends the sessions that were open under it.

Not protected against: an operator who accepts in an advertiser's place. `advertiser add` with a disclosure
does that on purpose; what the advertiser's signature is worth depends on who holds its key.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from purposematch.protocol.agreement import (
    DEFAULT_CONCURRENT_SESSIONS,
    DEFAULT_DAILY_ELEMENTS,
    DEFAULT_DAILY_SESSIONS,
    DEFAULT_IDENTIFIERS_PER_SUBJECT,
    DEFAULT_MIN_LIST_ELEMENTS,
    Agreement,
    Disclosure,
)
from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.epsilon import epsilon_text
from purposematch.protocol.errors import (
    ConfigurationError,
    DecodeError,
    InputError,
    VerificationError,
)
from purposematch.server.platform import Platform
from purposematch.server.registry import agreements, entities, ledger, sessions
from purposematch.server.registry.quota import DAY_MICROSECONDS

__all__ = ["Terms", "draft", "end_agreement", "offer_agreement", "record_agreement", "store_accepted"]

DEFAULT_DAYS: Final = 365
"""How long an agreement lasts unless something else is said, in days: as long as a certificate."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an operator says of an agreement; the rest is the platform's.

    Attributes:
        disclosure: who learns what.
        purpose: the required use; None for that of the policy, the only one that is published for.
        expires_at: when it ends, in microseconds since 1970; None for a year from now.
        min_list_elements: see `Agreement`.
        max_list_elements: see `Agreement`; None for the platform's limit or a day's quota, if that is less.
        daily_elements, daily_sessions, concurrent_sessions: see `Agreement`.
        legal_entity: who pays for noisy counts; None for the advertiser itself.
        release_epsilon: see `Agreement`; None for the platform's limit, or where nothing is noisy.
        identifiers_per_subject: see `Agreement`; None for the default, or but for `count`.
        allow_experimental: see `Agreement`.
    """

    disclosure: Disclosure
    purpose: str | None = None
    expires_at: int | None = None
    min_list_elements: int = DEFAULT_MIN_LIST_ELEMENTS
    max_list_elements: int | None = None
    daily_elements: int = DEFAULT_DAILY_ELEMENTS
    daily_sessions: int = DEFAULT_DAILY_SESSIONS
    concurrent_sessions: int = DEFAULT_CONCURRENT_SESSIONS
    legal_entity: str | None = None
    release_epsilon: int | None = None
    identifiers_per_subject: int | None = None
    allow_experimental: bool = False


def draft(platform: Platform, name: str, number: int, terms: Terms) -> Agreement:
    """The agreement that `terms` come to.

    Args:
        platform: the open platform.
        name: the advertiser's.
        number: which agreement with it this is.
        terms: what was said.

    Raises:
        InputError: something is not of its form or not of this disclosure, or the agreement would have ended
            already.
        ConfigurationError: the platform does not publish for the purpose, or its limits are stricter.
        PolicyError: the policy file is refused.
    """
    limits, settings = platform.config.limits, platform.data_dir.config
    if terms.min_list_elements < limits.min_list_elements:
        raise ConfigurationError(
            f"a least list of {terms.min_list_elements} identifiers is below limits.min_list_elements = "
            f"{limits.min_list_elements} in {settings}, which every session must meet; lower that first"
        )
    if terms.max_list_elements is not None and terms.max_list_elements > limits.max_list_elements:
        raise ConfigurationError(
            f"a largest list of {terms.max_list_elements} identifiers is above limits.max_list_elements = "
            f"{limits.max_list_elements} in {settings}, which every session must meet; raise that first"
        )
    required = platform.policy().required_purpose
    if terms.purpose not in (None, required):
        raise ConfigurationError(
            f"the policy's required use is {required}, and nothing else is published: an agreement on "
            "another purpose could not be run"
        )
    now = platform.clock()
    expires_at = now + DEFAULT_DAYS * DAY_MICROSECONDS if terms.expires_at is None else terms.expires_at
    most = min(limits.max_list_elements, terms.daily_elements)
    epsilon, identifiers = terms.release_epsilon, terms.identifiers_per_subject
    most_epsilon = platform.config.budget.release
    if epsilon is None and terms.disclosure.noisy:
        epsilon = int(most_epsilon)
    if epsilon is not None and epsilon > most_epsilon:
        raise ConfigurationError(
            f"epsilon {epsilon_text(epsilon)} for a count is above budget.release = {most_epsilon} in "
            f"{settings}, which every count must meet; raise that first"
        )
    if identifiers is None and terms.disclosure is Disclosure.COUNT:
        identifiers = DEFAULT_IDENTIFIERS_PER_SUBJECT
    try:
        agreement = Agreement(
            platform_id=platform.config.platform_id,
            advertiser=name,
            legal_entity=name if terms.legal_entity is None else terms.legal_entity,
            number=number,
            purpose=required,
            profile=platform.config.profile,
            disclosure=terms.disclosure,
            expires_at=expires_at,
            min_list_elements=terms.min_list_elements,
            max_list_elements=most if terms.max_list_elements is None else terms.max_list_elements,
            daily_elements=terms.daily_elements,
            daily_sessions=terms.daily_sessions,
            concurrent_sessions=terms.concurrent_sessions,
            release_epsilon=epsilon,
            identifiers_per_subject=identifiers,
            allow_experimental=terms.allow_experimental,
        )
    except DecodeError as error:
        raise InputError(str(error)) from None
    if agreement.expires_at <= now:
        raise InputError("the agreement would have ended already: choose a later end")
    return agreement


def offer_agreement(platform: Platform, name: str, terms: Terms) -> AgreementDocument:
    """A signed offer to an advertiser, numbered after what is recorded. Nothing is stored.

    Raises:
        ConfigurationError: there is no such advertiser; or see `draft`.
        RefusedError: see `entities.check_entity`.
        InputError, PolicyError: see `draft`.
    """
    with platform.registry.reading() as connection:
        _demand_advertiser(connection, name)
        agreement = draft(platform, name, _next_number(connection, name), terms)
        entities.check_entity(connection, agreement, platform.clock())
    return AgreementDocument.offer(agreement, platform.identity)


def record_agreement(platform: Platform, document: AgreementDocument, key: bytes | None) -> int:
    """Puts an accepted agreement into force.

    Args:
        platform: the open platform.
        document: as it came back from the advertiser.
        key: the advertiser's public signing key, 32 bytes, as it was compared with the advertiser over
            another channel; None where it is the one that accepted before.

    Returns:
        How many open sessions of the advertiser were ended, because they ran under another agreement.

    Raises:
        InputError: a signature does not hold, or it is not accepted, not with this platform, out of turn,
            over already, or accepted with a key that is not known.
        RefusedError: see `entities.check_entity`.
        ConfigurationError: there is no such advertiser.
    """
    agreement = document.agreement
    try:
        acceptance = document.check_both(platform.identity_key)
    except (VerificationError, DecodeError) as error:
        raise InputError(f"{error}; nothing was recorded") from None
    if agreement.platform_id != platform.config.platform_id:
        raise InputError(f"the agreement is with platform {agreement.platform_id}; nothing was recorded")
    with platform.registry.writing() as connection:
        _demand_advertiser(connection, agreement.advertiser)
        before = agreements.latest_agreement(connection, agreement.advertiser)
        expected = key or (before and before.acceptance.key)
        if acceptance.key != expected:
            known = "was never seen before" if expected is None else "is not the one that is expected"
            raise InputError(
                f"the key that accepted, {acceptance.key.hex()}, {known}: compare it with "
                f"{agreement.advertiser} over another channel, then give it with --key"
            )
        return store_accepted(platform, connection, document)


def store_accepted(platform: Platform, connection: Connection, document: AgreementDocument) -> int:
    """Stores and logs an accepted agreement in a transaction; how many open sessions that ended.

    Raises:
        InputError: its number is not the next one, or it is over already.
        RefusedError: see `entities.check_entity`.
        VerificationError: a signature does not hold.
    """
    agreement, now = document.agreement, platform.clock()
    number = _next_number(connection, agreement.advertiser)
    if agreement.number != number:
        raise InputError(
            f"agreement {agreement.number} with {agreement.advertiser} is out of turn, the next one is "
            f"{number}: make a new offer"
        )
    if agreement.expires_at <= now:
        raise InputError("the agreement has expired: make a new offer")
    entities.check_entity(connection, agreement, now)
    agreements.add_agreement(connection, document, document.check_both(platform.identity_key), now)
    ledger.record_agreement(connection, agreement.advertiser, number, platform.random_bytes)
    return _end_sessions(platform, connection, agreement.advertiser, now)


def end_agreement(platform: Platform, name: str) -> tuple[Agreement, int]:
    """Ends the agreement in force with an advertiser, at once; and how many open sessions that ended.

    Raises:
        ConfigurationError: there is no such advertiser.
        RefusedError: none is in force.
    """
    now = platform.clock()
    with platform.registry.writing() as connection:
        _demand_advertiser(connection, name)
        agreement = agreements.agreement_in_force(connection, name, now)
        agreements.end_agreement(connection, name, agreement.number, now)
        ledger.record_agreement_end(connection, name, agreement.number, platform.random_bytes)
        return agreement, _end_sessions(platform, connection, name, now)


def _end_sessions(platform: Platform, connection: Connection, name: str, now: int) -> int:
    ended = sessions.end_sessions_of(connection, name, now)
    ledger.record_session_ends(connection, ended, platform.random_bytes)
    return len(ended)


def _next_number(connection: Connection, name: str) -> int:
    latest = agreements.latest_agreement(connection, name)
    return 1 if latest is None else latest.agreement.number + 1


def _demand_advertiser(connection: Connection, name: str) -> None:
    if sessions.find_advertiser(connection, name) is None:
        raise ConfigurationError(
            f"there is no advertiser {name}: add it first with purposematch-platform advertiser add"
        )
