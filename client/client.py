"""The advertiser's library: one match from a list file to an output file.

::

    async with MatchClient("match.example.com:8443", "credentials/") as client:
        result = await client.match("customers.csv", output="matched.csv")

What the session gives away is in the agreement's leak sheet, which is handed to the caller before the
platform is contacted. Whatever goes wrong, no output file is left. If the platform can still be reached the
session is closed, else it is kept in OUTPUT.resume and the same match goes on with it (see
`purposematch.client.resume_file`).

Not protected against: a platform that left people out of its index (see `purposematch.protocol.canary`),
and whoever can read this process's memory.
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from purposematch.client.channel import PlatformChannel, open_channel
from purposematch.client.checkpoints import LastCheckpoint
from purposematch.client.columns import Column, choose_columns
from purposematch.client.connection import check_address
from purposematch.client.credentials import Credentials
from purposematch.client.customer_list import CustomerList
from purposematch.client.means import Means
from purposematch.client.noisy_output import staged_report
from purposematch.client.noisy_session import run_noisy_session
from purposematch.client.one_shot import engine_to_ask_for
from purposematch.client.opening import GivenList, check_same_file
from purposematch.client.output import create_output, write_rows
from purposematch.client.progress import Progress, silent
from purposematch.client.receipt import staged_receipt
from purposematch.client.reconnect import DEFAULT_PATIENCE, Patience
from purposematch.client.result import MatchResult, NoisyResult
from purposematch.client.resume_file import ResumeFile, open_resume_file
from purposematch.client.segment_cache import SegmentCache
from purposematch.client.session import (
    Outcome,
    check_delegation,
    check_in_force,
    check_size,
    run_session,
)
from purposematch.client.sidecar import Sidecar, staged_sidecar
from purposematch.client.threads import beside
from purposematch.protocol.agreement import Agreement
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange
from purposematch.protocol.errors import InputError
from purposematch.protocol.group import Group, RandomBytes, default_group
from purposematch.protocol.leak_sheet import leak_sheet
from purposematch.protocol.log.checkpoint import log_origin
from purposematch.protocol.match_engine import EngineChoice
from purposematch.protocol.vole.engine import open_engine
from purposematch.tables import Table, open_table
from purposematch.telemetry import span

__all__ = ["MatchClient", "match"]


class MatchClient:
    """A connection to a platform, made when the first match needs it; use it with `async with`.

    Args:
        platform: HOST:PORT.
        credentials: the credentials folder, or what was loaded from it.
        cache: where index segments are kept; the user's cache folder if None.
        last: where the last checkpoint of the platform's log is kept; the user's state folder if None.
        progress: shows how far a match is; nothing by default.
        group: the back end of the group; the fastest one for this processor, on all cores, if None.
        random_bytes: the source of seeds and ids.
        clock: the time, with a time zone.
        patience: with a platform that is away or silent.
        engine: what matches are computed with, see `purposematch.protocol.match_engine`; one that broke off
            goes on with what it had.

    Raises:
        InputError: the address is not HOST:PORT.
        ConfigurationError: the folder cannot be used, see `Credentials.load`.
    """

    def __init__(
        self,
        platform: str,
        credentials: Path | str | Credentials,
        *,
        cache: SegmentCache | None = None,
        last: LastCheckpoint | None = None,
        progress: Progress = silent,
        group: Group | None = None,
        random_bytes: RandomBytes = secrets.token_bytes,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        patience: Patience = DEFAULT_PATIENCE,
        engine: EngineChoice = EngineChoice.AUTO,
    ) -> None:
        self._address = check_address(platform)
        if not isinstance(credentials, Credentials):
            credentials = Credentials.load(credentials, clock())
        pin = credentials.pin
        self._credentials = credentials
        self._means = Means(
            cache=cache or SegmentCache.of_user(os.environ, credentials),
            last=last or LastCheckpoint.of_user(os.environ, log_origin(pin.platform_id), pin.identity_key),
            group=group or default_group(None, os.environ),
            random_bytes=random_bytes,
            progress=progress,
            clock=clock,
            patience=patience,
            engine=engine,
            vole=lambda: open_engine(self._means.group, os.environ),
        )
        self._connections = AsyncExitStack()
        self._connecting = asyncio.Lock()
        self._channel: PlatformChannel | None = None

    @property
    def agreement(self) -> Agreement:
        """The agreement that every match runs under."""
        return self._credentials.agreement

    async def __aenter__(self) -> Self:
        """Contacts nobody yet."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Closes the connection."""
        self._channel = None
        await self._connections.aclose()

    async def match(
        self,
        list_path: Path | str,
        *,
        output: Path | str,
        columns: Sequence[Column] = (),
        prehashed: bool = False,
        region: str | None = None,
        show_sheet: Callable[[str], object] | None = None,
        resume: bool = False,
        audience: AudienceChange = USUAL_CHANGE,
    ) -> MatchResult | NoisyResult:
        """Matches one list and writes the output: a row for every row of the list, or a noisy count.

        Under the disclosures `platform` and `count` the output is the platform's signed report, in JSON,
        and OUTPUT.receipt is beside it, unless the platform knew the answer and no session was needed.

        Otherwise beside it come OUTPUT.tags, which `apply_removals` needs (see
        `purposematch.client.sidecar`), and OUTPUT.receipt, which shows the session in the platform's log (see
        `purposematch.client.receipt`). If there is an OUTPUT.resume, of a session that broke off, the match
        goes on with it, or refuses what does not fit.

        Args:
            list_path: CSV or Parquet by its name; `-` is standard input.
            output: CSV or Parquet by its name; replaced when all is done, untouched otherwise.
            columns: the columns of identifiers; those with usual names if empty.
            prehashed: whether all of them hold SHA-256 digests.
            region: two-letter country code for phone numbers without `+`.
            show_sheet: called with the leak sheet after the list was read and before the platform is
                contacted; what it raises ends the match.
            resume: only goes on with a session, and never opens a new one.
            audience: what the platform does with those who match, see `purposematch.protocol.audience`.

        Raises:
            InputError: the list, the columns, the region, the output or a resume file cannot be used; or the
                agreement's disclosure makes no audience that could be changed.
            RefusedError: the agreement has expired or does not allow the engine, the list is too small or too
                large, or the platform declined; `QuotaError` if the agreement's quota is used up.
            UnavailableError: the platform cannot be reached; `BrokenOffError` if the session can be resumed,
                `OutcomeUnknownError` if moreover the platform may have its matches.
            PeerError: the platform sent something that does not hold; `ForkError` if that is its log.
            ConfigurationError: the last checkpoint of the platform's log can not be read or kept; or there is
                no VOLE engine here.
        """
        if audience != USUAL_CHANGE and not self.agreement.disclosure.makes_audience:
            raise InputError(
                f"under disclosure {self.agreement.disclosure} the platform keeps no audience: name "
                "neither an audience nor a mode"
            )
        with open_table(Path(list_path)) as table, open_resume_file(Path(output)) as kept:
            if resume and kept.saved is None:
                raise InputError(f"there is no session to resume: {kept.path} is not there")
            await asyncio.to_thread(check_same_file, kept, table)
            chosen = choose_columns(table, columns, prehashed=prehashed)
            result: MatchResult | NoisyResult
            if self.agreement.disclosure.noisy:
                result = await self._count(table, chosen, region, Path(output), kept, show_sheet, audience)
            else:
                result = await self._find(table, chosen, region, Path(output), kept, show_sheet, audience)
            # Everything is in its place: until here, a crash leaves what the same command goes on from.
            kept.delete()
        return result

    async def _find(
        self,
        table: Table,
        chosen: Sequence[Column],
        region: str | None,
        output: Path,
        kept: ResumeFile,
        show_sheet: Callable[[str], object] | None,
        audience: AudienceChange,
    ) -> MatchResult:
        """A match that shows which rows match."""
        # The output comes first: what is wrong with it must not be found after the commit.
        with (
            create_output(output, table) as writer,
            staged_sidecar(output) as store,
            staged_receipt(output) as store_receipt,
        ):
            given = await self._read(table, chosen, region, kept, show_sheet, audience)
            customers, channel = given.customers, await self._connected()

            async def write(outcome: Outcome) -> None:
                rows = customers.matched_rows(outcome.found)
                with self._means.progress(f"Writing {output}", table.size_bytes, "bytes") as advance:
                    await asyncio.to_thread(write_rows, writer, table, customers, rows, advance)
                digest = await asyncio.to_thread(writer.finish)
                await asyncio.to_thread(store, Sidecar.of(customers, outcome, digest))

            with span("match", elements=len(customers)):
                outcome, receipt = await run_session(
                    channel, self._credentials, given, self._means, kept, write
                )
            store_receipt(receipt)
        return MatchResult(
            session=outcome.session.hex(),
            rows=customers.rows,
            usable=customers.usable,
            invalid=customers.invalid,
            duplicates=customers.duplicates,
            matched_rows=int(customers.matched_rows(outcome.found).sum()),
            matched_identifiers=int(outcome.found.sum()),
            disclosure=self.agreement.disclosure,
            engine=outcome.engine,
            audience=audience if self.agreement.disclosure.makes_audience else None,
        )

    async def _count(
        self,
        table: Table,
        chosen: Sequence[Column],
        region: str | None,
        output: Path,
        kept: ResumeFile,
        show_sheet: Callable[[str], object] | None,
        audience: AudienceChange,
    ) -> NoisyResult:
        """A match of which this side learns a noisy count."""
        with staged_report(output, table) as store:
            given = await self._read(table, chosen, region, kept, show_sheet, audience)
            customers, channel = given.customers, await self._connected()
            with span("match", elements=len(customers)):
                outcome = await run_noisy_session(channel, self._credentials, given, self._means, kept)
            store(outcome)
            if outcome.receipt is not None:
                with staged_receipt(output) as store_receipt:
                    store_receipt(outcome.receipt)
        return NoisyResult(
            session=None if outcome.session is None else outcome.session.hex(),
            rows=customers.rows,
            usable=customers.usable,
            invalid=customers.invalid,
            duplicates=customers.duplicates,
            identifiers=len(customers),
            report=outcome.report,
            engine=outcome.engine,
            audience=audience if self.agreement.disclosure.makes_audience else None,
        )

    async def _read(
        self,
        table: Table,
        chosen: Sequence[Column],
        region: str | None,
        kept: ResumeFile,
        show_sheet: Callable[[str], object] | None,
        audience: AudienceChange,
    ) -> GivenList:
        """The list, which the agreement allows, after the leak sheet was shown."""
        wanted = EngineChoice.OPRF
        if kept.saved is None:
            wanted = engine_to_ask_for(self._means.engine, self.agreement, os.environ)
        with self._means.progress(f"Reading {table.name}", table.size_bytes, "bytes") as advance:
            async with beside(self._load_engine, wanted):
                customers = await asyncio.to_thread(
                    CustomerList.read, table, chosen, self.agreement.profile, region, advance=advance
                )
        if kept.saved is None:
            # What became of a session, the platform tells also when the agreement has ended since.
            check_in_force(self.agreement, self._means.now())
            check_delegation(self._credentials.on_behalf, len(customers), self._means.now())
        check_size(self.agreement, len(customers))
        if show_sheet is not None:
            show_sheet(leak_sheet(self.agreement, len(customers), self._credentials.on_behalf))
        return GivenList(customers, table.sha256, region, audience, wanted)

    def _load_engine(self, wanted: EngineChoice) -> None:
        """Loads what will be needed for certain; what it raises is raised again where it is needed."""
        if wanted is EngineChoice.VOLE:
            self._means.vole().prepare()

    async def _connected(self) -> PlatformChannel:
        async with self._connecting:
            if self._channel is None:
                self._channel = await self._connections.enter_async_context(
                    open_channel(self._address, self._credentials, self._means.patience.silence_seconds)
                )
            return self._channel


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
    progress: Progress = silent,
    group: Group | None = None,
    resume: bool = False,
    patience: Patience = DEFAULT_PATIENCE,
    audience: AudienceChange = USUAL_CHANGE,
    engine: EngineChoice = EngineChoice.AUTO,
) -> MatchResult | NoisyResult:
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
        group: the back end of the group, see `MatchClient`.
        resume: only goes on with a session that broke off.
        patience: with a platform that is away or silent.
        audience: what the platform does with those who match.
        engine: what the match is computed with, see `MatchClient`.

    Raises:
        PurposematchError: see `MatchClient`.
    """

    async def run() -> MatchResult | NoisyResult:
        async with MatchClient(
            platform, credentials, progress=progress, group=group, patience=patience, engine=engine
        ) as client:
            return await client.match(
                list_path,
                output=output,
                columns=columns,
                prehashed=prehashed,
                region=region,
                show_sheet=show_sheet,
                resume=resume,
                audience=audience,
            )

    return asyncio.run(run())
