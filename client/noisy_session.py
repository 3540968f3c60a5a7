"""One session under a noisy disclosure, from its opening, or where it broke off, to the platform's report.

The platform knows a list by its label: a list that was answered on this generation is answered again without
a session. Otherwise the set exchange runs, or a match by VOLE where the grant says so, and the platform
answers at its end with the noisy report, which it signed; this side never learns which of its rows match.

Not protected against: see `purposematch.protocol.set_exchange` and the leak sheet.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from purposematch.client.channel import CommitLostError, PlatformChannel
from purposematch.client.credentials import Credentials
from purposematch.client.label import label_of
from purposematch.client.means import Means
from purposematch.client.one_shot import Attempts
from purposematch.client.opening import GivenList, Opened, begin_session, resumed_session
from purposematch.client.progress import Advance
from purposematch.client.receipt import SessionReceipt
from purposematch.client.reconnect import Reconnect
from purposematch.client.resume_file import ResumeFile
from purposematch.client.session_end import Fate, seen_through
from purposematch.client.set_exchange import PointSource, SetExchange
from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.errors import LimitError, PeerError, RefusedError, VerificationError
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.protocol.point_segments import list_name
from purposematch.protocol.set_exchange.advertiser import AdvertiserExchange
from purposematch.protocol.signing import SignedDocument
from purposematch.telemetry import span

__all__ = ["NoisyOutcome", "run_noisy_session"]


@dataclass(frozen=True, slots=True)
class NoisyOutcome:
    """What a session under a noisy disclosure came to.

    Attributes:
        report: the platform's answer, checked.
        document: the same as it was signed.
        receipt: of the session; None where the answer was known and there was none.
    """

    report: NoisyReport
    document: SignedDocument
    receipt: SessionReceipt | None

    @property
    def session(self) -> bytes | None:
        """The id of the session, 16 bytes, if there was one."""
        return None if self.receipt is None else SessionGrant.parse(self.receipt.grant.content).session

    @property
    def engine(self) -> MatchEngine:
        """What it was computed with; the usual engine where there was no session."""
        if self.receipt is None:
            return MatchEngine.OPRF
        return SessionGrant.parse(self.receipt.grant.content).engine


async def run_noisy_session(
    channel: PlatformChannel,
    credentials: Credentials,
    given: GivenList,
    means: Means,
    resume: ResumeFile,
) -> NoisyOutcome:
    """Runs one session for one list, or takes the answer that the platform has stored.

    Args:
        channel: the connection.
        credentials: of this advertiser; the agreement is in them.
        given: the list.
        means: what else is needed.
        resume: the output's resume file, as for `run_session`.

    Raises:
        BrokenOffError: the platform cannot be reached any more, and the session can be resumed;
            `OutcomeUnknownError` if the platform may have finished it.
        RefusedError: the platform declined, or ended the session; `QuotaError` where that passes.
        UnavailableError: no session could be opened.
        PeerError: the platform sent something that does not hold.
        ConfigurationError: a key or the last checkpoint can not be read or kept.
        InputError: the session in the resume file is another one, or the file cannot be used.
    """
    reconnect, saved, customers = means.reconnect(), resume.saved, given.customers
    inputs = customers.inputs(0, len(customers))
    label = await asyncio.to_thread(label_of, credentials.folder, inputs, means.random_bytes, given.audience)
    del inputs
    if saved is None:
        begun = await begin_session(channel, credentials, given, means, resume, reconnect, label)
        if isinstance(begun, SignedDocument):
            return _known(begun, credentials, label, len(customers))
        opened = begun
    else:
        opened = await resumed_session(channel, credentials, given, means, resume, saved)
    session = opened.grant.session
    run: _Run | _OneShotRun
    try:
        if opened.grant.engine is MatchEngine.VOLE:
            run = _OneShotRun(channel, credentials, given, means, opened, reconnect, label)
            run.fate = Fate.NOTHING if saved is None else Fate.UNKNOWN
        else:
            run = _Run(channel, credentials, given, means, resume, opened, reconnect, label)
    except LimitError as error:
        with suppress(PeerError):
            await channel.close_session(session)
        resume.delete()
        raise VerificationError(f"the platform's manifest does not fit the agreement: {error}") from None
    try:
        return await seen_through(
            run.finish, lambda: run.fate, channel, session, resume, resumed=saved is not None
        )
    finally:
        run.close()


def _known(document: SignedDocument, credentials: Credentials, label: bytes, list_size: int) -> NoisyOutcome:
    """The answer that the platform gave without a session, checked; its generation nobody can check."""
    report = NoisyReport.open(document, credentials.pin.identity_key)
    report.check_answers(credentials.agreement, label, report.generation)
    if report.list_size != list_size:
        raise VerificationError("the platform answered about a list of another size")
    return NoisyOutcome(report, document, None)


class _Run:
    """One open session on its way to the report."""

    def __init__(
        self,
        channel: PlatformChannel,
        credentials: Credentials,
        given: GivenList,
        means: Means,
        resume: ResumeFile,
        opened: Opened,
        reconnect: Reconnect,
        label: bytes,
    ) -> None:
        agreement, grant, manifest = credentials.agreement, opened.grant, opened.manifest
        name = list_name(agreement.disclosure, agreement.identifiers_per_subject)
        in_order = agreement.disclosure is Disclosure.PLATFORM
        exchange = AdvertiserExchange(
            means.group, name, grant, manifest, opened.saved.seed, in_order=in_order
        )
        segments = manifest.point_lists[name]
        points = PointSource(channel, grant.session, segments, means.cache, reconnect)
        self._channel = channel
        self._credentials = credentials
        self._means = means
        self._resume = resume
        self._opened = opened
        self._reconnect = reconnect
        self._label = label
        self._elements = exchange.shape.own_elements + exchange.shape.points
        self._protocol = exchange
        self._exchange = SetExchange(exchange, given.customers, points, in_order, resume.append)
        self.fate = Fate.NOTHING

    async def finish(self) -> NoisyOutcome:
        """Runs what is left of the session."""
        restored = self._restore()
        if self._exchange.complete:
            self.fate = Fate.UNKNOWN
        else:
            await self._send(restored)
        document = await self._finished()
        opened = self._opened
        report = NoisyReport.open(document, self._credentials.pin.identity_key)
        report.check_answers(self._credentials.agreement, self._label, opened.manifest.generation)
        self.fate = Fate.STORED
        proof = await opened.log.end(opened.saved.proof, None, self._reconnect)
        return NoisyOutcome(report, document, SessionReceipt(opened.saved.grant, None, proof))

    def close(self) -> None:
        """Forgets the session's secrets."""
        self._protocol.close()

    def _restore(self) -> int:
        """Takes over what the resume file holds; elements of both lists that were sent already."""
        try:
            return self._exchange.restore(self._resume.results(commits=False))
        except PeerError:
            raise self._resume.damaged() from None

    async def _send(self, restored: int) -> None:
        channel, grant, exchange = self._channel, self._opened.grant, self._exchange
        progress = self._means.progress("Matching", self._elements, "elements")
        with span("exchange", elements=self._elements), progress as advance:
            advance(restored)

            async def run() -> None:
                await exchange.run(channel, grant.session, grant.window, advance)

            await self._reconnect.run(run, lambda: exchange.answered)
        self._means.cache.trim()

    async def _finished(self) -> SignedDocument:
        """Has the exchange finished, as often as it takes: under one id it is done once."""
        ids = (self._opened.grant.session, self._opened.saved.commit)
        self.fate = Fate.UNKNOWN
        try:
            with span("commit"):
                return await self._reconnect.run(partial(self._channel.finish_exchange, *ids))
        except CommitLostError:
            raise
        except RefusedError:
            # A platform that has stored an answer gives it, whatever came since: so it has none.
            self.fate = Fate.NOTHING
            raise


