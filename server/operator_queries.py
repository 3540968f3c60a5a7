"""Logs what an operator asks, before it is answered: a question that can not be logged is refused.

The leaf says who asked, which kind of question it was, and when. What was asked *for* is there as a salted
commitment alone, under the registry's identifier key::

    HMAC-SHA-256(identifier key, "purposematch log query v1" || salt, 16 bytes || parameters, canonical JSON)

so that nobody who is shown the opening learns whom it was about, by guessing neither, while the platform can
test whether a question was about somebody: `is_about`. Identifiers are in the parameters as keyed digests.

Not protected against: whoever reads the database without these commands; and a name of the system's user
that several people share.
"""

import hmac
import os
import pwd
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from purposematch.protocol.ciphersuite import LOG_QUERY_DOMAIN
from purposematch.protocol.errors import UnavailableError
from purposematch.protocol.log.events import SALT_LENGTH, Event
from purposematch.protocol.secret import reveal
from purposematch.protocol.strict_json import canonical_json
from purposematch.server.audiences import end_due
from purposematch.server.keys import IdentifierKey
from purposematch.server.platform import Platform
from purposematch.server.registry import ledger

__all__ = ["Query", "is_about", "record_query", "subject_parameters", "system_user"]

_ADVICE: Final = (
    "what an operator asks is logged first, so nothing was answered; make the data directory writable and "
    "see that its disk has room, then ask again"
)


class Query(StrEnum):
    """The kinds of questions. The labels are in stored leaves: they are never changed or used again."""

    SUBJECT = "subject"
    """Everything about one subject, or about everybody with an identifier."""
    IMPACT = "impact"
    """Who was enrolled through assertions, and who learned of it."""
    CORRECTION = "correct"
    """What a correction would do; one that is made has an event of its own."""
    ERASURE = "erase"
    """What an erasure would do; one that is made has an event of its own."""
    REMOVALS = "removals"
    """Which advertisers have not acknowledged removals."""
    AUDIT = "audit"
    """An audit that found everything as it was logged."""


def system_user() -> str:
    """Who runs this process, as the system knows it; environment variables are not asked."""
    number = os.getuid()
    try:
        return f"user:{pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user:{number}"


def record_query(
    platform: Platform, query: Query, parameters: Mapping[str, object], by: str | None = None
) -> int:
    """Logs a question in a transaction of its own; the index of its leaf.

    Args:
        platform: the open platform.
        query: which kind.
        parameters: what it is about, as an event's fields are; identifiers as keyed digests in hexadecimal.
        by: who asks, such as `certificate:NAME`; None for the system's user.

    Raises:
        UnavailableError: it can not be logged, and is not to be answered.
        IntegrityError: the log is damaged.
    """
    salt = platform.random_bytes(SALT_LENGTH)
    commitment = _commitment(platform.registry.identifier_key, salt, parameters)
    now = platform.clock()
    try:
        with platform.registry.writing() as connection:
            # Of audiences that are over by their time nobody is told anything any more.
            end_due(platform, connection, now)
            return ledger.record_operator_query(
                connection,
                by or system_user(),
                query.value,
                salt=salt,
                commitment=commitment,
                now=now,
                random_bytes=platform.random_bytes,
            )
    except UnavailableError as error:
        raise UnavailableError(f"{error}: {_ADVICE}") from None


def subject_parameters(subject_id: str | None, keys: Sequence[bytes]) -> dict[str, object]:
    """The parameters of `Query.SUBJECT`: a subject's id, or the keyed digests of an identifier."""
    return {"subject_id": subject_id, "identifiers": [each.hex() for each in sorted(keys)]}


def is_about(key: IdentifierKey, event: Event, parameters: Mapping[str, object]) -> bool:
    """Whether the question that an `operator_query` event says of was asked with these parameters."""
    salt = bytes.fromhex(str(event.fields["salt"]))
    commitment = _commitment(key, salt, parameters).hex()
    return hmac.compare_digest(commitment, str(event.fields["parameters"]))


def _commitment(key: IdentifierKey, salt: bytes, parameters: Mapping[str, object]) -> bytes:
    message = LOG_QUERY_DOMAIN + salt + canonical_json(dict(parameters))
    return hmac.digest(reveal(key), message, "sha256")
