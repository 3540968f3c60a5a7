"""One session with a platform, from opening to the receipt.

The order is what protects the advertiser: everything that the platform signed is checked before a batch
goes out, and that its log holds the session and extends the last one that was seen; every answer before it is
looked up, the canaries before a match is believed, and receipt and log once more before the result is handed
on. Whatever fails, the session is closed if the platform can be reached.

Not protected against: a platform that left people out of its index (see `purposematch.protocol.canary`).
The TLS certificate that the platform says it serves is bound into the transcript, but gRPC does not let a
client see the one that it was served.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.client.channel import CommitLostError, PlatformChannel
from purposematch.client.checkpoints import LastCheckpoint
from purposematch.client.credentials import Credentials
from purposematch.client.customer_list import CustomerList
from purposematch.client.exchange import Exchange, fetch_index
from purposematch.client.log import SessionLog
from purposematch.client.progress import Progress
from purposematch.client.receipt import SessionReceipt
from purposematch.client.segment_cache import SegmentCache
from purposematch.protocol.advertiser import AdvertiserSession, check_grant
from purposematch.protocol.agreement import RUNNABLE_DISCLOSURES, Agreement, Disclosure
from purposematch.protocol.errors import PeerError, RefusedError, UnavailableError, VerificationError
from purposematch.protocol.group import Bytes, Group, RandomBytes
from purposematch.protocol.leak_sheet import expiry_text
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import COMMIT_ID_LENGTH, Receipt, SessionGrant
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.scope import Scope
from purposematch.protocol.signing import SignedDocument
from purposematch.telemetry import span

__all__ = ["Means", "Outcome", "check_disclosure", "check_in_force", "check_size", "run_session"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Means:
    """What sessions need besides a platform and a list.

    Attributes:
        cache: where index segments are kept.
        last: where the last checkpoint of the platform's log is kept.
        group: the back end of the group.
        random_bytes: the source of seeds and ids.
        progress: shows how far a session is.
        clock: the time, with a time zone.
    """

    cache: SegmentCache
    last: LastCheckpoint
    group: Group
    random_bytes: RandomBytes
    progress: Progress
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session came to.

    Attributes:
        session: its id, 16 bytes.
        scope: what its generation is for.
        found: `(m,)` bool, which distinct identifiers of the list matched.
        numbers: `(k,)` int64, the numbers of those that did, in no order.
        tags: `(k, 16)` uint8, theirs.
    """

    session: bytes
    scope: Scope
    found: NDArray[np.bool_] = field(repr=False)
    numbers: NDArray[np.int64] = field(repr=False)
    tags: Bytes = field(repr=False)


def check_disclosure(agreement: Agreement) -> None:
    """Refuses an agreement whose disclosure this version cannot run.

    Raises:
        RefusedError: it is none of `RUNNABLE_DISCLOSURES`.
    """
    if agreement.disclosure not in RUNNABLE_DISCLOSURES:
        raise RefusedError(
            f"the agreement's disclosure is `{agreement.disclosure}`, which this version cannot run yet; "
            f"it runs {' and '.join(f'`{disclosure}`' for disclosure in RUNNABLE_DISCLOSURES)}"
        )


def check_in_force(agreement: Agreement, now: datetime) -> None:
    """Refuses an agreement that has expired by this side's clock.

    Raises:
        RefusedError: it has; the text says when.
    """
    if (now - _EPOCH) // timedelta(microseconds=1) >= agreement.expires_at:
        raise RefusedError(
            f"agreement {agreement.number} expired on {expiry_text(agreement)}: ask the platform for a new "
            "one, and accept it with `purposematch agreement accept`"
        )


def check_size(agreement: Agreement, distinct: int) -> None:
    """Refuses a list that the agreement does not allow.

    Raises:
        RefusedError: it has too few or too many distinct identifiers.
    """
    if distinct < agreement.min_list_elements:
        raise RefusedError(
            f"the list has {distinct:,} distinct usable identifiers, and the agreement asks for at least "
            f"{agreement.min_list_elements:,}; this guards against accidents, such as a wrong column: "
            "run `purposematch check` to see what cannot be used"
        )
    if distinct > agreement.max_list_elements:
        raise RefusedError(
            f"the list has {distinct:,} distinct identifiers, and the agreement allows at most "
            f"{agreement.max_list_elements:,}; split it, or ask the platform for a larger limit"
        )


