"""Appends to the log what was just stored, in the transaction that stored it.

Every writer of the registry calls one of these last: then nothing is stored without its event, and no event
is there of what was rolled back. What the events say is in `events` and `delivery_event`.

Not protected against: a writer that does not call; the audit names the first row without an event.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, func, select, update

from purposematch.protocol.group import RandomBytes
from purposematch.protocol.log.batch import fresh_salts
from purposematch.protocol.log.events import Event
from purposematch.protocol.policy import Policy
from purposematch.server.registry import events, log
from purposematch.server.registry.assertion_salts import store_salts
from purposematch.server.registry.audience_event import (
    audience_expiry_event,
    audience_export_event,
    commit_event,
)
from purposematch.server.registry.audiences import AudienceName
from purposematch.server.registry.delivery_event import delivery_event
from purposematch.server.registry.erasure_event import erasure_event
from purposematch.server.registry.events import stored_row
from purposematch.server.registry.policies import policy_id
from purposematch.server.registry.schema import delivery, generation, log_leaf, policy
from purposematch.server.registry.watermarks import highest_decision

__all__ = [
    "record_acknowledgement",
    "record_advertiser",
    "record_agreement",
    "record_agreement_end",
    "record_audience_expiries",
    "record_audience_export",
    "record_certificate",
    "record_certificate_revocation",
    "record_commit",
    "record_correction",
    "record_decisions_stored",
    "record_delegation",
    "record_delegation_revocation",
    "record_delivery",
    "record_epoch_end",
    "record_erasure",
    "record_generation",
    "record_operator_query",
    "record_policy",
    "record_release",
    "record_session",
    "record_session_ends",
]


def record_policy(connection: Connection, wanted: Policy, now: int, random_bytes: RandomBytes) -> int:
    """The id of a policy, which is stored and logged if it was never in force before.

    Args:
        connection: a transaction that writes.
        wanted: the policy.
        now: microseconds since 1970-01-01 UTC.
        random_bytes: where the salt comes from, here and below.

    Raises:
        PolicyError: an issuer has another key than in an earlier policy.
    """
    before = connection.scalar(select(func.max(policy.c.id))) or 0
    number = policy_id(connection, wanted, now)
    if number > before:
        log.append(connection, [events.policy_event(connection, number)], random_bytes)
    return number


def record_delivery(connection: Connection, number: int, decisions: int, random_bytes: RandomBytes) -> None:
    """Logs a delivery, after giving its assertions salts; everything else of it is stored.

    Args:
        connection: a transaction that writes.
        number: its id.
        decisions: how many decisions were stored with it, the latest ones.
        random_bytes: where the salts come from.
    """
    row = stored_row(connection, delivery, id=number)
    store_salts(connection, row.first_assertion, fresh_salts(row.assertions, random_bytes))
    # The position is in the event, so that nobody can change it and a receipt can be written again.
    connection.execute(update(delivery).where(delivery.c.id == number).values(leaf=log.size(connection)))
    event = delivery_event(connection, number, _latest_decisions(connection, decisions))
    log.append(connection, [event], random_bytes)


def record_decisions_stored(connection: Connection, decisions: int, random_bytes: RandomBytes) -> None:
    """Logs the latest decisions, so many, which no delivery brought; nothing if there are none.

    A publication stores them before it builds its index, and may fail after.
    """
    if decisions:
        event = events.decisions_event(connection, _latest_decisions(connection, decisions))
        log.append(connection, [event], random_bytes)


def record_correction(connection: Connection, number: int, decisions: int, random_bytes: RandomBytes) -> None:
    """Logs a correction with the latest decisions, so many, which it led to."""
    event = events.correction_event(connection, number, _latest_decisions(connection, decisions))
    log.append(connection, [event], random_bytes)


def record_erasure(connection: Connection, number: int, random_bytes: RandomBytes) -> None:
    """Logs an erasure, whose row names the position that its event gets."""
    log.append(connection, [erasure_event(connection, number)], random_bytes)


def record_generation(connection: Connection, number: int, random_bytes: RandomBytes) -> None:
    """Logs a generation: its manifest, at the place that its row names, the epoch if it is the first of one,
    and the rest."""
    row = stored_row(connection, generation, number=number)
    earlier = select(func.count()).where(generation.c.epoch == row.epoch, generation.c.number < number)
    new = [events.manifest_event(connection, number)]
    if not connection.scalar(earlier):
        new.append(events.epoch_event(connection, row.epoch))
    new.append(events.generation_event(connection, number))
    log.append(connection, new, random_bytes)


def record_epoch_end(connection: Connection, epoch: int, now: int, random_bytes: RandomBytes) -> None:
    """Logs that the key of an epoch was destroyed, unless the log says so already.

    Args:
        connection: a transaction that writes.
        epoch: its number.
        now: microseconds since 1970-01-01 UTC.
        random_bytes: where the salt comes from.
    """
    event = events.epoch_end_event(epoch, now)
    # Whoever was interrupted between this and the removal of the file comes here again.
    stored = select(log_leaf.c.content).where(log_leaf.c.kind == event.kind.value)
    if all(Event.decode(content).fields != event.fields for content in connection.execute(stored).scalars()):
        log.append(connection, [event], random_bytes)


def record_operator_query(
    connection: Connection,
    by: str,
    query: str,
    *,
    salt: bytes,
    commitment: bytes,
    now: int,
    random_bytes: RandomBytes,
) -> int:
    """Logs a question; the index of its leaf.

    Args:
        connection: a transaction that writes.
        by: who asks.
        query: which kind of question.
        salt: 16 bytes, of the commitment.
        commitment: 32 bytes, to what is asked for.
        now: microseconds since 1970-01-01 UTC.
        random_bytes: where the salt of the leaf comes from.
    """
    event = events.operator_query_event(by, query, salt, commitment, now)
    return log.append(connection, [event], random_bytes)[0]


def record_advertiser(connection: Connection, name: str, random_bytes: RandomBytes) -> None:
    """Logs that an advertiser was admitted."""
    log.append(connection, [events.advertiser_event(connection, name)], random_bytes)


def record_certificate(connection: Connection, fingerprint: bytes, random_bytes: RandomBytes) -> None:
    """Logs that a client certificate was recorded."""
    log.append(connection, [events.certificate_event(connection, fingerprint)], random_bytes)


def record_certificate_revocation(
    connection: Connection, fingerprint: bytes, random_bytes: RandomBytes
) -> None:
    """Logs that a client certificate was revoked."""
    log.append(connection, [events.certificate_revocation_event(connection, fingerprint)], random_bytes)


def record_agreement(connection: Connection, name: str, number: int, random_bytes: RandomBytes) -> None:
    """Logs that an agreement came into force."""
    log.append(connection, [events.agreement_event(connection, name, number)], random_bytes)


def record_agreement_end(connection: Connection, name: str, number: int, random_bytes: RandomBytes) -> None:
    """Logs that an agreement was ended."""
    log.append(connection, [events.agreement_end_event(connection, name, number)], random_bytes)


def record_delegation(connection: Connection, name: str, number: int, random_bytes: RandomBytes) -> None:
    """Logs that an advertiser's delegation was recorded."""
    log.append(connection, [events.delegation_event(connection, name, number)], random_bytes)


