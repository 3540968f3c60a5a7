"""One session with a platform, from its opening, or where it broke off, to the receipt.

The order is what protects the advertiser: everything that the platform signed is checked before a batch
goes out (see `opening`); every answer before it is looked up, the canaries before a match is believed, and
receipt and log once more before the result is handed on. A session that fails is closed if the platform can
be reached, and its resume file deleted; one whose connection is lost for good is kept there. What a platform
may have stored is never called failed.

Not protected against: a platform that left people out of its index (see `purposematch.protocol.canary`).
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from purposematch.client.channel import CommitLostError, PlatformChannel
from purposematch.client.credentials import Credentials
from purposematch.client.customer_list import CustomerList
from purposematch.client.exchange import Exchange, fetch_index
from purposematch.client.means import Means
from purposematch.client.one_shot_exchange import OneShotExchange
from purposematch.client.opening import GivenList, Opened, begin_session, resumed_session
from purposematch.client.receipt import SessionReceipt
from purposematch.client.reconnect import Reconnect
from purposematch.client.resume_file import ResumeFile
from purposematch.client.session_end import Fate, UntoldError, seen_through
from purposematch.protocol.advertiser import AdvertiserSession
from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.delegation import OnBehalf
from purposematch.protocol.errors import (
    PeerError,
    RefusedError,
    VerificationError,
)
from purposematch.protocol.group import Bytes
from purposematch.protocol.leak_sheet import expiry_text
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.messages import Receipt, SessionGrant
from purposematch.protocol.scope import Scope
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.transcript import transcript_hash
from purposematch.telemetry import span

__all__ = ["Outcome", "check_delegation", "check_in_force", "check_size", "run_session"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session came to.

    Attributes:
        session: its id, 16 bytes.
        scope: what its generation is for.
        engine: what it was computed with.
        found: `(m,)` bool, which distinct identifiers of the list matched.
        numbers: `(k,)` int64, the numbers of those that did, in no order.
        tags: `(k, 16)` uint8, theirs.
    """

    session: bytes
    scope: Scope
    engine: MatchEngine
    found: NDArray[np.bool_] = field(repr=False)
    numbers: NDArray[np.int64] = field(repr=False)
    tags: Bytes = field(repr=False)


def check_in_force(agreement: Agreement, now: int) -> None:
    """Refuses an agreement that has expired by this side's clock, `now` in microseconds since 1970.

    Raises:
        RefusedError: it has; the text says when.
    """
    if now >= agreement.expires_at:
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


def check_delegation(on_behalf: OnBehalf | None, distinct: int, now: int) -> None:
    """Refuses a partner's list that the delegation does not allow, or not any more.

    Args:
        on_behalf: for whom it is brought; None of an advertiser, whom the agreement alone binds.
        distinct: distinct identifiers in the list.
        now: microseconds since 1970.

    Raises:
        RefusedError: the delegation has expired, or the list is too large for it.
    """
    if on_behalf is None:
        return
    delegation = on_behalf.delegation
    if now >= delegation.expires_at:
        raise RefusedError(f"delegation {delegation.number} has expired: ask {delegation.advertiser} for one")
    if distinct > delegation.max_list_elements:
        raise RefusedError(
            f"the list has {distinct:,} distinct identifiers, and delegation {delegation.number} of "
            f"{delegation.advertiser} allows at most {delegation.max_list_elements:,}"
        )


async def run_session(
    channel: PlatformChannel,
    credentials: Credentials,
    given: GivenList,
    means: Means,
    resume: ResumeFile,
    write: Callable[[Outcome], Awaitable[None]],
) -> tuple[Outcome, SessionReceipt]:
    """Runs one session for one list; what it came to, and the receipt that the log shows it.

    Args:
        channel: the connection.
        credentials: of this advertiser; the agreement is in them.
        given: the list.
        means: what else is needed.
        resume: the output's resume file. A session in it goes on, else there is a new one. It stays when this
            returns, for whoever puts the output into its place, and when the session can go on later.
        write: writes the result aside. It runs before the commit, so that what is wrong
            with the output cannot leave the platform with an audience and this side with nothing.

    Raises:
        BrokenOffError: the platform cannot be reached any more, and the session can be resumed;
            `OutcomeUnknownError` if the platform may have stored its commit.
        RefusedError: the platform declined, or ended the session.
        UnavailableError: no session could be opened.
        PeerError: the platform sent something that does not hold; the text says so if it has received the
            matches, or may have.
        ForkError: its log does not extend the last one that was seen.
        ConfigurationError: the last checkpoint can not be read or kept.
        InputError: the session in the resume file is another one, or the file cannot be used.
    """
    reconnect, saved = means.reconnect(), resume.saved
    if saved is None:
        begun = await begin_session(channel, credentials, given, means, resume, reconnect)
        if isinstance(begun, SignedDocument):
            raise VerificationError("the platform answered a list without a session")
        opened = begun
    else:
        opened = await resumed_session(channel, credentials, given, means, resume, saved)
    session = opened.grant.session
    try:
        run = _Run(channel, credentials, given.customers, means, resume, opened, reconnect)
    except PeerError:
        # The manifest holds no key that one could compute with.
        with suppress(PeerError):
            await channel.close_session(session)
        resume.delete()
        raise
    restored = 0 if saved is None else run.restore()
    try:
        return await seen_through(
            lambda: run.finish(write, restored),
            lambda: run.fate,
            channel,
            session,
            resume,
            resumed=saved is not None,
        )
    finally:
        opened.saved.seed.wipe()


