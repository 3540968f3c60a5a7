"""How a session begins: a new one with the platform, or one that broke off from its resume file.

Everything that the platform signed is checked before a batch goes out, and that its log holds the session and
extends the last checkpoint that was seen. A session from a file was checked when it opened, at the time that
it opened; it is checked again that file, list and credentials belong together.

Not protected against: the TLS certificate that the platform says it serves is bound into the transcript, but
gRPC does not let a client see the one that it was served.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from purposematch.client.channel import OpenedSession, PlatformChannel
from purposematch.client.credentials import Credentials
from purposematch.client.customer_list import CustomerList
from purposematch.client.log import SessionLog
from purposematch.client.means import Means
from purposematch.client.reconnect import Reconnect
from purposematch.client.resume_file import ResumeFile
from purposematch.client.saved_session import SavedSession
from purposematch.client.threads import beside
from purposematch.protocol.advertiser import check_grant
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, TAG_LENGTH
from purposematch.protocol.errors import InputError, PeerError
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.match_engine import ENGINES_OF_CHOICE, EngineChoice, MatchEngine
from purposematch.protocol.messages import COMMIT_ID_LENGTH, SessionGrant
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.signing import SignedDocument
from purposematch.tables import Table

__all__ = ["GivenList", "Opened", "begin_session", "check_same_file", "resumed_session"]

_ADVICE: Final = (
    "go on with what it had, or remove that file to give it up and start a new session. Its matches may be "
    "with the "
    "platform already"
)


@dataclass(frozen=True, slots=True)
class GivenList:
    """A list and what it was read from.

    Attributes:
        customers: the list.
        input: SHA-256 of its file, 64 hexadecimal digits.
        region: of phone numbers without `+`.
        audience: what the session is to do to which audience.
        engine: what it is to be computed with, which the agreement and this machine allow.
    """

    customers: CustomerList = field(repr=False)
    input: str
    region: str | None
    audience: AudienceChange = USUAL_CHANGE
    engine: EngineChoice = EngineChoice.OPRF


@dataclass(frozen=True, slots=True)
class Opened:
    """An open session, checked.

    Attributes:
        grant, manifest: as the platform signed them.
        log: what the session sees of the platform's log.
        saved: what is in its resume file.
    """

    grant: SessionGrant
    manifest: Manifest
    log: SessionLog
    saved: SavedSession


async def begin_session(
    channel: PlatformChannel,
    credentials: Credentials,
    given: GivenList,
    means: Means,
    resume: ResumeFile,
    reconnect: Reconnect,
    label: bytes = b"",
) -> Opened | SignedDocument:
    """Opens a session and writes its resume file; after an error there is neither.

    Under a noisy disclosure the platform may answer at once, with the noisy report that it stored for this
    label: then there is no session, and the report is unverified.

    Raises:
        RefusedError: the platform declined.
        UnavailableError: it cannot be reached, or is not ready.
        PeerError: what it sent does not hold; `ForkError` if that is its log.
        ConfigurationError: the last checkpoint can not be read or kept.
        InputError: the resume file cannot be written.
    """
    pin, size = credentials.pin, len(given.customers)
    before = await asyncio.to_thread(means.last.load)
    kept = await asyncio.to_thread(means.cache.size_bytes)
    width = ELEMENT_LENGTH if credentials.agreement.disclosure.noisy else TAG_LENGTH
    arguments = (credentials.agreement.digest, size, credentials.on_behalf, label, given.audience)
    asked = partial(channel.open_session, *arguments, engine=given.engine, cached=kept // width)
    async with beside(given.customers.sha256) as inputs:
        opened = await reconnect.run(asked)
        if isinstance(opened, SignedDocument):
            return opened
        grant = SessionGrant.open(opened.grant, pin.identity_key)
        try:
            opened_at = means.now()
            about = (credentials.fingerprint, given, opened_at, ENGINES_OF_CHOICE[given.engine])
            manifest, log = _checked(channel, credentials, means, opened, grant, *about)
            await reconnect.run(partial(log.follow, opened.proof, before))
            saved = SavedSession(
                seed=SessionSeed(means.random_bytes(SessionSeed.LENGTH)),
                input=given.input,
                inputs=await inputs,
                columns=given.customers.columns,
                region=given.region,
                commit=means.random_bytes(COMMIT_ID_LENGTH),
                opened_at=opened_at,
                grant=opened.grant,
                manifest=opened.manifest,
                proof=opened.proof,
            )
            await asyncio.to_thread(resume.begin, saved)
        except BaseException:
            with suppress(PeerError):
                await channel.close_session(grant.session)
            raise
    return Opened(grant, manifest, log, saved)


async def resumed_session(
    channel: PlatformChannel,
    credentials: Credentials,
    given: GivenList,
    means: Means,
    resume: ResumeFile,
    saved: SavedSession,
) -> Opened:
    """The session in a resume file; the platform is not asked.

    Raises:
        InputError: the file is of another session than this list, its options, and these credentials give.
    """
    differs = f"{resume.path} is of a session that broke off"
    if saved.columns != given.customers.columns or saved.region != given.region:
        raise InputError(f"{differs}, and that had other columns or another region; {_ADVICE}")
    if saved.inputs != await asyncio.to_thread(given.customers.sha256):
        raise InputError(
            f"{differs}, and this version of purposematch reads other identifiers from the list; {_ADVICE}"
        )
    opened = OpenedSession(saved.grant, saved.manifest, saved.proof)
    try:
        grant = SessionGrant.open(opened.grant, credentials.pin.identity_key)
        if grant.audience != given.audience:
            raise InputError(
                f"{differs}, and that was to {grant.audience.mode} audience {grant.audience.name}; {_ADVICE}"
            )
        # The certificate that opened it may have been renewed since: the session is the advertiser's.
        shown = grant.client_certificate
        about = (shown, given, saved.opened_at, frozenset(MatchEngine))
        manifest, log = _checked(channel, credentials, means, opened, grant, *about)
        log.check(opened.proof)
    except PeerError as error:
        raise InputError(
            f"{differs} under other credentials or another agreement than these ({error}); {_ADVICE}"
        ) from None
    return Opened(grant, manifest, log, saved)


def check_same_file(resume: ResumeFile, table: Table) -> None:
    """Refuses a list whose file is not that of the session that broke off, if there is one.

    Raises:
        InputError: it is another one.
    """
    if resume.saved is not None and resume.saved.input != table.sha256:
        raise InputError(
            f"{table.name} is not the list of the session that broke off, or has changed since (its SHA-256 "
            f"is not the "
            f"one in {resume.path}); {_ADVICE}"
        )


def _checked(
    channel: PlatformChannel,
    credentials: Credentials,
    means: Means,
    opened: OpenedSession,
    grant: SessionGrant,
    certificate: bytes,
    given: GivenList,
    opened_at: int,
    engines: frozenset[MatchEngine],
) -> tuple[Manifest, SessionLog]:
    pin = credentials.pin
    manifest = Manifest.open(opened.manifest, pin.identity_key)
    digest = Manifest.digest(opened.manifest)
    delegation = None if credentials.on_behalf is None else credentials.on_behalf.delegation.digest
    about = (credentials.agreement, certificate, len(given.customers), opened_at, delegation, given.audience)
    check_grant(grant, manifest, digest, *about, engines=engines)
    return manifest, SessionLog(channel, means.last, credentials, opened, grant, manifest)
