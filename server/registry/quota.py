"""The daily quotas of an advertiser: counted in the transaction that stores the session or the batch.

A day is one of UTC by the server's clock. What was used on a day *or later* counts against it, so that a
clock that jumps back gives nothing back. An open session holds back what it has declared and not yet sent:
what was opened can be finished, also past midnight. A batch that was counted once is never counted again, and
a session counts whether or not it is used.

Not protected against: a clock that ran ahead for a while. What was used on days that are still to come counts
against every day up to them; a new agreement with a larger quota makes room.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, case, func, select, update

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.errors import QuotaError
from purposematch.server.registry.agreements import agreements_in_force
from purposematch.server.registry.schema import batch, session, usage
from purposematch.server.registry.sessions import MAX_SESSION_MICROSECONDS, SessionState

__all__ = [
    "DAY_MICROSECONDS",
    "OPEN_RETRY_SECONDS",
    "AdvertiserQuota",
    "QuotaLeft",
    "charge_elements",
    "charge_session",
    "quota_left",
    "quotas_left",
    "used_by_day",
]

DAY_MICROSECONDS: Final = 86_400_000_000
"""A day: days are counted from 1970-01-01, UTC."""

OPEN_RETRY_SECONDS: Final = 60
"""When to ask again, in seconds, for what another open session holds: nobody knows when that ends."""

_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class QuotaLeft:
    """What an agreement still allows at one moment.

    Attributes:
        elements: identifiers that may still be declared today.
        sessions: sessions that may still be opened today.
        concurrent: sessions that may be opened beside those that are open.
        reserved: identifiers that open sessions hold back, declared and not yet sent; not in `elements`.
        returns_at: when the next day begins, in microseconds since 1970.
    """

    elements: int
    sessions: int
    concurrent: int
    reserved: int
    returns_at: int


@dataclass(frozen=True, slots=True)
class AdvertiserQuota:
    """One quota of one advertiser, and what is left of it.

    Attributes:
        advertiser: its name.
        quota: `daily_elements`, `daily_sessions` or `concurrent_sessions`, as in the agreement.
        left: what may still be declared or opened; identifiers that open sessions hold back are not in it.
        of: what the agreement in force allows.
    """

    advertiser: str
    quota: str
    left: int
    of: int


@dataclass(frozen=True, slots=True)
class _Used:
    elements: int
    sessions: int


def quota_left(connection: Connection, agreement: Agreement, now: int) -> QuotaLeft:
    """What an advertiser may still use.

    Args:
        connection: to the registry.
        agreement: the one in force.
        now: microseconds since 1970.
    """
    day = now // DAY_MICROSECONDS
    used = _used(connection, agreement.advertiser, day)
    count, reserved = _open_sessions(connection, agreement.advertiser, now)
    return QuotaLeft(
        elements=max(0, agreement.daily_elements - used.elements - reserved),
        sessions=max(0, agreement.daily_sessions - used.sessions),
        concurrent=max(0, agreement.concurrent_sessions - count),
        reserved=reserved,
        returns_at=(day + 1) * DAY_MICROSECONDS,
    )


def quotas_left(connection: Connection, now: int) -> list[AdvertiserQuota]:
    """What every advertiser with an agreement in force may still use, by advertiser.

    Args:
        connection: to the registry.
        now: microseconds since 1970.
    """
    quotas = []
    for terms in agreements_in_force(connection, now):
        left = quota_left(connection, terms, now)
        quotas += [
            AdvertiserQuota(terms.advertiser, "daily_elements", left.elements, terms.daily_elements),
            AdvertiserQuota(terms.advertiser, "daily_sessions", left.sessions, terms.daily_sessions),
            AdvertiserQuota(
                terms.advertiser, "concurrent_sessions", left.concurrent, terms.concurrent_sessions
            ),
        ]
    return quotas


def charge_session(connection: Connection, agreement: Agreement, list_size: int, now: int) -> None:
    """Counts a session that is about to be opened.

    Args:
        connection: the transaction that stores the session.
        agreement: the one in force.
        list_size: identifiers that the session declares, without canaries.
        now: microseconds since 1970.

    Raises:
        QuotaError: a quota has no room for it, and when it may have; nothing was counted.
    """
    left = quota_left(connection, agreement, now)
    if not left.concurrent:
        raise QuotaError(
            f"the agreement allows {agreement.concurrent_sessions:,} sessions at a time; so many are open",
            OPEN_RETRY_SECONDS,
        )
    if not left.sessions:
        raise _used_up(connection, agreement, list_size, now, f"{agreement.daily_sessions:,} sessions")
    if list_size > left.elements + left.reserved:
        raise _used_up(connection, agreement, list_size, now, f"{agreement.daily_elements:,} identifiers")
    if list_size > left.elements:
        raise QuotaError(
            f"sessions that are open hold back {left.reserved:,} of the identifiers that are left of today's "
            f"quota, and {left.elements:,} are not enough for this list",
            OPEN_RETRY_SECONDS,
        )
    _count(connection, agreement.advertiser, now, elements=0, sessions=1)


def charge_elements(connection: Connection, agreement: Agreement, elements: int, now: int) -> None:
    """Counts a batch that is about to be evaluated.

    The session held them back when it was opened, so there is room unless the clock was set, or they come
    again by an attempt at an exchange by VOLE that was made anew.

    Args:
        connection: the transaction that stores the batch.
        agreement: the one in force.
        elements: those of its elements that count.
        now: microseconds since 1970.

    Raises:
        QuotaError: the quota has no room for it, and when it may have; nothing was counted.
    """
    used = _used(connection, agreement.advertiser, now // DAY_MICROSECONDS)
    if used.elements + elements > agreement.daily_elements:
        raise _used_up(connection, agreement, elements, now, f"{agreement.daily_elements:,} identifiers")
    _count(connection, agreement.advertiser, now, elements=elements, sessions=0)


def used_by_day(connection: Connection) -> dict[tuple[str, int], tuple[int, int]]:
    """Elements and sessions by advertiser and day, added up anew from the batches and sessions themselves."""
    used: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    opened_on = session.c.opened_at // DAY_MICROSECONDS
    opened = select(session.c.advertiser, opened_on, func.count()).group_by(session.c.advertiser, opened_on)
    for name, day, count in connection.execute(opened):
        used[name, day][1] = count
    received_on = batch.c.received_at // DAY_MICROSECONDS
    evaluated = (
        select(session.c.advertiser, received_on, func.sum(batch.c.charged))
        .join(session, session.c.id == batch.c.session)
        .group_by(session.c.advertiser, received_on)
    )
    for name, day, count in connection.execute(evaluated):
        used[name, day][0] = count
    return {key: (elements, sessions) for key, (elements, sessions) in used.items()}


# Every session and every batch asks these; building a statement anew takes longer than the database does.
_USED_SINCE = select(
    *(func.coalesce(func.sum(column), 0) for column in (usage.c.elements, usage.c.sessions))
).where(usage.c.advertiser == bindparam("name"), usage.c.day >= bindparam("day"))
_COUNT_MORE = (
    update(usage)
    .where(usage.c.advertiser == bindparam("name"), usage.c.day == bindparam("on"))
    .values(
        elements=usage.c.elements + bindparam("more_elements"),
        sessions=usage.c.sessions + bindparam("more_sessions"),
    )
)
_SENT = select(func.coalesce(func.sum(batch.c.charged), 0)).where(batch.c.session == session.c.id)
_LEFT = session.c.elements - _SENT.scalar_subquery()
# By VOLE more may have been counted than was declared: attempts that were made anew.
_OPEN = select(func.count(), func.coalesce(func.sum(case((_LEFT > 0, _LEFT), else_=0)), 0)).where(
    session.c.advertiser == bindparam("name"),
    session.c.state == SessionState.OPEN,
    session.c.opened_at > bindparam("since"),
)


def _used(connection: Connection, name: str, day: int) -> _Used:
    """What was used on `day` or later."""
    return _Used(*connection.execute(_USED_SINCE, {"name": name, "day": day}).one())


def _open_sessions(connection: Connection, name: str, now: int) -> tuple[int, int]:
    """How many sessions of an advertiser may still send, and what they have declared and not yet sent."""
    since = now - MAX_SESSION_MICROSECONDS
    count, reserved = connection.execute(_OPEN, {"name": name, "since": since}).one()
    return count, reserved


def _count(connection: Connection, name: str, now: int, *, elements: int, sessions: int) -> None:
    day = now // DAY_MICROSECONDS
    more = {"more_elements": elements, "more_sessions": sessions}
    counted = connection.execute(_COUNT_MORE, {"name": name, "on": day, **more})
    if not counted.rowcount:
        row = {"advertiser": name, "day": day, "elements": elements, "sessions": sessions}
        connection.execute(usage.insert().values(row))


def _used_up(connection: Connection, agreement: Agreement, elements: int, now: int, quota: str) -> QuotaError:
    """The error for a daily quota: it returns with the first day that has room."""
    day = now // DAY_MICROSECONDS + 1
    # Days ahead are counted only where a clock ran ahead, so they are few.
    ahead = select(usage.c.day).where(usage.c.advertiser == agreement.advertiser, usage.c.day >= day)
    for candidate in (day, *sorted(later + 1 for later in connection.execute(ahead).scalars())):
        used = _used(connection, agreement.advertiser, candidate)
        room = used.elements + elements <= agreement.daily_elements
        if room and used.sessions < agreement.daily_sessions:
            day = candidate
            break
    returns_at = day * DAY_MICROSECONDS
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return QuotaError(
        f"today's quota of {quota} is used up, or has no room for this list; it returns at "
        f"{moment:%Y-%m-%d %H:%M} UTC",
        -(-(returns_at - now) // _SECOND),
    )