class _Run:
    """One open session on its way to the result."""

    def __init__(
        self,
        channel: PlatformChannel,
        credentials: Credentials,
        customers: CustomerList,
        means: Means,
        resume: ResumeFile,
        opened: Opened,
        reconnect: Reconnect,
    ) -> None:
        self._channel = channel
        self._key = credentials.pin.identity_key
        self._customers = customers
        self._means = means
        self._resume = resume
        self._opened = opened
        self._reconnect = reconnect
        self._commits = credentials.agreement.disclosure is Disclosure.BOTH
        self._exchange: Exchange | OneShotExchange
        if opened.grant.engine is MatchEngine.VOLE:
            self._exchange = OneShotExchange(means, credentials, opened, customers, resume.append)
        else:
            session = AdvertiserSession(
                means.group, opened.grant, opened.manifest, opened.saved.seed, len(customers)
            )
            self._exchange = Exchange(session, customers, self._commits, resume.append)
        self.fate = Fate.NOTHING

    def restore(self) -> int:
        """Takes over what the resume file holds; identifiers of the list that were evaluated already.

        Raises:
            InputError: the file is damaged.
        """
        try:
            restored = self._exchange.restore(self._resume.results(self._commits))
        except PeerError:
            raise self._resume.damaged() from None
        if self._commits and self._exchange.complete:
            self.fate = Fate.UNKNOWN
        return restored

    async def finish(
        self, write: Callable[[Outcome], Awaitable[None]], restored: int
    ) -> tuple[Outcome, SessionReceipt]:
        opened, exchange = self._opened, self._exchange
        if isinstance(exchange, OneShotExchange):
            if not exchange.complete:
                await exchange.run(self._channel, self._reconnect)
        elif not exchange.complete:
            await self._evaluate(exchange, restored)
        exchange.close()
        document = await self._find() if self.fate is Fate.UNKNOWN else None
        outcome = Outcome(
            *(opened.grant.session, opened.manifest.scope, opened.grant.engine),
            *(exchange.found, exchange.numbers, exchange.tags),
        )
        await write(outcome)
        committed = None
        if self._commits:
            if document is None:
                with span("commit"):
                    document = await self._commit()
            committed = int(exchange.found.sum())
            _check_receipt(
                Receipt.open(document, self._key),
                *(opened.grant, opened.saved.commit, opened.manifest, committed),
            )
            self.fate = Fate.STORED
        proof = await opened.log.end(opened.saved.proof, committed, self._reconnect)
        return outcome, SessionReceipt(opened.saved.grant, document, proof)

    async def _evaluate(self, exchange: Exchange, restored: int) -> None:
        channel, grant = self._channel, self._opened.grant
        manifest, progress = self._opened.manifest, self._means.progress
        segments, size = len(manifest.all_segments), len(self._customers)
        with (
            span("index", segments=segments),
            progress("Fetching the index", segments, "segments") as advance,
        ):
            index = await fetch_index(
                channel, grant.session, manifest, self._means.cache, self._reconnect, advance
            )
        with span("exchange", elements=size), progress("Matching", size, "identifiers") as advance:
            advance(restored)

            async def run() -> None:
                await exchange.run(index, channel.evaluations(grant.session), grant.window, advance)

            await self._reconnect.run(run, lambda: exchange.answered)

    async def _find(self) -> SignedDocument | None:
        """The receipt of the commit, if the platform stored one: it alone decides."""
        ids = (self._opened.grant.session, self._opened.saved.commit)
        try:
            return await self._reconnect.run(partial(self._channel.find_commit, *ids))
        except RefusedError as error:
            raise UntoldError(f"the platform does not tell what it stored ({error})") from None

    async def _commit(self) -> SignedDocument:
        """Commits the matches, as often as it takes: under one id they are stored once."""
        ids = (self._opened.grant.session, self._opened.saved.commit)
        lost, self.fate = self.fate is Fate.UNKNOWN, Fate.UNKNOWN

        async def commit() -> SignedDocument:
            nonlocal lost
            try:
                return await self._channel.commit(*ids, self._exchange.commit_parts())
            except CommitLostError:
                lost = True
                document = await self._find()
                if document is None:
                    raise
                return document

        try:
            return await self._reconnect.run(commit)
        except RefusedError:
            # The answer to an earlier attempt may be what was lost. What was refused now is not stored later.
            document = await self._find() if lost else None
            if document is None:
                self.fate = Fate.NOTHING
                raise
            return document


def _check_receipt(
    receipt: Receipt, grant: SessionGrant, commit: bytes, manifest: Manifest, sent: int
) -> None:
    """Checks that a receipt is for this commit."""
    checks = {
        "the session": receipt.session == grant.session,
        "the commit": receipt.commit == commit,
        "the generation": receipt.generation == manifest.generation,
        "the agreement": receipt.agreement == grant.agreement,
        "the transcript": receipt.transcript == transcript_hash(grant),
        "the engine": receipt.engine == grant.engine,
        "the number of matches": receipt.received == sent,
    }
    for what, holds in checks.items():
        if not holds:
            raise VerificationError(f"the receipt of the commit differs in {what}")