async def run_session(
    channel: PlatformChannel,
    credentials: Credentials,
    customers: CustomerList,
    means: Means,
    write: Callable[[Outcome], Awaitable[None]],
) -> tuple[Outcome, SessionReceipt]:
    """Runs one session for one list; what it came to, and the receipt that the log shows it.

    Args:
        channel: the connection.
        credentials: of this advertiser; the agreement is in them.
        customers: the list.
        means: what else is needed.
        write: writes the result aside. It runs before the commit, so that what is wrong
            with the output cannot leave the platform with an audience and this side with nothing.

    Raises:
        RefusedError: the platform declined.
        UnavailableError: the platform cannot be reached any more; the text says so if it is not known
            whether it stored a commit.
        PeerError: the platform sent something that does not hold; the text says so if it has received the
            matches.
        ForkError: its log does not extend the last one that was seen.
        ConfigurationError: the last checkpoint can not be read or kept.
    """
    pin, agreement = credentials.pin, credentials.agreement
    before = await asyncio.to_thread(means.last.load)
    opened = await channel.open_session(agreement.digest, len(customers))
    grant = SessionGrant.open(opened.grant, pin.identity_key)
    try:
        manifest = Manifest.open(opened.manifest, pin.identity_key)
        digest = Manifest.digest(opened.manifest)
        now = (means.clock() - _EPOCH) // timedelta(microseconds=1)
        check_grant(grant, manifest, digest, agreement, credentials.fingerprint, len(customers), now)
        log = SessionLog(channel, means.last, credentials, opened, grant, manifest)
        await log.follow(opened.proof, before)
        segments = len(manifest.all_segments)
        with (
            span("index", segments=segments),
            means.progress("Fetching the index", segments, "segments") as advance,
        ):
            index = await fetch_index(channel, grant.session, manifest, means.cache, advance)
        seed = SessionSeed(means.random_bytes(SessionSeed.LENGTH))
        session = AdvertiserSession(means.group, grant, manifest, seed, len(customers))
        commits = agreement.disclosure is Disclosure.BOTH
        exchange = Exchange(session, customers, index, keep=commits)
        try:
            size = len(customers)
            with span("exchange", elements=size), means.progress("Matching", size, "identifiers") as advance:
                await exchange.run(channel.evaluations(grant.session), grant.window, advance)
        finally:
            seed.wipe()
        outcome = Outcome(grant.session, manifest.scope, exchange.found, exchange.numbers, exchange.tags)
        await write(outcome)
        document = None
        if commits:
            commit = means.random_bytes(COMMIT_ID_LENGTH)
            with span("commit"):
                document = await _commit(channel, grant.session, commit, exchange)
            receipt = Receipt.open(document, pin.identity_key)
            _check_receipt(receipt, grant, commit, manifest, session.transcript, int(exchange.found.sum()))
    except BaseException:
        with suppress(PeerError):
            await channel.close_session(grant.session)
        raise
    proof = await log.end(opened.proof, committed=int(exchange.found.sum()) if commits else None)
    return outcome, SessionReceipt(opened.grant, document, proof)


async def _commit(
    channel: PlatformChannel, session: bytes, commit: bytes, exchange: Exchange
) -> SignedDocument:
    """Commits the matches; after a lost connection the platform alone decides what became of it."""
    try:
        return await channel.commit(session, commit, exchange.commit_parts())
    except CommitLostError:
        pass
    try:
        document = await channel.find_commit(session, commit)
    except (UnavailableError, RefusedError) as error:
        raise UnavailableError(
            f"the commit broke off and the platform does not tell what it stored ({error}): the outcome is "
            f"unknown; ask the platform about session {session.hex()} before you start again"
        ) from None
    if document is None:
        raise UnavailableError("the commit broke off, and the platform stored nothing of it; start again")
    return document


def _check_receipt(
    receipt: Receipt, grant: SessionGrant, commit: bytes, manifest: Manifest, transcript: bytes, sent: int
) -> None:
    """Checks that a receipt is for this commit."""
    checks = {
        "the session": receipt.session == grant.session,
        "the commit": receipt.commit == commit,
        "the generation": receipt.generation == manifest.generation,
        "the agreement": receipt.agreement == grant.agreement,
        "the transcript": receipt.transcript == transcript,
        "the number of matches": receipt.received == sent,
    }
    for what, holds in checks.items():
        if not holds:
            raise VerificationError(f"the receipt of the commit differs in {what}")