def record_delegation_revocation(
    connection: Connection, name: str, number: int, random_bytes: RandomBytes
) -> None:
    """Logs that a delegation was revoked."""
    log.append(connection, [events.delegation_revocation_event(connection, name, number)], random_bytes)


def record_acknowledgement(
    connection: Connection, name: str, epoch: int, number: int, random_bytes: RandomBytes
) -> None:
    """Logs that an advertiser acknowledged a list of removals."""
    event = events.acknowledgement_event(connection, name, epoch, number)
    log.append(connection, [event], random_bytes)


def record_session(connection: Connection, id_: str, random_bytes: RandomBytes) -> None:
    """Logs that a session was opened."""
    log.append(connection, [events.session_event(connection, id_)], random_bytes)


def record_session_ends(connection: Connection, ids: Iterable[str], random_bytes: RandomBytes) -> None:
    """Logs that sessions left the state `open`."""
    log.append(connection, [events.session_end_event(connection, id_) for id_ in ids], random_bytes)


def record_commit(connection: Connection, session: str, id_: str, random_bytes: RandomBytes) -> None:
    """Logs a commit and the change of an audience that it made."""
    log.append(connection, [commit_event(connection, session, id_)], random_bytes)


def record_release(connection: Connection, number: int, random_bytes: RandomBytes) -> None:
    """Logs that a noisy count was paid for."""
    log.append(connection, [events.release_event(connection, number)], random_bytes)


def record_audience_expiries(
    connection: Connection, numbers: Iterable[int], random_bytes: RandomBytes
) -> None:
    """Logs that changes of audiences ended."""
    ended = [audience_expiry_event(connection, number) for number in numbers]
    log.append(connection, ended, random_bytes)


def record_audience_export(
    connection: Connection,
    of: AudienceName,
    *,
    count: int,
    file_format: str,
    by: str,
    now: int,
    random_bytes: RandomBytes,
) -> int:
    """Logs that an audience was written into a file; the index of its leaf.

    Args:
        connection: a transaction that writes.
        of: which audience.
        count: of subjects in the file.
        file_format: of the file, `csv` or `parquet`.
        by: who exports it.
        now: microseconds since 1970-01-01 UTC.
        random_bytes: where the salt of the leaf comes from.
    """
    event = audience_export_event(of, count, file_format, by, now)
    return log.append(connection, [event], random_bytes)[0]


def _latest_decisions(connection: Connection, count: int) -> range:
    last = highest_decision(connection)
    return range(last - count + 1, last + 1)
