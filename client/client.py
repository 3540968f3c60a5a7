"""The advertiser's library: one match from a list file to an output file.

::

    async with MatchClient("match.example.com:8443", credentials) as client:
        result = await client.match(Path("customers.csv"), output=Path("matched.csv"))

What the session gives away is in the agreement's leak sheet, which is handed to the caller before the
platform is contacted. Whatever goes wrong, no output file is left and the session is closed if the
platform can still be reached.

Not protected against: a platform that left people out of its index (see `purposematch.protocol.canary`),
and whoever can read this process's memory.
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from purposematch.client.channel import (
    CommitLostError,
    PlatformChannel,
    check_address,
    open_channel,
)
from purposematch.client.columns import Column, choose_columns
from purposematch.client.credentials import Credentials
from purposematch.client.customer_list import CustomerList
from purposematch.client.exchange import Exchange, fetch_index
from purposematch.client.output import create_output, write_rows
from purposematch.client.result import MatchResult
from purposematch.client.segment_cache import SegmentCache
from purposematch.protocol.advertiser import AdvertiserSession, check_grant
from purposematch.protocol.agreement import Agreement, Disclosure, leak_sheet
from purposematch.protocol.errors import (
    RefusedError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.group import Group, RandomBytes, SodiumGroup
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import COMMIT_ID_LENGTH, Receipt, SessionGrant
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.signing import SignedDocument
from purposematch.tables import open_table

__all__ = ["MatchClient", "Progress", "match"]

Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], object]]]
"""Shows how far work is: gets a description, the total and its unit, and gives a function that is called
with the amount done since its last call, from any thread. `purposematch.console.progress` is one."""

_COMMITTED: Final = frozenset({Disclosure.BOTH})
_RUNNABLE: Final = _COMMITTED | {Disclosure.ADVERTISER}


def _silent(
    description: str, total: int | None, unit: str
) -> AbstractContextManager[Callable[[int], object]]:
    return nullcontext(lambda amount: None)


class MatchClient:
    """A connection to a platform, made when the first match needs it.

    Args:
        address: HOST:PORT of the platform.
        credentials: from `Credentials.load`.
        cache: where index segments are kept; the user's cache folder if None.
        progress: shows how far a match is; nothing by default.
        group: the back end of the group; libsodium on all cores if None.
        random_bytes: the source of seeds and ids.

    Raises:
        InputError: the address is not HOST:PORT.
        RefusedError: the agreement's disclosure cannot be run by this version.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        *,
        cache: SegmentCache | None = None,
        progress: Progress = _silent,
        group: Group | None = None,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self._address = check_address(address)
        self._credentials = credentials
        self._cache = cache or SegmentCache.of_user(os.environ)
        self._progress = progress
        self._group = group or SodiumGroup()
        self._random_bytes = random_bytes
        self._open = AsyncExitStack()
        self._channel: PlatformChannel | None = None
        disclosure = self.agreement.disclosure
        if disclosure not in _RUNNABLE:
            raise RefusedError(
                f"the agreement's disclosure is `{disclosure}`, which this version cannot run yet; it runs "
                + " and ".join(f"`{name}`" for name in sorted(_RUNNABLE))
            )

    @property
    def agreement(self) -> Agreement:
        """The agreement that every match runs under."""
        return self._credentials.pin.agreement

    async def __aenter__(self) -> Self:
        """Contacts nobody yet."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Closes the connection."""
        self._channel = None
        await self._open.aclose()

    async def match(
        self,
        list_path: Path | str,
        *,
        output: Path | str,
        columns: Sequence[Column] = (),
        prehashed: bool = False,
        region: str | None = None,
        show_sheet: Callable[[str], object] | None = None,
    ) -> MatchResult:
        """Matches one list and writes the output, a row for every row of the list.

        Args:
            list_path: CSV or Parquet by its name; `-` is standard input.
            output: CSV or Parquet by its name; replaced when all is done, untouched otherwise.
            columns: the columns of identifiers; those with usual names if empty.
            prehashed: whether all of them hold SHA-256 digests.
            region: two-letter country code for phone numbers without `+`.
            show_sheet: called with the leak sheet after the list was read and before the platform is
                contacted; what it raises ends the match.

        Raises:
            InputError: the list, the columns, the region or the output cannot be used.
            RefusedError: the list is too small or too large, or the platform declined.
            UnavailableError: the platform cannot be reached.
            PeerError: the platform sent something that does not hold.
        """
        agreement = self.agreement
        with open_table(Path(list_path)) as table:
            chosen = choose_columns(table, columns, prehashed=prehashed)
            # The output comes first: what is wrong with it must not be found after the commit.
            with create_output(Path(output), table) as writer:
                with self._progress(f"Reading {table.name}", table.size_bytes, "bytes") as advance:
                    customers = await asyncio.to_thread(
                        CustomerList.read, table, chosen, agreement.profile, region, advance=advance
                    )
                check_size(agreement, len(customers))
                if show_sheet is not None:
                    show_sheet(leak_sheet(agreement, len(customers)))
                grant, exchange = await self._run(customers)
                matched = customers.matched_rows(exchange.found)
                with self._progress(f"Writing {output}", table.size_bytes, "bytes") as advance:
                    await asyncio.to_thread(write_rows, writer, table, customers, matched, advance)
        return MatchResult(
            session=grant.session.hex(),
            rows=customers.rows,
            usable=customers.usable,
            invalid=customers.invalid,
            duplicates=customers.duplicates,
            matched_rows=int(matched.sum()),
            matched_identifiers=int(exchange.found.sum()),
            disclosure=agreement.disclosure,
        )

    async def _run(self, customers: CustomerList) -> tuple[SessionGrant, Exchange]:
        """Runs one session, from opening to closing."""
        channel = await self._connected()
        pin = self._credentials.pin
        opened = await channel.open_session(self.agreement.digest, len(customers))
        grant = SessionGrant.open(opened.grant, pin.identity_key)
        try:
            manifest = Manifest.open(opened.manifest, pin.identity_key)
            check_grant(
                grant,
                manifest,
                Manifest.digest(opened.manifest),
                self.agreement,
                self._credentials.fingerprint,
                len(customers),
            )
            exchange = await self._exchange(channel, grant, manifest, customers)
        finally:
            await channel.close_session(grant.session)
        return grant, exchange

    async def _exchange(
        self, channel: PlatformChannel, grant: SessionGrant, manifest: Manifest, customers: CustomerList
    ) -> Exchange:
        with self._progress("Fetching the index", len(manifest.all_segments), "segments") as advance:
            index = await fetch_index(channel, grant.session, manifest, self._cache, advance)
        seed = SessionSeed(self._random_bytes(SessionSeed.LENGTH))
        session = AdvertiserSession(self._group, grant, manifest, seed, len(customers))
        commits = self.agreement.disclosure in _COMMITTED
        exchange = Exchange(session, customers, index, keep=commits)
        try:
            with self._progress("Matching", len(customers), "identifiers") as advance:
                await exchange.run(channel.evaluations(grant.session), grant.window, advance)
        finally:
            seed.wipe()
        if commits:
            await self._commit(channel, grant, manifest, session, exchange)
        return exchange

    async def _commit(
        self,
        channel: PlatformChannel,
        grant: SessionGrant,
        manifest: Manifest,
        session: AdvertiserSession,
        exchange: Exchange,
    ) -> None:
        """Commits the matches and checks the receipt."""
        commit = self._random_bytes(COMMIT_ID_LENGTH)
        try:
            document = await channel.commit(grant.session, commit, exchange.commit_parts())
        except CommitLostError:
            document = await _find_lost_commit(channel, grant.session, commit)
        receipt = Receipt.open(document, self._credentials.pin.identity_key)
        checks = {
            "the session": receipt.session == grant.session,
            "the commit": receipt.commit == commit,
            "the generation": receipt.generation == manifest.generation,
            "the agreement": receipt.agreement == grant.agreement,
            "the transcript": receipt.transcript == session.transcript,
            "the number of matches": receipt.received == int(exchange.found.sum()),
        }
        for what, holds in checks.items():
            if not holds:
                raise VerificationError(f"the receipt of the commit differs in {what}")

    async def _connected(self) -> PlatformChannel:
        if self._channel is None:
            self._channel = await self._open.enter_async_context(
                open_channel(self._address, self._credentials)
            )
        return self._channel