class _OneShotRun:
    """One open session that is matched by VOLE, on its way to the report."""

    def __init__(
        self,
        channel: PlatformChannel,
        credentials: Credentials,
        given: GivenList,
        means: Means,
        opened: Opened,
        reconnect: Reconnect,
        label: bytes,
    ) -> None:
        self._attempts = Attempts(means, credentials, opened, given.customers)
        self._channel = channel
        self._credentials = credentials
        self._progress = means.progress
        self._opened = opened
        self._reconnect = reconnect
        self._label = label
        self.fate = Fate.NOTHING

    async def finish(self) -> NoisyOutcome:
        """Makes attempts until the platform tells its answer."""
        attempts, opened = self._attempts, self._opened
        progress = self._progress("Matching", attempts.chunks, "chunks")
        with span("exchange", elements=opened.grant.list_size), progress as advance:
            made = partial(self._attempt, advance)
            report, document = await self._reconnect.run(made, lambda: attempts.done)
        self.fate = Fate.STORED
        proof = await opened.log.end(opened.saved.proof, None, self._reconnect)
        return NoisyOutcome(report, document, SessionReceipt(opened.saved.grant, None, proof))

    def close(self) -> None:
        """Forgets the session's secrets; parties take theirs with them."""
        self._opened.saved.seed.wipe()

    async def _attempt(self, advance: Advance) -> tuple[NoisyReport, SignedDocument]:
        """One attempt, unless the platform has the answer of an earlier one."""
        if (known := await self._find()) is not None:
            return self._checked(known)
        try:
            attempts = self._attempts
            _, report = await attempts.make(self._channel, attempts.sender, advance, self._tell)
            return self._checked(report)
        except (RefusedError, PeerError) as error:
            # A platform that has stored an answer gives it, whatever came since, or was spoiled on its way.
            if (known := await self._find()) is not None:
                return self._checked(known)
            if isinstance(error, RefusedError):
                self.fate = Fate.NOTHING
            raise

    def _checked(self, document: SignedDocument | None) -> tuple[NoisyReport, SignedDocument]:
        if document is None:
            raise VerificationError("the platform told no answer")
        report = NoisyReport.open(document, self._credentials.pin.identity_key)
        report.check_answers(self._credentials.agreement, self._label, self._opened.manifest.generation)
        return report, document

    def _tell(self) -> None:
        self.fate = Fate.UNKNOWN

    async def _find(self) -> SignedDocument | None:
        if self.fate is not Fate.UNKNOWN:
            return None
        return await self._channel.find_commit(self._opened.grant.session, self._opened.saved.commit)
