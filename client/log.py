"""Follows a platform's log from session to session, and refuses one that forked.

Before anything of a list is sent, the platform must show that session and manifest are in its log, and that
its log extends the last checkpoint that this user saw. It is asked again when the session ends.

Not protected against: a platform that keeps two logs and shows this user always the same one. Its receipts,
compared with those of other advertisers or with a bundle, show it (`purposematch audit`).
"""

import asyncio
from typing import Final

from purposematch.client.channel import OpenedSession, PlatformChannel
from purposematch.client.checkpoints import KnownCheckpoint, LastCheckpoint
from purposematch.client.credentials import Credentials
from purposematch.client.reconnect import Reconnect
from purposematch.protocol.errors import (
    ConfigurationError,
    DecodeError,
    ForkError,
    PeerError,
    RefusedError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.log.checkpoint import log_origin
from purposematch.protocol.log.proofs import Proof, verify_consistency
from purposematch.protocol.log.session_proof import SessionProof, manifest_fields, session_fields
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SessionGrant

__all__ = ["SessionLog", "check_extends", "remember"]

_FORKED: Final = (
    "the platform's log forked: history was rewritten, or an old copy of it was put back. Send nothing more, "
    "keep the evidence, and ask the platform and other advertisers for their checkpoints"
)


class SessionLog:
    """What one session sees of the platform's log.

    Args:
        channel: the connection.
        last: where the last checkpoint is kept.
        credentials: of this advertiser.
        opened: what the platform signed.
        grant, manifest: the same, checked.
    """

    def __init__(
        self,
        channel: PlatformChannel,
        last: LastCheckpoint,
        credentials: Credentials,
        opened: OpenedSession,
        grant: SessionGrant,
        manifest: Manifest,
    ) -> None:
        self._channel = channel
        self._last = last
        self._pin = credentials.pin
        self._session = grant.session
        self._manifest = manifest_fields(manifest.name, opened.manifest.content)
        self._fields = session_fields(
            session=grant.session.hex(),
            advertiser=self._pin.advertiser,
            fingerprint=grant.client_certificate,
            agreement=grant.agreement,
            generation=manifest.name,
            elements=grant.list_size,
            grant=opened.grant.content,
            log_size=opened.proof.session.index,
            on_behalf=None if credentials.on_behalf is None else credentials.on_behalf.session_fields(),
            engine=grant.engine,
        )

    def check(self, proof: SessionProof) -> None:
        """Checks that a proof shows this session and its manifest in the log.

        Raises:
            VerificationError, DecodeError: it does not.
        """
        origin = log_origin(self._pin.platform_id)
        proof.check(origin, self._pin.identity_key, self._fields, self._manifest)

    async def follow(self, proof: SessionProof, before: KnownCheckpoint | None) -> None:
        """Checks a proof, and that the log extends what was seen before the platform was asked for it."""
        self.check(proof)
        await remember(self._channel, self._last, before, proof.checkpoint)

    async def end(self, first: SessionProof, committed: int | None, reconnect: Reconnect) -> SessionProof:
        """Closes the session; what the log shows then, or `first` if the platform is not reached any more.

        Args:
            first: checked when the session was opened.
            committed: matches that the platform has received; None if there was no commit.
            reconnect: makes calls again.

        Raises:
            PeerError: what it shows does not hold; the text says that the platform has the matches.
        """

        async def close() -> SessionProof:
            before = await asyncio.to_thread(self._last.load)
            proof = await self._channel.close_session(self._session)
            if proof is None:
                raise UnavailableError("the session could not be closed")
            await self.follow(proof, before)
            return proof

        try:
            return await reconnect.run(close)
        except UnavailableError:
            # The session is in a log that was checked; the next one compares again.
            pass
        except (VerificationError, DecodeError, ConfigurationError) as error:
            told = "" if committed is None else f"the platform has received all {committed:,} matches of "
            raise type(error)(
                f"{error}; {told}session {self._session.hex()}, and no output was written"
            ) from None
        return first


async def remember(
    channel: PlatformChannel, last: LastCheckpoint, before: KnownCheckpoint | None, note: bytes
) -> None:
    """Checks that a checkpoint extends the last one that is known, and keeps it.

    Args:
        channel: the connection, for the proof.
        last: where the last one is kept.
        before: what was kept before the platform was asked for `note`, which can not be older than that.
        note: signed by the platform; what else it is to prove was checked.

    Raises:
        ForkError: it contradicts the last one or is older; both are kept as evidence, and the last one
            stays the one that is known.
        UnavailableError: the platform cannot be reached any more; nothing is decided.
        ConfigurationError: the folder cannot be read or written.
    """
    shown = last.verified(note)
    known = await asyncio.to_thread(last.load)
    # Where this process saw what is kept now come from `before`, what fits it fits `before` as well.
    covered = before is None or (known is not None and last.has_seen_extend(known, before))
    if before is not None and not (covered and shown.checkpoint.size >= before.checkpoint.size):
        await _check_order(channel, last, before, shown)
    while True:
        if known is not None and (covered or known != before):
            # Another session of this user was shown a checkpoint meanwhile, maybe a later one.
            older, newer = sorted((known, shown), key=lambda one: one.checkpoint.size)
            await _check_order(channel, last, older, newer)
        if known is not None and known.checkpoint.size >= shown.checkpoint.size:
            return
        if await asyncio.to_thread(last.replace, known, shown):
            return
        known = await asyncio.to_thread(last.load)


async def _check_order(
    channel: PlatformChannel, last: LastCheckpoint, known: KnownCheckpoint, shown: KnownCheckpoint
) -> None:
    proof: Proof | None = None
    sizes = (known.checkpoint.size, shown.checkpoint.size)
    try:
        if 0 < sizes[0] < sizes[1]:
            proof = await channel.consistency_proof(*sizes)
        check_extends(known, shown, proof or ())
    except (PeerError, RefusedError) as error:
        # A platform that has not so many leaves as it signed itself has no proof to give.
        why = "it gives no proof" if isinstance(error, RefusedError) else str(error)
        path = await asyncio.to_thread(last.keep_fork, known.note, shown.note, proof)
        raise ForkError(
            f"{_FORKED} ({why}; known are {sizes[0]:,} leaves, shown were {sizes[1]:,}; both checkpoints are "
            f"in {path}, and the last one that was accepted in {last.path})"
        ) from None


def check_extends(known: KnownCheckpoint, shown: KnownCheckpoint, proof: Proof) -> None:
    """Checks that a checkpoint extends an earlier one.

    Raises:
        VerificationError: it does not, or is of a smaller log.
    """
    old, new = known.checkpoint, shown.checkpoint
    verify_consistency(old.size, old.root, new.size, new.root, proof)