async def _find_lost_commit(channel: PlatformChannel, session: bytes, commit: bytes) -> SignedDocument:
    """The receipt of a commit after the connection broke off; the platform alone decides what it stored."""
    try:
        document = await channel.find_commit(session, commit)
    except (UnavailableError, RefusedError):
        raise UnavailableError(
            "the connection broke off while committing, and the platform cannot be asked what it stored: the "
            f"outcome is unknown; ask the platform about session {session.hex()}"
        ) from None
    if document is None:
        raise UnavailableError(
            "the connection broke off while committing, and the platform stored nothing; start again"
        )
    return document


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
            f"the list has {distinct:,} distinct identifiers, the agreement allows at most "
            f"{agreement.max_list_elements:,}; split it, or ask the platform for a larger limit"
        )


def match(
    list_path: Path | str,
    *,
    platform: str,
    credentials: Path | str | Credentials,
    output: Path | str,
    columns: Sequence[Column] = (),
    prehashed: bool = False,
    region: str | None = None,
    show_sheet: Callable[[str], object] | None = None,
    progress: Progress = _silent,
) -> MatchResult:
    """Matches one list: `MatchClient.match` without asyncio.

    Args:
        list_path: the list, see `MatchClient.match`.
        platform: HOST:PORT.
        credentials: the credentials folder, or what was loaded from it.
        output: the file to write, see `MatchClient.match`.
        columns: the columns of identifiers; those with usual names if empty.
        prehashed: whether all of them hold SHA-256 digests.
        region: two-letter country code for phone numbers without `+`.
        show_sheet: called with the leak sheet before the platform is contacted.
        progress: shows how far the match is.

    Raises:
        PurposematchError: see `MatchClient` and `Credentials.load`.
    """
    loaded = (
        credentials
        if isinstance(credentials, Credentials)
        else Credentials.load(Path(credentials), datetime.now(UTC))
    )

    async def run() -> MatchResult:
        async with MatchClient(platform, loaded, progress=progress) as client:
            return await client.match(
                list_path,
                output=output,
                columns=columns,
                prehashed=prehashed,
                region=region,
                show_sheet=show_sheet,
            )

    return asyncio.run(run())
